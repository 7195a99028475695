//! `tollgate check`: validates a configuration and says what it means.

use std::io::Write as _;

use anstyle::{AnsiColor, Style};
use clap::Args;

use super::{Failure, Settings, failure::show};
use crate::{app, config::Loaded};

/// The arguments of `tollgate check`.
#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    settings: Settings,
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Loaded {
            config,
            document,
            warnings,
        } = self.settings.load()?;
        // Reads the price file, if there is one.
        app::pricing(&config).map_err(Failure::wrong)?;
        let (file, text) = document
            .as_ref()
            .map_or(("built-in defaults", ""), |document| {
                (document.name(), document.text())
            });
        show(&mut anstream::stderr().lock(), file, text, &warnings)?;
        let mut out = anstream::stdout().lock();
        let (green, bold) = (AnsiColor::Green.on_default().bold(), Style::new().bold());
        writeln!(out, "{green}ok{green:#} {bold}{file}{bold:#}")?;
        for (what, means) in config.summary() {
            writeln!(out, "  {bold}{what:<10}{bold:#} {means}")?;
        }
        if let Some(trouble) = app::price_trouble(&config) {
            writeln!(out, "  {bold}{:<10}{bold:#} {trouble}", "prices")?;
        }
        Ok(())
    }
}

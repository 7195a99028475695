//! `tollgate check`: validates a configuration and says what it means.

use std::io::Write as _;

use anstyle::{AnsiColor, Style};
use clap::Args;

use super::{Failure, Settings, failure::show};
use crate::{
    app,
    base::clock::{Clock as _, SystemClock},
    config::{Config, Loaded, Problem},
};

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
            mut warnings,
        } = self.settings.load()?;
        // Reads the price file, if there is one.
        app::pricing(&config).map_err(Failure::wrong)?;
        let interception = interception(&config, &mut warnings)?;
        for warning in &mut warnings {
            let place = || document.as_ref()?.place(&warning.path);
            warning.place = warning.place.or_else(place);
        }
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
        if let Some(means) = interception {
            writeln!(out, "  {bold}{:<10}{bold:#} {means}", "intercept")?;
        }
        if let Some(trouble) = app::price_trouble(&config) {
            writeln!(out, "  {bold}{:<10}{bold:#} {trouble}", "prices")?;
        }
        Ok(())
    }
}

/// What interception means, where it is on; warns of its authority.
fn interception(config: &Config, warnings: &mut Vec<Problem>) -> Result<Option<String>, Failure> {
    const KEY: &str = "intercept.ca_dir";
    let Some(opened) = app::authority(config) else {
        return Ok(None);
    };
    let about = match &opened {
        Ok(authority) => {
            let trouble = authority.trouble(SystemClock.wall());
            warnings.extend(trouble.map(|trouble| Problem::warning(KEY, trouble.to_string())));
            Some(authority.about())
        },
        // A warning only: where a configuration is checked, its authority need not be.
        Err(error) if error.is_unseen() => {
            let warning = Problem::warning(KEY, error.to_string());
            warnings.push(warning.help("`tollgate run` does not start without"));
            None
        },
        Err(error) => return Err(Failure::Wrong(format!("{KEY}: {error}"))),
    };
    Ok(Some(config.intercept.means(about)))
}

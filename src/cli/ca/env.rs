//! `tollgate ca env`.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::{Path, absolute},
};

use clap::{Args, ValueEnum};

use super::{super::Failure, Place, open};
use crate::{
    client,
    config::Sources,
    net::{
        authority::{Authority, BUNDLE},
        tls,
    },
};

#[derive(Debug, Args)]
pub(super) struct Env {
    /// For a shell to evaluate, as lines NAME=value (env files of Docker and systemd), or JSON
    #[arg(long, value_enum, default_value_t = Format::Sh)]
    format: Format,
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Sh,
    Lines,
    Json,
}

impl Env {
    pub(super) fn run(self) -> Result<(), Failure> {
        let dir = absolute(self.place.dir()?)?;
        // Where `ca install --to` has put what clients need, there is no authority.
        if Authority::is_in(&dir) || !dir.join(BUNDLE).exists() {
            refresh(&dir)?;
        }
        let variables = client::trust(&dir, Sources::SYSTEM.variable).map_err(Failure::failed)?;
        let mut out = anstream::stdout().lock();
        match self.format {
            Format::Sh => {
                for (name, value) in variables {
                    writeln!(out, "export {name}={}", quoted(&value))?;
                }
            },
            Format::Lines => {
                for (name, value) in variables {
                    writeln!(out, "{name}={value}")?;
                }
            },
            Format::Json => {
                let all: BTreeMap<_, _> = variables.into_iter().collect();
                let json = serde_json::to_string_pretty(&all).map_err(Failure::failed)?;
                writeln!(out, "{json}")?;
            },
        }
        Ok(out.flush()?)
    }
}

/// Writes what clients need: what the system trusts may have changed since.
fn refresh(dir: &Path) -> Result<(), Failure> {
    let system = tls::system_roots();
    let written = open(dir)?.write_trust(dir, &system);
    written.map_err(Failure::failed)?;
    if system.is_empty() {
        let mut err = anstream::stderr().lock();
        writeln!(
            err,
            "This system has no store of roots: with {BUNDLE}, only hosts that are opened can be \
             reached. Install its package ca-certificates."
        )?;
    }
    Ok(())
}

/// A word of a shell, whatever is in it.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_nothing_for_more_than_a_word() {
        assert_eq!(quoted("/a b/$(x)`y`"), "'/a b/$(x)`y`'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}

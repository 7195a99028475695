//! `tollgate inject`: puts the sidecar into the pods of manifests.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::PathBuf,
};

use anstyle::AnsiColor;
use clap::Args;

use super::Failure;
use crate::{
    call::line::clean,
    kubernetes::{
        Defaults,
        manifest::{self, Options, Outcome},
    },
};

/// The longest manifest, in bytes.
const MAX_BYTES: u64 = 64 << 20;
/// The `ConfigMap` that is meant where only a configuration is given.
const CONFIG_MAP: &str = "tollgate";

/// The arguments of `tollgate inject`.
#[derive(Debug, Args)]
pub(super) struct Command {
    /// The manifests: YAML of any number of documents, lists, or JSON; - is standard input
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// What the config map says, or will say, where it is not among the manifests: the sidecar's
    /// configuration. Without --config-map it is called tollgate
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The namespace of what does not say its own
    #[arg(short = 'n', long, value_name = "NAME", default_value = "default")]
    namespace: String,
    #[command(flatten)]
    defaults: Defaults,
}

impl Command {
    pub(super) fn run(mut self) -> Result<(), Failure> {
        let files: Result<Vec<_>, Failure> = self.files.iter().map(read).collect();
        let config = self.config.as_ref().map(read).transpose()?;
        if config.is_some() && self.defaults.config_map.is_none() {
            self.defaults.config_map = Some(CONFIG_MAP.to_owned());
        }
        let options = Options {
            defaults: &self.defaults,
            namespace: &self.namespace,
            config: config.as_ref().map(|(_, text)| text.as_str()),
        };
        let outcome = manifest::inject(&files?, &options).map_err(Failure::wrong)?;
        let nothing = outcome.nothing();
        let Outcome {
            text,
            warnings,
            refusals,
            ..
        } = outcome;
        let mut stderr = anstream::stderr().lock();
        let (yellow, red) = (AnsiColor::Yellow.on_default(), AnsiColor::Red.on_default());
        let (yellow, red) = (yellow.bold(), red.bold());
        // Whoever injects into all manifests that there are has some without pods: no error.
        let nothing = nothing.filter(|_| refusals.is_empty());
        for warning in warnings.into_iter().chain(nothing) {
            writeln!(stderr, "{yellow}warning{yellow:#}: {}", lines(&warning))?;
        }
        for refusal in &refusals {
            writeln!(stderr, "{red}error{red:#}: {}", lines(refusal))?;
        }
        drop(stderr);
        if !refusals.is_empty() {
            return Err(Failure::Said(2));
        }
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }
}

/// What manifests say may be anything: lines stay, and nothing else that moves a cursor.
fn lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(clean).collect();
    lines.join("\n")
}

/// A file's name and text.
fn read(path: &PathBuf) -> Result<(String, String), Failure> {
    let name = path.display().to_string();
    let wrong = |error: &dyn std::fmt::Display| Failure::wrong(format!("{name}: {error}"));
    let mut text = String::new();
    let read = if name == "-" {
        io::stdin().take(MAX_BYTES + 1).read_to_string(&mut text)
    } else {
        fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
    };
    let read = read.map_err(|error| wrong(&error))?;
    if u64::try_from(read).is_ok_and(|read| read > MAX_BYTES) {
        return Err(wrong(&"it is larger than 64 MiB"));
    }
    let name = if name == "-" {
        "standard input".to_owned()
    } else {
        name
    };
    Ok((name, text))
}

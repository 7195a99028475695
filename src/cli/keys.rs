//! `tollgate keys`: the keys that clients show.

use std::{
    collections::BTreeMap,
    io::{Write as _, stdout},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Failure, Settings, format::Format, terminal};
use crate::{
    analysis::table::{Column, table},
    base::{
        clock::{Clock as _, SystemClock, Timestamp},
        moment,
    },
    call::{labels::Label, line::clean},
    identity::{self, ClientKey, Digest, Name, State},
};

/// The arguments of `tollgate keys`.
#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key and print it, this once: only its hash is kept
    Create(Create),
    /// List the keys
    List(List),
    /// Revoke keys: a running sidecar takes no more calls with them
    Revoke(Revoke),
}

/// Where the keys are.
#[derive(Debug, Args)]
struct Kept {
    /// The file with the keys [default: that of the configuration]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
struct Create {
    /// Who gets it: what budgets and spans call it
    name: Name,
    /// A label of all calls with it, like user=42; labels of the caller's do not override it
    #[arg(long = "label", value_name = "LABEL=VALUE", value_parser = label)]
    labels: Vec<(Label, String)>,
    /// A tag of all calls with it
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
    /// When it ends: 30d (from now), 2026-12-31, 2026-11-22T18:00:00Z [default: never]
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    #[command(flatten)]
    kept: Kept,
}

#[derive(Debug, Args)]
struct List {
    /// A table, or a JSON array
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    kept: Kept,
}

#[derive(Debug, Args)]
struct Revoke {
    /// A name, for all keys that have it, or the id of one
    #[arg(value_name = "NAME|ID")]
    whose: String,
    #[command(flatten)]
    kept: Kept,
}

fn pair(text: &str) -> Result<(&str, &str), String> {
    let pair = text.split_once('=');
    pair.filter(|(key, value)| !key.is_empty() && !value.trim().is_empty())
        .ok_or_else(|| "expected a name, =, and a value".to_owned())
}

fn label(text: &str) -> Result<(Label, String), String> {
    let (name, value) = pair(text)?;
    let label = Label::named(name).ok_or_else(|| {
        let names = Label::ALL.map(Label::name).join(", ");
        format!("`{name}` is no label: one of {names}; anything else is a --tag")
    })?;
    Ok((label, value.to_owned()))
}

fn tag(text: &str) -> Result<(String, String), String> {
    pair(text).map(|(key, value)| (key.to_owned(), value.to_owned()))
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Create(create) => create.run(),
            Action::List(list) => list.run(),
            Action::Revoke(revoke) => revoke.run(),
        }
    }
}

impl Kept {
    fn file(self) -> Result<PathBuf, Failure> {
        if let Some(file) = self.file {
            return Ok(file);
        }
        let configured = self.settings.load()?.config.identity.keys_file;
        configured.ok_or_else(|| {
            Failure::wrong(
                "the configuration names no file for client keys: set identity.keys_file, or say \
                 --file FILE",
            )
        })
    }
}

impl Create {
    fn run(self) -> Result<(), Failure> {
        let now = SystemClock.wall();
        let expires = self
            .expires
            .map(|text| moment::ahead(&text, now))
            .transpose()
            .map_err(|error| Failure::wrong(format!("--expires: {error}")))?;
        if expires.is_some_and(|end| end <= now) {
            return Err(Failure::wrong("--expires: that is over already"));
        }
        let file = self.kept.file()?;
        let secret = identity::mint().map_err(Failure::failed)?;
        let key = ClientKey {
            name: self.name,
            sha256: Digest::of(secret.expose()),
            created: now,
            expires,
            revoked: None,
            labels: self.labels.into_iter().collect(),
            tags: self.tags.into_iter().collect(),
        };
        identity::create(&file, &key).map_err(Failure::failed)?;
        let keys = identity::read(&file).map_err(Failure::failed)?;
        let of_that_name =
            |found: &&ClientKey| found.name == key.name && found.state(now) == State::Valid;
        let mut err = anstream::stderr().lock();
        let (name, id, path) = (&key.name, key.id(), file.display());
        writeln!(err, "Key {name} ({id}) is in {path}, without its secret:")?;
        // Alone on stdout, for whoever puts it elsewhere with `$(…)`.
        let mut out = stdout().lock();
        writeln!(out, "{}", secret.expose())?;
        out.flush()?;
        writeln!(
            err,
            "It is not shown again. Clients give it as the provider's API key, or in the header \
             x-tollgate-key."
        )?;
        match keys.iter().filter(of_that_name).count() {
            0 | 1 => {},
            count => writeln!(
                err,
                "{count} valid keys have this name now; `tollgate keys revoke ID` ends one."
            )?,
        }
        Ok(())
    }
}

/// A key in a listing.
#[derive(Serialize)]
struct Row<'a> {
    id: String,
    name: &'a Name,
    state: State,
    created: Timestamp,
    expires: Option<Timestamp>,
    revoked: Option<Timestamp>,
    labels: &'a BTreeMap<Label, String>,
    tags: &'a BTreeMap<String, String>,
}

impl List {
    fn run(self) -> Result<(), Failure> {
        let now = SystemClock.wall();
        let keys = identity::read(&self.kept.file()?).map_err(Failure::failed)?;
        let rows: Vec<Row<'_>> = keys
            .iter()
            .map(|key| Row {
                id: key.id(),
                name: &key.name,
                state: key.state(now),
                created: key.created,
                expires: key.expires,
                revoked: key.revoked,
                labels: &key.labels,
                tags: &key.tags,
            })
            .collect();
        let mut out = anstream::stdout().lock();
        match self.format {
            Format::Json => {
                let rows = serde_json::to_string_pretty(&rows).map_err(Failure::failed)?;
                writeln!(out, "{rows}")?;
            },
            Format::Table if rows.is_empty() => writeln!(out, "No keys.")?,
            Format::Table => {
                let columns = [
                    Column::text("id"),
                    Column::text("name"),
                    Column::text("state"),
                    Column::text("created").spare(2),
                    Column::text("expires").spare(1),
                    Column::text("labels and tags").spare(3),
                ];
                let rows: Vec<_> = rows.iter().map(Row::cells).collect();
                for line in table(&columns, &rows, terminal::width(stdout())) {
                    writeln!(out, "{line}")?;
                }
            },
        }
        Ok(out.flush()?)
    }
}

impl Row<'_> {
    fn cells(&self) -> Vec<String> {
        let minute = |at: Timestamp| at.to_jiff().strftime("%Y-%m-%d %H:%M").to_string();
        let labels = self.labels.iter();
        let labels = labels.map(|(label, value)| format!("{}={value}", label.name()));
        let tags = self
            .tags
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let about: Vec<String> = labels.chain(tags).collect();
        vec![
            self.id.clone(),
            self.name.to_string(),
            self.state.to_string(),
            minute(self.created),
            self.expires.map_or_else(|| "-".to_owned(), minute),
            clean(&about.join(" ")),
        ]
    }
}

impl Revoke {
    fn run(self) -> Result<(), Failure> {
        let file = self.kept.file()?;
        let revoked = identity::revoke(&file, &self.whose, SystemClock.wall());
        let revoked = revoked.map_err(Failure::failed)?;
        if revoked.is_empty() {
            let (path, whose) = (file.display(), &self.whose);
            return Err(Failure::failed(format!(
                "no key in {path} that is not revoked has the name or id `{whose}`"
            )));
        }
        let mut out = anstream::stdout().lock();
        for key in revoked {
            writeln!(out, "Revoked {} ({})", key.name, key.id())?;
        }
        Ok(out.flush()?)
    }
}

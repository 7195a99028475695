//! `tollgate kill`: stops calls, those under way as well; `list` and `lift` say and end what was
//! ordered.

use std::io::{Write as _, stdout};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use super::{
    Failure, Settings,
    owner::{self, segment},
    terminal,
};
use crate::{
    admin::{Archive, KillRequest, KillRow, LiftRequest},
    analysis::table::{Column, table},
    base::clock::{Clock as _, SystemClock, Timestamp},
    call::line::clean,
    guard::in_words,
};

/// The arguments of `tollgate kill`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub(super) struct Command {
    #[command(subcommand)]
    other: Option<Other>,
    /// Which calls, by what they say of themselves; all must match: `agent=support-*`,
    /// `model=gpt-4o`, `tags.team=red`, `request=ID`, `provider=*` for all calls
    #[arg(value_name = "NAME=PATTERN")]
    calls: Vec<String>,
    /// For how long, or until when: 1h, 2026-11-22T18:00:00Z; else until it is lifted
    #[arg(long = "for", value_name = "TIME")]
    until: Option<String>,
    /// Why; the clients of the calls are told
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    by: By,
}

/// Who orders it, and of which sidecar.
#[derive(Debug, Args)]
struct By {
    /// Who orders it, for the ledger
    #[arg(long, env = "USER", hide_env_values = true)]
    who: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Other {
    /// List the kills that hold
    List(List),
    /// Let calls pass again that were stopped
    Lift(Lift),
}

#[derive(Debug, Args)]
struct List {
    /// Also those that are over or were lifted: who ordered what, when and why
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    settings: Settings,
    /// A table, or a JSON array
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Args)]
struct Lift {
    /// The kill's name, as `tollgate kill list` shows it
    id: String,
    #[command(flatten)]
    by: By,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.other {
            Some(Other::List(list)) => list.run(),
            Some(Other::Lift(lift)) => lift.run(),
            None => self.kill(),
        }
    }

    fn kill(self) -> Result<(), Failure> {
        let body = KillRequest {
            matches: selector(&self.calls)?,
            until: self.until,
            reason: self.reason,
            who: self.by.who,
        };
        let config = self.by.settings.load()?.config;
        let answer = owner::post(&config, "/api/v1/kills", &body)?;
        let killed: Value = serde_json::from_slice(&answer).map_err(Failure::failed)?;
        let text = |name: &str| killed.get(name).and_then(Value::as_str).map(clean);
        let until = text("until").map_or_else(
            || "until it is lifted".to_owned(),
            |until| format!("until {until}"),
        );
        let id = text("id").unwrap_or_default();
        writeln!(
            anstream::stdout(),
            "Stopped {until}: {}\nLet them pass again with: tollgate kill lift {id}",
            clean(&in_words(&body.matches)),
        )?;
        Ok(())
    }
}

impl Lift {
    fn run(self) -> Result<(), Failure> {
        let config = self.by.settings.load()?.config;
        let path = format!("/api/v1/kills/{}", segment(&self.id));
        owner::delete(&config, &path, &LiftRequest { who: self.by.who })?;
        writeln!(anstream::stdout(), "Lifted {}", clean(&self.id))?;
        Ok(())
    }
}

impl List {
    fn run(self) -> Result<(), Failure> {
        let config = self.settings.load()?.config;
        let archive = Archive::new(&config.store, &config.ledger);
        let now = SystemClock.wall();
        // Whoever runs knows best what holds: that need not be in the ledger, or not yet.
        let running = owner::get(&config, "/api/v1/kills")?;
        let running: Option<Vec<KillRow>> = running
            .map(|answer| serde_json::from_slice(&answer).map_err(Failure::failed))
            .transpose()?;
        let rows = if self.all {
            let mut rows = KillRow::all(&archive.orders()?);
            let is_old = |row: &KillRow| rows.iter().any(|known| known.id == row.id);
            let new = running.unwrap_or_default().into_iter();
            let new: Vec<_> = new.filter(|row| !is_old(row)).collect();
            rows.extend(new);
            rows
        } else if let Some(rows) = running {
            rows
        } else {
            let mut rows = KillRow::all(&archive.kills()?);
            rows.retain(|row| row.holds(now));
            rows
        };
        let mut out = anstream::stdout().lock();
        if self.format == Format::Json {
            let json = serde_json::to_string_pretty(&rows).map_err(Failure::failed)?;
            writeln!(out, "{json}")?;
        } else if rows.is_empty() {
            writeln!(out, "No calls are stopped by hand.")?;
        } else {
            let columns = [
                Column::text("kill"),
                Column::text("calls"),
                Column::text("by"),
                Column::text("at (UTC)").spare(2),
                Column::text("until"),
                Column::text("why").spare(1),
            ];
            let lines: Vec<_> = rows.iter().map(|row| line(row, now)).collect();
            for line in table(&columns, &lines, terminal::width(stdout())) {
                writeln!(out, "{line}")?;
            }
        }
        Ok(())
    }
}

fn line(row: &KillRow, now: Timestamp) -> Vec<String> {
    let shown = |at: Timestamp| at.to_jiff().strftime("%F %T").to_string();
    let until = match (row.lifted_at, row.until) {
        (Some(at), _) => {
            let by = row.lifted_by.as_deref().unwrap_or_default();
            format!("lifted {} by {}", shown(at), clean(by))
        },
        (None, Some(until)) if until <= now => format!("over {}", shown(until)),
        (None, Some(until)) => shown(until),
        (None, None) => "lifted".to_owned(),
    };
    vec![
        clean(&row.id),
        clean(&in_words(&row.matches)),
        clean(&row.who),
        shown(row.at),
        until,
        clean(&row.reason),
    ]
}

/// `agent=a agent=b tags.team=red` as the API takes it.
fn selector(words: &[String]) -> Result<Map<String, Value>, Failure> {
    let mut all = Map::new();
    for word in words {
        let (name, pattern) = word.split_once('=').ok_or_else(|| {
            Failure::wrong(format!(
                "`{word}` does not say which calls: expected NAME=PATTERN, like agent=support-*"
            ))
        })?;
        let place = match name.split_once('.') {
            Some(("tags", tag)) => {
                let tags = all.entry("tags").or_insert_with(|| json!({}));
                let tags = tags.as_object_mut();
                tags.map(|tags| tags.entry(tag).or_insert_with(|| json!([])))
            },
            _ => Some(all.entry(name).or_insert_with(|| json!([]))),
        };
        if let Some(patterns) = place.and_then(Value::as_array_mut) {
            patterns.push(Value::from(pattern));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_patterns_of_one_name_are_a_list_and_tags_have_names_of_their_own() {
        let words = ["agent=a*", "tags.team=red", "agent=b", "tags.a.b=c=d"];
        let words: Vec<String> = words.map(str::to_owned).into();
        let read = selector(&words).unwrap();
        assert_eq!(
            Value::Object(read.clone()),
            json!({"agent": ["a*", "b"], "tags": {"team": ["red"], "a.b": ["c=d"]}})
        );
        assert_eq!(
            in_words(&read),
            "agent=a* agent=b tags.a.b=c=d tags.team=red"
        );
        assert!(selector(&["agent".to_owned()]).is_err());
    }
}

//! `tollgate kill`: stops calls, those under way as well; `list` and `lift` say and end what was
//! ordered.

use std::io::{Write as _, stdout};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{
    Failure, Settings,
    format::Format,
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
        let mut rows = if let Some(rows) = running {
            rows
        } else {
            let mut rows = KillRow::all(&archive.kills()?);
            rows.retain(|row| row.holds(now));
            rows
        };
        if self.all {
            rows = together(KillRow::all(&archive.orders()?), rows);
        }
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

/// What was ordered, and what stands, though its order is no longer there or not yet; the oldest
/// first.
fn together(mut ordered: Vec<KillRow>, mut standing: Vec<KillRow>) -> Vec<KillRow> {
    standing.retain(|row| ordered.iter().all(|known| known.id != row.id));
    ordered.append(&mut standing);
    ordered.sort_by_key(|row| row.at);
    ordered
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
        (None, None) => "until lifted".to_owned(),
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
        if ["tags", "tags."].contains(&name) {
            return Err(Failure::wrong(format!(
                "`{word}` does not say which calls: tags need a name: tags.team=red"
            )));
        }
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

    #[test]
    fn tags_without_a_name_are_an_error_wherever_they_stand() {
        for words in [
            &["tags=blue"][..],
            &["tags.=blue"],
            &["tags.team=red", "tags=blue"],
            &["tags=blue", "tags.team=red"],
        ] {
            let words: Vec<String> = words.iter().copied().map(str::to_owned).collect();
            let Err(Failure::Wrong(error)) = selector(&words) else {
                panic!("{words:?} are taken");
            };
            assert!(error.contains("tags need a name: tags.team=red"), "{error}");
        }
    }

    fn row(id: &str, at: u64) -> KillRow {
        KillRow {
            id: id.into(),
            matches: Map::new(),
            at: Timestamp::from_secs(at),
            who: "ada".into(),
            reason: "".into(),
            until: None,
            lifted_at: None,
            lifted_by: None,
        }
    }

    #[test]
    fn a_kill_that_holds_without_an_end_is_not_said_to_be_lifted() {
        let mut row = row("a", 1);
        let now = Timestamp::from_secs(5);
        let until = |row: &KillRow| line(row, now).swap_remove(4);
        assert_eq!(until(&row), "until lifted");
        row.lifted_at = Some(Timestamp::from_secs(2));
        assert!(until(&row).starts_with("lifted 1970-01-01"));
    }

    #[test]
    fn a_kill_that_stands_is_listed_though_its_order_is_gone() {
        let lifted = KillRow {
            lifted_at: Some(Timestamp::from_secs(4)),
            ..row("b", 2)
        };
        let ordered = vec![lifted.clone(), row("c", 3)];
        let all = together(ordered, vec![row("a", 1), row("c", 3), row("d", 4)]);
        assert_eq!(all, [row("a", 1), lifted, row("c", 3), row("d", 4)]);
    }
}

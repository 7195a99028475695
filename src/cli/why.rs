//! `tollgate why`: what was decided about a call, and by what.

use std::io::{Write as _, stdout};

use clap::Args;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::{Failure, Settings, format::TextFormat, terminal};
use crate::{
    admin::{Amount, Archive, ArchiveError, Charged, Decision, Why},
    analysis::table::{Column, table},
    call::{
        brief::Brief,
        line::{DIM, GOOD, Look, WARNING, clean, elapsed, grouped},
        span::{GUARDS, RATE_LIMITS, RETRY_OF},
    },
};

/// The arguments of `tollgate why`.
#[derive(Debug, Args)]
pub(super) struct Command {
    /// The call's id (the header x-tollgate-request-id), or the beginning of it
    #[arg(value_name = "REQUEST_ID")]
    id: String,
    #[command(flatten)]
    settings: Settings,
    /// Words for people, or JSON
    #[arg(long, value_enum, default_value_t = TextFormat::Text)]
    format: TextFormat,
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.settings.load()?.config;
        let archive = Archive::new(&config.store, &config.ledger);
        let why = archive.why(archive.request_id(&self.id)?)?;
        let text = match self.format {
            TextFormat::Text => text(&why),
            TextFormat::Json => format!(
                "{}\n",
                serde_json::to_string_pretty(&why).map_err(Failure::failed)?
            ),
        };
        write!(anstream::stdout(), "{text}")?;
        Ok(())
    }
}

/// What is wrong with the question is told from what fails.
impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::NoId(_) | ArchiveError::Ambiguous(..) => Self::wrong(error),
            _ => Self::failed(error),
        }
    }
}

fn text(why: &Why) -> String {
    let look = Look {
        colors: true,
        date: true,
        ..Look::plain(TimeZone::system())
    };
    let mut lines = vec![format!("request {}", why.request_id)];
    let span: Option<Value> = why
        .span
        .as_ref()
        .and_then(|span| serde_json::from_str(span.get()).ok());
    let brief = why
        .span
        .as_ref()
        .and_then(|span| Brief::from_json(span.get()).ok());
    match &brief {
        Some(brief) => lines.extend(call(brief, span.as_ref(), &look)),
        None => lines.push("It is still under way.".to_owned()),
    }
    if why.decisions.is_empty() {
        lines.push(String::new());
        lines.push("No budget counts it, so none was asked.".to_owned());
    }
    for decision in &why.decisions {
        lines.push(String::new());
        lines.extend(decided(decision, &look));
    }
    for (title, attribute) in [
        ("These rate limits were looked at:", RATE_LIMITS),
        ("These guards spoke up:", GUARDS),
    ] {
        let listed = span.as_ref();
        let listed = listed.and_then(|span| span.get("attributes")?.get(attribute)?.as_array());
        if let Some(listed) = listed {
            lines.push(String::new());
            lines.push(title.to_owned());
            let listed = listed.iter().filter_map(Value::as_str);
            lines.extend(listed.map(|one| format!("  {}", clean(one))));
        }
    }
    format!("{}\n", lines.join("\n"))
}

/// What the call was, and how it ended.
fn call(brief: &Brief<'_>, span: Option<&Value>, look: &Look) -> Vec<String> {
    let attribute = |name: &str| span.and_then(|span| span.get("attributes")?.get(name));
    let word = |name: &str| attribute(name).and_then(Value::as_str).map(clean);
    let mut lines = Vec::new();
    let mut add = |what: &str, is: Option<String>| {
        if let Some(is) = is.filter(|is| !is.is_empty()) {
            lines.push(format!("  {}{is}", look.paint(DIM, format!("{what:<10}"))));
        }
    };
    let provider = word("gen_ai.provider.name").unwrap_or_default();
    add(
        "call",
        Some(format!("{} at {provider}", clean(&brief.name))),
    );
    add("begun", Some(look.time(brief)));
    let labels = [
        "agent",
        "user",
        "project",
        "environment",
        "session",
        "workflow",
    ];
    let labels = labels
        .into_iter()
        .filter_map(|label| Some(format!("{label}={}", word(&format!("tollgate.{label}"))?)));
    add("for", Some(labels.collect::<Vec<_>>().join(", ")));
    let took = elapsed(brief.duration);
    add(
        "outcome",
        Some(format!("{} after {took}", look.outcome(brief))),
    );
    let attempt = brief.attempt.map(|attempt| match word(RETRY_OF) {
        Some(first) => format!("{attempt}; the first was {first}"),
        None => format!("{attempt}; the first was not seen"),
    });
    add("attempt", attempt);
    add("decision", word("tollgate.decision"));
    add(
        "ended by",
        word("tollgate.end").filter(|end| end != "complete"),
    );
    let count = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), grouped);
    let source = word("tollgate.usage.source").unwrap_or_default();
    let tokens = format!(
        "{} in, {} out ({source})",
        count(brief.input),
        count(brief.output)
    );
    let known = brief.input.is_some() || brief.output.is_some();
    add("tokens", known.then_some(tokens));
    let cost = brief.cost.map(|cost| cost.short().to_string());
    add(
        "cost",
        Some(cost.unwrap_or_else(|| "unknown: no price is known".to_owned())),
    );
    let edits = attribute("tollgate.edits").and_then(Value::as_array);
    let edits = edits
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(clean);
    add("edited", Some(edits.collect::<Vec<_>>().join(", ")));
    add("not read", word("tollgate.partial"));
    add("trace", Some(brief.trace_id.to_string()));
    lines
}

/// The counters that were looked at, and what came of it.
fn decided(decision: &Decision, look: &Look) -> Vec<String> {
    let verdict = match (&decision.refused_by, decision.admitted) {
        (Some(by), _) => look
            .paint(WARNING, format!("refused by {}", clean(by)))
            .to_string(),
        (None, true) => look.paint(GOOD, "admitted").to_string(),
        (None, false) => look.paint(WARNING, "refused").to_string(),
    };
    let counters = &decision.counters;
    let mut lines = vec![format!("{verdict}; these counters were looked at:")];
    if counters.is_empty() {
        lines = vec![format!("{verdict}; no counter of a budget was looked at.")];
        return lines;
    }
    let shown =
        |amount: Option<Amount>| amount.map_or_else(|| "-".to_owned(), |one| one.to_string());
    let rows = counters.iter().map(|counter| {
        let name = match &counter.values {
            Some(values) => format!("{}/{values}", counter.budget),
            None => counter.budget.clone(),
        };
        let asked = if counter.grown.count > 0 {
            format!("{} + {}", counter.asked, counter.grown)
        } else {
            counter.asked.to_string()
        };
        vec![
            clean(&name),
            shown(counter.limit),
            shown(counter.spent),
            shown(counter.reserved),
            asked,
            counter.verdict.unwrap_or_default().to_owned(),
            shown(counter.charged),
        ]
    });
    let columns = [
        Column::text("budget"),
        Column::number("limit"),
        Column::number("spent"),
        Column::number("held"),
        Column::number("asked"),
        Column::text(""),
        Column::number("cost"),
    ];
    let rows: Vec<_> = rows.collect();
    lines.extend(table(&columns, &rows, terminal::width(stdout())));
    lines.push(String::new());
    lines.extend(outcome(decision));
    lines
}

/// What was charged in the end.
fn outcome(decision: &Decision) -> Option<String> {
    let Some(Charged { usd, source, .. }) = decision.charged else {
        return decision.admitted.then(|| {
            "Not settled: it is in flight, or was charged what it held when Tollgate was killed."
                .to_owned()
        });
    };
    let source = serde_json::to_value(source).ok();
    let source = source.as_ref().and_then(Value::as_str).unwrap_or_default();
    Some(match usd {
        Some(usd) => format!("Charged {} ({source}).", usd.short()),
        None => format!("Charged what was held: the cost is not known ({source})."),
    })
}

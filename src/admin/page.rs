//! `/`: what goes on, on one page that needs no script.

use std::fmt::Write as _;

use super::{
    State,
    answer::{Answer, Problem, typed},
    archive::ArchiveError,
    budgets::Row,
    html::{Escaped, Table},
    query::Query,
};
use crate::{
    base::clock::Timestamp,
    call::{
        brief::Brief,
        line::{elapsed, grouped},
        outcome::Status,
        tally::{Dimension, Sums},
    },
    policy::Reach,
    store::Filter,
};

/// Calls that are shown.
const CALLS: usize = 20;
/// Budgets and groups of calls that are shown; of more, it is said how many there are.
const ROWS: usize = 50;

/// The page. `?refresh=5` has the browser ask again every five seconds.
pub(super) fn page(state: &State, query: Option<&str>) -> Result<Answer, Problem> {
    let mut query = Query::parse(query)?;
    let refresh = query.value::<u16>("refresh")?.filter(|every| *every > 0);
    query.finish("refresh")?;
    let now = state.clock.wall();
    let mut page = String::with_capacity(16 << 10);
    // Writing to a String cannot fail.
    let _ok = write!(
        page,
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>Tollgate</title>\
         <meta name=viewport content='width=device-width, initial-scale=1'>{}\
         <style>{}</style></head><body>{}{}",
        refresh.map_or_else(String::new, |every| {
            format!("<meta http-equiv=refresh content={every}>")
        }),
        include_str!("page.css"),
        header(state, refresh),
        warnings(state),
    );
    section(&mut page, "This sidecar", Ok(about(state)));
    section(&mut page, "Limits", limits(state, now));
    section(
        &mut page,
        "Spent today (UTC), by agent and model",
        today(state, now),
    );
    section(&mut page, "Last calls (UTC)", calls(state));
    section(&mut page, "Where spans go", Ok(processors(state)));
    page.push_str("</body></html>\n");
    Ok(typed("text/html; charset=utf-8", page))
}

/// A section of the page; what cannot be read says why, and the rest of the page is there.
fn section(page: &mut String, title: &str, body: Result<String, ArchiveError>) {
    let body = body.unwrap_or_else(|error| format!("<p class='none warn'>{}</p>", Escaped(error)));
    let _ok = write!(page, "<section><h2>{}</h2>{body}</section>", Escaped(title));
}

fn header(state: &State, refresh: Option<u16>) -> String {
    let (class, word) = if state.program.troubles().is_empty() {
        ("good", "ready")
    } else {
        ("bad", "not ready")
    };
    let other = match refresh {
        Some(_) => "<a href='/'>stop refreshing</a>",
        None => "<a href='/?refresh=5'>refresh every 5 s</a>",
    };
    format!(
        "<header><h1>Tollgate</h1><span class='state {class}'>{word}</span>\
         <span class=dim>{}</span><nav>{other}<a href='/metrics'>metrics</a>\
         <a href='/api/v1/budgets'>budgets</a><a href='/api/v1/spans'>spans</a></nav></header>",
        env!("CARGO_PKG_VERSION"),
    )
}

fn warnings(state: &State) -> String {
    let mut lines = state.program.troubles();
    lines.extend(state.program.warnings());
    for (name, stats) in state.pipeline.stats() {
        let lost = stats.dropped.saturating_add(stats.failed);
        if lost > 0 {
            let lost = grouped(lost);
            lines.push(format!(
                "{lost} spans did not reach the processor {name}: see the log"
            ));
        }
    }
    if lines.is_empty() {
        return String::new();
    }
    let lines = lines
        .iter()
        .map(|line| format!("<li>{}</li>", Escaped(line)));
    let lines: String = lines.collect();
    format!("<section class=warn><h2>To look after</h2><ul>{lines}</ul></section>")
}

fn about(state: &State) -> String {
    let lines = state.program.about().into_iter();
    let lines =
        lines.map(|(what, is)| format!("<dt>{}</dt><dd>{}</dd>", Escaped(what), Escaped(is)));
    let lines: String = lines.collect();
    format!("<dl>{lines}</dl>")
}

fn limits(state: &State, now: Timestamp) -> Result<String, ArchiveError> {
    let reach = state.program.reach();
    let kept = match reach {
        Reach::Process => Vec::new(),
        Reach::Pod | Reach::Memory | Reach::Volume | Reach::Fleet => {
            state.archive.standings(now)?
        },
    };
    let budgets = state.program.budgets(&kept);
    let mut rows: Vec<Row> = budgets.iter().map(|one| Row::new(one, reach)).collect();
    if rows.is_empty() {
        return Ok("<p class=none>No budgets: calls are metered and pass.</p>".to_owned());
    }
    // The ones nearest to their limit are the ones to see.
    let used = |row: &Row| {
        row.shares()
            .iter()
            .map(|share| u32::from(*share))
            .sum::<u32>()
    };
    rows.sort_by_key(|row| std::cmp::Reverse(used(row)));
    let more = rows.len().saturating_sub(ROWS);
    let mut html: String = rows.iter().take(ROWS).map(|row| budget(row, now)).collect();
    if more > 0 {
        let _ok = write!(
            html,
            "<p class=none>and {more} more: `tollgate budgets`</p>"
        );
    }
    Ok(html)
}

fn budget(row: &Row, now: Timestamp) -> String {
    let [spent, held] = row.shares();
    let class = match spent {
        900.. => "bad",
        750.. => "warn",
        _ => "good",
    };
    let resets = row
        .resets_at
        .map(|at| format!(", resets in {}", elapsed(at.since(now))));
    format!(
        "<div class=budget><p><strong>{}</strong><span>{} of {} {}</span>\
         <span class=dim>{} held, {} left{}, {}</span></p>\
         <div class=bar><i class={class} style='width:{}%'></i>\
         <i class=held style='width:{}%'></i></div></div>",
        Escaped(row.full_name()),
        row.spent,
        row.limit,
        Escaped(&within(&row.window)),
        row.reserved,
        row.remaining,
        resets.unwrap_or_default(),
        row.reach.name(),
        percent(spent),
        percent(held),
    )
}

/// The length of a window behind an amount: `a day`, `in total`, `in any 6h`.
fn within(window: &str) -> String {
    match window {
        "total" => "in total".to_owned(),
        rolling if rolling.starts_with(|c: char| c.is_ascii_digit()) => format!("in any {rolling}"),
        calendar => format!("a {calendar}"),
    }
}

/// Thousandths as a percentage.
fn percent(thousandths: u16) -> String {
    format!("{}.{}", thousandths / 10, thousandths % 10)
}

fn today(state: &State, now: Timestamp) -> Result<String, ArchiveError> {
    const DAY: u64 = 86_400;
    let filter = Filter {
        since: Some(Timestamp::from_secs(now.as_secs() / DAY * DAY)),
        ..Filter::default()
    };
    let by = [Dimension::Agent, Dimension::Model];
    let tallies = state.archive.report(&filter, &by)?;
    let total = crate::analysis::report::total(&tallies);
    let line = |group: Vec<String>, sums: &Sums| {
        let numbers = [
            grouped(sums.calls),
            grouped(sums.errors.saturating_add(sums.blocked)),
            grouped(sums.input_tokens),
            grouped(sums.output_tokens),
            sums.cost_usd.short().to_string(),
        ];
        group.into_iter().chain(numbers).collect::<Vec<_>>()
    };
    let name = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
    let mut rows: Vec<_> = tallies
        .iter()
        .take(ROWS)
        .map(|tally| line(tally.group.iter().map(name).collect(), &tally.sums))
        .collect();
    if rows.len() > 1 {
        let more = tallies.len().saturating_sub(ROWS);
        let all = match more {
            0 => "all".to_owned(),
            more => format!("all, {more} more groups included"),
        };
        rows.push(line(vec![all, String::new()], &total));
    }
    let table = Table {
        titles: &[
            "agent",
            "model",
            "#calls",
            "#failed or blocked",
            "#input",
            "#output",
            "#cost",
        ],
        rows,
        none: "No calls today.",
    };
    Ok(table.to_string())
}

fn calls(state: &State) -> Result<String, ArchiveError> {
    let (spans, _) = state.archive.spans(&Filter::default(), CALLS)?;
    let briefs = spans.iter().rev();
    let briefs = briefs.filter_map(|span| Brief::from_json(&span.line).ok());
    let tokens = |count: Option<u64>| count.map_or_else(|| "–".to_owned(), grouped);
    let rows = briefs.map(|span| {
        vec![
            span.start.to_jiff().strftime("%T").to_string(),
            span.agent.as_deref().unwrap_or("–").to_owned(),
            span.model.as_deref().unwrap_or(&span.name).to_owned(),
            tokens(span.input),
            tokens(span.output),
            span.cost
                .map_or_else(|| "?".to_owned(), |cost| cost.short().to_string()),
            elapsed(span.duration),
            outcome(&span),
            span.request_id.map(|id| id.to_string()).unwrap_or_default(),
        ]
    });
    let table = Table {
        titles: &[
            "time", "agent", "model", "#input", "#output", "#cost", "#took", "outcome", "request",
        ],
        rows: rows.collect(),
        none: "No calls yet.",
    };
    Ok(table.to_string())
}

fn outcome(span: &Brief<'_>) -> String {
    let detail = match span.status {
        Status::Error => span.error_type.as_deref(),
        Status::Ok | Status::Blocked | Status::Cancelled => span.blocked_by.as_deref(),
    };
    let word = span.status.name();
    detail.map_or_else(|| word.to_owned(), |detail| format!("{word}: {detail}"))
}

fn processors(state: &State) -> String {
    let rows = state.pipeline.stats().into_iter().map(|(name, stats)| {
        let counts = [
            stats.delivered,
            stats.queued + stats.in_hand + stats.buffered,
            stats.failed,
            stats.dropped,
            stats.filtered + stats.sampled_out,
        ];
        let counts = counts.map(grouped);
        std::iter::once(name.to_string()).chain(counts).collect()
    });
    let table = Table {
        titles: &[
            "processor",
            "#delivered",
            "#waiting",
            "#failed",
            "#dropped",
            "#left out",
        ],
        rows: rows.collect(),
        none: "Nowhere.",
    };
    table.to_string()
}

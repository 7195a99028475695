//! `/api/v1/…`: spans, traces, reports, budgets and requests, as JSON. Blocks on the file system.

use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    State,
    answer::{Answer, Problem, json, typed},
    archive::ArchiveError,
    budgets::Row,
    query::Query,
};
use crate::{
    analysis::report::{self, Format},
    base::{
        clock::Timestamp,
        id::{RequestId, TraceId},
        moment,
        units::parse_duration,
    },
    call::{labels::Label, tally::Dimension},
    store::{Filter, StoreError, Stored},
};

/// Spans that are given unless `limit` says otherwise, and at most.
const SPANS: usize = 100;
const MOST_SPANS: usize = 1_000;

/// `/api/v1/spans`: the last spans, or with `after` the next ones, the oldest first. `next` is what
/// to send as `after` to go on from there.
pub(super) fn spans(state: &State, query: Option<&str>) -> Result<Answer, Problem> {
    #[derive(Serialize)]
    struct Spans {
        spans: Vec<Box<RawValue>>,
        next: i64,
    }
    let mut query = Query::parse(query)?;
    let filter = filter(&mut query, state.clock.wall())?;
    let trace = query.value::<TraceId>("trace")?;
    let limit = query.value("limit")?.unwrap_or(SPANS).min(MOST_SPANS);
    query.finish(
        "since, until, trace, limit, after, model, provider, status, and the labels agent, user, \
         project, environment, session and workflow",
    )?;
    let (spans, next) = match trace {
        None => state.archive.spans(&filter, limit)?,
        Some(trace) if filter == Filter::default() => {
            let mut spans = state.archive.trace(trace)?;
            spans.truncate(limit);
            let next = spans.last().map_or(0, |last| last.id);
            (spans, next)
        },
        Some(_) => return Err(Problem::bad("`trace` goes with no other filter")),
    };
    Ok(json(&Spans {
        spans: raw(spans)?,
        next,
    }))
}

/// `/api/v1/traces/ID`: the spans of a trace.
pub(super) fn trace(state: &State, id: &str) -> Result<Answer, Problem> {
    #[derive(Serialize)]
    struct Trace {
        trace_id: TraceId,
        spans: Vec<Box<RawValue>>,
    }
    let trace_id: TraceId = id
        .parse()
        .map_err(|_invalid| Problem::bad(format!("`{id}` is not a trace id: 32 hex digits")))?;
    let spans = raw(state.archive.trace(trace_id)?)?;
    Ok(json(&Trace { trace_id, spans }))
}

/// `/api/v1/report`: what calls come to, as `tollgate report --format json` has it.
pub(super) fn report(state: &State, query: Option<&str>) -> Result<Answer, Problem> {
    let mut query = Query::parse(query)?;
    let now = state.clock.wall();
    let mut filter = filter(&mut query, now)?;
    let by = query.read("by", dimensions)?;
    query.finish("since, until, by, model, provider, status and the labels")?;
    let day = parse_duration("24h").unwrap_or_default();
    filter.since.get_or_insert(now - day);
    let by = by.unwrap_or_else(|| vec![Dimension::Agent, Dimension::Model]);
    let rows = state.archive.report(&filter, &by)?;
    Ok(typed(
        "application/json",
        report::render(&by, &rows, Format::Json, None),
    ))
}

/// `/api/v1/budgets`: every budget in its present window.
pub(super) fn budgets(state: &State) -> Result<Answer, Problem> {
    Ok(json(&rows(state)?))
}

/// `/api/v1/requests/ID`: the span of a call, with what it cost.
pub(super) fn request(state: &State, id: &str) -> Result<Answer, Problem> {
    let span = state.archive.request(request_id(id)?)?;
    Ok(typed("application/json", format!("{}\n", span.line)))
}

/// `/api/v1/requests/ID/why`: every counter that was looked at, and what came of it.
pub(super) fn why(state: &State, id: &str) -> Result<Answer, Problem> {
    Ok(json(&state.archive.why(request_id(id)?)?))
}

/// Every budget, as it is listed.
pub(super) fn rows(state: &State) -> Result<Vec<Row>, Problem> {
    let kept = state.archive.standings(state.clock.wall())?;
    let budgets = state.program.budgets(&kept);
    let reach = state.program.reach();
    Ok(budgets.iter().map(|one| Row::new(one, reach)).collect())
}

/// The dimensions of a list: `agent,model`.
///
/// # Errors
/// One has no such name.
fn dimensions(list: &str) -> Result<Vec<Dimension>, crate::call::tally::UnknownDimension> {
    list.split(',').map(str::parse).collect()
}

fn request_id(id: &str) -> Result<RequestId, Problem> {
    id.parse()
        .map_err(|_invalid| ArchiveError::NoId(id.to_owned()).into())
}

fn filter(query: &mut Query, now: Timestamp) -> Result<Filter, Problem> {
    let labels = Label::ALL.into_iter().filter_map(|label| {
        let value = query.text(label.name())?;
        Some((label, value))
    });
    Ok(Filter {
        labels: labels.collect(),
        since: query.read("since", |text| moment::ago(text, now))?,
        until: query.read("until", |text| moment::ago(text, now))?,
        model: query.text("model"),
        provider: query.text("provider"),
        status: query.text("status"),
        after: query.value("after")?,
    })
}

fn raw(spans: Vec<Stored>) -> Result<Vec<Box<RawValue>>, Problem> {
    let spans = spans.into_iter();
    let spans = spans.map(|span| RawValue::from_string(span.line));
    spans.collect::<Result<_, _>>().map_err(|error| {
        let message = format!("a span in the store is no JSON: {error}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    })
}

impl From<ArchiveError> for Problem {
    fn from(error: ArchiveError) -> Self {
        let status = match &error {
            ArchiveError::NoId(_) | ArchiveError::Ambiguous(..) => StatusCode::BAD_REQUEST,
            ArchiveError::NoCall(_) | ArchiveError::NoTrace(_) => StatusCode::NOT_FOUND,
            ArchiveError::Store(StoreError::Missing { .. }) => StatusCode::SERVICE_UNAVAILABLE,
            ArchiveError::Store(_) | ArchiveError::Ledger(_) | ArchiveError::Books(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            },
        };
        Self::new(status, error.to_string())
    }
}

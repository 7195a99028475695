//! Spans that the last run did not get to keep when it was killed: of calls that were in flight,
//! and of calls that had ended while their spans were still on their way to the store. Each has the
//! id that it was admitted with, so that a destination that has it already can tell.

use std::time::Duration;

use crate::{
    base::clock::Timestamp,
    call::{
        outcome::{End, Status},
        span::{PRICING_VERSION, RECOVERED, Span, Value},
        usage::UsageSource,
    },
    ledger::{BooksError, Call, Crashed, Ended, Ledger},
    store::{Latest, ROWS_BEFORE_A_CRASH, StoreError, Writer},
};

/// The operations that spans of ours are named after.
const OPERATIONS: [&str; 4] = ["chat", "embeddings", "generate_content", "text_completion"];

/// So many calls in a row whose spans are in the store: what came before them is there too, since
/// spans are stored in the order in which calls end.
const ENOUGH: usize = 1_000;

/// How many spans of the store are looked at first: more only if some are missing.
const FIRST_LOOK: i64 = 8_192;

/// How many spans are written at once.
const BATCH: usize = 4_096;

/// The store and the ledger cannot be compared.
#[derive(Debug, thiserror::Error)]
pub(super) enum CompareError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Books(#[from] BooksError),
}

/// The span of a call that never came to its end.
pub(super) fn span(crashed: Crashed) -> Span {
    Span {
        status: Status::Error,
        end: End::Crashed,
        // When it ended is not known.
        duration: Duration::ZERO,
        usage_source: UsageSource::Ceiling,
        cost: crashed.charged.usd,
        error_type: Some(Box::from("tollgate_killed")),
        ..journalled(crashed.call)
    }
}

/// The span of a call that ended.
fn recovered(ended: Ended) -> Span {
    let Ended {
        call,
        charge,
        ending,
    } = ended;
    Span {
        span_id: ending.span_id,
        status: ending.status,
        end: ending.end,
        duration: ending.duration,
        response_model: ending.model,
        usage: ending.usage,
        usage_source: charge.source,
        cost: ending.cost,
        http_status: ending.http_status,
        attributes: [
            Some((RECOVERED, Value::Bool(true))),
            ending.prices.map(|by| (PRICING_VERSION, Value::Text(by))),
        ]
        .into_iter()
        .flatten()
        .collect(),
        ..journalled(call)
    }
}

/// What the journal says of any call.
fn journalled(call: Call) -> Span {
    let operation = call
        .operation
        .and_then(|name| OPERATIONS.into_iter().find(|known| **known == *name));
    Span {
        trace_id: call.trace_id,
        span_id: call.span_id,
        parent_span_id: call.parent_span_id,
        request_id: call.request_id,
        kind: call.kind,
        operation,
        provider: call.provider,
        request_model: call.model,
        labels: call.labels,
        method: Box::from("POST"),
        ..Span::begun(call.start)
    }
}

/// Writes the spans that the store lacks of calls that ended in the last run, if they began at
/// `oldest` or later. Returns how many.
///
/// # Errors
/// One of the two cannot be read or written: the next start tries again.
pub(super) fn recover(
    ledger: &Ledger,
    store: &mut Writer,
    oldest: Timestamp,
) -> Result<usize, CompareError> {
    let mut missing = missing(ledger, &store.latest(FIRST_LOOK)?, oldest)?;
    if !missing.is_empty() {
        missing = self::missing(ledger, &store.latest(ROWS_BEFORE_A_CRASH)?, oldest)?;
    }
    missing.reverse();
    let count = missing.len();
    for spans in missing.chunks(BATCH) {
        let lines: Vec<String> = spans.iter().map(Span::to_json).collect();
        store.append(spans.iter().zip(lines.iter().map(String::as_str)))?;
    }
    ledger.spans_were_compared(u64::try_from(count).unwrap_or(u64::MAX))?;
    Ok(count)
}

/// The spans that are not among `known`, the last one first. What ended before these were written is
/// in the store: a kill takes what was written last.
fn missing(ledger: &Ledger, known: &Latest, oldest: Timestamp) -> Result<Vec<Span>, BooksError> {
    let mut missing = Vec::new();
    let mut in_a_row = 0;
    ledger.ended(|ended| {
        let end = ended.call.start + ended.ending.duration;
        let is_before = known.since.is_some_and(|since| end < since) || ended.call.start < oldest;
        if is_before || known.ids.contains(&ended.ending.span_id) {
            in_a_row += 1;
        } else {
            in_a_row = 0;
            missing.push(recovered(ended));
        }
        in_a_row < ENOUGH
    })?;
    Ok(missing)
}

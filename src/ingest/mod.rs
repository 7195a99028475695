//! What agents report of themselves: bytes in, spans out. An agent sees what no proxy can: which
//! tool it ran and for how long, who handed over to whom, what its guardrails said.
//!
//! Two formats: that of the OpenAI Agents SDK's exporter (`agents.rs`), and OTLP over HTTP
//! (`otlp.rs`). What a model call used is never taken from here: it is on the span of the call.

mod agents;
mod draft;
mod otlp;

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::Deserialize;

use crate::{
    base::{
        clock::{Instant, Timestamp},
        id::{SpanId, TraceId},
        recent::Recent,
        units::ByteSize,
    },
    call::{content::Told, labels::Labels, reported::Format, span::Span},
};
use agents::Named;

/// `ingest:` — spans that agents report.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether they are taken; else their paths are the provider's.
    pub enabled: bool,
    /// The largest body, before and after decompression.
    pub body: ByteSize,
    /// The most spans of one request.
    pub spans: usize,
    /// The most spans a second, over a few seconds.
    pub spans_per_second: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            body: ByteSize::mib(8),
            spans: 2_000,
            spans_per_second: 1_000,
        }
    }
}

/// The format in which reports come at this path, if they do.
pub fn format(path: &str) -> Option<Format> {
    match path.strip_suffix('/').unwrap_or(path) {
        "/v1/traces/ingest" => Some(Format::Agents),
        "/v1/traces" => Some(Format::Otlp),
        _ => None,
    }
}

/// How many spans are remembered, so that a report that comes again is known.
const REMEMBERED: usize = 65_536;

/// How many traces' names are remembered.
const TRACES: usize = 8_192;

/// How long reports may come faster than `spans_per_second`.
const BURST: Duration = Duration::from_secs(2);

/// How many refused items an answer names.
const NAMED_AT_MOST: usize = 20;

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Its format.
    pub format: Format,
    /// Its `content-type`.
    pub content_type: &'a str,
    /// Its body, not compressed.
    pub body: &'a [u8],
    /// Who it is from, as its head says.
    pub labels: &'a Labels,
    /// When it came.
    pub now: Timestamp,
    /// Whether what was said is wanted.
    pub with_content: bool,
}

/// What was taken of a request, and what was not.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The spans. Nothing of what was said is on them.
    pub spans: Vec<Span>,
    /// What was said in them.
    pub said: Said,
    /// How many there are.
    pub accepted: usize,
    /// Items that were there before: the sender has not heard of our answer.
    pub repeated: usize,
    /// Items that cannot be read, or were too many.
    pub refused: usize,
    /// What the sender is answered, with status 200.
    pub answer: Vec<u8>,
    /// The answer's `content-type`.
    pub content_type: &'static str,
}

/// What was said in spans.
pub type Said = HashMap<(TraceId, SpanId), Told>;

/// Nothing of a request can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is in a form that is not known here.
    #[error("the content type {0:?} is not known here: send application/json{1}")]
    ContentType(String, &'static str),
    /// It is not in the form that it says.
    #[error("the body is no report: {0}")]
    Body(String),
}

/// What is known of earlier reports. One for the process.
#[derive(Debug)]
pub struct Ingest(Mutex<Memory>);

#[derive(Debug)]
struct Memory {
    named: Recent<TraceId, Arc<Named>>,
    seen: Recent<(TraceId, SpanId)>,
    /// When all that came would have come at the rate that is allowed.
    due: Option<Instant>,
}

impl Default for Ingest {
    fn default() -> Self {
        Self(Mutex::new(Memory {
            named: Recent::new(TRACES),
            seen: Recent::new(REMEMBERED),
            due: None,
        }))
    }
}

impl Ingest {
    /// Whether another request may come now.
    ///
    /// # Errors
    /// Not before so long.
    pub fn admit(&self, now: Instant) -> Result<(), Duration> {
        let due = self.0.lock().due;
        let early = due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now));
        match early.checked_sub(BURST) {
            None | Some(Duration::ZERO) => Ok(()),
            Some(wait) => Err(wait),
        }
    }

    /// Counts so many spans against the rate.
    pub fn charge(&self, spans: usize, config: &Config, now: Instant) {
        let each = Duration::from_secs(1) / config.spans_per_second.max(1);
        let all = each.saturating_mul(u32::try_from(spans).unwrap_or(u32::MAX));
        let mut memory = self.0.lock();
        memory.due = memory.due.max(Some(now)).map(|due| due + all);
    }

    /// Reads a request. An item that cannot be read is named in the answer, the others are taken.
    ///
    /// # Errors
    /// It is no report at all.
    pub fn read(&self, report: &Report<'_>, config: &Config) -> Result<Taken, Unreadable> {
        let Batch {
            mut spans,
            said,
            refused,
            names,
        } = match report.format {
            Format::Agents => agents::read(report, config.spans, |trace| self.named(trace))?,
            Format::Otlp => otlp::read(report, config.spans)?,
        };
        let read = spans.len();
        let mut memory = self.0.lock();
        for (trace, named) in names {
            memory.named.insert(trace, named);
        }
        spans.retain(|span| memory.seen.insert((span.trace_id, span.span_id), ()));
        drop(memory);
        let (answer, content_type) = match report.format {
            Format::Agents => agents::answer(read, &refused),
            Format::Otlp => otlp::answer(report.content_type, &refused),
        };
        Ok(Taken {
            accepted: spans.len(),
            repeated: read - spans.len(),
            refused: refused.count,
            spans,
            said,
            answer,
            content_type,
        })
    }

    /// The answer to a report of which nothing was taken, where its format has a form for that.
    pub fn refusal(
        format: Format,
        content_type: &str,
        why: &str,
    ) -> Option<(Vec<u8>, &'static str)> {
        match format {
            Format::Agents => None,
            Format::Otlp => otlp::refusal(content_type, why),
        }
    }

    fn named(&self, trace: TraceId) -> Option<Arc<Named>> {
        self.0.lock().named.get(&trace).map(Arc::clone)
    }
}

/// Reads a JSON object. A list is none: its members would be taken for those of the object, in order.
fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Unreadable> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Unreadable::Body("it is no JSON object".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| Unreadable::Body(error.to_string()))
}

/// What a request holds.
#[derive(Debug, Default)]
struct Batch {
    spans: Vec<Span>,
    said: Said,
    refused: Refused,
    names: Vec<(TraceId, Arc<Named>)>,
}

impl Batch {
    /// Keeps what was said in a span.
    fn keep(&mut self, span: &Span, said: Told) {
        if !said.parts.is_empty() {
            self.said.insert((span.trace_id, span.span_id), said);
        }
    }
}

/// The items that were not taken.
#[derive(Debug, Default)]
struct Refused {
    count: usize,
    /// The first few: their places and why.
    named: Vec<(usize, String)>,
}

impl Refused {
    fn add(&mut self, place: usize, why: impl Into<String>) {
        self.count += 1;
        if self.named.len() < NAMED_AT_MOST {
            self.named.push((place, why.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{Clock as _, SystemClock};

    #[tokio::test(start_paused = true)]
    async fn who_reports_too_much_waits() {
        let (ingest, begin) = (Ingest::default(), SystemClock.mono());
        let config = Config::default();
        assert_eq!(ingest.admit(begin), Ok(()));
        ingest.charge(2_000, &config, begin);
        assert_eq!(ingest.admit(begin), Ok(()));
        ingest.charge(2_000, &config, begin);
        assert_eq!(ingest.admit(begin), Err(Duration::from_secs(2)));
        let later = begin + Duration::from_secs(2);
        assert_eq!(ingest.admit(later), Ok(()));
    }

    #[test]
    fn the_paths_are_exact() {
        assert_eq!(format("/v1/traces/ingest"), Some(Format::Agents));
        assert_eq!(format("/v1/traces/"), Some(Format::Otlp));
        for path in [
            "/v1/traces/other",
            "/openai/v1/traces/ingest",
            "/v1/trace",
            "/",
        ] {
            assert_eq!(format(path), None, "{path}");
        }
    }
}

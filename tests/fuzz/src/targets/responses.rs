//! Answers of every dialect and operation: whole bodies, and streams in every framing.
//!
//! What must hold: any chunking tells the same facts; so does another spelling of the same JSON,
//! and an event that is read by likeness to one before; facts are bounded; a stream that is cut is
//! ended with events that the dialect itself can read.

use std::collections::VecDeque;

use super::{
    super::events::{Events, Verdict, Whole},
    cases::{self, Case},
    chunks, json, steered,
};
use crate::{
    call::{
        facts::ResponseFacts,
        refusal::{Reason, Refusal},
        usage::Usage,
    },
    provider::{Cut, CutStyle, Event, StreamState, Unreadable, wire::framing::Framing},
};

const FRAMINGS: [Framing; 4] = [
    Framing::Sse,
    Framing::Lines,
    Framing::Array,
    Framing::EventStream,
];

#[derive(Debug, Default)]
struct Read {
    facts: ResponseFacts,
    state: StreamState,
    unreadable: Vec<Unreadable>,
}

pub fn run(input: &[u8]) {
    let Some((bytes, [high, low, framing, size])) = steered(input) else {
        return;
    };
    let case = cases::pick(high, low);
    let framing = usize::from(framing) % (FRAMINGS.len() + 1);
    match FRAMINGS.get(framing) {
        Some(Framing::EventStream) => {
            // A checksum is not guessed: mutations are made before there are any.
            stream(case, Framing::EventStream, &cases::frames(bytes), size);
        },
        Some(framing) => stream(case, *framing, bytes, size),
        None => body(case, bytes),
    }
}

impl Read {
    fn event(&mut self, case: &Case, event: &Event<'_>) {
        let read = case
            .dialect
            .read_event(case.op, event, &mut self.facts, &mut self.state);
        self.unreadable.extend(read.err());
        let _asked = case.dialect.is_asked_usage(event);
    }

    fn check(&self) {
        let facts = &self.facts;
        let lists = [
            facts.finish_reasons.len(),
            facts.tool_calls.len(),
            facts.server_tools.len(),
        ];
        assert!(
            lists.iter().all(|len| *len <= StreamState::MAX_OPEN),
            "{lists:?}"
        );
    }
}

fn body(case: &Case, bytes: &[u8]) {
    let mut read = Read::default();
    read.event(case, &Event::body(bytes));
    read.check();
    let Some(respelt) = json::respelt(bytes) else {
        return;
    };
    let mut again = Read::default();
    again.event(case, &Event::body(&respelt));
    let told = |read: &Read| {
        let facts = read.facts.clone();
        (
            facts.usage,
            facts.model,
            facts.id,
            facts.error,
            facts.pending,
        )
    };
    assert_eq!(
        told(&read),
        told(&again),
        "{} {} {}",
        case.dialect.name(),
        case.op.name,
        String::from_utf8_lossy(&respelt)
    );
}

fn stream(case: &Case, framing: Framing, bytes: &[u8], size: u8) {
    let mut whole = read_stream(case, framing, bytes, 0, 0);
    let cut = read_stream(case, framing, bytes, size, 0);
    assert_eq!(cut.facts, whole.facts, "chunks of {size}");
    assert_eq!(cut.unreadable, whole.unreadable, "chunks of {size}");
    whole.check();
    // White space that grows keeps any event from looking like an earlier one.
    let unlike = read_stream(case, framing, bytes, 0, 1);
    assert_eq!(unlike.facts, whole.facts, "read by likeness");
    end(case, framing, &mut whole);
}

fn read_stream(case: &Case, framing: Framing, bytes: &[u8], size: u8, widen: usize) -> Read {
    let mut events = Events::new(framing, false, case.dialect.wanted().response);
    let (mut out, mut read, mut count) = (VecDeque::new(), Read::default(), 0);
    let mut take = |event: Whole<'_>| {
        let event = match event {
            Whole::Bytes(bytes) | Whole::Unfinished { bytes, .. } => framing.parse(bytes),
            Whole::Reduced { event, .. } => Ok(Some(event)),
            Whole::Damaged | Whole::Lost => Ok(None),
        };
        if let Ok(Some(mut event)) = event {
            count += widen;
            if event.data.starts_with(b"{") {
                event.data.to_mut().splice(0..0, vec![b' '; count]);
            }
            read.event(case, &event);
        }
        Verdict::Pass
    };
    for chunk in chunks(bytes, size) {
        events.take(&chunk, &mut out, &mut take);
    }
    events.end(&mut out, &mut take);
    read
}

/// Cuts the stream here.
fn end(case: &Case, framing: Framing, read: &mut Read) {
    let refusal = Refusal::new(
        Reason::Exhausted,
        "budget.daily",
        "The budget is \"used up\".\n",
    );
    for style in [CutStyle::Graceful, CutStyle::Error] {
        let last = case.dialect.cut(
            case.op,
            &Cut {
                style,
                refusal: &refusal,
                request_id: "0190",
                usage: Usage::text(70, 30),
                asks_usage: true,
                facts: &read.facts,
                state: &read.state,
                framing,
                begun: true,
            },
        );
        if read.facts.complete || read.facts.error.is_some() {
            continue;
        }
        let ended = read_stream(case, framing, &last, 0, 0);
        assert_eq!(
            ended.unreadable,
            [],
            "{:?} ends a stream of {} {}",
            String::from_utf8_lossy(&last),
            case.dialect.name(),
            case.op.name
        );
    }
}

/// Our own exchanges.
pub fn seeds() -> Vec<Vec<u8>> {
    let place = |framing: Option<Framing>| {
        let place = FRAMINGS.iter().position(|known| Some(*known) == framing);
        u8::try_from(place.unwrap_or(FRAMINGS.len())).unwrap_or_default()
    };
    let seed = |(n, case): (usize, &Case)| {
        let [high, low] = cases::steer(n);
        let steer = [high, low, place(case.framing), 7];
        [&*case.response, &steer].concat()
    };
    cases::all().iter().enumerate().map(seed).collect()
}

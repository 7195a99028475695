//! Spans that go only if another span of their trace does: they wait for it, for a while.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{record::Record, sampling::Sampling};
use crate::base::{clock::Instant, id::TraceId};

/// The most traces of which it is remembered that they go.
const MOST_GOING: usize = 32_768;

/// For how many times the wait of a span that is remembered, after the last span of the trace; and of
/// the usual wait at least: the parent of what was kept may end much later.
const REMEMBERED: u32 = 10;

/// Why a span waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The destination wants no such spans by themselves.
    Filtered,
    /// Its trace was not chosen.
    SampledOut,
}

/// Spans that wait, and traces that go. The owner bounds the first, with
/// [`give_up_oldest`](Self::give_up_oldest).
#[derive(Debug)]
pub(super) struct Holding {
    patience: Duration,
    waiting: HashMap<TraceId, Pending>,
    /// When each span came, the oldest first; spans of traces that went meanwhile may be among them.
    came: VecDeque<Came>,
    number: u64,
    spans: usize,
    bytes: usize,
    going: HashMap<TraceId, Going>,
    /// The traces that go, and when each was last looked at.
    went: VecDeque<(Instant, TraceId)>,
    forgotten: u64,
}

/// What waits of one trace.
#[derive(Debug, Default)]
struct Pending {
    spans: VecDeque<Held>,
    /// Whether it was asked for the trace, and it was not chosen.
    is_unchosen: bool,
}

#[derive(Debug)]
struct Held {
    record: Arc<Record>,
    size: usize,
    why: Why,
    number: u64,
}

#[derive(Clone, Copy, Debug)]
struct Came {
    at: Instant,
    trace: TraceId,
    number: u64,
}

#[derive(Clone, Copy, Debug)]
struct Going {
    /// Of traces like it, the share that goes, where that was asked.
    share: Option<f64>,
    seen: Instant,
}

impl Holding {
    /// One in which spans wait so long at most.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            waiting: HashMap::new(),
            came: VecDeque::new(),
            number: 0,
            spans: 0,
            bytes: 0,
            going: HashMap::new(),
            went: VecDeque::new(),
            forgotten: 0,
        }
    }

    /// How many spans wait, and how many bytes they take.
    pub(super) const fn len(&self) -> (usize, usize) {
        (self.spans, self.bytes)
    }

    /// How many traces were forgotten before their time, because too many went.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Whether the trace goes, and the share of those like it that does.
    #[expect(clippy::option_option, reason = "whether it goes, and what was asked")]
    pub(super) fn going(&mut self, trace: TraceId, now: Instant) -> Option<Option<f64>> {
        let going = self.going.get_mut(&trace)?;
        going.seen = now;
        Some(going.share)
    }

    /// Whether a span of the trace waits because the trace was not chosen.
    pub(super) fn is_unchosen(&self, trace: TraceId) -> bool {
        self.waiting.get(&trace).is_some_and(|it| it.is_unchosen)
    }

    /// Remembers that the trace goes.
    pub(super) fn remember(&mut self, trace: TraceId, share: Option<f64>, now: Instant) {
        if self.going.len() >= MOST_GOING
            && let Some((_, oldest)) = self.went.pop_front()
        {
            self.going.remove(&oldest);
            self.forgotten += 1;
        }
        if self
            .going
            .insert(trace, Going { share, seen: now })
            .is_none()
        {
            self.went.push_back((now, trace));
        }
    }

    /// Takes out what waits of the trace, the oldest first.
    pub(super) fn release(&mut self, trace: TraceId) -> impl Iterator<Item = Arc<Record>> + use<> {
        let released = self.waiting.remove(&trace).unwrap_or_default().spans;
        self.spans = self.spans.saturating_sub(released.len());
        let bytes: usize = released.iter().map(|held| held.size).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
        self.tidy();
        released.into_iter().map(|held| held.record)
    }

    /// Lets a span wait.
    pub(super) fn hold(&mut self, record: Arc<Record>, size: usize, why: Why, now: Instant) {
        let (trace, number) = (record.span.trace_id, self.number);
        self.number += 1;
        self.spans += 1;
        self.bytes = self.bytes.saturating_add(size);
        self.came.push_back(Came {
            at: now,
            trace,
            number,
        });
        let pending = self.waiting.entry(trace).or_default();
        pending.is_unchosen |= why == Why::SampledOut;
        pending.spans.push_back(Held {
            record,
            size,
            why,
            number,
        });
    }

    /// Takes out the span that waits longest; none if none waits.
    pub(super) fn give_up_oldest(&mut self) -> Option<(Arc<Record>, Why)> {
        loop {
            let came = self.came.pop_front()?;
            if let Some(given_up) = self.take(came) {
                return Some(given_up);
            }
        }
    }

    /// Takes out the span that waits longest if it has waited long enough; forgets traces of which
    /// no span came for long.
    pub(super) fn expired(&mut self, now: Instant) -> Option<(Arc<Record>, Why)> {
        self.forget(now);
        loop {
            let oldest = self.came.front()?;
            if now.saturating_duration_since(oldest.at) < self.patience {
                return None;
            }
            let came = self.came.pop_front()?;
            if let Some(given_up) = self.take(came) {
                return Some(given_up);
            }
        }
    }

    fn forget(&mut self, now: Instant) {
        let memory = self.patience.max(Sampling::WAIT);
        let memory = memory.saturating_mul(REMEMBERED);
        let is_over = |at: Instant| now.saturating_duration_since(at) >= memory;
        while let Some((_, trace)) = self.went.pop_front_if(|(at, _)| is_over(*at)) {
            match self.going.get(&trace) {
                Some(going) if !is_over(going.seen) => self.went.push_back((going.seen, trace)),
                _ => {
                    self.going.remove(&trace);
                },
            }
        }
    }

    /// The span that came then, if it still waits.
    fn take(&mut self, came: Came) -> Option<(Arc<Record>, Why)> {
        let waiting = self.waiting.get_mut(&came.trace)?;
        let held = waiting
            .spans
            .pop_front_if(|held| held.number == came.number)?;
        if waiting.spans.is_empty() {
            self.waiting.remove(&came.trace);
        }
        self.spans = self.spans.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(held.size);
        Some((held.record, held.why))
    }

    /// Keeps no more notes of spans that are gone than of those that wait.
    fn tidy(&mut self) {
        if self.came.len() > self.spans.saturating_mul(2) + 64 {
            let waiting = &self.waiting;
            self.came.retain(|came| {
                let spans = waiting.get(&came.trace).map(|it| &it.spans);
                let oldest = spans.and_then(VecDeque::front);
                oldest.is_some_and(|oldest| oldest.number <= came.number)
            });
        }
    }
}

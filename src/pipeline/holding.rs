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

/// How many of those that would be forgotten first stay because spans of them came since.
const SPARED: usize = 8;

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
    /// The traces that ids chose, and when each was last looked at.
    by_id: VecDeque<(Instant, TraceId)>,
    /// The same of those that go because of a span.
    by_span: VecDeque<(Instant, TraceId)>,
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
            by_id: VecDeque::new(),
            by_span: VecDeque::new(),
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

    /// Remembers that the trace goes. `by_id`: its id chose it, and would most likely do so again.
    pub(super) fn remember(
        &mut self,
        trace: TraceId,
        share: Option<f64>,
        by_id: bool,
        now: Instant,
    ) {
        if self.going.len() >= MOST_GOING {
            self.forget_one();
        }
        let going = Going { share, seen: now };
        if self.going.insert(trace, going).is_none() {
            let went = if by_id {
                &mut self.by_id
            } else {
                &mut self.by_span
            };
            went.push_back((now, trace));
        }
    }

    /// From now on all traces like this one, which goes, are said to go.
    pub(super) fn keep_all(&mut self, trace: TraceId) {
        if let Some(going) = self.going.get_mut(&trace) {
            going.share = Some(1.0);
        }
    }

    /// Forgets a trace before its time: one that an id chose, if there is one, and of which no span
    /// came for long.
    fn forget_one(&mut self) {
        let went = if self.by_id.is_empty() {
            &mut self.by_span
        } else {
            &mut self.by_id
        };
        for spares in (0..=SPARED).rev() {
            let Some((at, trace)) = went.pop_front() else {
                return;
            };
            match self.going.get(&trace) {
                Some(going) if going.seen > at && spares > 0 => {
                    went.push_back((going.seen, trace));
                },
                _ => {
                    self.going.remove(&trace);
                    self.forgotten += 1;
                    return;
                },
            }
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

    /// Takes out spans that have waited long enough, and forgets traces of which no span came for long;
    /// true if there may be more of them: it takes so many steps at most for each.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        most: usize,
        expired: &mut Vec<(Arc<Record>, Why)>,
    ) -> bool {
        let patience = self.patience;
        let memory = patience.max(Sampling::WAIT).saturating_mul(REMEMBERED);
        let is_older = |at: Instant, age| now.saturating_duration_since(at) >= age;
        let mut is_more = false;
        for went in [&mut self.by_id, &mut self.by_span] {
            let mut steps = 0;
            while steps < most
                && let Some((_, trace)) = went.pop_front_if(|(at, _)| is_older(*at, memory))
            {
                steps += 1;
                match self.going.get(&trace) {
                    Some(going) if !is_older(going.seen, memory) => {
                        went.push_back((going.seen, trace));
                    },
                    _ => {
                        self.going.remove(&trace);
                    },
                }
            }
            is_more |= steps == most;
        }
        for _step in 0..most {
            let oldest = self.came.pop_front_if(|it| is_older(it.at, patience));
            let Some(came) = oldest else {
                return is_more;
            };
            expired.extend(self.take(came));
        }
        true
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

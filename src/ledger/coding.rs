//! The parts of a record as bytes, and back. Numbers are variable-length (7 bits a byte, the lowest
//! first; signed ones zigzag), texts are their length and their bytes.

use std::{sync::Arc, time::Duration};

use super::record::{Call, Post};
use crate::{
    base::{
        clock::Timestamp,
        id::{RequestId, SpanId, TraceId},
        money::Usd,
    },
    call::{
        labels::{Label, Labels, Source},
        outcome::{End, Kind, Status},
        usage::{Usage, UsageSource},
    },
    policy::{
        Adjustment, Change, CounterName, Ending, HoldId, Level, Lines, Order, Ordered, Raise, Seen,
        Subject, Told, Unit, Verdict,
    },
};

const KINDS: [Kind; 8] = [
    Kind::Llm,
    Kind::Embedding,
    Kind::Tool,
    Kind::Agent,
    Kind::Handoff,
    Kind::Guardrail,
    Kind::Workflow,
    Kind::Http,
];
const UNITS: [Unit; 6] = [
    Unit::Usd,
    Unit::Tokens,
    Unit::Requests,
    Unit::Concurrent,
    Unit::InputTokens,
    Unit::OutputTokens,
];
const LEVELS: [Level; 4] = [Level::Below, Level::Warning, Level::Critical, Level::Cutoff];
const VERDICTS: [Verdict; 3] = [Verdict::Fits, Verdict::Busy, Verdict::Exhausted];
const SOURCES: [Source; 6] = [
    Source::Header,
    Source::Path,
    Source::Baggage,
    Source::Body,
    Source::Static,
    Source::Key,
];
const STATUSES: [Status; 4] = [
    Status::Ok,
    Status::Error,
    Status::Blocked,
    Status::Cancelled,
];
const ENDS: [End; 5] = [
    End::Complete,
    End::Client,
    End::Upstream,
    End::Cut,
    End::Crashed,
];
pub(super) const KNOWN: [UsageSource; 4] = [
    UsageSource::Reported,
    UsageSource::Estimated,
    UsageSource::Ceiling,
    UsageSource::Absent,
];

/// The number of a unit in records and books.
pub(super) fn unit_number(unit: Unit) -> u8 {
    number_in(&UNITS, unit)
}

/// The unit of a number in records and books.
pub(super) fn unit_numbered(number: u8) -> Option<Unit> {
    UNITS.get(usize::from(number)).copied()
}

/// The number of a threshold in records and books.
pub(super) fn level_number(level: Level) -> u8 {
    number_in(&LEVELS, level)
}

/// The threshold of a number in records and books.
pub(super) fn level_numbered(number: u8) -> Option<Level> {
    LEVELS.get(usize::from(number)).copied()
}

pub(super) fn number_in<T: Copy + PartialEq>(all: &[T], one: T) -> u8 {
    let place = all.iter().position(|other| *other == one);
    place
        .and_then(|place| u8::try_from(place).ok())
        .unwrap_or(u8::MAX)
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WithSeen {
    Yes,
    No,
}

pub(super) struct Encoder<'a>(pub(super) &'a mut Vec<u8>);

impl Encoder<'_> {
    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(super) fn fixed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn unsigned(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    pub(super) fn signed(&mut self, number: i64) {
        self.unsigned(((number << 1) ^ (number >> 63)).cast_unsigned());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.unsigned(u64::try_from(text.len()).unwrap_or(u64::MAX));
        self.fixed(text.as_bytes());
    }

    pub(super) fn time(&mut self, time: Timestamp) {
        self.unsigned(time.as_nanos());
    }

    pub(super) fn option<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            put(self, value);
        }
    }

    pub(super) fn subject(&mut self, subject: &Subject<'_>) {
        self.fixed(&subject.request_id.bytes());
        self.fixed(&subject.span_id.bytes());
        self.fixed(&subject.trace_id.bytes());
        self.option(subject.parent_span_id, |to, id| to.fixed(&id.bytes()));
        self.time(subject.start);
        self.byte(number_in(&KINDS, subject.kind));
        self.option(subject.operation, Encoder::text);
        self.text(subject.provider);
        self.option(subject.model, Encoder::text);
        for (number, label) in (1_u8..).zip(Label::ALL) {
            if let Some(found) = subject.labels.labelled(label) {
                self.byte(number);
                self.byte(number_in(&SOURCES, found.source));
                self.text(&found.value);
            }
        }
        self.byte(0);
    }

    pub(super) fn lines(&mut self, lines: Lines<'_>, with_seen: WithSeen) {
        self.unsigned(u64::try_from(lines.iter().count()).unwrap_or(u64::MAX));
        for line in lines.iter() {
            self.text(line.identity);
            self.text(line.values);
            self.byte(unit_number(line.unit));
            self.time(line.cell);
            self.signed(line.amount);
            if with_seen == WithSeen::Yes {
                self.signed(line.seen.spent);
                self.signed(line.seen.reserved);
                self.signed(line.seen.limit);
                self.byte(number_in(&VERDICTS, line.seen.verdict));
            }
        }
    }

    pub(super) fn ending(&mut self, ending: &Ending) {
        self.fixed(&ending.span_id.bytes());
        self.byte(number_in(&STATUSES, ending.status));
        self.byte(number_in(&ENDS, ending.end));
        self.unsigned(u64::try_from(ending.duration.as_micros()).unwrap_or(u64::MAX));
        self.option(ending.http_status.map(u64::from), Self::unsigned);
        // A name that long is none, and records shall be short.
        let model = ending.model.as_deref();
        self.option(model.filter(|name| name.len() <= 200), Self::text);
        let usage = &ending.usage;
        for count in [
            usage.input,
            usage.cache_read,
            usage.cache_write,
            usage.output,
            usage.reasoning,
        ] {
            self.option(count, Self::unsigned);
        }
        self.option(ending.cost, |to, usd| to.signed(usd.nanos()));
        self.option(ending.prices.as_deref(), Self::text);
    }

    pub(super) fn adjustment(&mut self, adjustment: &Adjustment) {
        self.time(adjustment.at);
        self.text(&adjustment.who);
        self.unsigned(u64::try_from(adjustment.changes.len()).unwrap_or(u64::MAX));
        for change in &adjustment.changes {
            self.text(&change.counter.identity);
            self.text(&change.counter.values);
            self.byte(unit_number(change.counter.unit));
            self.time(change.cell);
            self.signed(change.spent);
            self.option(change.raise, |to, raise| {
                to.signed(raise.amount);
                to.option(raise.until, Self::time);
            });
        }
    }

    /// With the byte of its kind in front.
    pub(super) fn told(&mut self, kind: u8, told: &Told) {
        self.byte(kind);
        self.text(&told.counter.identity);
        self.text(&told.counter.values);
        self.byte(unit_number(told.counter.unit));
        self.time(told.window);
        self.byte(level_number(told.level));
        self.time(told.at);
    }

    pub(super) fn order(&mut self, order: &Order) {
        self.time(order.at);
        self.text(&order.who);
        self.text(&order.kill);
        self.option(order.ordered.as_ref(), |to, ordered| {
            to.text(&ordered.selector);
            to.option(ordered.until, Self::time);
            to.text(&ordered.reason);
        });
    }
}

pub(super) struct Decoder<'a>(pub(super) &'a [u8]);

impl<'a> Decoder<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    pub(super) fn unsigned(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            number |= bits.checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return (bits << shift >> shift == bits).then_some(number);
            }
        }
        None
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        let number = self.unsigned()?;
        Some((number >> 1).cast_signed() ^ -((number & 1).cast_signed()))
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.text_bytes()?).ok()
    }

    fn text_bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.unsigned()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(text)
    }

    /// Passes over a text; `None` if it is none. Most are short, of ASCII, and come by the thousand.
    fn skip_text(&mut self) -> Option<()> {
        let text = self.text_bytes()?;
        (text.is_ascii() || std::str::from_utf8(text).is_ok()).then_some(())
    }

    pub(super) fn time(&mut self) -> Option<Timestamp> {
        self.unsigned().map(Timestamp::from_nanos)
    }

    pub(super) fn hold(&mut self) -> Option<HoldId> {
        self.fixed().map(u64::from_le_bytes).map(HoldId)
    }

    /// The outer `None` is "not a record", the inner "not there".
    #[expect(clippy::option_option, reason = "`?` takes the outer one off at once")]
    pub(super) fn option<T>(
        &mut self,
        get: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.byte()? {
            0 => Some(None),
            1 => get(self).map(Some),
            _ => None,
        }
    }

    pub(super) fn call(&mut self) -> Option<Call> {
        let mut call = Call {
            request_id: RequestId::from_bytes(self.fixed()?),
            span_id: SpanId::from_bytes(self.fixed()?),
            trace_id: TraceId::from_bytes(self.fixed()?),
            parent_span_id: self.option(|from| from.fixed().map(SpanId::from_bytes))?,
            start: self.time()?,
            kind: *KINDS.get(usize::from(self.byte()?))?,
            operation: self.option(Self::text)?.map(Box::from),
            provider: Arc::from(self.text()?),
            model: self.option(Self::text)?.map(Arc::from),
            labels: Labels::default(),
        };
        loop {
            let Some(number) = self.byte()?.checked_sub(1) else {
                return Some(call);
            };
            let label = *Label::ALL.get(usize::from(number))?;
            let source = *SOURCES.get(usize::from(self.byte()?))?;
            call.labels.set(label, self.text()?, source);
        }
    }

    /// Passes over a call; gives its name. As [`Self::call`], it fails for what is no call.
    pub(super) fn skip_call(&mut self) -> Option<RequestId> {
        let request_id = RequestId::from_bytes(self.fixed()?);
        self.fixed::<{ 8 + 16 }>()?;
        self.option(Self::fixed::<8>)?;
        self.time()?;
        KINDS.get(usize::from(self.byte()?))?;
        self.option(Self::skip_text)?;
        self.skip_text()?;
        self.option(Self::skip_text)?;
        while let Some(number) = self.byte()?.checked_sub(1) {
            Label::ALL.get(usize::from(number))?;
            SOURCES.get(usize::from(self.byte()?))?;
            self.skip_text()?;
        }
        Some(request_id)
    }

    /// Passes over lines. As [`Self::lines`], it fails for what is none.
    pub(super) fn skip_lines(&mut self, with_seen: WithSeen) -> Option<()> {
        for _ in 0..self.unsigned()? {
            self.counter_bytes()?;
            self.time()?;
            self.signed()?;
            if with_seen == WithSeen::Yes {
                self.signed()?;
                self.signed()?;
                self.signed()?;
                VERDICTS.get(usize::from(self.byte()?))?;
            }
        }
        Some(())
    }

    /// The bytes of a counter's name.
    pub(super) fn counter_bytes(&mut self) -> Option<&'a [u8]> {
        let all = self.0;
        self.skip_text()?;
        self.skip_text()?;
        unit_numbered(self.byte()?)?;
        all.get(..all.len().checked_sub(self.0.len())?)
    }

    pub(super) fn counter(&mut self) -> Option<CounterName> {
        Some(CounterName {
            identity: Arc::from(self.text()?),
            values: Arc::from(self.text()?),
            unit: unit_numbered(self.byte()?)?,
        })
    }

    pub(super) fn many<T>(&mut self, get: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.unsigned()?;
        // Each takes a byte at least, so a false count ends at the end of the bytes.
        (0..count).map(|_| get(self)).collect()
    }

    pub(super) fn lines(&mut self, with_seen: WithSeen) -> Option<Vec<Post>> {
        self.many(|from| {
            Some(Post {
                counter: from.counter()?,
                cell: from.time()?,
                amount: from.signed()?,
                seen: match with_seen {
                    WithSeen::Yes => Some(Seen {
                        spent: from.signed()?,
                        reserved: from.signed()?,
                        limit: from.signed()?,
                        verdict: *VERDICTS.get(usize::from(from.byte()?))?,
                    }),
                    WithSeen::No => None,
                },
            })
        })
    }

    pub(super) fn ending(&mut self) -> Option<Ending> {
        Some(Ending {
            span_id: SpanId::from_bytes(self.fixed()?),
            status: *STATUSES.get(usize::from(self.byte()?))?,
            end: *ENDS.get(usize::from(self.byte()?))?,
            duration: Duration::from_micros(self.unsigned()?),
            http_status: match self.option(Self::unsigned)? {
                Some(status) => Some(u16::try_from(status).ok()?),
                None => None,
            },
            model: self.option(Self::text)?.map(Arc::from),
            usage: Usage {
                input: self.option(Self::unsigned)?,
                cache_read: self.option(Self::unsigned)?,
                cache_write: self.option(Self::unsigned)?,
                output: self.option(Self::unsigned)?,
                reasoning: self.option(Self::unsigned)?,
                ..Usage::NONE
            },
            cost: self.option(Self::signed)?.map(Usd::from_nanos),
            // Earlier versions did not say.
            prices: if self.0.is_empty() {
                None
            } else {
                self.option(Self::text)?.map(Box::from)
            },
        })
    }

    pub(super) fn adjustment(&mut self) -> Option<Adjustment> {
        Some(Adjustment {
            at: self.time()?,
            who: self.text()?.into(),
            changes: self.many(|from| {
                Some(Change {
                    counter: from.counter()?,
                    cell: from.time()?,
                    spent: from.signed()?,
                    raise: from.option(|from| {
                        Some(Raise {
                            amount: from.signed()?,
                            until: from.option(Self::time)?,
                        })
                    })?,
                })
            })?,
        })
    }

    pub(super) fn told(&mut self) -> Option<Told> {
        Some(Told {
            counter: self.counter()?,
            window: self.time()?,
            level: level_numbered(self.byte()?)?,
            at: self.time()?,
        })
    }

    pub(super) fn order(&mut self) -> Option<Order> {
        Some(Order {
            at: self.time()?,
            who: self.text()?.into(),
            kill: self.text()?.into(),
            ordered: self.option(|from| {
                Some(Ordered {
                    selector: from.text()?.into(),
                    until: from.option(Self::time)?,
                    reason: from.text()?.into(),
                })
            })?,
        })
    }
}

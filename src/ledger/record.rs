//! Entries as records, and back. A record is complete in itself.

use std::sync::Arc;

use super::{
    coding::{Decoder, Encoder, KNOWN, WithSeen, number_in},
    posting::Key,
};
use crate::{
    base::{
        clock::Timestamp,
        id::{RequestId, SpanId, TraceId},
        money::Usd,
    },
    call::{labels::Labels, outcome::Kind},
    policy::{Adjustment, Charge, Classes, CounterName, Ending, Entry, HoldId, Order, Seen, Told},
};

/// An entry, read back.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A call went ahead.
    Admitted {
        /// The call.
        call: Call,
        /// Its hold.
        hold: HoldId,
        /// When.
        at: Timestamp,
        /// What was reserved.
        lines: Vec<Post>,
    },
    /// A hold was increased.
    Grown {
        /// The call.
        request_id: RequestId,
        /// Its hold.
        hold: HoldId,
        /// By how much.
        lines: Vec<Post>,
    },
    /// A call was over.
    Settled {
        /// The call.
        request_id: RequestId,
        /// Its hold.
        hold: HoldId,
        /// When it was admitted.
        admitted: Timestamp,
        /// What it cost.
        charge: Charge,
        /// What was spent.
        lines: Vec<Post>,
        /// How it ended; `None`: it has no span that shows this charge, or was journalled by a
        /// version that did not say.
        ending: Option<Box<Ending>>,
    },
    /// A call was accepted, and its answer is fetched later.
    Awaited {
        /// The call.
        request_id: RequestId,
        /// Its hold.
        hold: HoldId,
        /// The provider's name.
        provider: Box<str>,
        /// The id under which the answer is fetched.
        response: Box<str>,
    },
    /// A response was billed that may be fetched again.
    Billed(u64),
    /// A call was refused.
    Refused {
        /// The call.
        call: Call,
        /// When.
        at: Timestamp,
        /// What refused it.
        by: Box<str>,
        /// What it asked for.
        lines: Vec<Post>,
    },
    /// Somebody changed a counter by hand.
    Adjusted(Adjustment),
    /// Somebody ordered that calls are stopped, or lifted such an order.
    Ordered(Order),
    /// A counter reached a threshold, and that was told.
    Crossed(Told),
}

/// A call, as far as it was journalled: enough for its span.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The call's name for the client.
    pub request_id: RequestId,
    /// The span that it was to become.
    pub span_id: SpanId,
    /// That span's trace.
    pub trace_id: TraceId,
    /// The span above it.
    pub parent_span_id: Option<SpanId>,
    /// When its head had arrived.
    pub start: Timestamp,
    /// The kind of its span.
    pub kind: Kind,
    /// `gen_ai.operation.name`.
    pub operation: Option<Box<str>>,
    /// The provider's name.
    pub provider: Arc<str>,
    /// The model asked for.
    pub model: Option<Arc<str>>,
    /// Who it was for; without tags.
    pub labels: Labels,
}

/// A call's part in one counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// The counter.
    pub counter: CounterName,
    /// The window, or cell of a rolling one.
    pub cell: Timestamp,
    /// How much.
    pub amount: i64,
    /// How the counter stood, where the record says so.
    pub seen: Option<Seen>,
}

const ADMITTED: u8 = 1;
const GROWN: u8 = 2;
const SETTLED: u8 = 3;
const REFUSED: u8 = 4;
const ADJUSTED: u8 = 5;
const AWAITED: u8 = 6;
const BILLED: u8 = 7;
const ORDERED: u8 = 8;
const CROSSED: u8 = 9;

/// Appends `entry` to `out`.
pub(super) fn encode(entry: &Entry<'_>, out: &mut Vec<u8>) {
    let mut to = Encoder(out);
    match entry {
        Entry::Admitted {
            subject,
            hold,
            at,
            lines,
        } => {
            to.byte(ADMITTED);
            to.subject(subject);
            to.fixed(&hold.0.to_le_bytes());
            to.time(*at);
            to.lines(*lines, WithSeen::Yes);
        },
        Entry::Grown {
            request_id,
            hold,
            lines,
        } => {
            to.byte(GROWN);
            to.fixed(&request_id.bytes());
            to.fixed(&hold.0.to_le_bytes());
            to.lines(*lines, WithSeen::No);
        },
        Entry::Settled {
            request_id,
            hold,
            admitted,
            charge,
            lines,
            ending,
        } => {
            to.byte(SETTLED);
            to.fixed(&request_id.bytes());
            to.fixed(&hold.0.to_le_bytes());
            to.time(*admitted);
            to.option(charge.usd, |to, usd| to.signed(usd.nanos()));
            to.option(charge.tokens, Encoder::unsigned);
            to.byte(number_in(&KNOWN, charge.source));
            to.lines(*lines, WithSeen::No);
            if let Some(ending) = ending {
                to.ending(ending);
            }
        },
        Entry::Awaited {
            request_id,
            hold,
            provider,
            response,
        } => {
            to.byte(AWAITED);
            to.fixed(&request_id.bytes());
            to.fixed(&hold.0.to_le_bytes());
            to.text(provider);
            to.text(response);
        },
        Entry::Billed(response) => {
            to.byte(BILLED);
            to.fixed(&response.to_le_bytes());
        },
        Entry::Refused {
            subject,
            at,
            by,
            lines,
        } => {
            to.byte(REFUSED);
            to.subject(subject);
            to.time(*at);
            to.text(by);
            to.lines(*lines, WithSeen::Yes);
        },
        Entry::Adjusted(adjustment) => {
            to.byte(ADJUSTED);
            to.adjustment(adjustment);
        },
        Entry::Ordered(order) => to.fixed(&ordered(order)),
        Entry::Crossed(told) => to.told(CROSSED, told),
    }
}

/// The record of an order.
pub(super) fn ordered(order: &Order) -> Vec<u8> {
    let mut bytes = vec![ORDERED];
    Encoder(&mut bytes).order(order);
    bytes
}

/// What moving a record into the books needs to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Glance<'a> {
    /// [`Record::Admitted`], and when.
    Admitted(Key, Timestamp),
    /// [`Record::Grown`].
    Grown(Key),
    /// [`Record::Settled`], when it was admitted, and its lines, to be read by [`posts`].
    Settled(Key, Timestamp, &'a [u8]),
    /// Any other: rare enough to be read whole.
    Other,
}

/// As [`decode`], for the records that every call leaves, without making a copy of their parts.
pub(super) fn glance(bytes: &[u8]) -> Option<Glance<'_>> {
    let mut from = Decoder(bytes);
    let seen = match from.byte()? {
        ADMITTED => {
            let request_id = from.skip_call()?;
            let (hold, at) = (from.hold()?, from.time()?);
            from.skip_lines(WithSeen::Yes)?;
            Glance::Admitted((request_id, hold), at)
        },
        GROWN => {
            let request_id = RequestId::from_bytes(from.fixed()?);
            let hold = from.hold()?;
            from.skip_lines(WithSeen::No)?;
            Glance::Grown((request_id, hold))
        },
        SETTLED => {
            let request_id = RequestId::from_bytes(from.fixed()?);
            let (hold, admitted) = (from.hold()?, from.time()?);
            from.option(Decoder::signed)?;
            from.option(Decoder::unsigned)?;
            KNOWN.get(usize::from(from.byte()?))?;
            let lines = from.0;
            from.skip_lines(WithSeen::No)?;
            if !from.0.is_empty() {
                from.ending()?;
            }
            Glance::Settled((request_id, hold), admitted, lines)
        },
        _ => return Some(Glance::Other),
    };
    from.0.is_empty().then_some(seen)
}

/// The lines of a settlement, each with its counter's name as bytes, the cell and the amount.
pub(super) fn posts(lines: &[u8]) -> impl Iterator<Item = (&[u8], Timestamp, i64)> {
    let mut from = Decoder(lines);
    let count = from.unsigned().unwrap_or(0);
    (0..count).map_while(move |_| Some((from.counter_bytes()?, from.time()?, from.signed()?)))
}

/// The counter of a name as bytes.
pub(super) fn counter(bytes: &[u8]) -> Option<CounterName> {
    Decoder(bytes).counter()
}

/// The record in `bytes`; `None` if they are not one.
pub(super) fn decode(bytes: &[u8]) -> Option<Record> {
    let mut from = Decoder(bytes);
    let record = match from.byte()? {
        ADMITTED => Record::Admitted {
            call: from.call()?,
            hold: from.hold()?,
            at: from.time()?,
            lines: from.lines(WithSeen::Yes)?,
        },
        GROWN => Record::Grown {
            request_id: RequestId::from_bytes(from.fixed()?),
            hold: from.hold()?,
            lines: from.lines(WithSeen::No)?,
        },
        SETTLED => Record::Settled {
            request_id: RequestId::from_bytes(from.fixed()?),
            hold: from.hold()?,
            admitted: from.time()?,
            charge: Charge {
                usd: from.option(Decoder::signed)?.map(Usd::from_nanos),
                tokens: from.option(Decoder::unsigned)?,
                source: *KNOWN.get(usize::from(from.byte()?))?,
                // What counters were charged is in the lines.
                input: None,
                output: None,
                classes: Classes::default(),
            },
            lines: from.lines(WithSeen::No)?,
            ending: if from.0.is_empty() {
                None
            } else {
                Some(Box::new(from.ending()?))
            },
        },
        AWAITED => Record::Awaited {
            request_id: RequestId::from_bytes(from.fixed()?),
            hold: from.hold()?,
            provider: from.text()?.into(),
            response: from.text()?.into(),
        },
        BILLED => Record::Billed(from.fixed().map(u64::from_le_bytes)?),
        REFUSED => Record::Refused {
            call: from.call()?,
            at: from.time()?,
            by: from.text()?.into(),
            lines: from.lines(WithSeen::Yes)?,
        },
        ADJUSTED => Record::Adjusted(from.adjustment()?),
        ORDERED => Record::Ordered(from.order()?),
        CROSSED => Record::Crossed(from.told()?),
        _ => return None,
    };
    from.0.is_empty().then_some(record)
}

//! What goes from the journal into the books: everything about one call once it is over, or one
//! change by hand. Its body is the journalled records themselves, so that the totals can be proved
//! from it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use ring::digest;

use super::{
    later::Parked,
    orders,
    record::{self, Call, Glance, Post, Record},
    segment,
};
use crate::{
    base::{clock::Timestamp, id::RequestId},
    policy::{Adjustment, CounterName, HoldId, Raise, Told},
};

/// What tells postings apart.
pub(super) type Key = (RequestId, HoldId);

/// So much spent in one cell of one counter.
pub(super) type Total = (CounterName, Timestamp, i64);

/// One entry of the books.
#[derive(Clone, Debug)]
pub(super) struct Posting {
    pub(super) key: Key,
    /// When the call was admitted or refused, or the change was made.
    pub(super) at: Timestamp,
    /// The records, as frames.
    pub(super) body: Vec<u8>,
    /// What was spent.
    pub(super) totals: Vec<Total>,
    pub(super) raises: Vec<(CounterName, Timestamp, Raise)>,
}

/// What comes of records, for the books.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// A call is over, or was refused, or something was changed by hand.
    Over(Posting),
    /// The answer of a call is to be fetched later.
    Parked(Parked),
    /// A response was billed.
    Billed(u64),
    /// A threshold was told of.
    Told(Told),
}

/// A call that was admitted and is not over, as far as the journal says.
#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    pub(super) at: Timestamp,
    /// Its records, as frames.
    pub(super) body: Vec<u8>,
    /// The segments that its records are in.
    pub(super) segments: Vec<u64>,
}

/// Reads records one after the other, and says what is over.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) open: HashMap<Key, Open>,
    /// Frames that were whole but hold no record that we know.
    pub(super) unknown: u64,
    /// Counters by their names as bytes: they recur, and a copy of a name costs more than all else.
    names: HashMap<Box<[u8]>, CounterName>,
}

/// The most names that are remembered; beyond, all are forgotten.
const MAX_NAMES: usize = 10_000;

impl Reader {
    /// Takes the next record, from segment `number`. Returns what comes of it for the books.
    pub(super) fn take(&mut self, payload: &[u8], number: u64) -> Option<Item> {
        match record::glance(payload) {
            None => {
                self.unknown += 1;
                None
            },
            Some(Glance::Admitted(key, at)) => {
                self.noted(key, payload, number).at = at;
                None
            },
            Some(Glance::Grown(key)) => {
                self.noted(key, payload, number);
                None
            },
            Some(Glance::Settled(key, admitted, lines)) => {
                let mut open = self.open.remove(&key).unwrap_or_default();
                append(&mut open.body, payload);
                Some(Item::Over(Posting {
                    key,
                    at: admitted,
                    body: open.body,
                    totals: self.totals(lines),
                    raises: Vec::new(),
                }))
            },
            Some(Glance::Other) => self.take_rare(payload),
        }
    }

    fn take_rare(&mut self, payload: &[u8]) -> Option<Item> {
        let Some(record) = record::decode(payload) else {
            self.unknown += 1;
            return None;
        };
        match record {
            // Taken at a glance.
            Record::Admitted { .. } | Record::Grown { .. } | Record::Settled { .. } => None,
            Record::Awaited {
                request_id,
                hold,
                provider,
                response,
            } => {
                let key = (request_id, hold);
                let mut open = self.open.remove(&key).unwrap_or_default();
                append(&mut open.body, payload);
                Some(Item::Parked(Parked {
                    key,
                    at: open.at,
                    provider,
                    response,
                    body: open.body,
                }))
            },
            Record::Billed(response) => Some(Item::Billed(response)),
            Record::Crossed(told) => Some(Item::Told(told)),
            Record::Refused { call, at, .. } => {
                let posting = Posting {
                    key: (call.request_id, REFUSAL),
                    at,
                    body: framed(payload),
                    totals: Vec::new(),
                    raises: Vec::new(),
                };
                Some(Item::Over(posting))
            },
            Record::Adjusted(adjustment) => Some(Item::Over(adjusted(&adjustment, payload))),
            Record::Ordered(order) => Some(Item::Over(Posting {
                key: orders::key(payload),
                at: order.at,
                body: framed(payload),
                totals: Vec::new(),
                raises: Vec::new(),
            })),
        }
    }

    /// What a settlement's lines say. One counter may stand in several: they are added in the end.
    fn totals(&mut self, lines: &[u8]) -> Vec<Total> {
        let mut totals = Vec::with_capacity(4);
        for (name, cell, amount) in record::posts(lines) {
            let Some(counter) = self.counter(name) else {
                continue;
            };
            totals.push((counter, cell, amount));
        }
        totals
    }

    /// The counter of a name as bytes.
    fn counter(&mut self, name: &[u8]) -> Option<CounterName> {
        if let Some(known) = self.names.get(name) {
            return Some(known.clone());
        }
        let counter = record::counter(name)?;
        if self.names.len() >= MAX_NAMES {
            self.names.clear();
        }
        self.names.insert(Box::from(name), counter.clone());
        Some(counter)
    }

    fn noted(&mut self, key: Key, payload: &[u8], number: u64) -> &mut Open {
        let open = self.open.entry(key).or_default();
        append(&mut open.body, payload);
        if !open.segments.contains(&number) {
            open.segments.push(number);
        }
        open
    }
}

impl Open {
    /// The call, if its admission is among the records.
    pub(super) fn call(&self) -> Option<Call> {
        let records = records_in(&self.body).unwrap_or_default();
        records.into_iter().find_map(|record| match record {
            Record::Admitted { call, .. } => Some(call),
            _ => None,
        })
    }

    /// What it holds.
    pub(super) fn held(&self) -> Vec<Post> {
        let records = records_in(&self.body).unwrap_or_default();
        let lines = records.into_iter().map(|record| match record {
            Record::Admitted { lines, .. } | Record::Grown { lines, .. } => lines,
            _ => Vec::new(),
        });
        lines.flatten().collect()
    }

    /// The posting of a call whose end will never be known: it is charged all that it held.
    pub(super) fn at_ceiling(&self, key: Key) -> Posting {
        Posting {
            key,
            at: self.at,
            body: self.body.clone(),
            totals: totals(&self.held()),
            raises: Vec::new(),
        }
    }
}

impl Posting {
    /// Its body, after what was taken in of its call before: only its last record is new then.
    pub(super) fn body_after(&self, before: Option<Vec<u8>>) -> Cow<'_, [u8]> {
        let Some(mut body) = before else {
            return Cow::Borrowed(&self.body);
        };
        if let Some(last) = segment::Frames::of(&self.body).last() {
            append(&mut body, last);
        }
        Cow::Owned(body)
    }

    /// What was spent according to an entry's body; `None` if it cannot be read.
    pub(super) fn totals_in(body: &[u8]) -> Option<Vec<Total>> {
        let records = records_in(body)?;
        let mut held = Vec::new();
        for record in records {
            match record {
                Record::Admitted { lines, .. } | Record::Grown { lines, .. } => held.extend(lines),
                Record::Settled { lines, .. } => return Some(totals(&lines)),
                Record::Refused { .. } | Record::Ordered(_) => return Some(Vec::new()),
                Record::Adjusted(adjustment) => return Some(changed(&adjustment)),
                Record::Awaited { .. } | Record::Billed(_) | Record::Crossed(_) => {},
            }
        }
        Some(totals(&held))
    }
}

/// The records in an entry's body; `None` if it is damaged.
pub(super) fn records_in(body: &[u8]) -> Option<Vec<Record>> {
    let mut frames = segment::Frames::of(body);
    let records: Option<Vec<_>> = frames.by_ref().map(record::decode).collect();
    records.filter(|_| frames.damaged == 0)
}

/// Stands in for the hold of a call that got none.
const REFUSAL: HoldId = HoldId(0);

fn append(body: &mut Vec<u8>, payload: &[u8]) {
    // It was in a frame, so it is not too long for one.
    let _framed = segment::frame(body, |out| out.extend_from_slice(payload));
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    append(&mut body, payload);
    body
}

fn totals(lines: &[Post]) -> Vec<Total> {
    let mut sums: BTreeMap<(&CounterName, Timestamp), i64> = BTreeMap::new();
    for line in lines {
        let sum = sums.entry((&line.counter, line.cell)).or_default();
        *sum = sum.saturating_add(line.amount);
    }
    let sums = sums.into_iter();
    sums.map(|((counter, cell), sum)| (counter.clone(), cell, sum))
        .collect()
}

/// A change by hand is its own name.
fn adjusted(adjustment: &Adjustment, payload: &[u8]) -> Posting {
    let name = digest::digest(&digest::SHA256, payload);
    let mut id = [0; 16];
    for (place, byte) in id.iter_mut().zip(name.as_ref()) {
        *place = *byte;
    }
    let raises = adjustment.changes.iter().filter_map(|change| {
        let raise = change.raise?;
        Some((change.counter.clone(), change.cell, raise))
    });
    Posting {
        key: (RequestId::from_bytes(id), REFUSAL),
        at: adjustment.at,
        body: framed(payload),
        totals: changed(adjustment),
        raises: raises.collect(),
    }
}

fn changed(adjustment: &Adjustment) -> Vec<Total> {
    let changes = adjustment.changes.iter();
    changes
        .map(|change| (change.counter.clone(), change.cell, change.spent))
        .collect()
}

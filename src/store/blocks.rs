//! Summaries of runs of rows: when their spans began, and a Bloom filter of their ids. They stand in
//! for indexes: a look-up reads only the runs that may hold what it asks for, and they cost a few
//! bytes and nanoseconds a row, whatever ids clients choose.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    base::{clock::Timestamp, id::TraceId},
    call::span::Span,
};

/// Rows of one block.
pub(super) const ROWS: usize = 4_096;

/// Bits of a filter: 10 for each of the two ids of a row, so that about one block in a hundred is
/// read in vain.
const BITS: usize = 2 * 10 * ROWS;

/// Bits that are set for an id.
const PROBES: u64 = 5;

/// The open block: the rows since the last one that was sealed.
#[derive(Debug)]
pub(super) struct Block {
    first: Option<i64>,
    last: i64,
    rows: usize,
    earliest: u64,
    latest: u64,
    ids: Filter,
}

impl Default for Block {
    fn default() -> Self {
        Self {
            first: None,
            last: 0,
            rows: 0,
            earliest: u64::MAX,
            latest: 0,
            ids: Filter::empty(),
        }
    }
}

impl Block {
    /// The open block of a store: what the rows behind the last sealed block hold.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut block = Self::default();
        let mut rows = connection.prepare(
            "SELECT id, start, trace_id, request_id FROM spans
             WHERE id > (SELECT coalesce(max(last), 0) FROM blocks) ORDER BY id",
        )?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let (trace, request): ([u8; 16], [u8; 16]) = (row.get(2)?, row.get(3)?);
            block.add(row.get(0)?, row.get::<_, i64>(1)?, [trace, request]);
        }
        Ok(block)
    }

    /// Adds the row of a span.
    pub(super) fn add_span(&mut self, id: i64, span: &Span) {
        let ids = [span.trace_id.bytes(), span.request_id.bytes()];
        self.add(id, micros(span.start), ids);
    }

    fn add(&mut self, id: i64, start: i64, ids: [[u8; 16]; 2]) {
        let start = u64::try_from(start).unwrap_or(0);
        self.first.get_or_insert(id);
        self.last = id;
        self.rows += 1;
        self.earliest = self.earliest.min(start);
        self.latest = self.latest.max(start);
        for id in ids {
            self.ids.insert(id);
        }
    }

    /// Notes that a row has come to another trace.
    pub(super) fn also_holds(
        &mut self,
        row: i64,
        trace: TraceId,
        connection: &Connection,
    ) -> rusqlite::Result<()> {
        if self.first.is_some_and(|first| first <= row) {
            self.ids.insert(trace.bytes());
            return Ok(());
        }
        let ids = connection
            .prepare_cached("SELECT ids FROM blocks WHERE ? BETWEEN first AND last")?
            .query_row([row], |found| found.get::<_, Vec<u8>>(0))
            .optional()?;
        let Some(ids) = ids else {
            return Ok(());
        };
        let mut ids = Filter(ids.into_boxed_slice());
        ids.insert(trace.bytes());
        connection
            .prepare_cached("UPDATE blocks SET ids = ? WHERE ? BETWEEN first AND last")?
            .execute(params![ids.0, row])?;
        Ok(())
    }

    /// Writes the block and begins another, if it is full.
    pub(super) fn seal_if_full(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let Some(first) = self.first.filter(|_| self.rows >= ROWS) else {
            return Ok(());
        };
        connection
            .prepare_cached("INSERT INTO blocks VALUES (?, ?, ?, ?, ?)")?
            .execute(params![
                first,
                self.last,
                i64::try_from(self.earliest).unwrap_or(i64::MAX),
                i64::try_from(self.latest).unwrap_or(i64::MAX),
                self.ids.0,
            ])?;
        *self = Self::default();
        Ok(())
    }
}

/// The runs of rows that may hold an id, the oldest first; the open end of the table is the last.
pub(super) fn holding(connection: &Connection, id: [u8; 16]) -> rusqlite::Result<Vec<(i64, i64)>> {
    let mut runs = Vec::new();
    let mut end = 0;
    let mut blocks = connection.prepare("SELECT first, last, ids FROM blocks ORDER BY first")?;
    let mut blocks = blocks.query([])?;
    while let Some(block) = blocks.next()? {
        end = block.get(1)?;
        if contains(block.get_ref(2)?.as_blob()?, id) {
            runs.push((block.get(0)?, end));
        }
    }
    runs.push((end + 1, i64::MAX));
    Ok(runs)
}

/// The first row that can have begun at `since` or later.
pub(super) fn first_since(connection: &Connection, since: Timestamp) -> rusqlite::Result<i64> {
    connection.query_row(
        "SELECT coalesce(
            (SELECT min(first) FROM blocks WHERE latest >= ?1),
            (SELECT max(last) + 1 FROM blocks),
            0)",
        [micros(since)],
        |row| row.get(0),
    )
}

/// A time as it stands in the tables.
pub(super) fn micros(at: Timestamp) -> i64 {
    i64::try_from(at.as_micros()).unwrap_or(i64::MAX)
}

/// A Bloom filter.
#[derive(Debug)]
struct Filter(Box<[u8]>);

impl Filter {
    fn empty() -> Self {
        Self(vec![0; BITS / 8].into_boxed_slice())
    }

    fn insert(&mut self, id: [u8; 16]) {
        for (byte, bit) in places(id, self.0.len()) {
            if let Some(byte) = self.0.get_mut(byte) {
                *byte |= bit;
            }
        }
    }
}

/// Whether a filter may hold `id`; never false if it does.
fn contains(filter: &[u8], id: [u8; 16]) -> bool {
    places(id, filter.len()).all(|(byte, bit)| filter.get(byte).is_some_and(|have| have & bit != 0))
}

/// The byte and the bit of each probe.
fn places(id: [u8; 16], bytes: usize) -> impl Iterator<Item = (usize, u8)> {
    let [high, low] = halves(id).map(mixed);
    // Odd, so that the probes of one id differ.
    let (start, step) = (high ^ low.rotate_left(32), low | 1);
    let bits = u64::try_from(bytes).unwrap_or(0).saturating_mul(8).max(1);
    (0..PROBES).map(move |probe| {
        let place = start.wrapping_add(probe.wrapping_mul(step)) % bits;
        let byte = usize::try_from(place / 8).unwrap_or(0);
        (byte, 1 << (place % 8))
    })
}

fn halves(id: [u8; 16]) -> [u64; 2] {
    let id = u128::from_be_bytes(id);
    [id >> 64, id].map(|half| u64::try_from(half & u128::from(u64::MAX)).unwrap_or(0))
}

/// Spreads the bits of ids that differ in few places only (the finalizer of `SplitMix64`).
const fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_filter_knows_all_its_ids_and_few_others() {
        // Counting ids: the worst that clients do.
        let id = |n: usize| u128::try_from(n).unwrap().to_be_bytes();
        let mut filter = Filter::empty();
        (0..2 * ROWS).for_each(|n| filter.insert(id(n)));
        assert!((0..2 * ROWS).all(|n| contains(&filter.0, id(n))));
        let wrong = (1_000_000..1_010_000)
            .filter(|n| contains(&filter.0, id(*n)))
            .count();
        assert!(wrong < 300, "{wrong} of 10,000 were found in vain");
    }
}

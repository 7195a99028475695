//! Proves the books: the hash chain from the entries, and every total from them.

use std::collections::HashMap;

use ring::digest;
use rusqlite::{Connection, Row};

use super::{
    books::{BooksError, Hash, Verified, counter_name, time, timestamp},
    posting::{Key, Posting},
};
use crate::{
    base::{clock::Timestamp, id::RequestId},
    policy::{CounterName, HoldId},
};

/// Proves the books that `db` shows, which must be one state throughout. Batches rise as entries do,
/// so that each table is read once.
pub(super) fn verify(db: &Connection) -> Result<Verified, BooksError> {
    let mut verified = Verified {
        entries: 0,
        batches: 0,
        head: anchor(db)?,
    };
    let mut sums: HashMap<(CounterName, i64), i64> = HashMap::new();
    let mut entries =
        db.prepare("SELECT batch, seq, request, hold, at, body FROM entries ORDER BY seq")?;
    let mut entries = entries.query_map((), entry)?.peekable();
    let mut batches = db.prepare("SELECT batch, hash FROM batches ORDER BY batch")?;
    let mut batches = batches.query(())?;
    while let Some(row) = batches.next()? {
        let (batch, hash): (i64, Hash) = (row.get(0)?, row.get(1)?);
        // One that cannot be read is taken, and ends the proof.
        let is_its = move |entry: &rusqlite::Result<Entry>| {
            entry.as_ref().map_or(true, |entry| entry.batch == batch)
        };
        let is_empty = entries.peek().is_none_or(|entry| !is_its(entry));
        if is_empty && is_anchor(db, batch)? {
            continue;
        }
        let mut chained = chain(&verified.head);
        while let Some(entry) = entries.next_if(is_its) {
            let entry = entry?;
            link(&mut chained, entry.key, entry.at, &entry.body);
            let totals = Posting::totals_in(&entry.body).ok_or(BooksError::Entry(entry.seq))?;
            for (counter, cell, amount) in totals {
                let sum = sums.entry((counter, time(cell))).or_default();
                *sum = sum.saturating_add(amount);
            }
            verified.entries += 1;
        }
        for (place, byte) in verified.head.iter_mut().zip(chained.finish().as_ref()) {
            *place = *byte;
        }
        verified.batches += 1;
        if verified.head != hash {
            return Err(BooksError::Chain(batch));
        }
    }
    if let Some(entry) = entries.next() {
        // It is in no batch, or not in its place.
        return Err(BooksError::Chain(entry?.batch));
    }
    compare(db, sums)?;
    Ok(verified)
}

/// An entry, as the chain has it.
struct Entry {
    batch: i64,
    seq: i64,
    key: Key,
    at: Timestamp,
    body: Vec<u8>,
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let (hold, at): (i64, i64) = (row.get(3)?, row.get(4)?);
    let request = RequestId::from_bytes(row.get(2)?);
    Ok(Entry {
        batch: row.get(0)?,
        seq: row.get(1)?,
        key: (request, HoldId(hold.cast_unsigned())),
        at: timestamp(at),
        body: row.get(5)?,
    })
}

/// A hash that goes on from `before`.
pub(super) fn chain(before: &Hash) -> digest::Context {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(before);
    hash
}

/// Adds an entry to a batch's hash.
pub(super) fn link(hash: &mut digest::Context, key: Key, at: Timestamp, body: &[u8]) {
    let (request, hold) = key;
    hash.update(&request.bytes());
    hash.update(&hold.0.to_le_bytes());
    hash.update(&at.as_nanos().to_le_bytes());
    hash.update(&u64::try_from(body.len()).unwrap_or(u64::MAX).to_le_bytes());
    hash.update(body);
}

fn anchor(db: &Connection) -> Result<Hash, BooksError> {
    use rusqlite::OptionalExtension as _;
    let hash = db.query_row("SELECT hash FROM anchor", (), |row| row.get(0));
    Ok(hash.optional()?.unwrap_or([0; 32]))
}

/// Whether the batch is only there for its number and its hash.
fn is_anchor(db: &Connection, batch: i64) -> Result<bool, BooksError> {
    let mut anchored =
        db.prepare_cached("SELECT 1 FROM anchor JOIN batches USING (hash) WHERE batch = ?")?;
    Ok(anchored.exists((batch,))?)
}

/// Every total is its opening and its entries, and there is none beside.
fn compare(db: &Connection, mut sums: HashMap<(CounterName, i64), i64>) -> Result<(), BooksError> {
    let mut totals = db.prepare(
        "SELECT id, identity, vals, unit, cell, spent, opening FROM totals
         JOIN counters ON counter = id",
    )?;
    let mut rows = totals.query(())?;
    let wrong = |counter: &CounterName, cell: i64, total: i64, sum: i64| BooksError::Total {
        counter: format!(
            "{} {} {} from {}",
            counter.identity,
            counter.values,
            counter.unit.name(),
            timestamp(cell)
        ),
        total,
        sum,
    };
    while let Some(row) = rows.next()? {
        let Some(counter) = counter_name(row)? else {
            continue;
        };
        let (cell, spent, opening): (i64, i64, i64) = (row.get(4)?, row.get(5)?, row.get(6)?);
        let key = (counter, cell);
        let sum = sums.remove(&key).unwrap_or(0).saturating_add(opening);
        if sum != spent {
            return Err(wrong(&key.0, cell, spent, sum));
        }
    }
    match sums.into_iter().find(|(_, sum)| *sum != 0) {
        Some(((counter, cell), sum)) => Err(wrong(&counter, cell, 0, sum)),
        None => Ok(()),
    }
}

//! Responses that are fetched later, as the books have them: what calls hold until theirs is, and
//! which were billed and may be fetched again.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    books::{BooksError, time, timestamp},
    posting::{Key, Posting},
};
use crate::{
    base::{clock::Timestamp, id::RequestId},
    policy::{Held, HoldId},
};

pub(super) const SCHEMA: &str = "
-- The records so far, as frames, of calls that are not over.
CREATE TABLE IF NOT EXISTS awaited(
    request BLOB NOT NULL, hold INTEGER NOT NULL, at INTEGER NOT NULL,
    provider TEXT NOT NULL, response TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY(request, hold)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS billed(
    seq INTEGER PRIMARY KEY, response INTEGER NOT NULL UNIQUE);
";

/// Responses that are known to be billed; the oldest are forgotten first.
pub const MAX_BILLED: usize = 100_000;

/// A call that was accepted, and whose answer is to be fetched.
#[derive(Clone, Debug)]
pub(super) struct Parked {
    pub(super) key: Key,
    /// When it was admitted.
    pub(super) at: Timestamp,
    pub(super) provider: Box<str>,
    /// The id under which the answer is fetched.
    pub(super) response: Box<str>,
    /// Its records, as frames.
    pub(super) body: Vec<u8>,
}

/// A call of an earlier run whose answer is to be fetched: it goes on holding what it held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// The provider's name.
    pub provider: Box<str>,
    /// The id under which the answer is fetched.
    pub response: Box<str>,
    /// What the call holds.
    pub held: Held,
}

impl Parked {
    /// For holding it again; `None` if its records cannot be read.
    pub(super) fn awaited(self) -> Option<Awaited> {
        Some(Awaited {
            provider: self.provider,
            response: self.response,
            held: Held {
                request_id: self.key.0,
                hold: self.key.1,
                admitted: self.at,
                parts: Posting::totals_in(&self.body)?,
            },
        })
    }
}

/// Takes a call in, unless it is there or is over by now.
pub(super) fn park(db: &Connection, call: &Parked) -> Result<(), BooksError> {
    let (request, hold) = call.key;
    db.prepare_cached(
        "INSERT OR IGNORE INTO awaited SELECT ?1, ?2, ?3, ?4, ?5, ?6
         WHERE NOT EXISTS (SELECT 1 FROM entries WHERE request = ?1 AND hold = ?2)",
    )?
    .execute(params![
        request.bytes(),
        hold.0.cast_signed(),
        time(call.at),
        call.provider,
        call.response,
        call.body
    ])?;
    Ok(())
}

/// Whether any call is awaited.
pub(super) fn any(db: &Connection) -> Result<bool, BooksError> {
    let any = "SELECT EXISTS(SELECT 1 FROM awaited)";
    Ok(db.prepare_cached(any)?.query_row((), |row| row.get(0))?)
}

/// Takes a call out that is over now: its records, if it was there.
pub(super) fn leave(db: &Connection, key: Key) -> Result<Option<Vec<u8>>, BooksError> {
    let mut leave =
        db.prepare_cached("DELETE FROM awaited WHERE request = ? AND hold = ? RETURNING body")?;
    let key = params![key.0.bytes(), key.1.0.cast_signed()];
    Ok(leave.query_row(key, |row| row.get(0)).optional()?)
}

/// Every call that is awaited, the oldest first.
pub(super) fn parked(db: &Connection) -> Result<Vec<Parked>, BooksError> {
    let mut all = db.prepare_cached(
        "SELECT request, hold, at, provider, response, body FROM awaited ORDER BY at",
    )?;
    let found = all.query_map((), |row: &Row<'_>| {
        let hold: i64 = row.get(1)?;
        Ok(Parked {
            key: (
                RequestId::from_bytes(row.get(0)?),
                HoldId(hold.cast_unsigned()),
            ),
            at: timestamp(row.get(2)?),
            provider: row.get(3)?,
            response: row.get(4)?,
            body: row.get(5)?,
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Remembers that a response was billed.
pub(super) fn bill(db: &Connection, response: u64) -> Result<(), BooksError> {
    db.prepare_cached("INSERT OR IGNORE INTO billed(response) VALUES (?)")?
        .execute((response.cast_signed(),))?;
    db.prepare_cached("DELETE FROM billed WHERE seq <= (SELECT max(seq) FROM billed) - ?")?
        .execute((i64::try_from(MAX_BILLED).unwrap_or(i64::MAX),))?;
    Ok(())
}

/// The responses that were billed, the oldest first.
pub(super) fn billed(db: &Connection) -> Result<Vec<u64>, BooksError> {
    let mut all = db.prepare_cached("SELECT response FROM billed ORDER BY seq")?;
    let found = all.query_map((), |row| row.get::<_, i64>(0).map(i64::cast_unsigned))?;
    Ok(found.collect::<Result<_, _>>()?)
}

//! Which thresholds were told of, in the books: of each counter the last one of each window. They are
//! no entries, since they change no total.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    books::{BooksError, counter_id, time, timestamp},
    coding::{level_number, level_numbered},
};
use crate::{
    base::clock::Timestamp,
    policy::{Level, Told},
};

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS told(
    counter INTEGER NOT NULL, window INTEGER NOT NULL, level INTEGER NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY(counter, window)) WITHOUT ROWID;
";

/// Takes in that a threshold was told of; the latest one stays, however often and in what order they
/// are brought. No two of a counter have the same time.
pub(super) fn take(db: &Connection, told: &Told) -> Result<(), BooksError> {
    let id = counter_id(db, &told.counter)?;
    let level = level_number(told.level);
    db.prepare_cached(
        "INSERT INTO told VALUES (?, ?, ?, ?) ON CONFLICT(counter, window) DO UPDATE
         SET level = excluded.level, at = excluded.at WHERE excluded.at > told.at",
    )?
    .execute(params![id, time(told.window), level, time(told.at)])?;
    Ok(())
}

/// What was told of last of a counter, in the calendar window that begins at `window`, or in one
/// without a name: no counter has both.
pub(super) fn recall(
    db: &Connection,
    id: i64,
    window: Timestamp,
) -> Result<Option<(Level, Timestamp)>, BooksError> {
    let found = db
        .prepare_cached("SELECT level, at FROM told WHERE counter = ? AND window IN (0, ?)")?
        .query_row(params![id, time(window)], |row| {
            Ok((row.get::<_, u8>(0)?, timestamp(row.get(1)?)))
        })
        .optional()?;
    Ok(found.and_then(|(level, at)| Some((level_numbered(level)?, at))))
}

/// The longest calendar window.
const LONGEST: Duration = Duration::from_hours(24 * 32);

/// Forgets those of calendar windows that were told of before `oldest` and are over.
pub(super) fn prune(db: &Connection, oldest: Timestamp) -> Result<(), BooksError> {
    let oldest = oldest - LONGEST;
    db.execute(
        "DELETE FROM told WHERE window > 0 AND at < ?",
        (time(oldest),),
    )?;
    Ok(())
}

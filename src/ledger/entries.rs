//! The entries of the books, one after the other.

use rusqlite::params;

use super::books::{Books, BooksError, time, timestamp};
use crate::base::clock::Timestamp;

impl Books {
    /// Shows `more` the time and body of every entry from `since` on and before `until`, in the order
    /// in which they were entered, as long as it says so; whether it did to the end.
    pub(super) fn entries(
        &self,
        since: Timestamp,
        until: Timestamp,
        mut more: impl FnMut(Timestamp, &[u8]) -> bool,
    ) -> Result<bool, BooksError> {
        let mut found = self
            .db
            .prepare("SELECT at, body FROM entries WHERE at >= ? AND at < ? ORDER BY seq")?;
        let mut rows = found.query(params![time(since), time(until)])?;
        while let Some(row) = rows.next()? {
            let body = row.get_ref(1)?.as_blob().unwrap_or_default();
            if !more(timestamp(row.get(0)?), body) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

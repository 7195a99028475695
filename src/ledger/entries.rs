//! The entries of the books, one after the other.

use rusqlite::params;

use super::{
    books::{Books, BooksError, time, timestamp},
    posting::records_in,
    record::Record,
};
use crate::base::clock::Timestamp;

impl Books {
    /// Shows `more` the time and records of every entry from `since` on and before `until`, in the
    /// order in which they were entered, as long as it says so; whether it did to the end.
    ///
    /// # Errors
    /// Also where an entry cannot be read: without it amounts would not add up.
    pub(super) fn entries(
        &self,
        since: Timestamp,
        until: Timestamp,
        mut more: impl FnMut(Timestamp, Vec<Record>) -> bool,
    ) -> Result<bool, BooksError> {
        let mut found = self
            .db
            .prepare("SELECT seq, at, body FROM entries WHERE at >= ? AND at < ? ORDER BY seq")?;
        let mut rows = found.query(params![time(since), time(until)])?;
        while let Some(row) = rows.next()? {
            let body = row.get_ref(2)?.as_blob().unwrap_or_default();
            let records = records_in(body).ok_or(BooksError::Entry(row.get(0)?))?;
            if !more(timestamp(row.get(1)?), records) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

//! The entries of the books, one after the other.

use rusqlite::{OptionalExtension as _, params};

use super::{
    books::{Books, BooksError, time, timestamp},
    posting::records_in,
    record::Record,
};
use crate::{
    base::{clock::Timestamp, id::RequestId},
    policy::HoldId,
};

impl Books {
    /// Whether the call's end is in the books, and as what body.
    pub(super) fn body(
        &self,
        request: RequestId,
        hold: HoldId,
    ) -> Result<Option<Vec<u8>>, BooksError> {
        let mut find = self
            .db
            .prepare_cached("SELECT body FROM entries WHERE request = ? AND hold = ?")?;
        let key = params![request.bytes(), hold.0.cast_signed()];
        Ok(find.query_row(key, |row| row.get(0)).optional()?)
    }

    /// The bodies of all entries of one call.
    pub(super) fn bodies(&self, request: RequestId) -> Result<Vec<Vec<u8>>, BooksError> {
        let mut find = self
            .db
            .prepare_cached("SELECT body FROM entries WHERE request = ? ORDER BY seq")?;
        let found = find.query_map(params![request.bytes()], |row| row.get(0))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

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

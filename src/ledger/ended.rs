//! The calls that ended in the last run, for comparing with the spans that were kept of them: a
//! process that is killed takes the spans with it that were on their way to the store.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    books::BooksError,
    posting::records_in,
    record::{Call, Record},
};
use crate::policy::{Charge, Ending};

pub(super) const SCHEMA: &str = "
-- The last batch of whose calls the spans are known to be kept.
CREATE TABLE IF NOT EXISTS compared(id INTEGER PRIMARY KEY CHECK(id = 0), batch INTEGER NOT NULL);
";

/// The most calls that are told of a run: a start must not take long.
const MOST: i64 = 100_000;

/// A call that settled, as far as it was journalled: enough for its span.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// The call.
    pub call: Call,
    /// What it was charged.
    pub charge: Charge,
    /// How it ended.
    pub ending: Ending,
}

/// Calls that ended since the last comparison, the last one first, as long as `more` says so; the
/// last 100,000 at most.
pub(super) fn visit(
    db: &Connection,
    mut more: impl FnMut(Ended) -> bool,
) -> Result<(), BooksError> {
    let since = db.query_row("SELECT batch FROM compared", (), |row| row.get::<_, i64>(0));
    let since = since.optional()?.unwrap_or(0);
    // Batches rise as entries do, and have no index: the first one from before is the end.
    let mut found = db.prepare("SELECT batch, body FROM entries ORDER BY seq DESC LIMIT ?")?;
    let mut rows = found.query(params![MOST])?;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(0)? <= since {
            break;
        }
        if let Some(ended) = ended(row.get_ref(1)?.as_blob().unwrap_or_default())
            && !more(ended)
        {
            break;
        }
    }
    Ok(())
}

/// From now on only the calls after batch `batch` are to be compared.
pub(super) fn compared(db: &Connection, batch: i64) -> Result<(), BooksError> {
    db.execute(
        "INSERT OR REPLACE INTO compared VALUES (0, ?)",
        params![batch],
    )?;
    Ok(())
}

fn ended(body: &[u8]) -> Option<Ended> {
    let mut records = records_in(body)?;
    let last = records.pop()?;
    let call = records.into_iter().find_map(|record| match record {
        Record::Admitted { call, .. } => Some(call),
        _ => None,
    })?;
    match last {
        Record::Settled {
            charge,
            ending: Some(ending),
            ..
        } => Some(Ended {
            call,
            charge,
            ending: *ending,
        }),
        _ => None,
    }
}

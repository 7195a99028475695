//! The books: what was settled, in SQLite. Entries as they were journalled, each counter's totals,
//! and a hash chain over the batches in which entries came. A posting is taken once, however often
//! it is brought.

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rusqlite::{
    Connection, OpenFlags, OptionalExtension as _, Row, Statement, Transaction, params,
};

use super::{
    coding::{unit_number, unit_numbered},
    ended::{self, Ended},
    known::Known,
    later::{self, Parked},
    orders,
    posting::{Item, Posting},
    told,
    verify::{chain, link},
};
use crate::{
    base::clock::Timestamp,
    policy::{CounterName, Raise, Recalled, Standing},
};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS entries(
    seq INTEGER PRIMARY KEY, batch INTEGER NOT NULL,
    request BLOB NOT NULL, hold INTEGER NOT NULL, at INTEGER NOT NULL, body BLOB NOT NULL,
    UNIQUE(request, hold));
CREATE TABLE IF NOT EXISTS counters(
    id INTEGER PRIMARY KEY, identity TEXT NOT NULL, vals TEXT NOT NULL, unit INTEGER NOT NULL,
    UNIQUE(identity, vals, unit));
CREATE TABLE IF NOT EXISTS totals(
    counter INTEGER NOT NULL, cell INTEGER NOT NULL, spent INTEGER NOT NULL,
    -- The part of `spent` whose entries are no longer kept.
    opening INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY(counter, cell)) WITHOUT ROWID;
-- For finding what is in the present windows.
CREATE INDEX IF NOT EXISTS totals_in ON totals(cell);
CREATE TABLE IF NOT EXISTS raises(
    counter INTEGER NOT NULL, cell INTEGER NOT NULL, amount INTEGER NOT NULL, until INTEGER);
CREATE INDEX IF NOT EXISTS raises_of ON raises(counter, cell);
CREATE TABLE IF NOT EXISTS batches(
    batch INTEGER PRIMARY KEY, at INTEGER NOT NULL, hash BLOB NOT NULL);
-- The hash of the last batch that is no longer kept.
CREATE TABLE IF NOT EXISTS anchor(id INTEGER PRIMARY KEY CHECK(id = 0), hash BLOB NOT NULL);
PRAGMA user_version = 1;
";

/// A link of the hash chain.
pub type Hash = [u8; 32];

/// The books cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    /// SQLite says no.
    #[error("the ledger's books: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// They are no books, or damaged ones.
    #[error(
        "{path}: the ledger's books are damaged ({source}); put a sound copy in the place of this \
         file and those beside it that begin with its name, or move all of them away: then budgets \
         count from what is still in the journal on",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// They were written by a later version.
    #[error(
        "the ledger's books have format {0}, which this version does not know: update Tollgate"
    )]
    Format(i64),
    /// The chain does not hold: entries were changed, removed or added.
    #[error("the ledger's batch {0} does not have the hash that its entries give")]
    Chain(i64),
    /// A total is not the sum of its entries.
    #[error("the total of {counter} is {total}, but its entries sum up to {sum}")]
    Total {
        /// The counter.
        counter: String,
        /// What the books say.
        total: i64,
        /// What the entries say.
        sum: i64,
    },
    /// An entry cannot be read.
    #[error("the ledger's entry {0} cannot be read")]
    Entry(i64),
}

impl BooksError {
    /// Tells damage of the books at `path` from everything else that SQLite may complain about.
    pub(super) fn of(self, path: &Path) -> Self {
        match self {
            Self::Sqlite(source)
                if matches!(
                    source.sqlite_error_code(),
                    Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt)
                ) =>
            {
                Self::Damaged {
                    path: path.to_owned(),
                    source,
                }
            },
            other => other,
        }
    }
}

/// What a verification found in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// How many entries there are.
    pub entries: u64,
    /// In how many batches.
    pub batches: u64,
    /// The last hash.
    pub head: Hash,
}

/// A connection to the books.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) db: Connection,
}

impl Books {
    /// Opens the books for writing, and creates them if need be.
    pub(super) fn open(path: &Path) -> Result<Self, BooksError> {
        super::owner::private_file(path).map_err(|error| {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
            rusqlite::Error::SqliteFailure(code, Some(error.to_string()))
        })?;
        let db = Connection::open(path)?;
        // Of new books: each page costs two writes and a look-up.
        db.pragma_update(None, "page_size", 16_384)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        // What a power cut takes from here is still in the journal.
        db.pragma_update(None, "synchronous", "NORMAL")?;
        let books = Self::with(db)?;
        books.db.execute_batch(SCHEMA)?;
        books.db.execute_batch(later::SCHEMA)?;
        books.db.execute_batch(ended::SCHEMA)?;
        books.db.execute_batch(orders::SCHEMA)?;
        books.db.execute_batch(told::SCHEMA)?;
        Ok(books)
    }

    /// Opens the books for reading only; there need not be an owner. What is read is of one moment,
    /// however the owner goes on.
    pub(super) fn read(path: &Path) -> Result<Self, BooksError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let books = Self::with(Connection::open_with_flags(path, flags)?)?;
        books.db.execute_batch("BEGIN")?;
        Ok(books)
    }

    fn with(db: Connection) -> Result<Self, BooksError> {
        db.busy_timeout(Duration::from_secs(2))?;
        match db.pragma_query_value(None, "user_version", |row| row.get(0))? {
            0..=1 => Ok(Self { db }),
            format => Err(BooksError::Format(format)),
        }
    }

    /// Takes what is not there yet, its entries as one batch of the chain: all or none.
    pub(super) fn post(&mut self, items: &[Item], at: Timestamp) -> Result<(), BooksError> {
        if items.is_empty() {
            return Ok(());
        }
        let batch = self.db.transaction()?;
        let (last, before) = head(&batch)?;
        let number = last + 1;
        let mut hash = chain(&before);
        let mut taken = Vec::new();
        // Most calls were never awaited: that is asked once, and not of each.
        let mut awaited = later::any(&batch)?;
        let mut entries = batch.prepare_cached(ENTER)?;
        for item in items {
            match item {
                Item::Over(posting) => {
                    let before = if awaited {
                        later::leave(&batch, posting.key)?
                    } else {
                        None
                    };
                    let body = posting.body_after(before);
                    if enter(&mut entries, number, posting, &body)? {
                        link(&mut hash, posting.key, posting.at, &body);
                        orders::take(&batch, posting.key, &body)?;
                        taken.push(posting);
                    }
                },
                Item::Parked(call) => {
                    later::park(&batch, call)?;
                    awaited = true;
                },
                Item::Billed(response) => later::bill(&batch, *response)?,
                Item::Told(told) => told::take(&batch, told)?,
            }
        }
        drop(entries);
        add(&batch, &taken)?;
        if !taken.is_empty() {
            batch
                .prepare_cached("INSERT INTO batches(batch, at, hash) VALUES (?, ?, ?)")?
                .execute(params![number, time(at), hash.finish().as_ref()])?;
        }
        batch.commit()?;
        Ok(())
    }

    /// Calls whose answer is still to be fetched, the oldest first.
    pub(super) fn parked(&self) -> Result<Vec<Parked>, BooksError> {
        later::parked(&self.db)
    }

    /// Responses that were billed and may be fetched again, the oldest first.
    pub(super) fn billed(&self) -> Result<Vec<u64>, BooksError> {
        later::billed(&self.db)
    }

    /// Calls that ended since the last comparison, the last one first, as long as `more` says so.
    pub(super) fn ended(&self, more: impl FnMut(Ended) -> bool) -> Result<(), BooksError> {
        ended::visit(&self.db, more)
    }

    /// From now on only calls after batch `batch` are to be compared.
    pub(super) fn compared(&self, batch: i64) -> Result<(), BooksError> {
        ended::compared(&self.db, batch)
    }

    /// The number of the newest batch.
    pub(super) fn newest(&self) -> Result<i64, BooksError> {
        Ok(head(&self.db)?.0)
    }

    /// The counters that have something in windows which are not over by `now`; at most `most`.
    pub(super) fn known(&self, now: Timestamp, most: usize) -> Result<Known, BooksError> {
        Known::load(&self.db, now, most)
    }

    /// What a counter held in `cells`.
    pub(super) fn recall(
        &self,
        counter: &CounterName,
        cells: RangeInclusive<Timestamp>,
    ) -> Result<Recalled, BooksError> {
        let Some(id) = known_id(&self.db, counter)? else {
            return Ok(Recalled::default());
        };
        let range = params![id, time(*cells.start()), time(*cells.end())];
        let mut spent = self.db.prepare_cached(
            "SELECT cell, spent FROM totals WHERE counter = ? AND cell BETWEEN ? AND ? ORDER BY cell",
        )?;
        let spent = spent.query_map(range, |row| Ok((timestamp(row.get(0)?), row.get(1)?)))?;
        let mut raises = self.db.prepare_cached(
            "SELECT amount, until FROM raises WHERE counter = ? AND cell BETWEEN ? AND ?",
        )?;
        let raises = raises.query_map(range, raise)?;
        Ok(Recalled {
            spent: spent.collect::<Result<_, _>>()?,
            raises: raises.collect::<Result<_, _>>()?,
            told: told::recall(&self.db, id, *cells.start())?,
        })
    }

    /// Every counter's cells that began at `since` or later, and those of windows without end.
    pub(super) fn standings(&self, since: Timestamp) -> Result<Vec<Standing>, BooksError> {
        let mut all = self.db.prepare_cached(
            "SELECT id, identity, vals, unit, cell, spent FROM counters
             JOIN totals ON counter = id WHERE cell = 0 OR cell >= ?",
        )?;
        let mut rows = all.query(params![time(since)])?;
        let mut standings = Vec::new();
        while let Some(row) = rows.next()? {
            let (id, cell): (i64, i64) = (row.get(0)?, row.get(4)?);
            let Some(counter) = counter_name(row)? else {
                continue;
            };
            let mut raises = self.db.prepare_cached(
                "SELECT amount, until FROM raises WHERE counter = ? AND cell = ?",
            )?;
            standings.push(Standing {
                counter,
                spent: row.get(5)?,
                reserved: 0,
                window: timestamp(cell),
                raises: raises
                    .query_map(params![id, cell], raise)?
                    .collect::<Result<_, _>>()?,
            });
        }
        Ok(standings)
    }

    /// The last hash of the chain.
    pub(super) fn head(&self) -> Result<Hash, BooksError> {
        Ok(head(&self.db)?.1)
    }

    /// Proves the chain, and every total from the entries.
    pub(super) fn verify(&self) -> Result<Verified, BooksError> {
        super::verify::verify(&self.db)
    }

    /// Makes everything that was committed survive a power cut. `false`: not yet, since somebody
    /// reads.
    pub(super) fn sync(&self) -> Result<bool, BooksError> {
        let busy = self.db.query_row("PRAGMA wal_checkpoint(FULL)", [], |row| {
            row.get::<_, i64>(0)
        });
        Ok(busy? == 0)
    }

    /// Forgets entries of whole batches from before `oldest`; the chain goes on from the last of
    /// them, and what they summed up to is kept as each counter's opening.
    pub(super) fn prune(&mut self, oldest: Timestamp) -> Result<(), BooksError> {
        orders::prune(&self.db, oldest)?;
        told::prune(&self.db, oldest)?;
        let prune = self.db.transaction()?;
        let last: Option<(i64, Vec<u8>)> = prune
            .query_row(
                "SELECT batch, hash FROM batches WHERE at < ? ORDER BY batch DESC LIMIT 1",
                params![time(oldest)],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        let Some((last, hash)) = last else {
            return Ok(());
        };
        keep_openings(&prune, last)?;
        prune.execute("INSERT OR REPLACE INTO anchor VALUES (0, ?)", params![hash])?;
        prune.execute("DELETE FROM entries WHERE batch <= ?", params![last])?;
        // The newest batch stays, so that numbers are never given twice.
        prune.execute(
            "DELETE FROM batches WHERE batch <= ? AND batch < (SELECT max(batch) FROM batches)",
            params![last],
        )?;
        prune.commit()?;
        Ok(())
    }
}

/// Adds what the entries up to batch `last` sum up to, to their counters' openings.
fn keep_openings(db: &Connection, last: i64) -> Result<(), BooksError> {
    let mut old = db.prepare("SELECT seq, body FROM entries WHERE batch <= ?")?;
    let mut rows = old.query(params![last])?;
    let mut open = db.prepare(
        "UPDATE totals SET opening = opening + ? WHERE cell = ? AND counter =
         (SELECT id FROM counters WHERE identity = ? AND vals = ? AND unit = ?)",
    )?;
    while let Some(row) = rows.next()? {
        let body: Vec<u8> = row.get(1)?;
        let totals = Posting::totals_in(&body).ok_or(BooksError::Entry(row.get(0)?))?;
        for (name, cell, amount) in totals {
            let unit = unit_number(name.unit);
            open.execute(params![
                amount,
                time(cell),
                name.identity,
                name.values,
                unit
            ])?;
        }
    }
    Ok(())
}

/// The number and hash of the newest batch.
fn head(db: &Connection) -> Result<(i64, Hash), BooksError> {
    let newest = "SELECT batch, hash FROM batches ORDER BY batch DESC LIMIT 1";
    let newest = db
        .prepare_cached(newest)?
        .query_row((), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(newest.unwrap_or((0, [0; 32])))
}

const ENTER: &str =
    "INSERT OR IGNORE INTO entries(batch, request, hold, at, body) VALUES (?, ?, ?, ?, ?)";

/// Makes a posting an entry of batch `number`; false if it is one.
fn enter(
    entries: &mut Statement<'_>,
    number: i64,
    posting: &Posting,
    body: &[u8],
) -> Result<bool, BooksError> {
    let (request, hold) = posting.key;
    let new = entries.execute(params![
        number,
        request.bytes(),
        hold.0.cast_signed(),
        time(posting.at),
        body
    ])?;
    Ok(new == 1)
}

/// Adds postings to the totals: each total is written once, however many calls it is of.
fn add(batch: &Transaction<'_>, postings: &[&Posting]) -> Result<(), BooksError> {
    let mut sums: HashMap<(&CounterName, Timestamp), i64> = HashMap::new();
    for (counter, cell, amount) in postings.iter().flat_map(|posting| &posting.totals) {
        let sum = sums.entry((counter, *cell)).or_default();
        *sum = sum.saturating_add(*amount);
    }
    for ((counter, cell), amount) in sums {
        let id = counter_id(batch, counter)?;
        batch
            .prepare_cached(
                "INSERT INTO totals(counter, cell, spent) VALUES (?, ?, ?)
                 ON CONFLICT DO UPDATE SET spent = spent + excluded.spent",
            )?
            .execute(params![id, time(cell), amount])?;
    }
    for (counter, cell, raise) in postings.iter().flat_map(|posting| &posting.raises) {
        let (id, until) = (counter_id(batch, counter)?, raise.until.map(time));
        batch
            .prepare_cached("INSERT INTO raises VALUES (?, ?, ?, ?)")?
            .execute(params![id, time(*cell), raise.amount, until])?;
    }
    Ok(())
}

pub(super) fn counter_id(db: &Connection, counter: &CounterName) -> Result<i64, BooksError> {
    if let Some(id) = known_id(db, counter)? {
        return Ok(id);
    }
    let name = params![counter.identity, counter.values, unit_number(counter.unit)];
    db.prepare_cached("INSERT INTO counters(identity, vals, unit) VALUES (?, ?, ?)")?
        .execute(name)?;
    Ok(db.last_insert_rowid())
}

fn known_id(db: &Connection, counter: &CounterName) -> rusqlite::Result<Option<i64>> {
    let id = "SELECT id FROM counters WHERE identity = ? AND vals = ? AND unit = ?";
    let name = params![counter.identity, counter.values, unit_number(counter.unit)];
    let mut find = db.prepare_cached(id)?;
    find.query_row(name, |row| row.get(0)).optional()
}

/// The counter in columns 1 to 3; `None` if its unit is of a later version.
pub(super) fn counter_name(row: &Row<'_>) -> rusqlite::Result<Option<CounterName>> {
    let Some(unit) = unit_numbered(row.get(3)?) else {
        return Ok(None);
    };
    Ok(Some(CounterName {
        identity: Arc::from(row.get::<_, String>(1)?),
        values: Arc::from(row.get::<_, String>(2)?),
        unit,
    }))
}

fn raise(row: &Row<'_>) -> rusqlite::Result<Raise> {
    Ok(Raise {
        amount: row.get(0)?,
        until: row.get::<_, Option<i64>>(1)?.map(timestamp),
    })
}

/// As SQLite keeps it: nanoseconds, which fit until the year 2262.
pub(super) fn time(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanos()).unwrap_or(i64::MAX)
}

pub(super) fn timestamp(nanos: i64) -> Timestamp {
    Timestamp::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

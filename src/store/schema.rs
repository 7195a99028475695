//! The tables, and how a store of an earlier format is brought up to date.

use std::{
    fs::{DirBuilder, OpenOptions},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use super::StoreError;

/// Marks the file as ours: `Toll`.
const APPLICATION: i64 = 0x546f_6c6c;

/// The steps from each format to the next; the number of steps is the format's. Steps are only ever
/// added.
const STEPS: &[&str] = &[
    "
    -- What is filtered, grouped and summed. Times are microseconds, costs nano-dollars; null is
    -- unknown. The ids rise in the order in which spans ended.
    CREATE TABLE spans (
        id INTEGER PRIMARY KEY,
        start INTEGER NOT NULL,
        duration INTEGER NOT NULL,
        trace_id BLOB NOT NULL,
        span_id BLOB NOT NULL,
        request_id BLOB NOT NULL,
        kind TEXT NOT NULL,
        status TEXT NOT NULL,
        provider TEXT,
        model TEXT,
        agent TEXT,
        user TEXT,
        project TEXT,
        environment TEXT,
        session TEXT,
        workflow TEXT,
        input INTEGER,
        cache_read INTEGER,
        cache_write INTEGER,
        output INTEGER,
        reasoning INTEGER,
        usage_source TEXT NOT NULL,
        cost INTEGER
    );
    -- The whole span as JSON; apart, so that sums need not read it.
    CREATE TABLE lines (
        id INTEGER PRIMARY KEY,
        line TEXT NOT NULL
    );
    -- What runs of rows hold.
    CREATE TABLE blocks (
        first INTEGER PRIMARY KEY,
        last INTEGER NOT NULL,
        earliest INTEGER NOT NULL,
        latest INTEGER NOT NULL,
        ids BLOB NOT NULL
    );
",
    "
    -- The model that calls are summed up under; `model` is the exact one.
    ALTER TABLE spans ADD COLUMN family TEXT;
",
    "
    -- Which attempt of one logical call it is, from 2 on; null for a first attempt.
    ALTER TABLE spans ADD COLUMN attempt INTEGER;
",
];

/// The format that this build writes.
fn current() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

/// Opens the store for writing: makes directory, file and tables as far as they lack, readable by
/// their owner alone.
pub(super) fn open_to_write(path: &Path) -> Result<Connection, StoreError> {
    let io = |source| StoreError::Io {
        path: path.to_owned(),
        source,
    };
    if let Some(directory) = path.parent() {
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(io)?;
    }
    // SQLite gives its other files the mode of this one.
    let mut options = OpenOptions::new();
    options
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(io)?;
    let sqlite = |source| StoreError::of(path, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    prepare(&connection).map_err(sqlite)?;
    let found = format_of(&connection, path)?;
    if found > current() {
        return Err(version(path, found));
    }
    migrate(&mut connection, found).map_err(sqlite)?;
    Ok(connection)
}

/// Opens the store for reading, whether or not somebody writes to it.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    if !path.exists() {
        return Err(StoreError::Missing {
            path: path.to_owned(),
        });
    }
    let sqlite = |source| StoreError::of(path, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    connection
        .busy_timeout(Duration::from_secs(5))
        .map_err(sqlite)?;
    let found = format_of(&connection, path)?;
    if found != current() {
        return Err(version(path, found));
    }
    Ok(connection)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    // Large pages: rows are appended and scanned. Takes effect only in a new file.
    connection.pragma_update(None, "page_size", 16_384)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "cache_size", -2_048)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)
}

/// The format of an open store; zero if it is empty.
fn format_of(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let sqlite = |source| StoreError::of(path, source);
    let found = pragma("user_version").map_err(sqlite)?;
    let tables = "SELECT count(*) FROM sqlite_schema";
    let tables: i64 = connection
        .query_row(tables, [], |row| row.get(0))
        .map_err(sqlite)?;
    if tables > 0 && pragma("application_id").map_err(sqlite)? != APPLICATION {
        return Err(StoreError::Damaged {
            path: path.to_owned(),
            source: rusqlite::Error::InvalidQuery,
        });
    }
    Ok(found)
}

fn migrate(connection: &mut Connection, found: i64) -> rusqlite::Result<()> {
    let steps = STEPS.iter().skip(usize::try_from(found).unwrap_or(0));
    for (step, format) in steps.zip(found + 1..) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", format)?;
        transaction.commit()?;
    }
    Ok(())
}

fn version(path: &Path, found: i64) -> StoreError {
    StoreError::Version {
        path: path.to_owned(),
        found,
        known: current(),
    }
}

//! The one that writes: appends batches, and deletes what is too old.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension as _, Statement, Transaction, params};

use super::{Config, StoreError, adopt::Calls, blocks::Block, blocks::micros, schema};
use crate::{
    base::{clock::Timestamp, id::SpanId, money::Usd},
    call::{labels::Label, model::family, outcome::End, span::Span},
};

/// The most rows that are deleted at once, so that appending never waits long.
const EXPIRE_AT_ONCE: i64 = 4_096;

/// How many of the last rows can hold the span of a call that a crash cut short.
pub const ROWS_BEFORE_A_CRASH: i64 = 100_000;

/// By how much spans can be out of the order in which their calls ended.
const DISORDER: Duration = Duration::from_secs(1);

/// The spans that were written last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latest {
    /// Their ids.
    pub ids: HashSet<SpanId>,
    /// They are all of the calls that ended since then; `None`: they are all that there are.
    pub since: Option<Timestamp>,
}

/// The store, open for writing. There is one in the process, and one process.
#[derive(Debug)]
pub struct Writer {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    retention: Duration,
    next: i64,
    open: Block,
    calls: Calls,
}

impl Writer {
    /// Opens the store, and makes it if it is not there.
    ///
    /// # Errors
    /// The directory cannot be used, or the file is damaged or of a newer format. The caller
    /// decides whether to go on without a store.
    pub fn open(config: &Config) -> Result<Self, StoreError> {
        let path = config.file();
        let connection = schema::open_to_write(&path)?;
        let last = "SELECT coalesce(max(id), 0) FROM spans";
        let state = connection
            .query_row(last, [], |row| row.get::<_, i64>(0))
            .and_then(|last| Ok((last, Block::load(&connection)?)));
        let (last, open) = state.map_err(|source| StoreError::of(&path, source))?;
        Ok(Self {
            path,
            connection,
            retention: config.retention,
            next: last + 1,
            open,
            calls: Calls::default(),
        })
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends spans, each with its line of JSON: all of them or, after an error, none. A crashed
    /// call's span that was written before the crash is not written again.
    ///
    /// # Errors
    /// The disk is full, or whatever else SQLite reports; the same batch can be tried again.
    pub fn append<'a>(
        &mut self,
        spans: impl IntoIterator<Item = (&'a Span, &'a str)>,
    ) -> Result<(), StoreError> {
        let before = self.next;
        let result = self.try_append(spans);
        if result.is_err() {
            // The summary may hold rows that were rolled back: read it again.
            self.next = before;
            self.calls.roll_back(before);
            if let Ok(open) = Block::load(&self.connection) {
                self.open = open;
            }
        }
        result.map_err(|source| StoreError::of(&self.path, source))
    }

    fn try_append<'a>(
        &mut self,
        spans: impl IntoIterator<Item = (&'a Span, &'a str)>,
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let mut known = None;
        let mut rows = transaction.prepare_cached(ROW)?;
        let mut lines = transaction.prepare_cached(LINE)?;
        for (span, line) in spans {
            if span.end == End::Crashed && is_known(&transaction, self.next, span, &mut known)? {
                continue;
            }
            insert(&mut rows, self.next, span)?;
            lines.execute(params![self.next, line])?;
            self.open.add_span(self.next, span);
            self.calls
                .note(self.next, span, &transaction, &mut self.open)?;
            self.next += 1;
            self.open.seal_if_full(&transaction)?;
        }
        drop((rows, lines));
        transaction.commit()
    }

    /// The last spans, at most `count`.
    ///
    /// # Errors
    /// Whatever SQLite reports.
    pub fn latest(&self, count: i64) -> Result<Latest, StoreError> {
        let from = self.next.saturating_sub(count);
        let read = || {
            Ok(Latest {
                ids: latest(&self.connection, from)?,
                since: reach(&self.connection, from)?,
            })
        };
        read().map_err(|source| StoreError::of(&self.path, source))
    }

    /// Deletes the oldest spans that are over the retention, a few thousand at most; gives their
    /// number, and is called again soon if that is not zero.
    ///
    /// # Errors
    /// Whatever SQLite reports; nothing was deleted then.
    pub fn expire(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        if self.retention.is_zero() {
            return Ok(0);
        }
        self.try_expire(now - self.retention)
            .map_err(|source| StoreError::of(&self.path, source))
    }

    fn try_expire(&mut self, before: Timestamp) -> rusqlite::Result<u64> {
        let transaction = self.connection.transaction()?;
        let old: Option<i64> = transaction
            .prepare_cached(
                "WITH oldest AS (SELECT id, start FROM spans ORDER BY id LIMIT ?1)
                 SELECT max(id) FROM oldest WHERE start < ?2 AND id < coalesce(
                    (SELECT min(id) FROM oldest WHERE start >= ?2), 9223372036854775807)",
            )?
            .query_row([EXPIRE_AT_ONCE, micros(before)], |row| row.get(0))?;
        // Up to the first that is still kept: what agents report may be older than the calls before.
        let Some(last) = old else {
            return Ok(0);
        };
        let deleted = transaction
            .prepare_cached("DELETE FROM spans WHERE id <= ?")?
            .execute([last])?;
        for table in [
            "DELETE FROM lines WHERE id <= ?",
            "DELETE FROM blocks WHERE last <= ?",
        ] {
            transaction.prepare_cached(table)?.execute([last])?;
        }
        transaction.commit()?;
        Ok(u64::try_from(deleted).unwrap_or(0))
    }
}

/// Whether a span is among those written last; `known` keeps these from one question to the next.
fn is_known(
    transaction: &Transaction<'_>,
    next: i64,
    span: &Span,
    known: &mut Option<HashSet<SpanId>>,
) -> rusqlite::Result<bool> {
    if known.is_none() {
        let from = next.saturating_sub(ROWS_BEFORE_A_CRASH);
        *known = Some(latest(transaction, from)?);
    }
    Ok(known
        .as_ref()
        .is_some_and(|known| known.contains(&span.span_id)))
}

/// The ids of the spans from row `from` on.
fn latest(connection: &Connection, from: i64) -> rusqlite::Result<HashSet<SpanId>> {
    let mut rows = connection.prepare("SELECT span_id FROM spans WHERE id >= ?")?;
    let ids = rows.query_map([from], |row| row.get(0).map(SpanId::from_bytes))?;
    ids.collect()
}

/// Since when the spans from row `from` on are all that were written; `None`: there are none before.
fn reach(connection: &Connection, from: i64) -> rusqlite::Result<Option<Timestamp>> {
    let end = |sql| {
        let mut row = connection.prepare(sql)?;
        let end = row
            .query_row([from], |row| row.get::<_, i64>(0))
            .optional()?;
        let nanos = |micros| u64::try_from(micros).unwrap_or(0).saturating_mul(1_000);
        Ok::<_, rusqlite::Error>(end.map(|micros| Timestamp::from_nanos(nanos(micros))))
    };
    // What agents report comes later than it ended.
    let before = end(
        "SELECT start + duration FROM spans WHERE id < ? AND request_id <> zeroblob(16)
         ORDER BY id DESC LIMIT 1",
    )?;
    let last = end(
        "SELECT start + duration FROM spans WHERE id >= ? AND request_id <> zeroblob(16)
         ORDER BY id DESC LIMIT 1",
    )?;
    // Where so many ended at once that order cannot be told, what ended after the last is sure.
    Ok(before.map(|before| last.map_or(before, |last| last.min(before + DISORDER))))
}

const ROW: &str = "INSERT INTO spans VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
const LINE: &str = "INSERT INTO lines VALUES (?, ?)";

fn insert(rows: &mut Statement<'_>, id: i64, span: &Span) -> rusqlite::Result<()> {
    let usage = &span.usage;
    let count = |count: Option<u64>| count.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    let label = |label| span.labels.get(label);
    rows.execute(params![
        id,
        micros(span.start),
        i64::try_from(span.duration.as_micros()).unwrap_or(i64::MAX),
        span.trace_id.bytes(),
        span.span_id.bytes(),
        span.request_id.bytes(),
        span.kind.name(),
        span.status.name(),
        (!span.provider.is_empty()).then_some(&*span.provider),
        span.model(),
        label(Label::Agent),
        label(Label::User),
        label(Label::Project),
        label(Label::Environment),
        label(Label::Session),
        label(Label::Workflow),
        count(usage.input),
        count(usage.cache_read),
        count(usage.cache_write),
        count(usage.output),
        count(usage.reasoning),
        span.usage_source.name(),
        span.cost.map(Usd::nanos),
        family(
            span.request_model.as_deref(),
            span.response_model.as_deref()
        ),
        count(span.attempt()),
    ])?;
    Ok(())
}

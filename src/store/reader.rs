//! What is asked of the store, whether or not somebody writes to it meanwhile.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, Row, params_from_iter, types::Value};

use super::{
    StoreError,
    blocks::{self, micros},
    schema,
};
use crate::{
    base::{
        clock::Timestamp,
        id::{RequestId, TraceId},
    },
    call::labels::Label,
};

/// The store, open for reading.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    connection: Connection,
}

/// A span as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its place: rises in the order in which spans were written.
    pub id: i64,
    /// The span as one line of JSON.
    pub line: String,
}

/// Which spans are meant. Everything that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Begun at that time or later.
    pub since: Option<Timestamp>,
    /// Begun before that time.
    pub until: Option<Timestamp>,
    /// With those labels.
    pub labels: Vec<(Label, String)>,
    /// Of that model, named exactly or as reports name it.
    pub model: Option<String>,
    /// Of that provider.
    pub provider: Option<String>,
    /// With that status: `ok`, `error`, `blocked`, `cancelled`.
    pub status: Option<String>,
    /// Written after the span at that place.
    pub after: Option<i64>,
}

impl Reader {
    /// Opens a store for reading. `path` is the database file (`store::Config::file`).
    ///
    /// # Errors
    /// There is none, it is damaged, or it has another format.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            path: path.to_owned(),
            connection: schema::open_to_read(path)?,
        })
    }

    /// The spans of a trace, in the order in which they ended; at most `limit`.
    ///
    /// # Errors
    /// Whatever SQLite reports.
    pub fn trace(&self, id: TraceId, limit: usize) -> Result<Vec<Stored>, StoreError> {
        self.by_id("trace_id", id.bytes(), limit)
    }

    /// The span of a call.
    ///
    /// # Errors
    /// Whatever SQLite reports.
    pub fn request(&self, id: RequestId) -> Result<Option<Stored>, StoreError> {
        let found = self.by_id("request_id", id.bytes(), 1)?;
        Ok(found.into_iter().next())
    }

    /// The ids of calls between `from` and `to`, both included, the first ones; at most `limit`.
    /// Ids begin with the time, so that this is quick.
    ///
    /// # Errors
    /// Whatever SQLite reports.
    pub fn requests_between(
        &self,
        [from, to]: [RequestId; 2],
        limit: usize,
    ) -> Result<Vec<RequestId>, StoreError> {
        let query = || {
            // A millisecond more at either end: that is what the ids' time is rounded to.
            let since = from.time() - Duration::from_millis(1);
            let until = to.time() + Duration::from_millis(1);
            let first = blocks::first_since(&self.connection, since)?;
            let mut statement = self.connection.prepare_cached(
                "SELECT DISTINCT request_id FROM spans WHERE id >= ? AND start BETWEEN ? AND ?
                 AND request_id BETWEEN ? AND ? AND request_id <> zeroblob(16)
                 ORDER BY request_id LIMIT ?",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let (from, to) = (from.bytes(), to.bytes());
            let bounds = (first, micros(since), micros(until), from, to, limit);
            let ids = statement.query_map(bounds, |row| Ok(RequestId::from_bytes(row.get(0)?)))?;
            ids.collect::<rusqlite::Result<_>>()
        };
        query().map_err(|source| self.error(source))
    }

    /// The last spans that `filter` means, at most `limit`; the oldest first.
    ///
    /// # Errors
    /// Whatever SQLite reports.
    pub fn latest(&self, filter: &Filter, limit: usize) -> Result<Vec<Stored>, StoreError> {
        let mut spans = self.select(filter, "DESC", limit)?;
        spans.reverse();
        Ok(spans)
    }

    /// The first spans that `filter` means, at most `limit`, the oldest first. With
    /// [`Filter::after`] this follows what is written.
    ///
    /// # Errors
    /// Whatever SQLite reports.
    pub fn first(&self, filter: &Filter, limit: usize) -> Result<Vec<Stored>, StoreError> {
        self.select(filter, "ASC", limit)
    }

    /// The place of the last span that was written; zero if there is none.
    ///
    /// # Errors
    /// Whatever SQLite reports.
    pub fn last_id(&self) -> Result<i64, StoreError> {
        self.connection
            .query_row("SELECT coalesce(max(id), 0) FROM spans", [], |row| {
                row.get(0)
            })
            .map_err(|source| self.error(source))
    }

    fn select(
        &self,
        filter: &Filter,
        order: &str,
        limit: usize,
    ) -> Result<Vec<Stored>, StoreError> {
        let query = || {
            let (condition, mut values) = self.condition(filter)?;
            values.push(Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
            let sql = format!(
                "SELECT id, line FROM spans JOIN lines USING (id)
                 WHERE {condition} ORDER BY id {order} LIMIT ?"
            );
            let mut statement = self.connection.prepare_cached(&sql)?;
            let spans = statement.query_map(params_from_iter(values), stored)?;
            spans.collect::<rusqlite::Result<_>>()
        };
        query().map_err(|source| self.error(source))
    }

    fn by_id(&self, column: &str, id: [u8; 16], limit: usize) -> Result<Vec<Stored>, StoreError> {
        let query = || {
            let sql = format!(
                "SELECT id, line FROM spans JOIN lines USING (id)
                 WHERE id BETWEEN ? AND ? AND {column} = ? ORDER BY id LIMIT ?"
            );
            let mut statement = self.connection.prepare_cached(&sql)?;
            let mut found = Vec::new();
            for (first, last) in blocks::holding(&self.connection, id)? {
                let left = limit.saturating_sub(found.len());
                let left = i64::try_from(left).unwrap_or(i64::MAX);
                let spans = statement.query_map((first, last, id, left), stored)?;
                found.extend(spans.collect::<rusqlite::Result<Vec<_>>>()?);
            }
            Ok(found)
        };
        query().map_err(|source| self.error(source))
    }

    /// The SQL of a filter, and its values.
    pub(super) fn condition(&self, filter: &Filter) -> rusqlite::Result<(String, Vec<Value>)> {
        let mut condition = String::from("id > ?");
        let first = match filter.since {
            Some(since) => blocks::first_since(&self.connection, since)? - 1,
            None => 0,
        };
        let after = filter.after.unwrap_or(0).max(first);
        let mut values = vec![Value::Integer(after)];
        let mut add = |sql: &str, value: Value| {
            condition.push_str(" AND ");
            condition.push_str(sql);
            values.push(value);
        };
        if let Some(since) = filter.since {
            add("start >= ?", Value::Integer(micros(since)));
        }
        if let Some(until) = filter.until {
            add("start < ?", Value::Integer(micros(until)));
        }
        for (label, value) in &filter.labels {
            add(&format!("{} = ?", label.name()), Value::Text(value.clone()));
        }
        if let Some(model) = &filter.model {
            add("? IN (model, family)", Value::Text(model.clone()));
        }
        if let Some(provider) = &filter.provider {
            add("provider = ?", Value::Text(provider.clone()));
        }
        if let Some(status) = &filter.status {
            add("status = ?", Value::Text(status.clone()));
        }
        Ok((condition, values))
    }

    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn error(&self, source: rusqlite::Error) -> StoreError {
        StoreError::of(&self.path, source)
    }
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        id: row.get(0)?,
        line: row.get(1)?,
    })
}

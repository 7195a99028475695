//! Spans as rows of a table, in SQLite or PostgreSQL, under the columns of the RAAF tracing guide. A
//! batch is a transaction; a span that is there already stays as it is.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use self::{
    postgres::Postgres,
    sqlite::Sqlite,
    table::{Row, Table},
};
use super::{
    super::{BuildContext, Outlet, Record},
    BoxFuture, BuildError, DeliverError, Processor,
};
use crate::{
    base::secret::Secret,
    net::{post, tls as rustls_tls},
};

mod postgres;
mod sqlite;
mod table;
mod tls;

pub use table::Field;

/// `{type: database, …}`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `sqlite:///path` or `postgres://user:password@host/database`.
    pub url: Option<Secret>,
    /// The table; made, and given the columns that it lacks, if need be.
    pub table_name: Box<str>,
    /// The column of a field, where that is not the guide's; null: it has none.
    pub column_mapping: BTreeMap<Field, Option<Box<str>>>,
    /// Certificates of its own.
    pub tls: post::Tls,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: None,
            table_name: Box::from("ai_traces"),
            column_mapping: BTreeMap::new(),
            tls: post::Tls::default(),
        }
    }
}

/// The rows of a transaction.
const BATCH: usize = 50;

/// Makes the processor. A database that cannot be reached now is tried again with every batch.
pub(super) fn build(config: &Config, context: &BuildContext) -> Result<Outlet, BuildError> {
    let wrong = BuildError::of("database");
    let table = Table::new(&config.table_name, &config.column_mapping).map_err(&wrong)?;
    let url = config.url.as_ref().map_or("", Secret::expose);
    let mut outlet = if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err(wrong("url: there is no path after sqlite:".to_owned()));
        }
        let database = Database {
            engine: Engine::Sqlite(Sqlite::at(path)),
            table,
            host: None,
        };
        context.local("database", database)
    } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        // TLS is always checked in full.
        let url = url.replace("sslmode=verify-full", "sslmode=require");
        let url = url.replace("sslmode=verify-ca", "sslmode=require");
        let server = url.parse().map_err(|_may_quote_the_password| {
            wrong(
                "url: it is no address of a PostgreSQL database, or has an unknown option"
                    .to_owned(),
            )
        })?;
        let tls = rustls_tls::client(rustls_tls::Files::of(&config.tls, &context.upstream));
        let tls = tls::Tls::new(tls.map_err(BuildError::of("database"))?);
        let database = Database {
            engine: Engine::Postgres(Box::new(Postgres::new(server, tls))),
            table,
            host: post::shown_host(&url),
        };
        context.remote("database", database)
    } else {
        return Err(wrong(
            "url: sqlite:///path or postgres://user:password@host/database".to_owned(),
        ));
    };
    outlet.delivery.batch = BATCH;
    Ok(outlet)
}

/// Why rows were not inserted; in words without data or passwords.
#[derive(Debug)]
enum Failure {
    /// Another time they may be.
    Passing(String),
    /// There is a row that the table does not take.
    Data(String),
}

enum Engine {
    Sqlite(Sqlite),
    Postgres(Box<Postgres>),
}

struct Database {
    engine: Engine,
    table: Table,
    /// To be shown.
    host: Option<Box<str>>,
}

impl Database {
    async fn insert(&mut self, rows: &[Row<'_>]) -> Result<(), Failure> {
        match &mut self.engine {
            Engine::Sqlite(sqlite) => sqlite.insert(&self.table, rows),
            Engine::Postgres(postgres) => postgres.insert(&self.table, rows).await,
        }
    }

    async fn store(&mut self, batch: &[Arc<Record>]) -> Result<(), DeliverError> {
        let rows: Vec<Row<'_>> = batch.iter().map(|record| self.table.row(record)).collect();
        let mut trouble = match self.insert(&rows).await {
            Ok(()) => return Ok(()),
            Err(Failure::Passing(reason)) => return Err(DeliverError::retry(reason)),
            Err(Failure::Data(reason)) => reason,
        };
        if rows.len() == 1 {
            return Err(DeliverError::Reject(trouble.into()));
        }
        // One row spoils the batch: each is inserted by itself.
        let mut refused = 0;
        for row in rows.chunks(1) {
            match self.insert(row).await {
                Ok(()) => {},
                Err(Failure::Passing(reason)) => return Err(DeliverError::retry(reason)),
                Err(Failure::Data(reason)) => {
                    trouble = reason;
                    refused += 1;
                },
            }
        }
        let source = trouble.into();
        Err(DeliverError::Partly { refused, source })
    }
}

impl Processor for Database {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        Box::pin(self.store(batch))
    }

    fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SystemClock;

    #[test]
    fn what_cannot_be_is_said_without_the_password() {
        let context = BuildContext::new(Arc::new(SystemClock));
        for (yaml, word) in [
            ("{}", "url: sqlite:///path or postgres://"),
            ("{url: 'mysql://me:hush@host/db'}", "url: sqlite:///path or"),
            ("{url: 'sqlite://'}", "no path"),
            ("{url: 'postgres://me:hush@host:port/db'}", "no address"),
            ("{url: 'postgres://me:hush@host/db?hush=1'}", "no address"),
            ("{url: 'sqlite:a', table_name: ''}", "table_name"),
            (
                "{url: 'postgres://host/db', tls: {client_key: k}}",
                "tls.client_key",
            ),
        ] {
            let config: Config = serde_saphyr::from_str(yaml).unwrap();
            let error = build(&config, &context).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn fifty_rows_are_a_transaction() {
        let context = BuildContext::new(Arc::new(SystemClock));
        for url in [
            "sqlite:traces.db",
            "postgres://me@host/db?sslmode=verify-full",
        ] {
            let config = Config {
                url: Some(Secret::new(url)),
                ..Config::default()
            };
            assert_eq!(build(&config, &context).unwrap().delivery.batch, 50);
        }
    }
}

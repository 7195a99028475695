//! Rows in PostgreSQL. They are copied as text into a table of the connection's own, and from there
//! inserted with a cast to whatever type each column has: COPY itself knows no ON CONFLICT, and in
//! its binary form no column of another type than ours.

use std::{
    fmt::Write as _,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Waker},
};

use bytes::Bytes;
use futures_sink::Sink as _;
use tokio_postgres::{Client, Config, Connection, Error, Socket};

use super::{
    Failure,
    table::{Row, Table},
    tls::{Encrypted, Tls},
};

/// The lock under which tables are changed; any number that others do not use.
const LOCK: i64 = 0x546f_6c6c_6761_7465;

/// A server, connected to with the first batch.
pub(super) struct Postgres {
    config: Config,
    tls: Tls,
    live: Option<Live>,
}

/// A connection, and what is known of the table at its other end.
struct Live {
    client: Client,
    /// It moves only while something is awaited: nothing runs between batches.
    connection: Connection<Socket, Encrypted>,
    statements: Statements,
}

/// What a batch is inserted with.
struct Statements {
    begin: String,
    copy: String,
    insert: String,
}

impl Postgres {
    pub(super) fn new(mut config: Config, tls: Tls) -> Self {
        if config.get_application_name().is_none() {
            config.application_name("tollgate");
        }
        Self {
            config,
            tls,
            live: None,
        }
    }

    /// Inserts the rows that are not there yet: all, or none.
    pub(super) async fn insert(&mut self, table: &Table, rows: &[Row<'_>]) -> Result<(), Failure> {
        let kept = self.live.take();
        let mut live = match kept.and_then(Live::still_open) {
            Some(live) => live,
            None => Self::open(&self.config, &self.tls, table).await?,
        };
        let text = Bytes::from(encode(rows));
        let Live {
            client,
            connection,
            statements,
        } = &mut live;
        let result = driven(connection, statements.run(client, text)).await;
        let failure = match result {
            Ok(()) => None,
            Err(failure @ Failure::Data(_)) => {
                driven(connection, client.batch_execute("ROLLBACK")).await?;
                Some(failure)
            },
            // Whatever it was: the next attempt connects, and looks at the table, anew.
            Err(failure @ Failure::Passing(_)) => return Err(failure),
        };
        self.live = Some(live);
        failure.map_or(Ok(()), Err)
    }

    async fn open(config: &Config, tls: &Tls, table: &Table) -> Result<Live, Failure> {
        let connecting = config.connect(tls.clone());
        let (client, mut connection) = Box::pin(connecting).await.map_err(|it| passing(&it))?;
        let preparing = prepare(&client, table);
        let statements = driven(&mut connection, preparing).await;
        let statements = statements.map_err(|failure| match failure {
            Failure::Passing(reason) | Failure::Data(reason) => Failure::Passing(reason),
        })?;
        Ok(Live {
            client,
            connection,
            statements,
        })
    }
}

impl Live {
    /// Itself, if the server has not closed it meanwhile.
    fn still_open(mut self) -> Option<Self> {
        let mut context = Context::from_waker(Waker::noop());
        let ended = Pin::new(&mut self.connection).poll(&mut context);
        (ended.is_pending() && !self.client.is_closed()).then_some(self)
    }
}

/// Awaits `work`, which needs the connection to move.
async fn driven<T>(
    connection: &mut Connection<Socket, Encrypted>,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        done = &mut work => done.map_err(|error| failure(&error)),
        ended = connection => match ended {
            Ok(()) => Err(Failure::Passing("the server closed the connection".to_owned())),
            Err(error) => Err(passing(&error)),
        },
    }
}

impl Statements {
    async fn run(&self, client: &Client, text: Bytes) -> Result<(), Error> {
        client.batch_execute(&self.begin).await?;
        let mut sink = pin!(client.copy_in(&*self.copy).await?);
        poll_fn(|context| sink.as_mut().poll_ready(context)).await?;
        sink.as_mut().start_send(text)?;
        sink.finish().await?;
        client.batch_execute(&self.insert).await
    }
}

/// Brings the table up to date, if it is not, and says how to insert into it.
async fn prepare(client: &Client, table: &Table) -> Result<Statements, Error> {
    let mut types = types(client, table).await?;
    // Who may only insert need not be allowed more, once the table is as it must be.
    if types.iter().any(Option::is_none) || !has_key(client, table).await? {
        client.batch_execute("BEGIN").await?;
        client
            .execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
            .await?;
        client
            .batch_execute(&table.creation(|it| it.postgres))
            .await?;
        let name = &table.name;
        for column in &table.columns {
            let (quoted, kind) = (&column.quoted, column.postgres);
            let adding = format!("ALTER TABLE {name} ADD COLUMN IF NOT EXISTS {quoted} {kind}");
            client.batch_execute(&adding).await?;
        }
        if !has_key(client, table).await? {
            let indexing = format!("CREATE UNIQUE INDEX ON {name} ({})", table.key());
            client.batch_execute(&indexing).await?;
        }
        client.batch_execute("COMMIT").await?;
        types = self::types(client, table).await?;
    }
    Ok(statements(table, &types))
}

fn statements(table: &Table, types: &[Option<String>]) -> Statements {
    let count = table.columns.len();
    // Poolers hand one connection to several of us, whose columns may differ in number.
    let staging = format!("tollgate_staging_{count}");
    let columns: Vec<String> = (0..count).map(|at| format!("c{at} text")).collect();
    let casts = types.iter().enumerate().map(|(at, kind)| {
        let kind = kind.as_deref().unwrap_or("text");
        format!("c{at}::{kind}")
    });
    let casts: Vec<String> = casts.collect();
    Statements {
        begin: format!(
            "BEGIN; CREATE TEMP TABLE IF NOT EXISTS {staging} ({}) ON COMMIT DELETE ROWS",
            columns.join(", ")
        ),
        copy: format!("COPY pg_temp.{staging} FROM STDIN"),
        insert: format!(
            "INSERT INTO {} ({}) SELECT {} FROM pg_temp.{staging} ON CONFLICT ({}) DO NOTHING; \
             COMMIT",
            table.name,
            table.names(),
            casts.join(", "),
            table.key()
        ),
    }
}

/// The type of each column that is there. Without its length: a cast to that would cut texts unseen.
async fn types(client: &Client, table: &Table) -> Result<Vec<Option<String>>, Error> {
    let listing = "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute \
                   WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
    let rows = client.query(listing, &[&table.name]).await?;
    let mut present: Vec<(String, String)> = Vec::with_capacity(rows.len());
    for row in rows {
        present.push((row.try_get(0)?, row.try_get(1)?));
    }
    let find = |name: &str| present.iter().find(|(column, _)| column == name);
    let types = table.columns.iter();
    Ok(types
        .map(|it| find(&it.plain).map(|(_, kind)| kind.clone()))
        .collect())
}

/// Whether the key's column is unique by itself.
async fn has_key(client: &Client, table: &Table) -> Result<bool, Error> {
    let asking = "SELECT EXISTS (SELECT FROM pg_index JOIN pg_attribute \
                  ON attrelid = indrelid AND attnum = indkey[0] \
                  WHERE indrelid = to_regclass($1) AND attname::text = $2 \
                  AND indisunique AND indisvalid AND indpred IS NULL AND indnkeyatts = 1)";
    client
        .query_one(asking, &[&table.name, &table.key_name()])
        .await?
        .try_get(0)
}

/// The rows in the text format of COPY.
fn encode(rows: &[Row<'_>]) -> String {
    let mut out = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            if at > 0 {
                out.push('\t');
            }
            let Some(text) = cell else {
                out.push_str("\\N");
                continue;
            };
            for part in text.split_inclusive(['\\', '\t', '\n', '\r']) {
                let escaped = match part.as_bytes().last() {
                    Some(b'\\') => "\\\\",
                    Some(b'\t') => "\\t",
                    Some(b'\n') => "\\n",
                    Some(b'\r') => "\\r",
                    _ => "",
                };
                let special = usize::from(!escaped.is_empty());
                out.push_str(part.get(..part.len() - special).unwrap_or_default());
                out.push_str(escaped);
            }
        }
        out.push('\n');
    }
    out
}

/// What an error means for another attempt, by its class in PostgreSQL's list of error codes.
fn failure(error: &Error) -> Failure {
    let class = error.code().and_then(|code| code.code().get(..2));
    // Data exceptions, broken constraints, limits of the server.
    if matches!(class, Some("22" | "23" | "54")) {
        Failure::Data(words(error))
    } else {
        passing(error)
    }
}

fn passing(error: &Error) -> Failure {
    Failure::Passing(words(error))
}

/// What happened. The server's own words about data repeat the data, and are left out.
fn words(error: &Error) -> String {
    let Some(said) = error.as_db_error() else {
        let mut words = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            let text = cause.to_string();
            if !words.ends_with(&text) {
                // Writing to a String cannot fail.
                let _ok = write!(words, ": {text}");
            }
            source = cause.source();
        }
        return words;
    };
    let code = said.code().code();
    let places = [said.table(), said.column(), said.constraint()];
    let places: Vec<&str> = places.into_iter().flatten().collect();
    if code.starts_with("22") || code.starts_with("23") {
        return format!(
            "it does not take the data (error {code} {})",
            places.join(" ")
        );
    }
    format!("{} (error {code})", said.message())
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn rows_are_told_apart_from_what_is_in_them() {
        let row = |cells: &[Option<&'static str>]| -> Row<'static> {
            cells.iter().map(|it| it.map(Cow::Borrowed)).collect()
        };
        let rows = [
            row(&[Some("a\tb\\N\n"), None, Some("")]),
            row(&[Some("\\N"), Some("\r"), Some("é\u{1}")]),
        ];
        assert_eq!(encode(&rows), "a\\tb\\\\N\\n\t\\N\t\n\\\\N\t\\r\té\u{1}\n");
    }

    #[test]
    fn every_column_is_cast_to_the_type_that_it_has() {
        let mapping = serde_saphyr::from_str("{kind: null, status: null, events: null}").unwrap();
        let table = Table::new("t", &mapping).unwrap();
        let types = vec![Some("uuid".to_owned()); table.columns.len()];
        let statements = statements(&table, &types);
        assert!(statements.insert.contains("SELECT c0::uuid, c1::uuid"));
        assert!(
            statements
                .insert
                .contains("ON CONFLICT (\"span_id\") DO NOTHING")
        );
        assert!(statements.begin.contains("tollgate_staging_8"));
    }
}

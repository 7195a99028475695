//! Rows in an SQLite file.

use std::{
    fs::{DirBuilder, OpenOptions},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, params_from_iter};

use super::{
    Failure,
    table::{Row, Table},
};

/// How long another writer of the file is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// A file, opened with the first batch.
pub(super) struct Sqlite {
    path: PathBuf,
    connection: Option<Connection>,
}

impl Sqlite {
    /// The file of `sqlite:///path`; with two slashes less, a relative path.
    pub(super) fn at(path: &str) -> Self {
        Self {
            path: PathBuf::from(path),
            connection: None,
        }
    }

    /// Inserts the rows that are not there yet: all, or none.
    pub(super) fn insert(&mut self, table: &Table, rows: &[Row<'_>]) -> Result<(), Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open(table)?,
        };
        match insert(&mut connection, table, rows) {
            Ok(()) => {},
            Err(error) => match self.failure(&error) {
                // The file is opened, and its table looked at, anew.
                failure @ Failure::Passing(_) => return Err(failure),
                failure @ Failure::Data(_) => {
                    self.connection = Some(connection);
                    return Err(failure);
                },
            },
        }
        self.connection = Some(connection);
        Ok(())
    }

    fn open(&self, table: &Table) -> Result<Connection, Failure> {
        make(&self.path)
            .map_err(|error| Failure::Passing(format!("{}: {error}", self.path.display())))?;
        let opened = Connection::open_with_flags(
            &self.path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        );
        let prepared = opened.and_then(|mut connection| {
            connection.busy_timeout(PATIENCE)?;
            migrate(&mut connection, table)?;
            Ok(connection)
        });
        prepared.map_err(|error| match self.failure(&error) {
            Failure::Passing(reason) | Failure::Data(reason) => Failure::Passing(reason),
        })
    }

    fn failure(&self, error: &rusqlite::Error) -> Failure {
        let data = matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig)
        );
        // SQLite names tables and columns, never values.
        let reason = format!("{}: {error}", self.path.display());
        if data {
            Failure::Data(reason)
        } else {
            Failure::Passing(reason)
        }
    }
}

/// Makes the file, and the directories above it, for the owner alone, if they are not there.
fn make(path: &Path) -> std::io::Result<()> {
    if let Some(directory) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).open(path)?;
    Ok(())
}

/// Brings the table up to date: makes it, and the columns and the key that it lacks.
fn migrate(connection: &mut Connection, table: &Table) -> rusqlite::Result<()> {
    // Taken at once: two that read first would both wait for the other to end.
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction.execute(&table.creation(|column| column.sqlite), [])?;
    let name = &table.name;
    let mut present: Vec<String> = Vec::new();
    {
        let mut listing = transaction.prepare(&format!("PRAGMA table_info({name})"))?;
        let mut rows = listing.query([])?;
        while let Some(row) = rows.next()? {
            present.push(row.get("name")?);
        }
    }
    for column in &table.columns {
        let is_there = |name: &String| name.eq_ignore_ascii_case(&column.plain);
        if !present.iter().any(is_there) {
            let (quoted, kind) = (&column.quoted, column.sqlite);
            transaction.execute(
                &format!("ALTER TABLE {name} ADD COLUMN {quoted} {kind}"),
                [],
            )?;
        }
    }
    // What has no unique index on the key cannot be inserted into.
    if transaction.prepare(&statement(table)).is_err() {
        let key = table.key();
        let index = format!(
            "CREATE UNIQUE INDEX \"tollgate {}\" ON {name} ({key})",
            name.replace('"', "")
        );
        transaction.execute(&index, [])?;
    }
    transaction.commit()
}

fn statement(table: &Table) -> String {
    let places = vec!["?"; table.columns.len()].join(", ");
    let (name, key) = (&table.name, table.key());
    format!(
        "INSERT INTO {name} ({}) VALUES ({places}) ON CONFLICT ({key}) DO NOTHING",
        table.names()
    )
}

fn insert(connection: &mut Connection, table: &Table, rows: &[Row<'_>]) -> rusqlite::Result<()> {
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    {
        let mut statement = transaction.prepare_cached(&statement(table))?;
        for row in rows {
            statement.execute(params_from_iter(row.iter().map(Option::as_deref)))?;
        }
    }
    transaction.commit()
}

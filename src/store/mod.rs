//! The embedded store of spans: one SQLite file. One process writes, any number read meanwhile.
//!
//! Rows are only ever appended and, when they are too old, deleted from the old end: an index over
//! ids that clients choose at random would cost more than all the rest of a call. What is asked for
//! by id is found through small summaries of runs of rows instead (`blocks.rs`).

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use crate::base::{clock::Timestamp, units};

mod adopt;
mod amend;
mod blocks;
mod reader;
mod report;
mod schema;
mod writer;

pub use amend::Amendment;
pub use reader::{Filter, Reader, Stored};
pub use writer::{Latest, ROWS_BEFORE_A_CRASH, Writer};

/// The `store:` section of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The directory of the store; made if it is not there, for the owner alone.
    pub path: PathBuf,
    /// How long spans are kept; zero keeps them for good.
    #[serde(with = "units::duration")]
    pub retention: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: PathBuf::from("./tollgate-data"),
            retention: Duration::from_hours(30 * 24),
        }
    }
}

impl Config {
    /// What began before this is no longer kept at `now`.
    pub fn keeps_from(&self, now: Timestamp) -> Timestamp {
        if self.retention.is_zero() {
            Timestamp::default()
        } else {
            now - self.retention
        }
    }

    /// The database file.
    pub fn file(&self) -> PathBuf {
        self.path.join("spans.db")
    }
}

/// The store cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no store.
    #[error("{}: there is no store yet: `tollgate run` makes one", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The directory or the file cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// What could not be used.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a store, or is damaged.
    #[error("{}: not a store of Tollgate's, or damaged: move it away and a new one is made", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The file was written by another version.
    #[error(
        "{}: the store has format {found}, this Tollgate reads {known}: use the newer Tollgate, or \
         start `tollgate run` once to bring the store up to date",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The format that it has.
        found: i64,
        /// The format that we know.
        known: i64,
    },
    /// A statement failed.
    #[error("{}: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

impl StoreError {
    /// Tells damage from everything else that SQLite may complain about.
    fn of(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
                Self::Damaged { path, source }
            },
            _ => Self::Sqlite { path, source },
        }
    }
}

//! What is on disk: the store of spans and the ledger, read whether or not a sidecar runs. Every
//! function blocks on the file system.

use std::path::{Path, PathBuf};

use super::{posted::Posted, why::Why};
use crate::{
    base::{
        clock::Timestamp,
        id::{RequestId, TraceId},
    },
    call::tally::{Dimension, Tally},
    ledger::{self, BooksError, LedgerError, Verified, View},
    policy::{Order, Standing},
    store::{self, Filter, Reader, StoreError, Stored},
};

/// The store and the ledger of a configuration.
#[derive(Clone, Debug)]
pub struct Archive {
    store: PathBuf,
    ledger: PathBuf,
}

/// They cannot be read, or do not have what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger cannot be opened.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger cannot be read, or does not hold.
    #[error(transparent)]
    Books(#[from] BooksError),
    /// The text is neither an id nor the beginning of one.
    #[error(
        "`{0}` is not a request id: expected up to 32 hexadecimal digits, as in the header \
         x-tollgate-request-id"
    )]
    NoId(String),
    /// No call has that id.
    #[error(
        "no call has the id {0}: it may be older than store.retention, or belong to another store"
    )]
    NoCall(String),
    /// Several calls have ids that begin so.
    #[error("{0} is the beginning of several ids: {1}…; give more of it")]
    Ambiguous(String, String),
    /// No span has that trace.
    #[error("no span has the trace {0}")]
    NoTrace(TraceId),
}

/// The most spans that one trace is shown with.
const MOST_OF_A_TRACE: usize = 10_000;

impl Archive {
    /// Of these sections of a configuration.
    pub fn new(store: &store::Config, ledger: &ledger::Config) -> Self {
        Self {
            store: store.file(),
            ledger: ledger.path.clone(),
        }
    }

    /// The database of spans.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// Opens the store.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        Reader::open(&self.store)
    }

    /// The spans that `filter` means, at most `limit`, the oldest first: the last ones, or with
    /// [`Filter::after`] the next ones. And the place of the last of them, for going on from there.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn spans(&self, filter: &Filter, limit: usize) -> Result<(Vec<Stored>, i64), ArchiveError> {
        let reader = self.reader()?;
        let spans = match filter.after {
            Some(_) => reader.first(filter, limit)?,
            None => reader.latest(filter, limit)?,
        };
        let next = match (spans.last(), filter.after) {
            (Some(last), _) => last.id,
            (None, Some(after)) => after,
            (None, None) => reader.last_id()?,
        };
        Ok((spans, next))
    }

    /// The spans of a trace, in the order in which they ended.
    ///
    /// # Errors
    /// The store cannot be read, or has none.
    pub fn trace(&self, id: TraceId) -> Result<Vec<Stored>, ArchiveError> {
        let spans = self.reader()?.trace(id, MOST_OF_A_TRACE)?;
        if spans.is_empty() {
            return Err(ArchiveError::NoTrace(id));
        }
        Ok(spans)
    }

    /// What calls come to, by group.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn report(&self, filter: &Filter, by: &[Dimension]) -> Result<Vec<Tally>, ArchiveError> {
        Ok(self.reader()?.report(filter, by)?)
    }

    /// The span of a call.
    ///
    /// # Errors
    /// The store cannot be read, or has no such call.
    pub fn request(&self, id: RequestId) -> Result<Stored, ArchiveError> {
        let found = self.reader()?.request(id)?;
        found.ok_or_else(|| ArchiveError::NoCall(id.to_string()))
    }

    /// The id that `text` is, or is the beginning of.
    ///
    /// # Errors
    /// It is neither, or several ids begin so.
    pub fn request_id(&self, text: &str) -> Result<RequestId, ArchiveError> {
        let text = text.trim();
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        let between = RequestId::starting_with(text);
        let between = between.map_err(|_invalid| ArchiveError::NoId(text.to_owned()))?;
        let found = self.reader()?.requests_between(between, 3)?;
        match found.as_slice() {
            [] => Err(ArchiveError::NoCall(format!("{text}…"))),
            [id] => Ok(*id),
            several => {
                let several = several.iter().map(ToString::to_string);
                let several = several.collect::<Vec<_>>().join(", ");
                Err(ArchiveError::Ambiguous(text.to_owned(), several))
            },
        }
    }

    /// Why a call was let through or not, and what came of it.
    ///
    /// # Errors
    /// Nothing is known of the call, or store or ledger cannot be read.
    pub fn why(&self, id: RequestId) -> Result<Why, ArchiveError> {
        let records = View::open(&self.ledger)?.why(id)?;
        let span = match self.reader() {
            Ok(reader) => reader.request(id)?.map(|stored| stored.line),
            // A run without a store can still have a ledger.
            Err(StoreError::Missing { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if records.is_empty() && span.is_none() {
            return Err(ArchiveError::NoCall(id.to_string()));
        }
        Ok(Why::new(id, &records, span))
    }

    /// What every counter holds, as the ledger has it.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn standings(&self, now: Timestamp) -> Result<Vec<Standing>, ArchiveError> {
        Ok(View::open(&self.ledger)?.standings(now)?)
    }

    /// Every order that was given about calls, and not before `ledger.retention`.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn orders(&self) -> Result<Vec<Order>, ArchiveError> {
        Ok(View::open(&self.ledger)?.orders()?)
    }

    /// The kills that were not lifted; some may be over.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn kills(&self) -> Result<Vec<Order>, ArchiveError> {
        Ok(View::open(&self.ledger)?.kills()?)
    }

    /// Shows `more` what was entered of calls that were admitted from `since` on and before `until`,
    /// and of changes that were made then, as long as it says so.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn entries(
        &self,
        since: Timestamp,
        until: Timestamp,
        mut more: impl FnMut(Posted) -> bool,
    ) -> Result<(), ArchiveError> {
        Ok(
            View::open(&self.ledger)?.entries(since, until, |at, records| {
                Posted::of(at, &records).into_iter().all(&mut more)
            })?,
        )
    }

    /// Proves the ledger's totals.
    ///
    /// # Errors
    /// What does not hold, or the ledger cannot be read.
    pub fn verify(&self) -> Result<Verified, ArchiveError> {
        Ok(View::open(&self.ledger)?.verify()?)
    }

    /// The last hash of the ledger.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn head(&self) -> Result<ledger::Hash, ArchiveError> {
        Ok(View::open(&self.ledger)?.head()?)
    }
}

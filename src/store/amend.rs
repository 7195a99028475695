//! Costs of stored spans that were worked out again.

use rusqlite::params;

use super::{StoreError, writer::Writer};
use crate::base::money::Usd;

/// A span's new cost, and its line with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amendment {
    /// Its place.
    pub id: i64,
    /// The cost.
    pub cost: Usd,
    /// The whole line.
    pub line: String,
}

impl Writer {
    /// Writes new costs: all of them or, after an error, none. What is not there any more is passed
    /// over.
    ///
    /// # Errors
    /// Whatever SQLite reports.
    pub fn amend(&mut self, amendments: &[Amendment]) -> Result<(), StoreError> {
        let mut write = || {
            let transaction = self.connection.transaction()?;
            let mut costs = transaction.prepare("UPDATE spans SET cost = ? WHERE id = ?")?;
            let mut lines = transaction.prepare("UPDATE lines SET line = ? WHERE id = ?")?;
            for Amendment { id, cost, line } in amendments {
                costs.execute(params![cost.nanos(), id])?;
                lines.execute(params![line, id])?;
            }
            drop((costs, lines));
            transaction.commit()
        };
        let written: rusqlite::Result<()> = write();
        written.map_err(|source| StoreError::of(&self.path, source))
    }
}

//! A JSON body in chunks: kept as it is, or reduced to what matters once it is large.

use crate::provider::wire::scan::{Scanner, Wanted};

/// The largest body that is kept in order to read it whole, in bytes; a larger one is scanned.
const MAX_JSON: usize = 8 * 1024 * 1024;

/// The body so far.
pub(super) struct Document {
    wanted: Wanted,
    kept: Vec<u8>,
    scanner: Option<Scanner>,
}

impl Document {
    /// Of which `wanted` matters.
    pub(super) const fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            kept: Vec::new(),
            scanner: None,
        }
    }

    /// Nothing of it has come.
    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.scanner.is_none()
    }

    /// Takes in a chunk.
    pub(super) fn keep(&mut self, chunk: &[u8]) {
        if let Some(scanner) = &mut self.scanner {
            scanner.feed(chunk);
        } else if self.kept.len() + chunk.len() <= MAX_JSON {
            self.kept.extend_from_slice(chunk);
        } else {
            let mut scanner = Scanner::new(self.wanted);
            scanner.feed(&self.kept);
            scanner.feed(chunk);
            self.kept = Vec::new();
            self.scanner = Some(scanner);
        }
    }

    /// All of it, or what matters of it; `None`: it is empty.
    pub(super) fn finish(self) -> Option<Vec<u8>> {
        match self.scanner {
            Some(scanner) => Some(scanner.finish().document),
            None => (!self.kept.is_empty()).then_some(self.kept),
        }
    }
}

//! `br`.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};

use super::{GaveUp, STEP, Sink};

/// Decodes a body that arrives in chunks (RFC 7932: windows of 16 MiB at most).
pub(super) struct Brotli {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    begun: bool,
    done: bool,
}

impl Brotli {
    pub(super) fn new() -> Self {
        let alloc = StandardAlloc::default;
        Self {
            state: BrotliState::new_strict(alloc(), alloc(), alloc()),
            begun: false,
            done: false,
        }
    }

    /// Decodes a chunk.
    pub(super) fn feed(&mut self, chunk: &[u8], sink: Sink<'_>) -> Result<(), GaveUp> {
        let (mut at, mut left) = (0, chunk.len());
        let mut out = [0; STEP];
        self.begun |= left > 0;
        while !self.done {
            let (mut made, mut room, mut total) = (0, out.len(), 0);
            let result = BrotliDecompressStream(
                &mut left,
                &mut at,
                chunk,
                &mut room,
                &mut made,
                &mut out,
                &mut total,
                &mut self.state,
            );
            sink(out.get(..made).unwrap_or_default())?;
            match result {
                BrotliResult::NeedsMoreInput => return Ok(()),
                BrotliResult::NeedsMoreOutput => {},
                BrotliResult::ResultSuccess => self.done = true,
                BrotliResult::ResultFailure => return Err(GaveUp::Damaged),
            }
        }
        // Nothing may follow.
        if left > 0 {
            Err(GaveUp::Damaged)
        } else {
            Ok(())
        }
    }

    /// Whether the body may end here.
    pub(super) const fn is_whole(&self) -> bool {
        self.done || !self.begun
    }
}

//! `zstd`.

use zstd::{
    stream::raw::{Decoder, Operation as _},
    zstd_safe::DParameter,
};

use super::{GaveUp, STEP, Sink};

/// The largest window, as a power of two: 8 MiB, which RFC 9659 bounds this coding to.
const MAX_WINDOW: u32 = 23;

/// Decodes a body that arrives in chunks, of one frame or several (RFC 8878).
pub(super) struct Zstd {
    /// `None` only for want of memory.
    decoder: Option<Decoder<'static>>,
    whole: bool,
}

impl Zstd {
    pub(super) fn new() -> Self {
        let decoder = Decoder::new().and_then(|mut decoder| {
            decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW))?;
            Ok(decoder)
        });
        Self {
            decoder: decoder.ok(),
            whole: true,
        }
    }

    /// Decodes a chunk.
    pub(super) fn feed(&mut self, chunk: &[u8], sink: Sink<'_>) -> Result<(), GaveUp> {
        let decoder = self.decoder.as_mut().ok_or(GaveUp::Damaged)?;
        let mut rest = chunk;
        let mut out = [0; STEP];
        let mut is_full = false;
        while is_full || !rest.is_empty() {
            let done = decoder
                .run_on_buffers(rest, &mut out)
                .map_err(|_damage| GaveUp::Damaged)?;
            rest = rest.get(done.bytes_read..).unwrap_or_default();
            sink(out.get(..done.bytes_written).unwrap_or_default())?;
            self.whole = done.remaining == 0;
            is_full = done.bytes_written == out.len() && !self.whole;
            if done.bytes_read == 0 && done.bytes_written == 0 {
                break;
            }
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(GaveUp::Damaged)
        }
    }

    /// Whether the body may end here.
    pub(super) const fn is_whole(&self) -> bool {
        self.whole
    }
}

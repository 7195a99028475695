//! Compressed bodies, decoded on a copy for the meter. The bytes that pass stay as they are.
//!
//! It gives up at [`Decoder::MAX_BYTES`] of output, unless it is [`Decoder::of_any_length`], or where
//! the output is more than [`Decoder::MAX_RATIO`] times the body: that is a bomb, not an answer, also
//! where it blows up in two codings.

mod brotli;
mod inflate;
mod zstandard;

use http::{HeaderMap, header::CONTENT_ENCODING};

use self::{brotli::Brotli, inflate::Inflate, zstandard::Zstd};

/// How much is decoded at a time, in bytes.
const STEP: usize = 16 * 1024;

/// Where decoded bytes go.
type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), GaveUp>;

/// Why a body is not read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GaveUp {
    /// It is encoded in a way that is not known here.
    #[error("content-encoding")]
    Unknown,
    /// The bytes are not what the header says.
    #[error("the compressed body is damaged")]
    Damaged,
    /// The bytes end before the body does.
    #[error("the compressed body broke off")]
    BrokeOff,
    /// More came out than an answer has.
    #[error("the compressed body holds more than {} MiB", Decoder::MAX_BYTES >> 20)]
    TooLarge,
    /// Far more came out than went in.
    #[error(
        "the compressed body holds more than {} times its size",
        Decoder::MAX_RATIO
    )]
    Bomb,
}

/// Decodes a body that arrives in chunks, each as far as it goes: nothing is held back.
pub struct Decoder {
    /// The last coding that was applied comes first.
    layers: Vec<Layer>,
    /// Bytes of the body that came, whatever its layers made of them.
    read: u64,
    failed: Option<GaveUp>,
}

struct Layer {
    coding: Coding,
    written: u64,
    /// The most that may be written.
    most: u64,
}

enum Coding {
    Inflate(Inflate),
    Brotli(Box<Brotli>),
    Zstd(Zstd),
}

impl Decoder {
    /// The most bytes that are decoded of a body of which much is kept.
    pub const MAX_BYTES: u64 = 64 << 20;
    /// The most that is decoded for each byte of the body, by all its codings together.
    pub const MAX_RATIO: u64 = 200;
    /// Below so many decoded bytes the ratio does not matter.
    const RATIO_FROM: u64 = 1 << 20;
    /// The most codings, one in another.
    const MAX_LAYERS: usize = 3;

    /// A decoder of the body that these headers describe; `None` if it is not encoded.
    ///
    /// # Errors
    /// [`GaveUp::Unknown`].
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, GaveUp> {
        let mut layers = Vec::new();
        for value in headers.get_all(CONTENT_ENCODING) {
            let value = value.to_str().map_err(|_opaque| GaveUp::Unknown)?;
            for name in value.split(',').map(str::trim) {
                let is = |known: &str| name.eq_ignore_ascii_case(known);
                let coding = if is("gzip") || is("x-gzip") {
                    Coding::Inflate(Inflate::gzip())
                } else if is("deflate") {
                    Coding::Inflate(Inflate::deflate())
                } else if is("br") {
                    Coding::Brotli(Box::new(Brotli::new()))
                } else if is("zstd") {
                    Coding::Zstd(Zstd::new())
                } else if is("identity") || name.is_empty() {
                    continue;
                } else {
                    return Err(GaveUp::Unknown);
                };
                layers.insert(0, Layer::new(coding));
                if layers.len() > Self::MAX_LAYERS {
                    return Err(GaveUp::Unknown);
                }
            }
        }
        Ok((!layers.is_empty()).then_some(Self {
            layers,
            read: 0,
            failed: None,
        }))
    }

    /// The same without [`Self::MAX_BYTES`]: for who keeps nothing of what was decoded.
    #[must_use]
    pub fn of_any_length(mut self) -> Self {
        for layer in &mut self.layers {
            layer.most = u64::MAX;
        }
        self
    }

    /// Decodes a chunk and hands what is in it to `sink`, in pieces.
    ///
    /// # Errors
    /// Why it gave up; `sink` has what came before. Every later call says the same.
    pub fn feed(&mut self, chunk: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<(), GaveUp> {
        if let Some(reason) = self.failed {
            return Err(reason);
        }
        self.read = self.read.saturating_add(count(chunk));
        let allowed = self.read.saturating_mul(Self::MAX_RATIO);
        let fed = feed(&mut self.layers, chunk, allowed, sink);
        self.failed = fed.err();
        fed
    }

    /// The body has ended.
    ///
    /// # Errors
    /// It had not come to its own end, or it was given up before.
    pub fn finish(&self) -> Result<(), GaveUp> {
        match self.failed {
            Some(reason) => Err(reason),
            None if self.layers.iter().all(Layer::is_whole) => Ok(()),
            None => Err(GaveUp::BrokeOff),
        }
    }
}

/// Decodes through all the layers, none of which may write more than `allowed` bytes in all.
fn feed(
    layers: &mut [Layer],
    chunk: &[u8],
    allowed: u64,
    sink: &mut dyn FnMut(&[u8]),
) -> Result<(), GaveUp> {
    let Some((outer, inner)) = layers.split_first_mut() else {
        sink(chunk);
        return Ok(());
    };
    outer.feed(chunk, allowed, &mut |piece| {
        feed(inner, piece, allowed, sink)
    })
}

fn count(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

impl Layer {
    const fn new(coding: Coding) -> Self {
        Self {
            coding,
            written: 0,
            most: Decoder::MAX_BYTES,
        }
    }

    fn feed(&mut self, chunk: &[u8], allowed: u64, sink: Sink<'_>) -> Result<(), GaveUp> {
        let (written, most) = (&mut self.written, self.most);
        let mut checked = |piece: &[u8]| {
            if piece.is_empty() {
                return Ok(());
            }
            *written = written.saturating_add(count(piece));
            if *written > most {
                return Err(GaveUp::TooLarge);
            }
            if *written > Decoder::RATIO_FROM && *written > allowed {
                return Err(GaveUp::Bomb);
            }
            sink(piece)
        };
        match &mut self.coding {
            Coding::Inflate(inflate) => inflate.feed(chunk, &mut checked),
            Coding::Brotli(brotli) => brotli.feed(chunk, &mut checked),
            Coding::Zstd(zstd) => zstd.feed(chunk, &mut checked),
        }
    }

    const fn is_whole(&self) -> bool {
        match &self.coding {
            Coding::Inflate(inflate) => inflate.is_whole(),
            Coding::Brotli(brotli) => brotli.is_whole(),
            Coding::Zstd(zstd) => zstd.is_whole(),
        }
    }
}

#[cfg(test)]
mod tests;

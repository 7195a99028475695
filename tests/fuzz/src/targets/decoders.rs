//! Compressed bodies.
//!
//! What must hold: any chunking decodes the same, and ends the same; no more comes out than the
//! decoder's bounds say; what was compressed comes back.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, header::CONTENT_ENCODING};

use super::{chunks, steered};
use crate::provider::wire::encoding::{Decoder, GaveUp};

const ENCODINGS: [&str; 6] = ["gzip", "deflate", "br", "zstd", "gzip, br", "deflate, zstd"];

pub fn run(input: &[u8]) {
    let Some((bytes, [encoding, size])) = steered(input) else {
        return;
    };
    let encoding = ENCODINGS[usize::from(encoding) % ENCODINGS.len()];
    let (whole, ended) = decode(encoding, bytes, 0);
    let (cut, cut_ended) = decode(encoding, bytes, size);
    // A bomb is known by how much came in, which depends on the chunks.
    let is_bomb = |end| matches!(end, Err(GaveUp::Bomb | GaveUp::TooLarge));
    if !is_bomb(ended) && !is_bomb(cut_ended) {
        assert_eq!(cut_ended, ended, "{encoding} in chunks of {size}");
        // Damage may be noticed before all is out that came before it.
        assert!(
            ended.is_err() || cut == whole,
            "{encoding} in chunks of {size}"
        );
    }
    let packed = gzip(bytes);
    assert_eq!(decode("gzip", &packed, size), (bytes.to_vec(), Ok(())));
}

fn decode(encoding: &'static str, bytes: &[u8], size: u8) -> (Vec<u8>, Result<(), GaveUp>) {
    let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(encoding))]);
    let mut decoder = Decoder::of(&headers).ok().flatten().expect("it is known");
    let mut plain = Vec::new();
    for chunk in chunks(bytes, size) {
        let fed = decoder.feed(&chunk, &mut |piece| plain.extend_from_slice(piece));
        if let Err(reason) = fed {
            assert_eq!(decoder.finish(), Err(reason));
            break;
        }
    }
    let most = u64::try_from(bytes.len()).unwrap_or(u64::MAX) * Decoder::MAX_RATIO;
    assert!(
        plain.len() as u64 <= most.max(1 << 20),
        "{} of {}",
        plain.len(),
        bytes.len()
    );
    (plain, decoder.finish())
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).expect("a vector takes all");
    encoder.finish().expect("a vector takes all")
}

/// A sentence in every coding that can be written here, and the beginnings of the others.
pub fn seeds() -> Vec<Vec<u8>> {
    let plain = b"It was the best of times, it was the worst of times.";
    let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), Compression::best());
    deflate.write_all(plain).expect("a vector takes all");
    let deflate = deflate.finish().expect("a vector takes all");
    let zstd = zstd::encode_all(&plain[..], 1).expect("a vector takes all");
    let both = zstd::encode_all(&deflate[..], 1).expect("a vector takes all");
    // An empty stream, one metablock that is not compressed, one that is.
    let br: [&[u8]; 2] = [b"\x3b", b"\x0b\x02\x80hello\x03"];
    let mut seeds = vec![
        [&*gzip(plain), &[0, 5]].concat(),
        [&*deflate, &[1, 5]].concat(),
        [&*zstd, &[3, 5]].concat(),
        [&*both, &[5, 5]].concat(),
    ];
    seeds.extend(br.map(|bytes| [bytes, &[2, 1]].concat()));
    seeds
}

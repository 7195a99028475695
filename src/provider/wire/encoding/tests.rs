//! Bodies in every coding, in chunks of every size, and damaged.

use std::io::Write as _;

use flate2::{
    Compression, GzBuilder,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};
use http::HeaderValue;
use proptest::prelude::*;

use super::*;

/// What is decoded of a body with this `content-encoding`, and how that ended.
fn decode(encoding: &str, bytes: &[u8], size: usize) -> (Vec<u8>, Result<(), GaveUp>) {
    let mut decoder = decoder(encoding).unwrap().unwrap();
    let mut plain = Vec::new();
    for chunk in bytes.chunks(size) {
        let fed = decoder.feed(chunk, &mut |piece| plain.extend_from_slice(piece));
        if fed.is_err() {
            assert_eq!(decoder.finish(), fed);
            return (plain, fed);
        }
    }
    (plain, decoder.finish())
}

fn decoder(encoding: &str) -> Result<Option<Decoder>, GaveUp> {
    let value = HeaderValue::from_str(encoding).unwrap();
    Decoder::of(&HeaderMap::from_iter([(CONTENT_ENCODING, value)]))
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn raw(plain: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn br(plain: &[u8]) -> Vec<u8> {
    let mut encoder = ::brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
    encoder.write_all(plain).unwrap();
    encoder.into_inner()
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(plain, 1).unwrap()
}

/// Each coding, and the same bytes in it.
fn every(plain: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("gzip", gzip(plain)),
        ("deflate", zlib(plain)),
        ("deflate", raw(plain)),
        ("br", br(plain)),
        ("zstd", zstd(plain)),
        ("zstd", [zstd(plain), zstd(b"")].concat()),
        ("gzip, br", br(&gzip(plain))),
        ("br, identity,zstd", zstd(&br(plain))),
    ]
}

proptest! {
    #[test]
    fn every_encoding_gives_back_what_went_in(
        plain in prop::collection::vec(0_u8..4, 0..2000), size in 1_usize..300,
    ) {
        for (encoding, bytes) in every(&plain) {
            let expected = (plain.clone(), Ok(()));
            prop_assert_eq!(decode(encoding, &bytes, size), expected, "{}", encoding);
        }
    }

    #[test]
    fn garbage_is_given_up_without_harm(
        bytes in prop::collection::vec(any::<u8>(), 0..200), keep in 0_usize..20,
    ) {
        for (encoding, sound) in every(b"some text, some text") {
            let headed = [&sound[..keep.min(sound.len())], &*bytes].concat();
            let _decoded = decode(encoding, &bytes, 7);
            let _decoded = decode(encoding, &headed, 7);
        }
    }
}

#[test]
fn a_body_that_ends_before_its_end_broke_off() {
    let plain: Vec<u8> = (0_u8..=255).cycle().take(1000).collect();
    for (encoding, bytes) in every(&plain) {
        for end in 1..bytes.len() {
            // A second frame may follow, and need not.
            let is_end = decode(encoding, &bytes[..end], 100).1.is_ok();
            assert!(
                !is_end || bytes.len() - end == zstd(b"").len(),
                "{encoding} {end}"
            );
        }
        assert_eq!(decode(encoding, &[], 1).1, Ok(()), "{encoding}");
    }
}

#[test]
fn what_was_changed_on_the_way_is_damage_where_there_is_a_checksum() {
    let plain = b"It was the best of times, it was the worst of times.";
    let mut sums = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
    sums.include_checksum(true).unwrap();
    sums.write_all(plain).unwrap();
    let summed = [
        ("gzip", gzip(plain), 10),
        ("deflate", zlib(plain), 2),
        ("zstd", sums.finish().unwrap(), 6),
    ];
    for (encoding, bytes, header) in summed {
        // The length at the end of gzip is not looked at.
        let end = bytes.len() - if encoding == "gzip" { 4 } else { 0 };
        for at in header..end {
            let mut bytes = bytes.clone();
            bytes[at] ^= 4;
            let (read, end) = decode(encoding, &bytes, 9);
            // Some bits mean nothing.
            assert!(end.is_err() || read == plain, "{encoding} {at}");
        }
    }
}

#[test]
fn a_header_with_every_field_and_a_second_member_are_read() {
    let mut encoder = GzBuilder::new()
        .extra(vec![0, 1, 2])
        .filename("name")
        .comment("comment")
        .write(Vec::new(), Compression::default());
    encoder.write_all(b"one ").unwrap();
    let mut bytes = encoder.finish().unwrap();
    bytes[3] |= 2;
    let header = 10 + 2 + 3 + 5 + 8;
    bytes.splice(header..header, [7, 7]);
    bytes.extend(gzip(b"two"));
    for size in [1, 3, 1000] {
        assert_eq!(decode("gzip", &bytes, size), (b"one two".to_vec(), Ok(())));
    }
}

#[test]
fn what_was_flushed_is_read_before_the_rest_comes() {
    const EVENT: &[u8] = b"data: x\n\n";
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(EVENT).unwrap();
    gzip.flush().unwrap();
    let mut br = ::brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
    br.write_all(EVENT).unwrap();
    br.flush().unwrap();
    let mut zstd = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
    zstd.write_all(EVENT).unwrap();
    zstd.flush().unwrap();
    let flushed = [
        ("gzip", gzip.get_ref()),
        ("br", br.get_ref()),
        ("zstd", zstd.get_ref()),
    ];
    for (encoding, bytes) in flushed {
        let expected = (EVENT.to_vec(), Err(GaveUp::BrokeOff));
        assert_eq!(decode(encoding, bytes, 1000), expected, "{encoding}");
    }
}

#[test]
fn a_bomb_is_given_up_early_and_stays_given_up() {
    let zeros = vec![0; 80 << 20];
    for (encoding, bomb) in [
        ("gzip", gzip(&zeros)),
        ("br", br(&zeros)),
        ("zstd", zstd(&zeros)),
        ("zstd, gzip", gzip(&zstd(&zeros))),
    ] {
        let mut decoder = decoder(encoding).unwrap().unwrap();
        let mut plain = 0;
        let fed = decoder.feed(&bomb, &mut |piece| plain += piece.len());
        assert_eq!(fed, Err(GaveUp::Bomb), "{encoding}");
        assert!(plain < 40 << 20, "{encoding} {plain}");
        assert_eq!(decoder.feed(b"x", &mut |_| ()), Err(GaveUp::Bomb));
    }
}

#[test]
fn a_bomb_of_two_codings_is_one_though_neither_is() {
    // Some 100 times smaller, again and again, which is small itself.
    let noise = (0..500_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]);
    let mut part: Vec<u8> = noise.collect();
    part.resize(64 << 10, 0);
    let packed = gzip(&part).repeat(100);
    let (plain, ended) = decode("gzip", &packed, 4096);
    assert_eq!((plain.len(), ended), (100 * part.len(), Ok(())));
    let twice = zstd(&packed);
    let (plain, ended) = decode("gzip, zstd", &twice, 4096);
    assert_eq!(ended, Err(GaveUp::Bomb));
    assert!(plain.len() <= 1 << 20, "{} of {}", plain.len(), twice.len());
}

#[test]
fn only_what_is_read_in_pieces_may_be_of_any_length() {
    // Nearly as long in its coding: no bomb.
    let noise: Vec<u8> = (0_u64..1 << 16)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect();
    let bytes = gzip(&noise).repeat(129);
    assert_eq!(decode("gzip", &bytes, 5000).1, Err(GaveUp::TooLarge));
    let mut decoder = decoder("gzip").unwrap().unwrap().of_any_length();
    let mut length = 0;
    let fed = decoder.feed(&bytes, &mut |piece| length += piece.len());
    assert_eq!((fed, length), (Ok(()), 129 * noise.len()));
}

#[test]
fn a_bomb_is_given_up_whatever_its_length_may_be() {
    let mut decoder = decoder("gzip").unwrap().unwrap().of_any_length();
    let zeros = gzip(&vec![0; 8 << 20]);
    assert_eq!(decoder.feed(&zeros, &mut |_| ()), Err(GaveUp::Bomb));
}

#[test]
fn a_window_larger_than_the_coding_may_have_is_not_opened() {
    // One frame whose header asks for a window of 16 MiB.
    let mut frame = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
    frame.window_log(24).unwrap();
    frame.write_all(&[7; 100]).unwrap();
    let bytes = frame.finish().unwrap();
    assert_eq!(decode("zstd", &bytes, 1000).1, Err(GaveUp::Damaged));
}

#[test]
fn what_is_not_so_encoded_is_damaged() {
    for encoding in ["gzip", "br", "zstd", "br, gzip"] {
        let plain = b"{\"not\":\"encoded\"}";
        assert_eq!(
            decode(encoding, plain, 100).1,
            Err(GaveUp::Damaged),
            "{encoding}"
        );
    }
    let mut bytes = gzip(b"x");
    // A kind of block that there is not.
    bytes[10] = 0xff;
    assert_eq!(decode("gzip", &bytes, 100).1, Err(GaveUp::Damaged));
}

#[test]
fn headers_are_read_in_any_case_and_unknown_encodings_are_not_guessed() {
    let of = |value| decoder(value).map(|decoder| decoder.is_some());
    assert_eq!(of(" GZip "), Ok(true));
    assert_eq!(of("x-gzip , BR"), Ok(true));
    assert_eq!(of(""), Ok(false));
    assert_eq!(of("identity"), Ok(false));
    assert_eq!(of("compress"), Err(GaveUp::Unknown));
    assert_eq!(of("gzip, dcb"), Err(GaveUp::Unknown));
    assert_eq!(of("gzip, gzip, gzip, gzip"), Err(GaveUp::Unknown));
    assert!(Decoder::of(&HeaderMap::new()).is_ok_and(|decoder| decoder.is_none()));
}

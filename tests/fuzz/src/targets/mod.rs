//! The targets, and what they share. An input is bytes as they come from a stranger, and behind
//! them a few that steer the target, so that a mutation of the one leaves the other.

pub mod cases;
pub mod content;
pub mod decoders;
pub mod events;
pub mod heads;
pub mod json;
pub mod openings;
pub mod reports;
pub mod requests;
pub mod responses;
pub mod sockets;

use std::{env, fs};

use bytes::Bytes;

/// The bytes under test, and those that steer.
fn steered<const N: usize>(input: &[u8]) -> Option<(&[u8], [u8; N])> {
    let (bytes, steer) = input.split_last_chunk()?;
    Some((bytes, *steer))
}

/// Chunks of at most `size` bytes; all in one if that is 0.
fn chunks(bytes: &[u8], size: u8) -> impl Iterator<Item = Bytes> {
    let size = match size {
        0 => bytes.len().max(1),
        size => usize::from(size),
    };
    bytes.chunks(size).map(Bytes::copy_from_slice)
}

/// Writes what a target begins with to the folder in `TOLLGATE_FUZZ_SEEDS`, if that is set.
pub fn sow(seeds: impl FnOnce() -> Vec<Vec<u8>>) {
    let Some(folder) = env::var_os("TOLLGATE_FUZZ_SEEDS") else {
        return;
    };
    let folder = std::path::Path::new(&folder);
    fs::create_dir_all(folder).expect("the folder of the seeds can be made");
    for (n, seed) in seeds().into_iter().enumerate() {
        fs::write(folder.join(format!("seed-{n}")), seed).expect("a seed can be written");
    }
}

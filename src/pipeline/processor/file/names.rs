//! What span files are called: `spans-2026-11-22.0001.jsonl`, compressed with `.gz` or `.zst`
//! behind it. Names sort in the order in which the files were begun.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Compression, Rotation};
use crate::base::clock::Timestamp;

const PREFIX: &str = "spans-";
const SUFFIX: &str = ".jsonl";

impl Rotation {
    /// The part of the name that says the period: `2026-11-22`, `2026-11-22T06`.
    pub(super) fn stamp(self, at: Timestamp) -> String {
        let length = match self {
            Self::Hourly => "2026-11-22T06".len(),
            Self::Daily | Self::Size => "2026-11-22".len(),
        };
        at.to_string().chars().take(length).collect()
    }
}

impl Compression {
    /// What compressed files have behind their name.
    pub(in crate::pipeline::processor) const fn extension(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some(".gz"),
            Self::Zstd => Some(".zst"),
        }
    }
}

/// The name of a period's file with that number.
pub(super) fn file(stamp: &str, number: u32) -> String {
    format!("{PREFIX}{stamp}.{number:04}{SUFFIX}")
}

/// The path with something behind its name.
pub(super) fn with(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(extension);
    PathBuf::from(name)
}

/// Whether there is a compressed file of that name.
pub(super) fn is_compressed(path: &Path) -> bool {
    let mut kinds = [Compression::Gzip, Compression::Zstd].into_iter();
    kinds.any(|kind| {
        kind.extension()
            .is_some_and(|extension| with(path, extension).exists())
    })
}

/// The highest number of a period's files, compressed or not; 0 if there are none.
pub(super) fn newest(directory: &Path, stamp: &str) -> io::Result<u32> {
    let mut newest = 0;
    for name in list(directory)? {
        let number = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_prefix(stamp)?.strip_prefix('.'))
            .and_then(|rest| rest.split_once(SUFFIX)?.0.parse().ok());
        newest = newest.max(number.unwrap_or(0));
    }
    Ok(newest)
}

/// The names of the span files in `directory`, the oldest first; half-made ones are left out.
pub(super) fn list(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        let rest = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once(SUFFIX));
        if rest.is_some_and(|(_, extension)| ["", ".gz", ".zst"].contains(&extension)) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether it is a span file that is not compressed.
pub(super) fn is_plain(name: &str) -> bool {
    name.ends_with(SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_the_period_in_utc() {
        let at = Timestamp::from_secs(1_795_328_714);
        assert_eq!(Rotation::Daily.stamp(at), "2026-11-22");
        assert_eq!(Rotation::Hourly.stamp(at), "2026-11-22T06");
    }

    #[test]
    fn the_newest_number_counts_compressed_files_and_no_strangers() {
        let place = tempfile::tempdir().unwrap();
        for name in [
            "spans-2026-11-22.0001.jsonl.gz",
            "spans-2026-11-22.0002.jsonl.zst",
            "spans-2026-11-22T06.0009.jsonl",
            "spans-2026-11-22.0007.jsonl.gz.part",
            "spans-2026-11-22.x.jsonl",
            "other-2026-11-22.0008.jsonl",
        ] {
            fs::write(place.path().join(name), "").unwrap();
        }
        assert_eq!(newest(place.path(), "2026-11-22").unwrap(), 2);
        assert_eq!(newest(place.path(), "2026-11-22T06").unwrap(), 9);
        assert_eq!(newest(place.path(), "2026-11-23").unwrap(), 0);
    }
}

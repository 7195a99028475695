//! The file that lines are appended to. It ends with a whole line at all times but during a write.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{Config, names};
use crate::base::clock::Timestamp;

/// How far back at a time the end of the last whole line is looked for, in bytes.
const STEP: u64 = 64 << 10;

/// A file of lines that is open for appending, and locked against other processes.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    began: Timestamp,
}

/// What was found at the end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Torn {
    /// A whole line, or nothing.
    No,
    /// Part of a line, which was cut.
    Cut { bytes: u64 },
}

impl Log {
    /// Opens the newest file of the period `stamp`, or the next one if that is full, compressed, or
    /// in use by another process.
    pub(super) fn open(config: &Config, stamp: &str, began: Timestamp) -> io::Result<(Self, Torn)> {
        let directory = &config.directory;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let mut number = names::newest(directory, stamp)?.max(1);
        loop {
            let path = directory.join(names::file(stamp, number));
            if !names::is_compressed(&path)
                && let Some(file) = claim(&path)?
                && file.metadata()?.len() < config.max_size.as_u64().max(1)
            {
                let (size, torn) = cut_torn_line(&file)?;
                let log = Self {
                    path,
                    file,
                    size,
                    began,
                };
                return Ok((log, torn));
            }
            number = number.checked_add(1).ok_or(io::ErrorKind::StorageFull)?;
        }
    }

    /// Appends whole lines: all of them, or none.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(lines) {
            self.file.set_len(self.size)?;
            return Err(error);
        }
        self.size += u64::try_from(lines.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Whether its path still leads to it: others may move or delete it.
    pub(super) fn is_in_place(&self) -> bool {
        let identity = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
        match (fs::metadata(&self.path), self.file.metadata()) {
            (Ok(there), Ok(ours)) => identity(&there) == identity(&ours),
            _ => false,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// In bytes.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// A time in the period that it belongs to.
    pub(super) const fn began(&self) -> Timestamp {
        self.began
    }
}

/// The file at `path`, made if need be, readable by its owner alone; `None` if another process
/// writes to it.
fn claim(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Cuts what follows the last line's end; gives the size that is left.
fn cut_torn_line(file: &File) -> io::Result<(u64, Torn)> {
    let size = file.metadata()?.len();
    let mut end = size;
    let whole = loop {
        let start = end.saturating_sub(STEP);
        let mut block = vec![0; usize::try_from(end - start).unwrap_or(0)];
        file.read_exact_at(&mut block, start)?;
        if let Some(place) = memchr::memrchr(b'\n', &block) {
            break start + u64::try_from(place).unwrap_or(0) + 1;
        }
        if start == 0 {
            break 0;
        }
        end = start;
    };
    if whole == size {
        return Ok((size, Torn::No));
    }
    file.set_len(whole)?;
    let bytes = size - whole;
    Ok((whole, Torn::Cut { bytes }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::base::units::ByteSize;

    fn config(directory: &Path) -> Config {
        Config {
            directory: directory.join("traces"),
            ..Config::default()
        }
    }

    fn open(config: &Config) -> (Log, Torn) {
        Log::open(config, "2026-11-22", Timestamp::default()).unwrap()
    }

    #[test]
    fn files_and_their_directory_are_the_owners_alone() {
        let place = tempfile::tempdir().unwrap();
        let (log, _) = open(&config(place.path()));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(log.path()), 0o600);
        assert_eq!(mode(log.path().parent().unwrap()), 0o700);
    }

    #[test]
    fn a_torn_last_line_is_cut_wherever_the_crash_was() {
        let place = tempfile::tempdir().unwrap();
        let config = config(place.path());
        let long = "x".repeat(200_000);
        let whole = format!("{{\"a\":1}}\n{long}\n");
        let path = open(&config).0.path().to_owned();
        for torn in ["", "{", &long] {
            fs::write(&path, format!("{whole}{torn}")).unwrap();
            let (repaired, found) = open(&config);
            let bytes = u64::try_from(torn.len()).unwrap();
            assert_eq!(found == Torn::Cut { bytes }, bytes > 0);
            assert_eq!(fs::read_to_string(repaired.path()).unwrap(), whole);
        }
        fs::write(&path, "no line at all").unwrap();
        assert_eq!(open(&config).1, Torn::Cut { bytes: 14 });
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn what_is_appended_later_follows_what_is_there() {
        let place = tempfile::tempdir().unwrap();
        let config = config(place.path());
        for line in ["one\n", "two\n"] {
            open(&config).0.append(line.as_bytes()).unwrap();
        }
        let text = fs::read_to_string(open(&config).0.path()).unwrap();
        assert_eq!(text, "one\ntwo\n");
    }

    #[test]
    fn a_full_or_foreign_file_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let config = Config {
            max_size: ByteSize::bytes(4),
            ..config(place.path())
        };
        let (mut log, _) = open(&config);
        assert!(log.path().ends_with("spans-2026-11-22.0001.jsonl"));
        let (other, _) = open(&config);
        assert!(other.path().ends_with("spans-2026-11-22.0002.jsonl"));
        log.append(b"full\n").unwrap();
        drop((log, other));
        fs::write(
            config.directory.join("spans-2026-11-22.0002.jsonl"),
            "12345\n",
        )
        .unwrap();
        let (next, _) = open(&config);
        assert!(next.path().ends_with("spans-2026-11-22.0003.jsonl"));
    }

    #[test]
    fn a_file_that_was_moved_away_is_noticed() {
        let place = tempfile::tempdir().unwrap();
        let (log, _) = open(&config(place.path()));
        assert!(log.is_in_place());
        fs::rename(log.path(), place.path().join("elsewhere")).unwrap();
        assert!(!log.is_in_place());
    }
}

//! The client keys of a file, which are read again when that was changed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{
    file::{FileError, read},
    keys::Keys,
};
use crate::base::stamp::Stamp;

/// The keys of a file, which are read again when that was changed.
#[derive(Debug)]
pub struct KeysFile {
    path: PathBuf,
    keys: ArcSwap<Keys>,
    seen: Mutex<Seen>,
}

/// What was looked at last.
#[derive(Debug)]
struct Seen {
    stamp: Stamp,
    /// It could not be read, for a reason that may pass, as was said.
    unread: bool,
    /// How often it was read and put in force.
    used: u64,
    /// Edits that could not be used.
    refused: u64,
}

/// What came of another look.
#[derive(Debug)]
pub enum Refreshed {
    /// The file is as it was.
    Same,
    /// Other keys are in force.
    Changed,
    /// What the file has become cannot be used; the keys are those from before. Said once.
    Refused(FileError),
}

impl KeysFile {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or a line of it is no key.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        // Looked at before it is read, so that no change is missed.
        let stamp = Stamp::of(path);
        Ok(Self {
            path: path.to_owned(),
            keys: ArcSwap::from_pointee(read(path)?),
            seen: Mutex::new(Seen {
                stamp,
                unread: false,
                used: 1,
                refused: 0,
            }),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys in force.
    pub fn keys(&self) -> Arc<Keys> {
        self.keys.load_full()
    }

    /// How often the file was put in force, and how many edits of it could not be used.
    pub fn counts(&self) -> (u64, u64) {
        let seen = self.seen.lock();
        (seen.used, seen.refused)
    }

    /// Looks at the file, and reads it if it was changed. Blocks for as long as that takes.
    pub fn refresh(&self) -> Refreshed {
        self.refresh_with(read)
    }

    fn refresh_with(&self, read: impl FnOnce(&Path) -> Result<Keys, FileError>) -> Refreshed {
        let now = Stamp::of(&self.path);
        let mut seen = self.seen.lock();
        let is_new = std::mem::replace(&mut seen.stamp, now) != now;
        // What could not be read for a while may hold a revocation: it is tried until it can be.
        let was_unread = std::mem::take(&mut seen.unread);
        drop(seen);
        if !is_new && !was_unread {
            return Refreshed::Same;
        }
        let keys = read(&self.path);
        let mut seen = self.seen.lock();
        match keys {
            Ok(keys) => {
                self.keys.store(Arc::new(keys));
                seen.used = seen.used.saturating_add(1);
                drop(seen);
                Refreshed::Changed
            },
            Err(error) => {
                seen.unread = error.may_pass();
                if seen.unread && !is_new {
                    return Refreshed::Same;
                }
                seen.refused = seen.refused.saturating_add(1);
                drop(seen);
                Refreshed::Refused(error)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io};

    use super::{
        super::{
            file::{create, revoke},
            record::ClientKey,
        },
        *,
    };
    use crate::base::{clock::Timestamp, secret::Secret};

    const NOW: Timestamp = Timestamp::from_secs(1_795_618_800);

    fn key(name: &str) -> (Secret, ClientKey) {
        ClientKey::sample(name, NOW)
    }

    #[test]
    fn a_changed_file_is_read_and_one_that_cannot_be_used_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.jsonl");
        let missing = KeysFile::open(&path).unwrap_err().to_string();
        assert!(missing.contains("tollgate keys create"), "{missing}");
        let (secret, one) = key("one");
        create(&path, &one).unwrap();
        let file = KeysFile::open(&path).unwrap();
        let is_valid = || file.keys().find(secret.expose(), NOW).is_ok();
        assert!(is_valid() && matches!(file.refresh(), Refreshed::Same));

        fs::write(&path, "{}").unwrap();
        let Refreshed::Refused(error) = file.refresh() else {
            panic!("it was taken");
        };
        assert!(
            error.to_string().contains("line 1: missing field"),
            "{error}"
        );
        fs::remove_file(&path).unwrap();
        assert!(matches!(file.refresh(), Refreshed::Refused(_)));
        assert!(matches!(file.refresh(), Refreshed::Same), "said once");
        assert_eq!((is_valid(), file.counts()), (true, (1, 2)));
        assert!(create(&path, &one).is_ok());
        assert!(matches!(file.refresh(), Refreshed::Changed));

        revoke(&path, "one", NOW).unwrap();
        assert!(matches!(file.refresh(), Refreshed::Changed));
        assert!(!is_valid());
    }

    #[test]
    fn an_edit_that_cannot_be_read_for_a_while_is_read_as_soon_as_it_can() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.jsonl");
        let (secret, one) = key("one");
        create(&path, &one).unwrap();
        let file = KeysFile::open(&path).unwrap();
        revoke(&path, "one", NOW).unwrap();
        let fails = |code: i32| {
            move |path: &Path| Err(FileError::io(path)(io::Error::from_raw_os_error(code)))
        };
        // Too many open files; an error of the disk.
        let (emfile, eio) = (fails(24), fails(5));
        assert!(matches!(file.refresh_with(emfile), Refreshed::Refused(_)));
        assert!(matches!(file.refresh_with(eio), Refreshed::Same), "once");
        assert_eq!(file.counts(), (1, 1));
        assert!(matches!(file.refresh(), Refreshed::Changed));
        assert!(file.keys().find(secret.expose(), NOW).is_err());
        assert!(matches!(file.refresh_with(emfile), Refreshed::Same));

        // What is then found wrong is said.
        fs::write(&path, "{}").unwrap();
        assert!(matches!(file.refresh_with(emfile), Refreshed::Refused(_)));
        assert!(matches!(file.refresh(), Refreshed::Refused(_)));
        assert!(matches!(file.refresh(), Refreshed::Same));
        assert_eq!(file.counts(), (2, 3));
    }
}

//! The file that client keys are kept in, one JSON object a line. It is replaced as a whole, so that
//! no reader finds a part of it, and read again when it was changed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{
    keys::{Keys, Problem, read_line},
    record::ClientKey,
};
use crate::base::{clock::Timestamp, stamp::Stamp};

/// The largest file that is read, in bytes: some four thousand keys.
const MAX_BYTES: u64 = 1 << 20;

/// What is wrong with a file of keys.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read or written.
    #[error("{}: {source}{}", path.display(), if source.kind() == io::ErrorKind::NotFound {
        " (`tollgate keys create NAME` makes it)"
    } else {
        ""
    })]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line of it is no key.
    #[error("{}: {problem}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, and what is wrong with it.
        problem: Problem,
    },
}

impl FileError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    fn wrong(path: &Path) -> impl FnOnce(Problem) -> Self {
        |problem| Self::Wrong {
            path: path.to_owned(),
            problem,
        }
    }
}

/// Reads the keys in a file.
///
/// # Errors
/// It cannot be read, or a line of it is no key.
pub fn read(path: &Path) -> Result<Keys, FileError> {
    let text = text(path).map_err(FileError::io(path))?;
    Keys::parse(&text).map_err(FileError::wrong(path))
}

/// Adds a key to a file, which is made if need be, for its owner alone, and its directory too.
///
/// # Errors
/// The file cannot be read or written, or a line of it is no key.
pub fn create(path: &Path, key: &ClientKey) -> Result<(), FileError> {
    if let Some(directory) = path.parent() {
        let mut private = fs::DirBuilder::new();
        let made = private.recursive(true).mode(0o700).create(directory);
        made.map_err(FileError::io(directory))?;
    }
    change(path, |before| {
        let mut after = before.to_owned();
        if !after.is_empty() && !after.ends_with('\n') {
            after.push('\n');
        }
        after.push_str(&written(key));
        after.push('\n');
        Some(after)
    })
}

/// Revokes every valid key that has this name or id; returns which.
///
/// # Errors
/// The file cannot be read or written, or a line of it is no key.
pub fn revoke(path: &Path, whose: &str, now: Timestamp) -> Result<Vec<ClientKey>, FileError> {
    let mut revoked = Vec::new();
    change(path, |before| {
        let mut after = String::with_capacity(before.len() + 64);
        for line in before.lines() {
            let key = read_line(line).and_then(Result::ok);
            let meant = key.filter(|key| {
                key.revoked.is_none() && (key.name.as_str() == whose || key.id() == whose)
            });
            match meant {
                Some(mut key) => {
                    key.revoked = Some(now);
                    after.push_str(&written(&key));
                    revoked.push(key);
                },
                None => after.push_str(line),
            }
            after.push('\n');
        }
        (!revoked.is_empty()).then_some(after)
    })?;
    Ok(revoked)
}

fn written(key: &ClientKey) -> String {
    // Names, times and texts: nothing that JSON lacks.
    serde_json::to_string(key).unwrap_or_default()
}

/// Changes a file while nobody else does: what `edit` makes of its text takes its place, if that can
/// be used.
fn change(path: &Path, edit: impl FnOnce(&str) -> Option<String>) -> Result<(), FileError> {
    let io = || FileError::io(path);
    // A link stays, and what it leads to is replaced.
    let path = &fs::canonicalize(path).unwrap_or_else(|_missing| path.to_owned());
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let lock = File::open(directory).map_err(io())?;
    lock.lock().map_err(io())?;
    let before = match text(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        before => before.map_err(io())?,
    };
    Keys::parse(&before).map_err(FileError::wrong(path))?;
    let Some(after) = edit(&before) else {
        return Ok(());
    };
    Keys::parse(&after).map_err(FileError::wrong(path))?;
    replace(path, &after).map_err(io())?;
    lock.sync_all().map_err(io())
}

/// Puts `text` in the place of a file. The lock on the directory is held.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default();
    let mut fresh = name.to_owned();
    fresh.push(".new");
    let beside = path.with_file_name(fresh);
    // One that a crash has left behind.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {},
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read > MAX_BYTES) {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(text)
}

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
        let now = Stamp::of(&self.path);
        if std::mem::replace(&mut self.seen.lock().stamp, now) == now {
            return Refreshed::Same;
        }
        match read(&self.path) {
            Ok(keys) => {
                self.keys.store(Arc::new(keys));
                let mut seen = self.seen.lock();
                seen.used = seen.used.saturating_add(1);
                drop(seen);
                Refreshed::Changed
            },
            Err(error) => {
                let mut seen = self.seen.lock();
                seen.refused = seen.refused.saturating_add(1);
                drop(seen);
                Refreshed::Refused(error)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::{
        super::{
            record::State,
            token::{Digest, mint},
        },
        *,
    };
    use crate::base::secret::Secret;

    const NOW: Timestamp = Timestamp::from_secs(1_795_618_800);

    fn key(name: &str) -> (Secret, ClientKey) {
        let secret = mint().unwrap();
        let key = ClientKey {
            name: name.parse().unwrap(),
            sha256: Digest::of(secret.expose()),
            created: NOW,
            expires: None,
            revoked: None,
            labels: [(crate::call::labels::Label::User, "42".to_owned())].into(),
            tags: [("team".to_owned(), "a \"b\"".to_owned())].into(),
        };
        (secret, key)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_added_and_revoked_and_the_rest_of_the_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("made/with/it");
        let path = directory.join("keys.jsonl");
        let [(_, one), (_, other), (_, again)] = ["one", "other", "one"].map(key);
        create(&path, &one).unwrap();
        assert_eq!(mode(&path), 0o600);
        let begun = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("# ours\n{begun}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        create(&path, &other).unwrap();
        create(&path, &again).unwrap();
        assert_eq!(mode(&path), 0o600);
        let all = read(&path).unwrap();
        assert_eq!(all.iter().collect::<Vec<_>>(), [&one, &other, &again]);

        assert_eq!(revoke(&path, "nobody", NOW).unwrap(), []);
        let by_id = revoke(&path, &other.id(), NOW).unwrap();
        assert_eq!(by_id.len(), 1);
        assert_eq!(revoke(&path, "one", NOW).unwrap().len(), 2);
        assert_eq!(revoke(&path, "one", NOW).unwrap(), []);
        let all = read(&path).unwrap();
        assert!(all.iter().all(|key| key.state(NOW) == State::Revoked));
        assert!(fs::read_to_string(&path).unwrap().starts_with("# ours\n{"));
        assert_eq!(mode(&directory), 0o700);
        let files = fs::read_dir(&directory).unwrap().count();
        assert_eq!(files, 1, "nothing is left behind");
    }

    #[test]
    fn many_may_add_keys_at_once_and_through_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.jsonl");
        fs::write(&path, "").unwrap();
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let path = if number % 2 == 0 { &path } else { &link };
                scope.spawn(move || create(path, &key(&number.to_string()).1).unwrap());
            }
        });
        assert_eq!(read(&path).unwrap().iter().count(), 8);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
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
}

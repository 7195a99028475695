//! The file that client keys are kept in, one JSON object a line. It is replaced as a whole, so that
//! no reader finds a part of it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
    },
    path::{Path, PathBuf},
};

use super::{
    keys::{Keys, Problem, read_line},
    record::ClientKey,
};
use crate::base::{clock::Timestamp, stamp::may_pass};

/// The largest file that is read or written, in bytes: some eight thousand keys.
const MAX_BYTES: u64 = 1 << 20;

/// The largest file that keys are added to, in bytes. To revoke a key makes its line longer by less
/// than a third, so that all of them can still be.
const MAX_GROWN: u64 = MAX_BYTES / 4 * 3;

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
    /// There is no room in it.
    #[error(
        "{}: it has no room for this: {bytes} bytes of at most {most}; nothing was changed. Take \
         out lines of keys that were revoked or have expired",
        path.display()
    )]
    Full {
        /// The file.
        path: PathBuf,
        /// How long it would become, in bytes.
        bytes: usize,
        /// How long it may become, in bytes.
        most: u64,
    },
    /// Whose it is cannot stay so: who reads it now could not read it any more.
    #[error(
        "{}: it cannot be given back to its owner (user {user}, group {group}): {source}; nothing \
         was changed. Do this as that user or as root",
        path.display()
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is: the number of the user.
        user: u32,
        /// The number of the group.
        group: u32,
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
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// Whether another look may find what this one did not, though the file stays as it is.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Io { source, .. } if may_pass(source))
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
/// The file cannot be read or written or has no room, or a line of it is no key.
pub fn create(path: &Path, key: &ClientKey) -> Result<(), FileError> {
    if let Some(directory) = path.parent() {
        let mut private = fs::DirBuilder::new();
        let made = private.recursive(true).mode(0o700).create(directory);
        made.map_err(FileError::io(directory))?;
    }
    change(path, MAX_GROWN, |before| {
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
/// The file cannot be read or written or has no room, or a line of it is no key.
pub fn revoke(path: &Path, whose: &str, now: Timestamp) -> Result<Vec<ClientKey>, FileError> {
    let mut revoked = Vec::new();
    change(path, MAX_BYTES, |before| {
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
/// be used and has no more than `most` bytes.
fn change(
    path: &Path,
    most: u64,
    edit: impl FnOnce(&str) -> Option<String>,
) -> Result<(), FileError> {
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
    if u64::try_from(after.len()).map_or(true, |bytes| bytes > most) {
        return Err(FileError::Full {
            path: path.to_owned(),
            bytes: after.len(),
            most,
        });
    }
    Keys::parse(&after).map_err(FileError::wrong(path))?;
    replace(path, &after)?;
    lock.sync_all().map_err(io())
}

/// Puts `text` in the place of a file, so that whoever could read it still can. The lock on the
/// directory is held.
fn replace(path: &Path, text: &str) -> Result<(), FileError> {
    let io = || FileError::io(path);
    let name = path.file_name().unwrap_or_default();
    let mut fresh = name.to_owned();
    fresh.push(".new");
    let beside = path.with_file_name(fresh);
    // One that a crash has left behind.
    remove(&beside).map_err(io())?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .map_err(io())?;
    let written = keep_owner(path, &file).and_then(|()| {
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&beside, path))
            .map_err(io())
    });
    if written.is_err() {
        // The first error is the one to tell; what stays behind, the next change removes.
        let _either_way = remove(&beside);
    }
    written
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Gives `fresh` the owner, the group and the mode of the file at `path`, if there is one; but never
/// more than that the group may read.
fn keep_owner(path: &Path, fresh: &File) -> Result<(), FileError> {
    let old = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        old => old.map_err(FileError::io(path))?,
    };
    let ours = fresh.metadata().map_err(FileError::io(path))?;
    let (user, group) = (old.uid(), old.gid());
    if (ours.uid(), ours.gid()) != (user, group) {
        fchown(fresh, Some(user), Some(group)).map_err(|source| FileError::Owner {
            path: path.to_owned(),
            user,
            group,
            source,
        })?;
    }
    let mode = fs::Permissions::from_mode(old.mode() & 0o640);
    fresh.set_permissions(mode).map_err(FileError::io(path))
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read > MAX_BYTES) {
        let why = "it is larger than 1 MiB";
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::{
        super::{record::State, token::Digest},
        *,
    };
    use crate::base::secret::Secret;

    const NOW: Timestamp = Timestamp::from_secs(1_795_618_800);

    fn key(name: &str) -> (Secret, ClientKey) {
        ClientKey::sample(name, NOW)
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
        assert_eq!(mode(&path), 0o640, "the group may go on reading");
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
    fn whoever_changes_the_file_it_stays_its_owner_s() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.jsonl");
        let (_, one) = key("one");
        create(&path, &one).unwrap();
        let (mut user, mut group) = (one_of(&path).uid(), one_of(&path).gid());
        // Only root can give it to somebody else.
        if std::os::unix::fs::chown(&path, Some(4_242), Some(4_343)).is_ok() {
            (user, group) = (4_242, 4_343);
        }
        for mode in [0o600, 0o640, 0o440, 0o400] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            create(&path, &key("more").1).unwrap();
            revoke(&path, "more", NOW).unwrap();
            let found = one_of(&path);
            assert_eq!((found.uid(), found.gid()), (user, group));
            assert_eq!(found.mode() & 0o777, mode);
        }
    }

    fn one_of(path: &Path) -> fs::Metadata {
        fs::metadata(path).unwrap()
    }

    #[test]
    fn a_full_file_takes_no_more_keys_and_all_of_them_can_still_be_revoked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.jsonl");
        // The shortest lines that there are, which grow the most.
        let mut text = String::new();
        let mut count = 0;
        loop {
            let key = ClientKey {
                name: "a".parse().unwrap(),
                sha256: Digest::of(&count.to_string()),
                created: Timestamp::from_nanos(NOW.as_nanos() + 1_000),
                expires: None,
                revoked: None,
                labels: [].into(),
                tags: [].into(),
            };
            let line = format!("{}\n", written(&key));
            if text.len() + line.len() > usize::try_from(MAX_GROWN).unwrap() {
                break;
            }
            text.push_str(&line);
            count += 1;
        }
        fs::write(&path, &text).unwrap();
        let refused = create(&path, &key("late").1).unwrap_err();
        assert!(matches!(refused, FileError::Full { .. }), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(revoke(&path, "a", NOW).unwrap().len(), count);
        assert_eq!(read(&path).unwrap().iter().count(), count);

        // By hand it can be made too full even for that.
        let room = usize::try_from(MAX_BYTES).unwrap();
        let dashes = "-".repeat(room - text.len() - 2);
        fs::write(&path, format!("#{dashes}\n{text}")).unwrap();
        assert_eq!(read(&path).unwrap().iter().count(), count);
        let refused = revoke(&path, "a", NOW).unwrap_err();
        assert!(matches!(refused, FileError::Full { .. }), "{refused}");
        assert_eq!(one_of(&path).len(), MAX_BYTES);
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
}

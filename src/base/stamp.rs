//! Whether a file was changed since it was looked at last.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

/// What changes with a file, however it is changed: in place, by another that takes its name, or by
/// a link on the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(Option<Seen>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    device: u64,
    inode: u64,
    length: u64,
    /// Seconds and nanoseconds of the last change of what is in it, and of the last change at all.
    times: [i64; 4],
}

impl Stamp {
    /// Looks at a file. To be done before it is read, so that no change is missed.
    pub fn of(path: &Path) -> Self {
        Self(fs::metadata(path).ok().map(|found| Seen {
            device: found.dev(),
            inode: found.ino(),
            length: found.len(),
            times: [
                found.mtime(),
                found.mtime_nsec(),
                found.ctime(),
                found.ctime_nsec(),
            ],
        }))
    }
}

/// Whether a file that could not be read, as `error` says, may be read later though it stays as it
/// is: there were too many open files, or the disk has failed. Its stamp will not tell.
pub fn may_pass(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::InvalidData
            | io::ErrorKind::FileTooLarge
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_change_shows_however_it_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let (path, mut last) = (at("file"), Stamp::of(&at("file")));
        let mut has_changed = || std::mem::replace(&mut last, Stamp::of(&path)) != last;
        fs::write(at("one"), "1").unwrap();
        fs::write(at("other"), "2").unwrap();
        symlink("one", at("file")).unwrap();
        assert!(has_changed() && !has_changed());
        fs::write(at("one"), "12").unwrap();
        assert!(has_changed() && !has_changed());
        symlink("other", at("link")).unwrap();
        fs::rename(at("link"), at("file")).unwrap();
        assert!(has_changed() && !has_changed());
        fs::remove_file(at("other")).unwrap();
        assert!(has_changed() && !has_changed());
    }
}

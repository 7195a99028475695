//! A data directory has one owner at a time: a file lock that ends with its process, with the
//! owner's pid and address in the file for whoever finds it taken.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

const LOCK: &str = "owner";

/// The lock on a data directory; dropped, it lets go.
#[derive(Debug)]
pub struct Owner {
    file: File,
}

/// The directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another process has it.
    #[error(
        "{dir} belongs to the running tollgate with pid {pid}, which answers at {address}: stop \
         it, or give this one a `store.path` of its own",
        dir = dir.display()
    )]
    Owned {
        /// The directory.
        dir: PathBuf,
        /// The owner's process id; 0 if it has not said yet.
        pid: u32,
        /// Where its admin listener answers; `?` if it has not said yet.
        address: String,
    },
    /// It cannot be created, opened or locked.
    #[error("cannot use the data directory {dir}: {source}", dir = dir.display())]
    Unusable {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Owner {
    /// Takes `dir`, which is created if need be, and says that its owner answers at `address`.
    ///
    /// # Errors
    /// Another process has it, or it cannot be used.
    pub fn claim(dir: &Path, address: &str) -> Result<Self, ClaimError> {
        let unusable = |source| ClaimError::Unusable {
            dir: dir.to_owned(),
            source,
        };
        private_dir(dir).map_err(unusable)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(LOCK))
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {},
            Err(TryLockError::WouldBlock) => {
                let (pid, address) = parse(&read(&mut file).unwrap_or_default());
                return Err(ClaimError::Owned {
                    dir: dir.to_owned(),
                    pid,
                    address,
                });
            },
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let mut owner = Self { file };
        owner.answers_at(address).map_err(unusable)?;
        Ok(owner)
    }

    /// Says where the owner answers, once its listener has a port.
    ///
    /// # Errors
    /// The file cannot be written; the lock is held all the same.
    pub fn answers_at(&mut self, address: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        write!(self.file, "{}\n{address}\n", std::process::id())?;
        self.file.flush()
    }

    /// Who has `dir` now: pid and address; `None` if nobody has.
    pub fn of(dir: &Path) -> Option<(u32, String)> {
        let mut file = File::open(dir.join(LOCK)).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(parse(&read(&mut file).ok()?)),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }
}

fn read(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.rewind()?;
    // Two short lines; whatever else is in the file is not ours.
    file.take(1_024).read_to_string(&mut text)?;
    Ok(text)
}

fn parse(text: &str) -> (u32, String) {
    let mut lines = text.lines();
    let pid = lines.next().and_then(|pid| pid.parse().ok()).unwrap_or(0);
    (pid, lines.next().unwrap_or("?").to_owned())
}

/// Creates `dir` and those above it where they are missing, for nobody else to read.
pub(super) fn private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Creates `path` if it is missing, for nobody else to read.
pub(super) fn private_file(path: &Path) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner_who_can_be_found() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("data");
        assert_eq!(Owner::of(&dir), None);
        let mut owner = Owner::claim(&dir, "127.0.0.1:0").unwrap();
        owner.answers_at("127.0.0.1:3001").unwrap();
        let found = (std::process::id(), "127.0.0.1:3001".to_owned());
        assert_eq!(Owner::of(&dir), Some(found));
        let error = Owner::claim(&dir, "127.0.0.1:9").unwrap_err();
        assert!(error.to_string().contains("127.0.0.1:3001"), "{error}");
        drop(owner);
        assert_eq!(Owner::of(&dir), None);
        Owner::claim(&dir, "127.0.0.1:9").unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Owner::claim(&file.join("data"), "").unwrap_err();
        assert!(matches!(error, ClaimError::Unusable { .. }));
    }
}

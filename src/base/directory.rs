//! Whether a directory can be written.

use std::{
    fs::{self, OpenOptions},
    io,
    path::Path,
};

/// Tries whether files can be made in `directory` or, where it is not there, whether it can be made;
/// takes away again what that makes.
///
/// # Errors
/// They cannot; the error says where.
pub fn try_write(directory: &Path) -> io::Result<()> {
    let there = directory.ancestors().find(|above| above.exists());
    let there = there.unwrap_or_else(|| Path::new("."));
    let shown = there.display();
    if !there.is_dir() {
        let why = format!("{shown} is not a directory");
        return Err(io::Error::new(io::ErrorKind::NotADirectory, why));
    }
    // Permissions do not tell everything (users, read-only mounts); trying does.
    let probe = there.join(format!(".tollgate-check-{:016x}", fastrand::u64(..)));
    let tried = OpenOptions::new().write(true).create_new(true).open(&probe);
    let tried = tried.and_then(|_file| fs::remove_file(&probe));
    tried.map_err(|error| io::Error::new(error.kind(), format!("{shown}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_leaves_nothing_behind() {
        let place = tempfile::tempdir().unwrap();
        for directory in ["", "a", "a/b"] {
            try_write(&place.path().join(directory)).unwrap();
        }
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = try_write(&file.join("below")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotADirectory);
        assert!(refused.to_string().contains("file is not"), "{refused}");
    }
}

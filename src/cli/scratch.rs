//! Directories in the system's temporary one, which stay: what is in them can be looked at later.

use std::{fs::DirBuilder, io, os::unix::fs::DirBuilderExt as _, path::PathBuf};

/// Makes a new directory for the owner alone, with `name` in its name.
///
/// # Errors
/// The temporary directory cannot be written.
pub(super) fn directory(name: &str) -> io::Result<PathBuf> {
    let name = format!("tollgate-{name}-{:08x}", fastrand::u32(..));
    let path = std::env::temp_dir().join(name);
    // One that is there already is an error: somebody else may have put it there.
    let made = DirBuilder::new().mode(0o700).create(&path);
    made.map_err(|error| {
        let path = path.display();
        io::Error::new(
            error.kind(),
            format!("cannot make {path} (see TMPDIR): {error}"),
        )
    })?;
    Ok(path)
}

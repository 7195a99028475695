//! `tollgate ca install`.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;

use super::{super::Failure, Place, env::quoted, open};
use crate::{
    base::directory,
    call::line::counted,
    net::{
        authority::{Authority, BUNDLE, JAVA, ROOTS, pem},
        tls,
    },
};

#[derive(Debug, Args)]
pub(super) struct Install {
    /// Put what clients need into this directory, and leave the system as it is
    #[arg(long, value_name = "DIR", conflicts_with = "remove")]
    to: Option<PathBuf>,
    /// Have the system trust no authority of Tollgate's any more
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    place: Place,
}

/// A system's store of roots.
struct Store {
    /// Where an administrator puts roots.
    dir: &'static str,
    /// What takes them from there.
    update: &'static [&'static str],
}

const STORES: &[Store] = &[
    // Debian, Ubuntu, Alpine.
    Store {
        dir: "usr/local/share/ca-certificates",
        update: &["update-ca-certificates"],
    },
    // Fedora, Red Hat, Amazon Linux.
    Store {
        dir: "etc/pki/ca-trust/source/anchors",
        update: &["update-ca-trust", "extract"],
    },
    // SUSE.
    Store {
        dir: "etc/pki/trust/anchors",
        update: &["update-ca-certificates"],
    },
    // Arch.
    Store {
        dir: "etc/ca-certificates/trust-source/anchors",
        update: &["trust", "extract-compat"],
    },
];

/// What Debian's packages of Java trust, made from the system's store.
const DEBIAN_JAVA: &str = "/etc/ssl/certs/java/cacerts";

impl Install {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut out = anstream::stdout().lock();
        if self.remove {
            let (store, dir) = Store::of(Path::new("/")).ok_or_else(Store::unknown)?;
            let gone = take_out(&dir).map_err(|error| denied(&dir, &error))?;
            store.update()?;
            let roots = counted(gone, "root");
            writeln!(out, "Took {roots} out of {}.", dir.display())?;
            if gone > 0 && Path::new(DEBIAN_JAVA).exists() {
                // Debian tells its Java what was put in, and nothing of what is gone.
                let all: Vec<_> = (0..gone)
                    .map(|at| format!("debian:tollgate-{at}.pem"))
                    .collect();
                writeln!(
                    out,
                    "Java's store {DEBIAN_JAVA} may keep them, as {}: take them out with keytool \
                     -delete -alias ALIAS -keystore {DEBIAN_JAVA} -storepass changeit.",
                    all.join(", ")
                )?;
            }
            return Ok(out.flush()?);
        }
        let authority = open(&self.place.dir()?)?;
        if let Some(to) = self.to {
            give(&authority, &to)?;
            writeln!(out, "{}", given(&to))?;
            return Ok(out.flush()?);
        }
        let (store, dir) = Store::of(Path::new("/")).ok_or_else(Store::unknown)?;
        put_in(&dir, &authority).map_err(|error| denied(&dir, &error))?;
        store.update()?;
        writeln!(
            out,
            "The system trusts it now. Node, Java and Python's certifi have stores of their own: \
             tollgate ca env."
        )?;
        Ok(out.flush()?)
    }
}

impl Store {
    /// The store of the system below `root`, and where it is.
    fn of(root: &Path) -> Option<(&'static Self, PathBuf)> {
        let mut all = STORES.iter().map(|store| (store, root.join(store.dir)));
        all.find(|(_, dir)| dir.is_dir())
    }

    fn unknown() -> Failure {
        Failure::failed(
            "this system has no store of roots that is known here: give clients what \
             `tollgate ca install --to DIR` writes",
        )
    }

    fn update(&self) -> Result<(), Failure> {
        let Some((program, arguments)) = self.update.split_first() else {
            return Ok(());
        };
        let command = self.update.join(" ");
        let ran = Command::new(program).args(arguments).output();
        let ran = ran.map_err(|error| Failure::failed(format!("cannot run {command}: {error}")))?;
        if ran.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&ran.stderr);
        Err(Failure::failed(format!(
            "{command} failed: {}",
            said.trim()
        )))
    }
}

/// Puts what clients need of `authority` into a directory.
pub(super) fn give(authority: &Authority, to: &Path) -> Result<(), Failure> {
    make(to).map_err(|error| denied(to, &error))?;
    let written = authority.write_trust(to, &tls::system_roots());
    written.map_err(Failure::failed)
}

/// Makes a directory and those above it that are not there, each for everyone to enter, whatever the
/// umask says: what is put there is for everyone.
fn make(dir: &Path) -> io::Result<()> {
    let all: Vec<_> = dir.ancestors().collect();
    let lacking = all.into_iter().rev();
    for dir in lacking.filter(|dir| !dir.as_os_str().is_empty() && !dir.is_dir()) {
        fs::create_dir(dir)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// What to say of such a directory.
pub(super) fn given(to: &Path) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
    let to = to.display().to_string();
    let word = if to.chars().all(is_plain) {
        to.clone()
    } else {
        quoted(&to)
    };
    format!(
        "{to} has what clients need, for everyone who may enter it, and no key:\n  \
         {ROOTS:<11} for runtimes that add to the system's roots: Node, Deno\n  \
         {BUNDLE:<11} for those that trust one file and nothing else: Python, curl, Go, Ruby\n  \
         {JAVA:<11} for Java\n\
         The variables that name them: tollgate ca env --dir {word}"
    )
}

/// Tries whether the directory could be written, or made; leaves it as it is.
pub(super) fn ready(to: &Path) -> Result<(), Failure> {
    directory::try_write(to).map_err(|error| denied(to, &error))
}

fn denied(dir: &Path, error: &io::Error) -> Failure {
    let hint = if error.kind() == io::ErrorKind::PermissionDenied {
        ": do it as root, or write what clients need elsewhere with --to DIR"
    } else {
        ""
    };
    let dir = dir.display();
    Failure::failed(format!("{dir} cannot be written: {error}{hint}"))
}

/// The files of roots in a store: one each, for some systems read no more of a file.
fn file(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("tollgate-{number}.crt"))
}

/// Puts the roots into a store, in the place of those that were put there before.
fn put_in(dir: &Path, authority: &Authority) -> io::Result<()> {
    take_out(dir)?;
    for (number, root) in (0..).zip(authority.roots()) {
        fs::write(file(dir, number), pem([root]))?;
    }
    Ok(())
}

/// Takes them out again; says how many there were.
fn take_out(dir: &Path) -> io::Result<u64> {
    let mut gone = 0;
    while fs::exists(file(dir, gone))? {
        fs::remove_file(file(dir, gone))?;
        gone += 1;
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::clock::{Clock as _, SystemClock},
        net::authority::{Before, Terms},
    };

    #[test]
    fn the_roots_are_put_in_and_taken_out() {
        let root = tempfile::tempdir().unwrap();
        assert!(Store::of(root.path()).is_none());
        for store in STORES {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir_all(root.path().join(store.dir)).unwrap();
            let (found, dir) = Store::of(root.path()).unwrap();
            assert_eq!(found.update, store.update);
            fs::write(dir.join("others.crt"), "theirs").unwrap();
            let terms = Terms {
                before: Before::Keep,
                ..Terms::default()
            };
            for count in [1, 2] {
                let place = root.path().join("ca");
                let now = SystemClock.wall();
                let authority = Authority::create(&place, &terms, &[], now).unwrap();
                put_in(&dir, &authority).unwrap();
                assert_eq!(fs::read_dir(&dir).unwrap().count(), 1 + count);
            }
            assert_eq!(take_out(&dir).unwrap(), 2);
            assert_eq!(take_out(&dir).unwrap(), 0);
            assert!(dir.join("others.crt").exists());
        }
    }
}

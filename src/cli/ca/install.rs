//! `tollgate ca install`.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;
use rustls::pki_types::CertificateDer;

use super::{super::Failure, Place, env::quoted, open};
use crate::{
    base::directory,
    call::line::counted,
    net::{
        authority::{Authority, BUNDLE, JAVA, ROOTS, fingerprint, pem},
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
            let gone = take_out(&dir, &[]).map_err(|error| denied(&dir, &error))?;
            let updated = store.update();
            let roots = counted(gone.len() as u64, "root");
            writeln!(out, "Took {roots} out of {}.", dir.display())?;
            tell_of_java(&mut out, &gone)?;
            out.flush()?;
            return updated;
        }
        let authority = open(&self.place.dir()?)?;
        if let Some(to) = self.to {
            give(&authority, &to)?;
            writeln!(out, "{}", given(&to))?;
            return Ok(out.flush()?);
        }
        let (store, dir) = Store::of(Path::new("/")).ok_or_else(Store::unknown)?;
        let gone = put_in(&dir, &authority).map_err(|error| denied(&dir, &error))?;
        let updated = store.update();
        if updated.is_ok() {
            writeln!(
                out,
                "The system trusts it now. Node, Java and Python's certifi have stores of their \
                 own: tollgate ca env."
            )?;
        }
        // Now or never: the next time nothing is left to tell what was there.
        tell_of_java(&mut out, &gone)?;
        out.flush()?;
        updated
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

/// The file of a root in a store: one each, for some systems read no more of a file, and another for
/// another root, for Debian's Java goes by the name and looks at nothing new under one that it knows.
fn file(root: &CertificateDer<'_>) -> String {
    let id = fingerprint(root).replace(':', "").to_ascii_lowercase();
    format!("tollgate-{}.crt", id.get(..ID).unwrap_or(&id))
}

/// So many digits of a root's fingerprint are in the name of its file.
const ID: usize = 16;

/// Whether a file of a store is one of ours. They were numbered once.
fn is_ours(name: &str) -> bool {
    let id = name.strip_prefix("tollgate-");
    let id = id.and_then(|rest| rest.strip_suffix(".crt"));
    id.is_some_and(|id| {
        let is_number = matches!(id.len(), 1..=3) && id.bytes().all(|digit| digit.is_ascii_digit());
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        is_number || id.len() == ID && id.bytes().all(is_hex)
    })
}

/// Puts the roots into a store, and takes out those that were put there before and are not among them;
/// says which files these were.
fn put_in(dir: &Path, authority: &Authority) -> io::Result<Vec<String>> {
    let mut stay = Vec::new();
    for root in authority.roots() {
        let name = file(root);
        let path = dir.join(&name);
        fs::write(&path, pem([root]))?;
        // Whatever the umask says: it is for everyone.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        stay.push(name);
    }
    take_out(dir, &stay)
}

/// Takes our roots out of a store again, but for some; says which files they were.
fn take_out(dir: &Path, stay: &[String]) -> io::Result<Vec<String>> {
    let mut gone = Vec::new();
    for entry in fs::read_dir(dir)? {
        let Ok(name) = entry?.file_name().into_string() else {
            continue;
        };
        if is_ours(&name) && !stay.contains(&name) {
            fs::remove_file(dir.join(&name))?;
            gone.push(name);
        }
    }
    gone.sort();
    Ok(gone)
}

/// Says what Debian's Java may still trust: it is told what was put in, and nothing of what is gone.
fn tell_of_java(out: &mut impl io::Write, gone: &[String]) -> io::Result<()> {
    if gone.is_empty() || !Path::new(DEBIAN_JAVA).exists() {
        return Ok(());
    }
    writeln!(out, "{}", java_keeps(gone))
}

fn java_keeps(gone: &[String]) -> String {
    let alias = |name: &String| format!("debian:{}.pem", name.trim_end_matches(".crt"));
    let all: Vec<_> = gone.iter().map(alias).collect();
    format!(
        "Java's store {DEBIAN_JAVA} may keep what is no longer to be trusted, as {}: take it out with \
         keytool -delete -alias ALIAS -keystore {DEBIAN_JAVA} -storepass changeit.",
        all.join(", ")
    )
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
                assert!(put_in(&dir, &authority).unwrap().is_empty());
                assert_eq!(fs::read_dir(&dir).unwrap().count(), 1 + count);
            }
            assert_eq!(take_out(&dir, &[]).unwrap().len(), 2);
            assert_eq!(take_out(&dir, &[]).unwrap().len(), 0);
            assert!(dir.join("others.crt").exists());
        }
    }

    #[test]
    fn another_root_has_another_name_and_what_is_gone_is_told() {
        let place = tempfile::tempdir().unwrap();
        let store = tempfile::tempdir().unwrap();
        let now = SystemClock.wall();
        let terms = Terms {
            before: Before::Distrust,
            ..Terms::default()
        };
        let made = || Authority::create(place.path(), &terms, &[], now).unwrap();
        // Of the time when they were numbered, and not ours.
        let theirs = ["tollgate-proxy.crt", "tollgate-.crt", "tollgate-0.pem"];
        for name in ["tollgate-0.crt", "tollgate-1.crt"].iter().chain(&theirs) {
            fs::write(store.path().join(name), "").unwrap();
        }
        let first = made();
        let gone = put_in(store.path(), &first).unwrap();
        assert_eq!(gone, ["tollgate-0.crt", "tollgate-1.crt"]);
        assert_eq!(
            put_in(store.path(), &first).unwrap(),
            Vec::<String>::new(),
            "the same once more"
        );
        let gone = put_in(store.path(), &made()).unwrap();
        assert_eq!(gone, [file(&first.roots()[0])]);
        for name in theirs {
            assert!(store.path().join(name).exists(), "{name}");
        }
        let said = java_keeps(&gone);
        let alias = file(&first.roots()[0]).replace(".crt", ".pem");
        assert!(said.contains(&format!("as debian:{alias}: ")), "{said}");
    }
}

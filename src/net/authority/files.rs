//! The files of an authority: read with care, written whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::process::geteuid;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};

use super::AuthorityError;
use crate::base::secret::Secret;

/// For the owner alone.
pub(super) const PRIVATE: u32 = 0o600;
/// For everyone to read.
pub(super) const PUBLIC: u32 = 0o644;

/// The longest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// When the files of an authority were written, as far as the system knows: another stamp, other
/// files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp([(u64, i64, i64, u64); 2]);

impl Stamp {
    /// That of the authority in a directory; `None` if there is none.
    pub fn of(dir: &Path) -> Option<Self> {
        let of = |file| {
            let found = fs::metadata(dir.join(file)).ok()?;
            let (at, nanos) = (found.mtime(), found.mtime_nsec());
            Some((found.ino(), at, nanos, found.len()))
        };
        Some(Self([of(super::ISSUER)?, of(super::ROOTS)?]))
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> AuthorityError {
    |source| AuthorityError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Puts `bytes` in the place of a file.
///
/// # Errors
/// It cannot be written; the file is then as it was.
pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthorityError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let write = || {
        // One that a crash has left behind.
        remove(&beside)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)?;
        // Whatever the umask says: what is for everyone can be read by everyone.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|error| {
        // The first error is the one to tell.
        let _either_way = remove(&beside);
        failed(path)(error)
    })
}

/// Takes a file away that need not be there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Who may own the directory of an authority besides root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Only who we are.
    Us,
    /// Where we are root, anybody.
    Anyone,
}

/// Whether nobody else can put another authority into a directory. In one where everyone can make
/// files and take away none but their own (sticky, such as a volume of secrets is), the files must be
/// of those who may own it.
///
/// # Errors
/// Others can write it, or own it or what is in it; or it is not there.
pub(super) fn guarded(dir: &Path, owner: Owner) -> Result<(), AuthorityError> {
    let found = fs::metadata(dir).map_err(failed(dir))?;
    let user = geteuid().as_raw();
    let foreign = |path: &Path, owner| AuthorityError::Foreign {
        path: path.to_owned(),
        owner,
        user,
    };
    let may_own = |uid: u32| {
        let is_asked_for = owner == Owner::Anyone && user == 0 && uid == found.uid();
        uid == 0 || uid == user || is_asked_for
    };
    if !may_own(found.uid()) {
        return Err(foreign(dir, found.uid()));
    }
    if found.mode() & 0o022 == 0 {
        return Ok(());
    }
    if found.mode() & STICKY == 0 {
        return Err(AuthorityError::Shared {
            path: dir.to_owned(),
            mode: found.mode() & 0o7777,
        });
    }
    for file in [super::ISSUER, super::ROOTS] {
        let path = dir.join(file);
        // Of a link, who made it: they chose where it leads.
        let found = fs::symlink_metadata(&path).ok();
        if let Some(uid) = found.map(|found| found.uid()).filter(|uid| !may_own(*uid)) {
            return Err(foreign(&path, uid));
        }
    }
    Ok(())
}

/// Who can write such a directory can take away none but their own files.
const STICKY: u32 = 0o1000;

/// Reads a file that others may not read. Ours is for us alone; one that was given to us (by a
/// volume of secrets, say) may be for our group.
pub(super) fn read_private(path: &Path) -> Result<Secret, AuthorityError> {
    let file = File::open(path).map_err(failed(path))?;
    let found = file.metadata().map_err(failed(path))?;
    let is_ours = found.uid() == geteuid().as_raw();
    let too_much = if is_ours { 0o077 } else { 0o037 };
    if found.mode() & too_much != 0 {
        return Err(AuthorityError::Exposed {
            path: path.to_owned(),
            mode: found.mode() & 0o777,
        });
    }
    text(file).map(Secret::new).map_err(failed(path))
}

/// Every certificate in a file, of which there is at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let text = File::open(path).and_then(text).map_err(failed(path))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let wrong = |problem: String| AuthorityError::Wrong {
        path: path.to_owned(),
        problem,
    };
    let all = all.map_err(|error| wrong(error.to_string()))?;
    if all.is_empty() {
        return Err(wrong("there is no certificate in it".to_owned()));
    }
    Ok(all)
}

/// Certificates, and a key.
type Parts = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The certificates and the key in a text, in any order.
pub(super) fn parts(text: &str) -> Result<Parts, String> {
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("4,ENCRYPTED") {
        return Err(
            "its key is encrypted, and nobody is there to give its password: put it there without \
             (`openssl pkey`)"
                .to_owned(),
        );
    }
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes());
    let certificates: Result<Vec<_>, _> = certificates.collect();
    let certificates = certificates.map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| match error {
        pem::Error::NoItemsFound => "there is no key in it".to_owned(),
        error => error.to_string(),
    })?;
    Ok((certificates, key))
}

fn text(file: File) -> io::Result<String> {
    let mut text = String::new();
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read > MAX_BYTES) {
        let why = "it is larger than 1 MiB";
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(text)
}

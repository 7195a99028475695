//! How an authority is made.

use std::{fs, os::unix::fs::DirBuilderExt as _, path::Path, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use ring::digest;
use rustls::pki_types::CertificateDer;

use super::{AuthorityError, Before, ISSUER, ROOTS, Terms, about, files, hold, named, trust};
use crate::base::clock::Timestamp;

/// How long before it is made an authority holds already, for clients whose clocks are behind.
const BACKDATED: Duration = Duration::from_hours(24);

/// What the names of our roots begin with.
pub(super) const ROOT: &str = "Tollgate root";

/// The most roots that are to be trusted: the one in use, and those before it.
const MOST_ROOTS: usize = 4;

/// Makes an authority in a directory.
pub(super) fn create(
    dir: &Path,
    terms: &Terms,
    system: &[CertificateDer<'_>],
    now: Timestamp,
) -> Result<(), AuthorityError> {
    let io = |source| AuthorityError::Io {
        path: dir.to_owned(),
        source,
    };
    let mut private = fs::DirBuilder::new();
    private
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(io)?;
    // Not two at once.
    let lock = fs::File::open(dir).map_err(io)?;
    lock.lock().map_err(io)?;
    files::guarded(dir, files::Owner::Us)?;
    let is_there = fs::exists(dir.join(ISSUER)).map_err(io)?;
    if is_there && terms.before == Before::Stay {
        // Without its roots there is nothing to keep.
        let path = dir.join(ROOTS);
        fs::metadata(&path).map_err(|source| AuthorityError::Io { path, source })?;
        return Err(AuthorityError::Exists(dir.to_owned()));
    }
    let made = Made::new(terms, now)?;
    // What is to be trusted first: a crash in between leaves the old authority, and one root more.
    let mut roots = vec![made.root];
    if is_there && terms.before == Before::Keep {
        let before = files::certificates(&dir.join(ROOTS)).unwrap_or_default();
        let holds = |root: &CertificateDer<'_>| about::end(root).is_ok_and(|end| end > now);
        roots.extend(before.into_iter().filter(holds));
        roots.truncate(MOST_ROOTS);
    }
    trust::write(dir, &roots, system)?;
    files::write(&dir.join(ISSUER), made.issuer.as_bytes(), files::PRIVATE)?;
    lock.sync_all().map_err(io)
}

/// A new authority, not yet written.
struct Made {
    root: CertificateDer<'static>,
    /// The issuer's certificate and key, as text.
    issuer: String,
}

impl Made {
    fn new(terms: &Terms, now: Timestamp) -> Result<Self, rcgen::Error> {
        let times = (now - BACKDATED, now + terms.lifetime);
        let root_key = KeyPair::generate()?;
        let root_params = params(ROOT, &root_key, terms, times, 1);
        let root = root_params.self_signed(&root_key)?;
        let key = KeyPair::generate()?;
        let params = params("Tollgate issuer", &key, terms, times, 0);
        // The root's key signs this, and is gone.
        let issuer = params.signed_by(&key, &Issuer::from_params(&root_params, &root_key))?;
        Ok(Self {
            root: root.der().clone(),
            issuer: [issuer.pem(), key.serialize_pem()].concat(),
        })
    }
}

/// What a certificate that signs others is to say. `below`: how many such may be between it and the
/// certificate of a host.
fn params(
    role: &str,
    key: &KeyPair,
    terms: &Terms,
    (begins, ends): (Timestamp, Timestamp),
    below: u8,
) -> CertificateParams {
    let mut params = CertificateParams::default();
    // No two have one name, so that a client that trusts several tries the right one.
    let hash = digest::digest(&digest::SHA256, key.der_bytes());
    let id = hash.as_ref().first_chunk().copied().unwrap_or_default();
    let id = u32::from_be_bytes(id);
    params.distinguished_name = named(&format!("{role} {id:08x}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.name_constraints = terms.scope.constraints();
    params.use_authority_key_identifier_extension = true;
    hold(&mut params, begins, ends);
    params
}

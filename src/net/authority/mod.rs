//! The local certificate authority: it vouches for hosts whose connections are opened.
//!
//! A directory holds it. `issuer.pem` is what signs, a certificate and its key, for the owner alone.
//! `ca.pem` is what clients trust: a root that has vouched for the issuer, and whose own key was
//! thrown away then. So whoever steals the key can do no more than the issuer's certificate allows,
//! and that holds for runtimes too that heed no constraints in a root.

mod about;
mod create;
mod files;
mod java;
mod leaves;
mod terms;
mod trust;

use std::{
    fmt,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    CertificateError, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    sign::CertifiedKey,
};

pub use self::{
    about::{About, fingerprint},
    files::Stamp,
    leaves::{Counts, Leaves},
    terms::{Before, Scope, Terms, WrongHost},
    trust::{BUNDLE, JAVA, ROOTS, pem},
};
use crate::base::clock::Timestamp;

/// What signs: a certificate, its key, and further certificates of the chain, if any.
const ISSUER: &str = "issuer.pem";

/// A name that no host has: what is permitted where no name is.
const NOWHERE: &str = "tollgate.invalid";

/// How long before it is made a certificate holds already, for clients whose clocks are behind.
const BACKDATED: Duration = Duration::from_hours(1);

/// How long a leaf holds once it is made: with [`BACKDATED`], a day.
const LEAF: Duration = Duration::from_hours(23);

/// How long before its end an authority says that it ends.
const SOON: Duration = Duration::from_hours(30 * 24);

/// A certificate authority, ready to sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// What a leaf is sent with: the issuer's certificate, then those above it, but no root.
    chain: Vec<CertificateDer<'static>>,
    /// What clients trust, the one in use first.
    roots: Vec<CertificateDer<'static>>,
    /// What such a client thinks of a leaf.
    client: Arc<WebPkiServerVerifier>,
    about: About,
}

/// A certificate for one host.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The certificate with its chain, and its key.
    pub key: Arc<CertifiedKey>,
    /// When it begins to hold.
    pub begins: Timestamp,
    /// When it ends.
    pub ends: Timestamp,
}

/// Why an authority cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read or written.
    #[error("{}: {source}{}", path.display(), help(path, source))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is one already.
    #[error(
        "{} holds a certificate authority already: `tollgate ca create --replace` makes another, \
         and keeps the root of this one among those to trust",
        .0.display()
    )]
    Exists(PathBuf),
    /// The key can be read by others.
    #[error(
        "{}: others may read the key in it (mode {mode:03o}), so it may be theirs too: \
         `chmod 600` it if nobody has, else `tollgate ca create --replace --distrust`",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Others can put an authority of theirs there.
    #[error(
        "{}: others can write this directory (mode {mode:04o}), and put an authority of theirs there: \
         `chmod 700` it or use one below it, and if somebody may have done so, `tollgate ca create \
         --replace --distrust`",
        path.display()
    )]
    Shared {
        /// The directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Somebody else can, whose it is.
    #[error(
        "{}: it belongs to user {owner}, who is neither root nor user {user}, as whom this runs, and \
         who can put another authority there: do this as that user, or `chown` it",
        path.display()
    )]
    Foreign {
        /// The directory, or a file in it.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// A file does not hold what it has to.
    #[error("{}: {problem}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// A certificate could not be made.
    #[error("no certificate could be made: {0}")]
    Unmade(#[from] rcgen::Error),
}

impl AuthorityError {
    /// Whether there is no authority, as far as can be seen: what signs cannot be read.
    pub fn is_unseen(&self) -> bool {
        matches!(self, Self::Io { path, .. } if path.ends_with(ISSUER))
    }
}

/// Why there is no certificate for a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// No certificate can name it.
    #[error("`{0}` is no name or address of a host")]
    NoHost(String),
    /// Clients would not accept it: the authority has ended, or may not vouch for such a host.
    #[error("a certificate for {host} would not be accepted: {why}")]
    Unvouched {
        /// The host.
        host: String,
        /// What a client would say.
        why: String,
    },
    /// It could not be made.
    #[error("no certificate could be made: {0}")]
    Unmade(String),
}

/// Something about an authority that wants attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Clients accept nothing from it any more.
    #[error(
        "the certificate authority ended at {0}: make another with `tollgate ca create --replace`"
    )]
    Ended(Timestamp),
    /// It will end soon.
    #[error(
        "the certificate authority ends at {0}: make another with `tollgate ca create --replace`, \
         and start clients again"
    )]
    EndsSoon(Timestamp),
    /// It does not hold yet.
    #[error("the certificate authority holds only from {0} on: is the clock right?")]
    NotYet(Timestamp),
}

impl Authority {
    /// Makes an authority in a directory, which is made if need be, for its owner alone; what
    /// clients need is written there too ([`Self::write_trust`]).
    ///
    /// # Errors
    /// There is one already that the terms do not replace, or the directory cannot be written.
    pub fn create(
        dir: &Path,
        terms: &Terms,
        system: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<Self, AuthorityError> {
        create::create(dir, terms, system, now)?;
        Self::open(dir)
    }

    /// Whether there is one in a directory, of whatever state.
    pub fn is_in(dir: &Path) -> bool {
        dir.join(ISSUER).exists()
    }

    /// Takes the key that signs out of a directory: nobody can open the authority there any more. One
    /// that is in use goes on, and so do those who trust it.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn forget(dir: &Path) -> Result<(), AuthorityError> {
        let path = dir.join(ISSUER);
        files::remove(&path).map_err(|source| AuthorityError::Io { path, source })
    }

    /// Opens the authority in a directory. One that has ended can be opened: see [`Self::trouble`].
    ///
    /// # Errors
    /// A file is missing or wrong, others may read the key or write the directory, or no root to
    /// trust has vouched for the issuer.
    pub fn open(dir: &Path) -> Result<Self, AuthorityError> {
        Self::read(dir, files::Owner::Us)
    }

    /// Opens one to show it, or to have it trusted. Its directory may be another user's where we are
    /// root: only root can have a system trust the authority of the user that Tollgate runs as.
    ///
    /// # Errors
    /// As those of [`Self::open`].
    pub fn look(dir: &Path) -> Result<Self, AuthorityError> {
        Self::read(dir, files::Owner::Anyone)
    }

    fn read(dir: &Path, owner: files::Owner) -> Result<Self, AuthorityError> {
        let path = dir.join(ISSUER);
        let wrong = |problem: String| AuthorityError::Wrong {
            path: path.clone(),
            problem,
        };
        // Where there is none, the file that is made is what to name.
        if Self::is_in(dir) {
            files::guarded(dir, owner)?;
        }
        let text = files::read_private(&path)?;
        let (chain, key) = files::parts(text.expose()).map_err(wrong)?;
        let key = KeyPair::try_from(&key)
            .map_err(|_unusable| wrong("its key cannot be used: expected PKCS#8".to_owned()))?;
        let own = chain.first();
        let own = own.ok_or_else(|| wrong("there is no certificate in it".to_owned()))?;
        let about = About::read(own, &key).map_err(wrong)?;
        let issuer = Issuer::from_ca_cert_der(own, key)?;
        let roots = files::certificates(&dir.join(ROOTS))?;
        let wrong = |problem: String| AuthorityError::Wrong {
            path: dir.join(ROOTS),
            problem,
        };
        let client = client(&roots).map_err(|error| wrong(error.to_string()))?;
        let authority = Self {
            issuer,
            chain,
            roots,
            client,
            about,
        };
        authority.is_vouched_for().map_err(|error| {
            wrong(format!(
                "no certificate in it vouches for {ISSUER} ({error}): is it of another?"
            ))
        })?;
        Ok(authority)
    }

    /// A certificate for a host, by name or address. It holds for a day at most, and no longer than
    /// the authority. Takes a fraction of a millisecond.
    ///
    /// # Errors
    /// It is no host, or clients would not accept what the authority says about it.
    pub fn leaf(&self, host: &str, now: Timestamp) -> Result<Leaf, LeafError> {
        if let Some(over @ (Trouble::Ended(_) | Trouble::NotYet(_))) = self.trouble(now) {
            return Err(LeafError::Unvouched {
                host: host.to_owned(),
                why: over.to_string(),
            });
        }
        let leaf = self.mint(host, now)?;
        // Better none at all than one that every client refuses.
        self.accepted(&leaf, host, now)?;
        Ok(leaf)
    }

    fn mint(&self, host: &str, now: Timestamp) -> Result<Leaf, LeafError> {
        let unmade = |error: rcgen::Error| LeafError::Unmade(error.to_string());
        if ServerName::try_from(host).is_err() {
            return Err(LeafError::NoHost(host.to_owned()));
        }
        let mut params = CertificateParams::new([host.to_owned()]).map_err(unmade)?;
        // The host is among the alternative names, which alone count; it may be too long for here.
        params.distinguished_name = named("Tollgate leaf");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let (begins, ends) = (now - BACKDATED, (now + LEAF).min(self.about.ends));
        hold(&mut params, begins, ends);
        let key = KeyPair::generate().map_err(unmade)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(unmade)?;
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = ring::sign::any_ecdsa_type(&der)
            .map_err(|error| LeafError::Unmade(error.to_string()))?;
        let chain = [certificate.der().clone()];
        let chain = chain.into_iter().chain(self.chain.iter().cloned());
        Ok(Leaf {
            key: Arc::new(CertifiedKey::new(chain.collect(), key)),
            begins,
            ends,
        })
    }

    /// Whether a client would accept that.
    fn accepted(&self, leaf: &Leaf, host: &str, now: Timestamp) -> Result<(), LeafError> {
        let no_host = |_| LeafError::NoHost(host.to_owned());
        let name = ServerName::try_from(host).map_err(no_host)?;
        let (own, above) = leaf.key.cert.split_first().unwrap_or((EMPTY, &[]));
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()));
        let verified = self.client.verify_server_cert(own, above, &name, &[], now);
        verified.map(drop).map_err(|error| LeafError::Unvouched {
            host: host.to_owned(),
            why: why(&error),
        })
    }

    /// Whether a root has vouched for the issuer: asked as of a moment when the issuer's certificate
    /// holds, since it may have ended.
    fn is_vouched_for(&self) -> Result<(), LeafError> {
        let about = &self.about;
        let host = about.hosts.first().map_or(NOWHERE, |host| host);
        let then = about.begins + about.ends.since(about.begins) / 2;
        self.leaf(host, then).map(drop)
    }

    /// Whether it is the same, with the same to trust.
    pub fn is_same(&self, other: &Self) -> bool {
        self.chain == other.chain && self.roots == other.roots
    }

    /// What its certificate says.
    pub const fn about(&self) -> &About {
        &self.about
    }

    /// What clients trust, in DER, the root in use first.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// What wants attention now.
    pub fn trouble(&self, now: Timestamp) -> Option<Trouble> {
        let About { begins, ends, .. } = self.about;
        match now {
            now if now >= ends => Some(Trouble::Ended(ends)),
            now if now < begins => Some(Trouble::NotYet(begins)),
            now if now + SOON >= ends => Some(Trouble::EndsSoon(ends)),
            _ => None,
        }
    }
}

/// What to do about a file that cannot be read. What signs is read first: where the roots alone are
/// gone, an authority is there that nobody can be told to trust any more.
fn help(path: &Path, error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound if path.ends_with(ISSUER) => " (`tollgate ca create` makes it)",
        ErrorKind::NotFound if path.ends_with(ROOTS) => {
            " (put it back, or make another authority with `tollgate ca create --replace`, which \
             clients are to be given anew)"
        },
        _ => "",
    }
}

/// Never its key.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Authority");
        shown.field("about", &self.about).finish_non_exhaustive()
    }
}

/// A client that trusts these roots and no others.
fn client(roots: &[CertificateDer<'static>]) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone())?;
    }
    let provider = Arc::new(ring::default_provider());
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))
}

/// Why a client does not accept a certificate, in words.
fn why(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other))
            if other.to_string().contains("NameConstraint") =>
        {
            "the authority may not vouch for such a host (`tollgate ca show`)".to_owned()
        },
        other => other.to_string(),
    }
}

/// Stands for a chain without certificates, which there is not.
const EMPTY: &CertificateDer<'static> = &CertificateDer::from_slice(&[]);

/// A name of a certificate's owner or issuer.
fn named(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Tollgate");
    name.push(DnType::CommonName, common);
    name
}

/// Says when a certificate holds, in whole seconds.
fn hold(params: &mut CertificateParams, begins: Timestamp, ends: Timestamp) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(begins.as_secs());
    params.not_after = epoch + Duration::from_secs(ends.as_secs());
}

#[cfg(test)]
mod tests;

//! What clients trust, as files that their runtimes read.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::CertificateDer;

use super::{Authority, AuthorityError, about, files, java};

/// The roots, for runtimes that add them to those of the system.
pub const ROOTS: &str = "ca.pem";
/// The roots and those of the system, for runtimes that trust what is in a file and nothing else.
pub const BUNDLE: &str = "bundle.pem";
/// The same for Java.
pub const JAVA: &str = "trust.jks";

impl Authority {
    /// Writes [`ROOTS`], [`BUNDLE`] and [`JAVA`] into a directory: everything that clients need, and
    /// no key. `system`: what they are to trust besides.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn write_trust(
        &self,
        dir: &Path,
        system: &[CertificateDer<'_>],
    ) -> Result<(), AuthorityError> {
        write(dir, self.roots(), system)
    }
}

pub(super) fn write(
    dir: &Path,
    roots: &[CertificateDer<'_>],
    system: &[CertificateDer<'_>],
) -> Result<(), AuthorityError> {
    // What is trusted besides may be a bundle that was written here before.
    let system = system.iter().filter(|root| !about::is_root_of_ours(root));
    let mut all: Vec<&CertificateDer<'_>> = Vec::new();
    for root in roots.iter().chain(system) {
        if !all.contains(&root) {
            all.push(root);
        }
    }
    let write = |name: &str, bytes: &[u8]| files::write(&dir.join(name), bytes, files::PUBLIC);
    write(ROOTS, pem(roots).as_bytes())?;
    write(BUNDLE, pem(all.iter().copied()).as_bytes())?;
    write(JAVA, &java::store(all))
}

/// Certificates as text (PEM).
pub fn pem<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let mut rest = STANDARD.encode(certificate);
        while !rest.is_empty() {
            let after = rest.split_off(rest.len().min(64));
            text.push_str(&rest);
            text.push('\n');
            rest = after;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

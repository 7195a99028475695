//! A certificate and its key, as they are shown.

use std::{sync::Arc, time::Duration};

use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    sign::CertifiedKey,
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::base::clock::Timestamp;

/// A certificate with its chain, and its key.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) begins: Timestamp,
    pub(super) ends: Timestamp,
}

impl Pair {
    /// From texts (PEM).
    ///
    /// # Errors
    /// One of them is none, or the key is another's.
    pub(super) fn read(chain: &[u8], key: &[u8]) -> Result<Self, String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|error| format!("the certificate: {error}"))?;
        let own = chain.first().ok_or("there is no certificate")?;
        let (begins, ends) = holds(own)?;
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the key: {error}"))?;
        let key = ring::sign::any_supported_type(&key).map_err(|error| error.to_string())?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match()
            .map_err(|_mismatch| "the key is not that of the certificate")?;
        Ok(Self {
            key: Arc::new(key),
            begins,
            ends,
        })
    }

    /// Whether a client that trusts `root` accepts it for a host at that moment.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn accepted(
        &self,
        root: &CertificateDer<'static>,
        host: &str,
        now: Timestamp,
    ) -> Result<(), String> {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).map_err(|error| error.to_string())?;
        let provider = Arc::new(ring::default_provider());
        let client = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| error.to_string())?;
        let (own, above) = self
            .key
            .cert
            .split_first()
            .ok_or("there is no certificate")?;
        let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()));
        let verified = client.verify_server_cert(own, above, &name, &[], now);
        verified.map(drop).map_err(|error| error.to_string())
    }
}

/// From when, and until when, a certificate holds.
pub(super) fn holds(der: &[u8]) -> Result<(Timestamp, Timestamp), String> {
    let (_rest, found) = X509Certificate::from_der(der)
        .map_err(|error| format!("the certificate cannot be read: {error}"))?;
    let validity = found.validity();
    // The epoch for what is before it.
    let moment = |secs: i64| Timestamp::from_secs(u64::try_from(secs).unwrap_or(0));
    Ok((
        moment(validity.not_before.timestamp()),
        moment(validity.not_after.timestamp()),
    ))
}

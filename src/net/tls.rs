//! TLS towards providers: roots, an extra CA, a client certificate.

use std::{io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::{config::Upstream, post::Tls};

/// Why TLS cannot be set up; each names the key of the configuration that is to blame.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read.
    #[error("{key}: cannot read {path}: {source}")]
    Unreadable {
        /// The key of the configuration.
        key: String,
        /// The file.
        path: String,
        /// What the reader said.
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate cannot be used.
    #[error("{key}: {path} cannot be used: {source}")]
    Unusable {
        /// The key of the configuration.
        key: String,
        /// The file.
        path: String,
        /// What rustls said.
        source: rustls::Error,
    },
    /// One of certificate and key is missing.
    #[error("{0}.client_cert and {0}.client_key go together; only one of them is set")]
    HalfAPair(&'static str),
}

/// Files of PEM text, by the keys of a section like `upstream:`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files<'a> {
    /// The section, as errors name it.
    pub section: &'static str,
    /// Further roots, beside the system's, with the section that names them.
    pub ca_file: Option<(&'static str, &'a Path)>,
    /// Our certificate, for providers that ask for one.
    pub client_cert: Option<&'a Path>,
    /// Its key.
    pub client_key: Option<&'a Path>,
}

impl<'a> Files<'a> {
    /// As a destination says itself, with the authority of `upstream:` where it has none of its own.
    pub fn of(tls: &'a Tls, upstream: &'a Upstream) -> Self {
        let own = tls.ca_file.as_deref().map(|path| ("tls", path));
        let inherited = || {
            let path = upstream.ca_file.as_deref()?;
            Some(("upstream", path))
        };
        Self {
            section: "tls",
            ca_file: own.or_else(inherited),
            client_cert: tls.client_cert.as_deref(),
            client_key: tls.client_key.as_deref(),
        }
    }
}

/// The roots that the system trusts, or that its variable `SSL_CERT_FILE` names.
pub fn system_roots() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

/// The client's side of TLS 1.2 and 1.3, by ring. Trusts the system's roots (Mozilla's where the
/// system has none, as in small images) and `ca_file`.
///
/// # Errors
/// When a file cannot be read or used.
pub fn client(files: Files<'_>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    let (_added, _ignored) = roots.add_parsable_certificates(system_roots());
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let named = |key: &str| format!("{}.{key}", files.section);
    if let Some((section, path)) = files.ca_file {
        let key = format!("{section}.ca_file");
        for certificate in certificates(&key, path)? {
            roots.add(certificate).map_err(unusable(&key, path))?;
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(unusable(files.section, Path::new("TLS")))?
        .with_root_certificates(roots);
    match (files.client_cert, files.client_key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => {
            let chain = certificates(&named("client_cert"), certificate)?;
            let key_der = PrivateKeyDer::from_pem_file(key)
                .map_err(|source| unreadable(&named("client_key"), key, source))?;
            builder
                .with_client_auth_cert(chain, key_der)
                .map_err(unusable(&named("client_cert"), certificate))
        },
        _ => Err(TlsError::HalfAPair(files.section)),
    }
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| unreadable(key, path, source);
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(unreadable)?
        .collect::<Result<_, _>>()
        .map_err(unreadable)?;
    if found.is_empty() {
        return Err(unreadable(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(found)
}

fn unreadable(key: &str, path: &Path, source: rustls::pki_types::pem::Error) -> TlsError {
    TlsError::Unreadable {
        key: key.to_owned(),
        path: path.display().to_string(),
        source,
    }
}

fn unusable(key: &str, path: &Path) -> impl FnOnce(rustls::Error) -> TlsError + use<> {
    let (key, path) = (key.to_owned(), path.display().to_string());
    move |source| TlsError::Unusable { key, path, source }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named_with_its_key() {
        let path = || Some("no/such/ca.pem".into());
        let upstream = Upstream {
            ca_file: path(),
            ..Upstream::default()
        };
        let own = Tls {
            ca_file: path(),
            ..Tls::default()
        };
        for (tls, key) in [(Tls::default(), "upstream"), (own, "tls")] {
            let error = client(Files::of(&tls, &upstream)).unwrap_err();
            let expected = format!("{key}.ca_file: cannot read no/such/ca.pem");
            assert!(error.to_string().contains(&expected), "{error}");
        }
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        let path = Path::new("cert.pem");
        let error = client(Files {
            client_cert: Some(path),
            ..Files::default()
        })
        .unwrap_err();
        assert!(matches!(error, TlsError::HalfAPair(_)));
    }
}

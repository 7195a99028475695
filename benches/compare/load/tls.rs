//! TLS as both ends speak it: a certificate for the upstream, which a proxy may show too, and clients
//! that verify what they are shown.

use std::{fs, path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _},
};

use crate::Failure;

/// The host that clients mean, a provider's.
pub(crate) const NAME: &str = "api.openai.com";

/// Makes a root and a certificate for [`NAME`] and `localhost`, with a P-256 key as those of Tollgate:
/// `root.pem`, `server.pem` and `server.key` in the directory. TLS of a server that shows it.
pub(crate) fn server(directory: &Path) -> Result<Arc<ServerConfig>, Failure> {
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    root.distinguished_name
        .push(DnType::CommonName, "the root of a comparison");
    let key = KeyPair::generate()?;
    let certificate = root.self_signed(&key)?;
    fs::write(directory.join("root.pem"), certificate.pem())?;
    let issuer = Issuer::new(root, key);

    let key = KeyPair::generate()?;
    let params = CertificateParams::new([NAME, "localhost"].map(str::to_owned))?;
    let certificate = params.signed_by(&key, &issuer)?;
    fs::write(directory.join("server.pem"), certificate.pem())?;
    fs::write(directory.join("server.key"), key.serialize_pem())?;

    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = ring::Ticketer::new()?;
    Ok(Arc::new(config))
}

/// TLS of a client that trusts the roots in a PEM file, and makes a whole handshake each time.
pub(crate) fn client(roots: &Path) -> Result<Arc<ClientConfig>, Failure> {
    let mut trusted = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(roots)? {
        trusted.add(root?)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

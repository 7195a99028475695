//! TLS in front of a plain upstream, as a provider has it.

use std::{net::SocketAddr, sync::Arc};

use rustls::{ServerConfig, crypto::ring, sign::SingleCertAndKey};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// A listening socket.
pub(crate) struct Front {
    pub(crate) addr: SocketAddr,
    serving: JoinHandle<()>,
}

impl Front {
    /// With this certificate, before the plain upstream at `behind`.
    pub(crate) async fn before(behind: SocketAddr, key: Arc<rustls::sign::CertifiedKey>) -> Self {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = builder
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut tls) = acceptor.accept(socket).await else {
                        return;
                    };
                    let mut server = TcpStream::connect(behind).await.unwrap();
                    // However it ends: the client sees that.
                    let _ended = tokio::io::copy_bidirectional(&mut tls, &mut server).await;
                });
            }
        });
        Self { addr, serving }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

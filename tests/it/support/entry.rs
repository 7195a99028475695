//! The way of a client that is told of a proxy and knows nothing else: `CONNECT`, then TLS, then what
//! the client has to say. Tests connect to a plain port here, and are led there.

use std::{io, net::SocketAddr, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// What a client says in TLS.
#[derive(Clone)]
pub(crate) struct Says {
    /// The name that it expects; an address is not told.
    pub(crate) name: String,
    pub(crate) roots: Vec<CertificateDer<'static>>,
    pub(crate) alpn: Vec<&'static str>,
}

impl Says {
    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let (_added, ignored) = roots.add_parsable_certificates(self.roots.clone());
        assert_eq!(ignored, 0);
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let mut config = builder
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = self
            .alpn
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        config
    }

    /// Speaks TLS over a socket.
    pub(crate) async fn over(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.by(self.config(), socket).await
    }

    /// The same, without telling the name that is expected.
    pub(crate) async fn over_unnamed(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let mut config = self.config();
        config.enable_sni = false;
        self.by(config, socket).await
    }

    async fn by(
        &self,
        config: ClientConfig,
        socket: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(self.name.clone()).unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, socket).await
    }
}

/// Asks a proxy for a connection. The socket, if it is given, and the head of the answer.
pub(crate) async fn ask(proxy: SocketAddr, target: &str, headers: &str) -> (TcpStream, String) {
    let mut socket = TcpStream::connect(proxy).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let head = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{headers}\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        match socket.read_u8().await {
            Ok(byte) => answer.push(byte),
            Err(_ended) => break,
        }
    }
    (socket, String::from_utf8(answer).unwrap())
}

/// A plain port behind which every connection leads to `target`.
pub(crate) struct Entry {
    pub(crate) addr: SocketAddr,
    leading: JoinHandle<()>,
}

impl Entry {
    /// With TLS, if the client `says` something in it, and further `headers` of `CONNECT`.
    pub(crate) async fn new(
        proxy: SocketAddr,
        target: &str,
        headers: &str,
        says: Option<Says>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (target, headers) = (target.to_owned(), headers.to_owned());
        let leading = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (target, headers, says) = (target.clone(), headers.clone(), says.clone());
                tokio::spawn(async move {
                    let (mut socket, answer) = ask(proxy, &target, &headers).await;
                    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                    // However it ends: the test sees that.
                    let _ended = match says {
                        None => tokio::io::copy_bidirectional(&mut client, &mut socket).await,
                        Some(says) => match says.over(socket).await {
                            Ok(mut tls) => {
                                tokio::io::copy_bidirectional(&mut client, &mut tls).await
                            },
                            Err(error) => Err(error),
                        },
                    };
                });
            }
        });
        Self { addr, leading }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.leading.abort();
    }
}

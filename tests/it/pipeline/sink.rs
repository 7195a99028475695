//! A destination on loopback that does what it is told, request by request, with or without TLS.

use std::{
    collections::VecDeque,
    io::Read as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::HeaderMap;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// Where the certificates of these tests are.
pub(crate) const TLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/pipeline/tls");

/// What a sink does with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// Answers with this status, this `retry-after` if any, and `ok`.
    Answers(u16, Option<&'static str>),
    /// Reads the request and never answers.
    Hangs,
    /// Answers 200 with bytes that mean nothing.
    Garbage,
    /// Answers 200 with an endless body.
    Floods,
    /// Resets the connection in the middle of the request.
    ResetsRequest,
    /// Resets the connection in the middle of its answer.
    ResetsAnswer,
    /// Answers a byte at a time, too slowly to ever come to the end.
    Trickles,
}

pub(crate) const TAKES: Does = Does::Answers(200, None);

/// A request that was read whole.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    /// Its body, decompressed.
    pub(crate) body: Vec<u8>,
    pub(crate) answered: Does,
}

/// Whom a sink with TLS believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clients {
    /// Anybody.
    Any,
    /// Those who show a certificate of the tests' authority.
    Known,
}

pub(crate) struct Sink {
    pub(crate) url: String,
    played: Arc<Played>,
}

struct Played {
    script: Mutex<VecDeque<Does>>,
    then: Does,
    seen: Mutex<Vec<Seen>>,
    connections: Mutex<usize>,
}

impl Sink {
    /// Does what the script says, and `then` that with every further request.
    pub(crate) async fn start(script: &[Does], then: Does) -> Self {
        Self::serve(script, then, None).await
    }

    /// The same, with a certificate of the tests' authority, for `localhost`.
    pub(crate) async fn with_tls(clients: Clients, script: &[Does], then: Does) -> Self {
        Self::serve(script, then, Some(acceptor(clients))).await
    }

    async fn serve(script: &[Does], then: Does, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let played = Arc::new(Played {
            script: Mutex::new(script.iter().copied().collect()),
            then,
            seen: Mutex::default(),
            connections: Mutex::default(),
        });
        let sink = Self {
            url: format!("{scheme}://localhost:{port}"),
            played: Arc::clone(&played),
        };
        tokio::spawn(async move {
            while let Ok((socket, _peer)) = listener.accept().await {
                *played.connections.lock().unwrap() += 1;
                let (played, tls) = (Arc::clone(&played), tls.clone());
                tokio::spawn(async move {
                    let Some(tls) = tls else {
                        return connection(socket, &played).await;
                    };
                    // Whoever does not trust us goes away here.
                    if let Ok(stream) = tls.accept(socket).await {
                        connection(stream, &played).await;
                    }
                });
            }
        });
        sink
    }

    /// Every request that was read whole so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.played.seen.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.played.connections.lock().unwrap()
    }
}

/// A socket that can be reset.
trait Resettable: AsyncRead + AsyncWrite + Unpin {
    fn socket(&self) -> &TcpStream;
}

impl Resettable for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Resettable for tokio_rustls::server::TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

async fn connection(mut stream: impl Resettable, played: &Played) {
    let mut read = Vec::new();
    while let Some((mut seen, length)) = head(&mut stream, &mut read).await {
        let next = played.script.lock().unwrap().pop_front();
        let does = next.unwrap_or(played.then);
        if does == Does::ResetsRequest {
            return reset(&stream);
        }
        while read.len() < length {
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        }
        seen.body = read.drain(..length).collect();
        if seen
            .headers
            .get("content-encoding")
            .is_some_and(|it| it == "gzip")
        {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&*seen.body)
                .read_to_end(&mut plain)
                .unwrap();
            seen.body = plain;
        }
        seen.answered = does;
        played.seen.lock().unwrap().push(seen);
        if answer(&mut stream, does).await.is_err() {
            return; // It does not listen any more.
        }
    }
}

/// The head of a request, and the length of its body.
async fn head(stream: &mut impl Resettable, read: &mut Vec<u8>) -> Option<(Seen, usize)> {
    let end = loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(read).await.unwrap_or(0) == 0 {
            return None;
        }
    };
    let text = String::from_utf8(read.drain(..end).collect()).unwrap();
    let mut lines = text.trim_end().split("\r\n");
    let mut first = lines.next().unwrap().split(' ');
    let headers: HeaderMap = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            let name: http::HeaderName = name.parse().unwrap();
            (name, value.parse::<http::HeaderValue>().unwrap())
        })
        .collect();
    let length = headers
        .get("content-length")
        .map_or("0", |it| it.to_str().unwrap());
    let length = length.parse().unwrap();
    let seen = Seen {
        method: first.next().unwrap().to_owned(),
        target: first.next().unwrap().to_owned(),
        headers,
        body: Vec::new(),
        answered: TAKES,
    };
    Some((seen, length))
}

async fn answer(stream: &mut impl Resettable, does: Does) -> std::io::Result<()> {
    const ENDLESS: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99999999\r\n\r\n{";
    match does {
        Does::Answers(status, after) => {
            let after = after.map_or_else(String::new, |it| format!("retry-after: {it}\r\n"));
            let answer = format!("HTTP/1.1 {status} X\r\n{after}content-length: 2\r\n\r\nok");
            stream.write_all(answer.as_bytes()).await
        },
        Does::Garbage => {
            let garbage = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 6\r\n\r\n\xff\0{[<\x1b";
            stream.write_all(garbage).await
        },
        Does::Hangs => std::future::pending().await,
        Does::Floods => {
            stream.write_all(ENDLESS).await?;
            loop {
                stream.write_all(&[b' '; 4096]).await?;
            }
        },
        Does::ResetsAnswer => {
            stream.write_all(ENDLESS).await?;
            stream.flush().await?;
            reset(stream);
            Err(std::io::ErrorKind::ConnectionReset.into())
        },
        Does::Trickles => {
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            for byte in ENDLESS.iter().cycle() {
                tick.tick().await;
                stream.write_all(&[*byte]).await?;
            }
            Ok(())
        },
        Does::ResetsRequest => Ok(()),
    }
}

/// The next time that the socket is closed, which is now, its peer hears of it as an error.
fn reset(stream: &impl Resettable) {
    let socket = socket2::SockRef::from(stream.socket());
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

/// Shows the certificate of the tests' authority for `localhost`.
pub(crate) fn acceptor(clients: Clients) -> TlsAcceptor {
    let read = |name: &str| CertificateDer::from_pem_file(format!("{TLS}/{name}")).unwrap();
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        Clients::Any => builder.with_no_client_auth(),
        Clients::Known => {
            let mut roots = RootCertStore::empty();
            roots.add(read("ca.pem")).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        },
    };
    let key = PrivateKeyDer::from_pem_file(format!("{TLS}/server.key")).unwrap();
    let config = builder.with_single_cert(vec![read("server.pem")], key);
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

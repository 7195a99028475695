//! The way of a client to where it wants to be: straight or by `CONNECT`, with TLS or without.

use std::{io, net::SocketAddr, path::PathBuf};

use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{Failure, tls};

/// Where to connect, and what to say before anything else.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Way {
    /// The server itself, or a proxy in front of it.
    pub(crate) target: SocketAddr,
    /// What to ask a proxy for, host and port.
    pub(crate) connect: Option<String>,
    /// Speak TLS for [`tls::NAME`], and trust these roots (PEM).
    pub(crate) roots: Option<PathBuf>,
}

/// What is said and heard over a connection.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<W: AsyncRead + AsyncWrite + Send + Unpin> Wire for W {}

/// Opens connections.
pub(crate) struct Opener {
    way: Way,
    tls: Option<TlsConnector>,
    spoken: Mutex<Option<String>>,
}

impl Way {
    /// Reads the roots.
    pub(crate) fn opener(&self) -> Result<Opener, Failure> {
        let tls = match &self.roots {
            Some(roots) => Some(TlsConnector::from(tls::client(roots)?)),
            None => None,
        };
        Ok(Opener {
            way: self.clone(),
            tls,
            spoken: Mutex::default(),
        })
    }

    /// The host, as requests name it.
    pub(crate) fn host(&self) -> String {
        if self.roots.is_some() {
            tls::NAME.to_owned()
        } else {
            self.target.to_string()
        }
    }

    /// A connection with nothing said over it but `CONNECT`.
    pub(crate) async fn socket(&self) -> io::Result<TcpStream> {
        let mut socket = TcpStream::connect(self.target).await?;
        socket.set_nodelay(true)?;
        if let Some(to) = &self.connect {
            let ask = format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n\r\n");
            socket.write_all(ask.as_bytes()).await?;
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                if socket.read_buf(&mut answer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            if !answer.starts_with(b"HTTP/1.1 200 ") {
                return Err(io::Error::other(String::from_utf8_lossy(&answer)));
            }
        }
        Ok(socket)
    }
}

impl Opener {
    /// A connection over which requests can be sent.
    pub(crate) async fn open(&self) -> io::Result<Box<dyn Wire>> {
        let socket = self.way.socket().await?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(socket));
        };
        let name = ServerName::try_from(tls::NAME).map_err(io::Error::other)?;
        let socket = tls.connect(name, socket).await?;
        let about = socket.get_ref().1;
        let version = about
            .protocol_version()
            .and_then(|version| version.as_str());
        let suite = about.negotiated_cipher_suite();
        let suite = suite.and_then(|suite| suite.suite().as_str());
        let spoken = format!("{} {}", version.unwrap_or("?"), suite.unwrap_or("?"));
        *self.spoken.lock() = Some(spoken);
        Ok(Box::new(socket))
    }

    /// The version and cipher of TLS, as the last connection had them.
    pub(crate) fn spoken(&self) -> Option<String> {
        self.spoken.lock().clone()
    }
}

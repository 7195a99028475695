//! A connection to a provider's host that is opened: TLS with a certificate that our authority made
//! for the host, and below it calls like any other.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderValue, Method, Request, Version, header::HOST, request::Parts, uri::Authority};
use hyper::body::Incoming;
use parking_lot::Mutex;
use rustls::{
    AlertDescription,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;

use super::{
    super::{
        authenticate::{Caller, Stranger},
        live::Live,
        serve::{Client, HEAD_PATIENCE, Speaks, carry},
    },
    At, Intercept, OnRefused, redirected,
    seen::{Outcome, Unmetered},
};
use crate::{
    base::clock::Timestamp,
    call::refusal::{Reason, Refusal},
    net::{
        authority::{LeafError, Leaves},
        begun::Begun,
        ours::Ours,
    },
};

/// The first byte of TLS: a record with a handshake in it.
const HANDSHAKE: u8 = 22;

/// A connection that was opened: every request on it is for this place. Requests carry it among
/// their extensions.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Opened {
    pub(in crate::proxy) at: At,
    /// Who asked for the connection, if they said so: calls that show no client key are theirs.
    pub(in crate::proxy) caller: Caller,
    /// Where it comes from, if it could be from ourselves.
    from: Option<(Ours, SocketAddr)>,
}

impl Opened {
    pub(in crate::proxy) const fn new(at: At, caller: Caller) -> Self {
        Self {
            at,
            caller,
            from: None,
        }
    }

    /// The same, redirected from `peer`, which may be one of ours.
    pub(super) fn redirected(self, ours: Option<&Ours>, peer: SocketAddr) -> Self {
        Self {
            from: ours.map(|ours| (ours.clone(), peer)),
            ..self
        }
    }

    /// Who makes a call on the connection: whoever says so by the client key that it shows, else who
    /// asked for the connection.
    ///
    /// # Errors
    /// Neither has a valid key, and must have one.
    pub(in crate::proxy) fn caller_of(
        &self,
        shown: Result<Caller, Stranger>,
        live: &Live,
        now: Timestamp,
    ) -> Result<Caller, Stranger> {
        let shows_none = match &shown {
            Ok(caller) => caller.key.is_none(),
            Err(stranger) => stranger.shows_none(),
        };
        if !shows_none || self.caller.key.is_none() {
            return shown;
        }
        live.door.still(&self.caller, now)?;
        Ok(self.caller.clone())
    }

    /// Whether a request is for the place that the connection was opened for: whoever serves it must
    /// not be led astray by another name (RFC 9110, 7.4).
    ///
    /// # Errors
    /// It names another, or it is our own.
    pub(in crate::proxy) fn agrees(&self, head: &Parts) -> Result<(), Refusal> {
        // A connection of ours was noted before anything was said over it.
        if self
            .from
            .as_ref()
            .is_some_and(|(ours, peer)| ours.has(*peer))
        {
            return Err(redirected::looped());
        }
        if head.method == Method::CONNECT {
            let message = "There is no way further from a connection that was opened already.";
            return Err(Refusal::new(Reason::BadRequest, "", message));
        }
        let text = |value: &HeaderValue| value.to_str().ok()?.parse::<Authority>().ok();
        let mut hosts = head.headers.get_all(HOST).iter();
        let named = hosts.next().map(text);
        let in_target = head.uri.authority().cloned().map(Some);
        let is_missing = named.is_none() && in_target.is_none() && head.version >= Version::HTTP_11;
        let all_agree = named.into_iter().chain(in_target).all(|named| {
            // The port may be left out: the connection has told it.
            let named = named.and_then(|named| At::of(&named, Some(self.at.port())));
            named.as_ref() == Some(&self.at)
        });
        if all_agree && !is_missing && hosts.next().is_none() {
            return Ok(());
        }
        let message = format!(
            "This connection leads to {}, and the request on it is for another host.",
            self.at
        );
        Err(Refusal::new(Reason::Misdirected, "", message))
    }
}

impl Intercept {
    /// Opens a connection of a client and serves it until it ends.
    pub(in crate::proxy) async fn open(&self, mut client: Client, socket: Begun, opened: Opened) {
        let first = tokio::select! {
            first = tokio::time::timeout(HEAD_PATIENCE, socket.first()) => first,
            _deadline = client.leaving.begins() => return,
        };
        let Ok(Ok(Some(first))) = first else {
            // It is gone, or says nothing.
            return;
        };
        if first != HANDSHAKE {
            self.seen.became(Outcome::Opened);
            let speaks = if first == b'P' {
                Speaks::Either
            } else {
                Speaks::Http1
            };
            return serve(client, socket, speaks, opened).await;
        }
        let certificate = Arc::new(Certificate {
            leaves: Arc::clone(&self.leaves),
            host: Box::from(opened.at.host()),
            none: Mutex::default(),
        });
        let mut tls = self.tls.clone();
        tls.cert_resolver = Arc::<Certificate>::clone(&certificate);
        let accepting = TlsAcceptor::from(Arc::new(tls)).accept(socket);
        let patience = self.config.handshake_timeout;
        let accepted = tokio::select! {
            accepted = tokio::time::timeout(patience, accepting) => accepted,
            _deadline = client.leaving.begins() => return,
        };
        let failed = match accepted {
            Ok(Ok(socket)) => {
                self.seen.became(Outcome::Opened);
                let speaks = match socket.get_ref().1.alpn_protocol() {
                    Some(b"h2") => Speaks::Either,
                    _ => Speaks::Http1,
                };
                return serve(client, socket, speaks, opened).await;
            },
            Ok(Err(error)) => error,
            Err(_elapsed) => io::ErrorKind::TimedOut.into(),
        };
        let live = client.worker.proxy.live.load();
        let is_providers = live.is_providers(opened.at.host());
        let none = certificate.none.lock().take();
        let why = match &none {
            Some(_) => Unmetered::Unvouched,
            None => reason(&failed),
        };
        self.seen.unmetered(opened.at.host(), is_providers, why);
        if why == Unmetered::Refused
            && self.config.on_refused == OnRefused::Tunnel
            && let Some(peer) = client.peer
        {
            self.remember(peer, &opened.at, &client);
        }
        let none = none.map(tracing::field::display);
        tracing::debug!(host = opened.at.host(), error = %failed, none, "A TLS handshake failed");
    }

    fn remember(&self, peer: IpAddr, at: &At, client: &Client) {
        let now = client.worker.proxy.clock.mono();
        self.refusers.note(peer, at.host(), now);
    }
}

/// Serves calls over a connection that was opened.
async fn serve<S>(client: Client, socket: S, speaks: Speaks, opened: Opened)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let caller = Arc::new(client.clone());
    let opened = Arc::new(opened);
    let answer = move |mut request: Request<Incoming>| {
        let client = Arc::clone(&caller);
        request.extensions_mut().insert(Arc::clone(&opened));
        async move { client.worker.call(request, client.peer).await }
    };
    carry(client, socket, speaks, answer).await;
}

/// Why a handshake failed: clients say by an alert what is wrong with a certificate.
fn reason(error: &io::Error) -> Unmetered {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
        )) => Unmetered::Refused,
        _ => Unmetered::Handshake,
    }
}

/// The certificate for the host that a connection was asked for, whether the client names it in TLS
/// or not; none for any other that it names there.
#[derive(Debug)]
struct Certificate {
    leaves: Arc<Leaves>,
    host: Box<str>,
    /// Why there is none.
    none: Mutex<Option<LeafError>>,
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_meant = |name: &str| *At::new(name, 0).host() == *self.host;
        if hello.server_name().is_some_and(|name| !is_meant(name)) {
            return None;
        }
        let made = self.leaves.get(&self.host);
        made.map_err(|error| *self.none.lock() = Some(error)).ok()
    }
}

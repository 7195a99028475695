//! A connection to a provider's host that is opened: TLS with a certificate that our authority made
//! for the host, and below it calls like any other.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{HeaderValue, Method, Request, Version, header::HOST, request::Parts, uri::Authority};
use hyper::body::Incoming;
use parking_lot::Mutex;
use rustls::{
    AlertDescription,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    super::{
        Worker,
        authenticate::{Caller, Stranger},
        live::Live,
        serve::{Client, HEAD_PATIENCE, Speaks, carry},
    },
    At, Intercept, OnRefused, Others, Unmetered, meant, redirected,
    seen::Outcome,
    tunnel::Tunnel,
};
use crate::{
    base::clock::Timestamp,
    call::refusal::{Reason, Refusal},
    net::{
        authority::{LeafError, Leaves},
        begun::Begun,
        hops::Hops,
        opening::Opening,
        ours::Ours,
    },
};

/// Whoever leaves within that time without a word has not liked our certificate.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The first byte of TLS: a record with a handshake in it.
const HANDSHAKE: u8 = 22;

/// A connection that was opened: every request on it is for this place. Requests carry it among
/// their extensions.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Opened {
    pub(in crate::proxy) at: At,
    /// Who asked for the connection, if they said so: calls that show no client key are theirs.
    pub(in crate::proxy) caller: Caller,
    /// The proxies that it has come through, if it was asked for.
    pub(in crate::proxy) hops: Option<Hops>,
    /// Where it comes from and was to go, if it could be from ourselves.
    from: Option<(Ours, SocketAddr, SocketAddr)>,
}

impl Opened {
    pub(in crate::proxy) const fn new(at: At, caller: Caller) -> Self {
        Self {
            at,
            caller,
            hops: None,
            from: None,
        }
    }

    /// The same, through these proxies.
    pub(super) fn through(self, hops: Hops) -> Self {
        Self {
            hops: Some(hops),
            ..self
        }
    }

    /// The same, redirected on its way from `peer` to `to`, and maybe one of ours.
    pub(super) fn redirected(
        self,
        ours: Option<&Ours>,
        (peer, to): (SocketAddr, SocketAddr),
    ) -> Self {
        Self {
            from: ours.map(|ours| (ours.clone(), peer, to)),
            ..self
        }
    }

    /// Whether it is one of ours, which was noted before anything was said over it.
    fn is_from_us(&self) -> bool {
        let from = self.from.as_ref();
        from.is_some_and(|(ours, peer, to)| ours.has(*peer, *to))
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
        if self.is_from_us() {
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

/// How a handshake went.
enum Shaken {
    Hands(Box<TlsStream<Begun>>),
    /// It was not begun: what is said over the connection could not be read.
    Unreadable(Begun, Unmetered),
}

impl Intercept {
    /// Opens a connection of a client and serves it until it ends.
    pub(in crate::proxy) async fn open(
        self: &Arc<Self>,
        mut client: Client,
        socket: Begun,
        opened: Opened,
    ) {
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
            return serve(client, socket, speaks, opened, None).await;
        }
        if opened.is_from_us() {
            // We do not trust the certificate that we would show ourselves, and could not be told why.
            let refusal = redirected::looped();
            client.worker.proxy.connection_refused(&refusal);
            return;
        }
        let certificate = Arc::new(Certificate {
            leaves: Arc::clone(&self.leaves),
            host: Box::from(opened.at.host()),
            none: Mutex::default(),
        });
        let patience = self.config.handshake_timeout;
        let shaken = self.shake(socket, &certificate);
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(patience, shaken) => shaken,
            _deadline = client.leaving.begins() => return,
        };
        let failed = match shaken {
            Ok(Ok(Shaken::Hands(socket))) => {
                self.seen.became(Outcome::Opened);
                let speaks = match socket.get_ref().1.alpn_protocol() {
                    Some(b"h2") => Speaks::Either,
                    _ => Speaks::Http1,
                };
                return self.serve(client, *socket, speaks, opened).await;
            },
            Ok(Ok(Shaken::Unreadable(socket, why))) => {
                return self.leave_alone(&client, (socket, why), opened).await;
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
        self.seen.failed(opened.at.host(), is_providers, why);
        if why == Unmetered::Refused {
            self.remember(client.peer, &opened.at, &client.worker);
        }
        let none = none.map(tracing::field::display);
        tracing::debug!(host = opened.at.host(), error = %failed, none, "A TLS handshake failed");
    }

    /// Does the handshake with a client, unless whom it means is hidden or what it offers to speak is
    /// nothing that we read.
    async fn shake(&self, socket: Begun, certificate: &Arc<Certificate>) -> io::Result<Shaken> {
        if let Some(Opening::Tls(hello)) = socket.opening().await? {
            if hello.seals && !certificate.is_for(hello.name.as_deref()) {
                return Ok(Shaken::Unreadable(socket, Unmetered::Sealed));
            }
            if !meant::is_readable(&hello) {
                return Ok(Shaken::Unreadable(socket, Unmetered::Protocol));
            }
        }
        let mut tls = self.tls.clone();
        tls.cert_resolver = Arc::<Certificate>::clone(certificate);
        let accepted = TlsAcceptor::from(Arc::new(tls)).accept(socket).await;
        accepted.map(|socket| Shaken::Hands(Box::new(socket)))
    }

    /// What becomes of a client that speaks something else than HTTP, or encrypts whom it means: the
    /// name that it shows is another's then, for whom nobody here vouches.
    async fn leave_alone(
        self: &Arc<Self>,
        client: &Client,
        (socket, why): (Begun, Unmetered),
        opened: Opened,
    ) {
        let Opened {
            at, caller, hops, ..
        } = opened;
        let may_pass = match why {
            Unmetered::Protocol => self.config.others == Others::Tunnel,
            _ => self.config.on_refused == OnRefused::Tunnel,
        };
        if !may_pass {
            return self.seen.failed(at.host(), true, why);
        }
        let proxy = &client.worker.proxy;
        // Whoever asked for a provider without a key was to show one with each call.
        let let_in = match &hops {
            Some(_asked) => proxy.live.load().door.still(&caller, proxy.clock.wall()),
            None => Ok(()),
        };
        if let Err(stranger) = let_in {
            self.seen.failed(at.host(), true, why);
            _ = proxy.connection_refused(&proxy.turn_away(stranger, client.peer));
            return;
        }
        let hops = hops.unwrap_or_else(|| self.connector.me().alone());
        match Tunnel::make(self, at, (why, true), &hops).await {
            Ok(tunnel) => tunnel.pass(socket, client).await,
            Err(refusal) => _ = proxy.connection_refused(&refusal),
        }
    }

    /// Serves calls over TLS, and sees whether the client makes any: programs that compare
    /// certificates themselves do so after the handshake, and leave without a word.
    async fn serve(
        self: &Arc<Self>,
        client: Client,
        socket: TlsStream<Begun>,
        speaks: Speaks,
        opened: Opened,
    ) {
        let (worker, peer, at) = (Arc::clone(&client.worker), client.peer, opened.at.clone());
        let clock = &worker.proxy.clock;
        let begun = clock.mono();
        let first = Arc::new(First {
            intercept: Arc::clone(self),
            peer,
            is_asked: AtomicBool::new(false),
        });
        serve(client, socket, speaks, opened, Some(Arc::clone(&first))).await;
        let lasted = clock.mono().saturating_duration_since(begun);
        if first.is_asked.load(Relaxed) || lasted >= AT_ONCE {
            return;
        }
        let is_providers = worker.proxy.live.load().is_providers(at.host());
        self.seen.failed(at.host(), is_providers, Unmetered::Left);
        self.remember(peer, &at, &worker);
    }

    /// Remembers who has refused, unless calls have come from there: a program that trusts us may have
    /// made a connection too many, and one that does not may share its address with others.
    fn remember(&self, peer: Option<IpAddr>, at: &At, worker: &Worker) {
        let peer = peer.filter(|_| self.config.on_refused == OnRefused::Tunnel);
        if let Some(peer) = peer.filter(|peer| !self.refusers.trusts(*peer, at.host())) {
            let now = worker.proxy.clock.mono();
            self.refusers.note(peer, at.host(), now);
        }
    }
}

/// Sees a connection's first call.
struct First {
    intercept: Arc<Intercept>,
    peer: Option<IpAddr>,
    is_asked: AtomicBool,
}

impl First {
    fn see(&self, at: &At) {
        if self.is_asked.swap(true, Relaxed) {
            return;
        }
        if let Some(peer) = self.peer {
            self.intercept.refusers.accepts(peer, at.host());
        }
    }
}

/// Serves calls over a connection that was opened.
async fn serve<S>(
    client: Client,
    socket: S,
    speaks: Speaks,
    opened: Opened,
    first: Option<Arc<First>>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let caller = Arc::new(client.clone());
    let opened = Arc::new(opened);
    let answer = move |mut request: Request<Incoming>| {
        let client = Arc::clone(&caller);
        if let Some(first) = &first {
            first.see(&opened.at);
        }
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

impl Certificate {
    /// Whether it is for a client that names this host, or none.
    fn is_for(&self, name: Option<&str>) -> bool {
        name.is_none_or(|name| *At::new(name, 0).host() == *self.host)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if !self.is_for(hello.server_name()) {
            return None;
        }
        let made = self.leaves.get(&self.host);
        made.map_err(|error| *self.none.lock() = Some(error)).ok()
    }
}

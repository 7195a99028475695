//! New connections to providers: addresses (IPv6 and IPv4 together), TLS, the egress proxy.

mod egress;
mod error;

use std::{io, net::SocketAddr, num::NonZeroU32, sync::Arc, time::Duration};

use http::{HeaderValue, Uri, uri::Scheme};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::{
        legacy::connect::HttpConnector,
        proxy::matcher::{Intercept, Matcher},
    },
    rt::TokioIo,
};
use rustls::{ClientConfig, pki_types::ServerName};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service as _;

use super::{
    BoxError,
    config::{self, Egress},
    guarded::{self, Manner},
    hops::{Hops, Me},
    lookups::{Counts, Lookups},
    ours::{CameBack, LeadsBack, Noted, Ours},
    post::Tls,
    reach::Reach,
    tls::{self, TlsError},
};

use egress::{egress_from_env, http_only, may_be_asked_for, with_port};

pub use error::ConnectError;

/// A connection's socket, with or without TLS.
pub type Io = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Where a provider is: the scheme, host and port that connections are pooled by. Copies compare
/// by identity first, since they are compared with every call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(Arc<Place>);

#[derive(Debug, PartialEq, Eq)]
struct Place {
    uri: Uri,
    host: HeaderValue,
}

impl Origin {
    /// From the scheme and authority of `uri`; `None` if it lacks one.
    pub fn of(uri: &Uri) -> Option<Self> {
        let authority = uri.authority()?;
        let host = HeaderValue::from_str(authority.host_with_port_if_given()).ok()?;
        let uri = Uri::builder()
            .scheme(uri.scheme()?.clone())
            .authority(authority.clone())
            .path_and_query("/")
            .build()
            .ok()?;
        Some(Self(Arc::new(Place { uri, host })))
    }

    /// Scheme and authority, with the path `/`.
    pub fn uri(&self) -> &Uri {
        &self.0.uri
    }

    /// The value of the `Host` header.
    pub fn host_header(&self) -> &HeaderValue {
        &self.0.host
    }

    /// The host's name or address alone.
    pub fn host(&self) -> &str {
        self.uri().host().unwrap_or_default()
    }

    /// Host, without brackets, and port.
    fn place(&self) -> (&str, u16) {
        let host = self.host().trim_start_matches('[').trim_end_matches(']');
        let usual = if self.is_tls() { 443 } else { 80 };
        (host, self.uri().port_u16().unwrap_or(usual))
    }

    fn is_tls(&self) -> bool {
        self.uri().scheme() == Some(&Scheme::HTTPS)
    }
}

trait HostWithPort {
    fn host_with_port_if_given(&self) -> &str;
}

impl HostWithPort for http::uri::Authority {
    /// Without a user name, which must not become a header.
    fn host_with_port_if_given(&self) -> &str {
        self.as_str().rsplit('@').next().unwrap_or_default()
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Connected {
    /// The socket.
    pub io: Io,
    /// Set when a plain HTTP request goes through an egress proxy: its target must be in absolute
    /// form.
    pub via: Option<Via>,
    /// That it is ours, as long as it is kept.
    pub noted: Option<Noted>,
}

impl Connected {
    const fn new(io: Io, via: Option<Via>) -> Self {
        Self {
            io,
            via,
            noted: None,
        }
    }
}

/// What is below a connection's TLS, if it has that.
fn socket_of(io: &Io) -> &TcpStream {
    match io {
        MaybeHttpsStream::Http(socket) => socket.inner(),
        MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner().inner(),
    }
}

/// What a plain HTTP request needs to pass an egress proxy.
#[derive(Clone, Debug)]
pub struct Via {
    /// `Proxy-Authorization`, if the proxy asks for it.
    pub authorization: Option<HeaderValue>,
}

/// Opens connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connector {
    tcp: HttpConnector,
    tls: Arc<ClientConfig>,
    /// The same, with what is spoken: where no egress proxy is in between.
    direct: Arc<ClientConfig>,
    egress: Option<Arc<Matcher>>,
    timeout: Duration,
    keepalive: Option<Duration>,
    protocol: Protocol,
    mark: Option<NonZeroU32>,
    /// Who we are to proxies.
    me: Me,
    /// What plain connections may reach; `None`: whatever is configured.
    reach: Option<Arc<Reach>>,
    /// Where names that others choose are looked up.
    lookups: Lookups,
    /// Nothing but where we listen, to which a provider's address must not lead.
    home: Arc<Reach>,
    /// Where connections are noted, if any may come back to us.
    ours: Option<Ours>,
}

/// What is spoken over a connection, as TLS tells the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

impl Connector {
    /// `timeout` is for resolving, connecting and the TLS handshake together; `keepalive` is TCP's.
    /// `egress` chooses an HTTP proxy for a destination.
    pub fn new(
        tls: ClientConfig,
        timeout: Duration,
        keepalive: Option<Duration>,
        egress: Option<Matcher>,
    ) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(keepalive);
        tcp.set_connect_timeout(Some(timeout));
        let tls = Arc::new(tls);
        Self {
            tcp,
            direct: Arc::clone(&tls),
            tls,
            egress: egress.map(Arc::new),
            timeout,
            keepalive,
            protocol: Protocol::Http1,
            mark: None,
            me: Me::default(),
            reach: None,
            lookups: Lookups::default(),
            home: Arc::new(Reach::default().anywhere()),
            ours: None,
        }
    }

    /// Who we are to proxies.
    pub const fn me(&self) -> &Me {
        &self.me
    }

    /// The same, with this mark on its packets.
    #[must_use]
    pub fn marked(self, mark: Option<NonZeroU32>) -> Self {
        let mut tcp = self.tcp;
        tcp.set_mark(mark.map(NonZeroU32::get));
        Self { tcp, mark, ..self }
    }

    /// The same, with its connections noted in `ours`, if they are at all.
    #[must_use]
    pub fn noting(self, ours: Option<Ours>) -> Self {
        Self { ours, ..self }
    }

    /// Where its connections are noted; those from [`Connector::socket`] are by whoever gets them.
    pub const fn ours(&self) -> Option<&Ours> {
        self.ours.as_ref()
    }

    /// The same, for whoever listens there: calls that lead back would go round.
    #[must_use]
    pub fn listening(self, own: Vec<SocketAddr>) -> Self {
        let home = Arc::new(Reach::new(Vec::new(), own).anywhere());
        Self { home, ..self }
    }

    /// What was looked up for names that others choose.
    pub fn lookups(&self) -> Counts {
        self.lookups.counts()
    }

    /// The same, for plain connections to where others want to be led: only to what may be reached.
    #[must_use]
    pub fn guarded(self, reach: Arc<Reach>) -> Self {
        Self {
            reach: Some(reach),
            ..self
        }
    }

    /// The same, for connections over which HTTP/2 is spoken.
    pub(super) fn over_http2(self) -> Self {
        let mut direct = ClientConfig::clone(&self.tls);
        direct.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            direct: Arc::new(direct),
            protocol: Protocol::Http2,
            ..self
        }
    }

    /// As a section like `upstream:` says, which errors call `section`. Reads the system's
    /// certificates, which takes milliseconds. `own_ports`: those that an egress proxy must not be.
    ///
    /// # Errors
    /// A certificate or key cannot be used.
    pub fn configured(
        section: &'static str,
        config: &config::Upstream,
        own_ports: &[u16],
    ) -> Result<Self, TlsError> {
        let files = tls::Files {
            section,
            ca_file: config.ca_file.as_deref().map(|path| (section, path)),
            client_cert: config.client_cert.as_deref(),
            client_key: config.client_key.as_deref(),
        };
        Self::with(files, config, own_ports)
    }

    fn with(
        files: tls::Files<'_>,
        config: &config::Upstream,
        own_ports: &[u16],
    ) -> Result<Self, TlsError> {
        let tls = tls::client(files)?;
        let egress = match &config.proxy {
            Egress::None => None,
            Egress::Env => egress_from_env(own_ports),
            Egress::Url(url) => Some(Matcher::builder().all(url.expose()).build()),
        };
        let keepalive = Some(config.tcp_keepalive).filter(|every| !every.is_zero());
        let connector = Self::new(tls, config.connect_timeout, keepalive, egress);
        Ok(connector.marked(config.mark))
    }

    /// As `upstream:` says, but for what a destination says itself: `tls`, and the egress `proxy`.
    ///
    /// # Errors
    /// A certificate or key cannot be used; the error names its key.
    pub(super) fn toward(
        (upstream, own_ports): (&config::Upstream, &[u16]),
        tls: &Tls,
        proxy: Option<&Egress>,
    ) -> Result<Self, TlsError> {
        let way = config::Upstream {
            proxy: proxy.unwrap_or(&upstream.proxy).clone(),
            ..upstream.clone()
        };
        Self::with(tls::Files::of(tls, upstream), &way, own_ports)
    }

    /// A new connection to `origin`. The name is resolved again each time. `hops`: the proxies that
    /// what is to be said over it has come through, if it has.
    ///
    /// # Errors
    /// When it cannot be made in time; no byte of a request has been sent then.
    pub async fn connect(
        &self,
        origin: &Origin,
        hops: Option<&Hops>,
    ) -> Result<Connected, ConnectError> {
        let proxy = self
            .egress
            .as_ref()
            .and_then(|matcher| matcher.intercept(origin.uri()));
        let attempt = async {
            match proxy {
                None => self.straight(origin).await,
                Some(proxy) => self.through(&proxy, origin, hops).await,
            }
        };
        let mut connected = self.in_time(attempt).await?;
        if connected.noted.is_none() {
            connected.noted = self.note(socket_of(&connected.io));
        }
        Ok(connected)
    }

    /// A connection to a host that somebody else names, with nothing said over it: straight, if that
    /// may be reached, or through the egress proxy, which resolves the name itself, and is told the
    /// proxies that it has come through.
    ///
    /// # Errors
    /// It must not be reached, or cannot be in time.
    pub async fn socket(
        &self,
        (host, port): (&str, u16),
        reach: &Reach,
        hops: &Hops,
    ) -> Result<TcpStream, ConnectError> {
        let attempt = async {
            let authority = if host.contains(':') {
                format!("[{host}]:{port}")
            } else {
                format!("{host}:{port}")
            };
            let uri = Uri::builder()
                .scheme(Scheme::HTTPS)
                .authority(authority)
                .path_and_query("/")
                .build()?;
            let proxy = self.egress.as_ref();
            let Some(proxy) = proxy.and_then(|matcher| matcher.intercept(&uri)) else {
                return guarded::connect(host, port, reach, self.manner()).await;
            };
            may_be_asked_for(host, port, reach, self.manner()).await?;
            let mut tunnel = egress::tunnel(&proxy, self.tcp.clone(), hops)?;
            Ok(tunnel.call(uri).await?.into_inner())
        };
        self.in_time(attempt).await
    }

    async fn in_time<T>(
        &self,
        attempt: impl Future<Output = Result<T, BoxError>>,
    ) -> Result<T, ConnectError> {
        match tokio::time::timeout(self.timeout, attempt).await {
            Ok(Ok(made)) => Ok(made),
            Ok(Err(error)) => Err(error.into()),
            Err(_elapsed) => Err(ConnectError::Timeout(self.timeout)),
        }
    }

    const fn manner(&self) -> Manner<'_> {
        Manner {
            lookups: &self.lookups,
            timeout: self.timeout,
            keepalive: self.keepalive,
            mark: self.mark,
        }
    }

    fn note(&self, socket: &TcpStream) -> Option<Noted> {
        self.ours.as_ref().and_then(|ours| ours.note(socket))
    }

    async fn straight(&self, origin: &Origin) -> Result<Connected, BoxError> {
        let (host, port) = origin.place();
        if let Some(reach) = &self.reach {
            let socket = guarded::connect(host, port, reach, self.manner()).await?;
            let io = MaybeHttpsStream::Http(TokioIo::new(socket));
            return Ok(Connected::new(io, None));
        }
        let socket = self.tcp.clone().call(origin.uri().clone()).await?;
        let ends = (socket.inner().local_addr()?, socket.inner().peer_addr()?);
        let back = self.home.check_made("", ends);
        back.map_err(|forbidden| LeadsBack(forbidden.address))?;
        // If it leads to ourselves, we are to know it again by the first that is said over it.
        let noted = self.note(socket.inner());
        let io = if origin.is_tls() {
            let name = ServerName::try_from(host.to_owned())?;
            let connector = TlsConnector::from(Arc::clone(&self.direct));
            // On the heap: it is large, and soon over.
            let shaken = Box::pin(connector.connect(name, TokioIo::new(socket))).await;
            if shaken.is_err() && noted.as_ref().is_some_and(Noted::came_back) {
                return Err(CameBack.into());
            }
            MaybeHttpsStream::Https(TokioIo::new(shaken?))
        } else {
            MaybeHttpsStream::Http(socket)
        };
        let via = None;
        Ok(Connected { io, via, noted })
    }

    async fn through(
        &self,
        proxy: &Intercept,
        origin: &Origin,
        hops: Option<&Hops>,
    ) -> Result<Connected, BoxError> {
        // An egress proxy passes plain requests on only in HTTP/1.
        if origin.is_tls() || self.protocol == Protocol::Http2 {
            let hops = hops.cloned().unwrap_or_else(|| self.me.alone());
            let tunnel = egress::tunnel(proxy, self.tcp.clone(), &hops)?;
            let io = with_tls(&self.tls, tunnel, self.protocol)
                .call(with_port(origin.uri())?)
                .await?;
            return Ok(Connected::new(io, None));
        }
        if let Some(reach) = &self.reach {
            let (host, port) = origin.place();
            may_be_asked_for(host, port, reach, self.manner()).await?;
        }
        let socket = self.tcp.clone().call(http_only(proxy)?).await?;
        let io = MaybeHttpsStream::Http(socket);
        let authorization = proxy.basic_auth().cloned();
        Ok(Connected::new(io, Some(Via { authorization })))
    }
}

fn with_tls<C>(tls: &Arc<ClientConfig>, connector: C, protocol: Protocol) -> HttpsConnector<C> {
    let builder = HttpsConnectorBuilder::new()
        .with_tls_config(ClientConfig::clone(tls))
        .https_or_http();
    match protocol {
        Protocol::Http1 => builder.enable_http1().wrap_connector(connector),
        Protocol::Http2 => builder.enable_http2().wrap_connector(connector),
    }
}

/// Whether the system lets us mark packets so.
///
/// # Errors
/// It does not.
pub fn may_mark(mark: NonZeroU32) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_mark(mark.get()).map_err(|error| {
        let message = format!(
            "upstream.mark: the system does not let us mark connections ({error}): it takes \
             CAP_NET_ADMIN. Without it, tell Tollgate's own connections by its user: `tollgate \
             redirect apply --uid`"
        );
        io::Error::new(error.kind(), message)
    })
}

#[cfg(test)]
mod tests;

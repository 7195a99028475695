//! Traffic of clients that were not pointed at Tollgate: what is a provider's is opened and served
//! like any call, everything else passes unread, or is refused.
//!
//! A client names a place (`CONNECT`, an absolute target, or where its socket was redirected from).
//! [`Intercept::fate`] says what becomes of it; `open` makes a certificate for the provider and serves
//! what is said below TLS, `tunnel` passes the rest on to an address that was checked.

mod at;
mod config;
mod connect;
mod meant;
mod open;
mod others;
mod redirected;
mod refusers;
mod seen;
mod tend;
mod tunnel;
mod unmetered;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use parking_lot::Mutex;
use prometheus::Registry;
use rustls::{ServerConfig, crypto::ring, version};
use tokio::sync::Semaphore;

use self::{refusers::Refusers, seen::Seen, tend::Tended};
use super::live::Live;
use crate::{
    base::clock::{Clock, Instant},
    net::{
        authority::{Authority, LeafError, Leaves},
        connect::Connector,
        reach::Reach,
        tunnel::Buffers,
    },
};

pub use at::At;
pub use config::{Config, OnRefused, Others};
pub(super) use connect::{connect, goes_round};
pub(super) use open::Opened;
pub(super) use others::{is_for_others, pass_on};
pub use redirected::redirected;
pub use tend::Held;
pub use unmetered::Unmetered;

/// What interception is done with. One for the process.
pub struct Intercept {
    config: Config,
    leaves: Arc<Leaves>,
    /// TLS towards clients, but for the certificate.
    tls: ServerConfig,
    connector: Connector,
    /// Where whoever asks may be led.
    reach: Reach,
    refusers: Refusers,
    /// Places of tunnels.
    places: Arc<Semaphore>,
    tended: Mutex<Tended>,
    buffers: Arc<Buffers>,
    seen: Seen,
}

/// What becomes of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is a provider's: it is opened.
    Open,
    /// It passes unread.
    Pass(Unmetered),
    /// It is refused.
    Deny(Denied),
}

/// Why a connection is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// It is no provider's.
    Other,
    /// It is a provider's, and what is spoken over it cannot be read.
    Protocol,
    /// It may be a provider's: its TLS handshake does not tell.
    Veiled,
    /// It is a provider's, and can be opened with no certificate.
    Unvouched(LeafError),
}

impl Intercept {
    /// As `intercept:` says. `own`: where we listen, which nobody is led to.
    ///
    /// # Errors
    /// TLS cannot be set up, or a metric is registered already.
    pub fn new(
        config: &Config,
        (authority, clock): (Authority, Arc<dyn Clock>),
        connector: &Connector,
        own: Vec<SocketAddr>,
        registry: &Registry,
    ) -> io::Result<Self> {
        let now = clock.wall();
        let leaves = Arc::new(Leaves::new(authority, config.leaves, clock));
        let reach = Reach::new(config.allow_private.clone(), own);
        let mut tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Leaves>::clone(&leaves));
        tls.alpn_protocols = [&b"h2"[..], b"http/1.1"].map(<[u8]>::to_vec).to_vec();
        // For TLS 1.2, whose tickets are part of the handshake.
        tls.ticketer = ring::Ticketer::new().map_err(io::Error::other)?;
        // In TLS 1.3 tickets follow the handshake, and from a neighbour they come just as the first call
        // is written. A client that reads in one thread and writes in another, which OpenSSL forbids
        // and Python's sockets do, loses that call or breaks. Resuming would save half a millisecond.
        tls.send_tls13_tickets = 0;
        let intercept = Self {
            config: config.clone(),
            leaves,
            tls,
            connector: connector.clone().guarded(Arc::new(reach.clone())),
            reach,
            refusers: Refusers::default(),
            places: Arc::new(Semaphore::new(config.tunnels)),
            tended: Mutex::default(),
            buffers: Arc::default(),
            seen: Seen::new(registry).map_err(io::Error::other)?,
        };
        intercept.tend(now);
        Ok(intercept)
    }

    /// What opens connections to where others want to be led.
    pub const fn connector(&self) -> &Connector {
        &self.connector
    }

    /// What becomes of a connection to that place.
    fn fate(&self, live: &Live, at: &At, peer: Option<IpAddr>, now: Instant) -> Fate {
        if !live.opens(at) {
            return match self.config.others {
                Others::Deny => Fate::Deny(Denied::Other),
                Others::Tunnel => Fate::Pass(Unmetered::elsewhere(live.is_providers(at.host()))),
            };
        }
        let may_pass = self.config.on_refused == OnRefused::Tunnel;
        if may_pass && peer.is_some_and(|peer| self.refusers.has(peer, at.host(), now)) {
            return Fate::Pass(Unmetered::Pinned);
        }
        if live.is_plain(at) {
            return Fate::Open;
        }
        // Asked for now, so that its client hears the reason instead of a handshake that fails.
        match self.leaves.get(at.host()) {
            Ok(_certificate) => Fate::Open,
            Err(_none) if may_pass => Fate::Pass(Unmetered::Unvouched),
            Err(none) => Fate::Deny(Denied::Unvouched(none)),
        }
    }
}

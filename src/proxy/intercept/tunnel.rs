//! A connection that passes unread, to an address that was checked.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpStream, sync::OwnedSemaphorePermit};

use super::{
    super::serve::Client,
    At, Intercept, Unmetered,
    seen::{Counted, Outcome},
};
use crate::{
    call::refusal::{Reason, Refusal},
    net::{
        begun::Begun,
        connect::ConnectError,
        hops::Hops,
        opening::Opening,
        ours::Noted,
        reach::{Reach, Sort},
        tunnel::{self, Silence},
    },
};

/// What refuses addresses that nobody shall be led to.
const PRIVATE: &str = "intercept.allow_private";

/// How long a tunnel may be silent when the process is about to leave.
const LEAVING: Duration = Duration::from_secs(2);

/// A tunnel whose far end is there.
pub(super) struct Tunnel {
    intercept: Arc<Intercept>,
    /// The place that it is for.
    at: At,
    why: Unmetered,
    is_providers: bool,
    server: TcpStream,
    /// That it is there.
    counted: Counted,
    noted: Option<Noted>,
    place: OwnedSemaphorePermit,
}

impl Tunnel {
    /// Connects to `at`, as far as that may be reached, for a client that has come through `hops`.
    ///
    /// # Errors
    /// There are too many, it must not be reached, or it cannot be.
    pub(super) async fn make(
        intercept: &Arc<Intercept>,
        at: At,
        counted: (Unmetered, bool),
        hops: &Hops,
    ) -> Result<Self, Refusal> {
        // A provider's host leads where it leads: some are in a network of the customer's own.
        let anywhere = counted.0.is_of_place().then(|| intercept.reach.anywhere());
        let reach = anywhere.as_ref().unwrap_or(&intercept.reach);
        let (host, port) = (at.host().to_owned(), at.port());
        Self::to(intercept, at, ((&host, port), reach, hops), counted).await
    }

    /// Connects to `to`, where a connection that is for `at` was to go: its client could go there
    /// itself, if that is not on this machine or its link.
    ///
    /// # Errors
    /// As [`Tunnel::make`].
    pub(super) async fn straight(
        intercept: &Arc<Intercept>,
        (at, to): (At, SocketAddr),
        counted: (Unmetered, bool),
    ) -> Result<Self, Refusal> {
        // Its client has chosen both, the address and the name that it says over it.
        let reach = &intercept.reach;
        let checked = match reach.check_address(to) {
            Err(forbidden) if forbidden.sort != Sort::Private => Err(forbidden),
            _ => reach.check_here("", to),
        };
        if let Err(forbidden) = checked {
            return Err(intercept.unreachable(&at, &forbidden.into()));
        }
        let (address, reach) = (to.ip().to_string(), intercept.reach.anywhere());
        let hops = intercept.connector.me().alone();
        let way = ((&*address, to.port()), &reach, &hops);
        Self::to(intercept, at, way, counted).await
    }

    async fn to(
        intercept: &Arc<Intercept>,
        at: At,
        (place, reach, hops): ((&str, u16), &Reach, &Hops),
        (why, is_providers): (Unmetered, bool),
    ) -> Result<Self, Refusal> {
        let permit = intercept.place()?;
        let socket = intercept.connector.socket(place, reach, hops);
        let server = socket
            .await
            .map_err(|error| intercept.unreachable(&at, &error))?;
        let ours = intercept.connector.ours();
        Ok(Self {
            intercept: Arc::clone(intercept),
            at,
            why,
            is_providers,
            noted: ours.and_then(|ours| ours.note(&server)),
            server,
            counted: intercept.seen.tunnel(),
            place: permit,
        })
    }

    /// The place that it is for.
    pub(super) const fn at(&self) -> &At {
        &self.at
    }

    /// It turns out to be for a provider's place, and passes unread all the same.
    pub(super) fn means(&mut self, at: At, why: Unmetered) {
        (self.at, self.why, self.is_providers) = (at, why, true);
    }

    /// What the client says first, if it could tell that a provider is meant where none was named.
    ///
    /// # Errors
    /// The client is gone, or nobody has said anything for as long as a tunnel may be silent.
    pub(super) async fn greeting(
        &self,
        socket: &mut Begun,
        client: &Client,
    ) -> io::Result<Opening> {
        if self.why.is_of_place() {
            return Ok(Opening::Other);
        }
        let config = &self.intercept.config;
        let (mut leaving, mut first) = (client.leaving.clone(), [0]);
        let opening = async {
            // Whoever waits for the server to begin may do so for as long as a tunnel may be silent;
            // whoever has begun is to come to the point.
            match tokio::time::timeout(config.idle_timeout, socket.first()).await {
                Ok(first) => _ = first?,
                Err(_elapsed) => return Err(io::ErrorKind::TimedOut.into()),
            }
            let opening = tokio::time::timeout(config.handshake_timeout, socket.opening());
            opening.await.unwrap_or(Ok(None))
        };
        let opening = tokio::select! {
            biased;
            opening = opening => opening?,
            // The server speaks first, or is gone.
            _first = self.server.peek(&mut first) => Some(Opening::Other),
            _deadline = leaving.begins() => Some(Opening::Other),
        };
        match opening {
            None => {
                socket.settle()?;
                Ok(Opening::unread(socket.begun()))
            },
            // Whatever was said: it passes.
            Some(Opening::Other) => {
                socket.settle()?;
                Ok(Opening::Other)
            },
            Some(opening) => Ok(opening),
        }
    }

    /// Passes everything, until both sides have ended or nothing comes for too long.
    pub(super) async fn pass(mut self, socket: Begun, client: &Client) {
        let (mut socket, begun) = socket.into_parts();
        let intercept = &self.intercept;
        intercept.seen.became(Outcome::Passed);
        let host = self.at.host();
        intercept.seen.unmetered(host, self.is_providers, self.why);
        let silence = Silence {
            idle: intercept.config.idle_timeout,
            leaving: LEAVING,
        };
        let mut leaving = client.leaving.clone();
        let leaving = async { _ = leaving.begins().await };
        let passed = tunnel::pass(
            (&mut socket, begun),
            &mut self.server,
            silence,
            &intercept.buffers,
            leaving,
        )
        .await;
        intercept.seen.passed(passed);
        drop((self.counted, self.noted, self.place));
    }
}

impl Intercept {
    /// A place among `intercept.tunnels`.
    ///
    /// # Errors
    /// There is none left.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_full| {
                self.seen.became(Outcome::Full);
                let message = format!(
                    "Tollgate is full: {} connections pass unread already (intercept.tunnels).",
                    self.config.tunnels
                );
                Refusal::new(Reason::Overload, "overload", message)
            })
    }

    /// The refusal of a place to which no connection is made.
    pub(super) fn unreachable(&self, at: &At, error: &ConnectError) -> Refusal {
        let failed = |reason| {
            self.seen.became(Outcome::Unreachable);
            let message = format!("Tollgate cannot connect to {at}: {error}");
            Refusal::new(reason, "", message)
        };
        match error {
            ConnectError::Forbidden(forbidden) => {
                self.seen.became(Outcome::Denied);
                let message = format!(
                    "Tollgate makes no connection to {at}: {forbidden}. Only the hosts of configured \
                     providers and those in intercept.allow_private may be."
                );
                Refusal::new(Reason::Denied, PRIVATE, message)
            },
            ConnectError::Crowded(_) => failed(Reason::Overload),
            ConnectError::Timeout(_) => failed(Reason::Timeout),
            ConnectError::Failed(_) => failed(Reason::BadGateway),
        }
    }
}

//! A connection that passes unread, to an address that was checked.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpStream, sync::OwnedSemaphorePermit};

use super::{
    super::serve::Client,
    At, Intercept,
    seen::{Outcome, Unmetered},
};
use crate::{
    call::refusal::{Reason, Refusal},
    net::{
        begun::Begun,
        connect::ConnectError,
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
    server: TcpStream,
    noted: Option<Noted>,
    place: OwnedSemaphorePermit,
}

impl Tunnel {
    /// Connects to `at`, as far as that may be reached. `why` is what it is counted as.
    ///
    /// # Errors
    /// There are too many, it must not be reached, or it cannot be.
    pub(super) async fn make(
        intercept: &Arc<Intercept>,
        at: &At,
        (why, is_providers): (Unmetered, bool),
    ) -> Result<Self, Refusal> {
        // A provider's host leads where it leads: some are in a network of the customer's own.
        let anywhere = (why == Unmetered::Pinned).then(|| intercept.reach.anywhere());
        let reach = anywhere.as_ref().unwrap_or(&intercept.reach);
        Self::to(
            intercept,
            at,
            (at.host(), at.port(), reach),
            (why, is_providers),
        )
        .await
    }

    /// Connects to `to`, where a connection that is for `at` was to go: its client could go there
    /// itself, if that is not on this machine or its link.
    ///
    /// # Errors
    /// As [`Tunnel::make`].
    pub(super) async fn straight(
        intercept: &Arc<Intercept>,
        (at, to): (&At, SocketAddr),
        counted: (Unmetered, bool),
    ) -> Result<Self, Refusal> {
        match intercept.reach.check(at.host(), to) {
            Err(forbidden) if forbidden.sort != Sort::Private => {
                return Err(intercept.unreachable(at, &forbidden.into()));
            },
            _ => {},
        }
        let (address, reach) = (to.ip().to_string(), intercept.reach.anywhere());
        Self::to(intercept, at, (&address, to.port(), &reach), counted).await
    }

    async fn to(
        intercept: &Arc<Intercept>,
        at: &At,
        (host, port, reach): (&str, u16, &Reach),
        (why, is_providers): (Unmetered, bool),
    ) -> Result<Self, Refusal> {
        let place = intercept.place()?;
        let socket = intercept.connector.socket(host, port, reach);
        let server = socket
            .await
            .map_err(|error| intercept.unreachable(at, &error))?;
        let ours = intercept.connector.ours();
        intercept.seen.became(Outcome::Passed);
        intercept.seen.unmetered(at.host(), is_providers, why);
        Ok(Self {
            intercept: Arc::clone(intercept),
            noted: ours.and_then(|ours| ours.note(&server)),
            server,
            place,
        })
    }

    /// Passes everything, until both sides have ended or nothing comes for too long.
    pub(super) async fn pass(mut self, socket: Begun, client: &Client) {
        let (mut socket, begun) = socket.into_parts();
        let intercept = &self.intercept;
        let counted = intercept.seen.tunnel();
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
        drop((counted, self.noted, self.place));
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
                self.seen.became(Outcome::Denied);
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
            ConnectError::Timeout(_) => failed(Reason::Timeout),
            ConnectError::Failed(_) => failed(Reason::BadGateway),
        }
    }
}

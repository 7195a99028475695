//! Sending requests to providers over pooled HTTP/1.1 connections.
//!
//! A connection is driven by the task that uses it: while the response's head is awaited and
//! whenever its body is read. That saves a hop between two tasks for every frame (see
//! `benches/compare`). Nobody drives an idle connection; it is looked at when it is taken.

use std::{
    error::Error as _,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header::PROXY_AUTHORIZATION};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    upgrade::OnUpgrade,
};
use tokio::time::Sleep;

use super::{
    body::Outgoing,
    connect::{ConnectError, Connector, Origin, Via},
    hops::{Hops, Me},
    muted::Muted,
    ours::Noted,
    pace::Unfinished,
    pool::Pool,
};
use crate::base::clock::Instant;

/// The time limits of an exchange.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From the request to the response's head.
    pub first_byte: Duration,
    /// Between two frames of the response.
    pub idle: Duration,
}

/// Connections to providers: one per worker.
#[derive(Debug)]
pub struct Upstream {
    connector: Connector,
    pool: Pool<Driver>,
    patience: Patience,
    opened: AtomicU64,
    resent: AtomicU64,
}

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No connection. Nothing was sent.
    #[error("cannot connect: {0}")]
    Connect(#[from] ConnectError),
    /// The connection broke before any byte of the request was written.
    #[error("the connection was closed before the request was sent")]
    NotSent,
    /// The connection broke after some of the request was written, and before an answer.
    #[error("the connection broke before the answer: {0}")]
    Broken(hyper::Error),
    /// The request's own body did not come to its end.
    #[error("the request was not sent whole: {0}")]
    Request(hyper::Error),
    /// No head of a response within `upstream.first_byte_timeout`.
    #[error("no answer within {0:?} (upstream.first_byte_timeout)")]
    FirstByte(Duration),
    /// No frame of the body within `upstream.idle_timeout`.
    #[error("no data for {0:?} (upstream.idle_timeout)")]
    Idle(Duration),
    /// The body broke off.
    #[error("the response broke off: {0}")]
    Body(hyper::Error),
}

impl UpstreamError {
    /// Whether the provider cannot have seen any of the request.
    pub const fn nothing_sent(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::NotSent)
    }

    /// Why the request's body did not come to its end, if that is what it was.
    pub fn unfinished(&self) -> Option<&Unfinished> {
        match self {
            Self::Request(error) => error.source()?.downcast_ref(),
            _ => None,
        }
    }

    /// Whether it was a matter of time.
    pub const fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::FirstByte(_) | Self::Idle(_) | Self::Connect(ConnectError::Timeout(_))
        )
    }
}

/// What a connection counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections opened since the start.
    pub opened: u64,
    /// Requests sent again because a pooled connection turned out dead before a byte was written.
    pub resent: u64,
    /// Connections now idle.
    pub idle: usize,
    /// Connections closed because the pool was full.
    pub overflow: u64,
}

impl Upstream {
    /// With an empty pool, whose connections are closed when idle for `pool_idle`.
    pub fn new(connector: Connector, patience: Patience, pool_idle: Duration) -> Self {
        Self {
            connector,
            pool: Pool::new(pool_idle),
            patience,
            opened: AtomicU64::new(0),
            resent: AtomicU64::new(0),
        }
    }

    /// Sends `request` to `origin`. The request's URI is its path and query, it has its `Host` header
    /// already, and among its extensions the [`Hops`] that its connection has come through, if any. A
    /// request of which no byte was written because a pooled connection turned out dead is sent again,
    /// once, on a new one.
    ///
    /// # Errors
    /// When no head of a response came. [`UpstreamError::nothing_sent`] tells whether the provider
    /// can have seen the request. `sending` is called when there is a connection, before the first
    /// byte.
    pub async fn send(
        self: &Arc<Self>,
        origin: &Origin,
        mut request: Request<Outgoing>,
        mut sending: impl FnMut(),
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        let mut pooled = self.idle(origin);
        loop {
            let is_new = pooled.is_none();
            let mut driver = match pooled.take() {
                Some(driver) => driver,
                // On the heap, since it is large, and every call would have room for it.
                None => Box::pin(self.open(origin, request.extensions().get())).await?,
            };
            if let Some(via) = driver.via.clone() {
                through_proxy(&mut request, origin, via, self.me());
            }
            sending();
            match driver.exchange(request, self.patience.first_byte).await {
                Ok(response) => return Ok(self.wrap(origin, driver, response)),
                Err(Failed {
                    request: Some(unsent),
                    ..
                }) if !is_new => request = *unsent,
                Err(Failed { error, .. }) => return Err(error),
            }
            self.resent.fetch_add(1, Relaxed);
        }
    }

    /// Who we are to proxies.
    pub const fn me(&self) -> &Me {
        self.connector.me()
    }

    /// Closes connections that were idle for too long.
    pub fn sweep(&self, now: Instant) {
        self.pool.sweep(now);
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        Counts {
            opened: self.opened.load(Relaxed),
            resent: self.resent.load(Relaxed),
            idle: self.pool.len(),
            overflow: self.pool.overflow(),
        }
    }

    /// An idle connection that is still alive, as far as can be told without a system call.
    fn idle(&self, origin: &Origin) -> Option<Driver> {
        loop {
            let mut driver = self.pool.take(origin)?;
            // A plain request through a proxy is in absolute form: only a new connection makes it.
            if driver.via.is_none() && driver.is_alive(Waker::noop()) {
                return Some(driver);
            }
        }
    }

    async fn open(&self, origin: &Origin, hops: Option<&Hops>) -> Result<Driver, UpstreamError> {
        let connected = self.connector.connect(origin, hops).await?;
        let (sender, connection) = http1::handshake(connected.io)
            .await
            .map_err(|_closed| UpstreamError::NotSent)?;
        self.opened.fetch_add(1, Relaxed);
        let muted = Arc::new(Muted::default());
        Ok(Driver {
            connection: Some(Box::pin(connection.with_upgrades())),
            sender,
            waker: Waker::from(Arc::clone(&muted)),
            muted,
            alarm: None,
            deadline: None,
            via: connected.via,
            _noted: connected.noted,
        })
    }

    fn wrap(
        self: &Arc<Self>,
        origin: &Origin,
        mut driver: Driver,
        mut response: Response<Incoming>,
    ) -> Response<UpstreamBody> {
        let upgrade = (response.status() == StatusCode::SWITCHING_PROTOCOLS)
            .then(|| hyper::upgrade::on(&mut response));
        driver.deadline = None;
        response.map(|incoming| {
            let mut body = UpstreamBody {
                incoming,
                driver: Some(driver),
                upgrade,
                home: Home {
                    upstream: Arc::clone(self),
                    origin: origin.clone(),
                },
            };
            // Nobody will ask for the frames of a body that has none.
            if body.upgrade.is_none() && body.incoming.is_end_stream() {
                body.finish();
            }
            body
        })
    }
}

/// A plain request through an egress proxy names its whole target (RFC 9112, 3.2.2), and us among those
/// that it has come through.
fn through_proxy(request: &mut Request<Outgoing>, origin: &Origin, via: Via, me: &Me) {
    let hops = request.extensions().get::<Hops>().cloned();
    let hops = hops.unwrap_or_else(|| me.alone());
    hops.append_to(request.headers_mut());
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    let target = origin.uri().clone().into_parts();
    (parts.scheme, parts.authority) = (target.scheme, target.authority);
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    if let Some(authorization) = via.authorization {
        request
            .headers_mut()
            .insert(PROXY_AUTHORIZATION, authorization);
    }
}

/// Hyper's connection with upgrades, whose type has no name.
type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// A connection and what drives it.
struct Driver {
    /// `None` once the connection has ended.
    connection: Option<Connection>,
    sender: SendRequest<Outgoing>,
    waker: Waker,
    muted: Arc<Muted>,
    /// Fires no later than `deadline`, and is then set again: so that a frame costs no timer.
    alarm: Option<Pin<Box<Sleep>>>,
    deadline: Option<Instant>,
    via: Option<Via>,
    /// That it is ours, until it is dropped.
    _noted: Option<Noted>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver")
            .field("open", &self.connection.is_some())
            .finish_non_exhaustive()
    }
}

/// Lets a connection work. Returns whether there was one to work.
fn advance(connection: &mut Option<Connection>, cx: &mut Context<'_>) -> bool {
    let Some(working) = connection else {
        return false;
    };
    if working.as_mut().poll(cx).is_ready() {
        // Errors reach whoever waits for the response or its body.
        *connection = None;
    }
    true
}

struct Failed {
    error: UpstreamError,
    request: Option<Box<Request<Outgoing>>>,
}

impl Driver {
    /// Polls `wanted` and the connection in turn, until neither gets further.
    fn drive<T>(
        &mut self,
        cx: &Context<'_>,
        mut wanted: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        loop {
            self.muted.begin(cx.waker());
            let mut inner = Context::from_waker(&self.waker);
            let mut polled = wanted(&mut inner);
            if polled.is_pending() && advance(&mut self.connection, &mut inner) {
                polled = wanted(&mut inner);
            }
            let woken = self.muted.end();
            if polled.is_ready() || !woken {
                return polled;
            }
        }
    }

    /// Whether the connection can take a request.
    fn is_alive(&mut self, waker: &Waker) -> bool {
        advance(&mut self.connection, &mut Context::from_waker(waker));
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Whether `limit` has passed since the last frame. Called when nothing came.
    fn is_late(&mut self, cx: &mut Context<'_>, limit: Duration) -> bool {
        let now = now();
        let deadline = *self.deadline.get_or_insert(now + limit);
        if now >= deadline {
            return true;
        }
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if alarm.deadline() > deadline {
            alarm.as_mut().reset(deadline);
        }
        while alarm.as_mut().poll(cx).is_ready() {
            alarm.as_mut().reset(deadline);
        }
        false
    }

    async fn exchange(
        &mut self,
        request: Request<Outgoing>,
        limit: Duration,
    ) -> Result<Response<Incoming>, Failed> {
        let mut response = std::pin::pin!(self.sender.try_send_request(request));
        self.deadline = None;
        std::future::poll_fn(|cx| match self.drive(cx, |cx| response.as_mut().poll(cx)) {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
            Poll::Ready(Err(mut failed)) => {
                let request = failed.take_message().map(Box::new);
                let error = match failed.into_error() {
                    _ if request.is_some() => UpstreamError::NotSent,
                    error if error.is_user() => UpstreamError::Request(error),
                    error => UpstreamError::Broken(error),
                };
                Poll::Ready(Err(Failed { error, request }))
            },
            Poll::Pending if self.is_late(cx, limit) => {
                let error = UpstreamError::FirstByte(limit);
                Poll::Ready(Err(Failed {
                    error,
                    request: None,
                }))
            },
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

/// The time, for deadlines only: they are timers' business, which tests move by tokio's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "a deadline is compared with tokio's timers"
)]
fn now() -> Instant {
    Instant::now()
}

/// Where a connection goes when it is idle again.
#[derive(Debug)]
struct Home {
    upstream: Arc<Upstream>,
    origin: Origin,
}

/// A response's body, which drives its connection. Dropping it before its end closes the
/// connection, which tells the provider that nobody listens any more.
#[derive(Debug)]
pub struct UpstreamBody {
    incoming: Incoming,
    /// `None` once the connection is idle again, or broken.
    driver: Option<Driver>,
    upgrade: Option<OnUpgrade>,
    home: Home,
}

impl UpstreamBody {
    /// After status 101: the provider's side of the new protocol, and the future that drives the
    /// connection until the switch is made. `None` for any other response.
    pub fn into_upgrade(mut self) -> Option<(OnUpgrade, impl Future<Output = ()> + use<>)> {
        let upgrade = self.upgrade.take()?;
        let connection = self.driver.take().and_then(|driver| driver.connection);
        let drive = async move {
            if let Some(connection) = connection {
                // An error reaches whoever waits for the upgrade.
                drop(connection.await);
            }
        };
        Some((upgrade, drive))
    }

    /// The body is over: the connection goes back to the pool, if it can serve another request.
    fn finish(&mut self) {
        let Some(mut driver) = self.driver.take() else {
            return;
        };
        driver.muted.forget();
        let waker = driver.waker.clone();
        if driver.is_alive(&waker) {
            driver.deadline = None;
            self.home
                .upstream
                .pool
                .put(&self.home.origin, driver, now());
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let this = &mut *self;
        let Some(driver) = &mut this.driver else {
            // Nothing can come without a connection, but an end may not have been seen yet.
            let polled = Pin::new(&mut this.incoming).poll_frame(cx);
            return polled.map_err(UpstreamError::Body);
        };
        let incoming = &mut this.incoming;
        match driver.drive(cx, |cx| Pin::new(&mut *incoming).poll_frame(cx)) {
            Poll::Ready(Some(Ok(frame))) => {
                driver.deadline = None;
                // A body of known length is never asked for its end.
                if this.incoming.is_end_stream() {
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            },
            Poll::Ready(Some(Err(error))) => {
                this.driver = None;
                Poll::Ready(Some(Err(UpstreamError::Body(error))))
            },
            Poll::Ready(None) => {
                this.finish();
                Poll::Ready(None)
            },
            Poll::Pending => {
                let limit = this.home.upstream.patience.idle;
                if driver.is_late(cx, limit) {
                    this.driver = None;
                    return Poll::Ready(Some(Err(UpstreamError::Idle(limit))));
                }
                Poll::Pending
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

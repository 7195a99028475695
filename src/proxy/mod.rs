//! The data plane: its files are verbs, in the order a call meets them.
//!
//! `serve` → `begin`: `authenticate`, `route`, `identify` → `entrust` → `sign` → `peek` →
//! `attempts` → `admit`: first `guard`, then the rules (in `turn`; what is set aside: `reserve`) →
//! `forward` → `tap`, in which `observe` reads what passes (`events`), until its end or an
//! `interrupt` → `finish` (`account`: what it is charged). One [`Exchange`] goes along the whole
//! way; `reply` words every refusal.

mod account;
mod admit;
mod attempts;
mod authenticate;
mod begin;
mod body;
mod cap;
pub mod config;
mod conversation;
mod credential;
mod crossed;
mod document;
mod entrust;
mod events;
mod exchange;
mod fees;
mod finish;
mod flight;
mod forward;
mod guard;
mod headers;
mod holdings;
mod identify;
mod intake;
pub mod intercept;
mod interrupt;
mod kill;
mod later;
mod leaving;
mod lines;
mod live;
mod metrics;
mod observe;
mod peek;
mod refused;
mod reply;
mod reserve;
mod results;
mod route;
mod said;
mod serve;
mod sign;
mod socket;
mod tap;
mod told;
mod trace;
mod turn;
mod upgrade;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use dashmap::DashSet;
use http::{Request, Response, StatusCode, header::CONTENT_ENCODING, request::Parts};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, upgrade::OnUpgrade};

use crate::{
    base::clock::{Clock, Timestamp},
    call::{
        facts::Spends,
        outcome::Kind,
        refusal::{Reason, Refusal},
    },
    ledger::Awaited,
    net::{
        body::Outgoing,
        pace::Paced,
        upstream::{Upstream, UpstreamBody, UpstreamError},
    },
    pipeline::Pipeline,
    policy::JournalDown,
    pricing::Estimator,
};
use attempts::Attempts;
use authenticate::Strangers;
use exchange::Exchange;
use flight::Flights;
use intake::Intake;
use intercept::Intercept;
use interrupt::Interrupts;
use later::Later;
use observe::Observer;
use peek::{Guarded, Peeked, Room, read_reduced, read_request, read_scanned};
use refused::Refusals;
use tap::Tap;

pub use body::ResponseBody;
pub use holdings::Holdings;
pub use leaving::{Leaving, Phase};
pub use live::{Destination, Live, Parts as LiveParts};
pub use metrics::Metrics;
pub use serve::{Client, serve};

/// What all workers share.
pub struct Proxy {
    live: ArcSwap<Live>,
    clock: Arc<dyn Clock>,
    pipeline: Arc<Pipeline>,
    metrics: Metrics,
    flights: Arc<Flights>,
    interrupts: Arc<Interrupts>,
    room: Arc<Room>,
    /// How much of it is taken by what streams keep of their outputs.
    outputs: Arc<Room>,
    /// How much of what was said waits for spans that hold it.
    said: Arc<Room>,
    later: Later,
    attempts: Attempts,
    /// How many tokens texts of each model have.
    estimator: Estimator,
    /// Providers that refused `stream_options`: they are not asked for usage again.
    shy: DashSet<Arc<str>>,
    strangers: Strangers,
    refusals: Refusals,
    intake: Arc<Intake>,
    /// For clients that were not pointed at Tollgate, if `intercept.enabled`.
    intercept: Option<Arc<Intercept>>,
    /// The process is about to end: calls that end now are cut by us.
    leaving: AtomicBool,
}

/// One worker: its own connections to providers.
pub struct Worker {
    /// What it shares with the others.
    pub proxy: Arc<Proxy>,
    /// Its connections.
    pub upstream: Arc<Upstream>,
    /// Its connections to hosts that are no provider's, if clients may be led there.
    pub others: Option<Arc<Upstream>>,
}

impl Proxy {
    /// With its first snapshot.
    pub fn new(
        live: Live,
        clock: Arc<dyn Clock>,
        pipeline: Arc<Pipeline>,
        metrics: Metrics,
    ) -> Self {
        let later = Later::new(Arc::clone(live.engine().purse()));
        let room = Arc::<Room>::default();
        let kills = Arc::clone(live.guards().kills());
        Self {
            live: ArcSwap::from_pointee(live),
            clock,
            pipeline,
            flights: Arc::new(Flights::new(metrics.in_flight().clone())),
            metrics,
            interrupts: Arc::new(Interrupts::new(kills)),
            outputs: Arc::new(Room::within(&room)),
            room,
            said: Arc::default(),
            later,
            attempts: Attempts::default(),
            estimator: Estimator::default(),
            shy: DashSet::new(),
            strangers: Strangers::default(),
            refusals: Refusals::default(),
            intake: Arc::default(),
            intercept: None,
            leaving: AtomicBool::new(false),
        }
    }

    /// The same, for clients that were not pointed at Tollgate as well.
    #[must_use]
    pub fn with_intercept(self, intercept: Option<Arc<Intercept>>) -> Self {
        Self { intercept, ..self }
    }

    /// Takes over calls whose answers were still to be fetched when the last run ended, and which
    /// responses it had billed.
    ///
    /// # Errors
    /// What counters held before cannot be known, and calls shall not pass without.
    pub fn recall(&self, awaited: &[Awaited], billed: &[u64]) -> Result<(), JournalDown> {
        let (live, now) = (self.live.load(), self.clock.wall());
        self.later.recall(awaited, billed, &live.engine, now)
    }

    /// The snapshot that the next call will take.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Puts another snapshot in force, for calls that begin from now on.
    pub fn reload(&self, live: Live) {
        self.live.store(Arc::new(live));
    }

    /// From now on calls are cut short: streams end in their dialect's own way as soon as they are
    /// written, if that can be done, else they break off.
    pub fn leave(&self) {
        self.leaving.store(true, Relaxed);
        let message = "Tollgate is leaving, and this call did not end within shutdown.deadline.";
        self.interrupts
            .end_all(Refusal::new(Reason::Overload, "", message));
    }

    /// Lets go of what nobody will ask for any more. To be called every minute or so.
    pub fn tidy(&self, now: Timestamp) {
        self.crossed(&self.later.sweep(now));
        self.tell_left_out();
        self.live.load().engine.tidy(now);
    }
}

impl Worker {
    /// Carries one call: the way of a request.
    pub async fn call(
        &self,
        mut request: Request<Incoming>,
        peer: Option<IpAddr>,
    ) -> Response<ResponseBody> {
        if let Some(format) = intake::format(&request)
            && self.proxy.live.load().ingest.enabled
        {
            // On the heap, as it is rare, and every call would have room for it.
            return Box::pin(self.report(format, request, peer)).await;
        }
        let client =
            headers::is_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let mut exchange = match self.begin(&parts, peer) {
            Ok(exchange) => exchange,
            Err(refused) => return *refused,
        };
        match self.send(&mut exchange, parts, body).await {
            Ok(response) => respond(exchange, response, client),
            Err(refusal) => exchange.refuse(refusal),
        }
    }

    /// Reads what must be read, asks the rules, and sends the request.
    async fn send(
        &self,
        exchange: &mut Exchange,
        mut parts: Parts,
        body: Incoming,
    ) -> Result<Response<UpstreamBody>, Refusal> {
        let operation = exchange.route.operation;
        let signs = self.proxy.attempts.signs(exchange, &parts.headers);
        entrust::entrust(exchange, &mut parts)?;
        sign::again(exchange, &mut parts)?;
        credential::note(exchange, &parts);
        if operation.kind == Kind::Http && exchange.signing.is_none() {
            exchange.link(&signs, body.is_end_stream().then_some(b""));
            exchange.take_off()?;
            read_request(exchange, b"", false);
            socket::read_model(&exchange.route, &mut exchange.request);
            admit::admit(exchange, None).await?;
            let body = Paced::new(body, exchange.live.bounds.wait);
            let body = Outgoing::Stream(Box::pin(body.map_err(Into::into)));
            return self
                .exchange(exchange, forward::Outbound::new(parts, body))
                .await;
        }
        let peeked = peek::peek(body, sign::bounds(exchange), &self.proxy.room).await;
        exchange.link(&signs, peeked.as_ref().ok().and_then(Peeked::whole));
        match peeked {
            Ok(Peeked::Whole {
                body,
                trailers,
                place,
            }) => {
                exchange.take_off()?;
                let outbound = self.prepare(exchange, parts, body, trailers).await?;
                let sent = self.exchange(exchange, outbound).await;
                drop(place);
                sent
            },
            // On the heap, as it is rare, and every call would have room for it.
            Ok(Peeked::Large { .. }) if exchange.signing.is_some() => Err(sign::too_large()),
            Ok(Peeked::Large { begun, rest }) => {
                Box::pin(self.stream(exchange, parts, begun, rest)).await
            },
            Err(error) => Err(forward::unfinished(exchange, &error)),
        }
    }

    /// A request whose body is all there: read it, ask the rules, edit it where that was decided.
    async fn prepare(
        &self,
        exchange: &mut Exchange,
        parts: Parts,
        body: Bytes,
        trailers: Option<http::HeaderMap>,
    ) -> Result<forward::Outbound, Refusal> {
        let began = self.proxy.clock.mono();
        let plain = forward::plain(&parts.headers, &body);
        let readable = plain.as_deref().unwrap_or_default();
        let mut scanner = forward::scanner(&parts.headers, exchange.route.dialect);
        if scanner.is_form() {
            scanner.feed(readable);
            read_reduced(exchange, &scanner.finish());
        } else {
            read_request(exchange, readable, true);
            conversation::read(exchange, readable);
            if let Some(said) = &mut exchange.said {
                said.asked(&body, plain.as_ref());
            }
        }
        // What is encoded or signed is never edited.
        let signed = forward::is_signed(&parts.headers);
        let editable = (!signed && !parts.headers.contains_key(CONTENT_ENCODING)).then_some(&body);
        let limit = admit::admit(exchange, editable).await?;
        let mut body = body.clone();
        let mut edited = false;
        if let Some(limit) = limit {
            body = Bytes::from(limit.apply(&body));
            edited = true;
        }
        if editable.is_some()
            && let Some(ask) = self.ask_usage(exchange, &body)
        {
            body = Bytes::from(ask);
            edited = true;
        }
        let took = self.proxy.clock.mono().saturating_duration_since(began);
        let added = took.saturating_sub(exchange.waited);
        self.proxy.metrics.overhead(added);
        let length = edited.then_some(body.len());
        if let Some(signing) = &mut exchange.signing {
            signing.over(&body);
        }
        Ok(forward::Outbound::whole(parts, body, trailers).edited(length))
    }

    /// Asks on the client's behalf for the usage of its stream.
    fn ask_usage(&self, exchange: &mut Exchange, body: &Bytes) -> Option<Vec<u8>> {
        let to = &exchange.route.to;
        if to.provider.reports_unasked || self.proxy.shy.contains(&to.provider.name) {
            return None;
        }
        let dialect = exchange.route.dialect;
        let splice = dialect.ask_usage(exchange.route.operation, body, &exchange.request)?;
        exchange.edits.push(ASKED_USAGE);
        Some(splice.apply(body))
    }

    /// A request too large to hold: its last frame waits until the rules have been asked.
    async fn stream(
        &self,
        exchange: &mut Exchange,
        parts: Parts,
        begun: Vec<Bytes>,
        rest: Paced<Incoming>,
    ) -> Result<Response<UpstreamBody>, Refusal> {
        let scanner = forward::scanner(&parts.headers, exchange.route.dialect);
        let reading = peek::Reading::of(&parts.headers, scanner);
        if let Some(said) = &mut exchange.said {
            said.asked_in_part(&parts.headers, &begun);
        }
        let (body, guard) = Guarded::new(begun, rest, reading);
        let outbound = forward::Outbound::new(parts, Outgoing::Stream(Box::pin(body)));
        let peek::Guard { mut scanned, admit } = guard;
        let request = outbound.request(exchange);
        let to = Arc::clone(&exchange.route.to);
        // Of a request that is not whole nothing counts as sent until it was admitted.
        let sending = self.upstream.send(to.origin(), request, || {});
        tokio::pin!(sending);
        let early = tokio::select! {
            biased;
            answer = &mut sending => Some(answer),
            document = &mut scanned => match document {
                Ok(reduced) => {
                    read_scanned(exchange, reduced.as_ref());
                    None
                },
                // The client broke off.
                Err(_) => Some(sending.as_mut().await),
            },
        };
        if let Some(answer) = early {
            exchange.sent = Some(self.proxy.clock.mono());
            let response = answer.map_err(|error| failed(exchange, &error))?;
            exchange.take_off()?;
            // It did not wait for the end of the request: mostly an error, else still to be asked,
            // by what the head says.
            if response.status().is_success() {
                read_scanned(exchange, scanned.try_recv().ok().flatten().as_ref());
                admit::admit(exchange, None).await?;
            }
            // The rest may follow: a request that breaks off would take its answer with it.
            let _gone = admit.send(());
            return Ok(response);
        }
        // A refusal drops `admit`, and so resets a request that was never whole.
        exchange.take_off()?;
        // Of what it brings nothing was kept.
        conversation::read(exchange, b"");
        admit::admit(exchange, None).await?;
        exchange.sent = Some(self.proxy.clock.mono());
        let _gone = admit.send(());
        let answer = kill::unless(&self.proxy, &admit::subject(exchange), sending).await?;
        answer.map_err(|error| failed(exchange, &error))
    }

    async fn exchange(
        &self,
        exchange: &mut Exchange,
        outbound: forward::Outbound,
    ) -> Result<Response<UpstreamBody>, Refusal> {
        let request = outbound.request(exchange);
        let to = Arc::clone(&exchange.route.to);
        let clock = Arc::clone(&self.proxy.clock);
        let (sent, subject) = admit::sending(exchange);
        let answer = self
            .upstream
            .send(to.origin(), request, || *sent = Some(clock.mono()));
        let answer = kill::unless(&self.proxy, &subject, answer).await?;
        answer.map_err(|error| failed(exchange, &error))
    }
}

/// No answer came.
fn failed(exchange: &mut Exchange, error: &UpstreamError) -> Refusal {
    if let Some(error) = error.unfinished() {
        return forward::unfinished(exchange, error);
    }
    if error.nothing_sent() {
        exchange.sent = None;
    }
    forward::failure(exchange, error)
}

/// The edit that asks for usage, as spans name it.
const ASKED_USAGE: &str = "request.stream_options.include_usage";

/// The provider has answered: its response goes to the client, read while it passes.
fn respond(
    mut exchange: Box<Exchange>,
    response: Response<UpstreamBody>,
    client: Option<OnUpgrade>,
) -> Response<ResponseBody> {
    let status = response.status();
    exchange.http_status = Some(status.as_u16());
    exchange.answered = true;
    if status == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client) = client
    {
        return upgrade::join(client, response, exchange);
    }
    let asked = exchange.edits.contains(&ASKED_USAGE);
    if asked && status == StatusCode::BAD_REQUEST {
        exchange.may_be_shy = true;
    }
    let edited = status.is_success() && (asked || exchange.reservation.in_steps);
    let (parts, body) = response.into_parts();
    let mut observer = Observer::new(
        exchange.route.dialect,
        exchange.route.operation,
        &parts.headers,
        edited,
    );
    observer.state.choices = exchange.request.choices;
    observer.state.wants_steps = exchange.live.guards.want_conversations();
    let (dialect, style) = (exchange.route.dialect, exchange.live.cut_style);
    observer.state.keeps_output = dialect.repeats_output(exchange.route.operation, style);
    observer.drop_usage = asked;
    if exchange.route.operation.spends == Spends::Lines && status.is_success() {
        exchange.begin_results(status);
        observer.read_lines();
    }
    if let Some(said) = &exchange.said {
        observer.keep(said);
    }
    if observer.facts.unread && status.is_success() {
        let now = exchange.proxy.clock.wall();
        if let Err(refusal) = exchange.reservation.take_all(now) {
            return exchange.refuse_response(refusal, observer.facts);
        }
    }
    let mut head = Response::from_parts(parts, ());
    *head.headers_mut() = headers::to_client(std::mem::take(head.headers_mut()));
    if observer.is_editable() {
        // Its length may change.
        head.headers_mut().remove(http::header::CONTENT_LENGTH);
    }
    reply::tell_rates(&exchange, head.headers_mut());
    exchange.mark(&mut head);
    head.map(|()| ResponseBody::tap(Tap::new(body, observer, exchange)))
}

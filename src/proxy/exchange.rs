//! One call in flight: everything that is known of it. It is finished exactly once, by whoever
//! owns it last, or when it is dropped.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Response};

use super::{
    Proxy,
    attempts::Place,
    authenticate::Caller,
    body::ResponseBody,
    flight::InFlight,
    guard::{self, Guarded},
    headers::{CLAMPED, REQUEST_ID},
    live::Live,
    observe::{Observer, Progress},
    reply::{self, Style},
    reserve::Reservation,
    results::Results,
    route::Route,
    said::Said,
    sign::Signing,
    trace,
};
use crate::{
    base::{
        clock::{Instant, Timestamp},
        id::RequestId,
        money::Usd,
    },
    call::{
        facts::{RequestFacts, ResponseFacts},
        labels::Labels,
        outcome::{Decision, End, Kind},
        refusal::Refusal,
        span::{Event, KEY, Value},
        usage::Usage,
    },
    guard::Again,
    net::upstream::UpstreamError,
    provider::Cut,
};

/// A call in flight.
pub(super) struct Exchange {
    pub(super) proxy: Arc<Proxy>,
    pub(super) live: Arc<Live>,
    pub(super) request_id: RequestId,
    pub(super) trace: trace::Context,
    /// When the request's head had arrived, by the wall clock and by the monotonic one.
    pub(super) start: Timestamp,
    pub(super) began: Instant,
    pub(super) method: Method,
    pub(super) route: Route,
    pub(super) labels: Labels,
    pub(super) caller: Caller,
    /// What rules know a caller without a client key by: a hash of the credential that it shows.
    pub(super) credential: Option<Box<str>>,
    pub(super) request: RequestFacts,
    /// What is said in it, where spans hold that.
    pub(super) said: Option<Box<Said>>,
    /// What guards said of it, and left with it.
    pub(super) guarded: Guarded,
    /// What was set aside for it, and how its output is kept within that.
    pub(super) reservation: Reservation,
    /// What was read of the results of a batch.
    pub(super) results: Results,
    pub(super) decision: Decision,
    /// Why it was refused, failed or cut.
    pub(super) refusal: Option<Refusal>,
    pub(super) http_status: Option<u16>,
    /// How long it was kept waiting, by guards and for its turn.
    pub(super) waited: Duration,
    /// When the request was handed to a connection.
    pub(super) sent: Option<Instant>,
    /// Whether any byte of a response has come.
    pub(super) answered: bool,
    pub(super) first_chunk: Option<Duration>,
    /// What is known of calls like it before it.
    pub(super) again: Again,
    /// Where further attempts of it find it, if they can.
    pub(super) attempt: Option<Place>,
    /// How the request is signed again, if it is.
    pub(super) signing: Option<Box<Signing>>,
    /// The output limit that a budget gave the request, in tokens.
    pub(super) lowered_to: Option<u64>,
    /// What was changed of request or response.
    pub(super) edits: Vec<&'static str>,
    pub(super) partial: Option<&'static str>,
    /// The client left, or broke off its request.
    pub(super) client_left: bool,
    /// A 400 may be the provider's word on our asking for usage.
    pub(super) may_be_shy: bool,
    pub(super) error_type: Option<&'static str>,
    pub(super) events: Vec<Event>,
    /// Further attributes of its span.
    pub(super) attributes: Vec<(&'static str, Value)>,
    /// Dropped last, so that a call counts as in flight until it is settled.
    in_flight: InFlight,
    finished: bool,
}

/// What an exchange begins with.
pub(super) struct Beginning {
    pub(super) proxy: Arc<Proxy>,
    pub(super) live: Arc<Live>,
    pub(super) request_id: RequestId,
    pub(super) trace: trace::Context,
    pub(super) start: Timestamp,
    pub(super) began: Instant,
    pub(super) method: Method,
    pub(super) route: Route,
    pub(super) labels: Labels,
    pub(super) caller: Caller,
    pub(super) in_flight: InFlight,
}

impl Exchange {
    pub(super) fn begin(beginning: Beginning) -> Box<Self> {
        let Beginning {
            proxy,
            live,
            request_id,
            trace,
            start,
            began,
            method,
            route,
            labels,
            caller,
            in_flight,
        } = beginning;
        let attributes = match &caller.key {
            Some(key) => vec![(KEY, Value::Text(key.name.as_str().into()))],
            None => Vec::new(),
        };
        let keeps = live
            .content
            .as_ref()
            .filter(|_| route.operation.kind != Kind::Http);
        let said = keeps.map(|policy| Box::new(Said::new(policy, live.bounds, &proxy.said)));
        Box::new(Self {
            proxy,
            live,
            request_id,
            trace,
            start,
            began,
            method,
            route,
            labels,
            caller,
            credential: None,
            request: RequestFacts::default(),
            said,
            guarded: Guarded::default(),
            reservation: Reservation::default(),
            results: Results::default(),
            decision: Decision::Admitted,
            refusal: None,
            http_status: None,
            waited: Duration::ZERO,
            sent: None,
            answered: false,
            first_chunk: None,
            again: Again::default(),
            attempt: None,
            signing: None,
            lowered_to: None,
            edits: Vec::new(),
            partial: None,
            client_left: false,
            may_be_shy: false,
            error_type: None,
            events: Vec::new(),
            attributes,
            in_flight,
            finished: false,
        })
    }

    /// The model asked for, by the name that its price is found under.
    pub(super) fn asked_model(&self) -> Option<&str> {
        known_as(&self.route, &self.request)
    }

    /// The request is there: from now on the call takes a place.
    ///
    /// # Errors
    /// The house is full.
    pub(super) fn take_off(&mut self) -> Result<(), Refusal> {
        self.in_flight.take_off(self.live.places)
    }

    /// How long ago the request's head arrived.
    pub(super) fn elapsed(&self) -> Duration {
        self.proxy
            .clock
            .mono()
            .saturating_duration_since(self.began)
    }

    /// Bytes of the response's body have come.
    pub(super) fn saw_bytes(&mut self) {
        if self.first_chunk.is_none() {
            let first = self.elapsed();
            self.first_chunk = Some(first);
            guard::begins(self);
            if self.request.stream {
                self.events.push(Event {
                    name: "first_token".into(),
                    time: self.start + first,
                });
            }
        }
    }

    /// The response broke off.
    pub(super) fn failed(&mut self, error: &UpstreamError) {
        self.error_type = Some(if error.is_timeout() {
            "timeout"
        } else {
            "upstream_broke_off"
        });
        let provider = &*self.route.to.provider.name;
        tracing::warn!(request_id = %self.request_id, provider, %error, "A response broke off");
    }

    /// A limit was reached in the middle of a stream.
    pub(super) const fn is_cut(&self) -> bool {
        matches!(self.decision, Decision::Cut)
    }

    /// Whether all that it costs was made.
    pub(super) fn has_all(&self, facts: &ResponseFacts) -> bool {
        let choices = usize::try_from(self.request.choices()).unwrap_or(usize::MAX);
        facts.complete || facts.finish_reasons.len() >= choices
    }

    /// The legal end of a stream that is cut after a whole event, if its dialect has one.
    pub(super) fn last_events(&self, refusal: &Refusal, observer: &Observer) -> Bytes {
        let Some((framing, begun)) = observer.stream() else {
            return Bytes::new();
        };
        let cut = Cut {
            style: self.live.cut_style,
            refusal,
            request_id: &self.request_id.to_string(),
            usage: self.usage_of_cut(&observer.facts),
            asks_usage: self.request.asks_usage,
            facts: &observer.facts,
            state: &observer.state,
            framing,
            begun,
        };
        self.route.dialect.cut(self.route.operation, &cut)
    }

    /// The last events of a stream that is cut do not say again what was sent of its output, as they
    /// should: it was too large to keep, or was not all read.
    pub(super) fn left_out_output(&mut self) {
        self.proxy.metrics.output_left_out();
        let attribute = ("tollgate.cut.output", Value::Text("left out".into()));
        self.attributes.push(attribute);
    }

    /// Answers with a refusal, and finishes. There was no response.
    pub(super) fn refuse(self: Box<Self>, refusal: Refusal) -> Response<ResponseBody> {
        self.refuse_response(refusal, ResponseFacts::default())
    }

    /// Answers with a refusal instead of a response, of which so much is known, and finishes.
    pub(super) fn refuse_response(
        mut self: Box<Self>,
        refusal: Refusal,
        facts: ResponseFacts,
    ) -> Response<ResponseBody> {
        let style = Style {
            dialect: self.route.dialect,
            exhausted_status: self.live.exhausted_status,
        };
        let now = self.proxy.clock.wall();
        let id = self.request_id.to_string();
        let mut response = reply::refusal(&refusal, style, now, &id).map(ResponseBody::ours);
        self.mark(&mut response);
        self.http_status = Some(response.status().as_u16());
        if refusal.reason.is_block() {
            self.decision = Decision::Refused;
        }
        self.refusal = Some(refusal);
        let end = match self.sent {
            _ if self.client_left => End::Client,
            // We left before there was an answer, or left the answer.
            Some(_) if self.decision == Decision::Refused => End::Cut,
            Some(_) => End::Upstream,
            None => End::Complete,
        };
        self.finish(end, facts);
        response
    }

    /// It is refused where there is no response to say so in, of which so much is known, and
    /// finished. Returns what it used and cost.
    pub(super) fn refused(
        mut self: Box<Self>,
        refusal: Refusal,
        facts: ResponseFacts,
    ) -> Option<(Usage, Option<Usd>)> {
        if refusal.reason.is_block() {
            self.decision = Decision::Refused;
        }
        self.refusal = Some(refusal);
        let end = match self.sent {
            Some(_) if !facts.complete => End::Cut,
            _ => End::Complete,
        };
        self.finish_and_tell(end, facts)
    }

    /// The headers that every response gets.
    pub(super) fn mark<B>(&self, response: &mut Response<B>) {
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_bytes(&self.request_id.digits()) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(limit) = self.lowered_to {
            headers.insert(CLAMPED, HeaderValue::from(limit));
        }
        self.trace.answer(headers);
    }

    /// It is ended since we leave.
    pub(super) fn interrupted(&mut self) {
        self.error_type.get_or_insert("tollgate_left");
    }

    /// How a call ends whose response nobody takes any more: the client left, or we leave.
    pub(super) fn abandoned(&mut self) -> End {
        if self.proxy.leaving.load(Relaxed) {
            self.interrupted();
            End::Cut
        } else {
            End::Client
        }
    }

    /// Whether this is the first time that the call ends.
    pub(super) const fn first_end(&mut self) -> bool {
        !std::mem::replace(&mut self.finished, true)
    }
}

/// The provider's own name for the model that is asked for.
pub(super) fn known_as<'a>(route: &'a Route, request: &'a RequestFacts) -> Option<&'a str> {
    let asked = request.answering()?;
    Some(route.to.provider.model(asked))
}

impl Progress for Exchange {
    fn line(&mut self, facts: &ResponseFacts) {
        self.read_result(facts);
    }

    fn may_go_on(&mut self, facts: &ResponseFacts) -> bool {
        // A cut would spare nothing, and end it twice.
        if self.has_all(facts) {
            return true;
        }
        let now = self.proxy.clock.wall();
        match self.reservation.keep_up(facts, now) {
            Ok(()) => true,
            Err(refusal) => {
                self.decision = Decision::Cut;
                self.refusal = Some(refusal);
                false
            },
        }
    }
}

impl Drop for Exchange {
    /// The client left before there was a body to give it.
    fn drop(&mut self) {
        let end = self.abandoned();
        self.finish(end, ResponseFacts::default());
    }
}

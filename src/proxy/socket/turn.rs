//! One response in a socket, and what each has from its socket.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::{
    base::{id::RequestId, money::Usd},
    call::{
        facts::{RequestFacts, ResponseFacts},
        labels::{Labels, Source},
        outcome::End,
        refusal::Refusal,
        usage::Usage,
    },
    provider::{Socket, StreamState},
    proxy::{
        Proxy, admit,
        authenticate::Caller,
        conversation, credential,
        exchange::{Beginning, Exchange},
        flight::InFlight,
        live::Live,
        route::Route,
        trace,
    },
};

/// What a span says of a message that was not read.
pub(super) const UNREAD: &str = "socket message";

/// What each of them has from its socket.
pub(super) struct From {
    pub(super) trace: trace::Context,
    proxy: Arc<Proxy>,
    method: http::Method,
    route: Route,
    labels: Labels,
    caller: Caller,
    credential: Option<Box<str>>,
}

/// One response.
pub(super) struct Turn {
    pub(super) exchange: Option<Box<Exchange>>,
    pub(super) facts: ResponseFacts,
    pub(super) id: Option<Box<str>>,
    pub(super) tag: Option<Box<str>>,
    /// It is not of the conversation.
    pub(super) apart: bool,
    /// Why it may not be, whatever the rules say of it.
    pub(super) barred: Option<Refusal>,
    /// The provider has begun it by itself, and it counts nowhere yet.
    uncounted: bool,
    state: StreamState,
}

impl From {
    pub(super) fn new(exchange: &Exchange, route: Route) -> Self {
        Self {
            proxy: Arc::clone(&exchange.proxy),
            trace: exchange.trace,
            method: exchange.method.clone(),
            route,
            labels: exchange.labels.clone(),
            caller: exchange.caller.clone(),
            credential: exchange.credential.clone(),
        }
    }

    /// A response that the client asks for.
    ///
    /// # Errors
    /// The client's key is not good any more, or there is no room.
    pub(super) fn asked(&self, request: RequestFacts) -> Result<Turn, Refusal> {
        let live = self.proxy.live.load_full();
        let in_flight = self.room(&live)?;
        Ok(self.turn(request, live, in_flight))
    }

    /// A response that the provider has begun by itself: it is there, and costs, whether or not it is
    /// let in. `barred`: why it will not be, if that is known.
    pub(super) fn unasked(&self, request: RequestFacts, barred: Option<Refusal>) -> Turn {
        let live = self.proxy.live.load_full();
        let room = barred.map_or_else(|| self.room(&live), Err);
        let (in_flight, barred) = match room {
            Ok(in_flight) => (in_flight, None),
            // Its socket is closed at once, so that there is never more than one of each.
            Err(refusal) => (self.proxy.flights.intrude(), Some(refusal)),
        };
        let mut turn = self.turn(request, live, in_flight);
        if let Some(exchange) = &mut turn.exchange {
            exchange.sent = Some(exchange.began);
        }
        turn.barred = barred;
        turn.uncounted = true;
        turn
    }

    fn room(&self, live: &Live) -> Result<InFlight, Refusal> {
        let still = live.door.still(&self.caller, self.proxy.clock.wall());
        still.map_err(|stranger| self.proxy.turn_away(stranger, None))?;
        self.proxy.flights.enter(live.places)
    }

    fn turn(&self, mut request: RequestFacts, live: Arc<Live>, in_flight: InFlight) -> Turn {
        let clock = &self.proxy.clock;
        let (start, began) = (clock.wall(), clock.mono());
        let mut exchange = Exchange::begin(Beginning {
            proxy: Arc::clone(&self.proxy),
            live,
            request_id: RequestId::new(start),
            trace: self.trace.within(),
            start,
            began,
            method: self.method.clone(),
            route: self.route.clone(),
            labels: self.labels.clone(),
            caller: self.caller.clone(),
            in_flight,
        });
        credential::know(&mut exchange, self.credential.clone());
        for (label, value) in std::mem::take(&mut request.labels) {
            exchange.labels.set(label, &value, Source::Body);
        }
        exchange.request = request;
        let mut state = StreamState::default();
        state.wants_steps = exchange.live.guards.want_conversations();
        Turn {
            exchange: Some(exchange),
            facts: ResponseFacts::default(),
            id: None,
            tag: None,
            apart: false,
            barred: None,
            uncounted: false,
            state,
        }
    }
}

impl Turn {
    /// Asks whether it may be.
    ///
    /// # Errors
    /// It may not, or there is no room for it, or a guard or rule refuses.
    pub(super) async fn admit(&mut self) -> Result<(), Refusal> {
        if let Some(refusal) = self.barred.take() {
            return Err(refusal);
        }
        let Some(exchange) = &mut self.exchange else {
            return Ok(());
        };
        exchange.take_off()?;
        admit::admit(exchange, None).await?;
        self.uncounted = false;
        Ok(())
    }

    /// It is what this message asks for.
    pub(super) fn asked_with(&mut self, message: &[u8]) {
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        conversation::read(exchange, message);
        if let Some(said) = &mut exchange.said {
            said.asked_in_socket(message);
        }
    }

    /// It is not let in, or nobody waits for that any more. What the provider has begun by itself is
    /// charged all the same.
    pub(super) fn overrun(&mut self) {
        if std::mem::take(&mut self.uncounted)
            && let Some(exchange) = &mut self.exchange
        {
            admit::overrun(exchange);
        }
    }

    /// Some of what was said in it was not read, or not as a whole.
    pub(super) fn lacks(&mut self) {
        if let Some(said) = self.exchange.as_mut().and_then(|it| it.said.as_mut()) {
            said.lacks();
        }
    }

    /// Reads what a message says of it.
    pub(super) fn read(&mut self, socket: &dyn Socket, message: &[u8]) {
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        exchange.answered = true;
        exchange.saw_bytes();
        if let Some(said) = &mut exchange.said {
            said.told(message);
        }
        let (facts, state) = (&mut self.facts, &mut self.state);
        let read = catch_unwind(AssertUnwindSafe(|| socket.read(message, facts, state)));
        match read {
            Ok(Ok(())) => {},
            Ok(Err(_)) => exchange.partial = Some(UNREAD),
            Err(_) => {
                exchange.partial = Some("the reader of this dialect panicked");
                self.facts.unread = true;
            },
        }
    }

    /// What it used and cost.
    pub(super) fn finish(mut self, end: End) -> Option<(Usage, Option<Usd>)> {
        let facts = std::mem::take(&mut self.facts);
        self.exchange.as_mut()?.finish_and_tell(end, facts)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.overrun();
        if let Some(exchange) = &mut self.exchange {
            // Does nothing if it has been settled.
            let end = exchange.abandoned();
            exchange.finish(end, std::mem::take(&mut self.facts));
        }
    }
}

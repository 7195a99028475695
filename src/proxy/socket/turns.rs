//! The responses in a socket: each is a call of its own, with its admission, its usage and its span.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use bytes::Bytes;

use super::{
    totals::Totals,
    turn::{From, Turn, UNREAD},
};
use crate::{
    call::{
        facts::{InputSize, RequestFacts},
        outcome::{Decision, End},
        refusal::{Reason, Refusal},
        span::Value,
    },
    provider::{Heard, Said, Session, Socket, wire::websocket::Content},
    proxy::{admit, exchange::Exchange, guard, observe::Progress as _},
};

/// The most responses of a socket that are awaited or under way at once.
const MOST: usize = 64;

/// The responses of one socket.
pub(super) struct Turns {
    socket: &'static dyn Socket,
    session: Session,
    from: From,
    /// Asked for by the client and admitted; the provider has not begun them.
    pub(super) waiting: VecDeque<Turn>,
    /// Begun and not ended.
    pub(super) open: Vec<Turn>,
    totals: Totals,
    /// What of the socket itself could not be read.
    pub(super) partial: Option<&'static str>,
}

/// What becomes of a client's message.
pub(super) enum Asked {
    /// It passes, after so long.
    Pass(Duration),
    /// It passes once this response is admitted.
    Begins(Box<Turn>),
    /// It would begin one, and there are too many.
    Refused(Refusal, Option<Box<str>>),
    /// What it does cannot be told.
    Unreadable,
}

/// What becomes of a provider's message.
pub(super) enum Told {
    /// It passes.
    Pass,
    /// It is of a response that the provider has begun by itself, which is still to be admitted.
    Begun(Box<Turn>, Bytes),
    /// A limit is reached: it does not pass, and the socket is closed.
    Cut(Refusal),
}

impl Turns {
    pub(super) fn new(socket: &'static dyn Socket, exchange: &Exchange) -> Self {
        let mut session = Session::default();
        if exchange.live.guards.want_conversations() {
            session.follow();
        }
        let route = &exchange.route;
        socket.open(route.path(), route.target.query(), &mut session);
        let mut route = exchange.route.clone();
        route.operation = socket.operation();
        Self {
            socket,
            session,
            from: From::new(exchange, route),
            waiting: VecDeque::new(),
            open: Vec::new(),
            totals: Totals::default(),
            partial: None,
        }
    }

    /// Whether no response is awaited or under way.
    pub(super) fn is_idle(&self) -> bool {
        let ends = |turn: &Turn| turn.facts.complete;
        self.waiting.is_empty() && self.open.iter().all(ends)
    }

    /// Reads a client's message.
    pub(super) fn hear(&mut self, content: Content) -> Asked {
        let mut is_whole = true;
        let message = match content {
            Content::Whole(message) => message,
            Content::Reduced(reduced) => {
                is_whole = false;
                let mut size = InputSize::default();
                reduced.bound(&mut size);
                self.session.add(size);
                self.session.lacks();
                reduced.document
            },
            Content::Unread => return Asked::Unreadable,
        };
        let (socket, session) = (self.socket, &mut self.session);
        let heard = catch_unwind(AssertUnwindSafe(|| socket.hear(&message, session)));
        let (request, tag) = match heard {
            Ok(Heard::Nothing) => return Asked::Pass(Duration::ZERO),
            Ok(Heard::Begins(request, tag)) => (*request, tag),
            Err(_) => return Asked::Unreadable,
        };
        let goes_on = socket.is_serial().then(|| self.goes_on(&request)).flatten();
        let asked = match goes_on {
            Some(goes_on) => goes_on.map(Asked::Pass),
            None => self.asked(request).map(|mut turn| {
                turn.tag.clone_from(&tag);
                turn.asked_with(&message);
                if !is_whole {
                    turn.lacks();
                }
                Asked::Begins(Box::new(turn))
            }),
        };
        asked.unwrap_or_else(|refusal| {
            self.totals.refused += 1;
            Asked::Refused(refusal, tag)
        })
    }

    /// Where what a client says is answered with a response that is awaited, or goes on in one that
    /// waited for the client's tools: whether that has room for it, and how long it must wait.
    fn goes_on(&mut self, request: &RequestFacts) -> Option<Result<Duration, Refusal>> {
        if self.waiting.is_empty() {
            let open = self.open.last()?;
            let for_tools = !open.facts.tool_calls.is_empty() && !open.facts.complete;
            if !for_tools || open.facts.usage.is_reported() {
                if for_tools || open.facts.complete {
                    // Its bill is there; what follows is another.
                    self.end_last(End::Complete);
                }
                return None;
            }
        }
        let is_open = self.waiting.is_empty();
        let turn = self.waiting.front_mut().or_else(|| self.open.last_mut())?;
        let exchange = turn.exchange.as_mut()?;
        let widened = admit::widen(exchange, request.input);
        Some(widened.and_then(|()| {
            if !is_open || request.steps.is_empty() {
                return Ok(Duration::ZERO);
            }
            exchange.request.steps.clone_from(&request.steps);
            guard::goes_on(exchange).inspect_err(|refusal| {
                // The socket is closed, since there is no other way to say it.
                exchange.decision = Decision::Cut;
                exchange.refusal = Some(refusal.clone());
            })
        }))
    }

    /// A response that is admitted, and goes to the provider now.
    pub(super) fn sent(&mut self, mut turn: Turn) {
        if let Some(exchange) = &mut turn.exchange {
            exchange.sent = Some(exchange.proxy.clock.mono());
        }
        self.waiting.push_back(turn);
    }

    /// A response was not admitted. Returns the message that says so, if there is one.
    pub(super) fn refuse(&mut self, mut turn: Turn, refusal: &Refusal) -> Option<Bytes> {
        self.totals.refused += 1;
        turn.overrun();
        let facts = std::mem::take(&mut turn.facts);
        let exchange = turn.exchange.take()?;
        let id = exchange.request_id.to_string();
        let message = self.socket.refusal(refusal, turn.tag.as_deref(), &id);
        let was_sent = exchange.sent.is_some();
        let told = exchange.refused(refusal.clone(), facts);
        if was_sent {
            self.totals.add(told.as_ref());
        }
        message
    }

    /// The message that says why the socket, or something in it that has no span, is refused.
    pub(super) fn wording(&self, refusal: &Refusal, tag: Option<&str>) -> Option<Bytes> {
        let id = self.from.trace.span_id.to_string();
        self.socket.refusal(refusal, tag, &id)
    }

    /// Reads a provider's message.
    pub(super) fn told(&mut self, content: Content) -> Told {
        match content {
            Content::Whole(message) => self.told_whole(message),
            Content::Reduced(reduced) => {
                // Nobody knows yet of which it is.
                self.open.iter_mut().for_each(Turn::lacks);
                let mut told = self.told_whole(reduced.document);
                if let Told::Begun(turn, _) = &mut told {
                    turn.lacks();
                }
                told
            },
            Content::Unread => self.unread(),
        }
    }

    fn told_whole(&mut self, message: Vec<u8>) -> Told {
        let (socket, session) = (self.socket, &mut self.session);
        let said = catch_unwind(AssertUnwindSafe(|| socket.said(&message, session)));
        match said {
            Ok(Said::Nothing) => Told::Pass,
            Ok(Said::Begins(id)) => self.begins(id, message),
            Ok(Said::Part { id, begins }) => match self.place(id.as_deref()) {
                Some(place) => self.read(place, &message),
                None if begins => self.begins(id, message),
                None => Told::Pass,
            },
            Ok(Said::Ends(id)) => self.ends(id.as_deref(), &message),
            Ok(Said::Fails { tag, status, ends }) => {
                self.fails(tag.as_deref(), status, ends, &message)
            },
            Ok(Said::Apart(request)) => {
                let mut turn = self.from.unasked(*request, self.full());
                turn.apart = true;
                // It is over, and says what it cost, whether or not it is let in.
                turn.read(self.socket, &message);
                Told::Begun(Box::new(turn), Bytes::new())
            },
            Err(_) => self.unread(),
        }
    }

    /// A response that the provider began by itself is admitted; `message` has not been read of it.
    pub(super) fn began(&mut self, turn: Turn, message: &[u8]) -> Told {
        self.open.push(turn);
        let place = self.open.len() - 1;
        if message.is_empty() {
            self.judge(place)
        } else {
            self.read(place, message)
        }
    }

    /// The first message of a response.
    fn begins(&mut self, id: Option<Box<str>>, message: Vec<u8>) -> Told {
        if self.socket.is_serial() {
            // No more will come of the one before.
            while self.open.last().is_some_and(|turn| turn.facts.complete) {
                self.end_last(End::Complete);
            }
        }
        if let Some(mut turn) = self.waiting.pop_front() {
            turn.id = id;
            self.open.push(turn);
            return self.read(self.open.len() - 1, &message);
        }
        let mut turn = self.from.unasked(self.session.request(), self.full());
        turn.id = id;
        Told::Begun(Box::new(turn), Bytes::from(message))
    }

    fn ends(&mut self, id: Option<&str>, message: &[u8]) -> Told {
        let mut place = self.place(id);
        if place.is_none() && id.is_none() {
            // It ends before anything was made.
            self.open.extend(self.waiting.pop_front());
            place = self.open.len().checked_sub(1);
        }
        let Some(place) = place else {
            return Told::Pass;
        };
        // Nothing is left to cut.
        if let Some(turn) = self.open.get_mut(place) {
            turn.facts.complete = true;
        }
        self.read(place, message)
    }

    fn fails(
        &mut self,
        tag: Option<&str>,
        status: Option<u16>,
        ends: bool,
        message: &[u8],
    ) -> Told {
        let awaited = self
            .waiting
            .iter()
            .position(|turn| turn.tag.as_deref() == tag);
        let place = match awaited.and_then(|place| self.waiting.remove(place)) {
            Some(mut turn) => {
                if let Some(exchange) = &mut turn.exchange {
                    // The provider's refusal, as over HTTP: it costs nothing.
                    exchange.http_status = Some(status.unwrap_or(400).max(400));
                }
                self.open.push(turn);
                self.open.len() - 1
            },
            None if ends && !self.open.is_empty() => self.open.len() - 1,
            None => return Told::Pass,
        };
        if let Some(turn) = self.open.get_mut(place) {
            turn.facts.complete = true;
        }
        self.read(place, message)
    }

    /// A message that could not be read may have been of any response.
    fn unread(&mut self) -> Told {
        self.partial = Some(UNREAD);
        for turn in &mut self.open {
            turn.facts.unread = true;
            turn.lacks();
            if let Some(exchange) = &mut turn.exchange {
                exchange.partial = Some(UNREAD);
            }
        }
        // Only now, since the first that may not go on ends them all.
        for turn in &mut self.open {
            if let Some(exchange) = &mut turn.exchange
                && !exchange.may_go_on(&turn.facts)
                && let Some(refusal) = &exchange.refusal
            {
                return Told::Cut(refusal.clone());
            }
        }
        Told::Pass
    }

    /// Where the response with that id is; without one, the last.
    fn place(&self, id: Option<&str>) -> Option<usize> {
        match id {
            Some(id) => self
                .open
                .iter()
                .position(|turn| turn.id.as_deref() == Some(id)),
            None => self.open.len().checked_sub(1),
        }
    }

    /// Reads what a message says of a response, and ends it if that was the last.
    fn read(&mut self, place: usize, message: &[u8]) -> Told {
        let socket = self.socket;
        if let Some(turn) = self.open.get_mut(place) {
            turn.read(socket, message);
        }
        self.judge(place)
    }

    /// What becomes of a response by what was read of it.
    fn judge(&mut self, place: usize) -> Told {
        let Some(turn) = self.open.get_mut(place) else {
            return Told::Pass;
        };
        let Some(exchange) = &mut turn.exchange else {
            return Told::Pass;
        };
        if turn.facts.complete {
            if !self.socket.is_serial() || turn.facts.usage.is_reported() {
                self.end(place, End::Complete);
            }
            return Told::Pass;
        }
        if exchange.may_go_on(&turn.facts) {
            return Told::Pass;
        }
        let refusal = exchange.refusal.clone();
        self.end(place, End::Cut);
        refusal.map_or(Told::Pass, Told::Cut)
    }

    /// A response that the client asks for.
    fn asked(&self, request: RequestFacts) -> Result<Turn, Refusal> {
        match self.full() {
            Some(refusal) => Err(refusal),
            None => self.from.asked(request),
        }
    }

    /// Why no further response may begin, if there are too many.
    fn full(&self) -> Option<Refusal> {
        let is_full = self.waiting.len() + self.open.len() >= MOST;
        is_full.then(|| {
            let message =
                format!("Tollgate is full: {MOST} responses of this socket are under way.");
            Refusal::new(Reason::Overload, "overload", message)
        })
    }

    fn end_last(&mut self, end: End) {
        if let Some(place) = self.open.len().checked_sub(1) {
            self.end(place, end);
        }
    }

    /// A response has ended.
    fn end(&mut self, place: usize, end: End) {
        if place < self.open.len() {
            let turn = self.open.remove(place);
            if !turn.apart {
                self.session.ended(&turn.facts);
            }
            self.totals.add(turn.finish(end).as_ref());
        }
    }

    /// The socket has ended, and with it all of them. Returns what is to be said of them on its span.
    pub(super) fn close(&mut self, end: End) -> Vec<(&'static str, Value)> {
        let turns: Vec<Turn> = self.waiting.drain(..).chain(self.open.drain(..)).collect();
        for mut turn in turns {
            let end = if turn.facts.complete {
                End::Complete
            } else {
                end
            };
            if let (End::Cut, Some(exchange)) = (end, &mut turn.exchange) {
                if exchange.proxy.leaving.load(Relaxed) {
                    exchange.interrupted();
                }
                exchange.error_type.get_or_insert("socket_closed");
            }
            self.totals.add(turn.finish(end).as_ref());
        }
        self.totals.attributes()
    }
}

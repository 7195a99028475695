//! What the mock has to say in a socket: at once, or in the time that a response's settings give it.

use std::{collections::VecDeque, future, pin::Pin, time::Duration};

use tokio::time::Sleep;

use super::wire::{self, Opcode};
use crate::mock::{
    behaviour::{At, Behaviour, Ending},
    json::Json,
    play::Finale,
};

/// Messages on their way to the client.
pub(super) struct Outbox {
    /// What messages are sent as.
    opcode: Opcode,
    /// What goes before anything that is timed.
    now: VecDeque<Vec<u8>>,
    timed: VecDeque<(Duration, Item)>,
    timer: Option<Pin<Box<Sleep>>>,
    /// We have said that the socket closes; nothing follows.
    closed: bool,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// Frames.
    Bytes(Vec<u8>),
    /// The end of what is said: `Complete` in good order, else as the settings have it.
    End(Finale),
}

impl Outbox {
    pub(super) const fn new(opcode: Opcode) -> Self {
        Self {
            opcode,
            now: VecDeque::new(),
            timed: VecDeque::new(),
            timer: None,
            closed: false,
        }
    }

    /// Whether a response is under way.
    pub(super) fn is_busy(&self) -> bool {
        !self.timed.is_empty()
    }

    /// Whether all was said, our farewell too.
    pub(super) fn has_ended(&self) -> bool {
        self.closed && !self.is_busy()
    }

    /// Sends a frame at once.
    pub(super) fn frame(&mut self, frame: Vec<u8>) {
        if !self.closed {
            self.now.push_back(frame);
        }
    }

    /// Says something at once.
    pub(super) fn say(&mut self, message: &Json) {
        self.frame(wire::message(self.opcode, message.get().as_bytes(), None));
    }

    /// Says a response's messages as the settings have it, after those that are under way.
    pub(super) fn respond(&mut self, messages: &[Json], behaviour: &Behaviour) {
        let (ending, mut room) = match behaviour.ending {
            Some(Ending::Hang(at)) => (Some(Finale::Hang), room(at)),
            Some(Ending::Close(at)) => (Some(Finale::Close), room(at)),
            Some(Ending::Reset(at)) => (Some(Finale::Reset), room(at)),
            None => (None, usize::MAX),
        };
        let mut wait = behaviour.delay + behaviour.first;
        if self.closed {
            return;
        }
        for message in messages {
            let payload = message.get().as_bytes();
            let mut frames = wire::message(self.opcode, payload, behaviour.bytes.chunk);
            frames.truncate(room);
            room -= frames.len();
            self.timed.push_back((wait, Item::Bytes(frames)));
            wait = behaviour.gap;
        }
        if let Some(finale) = ending {
            self.timed.push_back((wait, Item::End(finale)));
        }
    }

    /// Says no more of what is under way. Returns how many messages of it are left unsaid.
    pub(super) fn cancel(&mut self) -> usize {
        self.timer = None;
        std::mem::take(&mut self.timed).len()
    }

    /// Closes the socket once all is said.
    pub(super) fn close(&mut self, code: u16, reason: &str) {
        self.end(wire::close(code, reason));
    }

    /// Says farewell to a client that did so.
    pub(super) fn answer_close(&mut self, payload: &[u8]) {
        if !self.closed {
            self.cancel();
        }
        self.end(wire::frame(
            Opcode::Close,
            payload.get(..2).unwrap_or_default(),
        ));
    }

    fn end(&mut self, close: Vec<u8>) {
        if !self.closed {
            self.closed = true;
            self.timed.push_back((Duration::ZERO, Item::Bytes(close)));
            let end = Item::End(Finale::Complete);
            self.timed.push_back((Duration::ZERO, end));
        }
    }

    /// Waits for what comes next. It may be given up at any time, and asked for again.
    pub(super) async fn next(&mut self) -> Item {
        if let Some(frame) = self.now.pop_front() {
            return Item::Bytes(frame);
        }
        let Some((wait, _)) = self.timed.front_mut() else {
            return future::pending().await;
        };
        if !wait.is_zero() {
            let wait = std::mem::take(wait);
            self.timer = Some(Box::pin(tokio::time::sleep(wait)));
        }
        if let Some(timer) = &mut self.timer {
            timer.await;
            self.timer = None;
        }
        match self.timed.pop_front() {
            Some((_, item)) => item,
            None => future::pending().await,
        }
    }
}

/// How many bytes come before a place.
fn room(at: At) -> usize {
    match at {
        At::Head => 0,
        At::Byte(count) => usize::try_from(count).unwrap_or(usize::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::json::object;

    #[tokio::test]
    async fn what_is_said_at_once_goes_before_what_has_its_time() {
        let mut out = Outbox::new(Opcode::Text);
        let settings = "chunk=4;truncate=9".parse().unwrap();
        out.respond(&[object! {"a": 1}, object! {"b": 2}], &settings);
        assert!(out.is_busy());
        out.say(&object! {});
        assert_eq!(out.next().await, Item::Bytes(b"\x81\x02{}".to_vec()));
        let cut = b"\x01\x04{\"a\"\x80\x03:".to_vec();
        assert_eq!(out.next().await, Item::Bytes(cut));
        assert_eq!(out.next().await, Item::Bytes(Vec::new()));
        assert_eq!(out.next().await, Item::End(Finale::Close));
        assert!(!out.is_busy());
    }

    #[tokio::test]
    async fn a_farewell_is_answered_with_its_code_and_ends_all() {
        let mut out = Outbox::new(Opcode::Text);
        out.respond(&[object! {"a": 1}], &Behaviour::default());
        out.answer_close(b"\x03\xe8bye");
        out.say(&object! {});
        let close = b"\x88\x02\x03\xe8".to_vec();
        assert_eq!(out.next().await, Item::Bytes(close));
        assert_eq!(out.next().await, Item::End(Finale::Complete));
    }
}

//! Responses that can be retrieved, cancelled, deleted and continued.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use http::{Method, StatusCode};
use parking_lot::Mutex;

use super::{
    behaviour::Newline,
    conversation::Turn,
    json::{Json, object},
    problem::Problem,
    reply::Payload,
};

/// A stored response, in each form in which it can be seen.
pub(super) struct Stored {
    /// What was said, answer included.
    pub(super) turns: Vec<Turn>,
    pub(super) running: Json,
    pub(super) cancelled: Json,
    pub(super) done: Json,
    pub(super) events: Vec<Bytes>,
    /// How many retrievals still find it running.
    pub(super) polls: u32,
    pub(super) background: bool,
}

/// The stored responses: the last [`Stores::MOST`]. An older one is dropped, counted, and not found.
#[derive(Default)]
pub(super) struct Stores(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    responses: HashMap<String, Stored>,
    order: VecDeque<String>,
    dropped: u64,
}

/// What is done with a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Retrieve,
    Cancel,
    Delete,
}

impl Deed {
    /// The deed and the response's id, from a path that ends in `/responses/{id}[/cancel]`.
    pub(super) fn of<'p>(method: &Method, path: &'p str) -> Option<(Self, &'p str)> {
        let (_, rest) = path.rsplit_once("/responses/")?;
        match (method.as_str(), rest.strip_suffix("/cancel")) {
            ("POST", Some(id)) => Some((Self::Cancel, id)),
            ("GET", None) => Some((Self::Retrieve, rest)),
            ("DELETE", None) => Some((Self::Delete, rest)),
            _ => None,
        }
        .filter(|(_, id)| !id.is_empty() && !id.contains('/'))
    }
}

impl Stores {
    const MOST: usize = 10_000;

    pub(super) fn put(&self, id: String, stored: Stored) {
        let mut kept = self.0.lock();
        kept.order.push_back(id.clone());
        kept.responses.insert(id, stored);
        if kept.order.len() > Self::MOST
            && let Some(oldest) = kept.order.pop_front()
            && kept.responses.remove(&oldest).is_some()
        {
            kept.dropped += 1;
        }
    }

    /// How many were dropped for want of room.
    pub(super) fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }

    /// What was said up to this response and in it.
    pub(super) fn turns(&self, id: &str) -> Option<Vec<Turn>> {
        self.0
            .lock()
            .responses
            .get(id)
            .map(|stored| stored.turns.clone())
    }

    /// Does what was asked. A query with `stream=true` retrieves the events after
    /// `starting_after`.
    pub(super) fn act(&self, deed: Deed, id: &str, query: &str) -> Result<Payload, Problem> {
        self.0.lock().act(deed, id, query)
    }
}

impl Kept {
    fn act(&mut self, deed: Deed, id: &str, query: &str) -> Result<Payload, Problem> {
        let Some(stored) = self.responses.get_mut(id) else {
            let message = format!("Response with id '{id}' not found.");
            return Err(Problem::new(StatusCode::NOT_FOUND, message));
        };
        match deed {
            Deed::Retrieve => Ok(stored.retrieve(query)),
            Deed::Cancel => stored.cancel(),
            Deed::Delete => {
                self.responses.remove(id);
                Ok(Payload::json(
                    &object! {"id": id, "object": "response", "deleted": true},
                ))
            },
        }
    }
}

impl Stored {
    fn retrieve(&mut self, query: &str) -> Payload {
        let value = |key| query.split('&').find_map(|pair| pair.strip_prefix(key));
        if value("stream=") == Some("true") {
            let after = value("starting_after=").and_then(|number| number.parse::<usize>().ok());
            let from = after.map_or(0, |number| number.saturating_add(1));
            let events = self.events.iter().skip(from).cloned();
            return Payload::Events(events.collect(), Newline::Lf);
        }
        if self.polls > 0 {
            self.polls -= 1;
            return Payload::json(&self.running);
        }
        Payload::json(&self.done)
    }

    fn cancel(&mut self) -> Result<Payload, Problem> {
        if !self.background {
            return Err(Problem::invalid("Cannot cancel a synchronous response."));
        }
        if self.polls > 0 {
            self.polls = 0;
            self.done = self.cancelled.clone();
        }
        Ok(Payload::json(&self.done))
    }
}

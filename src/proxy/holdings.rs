//! How much of everything bounded the proxy holds.

use super::{Proxy, attempts, later};

/// What the proxy holds now; each is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Calls under way, those included whose requests are not there yet.
    pub in_flight: usize,
    /// The most calls whose requests are there.
    pub most_in_flight: usize,
    /// Calls whose requests are not there yet.
    pub unfinished: usize,
    /// Bytes of request bodies held before they are sent, and of outputs that are kept.
    pub peeked_bytes: u64,
    /// The most of them; of what was said that waits, as many.
    pub most_bytes: u64,
    /// Bodies that were streamed since there was no room to hold them.
    pub peek_turned_away: u64,
    /// Bytes of outputs among the peeked ones: a stream that is cut says them again.
    pub output_bytes: u64,
    /// The most of them.
    pub most_output_bytes: u64,
    /// Outputs that were let go since there was no room to keep them.
    pub outputs_turned_away: u64,
    /// Bytes of what was said that wait for spans to hold them.
    pub content_bytes: u64,
    /// Pieces of what was said that are on no span since there was no room for them.
    pub content_turned_away: u64,
    /// Responses accepted for later whose end is awaited.
    pub awaited_responses: usize,
    /// The most of them.
    pub most_awaited: usize,
    /// Calls charged in full at once, since too many responses were awaited.
    pub awaited_turned_away: u64,
    /// Providers that are no longer asked for usage in streams.
    pub not_asked_for_usage: usize,
    /// Models whose tokens are estimated by what was learned of them.
    pub estimated_models: usize,
    /// Calls nothing was learned from, since there are too many models.
    pub estimated_left_out: u64,
    /// Calls that had more tokens than was estimated at most.
    pub estimates_missed: u64,
    /// Attempts of calls that further ones may follow.
    pub attempts: usize,
    /// The most of them.
    pub most_attempts: usize,
    /// Attempts forgotten before their time, so that what follows them is taken for a call of its own.
    pub attempts_forgotten: u64,
    /// Different requests that loop guards count.
    pub requests: usize,
    /// Requests forgotten before their time, so that they are counted anew.
    pub requests_forgotten: u64,
    /// Bytes in which loop guards keep what was done in conversations that providers keep.
    pub conversation_bytes: usize,
    /// Conversations forgotten before their time, so that loops in them are counted anew.
    pub conversations_forgotten: u64,
}

impl Proxy {
    /// What is held now.
    pub fn holdings(&self) -> Holdings {
        let live = self.live.load();
        let (requests, requests_forgotten) = live.guards.repeats();
        let conversations = live.guards.conversations();
        Holdings {
            in_flight: self.flights.now(),
            most_in_flight: live.places.flying,
            unfinished: self.flights.reading(),
            peeked_bytes: self.room.held(),
            output_bytes: self.outputs.held(),
            most_output_bytes: live.bounds.total / 2,
            outputs_turned_away: self.outputs.turned_away(),
            most_bytes: live.bounds.total,
            peek_turned_away: self.room.turned_away(),
            content_bytes: self.said.held(),
            content_turned_away: self.said.turned_away(),
            awaited_responses: self.later.len(),
            most_awaited: later::MAX_KEPT,
            awaited_turned_away: self.later.turned_away(),
            not_asked_for_usage: self.shy.len(),
            estimated_models: self.estimator.models(),
            estimated_left_out: self.estimator.left_out(),
            estimates_missed: self.estimator.missed(),
            attempts: self.attempts.known(),
            most_attempts: attempts::MAX_KNOWN,
            attempts_forgotten: self.attempts.forgotten(),
            requests,
            requests_forgotten,
            conversation_bytes: conversations.bytes(),
            conversations_forgotten: conversations.forgotten(),
        }
    }
}

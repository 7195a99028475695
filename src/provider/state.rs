//! Where a stream stands: what dialects need to remember from one event to the next.
//!
//! Bounded by [`StreamState::MAX_OPEN`] a list; what goes over it is counted and not kept.

use super::{bedrock::Vendor, dialect::Event, openai::Output, wire::template::Templates};
use crate::call::{
    facts::{ResponseFacts, ToolCall},
    text::Text,
};

/// What is known of a stream besides its facts. Only dialects read it.
#[derive(Clone, Debug, Default)]
pub struct StreamState {
    /// How many choices were asked for; 0 and 1 both mean one.
    pub choices: u32,
    /// A guard wants the steps that an answer adds to its conversation ([`ResponseFacts::steps`]).
    pub wants_steps: bool,
    /// What was sent of the output is to be kept, for the last event to say it again where the dialect
    /// needs that to end a stream that is cut (Responses).
    pub keeps_output: bool,
    /// That.
    pub(super) output: Option<Box<Output>>,
    /// How many of them have ended, where nothing else tells the last one (images).
    pub(super) done: u32,
    /// When the response was made, in the provider's own spelling (seconds since the epoch).
    pub(super) created: Option<u64>,
    /// The number of the last event (Responses).
    pub(super) sequence: Option<u64>,
    /// Input that is reported apart from what the cache held of it (Anthropic, Bedrock).
    pub(super) uncached_input: Option<u64>,
    /// In whose form it is, where there are several (Bedrock).
    pub(super) vendor: Option<Vendor>,
    /// Choices, output items or content blocks that have begun and not ended.
    pub(super) open: Vec<Open>,
    /// What events look like that bring nothing but text.
    pub(super) templates: Templates,
    /// One for each of the facts' finish reasons: its choice.
    finished: Vec<u64>,
    /// One for each of the facts' tool calls: its place in the response.
    calls: Vec<Place>,
    /// One for each of the facts' server tools: its position.
    server_calls: Vec<u64>,
    /// Positions of those that have a fee.
    paid_calls: Vec<u64>,
    left_out: u64,
}

/// Something that has begun and not ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Open {
    /// Its index in the response.
    pub(super) index: u64,
    /// What it is, in the dialect's word (Responses: the item's type).
    pub(super) kind: Box<str>,
    /// Its id, where it has one.
    pub(super) id: Option<Box<str>>,
    /// The call that it is, if it is one.
    pub(super) call: Option<ToolCall>,
}

/// Where in a response a tool call stands: choice and position.
pub(super) type Place = (u64, u64);

impl StreamState {
    /// The most that is kept of each thing.
    pub const MAX_OPEN: usize = 128;

    /// How many choices, blocks, calls and reasons were left out because there were too many.
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// What was sent of the output so far, where it is kept.
    pub(super) fn output(&mut self) -> Option<&mut Output> {
        self.keeps_output
            .then(|| &mut **self.output.get_or_insert_default())
    }

    /// Something was not read that may be part of the output.
    pub fn lose_output(&mut self) {
        if let Some(output) = self.output() {
            output.lose();
        }
    }

    /// This event was too large to read whole: what it brings of the output is lost, if it does.
    pub fn lose_output_of(&mut self, event: &Event<'_>) {
        if self.keeps_output && !Output::is_none_of(&event.data) {
            self.lose_output();
        }
    }

    /// Whether the output was to be kept and was not, or not all of it: something was not read or cannot
    /// be said again, or it was too large.
    pub fn has_lost_output(&self) -> bool {
        self.output.as_ref().is_some_and(|output| output.lacks())
    }

    /// How much is kept of the output, in bytes.
    pub fn output_bytes(&self) -> usize {
        self.output.as_ref().map_or(0, |output| output.bytes())
    }

    /// The latest event that was read is not sent.
    pub fn take_back(&mut self) {
        if let Some(output) = self.output() {
            output.take_back();
        }
    }

    /// Notes that something has begun. Whether it was not known already.
    pub(super) fn begin(&mut self, index: u64) -> bool {
        if self.open.iter().any(|open| open.index == index) || self.finished.contains(&index) {
            return false;
        }
        self.begin_with(Open {
            index,
            ..Open::default()
        });
        true
    }

    /// Notes that something has begun, in place of whatever had its index.
    pub(super) fn begin_with(&mut self, begun: Open) {
        self.end(begun.index);
        if self.open.len() < Self::MAX_OPEN {
            self.open.push(begun);
        } else {
            self.left_out += 1;
        }
    }

    /// Notes that something has ended.
    pub(super) fn end(&mut self, index: u64) {
        self.open.retain(|open| open.index != index);
    }

    /// Notes why a choice ended; reasons stand in the order of their choices.
    pub(super) fn finish(&mut self, facts: &mut ResponseFacts, choice: u64, reason: &str) {
        self.end(choice);
        match self.finished.binary_search(&choice) {
            Ok(at) => {
                if let Some(known) = facts.finish_reasons.get_mut(at) {
                    *known = Box::from(reason);
                }
            },
            Err(at) if self.finished.len() < Self::MAX_OPEN => {
                self.finished.insert(at, choice);
                let at = at.min(facts.finish_reasons.len());
                facts.finish_reasons.insert(at, Box::from(reason));
            },
            Err(_) => self.left_out += 1,
        }
    }

    /// Notes a tool call; pieces of one that arrive apart (same place) are put together.
    /// Its name counts as text that the model wrote.
    pub(super) fn call(
        &mut self,
        facts: &mut ResponseFacts,
        place: Place,
        id: Option<Box<str>>,
        name: Option<Box<str>>,
    ) {
        let written = Text::of(name.as_deref().unwrap_or_default().as_bytes());
        let known = self.calls.iter().position(|known| *known == place);
        if let Some(call) = known.and_then(|at| facts.tool_calls.get_mut(at)) {
            call.id = call.id.take().or(id);
            if call.name.is_empty() {
                facts.output_bytes += written;
                call.name = name.unwrap_or_default();
            }
        } else if self.calls.len() < Self::MAX_OPEN {
            facts.output_bytes += written;
            self.calls.push(place);
            facts.tool_calls.push(ToolCall {
                id,
                name: name.unwrap_or_default(),
            });
        } else {
            self.left_out += 1;
        }
    }

    /// The position of the newest call of a choice.
    pub(super) fn last_call(&self, choice: u64) -> Option<u64> {
        let of_choice = self.calls.iter().filter(|(known, _)| *known == choice);
        of_choice.map(|(_, position)| *position).max()
    }

    /// Notes a call that the provider ran itself, once for each `position` in the response.
    pub(super) fn server_call(&mut self, facts: &mut ResponseFacts, position: u64, kind: Box<str>) {
        if self.server_calls.contains(&position) {
            return;
        }
        if self.server_calls.len() < Self::MAX_OPEN {
            self.server_calls.push(position);
            facts.server_tools.push(kind);
        } else {
            self.left_out += 1;
        }
    }

    /// Notes that the call at `position` has a fee. Whether it was not known already.
    pub(super) fn pay(&mut self, position: u64) -> bool {
        if self.paid_calls.contains(&position) {
            return false;
        }
        if self.paid_calls.len() < Self::MAX_OPEN {
            self.paid_calls.push(position);
            return true;
        }
        self.left_out += 1;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_in_the_order_of_their_choices_and_the_last_word_holds() {
        let (mut state, mut facts) = (StreamState::default(), ResponseFacts::default());
        for (choice, reason) in [(2, "stop"), (0, "length"), (1, "stop"), (2, "tool_calls")] {
            state.begin(choice);
            state.finish(&mut facts, choice, reason);
        }
        let reasons: Vec<_> = facts.finish_reasons.iter().map(|r| &**r).collect();
        assert_eq!(reasons, ["length", "stop", "tool_calls"]);
        assert!(state.open.is_empty());
        assert!(
            !state.begin(2),
            "a choice that has ended does not begin again"
        );
    }

    #[test]
    fn every_list_is_bounded_and_what_is_left_out_is_counted() {
        let (mut state, mut facts) = (StreamState::default(), ResponseFacts::default());
        for n in 0..1000 {
            state.begin(n);
            state.call(&mut facts, (0, n), None, None);
            state.server_call(&mut facts, n, Box::from("search"));
        }
        assert_eq!(state.open.len(), StreamState::MAX_OPEN);
        assert_eq!(facts.tool_calls.len(), StreamState::MAX_OPEN);
        assert_eq!(facts.server_tools.len(), StreamState::MAX_OPEN);
        assert_eq!(state.left_out(), 3 * 872);
    }

    #[test]
    fn a_call_that_arrives_in_pieces_is_one_call() {
        let (mut state, mut facts) = (StreamState::default(), ResponseFacts::default());
        state.call(&mut facts, (0, 0), Some(Box::from("call_1")), None);
        state.call(&mut facts, (0, 0), None, Some(Box::from("look_up")));
        state.call(
            &mut facts,
            (0, 0),
            Some(Box::from("other")),
            Some(Box::from("x")),
        );
        assert_eq!(
            facts.tool_calls,
            [ToolCall {
                id: Some(Box::from("call_1")),
                name: Box::from("look_up")
            }]
        );
    }
}

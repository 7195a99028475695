//! What a conversation has done so far: the calls of its tools with their results, and what was said
//! to it in between. Of what they consist of only hashes are kept.

use std::collections::VecDeque;

/// The most steps that are kept of a conversation: the last ones.
pub const MAX_STEPS: usize = 128;

/// One step of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The tool that was called; `None`: a message of the user.
    pub tool: Option<Box<str>>,
    /// A hash of the tool's name and arguments, or of the message.
    pub what: u64,
    /// A hash of the call's id, where it has one.
    pub id: Option<u64>,
    /// A hash of the call's result, as soon as there is one.
    pub result: Option<u64>,
}

impl Step {
    /// Whether it did the same, and the same came of it.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.what, self.result) == (other.what, other.result)
    }
}

/// The last steps of a conversation, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps(VecDeque<Step>);

impl Steps {
    /// Adds one; of too many, the first is let go.
    pub fn push(&mut self, step: Step) {
        if self.0.len() >= MAX_STEPS {
            self.0.pop_front();
        }
        self.0.push_back(step);
    }

    /// What came of a call: the one with that id, else the first that has no result yet, of that
    /// tool if it is named. Of a call that is not there nothing is known.
    pub fn answer(&mut self, id: Option<u64>, tool: Option<&str>, result: u64) {
        let is_open = |step: &&mut Step| {
            let is_named = |tool| step.tool.as_deref() == Some(tool);
            step.tool.is_some() && step.result.is_none() && tool.is_none_or(is_named)
        };
        let found = match id {
            Some(_) => self.0.iter_mut().rev().find(|step| step.id == id),
            None => self.0.iter_mut().find(is_open),
        };
        if let Some(step) = found {
            step.result = Some(result);
        }
    }

    /// They, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Step> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(tool: &str, what: u64, id: Option<u64>) -> Step {
        Step {
            tool: Some(tool.into()),
            what,
            id,
            result: None,
        }
    }

    #[test]
    fn a_result_goes_to_the_call_that_it_names_else_to_the_first_open_one() {
        let mut steps = Steps::default();
        steps.push(call("a", 1, Some(7)));
        steps.push(call("b", 2, None));
        steps.push(call("a", 3, None));
        steps.answer(Some(7), None, 10);
        steps.answer(None, Some("a"), 30);
        steps.answer(None, None, 20);
        steps.answer(Some(8), None, 40);
        let results: Vec<_> = steps.iter().map(|step| step.result).collect();
        assert_eq!(results, [Some(10), Some(20), Some(30)]);
    }

    #[test]
    fn the_last_steps_are_kept() {
        let mut steps = Steps::default();
        for what in 0..=MAX_STEPS as u64 {
            steps.push(call("a", what, None));
        }
        assert_eq!(steps.len(), MAX_STEPS);
        assert_eq!(steps.iter().next().map(|step| step.what), Some(1));
    }
}

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

    /// Adds those of an answer that is read a second time: what it called is known by its id.
    pub fn add_new(&mut self, steps: Self) {
        for step in steps.0 {
            let is_known = |known: &Step| step.id.is_some() && known.id == step.id;
            if !self.0.iter().any(is_known) {
                self.push(step);
            }
        }
    }

    /// The memory that they take, in bytes.
    pub fn bytes(&self) -> usize {
        let names = self.0.iter().filter_map(|step| step.tool.as_deref());
        self.0.len() * size_of::<Step>() + names.map(str::len).sum::<usize>()
    }

    /// They, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Step> {
        self.0.iter()
    }

    /// Gives back the room that is not used.
    pub fn shrink_to_fit(&mut self) {
        self.0.shrink_to_fit();
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
    fn an_answer_that_is_read_again_adds_nothing() {
        let answer = || {
            let mut answer = Steps::default();
            answer.push(call("a", 1, Some(7)));
            answer.push(call("b", 2, Some(8)));
            answer
        };
        let mut steps = Steps::default();
        steps.push(call("a", 1, Some(7)));
        steps.answer(Some(7), None, 10);
        steps.add_new(answer());
        steps.add_new(answer());
        let found: Vec<_> = steps.iter().map(|step| (step.what, step.result)).collect();
        assert_eq!(found, [(1, Some(10)), (2, None)]);
        assert_eq!(steps.bytes(), 2 * size_of::<Step>() + 2);
        // Without ids nobody can tell.
        let mut nameless = Steps::default();
        nameless.push(call("a", 1, None));
        steps.add_new(nameless.clone());
        steps.add_new(nameless);
        assert_eq!(steps.len(), 4);
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

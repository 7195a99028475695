//! What was asked, the same for every dialect: who speaks, what was said, which tools there are.

use serde_json::Value;

/// A request for a model's answer, as far as the mock cares.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Conversation {
    /// The model asked for, without settings.
    pub(super) model: String,
    /// System and developer messages, joined by line ends.
    pub(super) system: String,
    /// Everything else that was said, in order.
    pub(super) turns: Vec<Turn>,
    /// The tools offered.
    pub(super) tools: Vec<Tool>,
    /// Whether a tool must be called.
    pub(super) choice: Choice,
    /// The JSON schema that the answer has to follow, if any.
    pub(super) schema: Option<Value>,
    /// Most output tokens; absent: no limit.
    pub(super) max_tokens: Option<u64>,
    /// How many answers; at least 1.
    pub(super) answers: usize,
    /// Whether the answer is a stream.
    pub(super) stream: bool,
}

/// One thing that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// By the user.
    User(String),
    /// By the model.
    Assistant(String),
    /// The model called a tool.
    Call {
        /// Joins the call to its result. The tool's name where the dialect has no ids.
        id: String,
        /// The tool.
        name: String,
        /// JSON text.
        arguments: String,
    },
    /// A tool's result.
    Result {
        /// The call's id.
        id: String,
        /// The tool, found by the id; empty if there is no such call.
        name: String,
        /// What it gave.
        text: String,
    },
}

/// A tool that the model may call.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tool {
    /// Its name.
    pub(super) name: String,
    /// The JSON schema of its arguments; `null` if there is none.
    pub(super) schema: Value,
}

/// Whether a tool must be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Choice {
    /// As the model likes.
    #[default]
    Auto,
    /// Never.
    None,
    /// Some tool.
    Required,
    /// This tool.
    Named(String),
}

impl Conversation {
    /// The last thing that the user said; empty if nothing.
    pub(super) fn last_user(&self) -> &str {
        let said = self.turns.iter().rev().find_map(|turn| match turn {
            Turn::User(text) => Some(text.as_str()),
            _ => None,
        });
        said.unwrap_or_default()
    }

    /// Results that came since the user last spoke, oldest first: the tool's name and its text.
    pub(super) fn results(&self) -> Vec<(&str, &str)> {
        let mut results = Vec::new();
        for turn in &self.turns {
            match turn {
                Turn::User(_) => results.clear(),
                Turn::Result { name, text, .. } => results.push((name.as_str(), text.as_str())),
                Turn::Assistant(_) | Turn::Call { .. } => {},
            }
        }
        results
    }

    /// Whether the last thing said is a tool's result.
    pub(super) fn awaits_answer_to_result(&self) -> bool {
        matches!(self.turns.last(), Some(Turn::Result { .. }))
    }

    /// Input tokens: [`tokens`] of everything said, system messages included, roles and tools not.
    pub(super) fn input_tokens(&self) -> u64 {
        let said = self.turns.iter().map(|turn| match turn {
            Turn::User(text) | Turn::Assistant(text) | Turn::Result { text, .. } => text.len(),
            Turn::Call {
                name, arguments, ..
            } => name.len() + arguments.len(),
        });
        tokens(self.system.len() + said.sum::<usize>())
    }

    /// Adds to the system messages.
    pub(super) fn add_system(&mut self, text: &str) {
        if !self.system.is_empty() {
            self.system.push('\n');
        }
        self.system.push_str(text);
    }

    /// Adds a tool's result, finding the tool's name by the call's id.
    pub(super) fn add_result(&mut self, id: &str, text: String) {
        let called = self.turns.iter().rev().find_map(|turn| match turn {
            Turn::Call { id: of, name, .. } if of == id => Some(name.clone()),
            _ => None,
        });
        self.turns.push(Turn::Result {
            id: id.to_owned(),
            name: called.unwrap_or_default(),
            text,
        });
    }
}

/// The mock's tokenizer: four bytes are a token, rounded up. So every figure can be worked out by
/// hand from the text.
pub fn tokens(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(4)).unwrap_or(u64::MAX)
}

/// The text of message content: a string, or parts that have a `text`. Other parts (images, files)
/// count as nothing.
pub(super) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(text_of).collect(),
        Value::Object(part) => ["text", "output", "content"]
            .iter()
            .find_map(|key| part.get(*key))
            .map(text_of)
            .unwrap_or_default(),
        Value::Null | Value::Bool(_) | Value::Number(_) => String::new(),
    }
}

/// The string at `key`, or nothing.
pub(super) fn str_at<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The array at `key`, or nothing.
pub(super) fn list_at<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    let list = value.get(key).and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_knows_its_tool_and_is_forgotten_when_the_user_speaks_again() {
        let mut conversation = Conversation::default();
        conversation.turns.push(Turn::User("Weather?".into()));
        conversation.turns.push(Turn::Call {
            id: "call_1".into(),
            name: "weather".into(),
            arguments: "{}".into(),
        });
        conversation.add_result("call_1", "sunny".into());
        assert_eq!(conversation.results(), [("weather", "sunny")]);
        assert!(conversation.awaits_answer_to_result());
        conversation.turns.push(Turn::User("Thanks".into()));
        assert!(conversation.results().is_empty());
        assert_eq!(conversation.input_tokens(), tokens(8 + 7 + 2 + 5 + 6));
    }

    #[test]
    fn text_is_found_in_strings_and_in_parts() {
        let parts = serde_json::json!([{"type": "text", "text": "a"}, {"type": "image"}, "b"]);
        assert_eq!(text_of(&parts), "ab");
    }
}

//! What was said in a call: its messages, in the form of OpenTelemetry's GenAI conventions (v1.41).
//!
//! On the way of a call only bytes are kept, behind [`Content`]; whoever wants the messages has them
//! read elsewhere. None of this has a `Debug` that shows it.

use std::fmt;

use serde_json::Value;

use super::json_path::JsonPath;

/// Attribute: what the call was instructed with apart from its messages, as parts.
pub const SYSTEM: &str = "gen_ai.system_instructions";

/// Attribute: what was said before, as messages.
pub const INPUT: &str = "gen_ai.input.messages";

/// Attribute: what the model said, one message for each choice.
pub const OUTPUT: &str = "gen_ai.output.messages";

/// Attribute: the tools that the model could call.
pub const TOOLS: &str = "gen_ai.tool.definitions";

/// Attribute: what a tool was given.
pub const ARGUMENTS: &str = "gen_ai.tool.call.arguments";

/// Attribute: what came of a tool.
pub const RESULT: &str = "gen_ai.tool.call.result";

/// Attributes: all that hold something that was said.
pub const SAID: [&str; 6] = [SYSTEM, INPUT, OUTPUT, TOOLS, ARGUMENTS, RESULT];

/// Attribute: how much of the content is there: `redacted` or `full`.
pub const CONTENT: &str = "tollgate.content";

/// Attribute: `true` where something of the content is missing, since it was too large to keep, there
/// was no room, or it could not be read.
pub const CUT: &str = "tollgate.content.cut";

/// The messages of a call. Each is an object as `gen-ai-input-messages.json` and its kin have it: a
/// `role` and `parts`, of which each has a `type`.
#[derive(Clone, Default, PartialEq)]
pub struct Messages {
    /// Parts.
    pub system: Vec<Value>,
    /// Messages.
    pub input: Vec<Value>,
    /// Messages, each with a `finish_reason`.
    pub output: Vec<Value>,
    /// Each with a `type` and mostly a `name`.
    pub tools: Vec<Value>,
    /// What a tool was given, where an agent tells of one.
    pub arguments: Option<Value>,
    /// What came of it.
    pub result: Option<Value>,
    /// Something is missing.
    pub cut: bool,
}

impl Messages {
    /// They, each list by the name of its attribute.
    pub fn lists(&self) -> [(&'static str, &[Value]); 4] {
        [
            (SYSTEM, &self.system),
            (INPUT, &self.input),
            (OUTPUT, &self.output),
            (TOOLS, &self.tools),
        ]
    }

    /// Everything in them, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        let Self {
            system,
            input,
            output,
            tools,
            arguments,
            result,
            ..
        } = self;
        let lists = [system, input, output, tools].into_iter().flatten();
        lists.chain([arguments, result].into_iter().flatten())
    }

    /// The lists, to be changed.
    pub fn lists_mut(&mut self) -> [&mut Vec<Value>; 4] {
        [
            &mut self.system,
            &mut self.input,
            &mut self.output,
            &mut self.tools,
        ]
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages")
            .field("system", &self.system.len())
            .field("input", &self.input.len())
            .field("output", &self.output.len())
            .field("tools", &self.tools.len())
            .field("arguments", &self.arguments.is_some())
            .field("result", &self.result.is_some())
            .field("cut", &self.cut)
            .finish()
    }
}

/// What of a span an agent tells.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// JSON, or plain words.
    pub parts: Vec<(Part, Box<str>)>,
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Told")
            .field("parts", &self.parts.len())
            .finish()
    }
}

/// What something that was said is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Instructions.
    System,
    /// What was said before.
    Input,
    /// What came of it.
    Output,
    /// The tools that could be called.
    Tools,
    /// What a tool was given.
    Arguments,
    /// What came of a tool.
    Result,
}

/// What was kept of a call's request and response.
pub trait Content: Send + Sync {
    /// Reads the messages in it. Where a document has something at one of the `hidden` places, that is
    /// not read; a document that cannot be searched for them is not read at all.
    fn read(&self, hidden: &[JsonPath]) -> Messages;

    /// How much is kept, in bytes.
    fn size(&self) -> usize;
}

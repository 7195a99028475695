//! What an agent reports of a span of its own: a tool that it ran, a hand-off, a whole run.

use super::span::{Span, Value};
use crate::base::{
    clock::Timestamp,
    id::{RequestId, SpanId, TraceId},
};

/// The part of a span that only reported ones have.
#[derive(Clone, Debug, PartialEq)]
pub struct Reported {
    /// In which format it came.
    pub by: Format,
    /// What it is called.
    pub name: Box<str>,
    /// Its attributes, by full name.
    pub attributes: Vec<(Box<str>, Value)>,
}

/// The formats in which agents report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The OpenAI Agents SDK's.
    Agents,
    /// OTLP.
    Otlp,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::Agents, Self::Otlp];

    /// The word for it on spans.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agents => "openai-agents",
            Self::Otlp => "otlp",
        }
    }
}

/// Attribute: the agent's name.
pub const AGENT_NAME: &str = "gen_ai.agent.name";
/// Attribute: the tool's name.
pub const TOOL_NAME: &str = "gen_ai.tool.name";
/// Attribute: the id of the model's call of the tool.
pub const TOOL_CALL_ID: &str = "gen_ai.tool.call.id";
/// Attribute: the tools that an agent has.
pub const TOOLS: &str = "tollgate.agent.tools";
/// Attribute: the agents that an agent can hand over to.
pub const HANDOFFS: &str = "tollgate.agent.handoffs";
/// Attribute: the type of an agent's last answer.
pub const OUTPUT_TYPE: &str = "tollgate.agent.output_type";
/// Attribute: who hands over.
pub const FROM_AGENT: &str = "tollgate.handoff.from";
/// Attribute: who takes over.
pub const TO_AGENT: &str = "tollgate.handoff.to";
/// Attribute: the rule's name.
pub const GUARDRAIL: &str = "tollgate.guardrail.name";
/// Attribute: whether the rule has stopped the run.
pub const TRIGGERED: &str = "tollgate.guardrail.triggered";
/// Attribute: the server of a tool (Model Context Protocol).
pub const MCP_SERVER: &str = "tollgate.mcp.server";
/// Attribute: the type that the span had in the format that it came in.
pub const REPORTED_TYPE: &str = "tollgate.reported.type";
/// Attribute: input tokens as the agent counted them; never billed.
pub const REPORTED_INPUT: &str = "tollgate.reported.input_tokens";
/// Attribute: output tokens as the agent counted them; never billed.
pub const REPORTED_OUTPUT: &str = "tollgate.reported.output_tokens";
/// Attribute: the ids of the tool calls that the model asked for, as the agent saw them.
pub const REPORTED_CALLS: &str = "tollgate.reported.tool_calls";
/// Attribute: the number of a turn in its run, from 1 on.
pub const TURN: &str = "tollgate.turn";

impl Reported {
    /// The value of an attribute.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let mut attributes = self.attributes.iter();
        attributes.find_map(|(found, value)| (**found == *name).then_some(value))
    }

    /// The number that an attribute has.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.get(name) {
            Some(Value::Int(number)) => Some(*number),
            _ => None,
        }
    }

    /// The text that an attribute has.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Adds an attribute, if there is a value.
    pub fn put(&mut self, name: &str, value: Option<Value>) {
        let value = value.map(|value| (Box::from(name), value));
        self.attributes.extend(value);
    }
}

impl Span {
    /// A span that an agent reports, with everything empty that can be.
    pub fn reported(
        by: Format,
        (trace_id, span_id): (TraceId, SpanId),
        name: &str,
        start: Timestamp,
    ) -> Self {
        Self {
            trace_id,
            span_id,
            request_id: RequestId::NONE,
            reported: Some(Box::new(Reported {
                by,
                name: Box::from(name),
                attributes: Vec::new(),
            })),
            ..Self::begun(start)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{brief::Brief, outcome::Kind},
        *,
    };

    #[test]
    fn what_is_no_call_says_nothing_of_calls() {
        let ids = (TraceId::from_bytes([1; 16]), SpanId::from_bytes([2; 8]));
        let start = Timestamp::from_secs(1_795_328_714);
        let mut span = Span::reported(Format::Agents, ids, "execute_tool \"a\"", start);
        span.kind = Kind::Tool;
        let reported = span.reported.as_mut().unwrap();
        reported.put(TOOL_NAME, Some(Value::Text("\"a\"".into())));
        reported.put(TURN, Some(Value::Int(2)));
        reported.put(TOOLS, None);
        assert_eq!(reported.text(TOOL_NAME), Some("\"a\""));
        assert_eq!(reported.number(TURN), Some(2));
        let json: serde_json::Value = serde_json::from_str(&span.to_json()).unwrap();
        assert_eq!(json["operation_name"], "execute_tool \"a\"");
        assert_eq!(json["kind"], "tool");
        assert_eq!(
            json["attributes"],
            serde_json::json!({
                "tollgate.reported.by": "openai-agents", TOOL_NAME: "\"a\"", TURN: 2,
            })
        );
        let brief = Brief::from_json(&span.to_json()).unwrap();
        assert_eq!(brief, Brief::from(&span));
        assert_eq!(brief.request_id, None);
    }
}

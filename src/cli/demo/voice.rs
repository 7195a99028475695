//! How agents talk to models: each provider's own words for the same few things.

use serde_json::{Value, json};

use super::cast::{Agent, Tool};

/// A provider's API, and whether it is used as a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    /// `OpenAI`'s chat completions.
    Chat,
    /// The same, streamed.
    ChatStream,
    /// `OpenAI`'s Responses.
    Responses,
    /// Anthropic's messages.
    Messages,
    /// Google's `streamGenerateContent`.
    Gemini,
}

/// A tool that the model wants called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Called {
    /// Joins it to its result; the name where the provider has no ids.
    pub(super) id: String,
    pub(super) name: String,
}

/// What the model said.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Turn {
    /// To be put into the conversation.
    pub(super) items: Vec<Value>,
    pub(super) text: String,
    pub(super) calls: Vec<Called>,
}

/// Room enough for everything that is said here.
const MOST_TOKENS: u32 = 1_000;

impl Voice {
    /// Where `model` is asked.
    pub(super) fn path(self, model: &str) -> String {
        match self {
            Self::Chat | Self::ChatStream => "/v1/chat/completions".to_owned(),
            Self::Responses => "/v1/responses".to_owned(),
            Self::Messages => "/v1/messages".to_owned(),
            Self::Gemini => format!("/v1beta/models/{model}:streamGenerateContent?alt=sse"),
        }
    }

    /// A user's message.
    pub(super) fn user(self, text: &str) -> Value {
        match self {
            Self::Gemini => json!({"role": "user", "parts": [{"text": text}]}),
            _ => json!({"role": "user", "content": text}),
        }
    }

    /// The request, for the conversation so far.
    pub(super) fn request(self, agent: &Agent, conversation: &[Value]) -> Value {
        let tools: Vec<_> = agent.tools.iter().map(|tool| self.tool(tool)).collect();
        let (model, system) = (agent.model, agent.instructions);
        match self {
            Self::Chat | Self::ChatStream => {
                let mut messages = vec![json!({"role": "system", "content": system})];
                messages.extend_from_slice(conversation);
                let mut body = json!({"model": model, "messages": messages});
                if let Some(body) = body.as_object_mut() {
                    if !tools.is_empty() {
                        body.insert("tools".to_owned(), tools.into());
                    }
                    if self == Self::ChatStream {
                        body.insert("stream".to_owned(), true.into());
                    }
                }
                body
            },
            Self::Responses => json!({
                "model": model, "instructions": system, "input": conversation, "tools": tools,
                "max_output_tokens": MOST_TOKENS,
            }),
            Self::Messages => json!({
                "model": model, "system": system, "messages": conversation, "tools": tools,
                "max_tokens": MOST_TOKENS,
            }),
            Self::Gemini => json!({
                "systemInstruction": {"parts": [{"text": system}]},
                "contents": conversation,
                "generationConfig": {"maxOutputTokens": MOST_TOKENS},
            }),
        }
    }

    fn tool(self, tool: &Tool) -> Value {
        let schema = json!({"type": "object", "properties": {"query": {"type": "string"}}});
        let (name, about) = (tool.name, tool.about);
        match self {
            Self::Chat | Self::ChatStream => json!({
                "type": "function",
                "function": {"name": name, "description": about, "parameters": schema},
            }),
            Self::Responses => json!({
                "type": "function", "name": name, "description": about, "parameters": schema,
            }),
            Self::Messages => json!({"name": name, "description": about, "input_schema": schema}),
            Self::Gemini => json!({"name": name, "description": about}),
        }
    }

    /// What the model said; what is not understood is left out.
    pub(super) fn read(self, body: &[u8]) -> Turn {
        let whole = || serde_json::from_slice(body).unwrap_or_default();
        match self {
            Self::Chat => chat(&whole()),
            Self::ChatStream => chat_stream(body),
            Self::Responses => responses(&whole()),
            Self::Messages => messages(&whole()),
            Self::Gemini => gemini(body),
        }
    }

    /// What tools gave, as it goes into the conversation.
    pub(super) fn results(self, results: &[(Called, &str)]) -> Vec<Value> {
        let each = results.iter();
        match self {
            Self::Chat | Self::ChatStream => each
                .map(|(called, gave)| {
                    json!({"role": "tool", "tool_call_id": called.id, "content": gave})
                })
                .collect(),
            Self::Responses => each
                .map(|(called, gave)| {
                    json!({"type": "function_call_output", "call_id": called.id, "output": gave})
                })
                .collect(),
            Self::Messages => {
                let blocks: Vec<_> = each
                    .map(|(called, gave)| {
                        json!({"type": "tool_result", "tool_use_id": called.id, "content": gave})
                    })
                    .collect();
                vec![json!({"role": "user", "content": blocks})]
            },
            Self::Gemini => {
                let parts: Vec<_> = each
                    .map(|(called, gave)| {
                        json!({"functionResponse": {
                            "name": called.name, "response": {"result": gave},
                        }})
                    })
                    .collect();
                vec![json!({"role": "user", "parts": parts})]
            },
        }
    }
}

fn chat(body: &Value) -> Turn {
    message(at(body, "/choices/0/message"))
}

fn message(message: &Value) -> Turn {
    let calls = list(at(message, "/tool_calls")).iter();
    Turn {
        items: vec![message.clone()],
        text: text(at(message, "/content")),
        calls: calls
            .map(|call| called(at(call, "/id"), at(call, "/function/name")))
            .collect(),
    }
}

/// Deltas put together: text by its pieces, calls by their places.
fn chat_stream(body: &[u8]) -> Turn {
    let mut said = String::new();
    let mut calls: Vec<Value> = Vec::new();
    for event in events(body) {
        let delta = at(&event, "/choices/0/delta");
        said.push_str(&text(at(delta, "/content")));
        for part in list(at(delta, "/tool_calls")) {
            let arguments = text(at(part, "/function/arguments"));
            match calls.last_mut() {
                Some(call) if at(call, "/index") == at(part, "/index") => {
                    if let Some(Value::String(all)) = call.pointer_mut("/function/arguments") {
                        all.push_str(&arguments);
                    }
                },
                _ => calls.push(part.clone()),
            }
        }
    }
    let whole = if calls.is_empty() {
        json!({"role": "assistant", "content": said})
    } else {
        json!({"role": "assistant", "content": said, "tool_calls": calls})
    };
    message(&whole)
}

fn responses(body: &Value) -> Turn {
    let items = list(at(body, "/output"));
    let texts = items.iter().flat_map(|item| list(at(item, "/content")));
    let calls = items
        .iter()
        .filter(|item| *at(item, "/type") == "function_call");
    Turn {
        items: items.to_vec(),
        text: texts.map(|part| text(at(part, "/text"))).collect(),
        calls: calls
            .map(|item| called(at(item, "/call_id"), at(item, "/name")))
            .collect(),
    }
}

fn messages(body: &Value) -> Turn {
    let blocks = list(at(body, "/content"));
    let calls = blocks
        .iter()
        .filter(|block| *at(block, "/type") == "tool_use");
    Turn {
        items: vec![json!({"role": "assistant", "content": blocks})],
        text: blocks
            .iter()
            .map(|block| text(at(block, "/text")))
            .collect(),
        calls: calls
            .map(|block| called(at(block, "/id"), at(block, "/name")))
            .collect(),
    }
}

fn gemini(body: &[u8]) -> Turn {
    let events = events(body);
    let parts = events
        .iter()
        .flat_map(|event| list(at(event, "/candidates/0/content/parts")));
    let parts: Vec<_> = parts.cloned().collect();
    let calls = parts.iter().map(|part| at(part, "/functionCall/name"));
    Turn {
        text: parts.iter().map(|part| text(at(part, "/text"))).collect(),
        calls: calls
            .filter(|name| name.is_string())
            .map(|name| called(name, name))
            .collect(),
        items: vec![json!({"role": "model", "parts": parts})],
    }
}

/// The JSON of each event of a stream.
pub(super) fn events(body: &[u8]) -> Vec<Value> {
    let body = String::from_utf8_lossy(body);
    let data = body.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter_map(|data| serde_json::from_str(data).ok())
        .collect()
}

fn called(id: &Value, name: &Value) -> Called {
    Called {
        id: text(id),
        name: text(name),
    }
}

/// What is at a path; null if there is nothing.
pub(super) fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    value.pointer(path).unwrap_or(&Value::Null)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streamed_message_is_put_together() {
        let body = br#"data: {"choices":[{"delta":{"role":"assistant","content":"Let "}}]}

data: {"choices":[{"delta":{"content":"me"}}]}

data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"one","arguments":"{\"q"}}]}}]}

data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\":1}"}}]}}]}

data: {"choices":[{"delta":{"tool_calls":[{"index":1,"id":"b","function":{"name":"two","arguments":"{}"}}]}}]}

data: {"choices":[],"usage":{"prompt_tokens":1}}

data: [DONE]

"#;
        let turn = Voice::ChatStream.read(body);
        assert_eq!(turn.text, "Let me");
        let names: Vec<_> = turn.calls.iter().map(|call| &*call.name).collect();
        assert_eq!(names, ["one", "two"]);
        let call = &turn.items[0]["tool_calls"][0];
        assert_eq!(call["function"]["arguments"], r#"{"q":1}"#);
    }

    #[test]
    fn what_is_not_understood_says_nothing() {
        for voice in [
            Voice::Chat,
            Voice::ChatStream,
            Voice::Responses,
            Voice::Messages,
            Voice::Gemini,
        ] {
            let turn = voice.read(b"<html>");
            assert!(turn.text.is_empty() && turn.calls.is_empty(), "{voice:?}");
        }
    }
}

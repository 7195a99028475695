//! Amazon Bedrock: Converse, and `InvokeModel` with the bodies of Anthropic and of Amazon's Titan;
//! streams as AWS event streams.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, value::RawValue};

use super::{
    answer::{Ask, Reported, failing},
    anthropic,
    chat::halves,
    conversation::{Choice, Conversation, Tool, Turn, list_at, str_at, text_of},
    frame::frame,
    json::{Json, Members, object},
    problem::Problem,
    reply::{Payload, Reply},
    script::Finish,
};

/// What is asked of a model; the end of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// `/converse`
    Converse,
    /// `/converse-stream`
    ConverseStream,
    /// `/invoke`
    Invoke,
    /// `/invoke-with-response-stream`
    InvokeStream,
    /// `/count-tokens`
    CountTokens,
}

impl Verb {
    /// The verb of a path like `/model/{model}/converse`.
    pub(super) fn of(path: &str) -> Option<Self> {
        let (_, rest) = path.split_once("/model/")?;
        Some(match rest.rsplit_once('/')?.1 {
            "converse" => Self::Converse,
            "converse-stream" => Self::ConverseStream,
            "invoke" => Self::Invoke,
            "invoke-with-response-stream" => Self::InvokeStream,
            "count-tokens" => Self::CountTokens,
            _ => return None,
        })
    }
}

/// The model in such a path, with what separates settings decoded; empty if there is none.
pub(super) fn model_in(path: &str) -> Option<String> {
    Verb::of(path)?;
    let (_, rest) = path.split_once("/model/")?;
    let (model, _) = rest.rsplit_once('/')?;
    let codes = [("%3A", ":"), ("%2F", "/"), ("%3B", ";"), ("%3D", "=")];
    let decode = |text: String, (code, char): (&str, &str)| text.replace(code, char);
    Some(codes.into_iter().fold(model.to_owned(), decode))
}

const STREAM: &str = "application/vnd.amazon.eventstream";
/// The member that ends a stream of `InvokeModel`.
const METRICS: &str = "amazon-bedrock-invocationMetrics";

/// Whether this is to be embedded.
fn embeds(model: &str) -> bool {
    model.contains("embed")
}

/// Reads a request to this model.
pub(super) fn read(body: &Value, model: &str, verb: Verb) -> Result<Conversation, Problem> {
    let mut asked = match verb {
        Verb::Converse | Verb::ConverseStream => converse(body),
        Verb::CountTokens => converse(body.pointer("/input/converse").unwrap_or(&Value::Null)),
        Verb::Invoke | Verb::InvokeStream => invoke(body, model),
    }?;
    model.clone_into(&mut asked.model);
    asked.stream = matches!(verb, Verb::ConverseStream | Verb::InvokeStream);
    asked.answers = 1;
    Ok(asked)
}

fn malformed(what: &str) -> Problem {
    Problem::invalid(format!(
        "Malformed input request: {what}, please reformat your input and try again."
    ))
}

fn invoke(body: &Value, model: &str) -> Result<Conversation, Problem> {
    if body.get("anthropic_version").is_some() {
        let mut body = body.clone();
        if let Some(fields) = body.as_object_mut() {
            fields.insert("model".to_owned(), model.into());
        }
        return anthropic::read(&body);
    }
    let Some(text) = body.get("inputText").and_then(Value::as_str) else {
        return Err(malformed("#: required key [messages] not found"));
    };
    Ok(Conversation {
        turns: vec![Turn::User(text.to_owned())],
        max_tokens: body
            .pointer("/textGenerationConfig/maxTokenCount")
            .and_then(Value::as_u64),
        ..Conversation::default()
    })
}

fn converse(body: &Value) -> Result<Conversation, Problem> {
    let Some(messages) = body.get("messages").and_then(Value::as_array) else {
        return Err(Problem::invalid(
            "A conversation must start with a user message.",
        ));
    };
    let config = body.get("toolConfig").unwrap_or(&Value::Null);
    let mut asked = Conversation {
        tools: list_at(config, "tools").iter().filter_map(tool).collect(),
        choice: choice(config.get("toolChoice").unwrap_or(&Value::Null)),
        max_tokens: body
            .pointer("/inferenceConfig/maxTokens")
            .and_then(Value::as_u64),
        ..Conversation::default()
    };
    for block in list_at(body, "system") {
        asked.add_system(&text_of(block));
    }
    for message in messages {
        let by_user = str_at(message, "role") == "user";
        for block in list_at(message, "content") {
            add(&mut asked, by_user, block);
        }
    }
    Ok(asked)
}

fn tool(tool: &Value) -> Option<Tool> {
    let spec = tool.get("toolSpec")?;
    Some(Tool {
        name: str_at(spec, "name").to_owned(),
        schema: spec
            .pointer("/inputSchema/json")
            .cloned()
            .unwrap_or_default(),
    })
}

fn choice(choice: &Value) -> Choice {
    if let Some(named) = choice.get("tool") {
        Choice::Named(str_at(named, "name").to_owned())
    } else if choice.get("any").is_some() {
        Choice::Required
    } else {
        Choice::Auto
    }
}

fn add(asked: &mut Conversation, by_user: bool, block: &Value) {
    if let Some(call) = block.get("toolUse") {
        asked.turns.push(Turn::Call {
            id: str_at(call, "toolUseId").to_owned(),
            name: str_at(call, "name").to_owned(),
            arguments: call.get("input").unwrap_or(&Value::Null).to_string(),
        });
    } else if let Some(result) = block.get("toolResult") {
        let said = list_at(result, "content").iter().map(|part| {
            let json = part.get("json").map(Value::to_string);
            json.unwrap_or_else(|| text_of(part))
        });
        asked.add_result(str_at(result, "toolUseId"), said.collect());
    } else if by_user {
        asked.turns.push(Turn::User(text_of(block)));
    } else {
        asked.turns.push(Turn::Assistant(text_of(block)));
    }
}

/// Writes the answer.
pub(super) fn write(ask: &mut Ask<'_>, verb: Verb, body: &Value) -> Reply {
    let is_anthropic = body.get("anthropic_version").is_some();
    match verb {
        Verb::CountTokens => Reply::json(&object! {"inputTokens": ask.asked.input_tokens()}),
        Verb::Converse => Reply::json(&Answer::new(ask).whole()),
        Verb::ConverseStream => {
            let frames = Answer::new(ask).frames();
            stream(frames, ask)
        },
        Verb::Invoke if embeds(&ask.asked.model) => embedding(ask),
        Verb::Invoke if is_anthropic => counted(anthropic::write(ask), ask),
        Verb::Invoke => counted(Payload::json(&titan(ask)), ask),
        Verb::InvokeStream => {
            let events = if is_anthropic {
                anthropic_events(ask)
            } else {
                titan_events(ask)
            };
            stream(chunks(events, ask), ask)
        },
    }
}

/// A stream, which breaks off with an exception if the settings say so.
fn stream(frames: Vec<Bytes>, ask: &Ask<'_>) -> Reply {
    let frames = failing(frames, ask.behaviour, |problem| {
        let name = problem.code.as_deref().unwrap_or("internalServerException");
        let data = object! {"message": problem.message};
        frame(name, true, data.get())
    });
    Reply::ok(Payload::Stream(frames, STREAM))
}

/// With the counts in headers, too.
fn counted(payload: Payload, ask: &Ask<'_>) -> Reply {
    let mut reply = Reply::ok(payload);
    if let Some(counts) = ask.counts() {
        put(&mut reply.headers, "input", uncached(&counts));
        put(&mut reply.headers, "output", counts.output);
    }
    reply
}

fn put(headers: &mut HeaderMap, what: &str, count: u64) {
    let name = format!("x-amzn-bedrock-{what}-token-count");
    if let Ok(name) = HeaderName::try_from(name) {
        headers.insert(name, HeaderValue::from(count));
    }
}

const fn uncached(counts: &Reported) -> u64 {
    counts.input - counts.cached - counts.cache_write
}

/// Of Cohere's embeddings the count is in the header alone.
fn embedding(ask: &Ask<'_>) -> Reply {
    let mut reply =
        Reply::json(&object! {"embeddings": [[0.25, -0.5]], "response_type": "embeddings_floats"});
    if let Some(counts) = ask.counts() {
        put(&mut reply.headers, "input", counts.input);
    }
    reply
}

fn titan_reason(ask: &Ask<'_>) -> String {
    let usual = match ask.said.finish {
        Finish::Length => "LENGTH",
        Finish::Stop | Finish::Calls => "FINISH",
    };
    ask.finish(usual).to_owned()
}

fn titan(ask: &Ask<'_>) -> Json {
    let counts = ask.counts().unwrap_or_default();
    let result = object! {
        "tokenCount": counts.output,
        "outputText": ask.said.text(),
        "completionReason": titan_reason(ask),
    };
    object! {"inputTextTokenCount": counts.input, "results": [result]}
}

fn titan_events(ask: &Ask<'_>) -> Vec<String> {
    let counts = ask.counts().unwrap_or_default();
    let pieces = &ask.said.pieces;
    let last = pieces.len().saturating_sub(1);
    let event = |(at, piece): (usize, &String)| {
        let is_last = at == last;
        let event = object! {
            "outputText": piece,
            "index": 0,
            "totalOutputTextTokenCount": is_last.then_some(counts.output),
            "completionReason": is_last.then(|| titan_reason(ask)),
            "inputTextTokenCount": counts.input,
        };
        event.get().to_owned()
    };
    pieces.iter().enumerate().map(event).collect()
}

/// The same events as Anthropic's own API sends.
fn anthropic_events(ask: &mut Ask<'_>) -> Vec<String> {
    let Payload::Events(events, _) = anthropic::write(ask) else {
        return Vec::new();
    };
    let data = |event: &Bytes| {
        let text = std::str::from_utf8(event).ok()?;
        let data = text.lines().find_map(|line| line.strip_prefix("data: "))?;
        Some(data.to_owned())
    };
    events.iter().filter_map(data).collect()
}

/// Each event in a frame, the last one with the metrics.
fn chunks(mut events: Vec<String>, ask: &Ask<'_>) -> Vec<Bytes> {
    if let (Some(last), Some(counts)) = (events.last_mut(), ask.counts())
        && last.ends_with('}')
    {
        last.truncate(last.len() - 1);
        let metrics = object! {
            "inputTokenCount": uncached(&counts),
            "outputTokenCount": counts.output,
            "invocationLatency": 9,
            "firstByteLatency": 7,
            "cacheReadInputTokenCount": counts.cached,
            "cacheWriteInputTokenCount": counts.cache_write,
        };
        // Writing to a String cannot fail.
        let _ok = write!(last, ",\"{METRICS}\":{metrics}}}");
    }
    let frames = events.iter().map(|event| {
        let data = object! {"bytes": STANDARD.encode(event), "p": padding(event)};
        frame("chunk", false, data.get())
    });
    frames.collect()
}

/// Letters that hide how long an event is; of another number each time.
fn padding(event: &str) -> &'static str {
    const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz";
    LETTERS
        .get(..event.len() % LETTERS.len())
        .unwrap_or_default()
}

/// One answer of Converse on its way to the wire.
struct Answer<'a, 'b> {
    /// The ids of the tool calls.
    calls: Vec<String>,
    ask: &'a Ask<'b>,
}

impl<'a, 'b> Answer<'a, 'b> {
    fn new(ask: &'a mut Ask<'b>) -> Self {
        let said = ask.said;
        let ids = said.calls.iter().map(|_| ask.ids.make("tooluse_", 22));
        Self {
            calls: ids.collect(),
            ask,
        }
    }

    fn stop_reason(&self) -> &str {
        self.ask.finish(match self.ask.said.finish {
            Finish::Stop => "end_turn",
            Finish::Length => "max_tokens",
            Finish::Calls => "tool_use",
        })
    }

    fn has_text(&self) -> bool {
        !self.ask.said.pieces.is_empty() || self.ask.said.calls.is_empty()
    }

    fn whole(&self) -> Json {
        let said = self.ask.said;
        let mut content = Vec::new();
        if self.has_text() {
            content.push(object! {"text": said.text()});
        }
        for (id, (name, arguments)) in self.calls.iter().zip(&said.calls) {
            let input = RawValue::from_string(arguments.clone()).unwrap_or_default();
            let call = object! {"toolUseId": id, "name": name, "input": input};
            content.push(object! {"toolUse": call});
        }
        let message = object! {"role": "assistant", "content": content};
        let mut members = Members::new()
            .with("output", &object! {"message": message})
            .with("stopReason", &self.stop_reason())
            .with("metrics", &object! {"latencyMs": 7});
        if let Some(counts) = self.ask.counts() {
            members.put("usage", &usage(&counts));
        }
        members.close()
    }

    fn frames(&self) -> Vec<Bytes> {
        let said = self.ask.said;
        let mut frames = vec![event(
            "messageStart",
            Members::new().with("role", &"assistant"),
        )];
        let mut index = 0_u32;
        let block = |index: u32| Members::new().with("contentBlockIndex", &index);
        if self.has_text() {
            for piece in &said.pieces {
                let delta = object! {"text": piece};
                frames.push(event(
                    "contentBlockDelta",
                    block(index).with("delta", &delta),
                ));
            }
            frames.push(event("contentBlockStop", block(index)));
            index += 1;
        }
        for (id, (name, arguments)) in self.calls.iter().zip(&said.calls) {
            let start = object! {"toolUse": object! {"toolUseId": id, "name": name}};
            frames.push(event(
                "contentBlockStart",
                block(index).with("start", &start),
            ));
            for part in halves(arguments) {
                let delta = object! {"toolUse": object! {"input": part}};
                frames.push(event(
                    "contentBlockDelta",
                    block(index).with("delta", &delta),
                ));
            }
            frames.push(event("contentBlockStop", block(index)));
            index += 1;
        }
        let stop = Members::new().with("stopReason", &self.stop_reason());
        frames.push(event("messageStop", stop));
        if let Some(counts) = self.ask.counts() {
            let metadata = Members::new().with("usage", &usage(&counts));
            frames.push(event(
                "metadata",
                metadata.with("metrics", &object! {"latencyMs": 7}),
            ));
        }
        frames
    }
}

fn usage(counts: &Reported) -> Json {
    object! {
        "inputTokens": uncached(counts),
        "outputTokens": counts.output,
        "totalTokens": counts.input.saturating_add(counts.output),
        "cacheReadInputTokens": counts.cached,
        "cacheWriteInputTokens": counts.cache_write,
    }
}

fn event(name: &str, data: Members) -> Bytes {
    let data = data.with("p", &padding(name)).close();
    frame(name, false, data.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_names_verb_and_model() {
        let path = "/model/us.anthropic.claude-v1%3A0%3Bstatus%3D429/converse-stream";
        assert_eq!(Verb::of(path), Some(Verb::ConverseStream));
        assert_eq!(
            model_in(path).as_deref(),
            Some("us.anthropic.claude-v1:0;status=429")
        );
        assert_eq!(model_in("/v1beta/models/g:generateContent"), None);
    }

    #[test]
    fn tool_calls_and_results_are_joined() {
        let body = serde_json::json!({"messages": [
            {"role": "user", "content": [{"text": "Weather?"}]},
            {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "w", "input": {}}}]},
            {"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": [{"json": {"c": 9}}]}}]},
        ], "inferenceConfig": {"maxTokens": 5}});
        let asked = read(&body, "m", Verb::Converse).unwrap();
        assert_eq!(asked.results(), [("w", "{\"c\":9}")]);
        assert_eq!(asked.max_tokens, Some(5));
    }
}

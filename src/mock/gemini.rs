//! Gemini's generateContent: what is asked, and the answer as JSON and as a stream.

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{
    answer::{Ask, Reported, dated, failing},
    behaviour::Newline,
    conversation::{Choice, Conversation, Tool, Turn, list_at, str_at, text_of, tokens},
    json::{Json, Members, object},
    problem::{Dialect, Problem},
    reply::{Payload, event},
    script::Finish,
};

/// How an answer is given; chosen by the path, not by the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// `:generateContent`
    Whole,
    /// `:streamGenerateContent?alt=sse`
    Events,
    /// `:streamGenerateContent`: the stream's objects as one JSON array.
    Array,
}

/// Reads a request for this model.
pub(super) fn read(body: &Value, model: &str) -> Result<Conversation, Problem> {
    let body = field(body, "generateContentRequest").unwrap_or(body);
    let Some(contents) = body.get("contents").and_then(Value::as_array) else {
        let field = "* GenerateContentRequest.contents: contents is not specified";
        return Err(Problem::invalid(field));
    };
    let config = field(body, "generationConfig").unwrap_or(&Value::Null);
    let mut asked = Conversation {
        model: model.to_owned(),
        tools: list_at(body, "tools").iter().flat_map(tools).collect(),
        choice: choice(
            field(body, "toolConfig").and_then(|config| field(config, "functionCallingConfig")),
        ),
        schema: ["responseJsonSchema", "responseSchema"]
            .iter()
            .find_map(|key| field(config, key))
            .cloned(),
        max_tokens: field(config, "maxOutputTokens").and_then(Value::as_u64),
        answers: field(config, "candidateCount")
            .and_then(Value::as_u64)
            .and_then(|n| usize::try_from(n).ok())
            .map_or(1, |n| n.clamp(1, 8)),
        ..Conversation::default()
    };
    let system = field(body, "systemInstruction");
    for part in system
        .map(|system| list_at(system, "parts"))
        .unwrap_or_default()
    {
        asked.add_system(&text_of(part));
    }
    for content in contents {
        let by_model = str_at(content, "role") == "model";
        for part in list_at(content, "parts") {
            add(&mut asked, by_model, part);
        }
    }
    Ok(asked)
}

/// A member by its name, which clients may also write in snake case.
pub(super) fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.get(name).or_else(|| {
        let mut snake = String::new();
        for char in name.chars() {
            if char.is_ascii_uppercase() {
                snake.push('_');
            }
            snake.push(char.to_ascii_lowercase());
        }
        value.get(snake)
    })
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    let list = field(value, name).and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

fn tools(tool: &Value) -> impl Iterator<Item = Tool> {
    list(tool, "functionDeclarations")
        .iter()
        .map(|function| Tool {
            name: str_at(function, "name").to_owned(),
            schema: ["parametersJsonSchema", "parameters"]
                .iter()
                .find_map(|key| field(function, key))
                .cloned()
                .unwrap_or_default(),
        })
}

fn choice(config: Option<&Value>) -> Choice {
    let config = config.unwrap_or(&Value::Null);
    let allowed = list(config, "allowedFunctionNames")
        .first()
        .and_then(Value::as_str);
    match (str_at(config, "mode"), allowed) {
        ("NONE", _) => Choice::None,
        ("ANY", Some(name)) => Choice::Named(name.to_owned()),
        ("ANY", None) => Choice::Required,
        _ => Choice::Auto,
    }
}

/// Calls often have no id; then the tool's name joins them to their results.
fn add(asked: &mut Conversation, by_model: bool, part: &Value) {
    let id = |of: &Value| {
        let id = str_at(of, "id");
        if id.is_empty() {
            str_at(of, "name")
        } else {
            id
        }
        .to_owned()
    };
    if let Some(call) = field(part, "functionCall") {
        asked.turns.push(Turn::Call {
            id: id(call),
            name: str_at(call, "name").to_owned(),
            arguments: call.get("args").unwrap_or(&Value::Null).to_string(),
        });
    } else if let Some(result) = field(part, "functionResponse") {
        let response = result.get("response").unwrap_or(&Value::Null);
        let plain = ["result", "output"]
            .iter()
            .find_map(|key| response.get(*key)?.as_str());
        let said = plain.map_or_else(|| response.to_string(), str::to_owned);
        asked.add_result(&id(result), said);
    } else if by_model {
        asked.turns.push(Turn::Assistant(text_of(part)));
    } else {
        asked.turns.push(Turn::User(text_of(part)));
    }
}

/// The answer to `:countTokens`.
pub(super) fn count(asked: &Conversation) -> Json {
    let total = asked.input_tokens();
    object! {"totalTokens": total, "promptTokensDetails": details(total)}
}

/// Writes the answer.
pub(super) fn write(ask: &mut Ask<'_>, manner: Manner) -> Payload {
    let content = Generated {
        id: ask.ids.make("", 22),
        ask,
    };
    match manner {
        Manner::Whole => Payload::json(&content.whole()),
        Manner::Array => {
            let chunks: Vec<_> = content
                .chunks()
                .iter()
                .map(|chunk| chunk.get().to_owned().into())
                .collect();
            let chunks = failing(chunks, content.ask.behaviour, |problem| {
                problem.body(Dialect::Gemini, "").get().to_owned().into()
            });
            Payload::Stream(array(&chunks), "application/json; charset=UTF-8")
        },
        Manner::Events => {
            let events = content
                .chunks()
                .iter()
                .map(|chunk| event(chunk.get()))
                .collect();
            let events = failing(events, content.ask.behaviour, |problem| {
                event(problem.body(Dialect::Gemini, "").get())
            });
            Payload::Events(events, Newline::CrLf)
        },
    }
}

/// The objects as one array, in a piece each; the closing bracket comes by itself.
fn array(objects: &[Bytes]) -> Vec<Bytes> {
    let before = std::iter::once("[").chain(std::iter::repeat(",\r\n"));
    before
        .zip(objects)
        .map(|(before, object)| [before.as_bytes(), object].concat().into())
        .chain([Bytes::from_static(b"\r\n]")])
        .collect()
}

/// One answer on its way to the wire.
struct Generated<'a, 'b> {
    id: String,
    ask: &'a Ask<'b>,
}

impl Generated<'_, '_> {
    /// The finish reason is `STOP` for tool calls, too.
    fn finish(&self) -> &str {
        self.ask.finish(match self.ask.said.finish {
            Finish::Stop | Finish::Calls => "STOP",
            Finish::Length => "MAX_TOKENS",
        })
    }

    fn whole(&self) -> Json {
        let said = self.ask.said;
        let mut parts = Vec::new();
        if !said.pieces.is_empty() || said.calls.is_empty() {
            parts.push(object! {"text": said.text()});
        }
        parts.extend(said.calls.iter().map(call));
        let candidates = (0..self.ask.asked.answers)
            .map(|index| candidate(index, &parts, Some(self.finish())))
            .collect::<Vec<_>>();
        self.response(&candidates, self.ask.counts())
    }

    /// A chunk a piece, with counts that grow; the calls are in the last one.
    fn chunks(&self) -> Vec<Json> {
        let said = self.ask.said;
        let mut parts: Vec<Json> = said
            .pieces
            .iter()
            .map(|piece| object! {"text": piece})
            .collect();
        parts.extend(said.calls.iter().map(call));
        if parts.is_empty() {
            parts.push(object! {"text": ""});
        }
        let last = parts.len() - 1;
        let mut bytes = 0;
        let mut chunks = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            bytes += said.pieces.get(at).map_or(0, String::len);
            let mut counts = self.ask.counts();
            if at < last
                && let Some(counts) = &mut counts
            {
                let so_far = tokens(bytes).saturating_add(counts.reasoning);
                counts.output = counts.output.min(so_far);
            }
            let finish = (at == last).then(|| self.finish());
            let part = std::slice::from_ref(part);
            let candidates = (0..self.ask.asked.answers)
                .map(|index| candidate(index, part, finish))
                .collect::<Vec<_>>();
            chunks.push(self.response(&candidates, counts));
        }
        chunks
    }

    fn response(&self, candidates: &[Json], counts: Option<Reported>) -> Json {
        let mut members = Members::new().with("candidates", &candidates);
        if let Some(counts) = counts {
            members.put("usageMetadata", &usage(&counts));
        }
        members
            .with("modelVersion", &dated(&self.ask.asked.model))
            .with("responseId", &self.id)
            .close()
    }
}

fn call((name, arguments): &(String, String)) -> Json {
    let arguments = RawValue::from_string(arguments.clone()).unwrap_or_default();
    object! {"functionCall": object! {"name": name, "args": arguments}}
}

fn candidate(index: usize, parts: &[Json], finish: Option<&str>) -> Json {
    let content = object! {"parts": parts, "role": "model"};
    let mut members = Members::new().with("content", &content);
    if let Some(finish) = finish {
        members.put("finishReason", &finish);
    }
    members.with("index", &index).close()
}

/// Thoughts are counted apart from the answer here.
fn usage(counts: &Reported) -> Json {
    let answer = counts.output.saturating_sub(counts.reasoning);
    let mut members = Members::new()
        .with("promptTokenCount", &counts.input)
        .with("candidatesTokenCount", &answer)
        .with(
            "totalTokenCount",
            &counts.input.saturating_add(counts.output),
        );
    if counts.cached > 0 {
        members.put("cachedContentTokenCount", &counts.cached);
    }
    members.put("promptTokensDetails", &details(counts.input));
    if counts.reasoning > 0 {
        members.put("thoughtsTokenCount", &counts.reasoning);
    }
    members.close()
}

fn details(tokens: u64) -> [Json; 1] {
    [object! {"modality": "TEXT", "tokenCount": tokens}]
}

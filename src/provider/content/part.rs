//! What a message consists of. One reading knows all forms: chat parts, Anthropic's blocks, items of
//! Responses, Gemini's and Converse's parts.

use serde_json::{Map, Value, json};

use super::{
    super::wire::json::{Ahead, Json},
    media::Media,
    room::Room,
    text::{arguments, text, value, words},
};

/// A part with text.
pub(super) fn said(content: impl Into<String>) -> Value {
    json!({"type": "text", "content": content.into()})
}

/// Reads a text, a part, or a list of them.
pub(super) fn parts(value: Ahead<'_, '_>, out: &mut Vec<Value>, room: &mut Room) {
    if value.is_array() {
        value.items(|item| part(item, out, room));
    } else {
        part(value, out, room);
    }
}

fn part(value: Ahead<'_, '_>, out: &mut Vec<Value>, room: &mut Room) {
    if !room.has_one_more() {
        value.take();
    } else if value.is_string() {
        let text = text(value.take()).unwrap_or_default();
        out.extend((!text.is_empty()).then(|| said(text)));
    } else if value.is_object() {
        let mut block = Block::default();
        block.enter(value, room);
        block.put(out, room);
    }
}

/// Reads the calls in a message's `tool_calls`.
pub(super) fn calls(value: Ahead<'_, '_>, out: &mut Vec<Value>, room: &mut Room) {
    let mut call = |value: Ahead<'_, '_>| {
        if !room.has_one_more() {
            value.take();
            return;
        }
        let mut block = Block {
            is: Some(Is::Call),
            ..Block::default()
        };
        block.enter(value, room);
        block.put(out, room);
    };
    if value.is_array() {
        value.items(call);
    } else if value.is_object() {
        call(value);
    }
}

/// What the dialect's own wrapping says it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Is {
    Call,
    Result,
    Server(&'static str),
}

/// A part in whatever form.
#[derive(Default)]
pub(super) struct Block<'a> {
    pub(super) kind: Option<Json<'a>>,
    is: Option<Is>,
    text: Option<String>,
    reasoning: Option<String>,
    is_thought: bool,
    /// The id that results name goes before that of the item.
    own_id: Option<Json<'a>>,
    id: Option<Json<'a>>,
    name: Option<Json<'a>>,
    arguments: Option<Json<'a>>,
    result: Option<Json<'a>>,
    media: Option<Media<'a>>,
    mime: Option<Json<'a>>,
}

impl<'a> Block<'a> {
    fn enter(&mut self, value: Ahead<'_, 'a>, room: &mut Room) {
        if room.deeper() {
            value.object(|key, value| self.field(key, value, room));
            room.back();
        } else {
            value.take();
        }
    }

    /// Takes in a field.
    pub(super) fn field(&mut self, key: &[u8], value: Ahead<'_, 'a>, room: &mut Room) {
        match key {
            b"type" => self.kind = Some(value.take()),
            b"text" | b"refusal" | b"transcript" | b"guardContent" => {
                self.text = some(words(value)).or_else(|| self.text.take());
            },
            b"thinking" | b"reasoning" | b"reasoningContent" | b"summary" => {
                self.reasoning = some(words(value)).or_else(|| self.reasoning.take());
            },
            b"thought" => self.is_thought = value.take().is_true(),
            b"id" => self.own_id = Some(value.take()),
            b"call_id" | b"tool_call_id" | b"tool_use_id" | b"toolUseId" => {
                self.id = Some(value.take());
            },
            b"name" | b"tool_name" => self.name = Some(value.take()),
            b"arguments" | b"args" | b"input" | b"parameters" | b"action" | b"operation"
            | b"code" | b"queries" => self.arguments = Some(value.take()),
            b"output" | b"content" | b"response" | b"result" | b"results" | b"outputs" => {
                self.result = Some(value.take());
            },
            b"function" | b"custom" if value.is_object() => self.enter(value, room),
            b"toolUse" | b"functionCall" | b"function_call" => {
                self.is = Some(Is::Call);
                self.enter(value, room);
            },
            b"toolResult" | b"functionResponse" | b"function_response" => {
                self.is = Some(Is::Result);
                self.enter(value, room);
            },
            b"executableCode" => {
                self.is = Some(Is::Server("code_execution"));
                self.arguments = Some(value.take());
            },
            b"codeExecutionResult" => {
                self.is = Some(Is::Server("code_execution"));
                self.result = Some(value.take());
            },
            b"mime_type" | b"media_type" | b"mimeType" => self.mime = Some(value.take()),
            _ => self.look_at(key, value),
        }
    }

    /// Takes in a field that may be of a picture, sound or file.
    fn look_at(&mut self, key: &[u8], value: Ahead<'_, 'a>) {
        let modality = match key {
            b"image_url" | b"image" => "image",
            b"input_audio" | b"audio" | b"audio_url" => "audio",
            b"video" | b"video_url" => "video",
            b"source" | b"inlineData" | b"inline_data" | b"fileData" | b"file_data" | b"file"
            | b"file_id" | b"file_url" | b"document" | b"document_url" | b"data" => "",
            _ => return,
        };
        // A name beside it says less than what it is in.
        if self.media.is_none() || !modality.is_empty() {
            self.media = Some(Media {
                modality,
                is_id: key == b"file_id",
                found: value.take(),
            });
        }
    }

    /// Adds it to `out`, as one part or, where a call came with its result, two.
    pub(super) fn put(self, out: &mut Vec<Value>, room: &mut Room) {
        let kind = self.kind.and_then(text).unwrap_or_default();
        let is_result = kind.ends_with("tool_result")
            || kind.ends_with("_call_output")
            || kind == "function.result";
        let is_call = kind.ends_with("tool_use")
            || kind.ends_with("_call")
            || kind == "function.call"
            || kind == "function";
        match self.is {
            Some(Is::Call) if kind != "server_tool_use" => self.put_call(&kind, out),
            Some(Is::Call) => self.put_server(&kind, out, room),
            Some(Is::Result) => self.put_result(false, out, room),
            Some(Is::Server(name)) => self.put_server(name, out, room),
            // All that it has is the picture.
            None if kind == "image_generation_call" => self.put_picture(out, room),
            None if is_result => self.put_result(is_of_server(&kind), out, room),
            None if is_call && is_of_server(&kind) => self.put_server(&kind, out, room),
            None if is_call => self.put_call(&kind, out),
            None => out.extend(self.plain(&kind)),
        }
    }

    fn plain(mut self, kind: &str) -> Option<Value> {
        let is_reasoning = self.is_thought || matches!(kind, "thinking" | "reasoning");
        let thought = self.reasoning.take();
        if is_reasoning || thought.is_some() {
            let written = self.result.map(|result| result.read(words));
            let content = thought.or(self.text).or(written).unwrap_or_default();
            return Some(json!({"type": "reasoning", "content": content}))
                .filter(|_| !content.is_empty());
        }
        if let Some(content) = self.text {
            return Some(said(content));
        }
        if let Some(media) = self.media {
            return Some(media.part(kind, self.mime));
        }
        (!kind.is_empty()).then(|| json!({"type": kind}))
    }

    fn put_call(self, kind: &str, out: &mut Vec<Value>) {
        let tool = kind.strip_suffix("_call").unwrap_or(kind);
        let Some(name) = self.name.and_then(text).or_else(|| some(tool.to_owned())) else {
            return;
        };
        let mut part = Map::new();
        part.insert("type".into(), "tool_call".into());
        self.identify(&mut part);
        part.insert("name".into(), name.into());
        let arguments = self.arguments.map_or(Value::Null, arguments);
        part.insert("arguments".into(), arguments);
        out.push(Value::Object(part));
    }

    fn put_result(self, by_server: bool, out: &mut Vec<Value>, room: &mut Room) {
        let (kind, field) = if by_server {
            ("server_tool_call_response", "server_tool_call_response")
        } else {
            ("tool_call_response", "response")
        };
        let mut part = Map::new();
        part.insert("type".into(), kind.into());
        self.identify(&mut part);
        let came = self.result.map(|came| result(came, room));
        part.insert(field.into(), came.unwrap_or_default());
        out.push(Value::Object(part));
    }

    /// What the provider ran itself: the call, and what came of it if that is there too.
    fn put_server(self, kind: &str, out: &mut Vec<Value>, room: &mut Room) {
        let tool = kind.strip_suffix("_call").unwrap_or(kind);
        let name = self.name.and_then(text).unwrap_or_else(|| tool.to_owned());
        let (asked, came) = (self.arguments, self.result);
        if asked.is_some() || came.is_none() {
            let mut part = Map::new();
            part.insert("type".into(), "server_tool_call".into());
            self.identify(&mut part);
            part.insert("name".into(), name.clone().into());
            let call = json!({"type": name, "arguments": asked.map_or(Value::Null, arguments)});
            part.insert("server_tool_call".into(), call);
            out.push(Value::Object(part));
        }
        if came.is_some_and(|came| !came.is_null()) {
            self.put_result(true, out, room);
        }
    }

    fn put_picture(self, out: &mut Vec<Value>, room: &mut Room) {
        let made = self.result.filter(|made| made.is_string());
        let media = made.map(|found| Media {
            modality: "image",
            is_id: false,
            found,
        });
        let shown = media.map(|media| media.part("", None));
        let call = Self {
            result: None,
            ..self
        };
        call.put_server("image_generation_call", out, room);
        out.extend(shown);
    }

    fn identify(&self, part: &mut Map<String, Value>) {
        if let Some(id) = self.id.or(self.own_id).and_then(text) {
            part.insert("id".into(), id.into());
        }
    }
}

/// What came of a call: text where it is that, else the value, with its pictures as above.
pub(super) fn result(json: Json<'_>, room: &mut Room) -> Value {
    if !json.is_array() {
        return value(json);
    }
    if !room.deeper() {
        return Value::Null;
    }
    let mut list = Vec::new();
    let (mut all, mut read) = (0, 0);
    json.read(|items| {
        items.items(|item| {
            all += 1;
            read += usize::from(item.is_object());
            part(item, &mut list, room);
        })
    });
    room.back();
    let is_text = |part: &Value| part.get("type").is_some_and(|kind| kind == "text");
    let texts = list.iter().filter(|part| is_text(part)).count();
    match () {
        // A list of something else.
        () if all != read || list.len() < all => value(json),
        () if texts == list.len() => {
            let texts = list.iter().filter_map(|part| part.get("content")?.as_str());
            texts.collect::<Vec<_>>().join("\n").into()
        },
        () => Value::Array(list),
    }
}

/// Whether the provider runs such a tool itself.
fn is_of_server(kind: &str) -> bool {
    !matches!(
        kind,
        "tool_use"
            | "tool_result"
            | "function"
            | "function_call"
            | "function_call_output"
            | "function.call"
            | "function.result"
            | "tool_call"
            | "custom_tool_call"
            | "custom_tool_call_output"
            | "computer_call"
            | "computer_call_output"
            | "local_shell_call"
            | "local_shell_call_output"
            | "shell_call"
            | "shell_call_output"
            | "apply_patch_call"
            | "apply_patch_call_output"
    )
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &Value) -> Vec<Value> {
        let text = value.to_string();
        let mut out = Vec::new();
        Json::document(text.as_bytes()).read(|value| parts(value, &mut out, &mut Room::default()));
        out
    }

    #[test]
    fn a_call_is_the_same_in_every_form() {
        let expected = json!({"type": "tool_call", "id": "c1", "name": "look",
            "arguments": {"q": 1}});
        for form in [
            json!({"type": "tool_use", "id": "c1", "name": "look", "input": {"q": 1}}),
            json!({"toolUse": {"toolUseId": "c1", "name": "look", "input": {"q": 1}}}),
            json!({"functionCall": {"id": "c1", "name": "look", "args": {"q": 1}}}),
            json!({"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "look",
                "arguments": "{\"q\":1}"}),
            json!({"id": "c1", "type": "function",
                "function": {"name": "look", "arguments": "{\"q\":1}"}}),
        ] {
            assert_eq!(read(&form), std::slice::from_ref(&expected), "{form}");
        }
    }

    #[test]
    fn a_result_is_the_same_in_every_form() {
        let expected = json!({"type": "tool_call_response", "id": "c1", "response": "found"});
        for form in [
            json!({"type": "tool_result", "tool_use_id": "c1", "content": "found"}),
            json!({"type": "tool_result", "tool_use_id": "c1",
                "content": [{"type": "text", "text": "found"}]}),
            json!({"toolResult": {"toolUseId": "c1", "content": [{"text": "found"}]}}),
            json!({"type": "function_call_output", "call_id": "c1", "output": "found"}),
        ] {
            assert_eq!(read(&form), std::slice::from_ref(&expected), "{form}");
        }
        let object = json!({"functionResponse": {"name": "look", "response": {"n": 1}}});
        let expected = json!({"type": "tool_call_response", "response": {"n": 1}});
        assert_eq!(read(&object), [expected]);
    }

    #[test]
    fn reasoning_is_told_from_text() {
        let expected = json!({"type": "reasoning", "content": "hm"});
        for form in [
            json!({"type": "thinking", "thinking": "hm", "signature": "xyz"}),
            json!({"thought": true, "text": "hm"}),
            json!({"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}}),
            json!({"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}]}),
            json!({"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}),
        ] {
            assert_eq!(read(&form), std::slice::from_ref(&expected), "{form}");
        }
        assert_eq!(
            read(&json!({"type": "reasoning", "summary": []})),
            Vec::<Value>::new()
        );
    }

    #[test]
    fn what_the_provider_ran_is_a_call_of_the_server() {
        let found = read(&json!([
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
            {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"url": "u"}]},
            {"type": "mcp_call", "id": "m", "name": "look", "arguments": "{}", "output": "o"},
        ]));
        let kinds: Vec<_> = found
            .iter()
            .map(|part| part["type"].as_str().unwrap())
            .collect();
        assert_eq!(
            kinds,
            [
                "server_tool_call",
                "server_tool_call_response",
                "server_tool_call",
                "server_tool_call_response"
            ]
        );
        assert_eq!(
            found[0]["server_tool_call"]["arguments"],
            json!({"query": "q"})
        );
    }
}

//! What a request says: instructions, messages, tools. The dialects' forms do not get in each
//! other's way, so that one reading knows all of them.

use serde_json::{Map, Value, json};

use super::{
    super::wire::json::{Ahead, Json},
    part::{Block, calls, parts, result, said},
    room::Room,
    text::{text, value, words},
};
use crate::call::content::Messages;

/// Adds what the document of a request says to `messages`.
pub(super) fn read(document: Json<'_>, messages: &mut Messages) {
    let (mut asked, mut room) = (Vec::new(), Room::default());
    let read = document.object(|key, value| field(key, value, messages, &mut asked, &mut room));
    messages.cut |= read.is_err() || room.is_cut;
    // Behind the history, wherever it stands.
    messages.input.append(&mut asked);
}

fn field(
    key: &[u8],
    value: Ahead<'_, '_>,
    messages: &mut Messages,
    asked: &mut Vec<Value>,
    room: &mut Room,
) {
    match key {
        b"messages"
        | b"input"
        | b"inputs"
        | b"contents"
        | b"content"
        | b"chat_history"
        | b"additional_messages"
        | b"turns"
        | b"texts"
        | b"documents"
        | b"item" => {
            conversation(value, &mut messages.input, room);
        },
        b"prompt" | b"message" | b"query" | b"inputText" => conversation(value, asked, room),
        b"text" => {
            let text = words(value);
            let parts = Vec::from_iter((!text.is_empty()).then(|| said(text)));
            put("user".to_owned(), None, parts, asked);
        },
        b"system"
        | b"instructions"
        | b"systemInstruction"
        | b"system_instruction"
        | b"preamble" => instructions(value, &mut messages.system, room),
        b"tools" | b"functions" => tools(value, &mut messages.tools, room),
        b"toolResponse" => parts_of(value, "tool", &mut messages.input, room),
        b"toolConfig"
        | b"singleEmbeddingParams"
        | b"textToImageParams"
        | b"response"
        | b"session"
        | b"setup"
        | b"clientContent"
        | b"client_content"
        | b"realtimeInput"
        | b"thread"
        | b"requests"
            if room.deeper() =>
        {
            let mut enter = |value: Ahead<'_, '_>| {
                value.object(|key, value| field(key, value, messages, asked, room));
            };
            if value.is_array() {
                value.items(enter);
            } else {
                enter(value);
            }
            room.back();
        },
        _ => {},
    }
}

fn instructions(value: Ahead<'_, '_>, out: &mut Vec<Value>, room: &mut Room) {
    if !value.is_object() {
        return parts(value, out, room);
    }
    // Gemini's are a content.
    let json = value.take();
    let mut message = Vec::new();
    json.read(|value| conversation(value, &mut message, room));
    for message in &mut message {
        if let Some(Value::Array(parts)) = message.get_mut("parts") {
            out.append(parts);
        }
    }
}

/// The results of functions, in a message by themselves.
fn parts_of(value: Ahead<'_, '_>, role: &str, out: &mut Vec<Value>, room: &mut Room) {
    let mut found = Vec::new();
    value.object(|key, value| {
        if key == b"functionResponses" {
            value.items(|item| {
                let json = item.take();
                if !room.has_one_more() {
                    return;
                }
                let id = json.get("id").and_then(text);
                let response = json.get("response").map(|json| result(json, room));
                found.push(json!({"type": "tool_call_response", "id": id, "response": response}));
            });
        }
    });
    put(role.to_owned(), None, found, out);
}

/// A text, a message, or a list of them.
fn conversation(value: Ahead<'_, '_>, out: &mut Vec<Value>, room: &mut Room) {
    if value.is_array() {
        value.items(|item| one(item, out, room));
    } else {
        one(value, out, room);
    }
}

fn one(value: Ahead<'_, '_>, out: &mut Vec<Value>, room: &mut Room) {
    if !room.has_one_more_message() {
        value.take();
    } else if value.is_string() {
        let said = Vec::from_iter(text(value.take()).filter(|text| !text.is_empty()).map(said));
        put("user".to_owned(), None, said, out);
    } else if value.is_object() {
        message(value, out, room);
    }
}

fn put(role: String, name: Option<String>, parts: Vec<Value>, out: &mut Vec<Value>) {
    if parts.is_empty() {
        return;
    }
    let mut message = Map::new();
    message.insert("role".into(), role.into());
    if let Some(name) = name {
        message.insert("name".into(), name.into());
    }
    message.insert("parts".into(), parts.into());
    out.push(Value::Object(message));
}

/// A message, a content, or an item of Responses.
fn message(value: Ahead<'_, '_>, out: &mut Vec<Value>, room: &mut Room) {
    let (mut role, mut name, mut content, mut call_id) = (None, None, None, None);
    let (mut thought, mut pictures, mut called) = (Vec::new(), Vec::new(), Vec::new());
    let mut block = Block::default();
    value.object(|key, value| match key {
        b"role" => role = text(value.take()),
        b"name" => {
            let json = value.take();
            name = text(json);
            json.read(|value| block.field(key, value, room));
        },
        b"tool_call_id" => {
            let json = value.take();
            call_id = text(json);
            json.read(|value| block.field(key, value, room));
        },
        b"content" | b"parts" | b"message" => {
            let json = value.take();
            content = Some(json);
            json.read(|value| block.field(b"content", value, room));
        },
        b"tool_calls" => calls(value, &mut called, room),
        b"function_call" if value.is_object() => calls(value, &mut called, room),
        b"reasoning_content" | b"reasoning" | b"thinking" if thought.is_empty() => {
            let words = words(value);
            if !words.is_empty() {
                thought.push(json!({"type": "reasoning", "content": words}));
            }
        },
        b"images" => {
            value.items(|image| {
                let bytes = image.take().raw().len() / 4 * 3;
                if !room.has_one_more() {
                    return;
                }
                pictures.push(json!({"type": "blob", "modality": "image", "content": "",
                    "bytes": bytes}));
            });
        },
        _ => block.field(key, value, room),
    });
    let kind = block.kind.and_then(text).unwrap_or_default();
    let is_message = matches!(&*kind, "" | "message") || kind.starts_with("message.");
    if !is_message && role.is_none() {
        let by_tool = kind.ends_with("_output") || kind.ends_with("result");
        let by_user =
            kind.starts_with("input_") || matches!(&*kind, "text" | "image_url" | "image_base64");
        let role = match () {
            () if by_tool => "tool",
            () if by_user => "user",
            () => "assistant",
        };
        let mut found = Vec::new();
        block.put(&mut found, room);
        return put(role.to_owned(), None, found, out);
    }
    let role = common_role(role.as_deref());
    let mut found = thought;
    if let Some(content) = content {
        content.read(|value| parts(value, &mut found, room));
    } else {
        block.put(&mut found, room);
    }
    if role == "tool" && !found.iter().any(is_of_tool) {
        let response = content.map(|json| result(json, room));
        found = vec![json!({"type": "tool_call_response", "id": call_id, "response": response})];
    }
    found.append(&mut pictures);
    found.append(&mut called);
    put(role, name, found, out);
}

fn is_of_tool(part: &Value) -> bool {
    let kind = part.get("type").and_then(Value::as_str);
    kind.is_some_and(|kind| kind.contains("tool_call"))
}

fn common_role(role: Option<&str>) -> String {
    let role = role.unwrap_or("user").to_lowercase();
    match &*role {
        "model" | "chatbot" => "assistant".to_owned(),
        "function" => "tool".to_owned(),
        _ => role,
    }
}

/// The definitions of tools, in whatever way they are wrapped.
fn tools(value: Ahead<'_, '_>, out: &mut Vec<Value>, room: &mut Room) {
    value.items(|item| {
        if !room.has_one_more() {
            item.take();
            return;
        }
        let mut tool = Tool::default();
        tool.enter(item, out, room);
        out.extend(tool.definition());
    });
}

#[derive(Default)]
struct Tool {
    kind: Option<String>,
    /// The name of its only field, where it has no other.
    wrapping: Option<String>,
    name: Option<String>,
    description: Option<String>,
    parameters: Option<Value>,
}

impl Tool {
    fn enter(&mut self, item: Ahead<'_, '_>, out: &mut Vec<Value>, room: &mut Room) {
        if !room.deeper() {
            item.take();
            return;
        }
        item.object(|key, found| match key {
            b"type" => self.kind = text(found.take()),
            b"name" => self.name = text(found.take()),
            b"description" => self.description = text(found.take()),
            b"parameters"
            | b"input_schema"
            | b"parametersJsonSchema"
            | b"parameters_json_schema"
            | b"parameter_definitions"
            | b"json" => {
                self.parameters = Some(value(found.take()));
            },
            b"function" | b"custom" | b"toolSpec" | b"inputSchema" => self.enter(found, out, room),
            b"functionDeclarations" | b"function_declarations" => tools(found, out, room),
            other => {
                let name = String::from_utf8_lossy(other).into_owned();
                self.wrapping.get_or_insert(name);
            },
        });
        room.back();
    }

    fn definition(self) -> Option<Value> {
        let usual = || self.name.is_some().then(|| "function".to_owned());
        let kind = self.kind.or_else(usual).or(self.wrapping)?;
        let mut tool = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                tool.insert(name.into(), value);
            }
        };
        put(
            "name",
            Some(self.name.unwrap_or_else(|| kind.clone()).into()),
        );
        put("type", Some(kind.into()));
        put("description", self.description.map(Value::from));
        put("parameters", self.parameters);
        Some(Value::Object(tool))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &Value) -> Messages {
        let text = body.to_string();
        let mut messages = Messages::default();
        read(Json::document(text.as_bytes()), &mut messages);
        assert!(!messages.cut);
        messages
    }

    fn user(text: &str) -> Value {
        json!({"role": "user", "parts": [{"type": "text", "content": text}]})
    }

    /// A conversation in which a tool was called and has answered.
    fn conversations() -> Vec<Value> {
        vec![
            json!({"messages": [{"role": "user", "content": "Go"},
                {"role": "assistant", "content": "On it", "tool_calls": [{"id": "c", "type": "function",
                    "function": {"name": "say", "arguments": "{\"a\":1}"}}]},
                {"role": "tool", "tool_call_id": "c", "content": "done"}]}),
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "Go"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "On it"},
                    {"type": "tool_use", "id": "c", "name": "say", "input": {"a": 1}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c",
                    "content": "done"}]}]}),
            json!({"messages": [{"role": "user", "content": [{"text": "Go"}]},
                {"role": "assistant", "content": [{"text": "On it"},
                    {"toolUse": {"toolUseId": "c", "name": "say", "input": {"a": 1}}}]},
                {"role": "user", "content": [{"toolResult": {"toolUseId": "c",
                    "content": [{"text": "done"}]}}]}]}),
            json!({"contents": [{"parts": [{"text": "Go"}]},
                {"role": "model", "parts": [{"text": "On it"},
                    {"functionCall": {"id": "c", "name": "say", "args": {"a": 1}}}]},
                {"role": "user", "parts": [{"functionResponse": {"id": "c", "name": "say",
                    "response": "done"}}]}]}),
        ]
    }

    #[test]
    fn a_conversation_is_the_same_in_every_form() {
        let call = json!({"type": "tool_call", "id": "c", "name": "say", "arguments": {"a": 1}});
        let answer = json!({"type": "tool_call_response", "id": "c", "response": "done"});
        for body in conversations() {
            let found = of(&body).input;
            assert_eq!(found.len(), 3, "{body}");
            assert_eq!(found[0], user("Go"), "{body}");
            assert_eq!(found[1]["role"], "assistant");
            assert_eq!(found[1]["parts"], json!([said("On it"), call]), "{body}");
            assert_eq!(found[2]["parts"], json!([answer]), "{body}");
        }
        let items = of(&json!({"instructions": "Be brief", "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Go"}]},
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "function_call", "call_id": "c", "name": "say", "arguments": "{\"a\":1}"},
            {"type": "function_call_output", "call_id": "c", "output": "done"}]}));
        assert_eq!(items.system, [said("Be brief")]);
        let roles: Vec<_> = items.input.iter().map(|it| it["role"].clone()).collect();
        assert_eq!(roles, ["user", "assistant", "assistant", "tool"]);
        assert_eq!(items.input[2]["parts"], json!([call]));
        assert_eq!(items.input[3]["parts"], json!([answer]));
    }

    #[test]
    fn whatever_a_prompt_is_called_the_user_said_it() {
        for body in [
            json!({"input": "Go"}),
            json!({"prompt": "Go"}),
            json!({"inputText": "Go"}),
            json!({"texts": ["Go"]}),
            json!({"query": "Go"}),
            json!({"content": {"parts": [{"text": "Go"}]}}),
            json!({"requests": [{"content": {"parts": [{"text": "Go"}]}}]}),
            json!({"message": "Go", "chat_history": []}),
            json!({"type": "response.create", "response": {"input": [{"type": "message",
                "role": "user", "content": [{"type": "input_text", "text": "Go"}]}]}}),
            json!({"clientContent": {"turns": [{"role": "user", "parts": [{"text": "Go"}]}]}}),
        ] {
            assert_eq!(of(&body).input, [user("Go")], "{body}");
        }
    }

    #[test]
    fn what_is_asked_comes_behind_the_history() {
        let found = of(&json!({"message": "Now", "preamble": "Be brief",
            "chat_history": [{"role": "USER", "message": "Go"}, {"role": "CHATBOT", "message": "Yes"}]}));
        assert_eq!(found.input[0], user("Go"));
        assert_eq!(found.input[1]["role"], "assistant");
        assert_eq!(found.input[2], user("Now"));
        assert_eq!(found.system, [said("Be brief")]);
    }

    #[test]
    fn instructions_apart_from_the_messages_are_parts() {
        for body in [
            json!({"system": "Be brief"}),
            json!({"system": [{"type": "text", "text": "Be brief", "cache_control": {}}]}),
            json!({"system": [{"text": "Be brief"}]}),
            json!({"systemInstruction": {"parts": [{"text": "Be brief"}]}}),
            json!({"system_instruction": {"role": "user", "parts": [{"text": "Be brief"}]}}),
        ] {
            assert_eq!(of(&body).system, [said("Be brief")], "{body}");
        }
        let chat = of(&json!({"messages": [{"role": "system", "content": "Be brief"}]}));
        assert!(chat.system.is_empty());
        assert_eq!(chat.input[0]["role"], "system");
    }

    #[test]
    fn a_tool_is_defined_the_same_in_every_form() {
        let schema = json!({"type": "object"});
        let expected = json!({"type": "function", "name": "say", "description": "Says",
            "parameters": schema});
        let plain = json!({"name": "say", "description": "Says", "parameters": schema});
        for tools in [
            json!({"tools": [{"type": "function", "function": plain}]}),
            json!({"tools": [{"type": "function", "name": "say", "description": "Says",
                "parameters": schema}]}),
            json!({"tools": [{"name": "say", "description": "Says", "input_schema": schema}]}),
            json!({"tools": [{"functionDeclarations": [plain]}]}),
            json!({"toolConfig": {"tools": [{"toolSpec": {"name": "say", "description": "Says",
                "inputSchema": {"json": schema}}}]}}),
            json!({"functions": [plain]}),
        ] {
            assert_eq!(of(&tools).tools, std::slice::from_ref(&expected), "{tools}");
        }
        let built_in = of(
            &json!({"tools": [{"type": "web_search_20250305", "name": "web_search"},
            {"googleSearch": {}}]}),
        );
        let kinds: Vec<_> = built_in
            .tools
            .iter()
            .map(|tool| tool["type"].clone())
            .collect();
        assert_eq!(kinds, ["web_search_20250305", "googleSearch"]);
    }
}

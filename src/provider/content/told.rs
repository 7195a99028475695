//! What agents tell of their own spans: messages as providers have them or as the conventions have
//! them, plain words, and what went into a tool and came out of it.

use serde_json::{Map, Value, json};

use super::{
    super::wire::json::Json,
    FIELDS, HIDDEN, Response, hide_in, hide_in_tools, messages,
    part::parts,
    room::{MOST, Room},
    text::parsed,
};
use crate::call::{
    content::{Messages, Part},
    json_path::JsonPath,
};

/// Reads what an agent tells. Paths begin as in a request and in a response, so that those for calls
/// hold here too, but in messages of the conventions: these are searched below `$.messages[*].parts`.
pub fn told(parts: &[(Part, Box<str>)], hidden: &[JsonPath]) -> Messages {
    let mut all = Messages::default();
    for (part, text) in parts {
        let value = parsed(text.to_string());
        if value.is_string() && !hidden.is_empty() && text.trim_start().starts_with(['{', '[']) {
            // It cannot be searched.
            all.cut = true;
            continue;
        }
        match part {
            Part::System => system(value, hidden, &mut all),
            Part::Input => said(value, Side::Input, hidden, &mut all),
            Part::Output => said(value, Side::Output, hidden, &mut all),
            Part::Tools => {
                let body = json!({ "tools": value }).to_string();
                all.add(messages(body.as_bytes(), Response::None, hidden));
            },
            Part::Arguments => all.arguments = Some(searched(value, hidden, &mut all.cut)),
            Part::Result => {
                let mut result = searched(value, hidden, &mut all.cut);
                without_bytes(&mut result);
                all.result = Some(result);
            },
        }
    }
    all
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Input,
    Output,
}

/// Takes in what was read elsewhere.
trait Add {
    fn add(&mut self, other: Self);
}

impl Add for Messages {
    fn add(&mut self, mut other: Self) {
        for (list, further) in self.lists_mut().into_iter().zip(other.lists_mut()) {
            list.append(further);
        }
        self.cut |= other.cut;
    }
}

/// What a tool was given, or what came of it; it is cut if not all of it could be searched.
fn searched(mut value: Value, hidden: &[JsonPath], cut: &mut bool) -> Value {
    if !hidden.is_empty() {
        *cut |= !hide_in(&mut value, hidden);
    }
    value
}

fn system(value: Value, hidden: &[JsonPath], all: &mut Messages) {
    match value {
        Value::Array(parts) if parts.iter().all(is_part) => {
            let message = json!({"role": "system", "parts": parts});
            let mut message = known(vec![message], hidden, all);
            for message in &mut message {
                if let Some(Value::Array(parts)) = message.get_mut("parts") {
                    all.system.append(parts);
                }
            }
        },
        value => {
            let body = json!({ "system": value }).to_string();
            all.add(messages(body.as_bytes(), Response::None, hidden));
        },
    }
}

fn said(value: Value, side: Side, hidden: &[JsonPath], all: &mut Messages) {
    match value {
        Value::Array(list) if !list.is_empty() && list.iter().all(is_message) => {
            let mut found = known(list, hidden, all);
            match side {
                Side::Input => all.input.append(&mut found),
                Side::Output => all.output.append(&mut found),
            }
        },
        Value::Array(list) => all.add(listed(list, side, hidden)),
        Value::Object(fields) => {
            let value = searched(Value::Object(fields), hidden, &mut all.cut);
            let found = document(&value, side, hidden);
            // Whatever else goes into a step of an agent and comes out of it.
            let is_none = found.input.is_empty() && found.output.is_empty();
            let found = if is_none {
                listed(vec![Value::String(value.to_string())], side, &[])
            } else {
                found
            };
            all.add(found);
        },
        words => all.add(listed(vec![words], side, hidden)),
    }
}

/// A whole request or response.
fn document(value: &Value, side: Side, hidden: &[JsonPath]) -> Messages {
    let body = value.to_string();
    match side {
        Side::Input => messages(body.as_bytes(), Response::None, hidden),
        Side::Output => messages(b"", Response::Document(body.as_bytes()), hidden),
    }
}

/// Words, messages, or items of Responses.
fn listed(list: Vec<Value>, side: Side, hidden: &[JsonPath]) -> Messages {
    let is_item = |item: &Value| item.get("type").is_some() && item.get("tool_calls").is_none();
    let document_of = match side {
        Side::Input => json!({ "messages": list }),
        Side::Output if list.iter().all(is_item) => json!({ "output": list }),
        Side::Output => {
            let choices = list.into_iter().map(|message| match message {
                Value::Object(_) => json!({ "message": message }),
                words => json!({"message": {"role": "assistant", "content": words}}),
            });
            json!({"choices": choices.collect::<Vec<_>>()})
        },
    };
    document(&document_of, side, hidden)
}

fn is_part(part: &Value) -> bool {
    part.get("type").is_some_and(Value::is_string)
}

/// Whether it is a message as the conventions have it.
fn is_message(message: &Value) -> bool {
    let parts = message.get("parts").and_then(Value::as_array);
    parts.is_some_and(|parts| parts.iter().all(is_part))
}

/// Messages of the conventions, with what is known of them and nothing else.
fn known(list: Vec<Value>, hidden: &[JsonPath], all: &mut Messages) -> Vec<Value> {
    all.cut |= list.len() > MOST;
    let list = ("messages".to_owned(), Value::Array(list));
    let mut document = Value::Object(Map::from_iter([list]));
    for path in hidden {
        path.hide(&mut document, HIDDEN);
    }
    let Some(Value::Array(mut list)) = document.get_mut("messages").map(Value::take) else {
        return Vec::new();
    };
    list.truncate(MOST);
    list.retain(is_message);
    let mut room = Room::default();
    for message in &mut list {
        if let Some(fields) = message.as_object_mut() {
            fields.retain(|name, _| matches!(&**name, "role" | "name" | "finish_reason" | "parts"));
        }
        if let Some(Value::Array(parts)) = message.get_mut("parts") {
            *parts = parts
                .drain(..)
                .flat_map(|part| known_part(part, &mut room))
                .collect();
        }
        if !hidden.is_empty() {
            all.cut |= !hide_in_tools(message, hidden);
        }
    }
    all.cut |= room.is_cut;
    list
}

/// The kinds of parts in the conventions, and the field of each that the others are beside.
const KINDS: [(&str, &str); 9] = [
    ("text", "content"),
    ("reasoning", "content"),
    ("tool_call", "arguments"),
    ("tool_call_response", "response"),
    ("server_tool_call", "server_tool_call"),
    ("server_tool_call_response", "server_tool_call_response"),
    ("blob", "content"),
    ("file", "file_id"),
    ("uri", "uri"),
];

/// That field of a part; `None` if it is not as the conventions have it.
fn field_of(part: &Value) -> Option<&'static str> {
    let kind = part.get("type")?.as_str()?;
    let (_, field) = KINDS.into_iter().find(|(known, _)| *known == kind)?;
    let value = part.get(field)?;
    (value.is_string() || FIELDS.contains(&field)).then_some(field)
}

/// A part with what is known of it and nothing else.
fn known_part(mut part: Value, room: &mut Room) -> Vec<Value> {
    if let Some(fields) = part.as_object_mut()
        && fields.get("type").is_some_and(|kind| kind == "tool_call_response")
        // As the conventions' own examples have it.
        && let Some(result) = fields.remove("result")
    {
        fields.entry("response").or_insert(result);
    }
    let Some(main) = field_of(&part) else {
        return as_in_calls(&part, room);
    };
    if let Some(blob) = blob(&part) {
        return vec![blob];
    }
    if let Some(fields) = part.as_object_mut() {
        fields.retain(|name, value| {
            let is_beside = matches!(&**name, "type" | "id" | "name" | "mime_type" | "modality");
            name == main || (is_beside && value.is_string())
        });
        for name in ["response", "server_tool_call_response"] {
            fields.get_mut(name).into_iter().for_each(without_bytes);
        }
    }
    vec![part]
}

/// What a part in the form of a provider is in calls.
fn as_in_calls(part: &Value, room: &mut Room) -> Vec<Value> {
    let (text, mut out) = (part.to_string(), Vec::new());
    Json::document(text.as_bytes()).read(|part| parts(part, &mut out, room));
    out
}

/// Leaves of pictures, sound and files in what came of a tool only kind and size, as in messages.
fn without_bytes(result: &mut Value) {
    let items = match result {
        Value::Array(items) => &mut items[..],
        item => std::slice::from_mut(item),
    };
    for item in items {
        let found = if !is_part(item) {
            None
        } else if field_of(item).is_some() {
            blob(item)
        } else {
            let found = as_in_calls(item, &mut Room::default()).pop();
            found.filter(|part| says_what_it_is(item, part))
        };
        if let Some(found) = found {
            *item = found;
        }
    }
}

/// Whether an item of a result that reads as these bytes says that it is that: a tool's own records
/// can have a field of such a name too, and are kept.
fn says_what_it_is(item: &Value, read: &Value) -> bool {
    let kind = item.get("type").and_then(Value::as_str).unwrap_or_default();
    let modality = read.get("modality").and_then(Value::as_str);
    let is_of_kind = modality.is_some_and(|it| it != "document" && kind.contains(it));
    read.get("type").is_some_and(|kind| kind == "blob")
        && (is_of_kind || read.get("mime_type").is_some())
}

/// Of a part that holds the bytes of a picture, sound or file, kind and size: nobody can tell what is
/// in them.
fn blob(part: &Value) -> Option<Value> {
    let text = |name: &str| part.get(name).and_then(Value::as_str);
    let data = match text("type") {
        Some("blob") => text("content"),
        _ => text("uri").filter(|uri| uri.starts_with("data:")),
    }?;
    let mut blob = Map::new();
    for name in ["mime_type", "modality"] {
        if let Some(value) = text(name) {
            blob.insert(name.to_owned(), json!(value));
        }
    }
    blob.insert("type".to_owned(), json!("blob"));
    blob.insert("bytes".to_owned(), json!(data.len() / 4 * 3));
    Some(Value::Object(blob))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parts: &[(Part, &Value)], hidden: &[&str]) -> Messages {
        let parts = parts.iter().map(|(part, value)| {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            (*part, Box::from(text))
        });
        let hidden: Vec<JsonPath> = hidden.iter().map(|path| path.parse().unwrap()).collect();
        told(&parts.collect::<Vec<_>>(), &hidden)
    }

    #[test]
    fn messages_are_read_whatever_their_form() {
        let text = |role: &str, text: &str| json!({"role": role, "parts": [{"type": "text", "content": text}]});
        for input in [
            json!("Hi"),
            json!([{"role": "user", "content": "Hi"}]),
            json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}),
            json!([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]),
            json!([text("user", "Hi")]),
        ] {
            let found = read(&[(Part::Input, &input)], &[]);
            assert_eq!(found.input, [text("user", "Hi")], "{input}");
            assert!(!found.cut && found.output.is_empty());
        }
        for output in [
            json!("Ho"),
            json!([{"role": "assistant", "content": "Ho", "tool_calls": null}]),
            json!({"choices": [{"message": {"role": "assistant", "content": "Ho"}}]}),
            json!([{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Ho"}]}]),
            json!([text("assistant", "Ho")]),
        ] {
            let found = read(&[(Part::Output, &output)], &[]);
            let [message] = &found.output[..] else {
                panic!("{output}: {:?}", found.output)
            };
            assert_eq!(message["parts"], text("", "Ho")["parts"], "{output}");
            assert_eq!(message["role"], "assistant", "{output}");
        }
        let other = json!({"question": "Why?"});
        let found = read(&[(Part::Input, &other)], &[]);
        assert_eq!(found.input, [text("user", &other.to_string())]);
    }

    #[test]
    fn tools_have_arguments_and_results() {
        let arguments = json!({"city": "Oslo"});
        let found = read(
            &[
                (Part::Arguments, &arguments),
                (Part::Result, &json!("sunny")),
            ],
            &[],
        );
        assert_eq!(
            (found.arguments, found.result),
            (Some(arguments), Some(json!("sunny")))
        );
        let calls = json!([{"role": "assistant", "content": null, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]}]);
        let found = read(&[(Part::Output, &calls)], &[]);
        assert_eq!(found.output[0]["parts"][0]["arguments"], json!({"a": 1}));
    }

    #[test]
    fn what_is_hidden_is_not_there_in_any_form() {
        let hidden = [
            "$.messages[0].content",
            "$.messages[0].parts[0].content",
            "$.customer",
        ];
        for (part, value) in [
            (Part::Input, json!([{"role": "user", "content": "Ann"}])),
            (
                Part::Input,
                json!({"messages": [{"role": "user", "content": "Ann"}]}),
            ),
            (
                Part::Input,
                json!([{"role": "user", "parts": [{"type": "text", "content": "Ann"}]}]),
            ),
            (Part::Input, json!({"customer": "Ann"})),
            (Part::Arguments, json!({"customer": "Ann"})),
            (Part::Result, json!("{\"customer\": \"Ann")),
            (
                Part::Output,
                json!([{"role": "assistant", "parts": [
                {"type": "tool_call", "name": "f", "arguments": {"customer": "Ann"}}]}]),
            ),
        ] {
            let mut found = read(&[(part, &value)], &hidden);
            let all: Value = found.values_mut().map(Value::take).collect();
            assert!(!all.to_string().contains("Ann"), "{all}");
            assert!(all.to_string().contains(HIDDEN) || found.cut, "{all}");
        }
    }

    #[test]
    fn of_pictures_only_kind_and_size_are_kept() {
        let picture = |part: Value| json!([{"role": "user", "raw": "x", "parts": [part]}]);
        for part in [
            json!({"type": "blob", "mime_type": "image/png", "content": "AAAAAAAA"}),
            json!({"type": "uri", "mime_type": "image/png", "uri": "data:,AA"}),
        ] {
            let found = read(&[(Part::Input, &picture(part))], &[]);
            let expected = json!({"type": "blob", "mime_type": "image/png", "bytes": 6});
            assert_eq!(found.input, [json!({"role": "user", "parts": [expected]})]);
        }
    }

    #[test]
    fn of_pictures_in_the_forms_of_providers_only_kind_and_size_are_kept_too() {
        let png = "iVBORw0KGgoA";
        let url = format!("data:image/png;base64,{png}");
        let forms = [
            json!({"type": "image_url", "image_url": {"url": url}}),
            json!({"type": "input_image", "image_url": url}),
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": png}}),
            json!({"type": "image", "data": png, "mimeType": "image/png"}),
            json!({"type": "blob", "mime_type": "image/png", "data": png}),
            json!({"type": "blob", "mime_type": "image/png", "modality": "image", "content": png}),
        ];
        let is_blob = |part: &Value| {
            assert_eq!(part["type"], "blob", "{part}");
            assert_eq!(part["bytes"], 9, "{part}");
            assert!(!part.to_string().contains(png), "{part}");
        };
        for form in forms {
            let results = json!([{"role": "tool", "parts": [
                form,
                {"type": "tool_call_response", "id": "c", "response": [form, {"row": 1}]},
                {"type": "tool_call_response", "id": "c", "result": form},
                {"type": "server_tool_call_response", "server_tool_call_response": [form]},
            ]}]);
            let found = read(&[(Part::Input, &results)], &[]);
            let parts = &found.input[0]["parts"];
            is_blob(&parts[0]);
            is_blob(&parts[1]["response"][0]);
            assert_eq!(parts[1]["response"][1], json!({"row": 1}));
            is_blob(&parts[2]["response"]);
            is_blob(&parts[3]["server_tool_call_response"][0]);
            let found = read(&[(Part::Result, &json!([form]))], &[]);
            is_blob(&found.result.unwrap()[0]);
        }
    }

    #[test]
    fn of_parts_only_what_is_known_is_kept_and_of_results_all() {
        let hit = json!([
            {"type": "hit", "source": "wiki"},
            {"type": "document", "source": "wiki", "title": "Oslo"},
            {"type": "product", "image": "/boot.png", "price": 5},
            {"type": "text", "content": "x", "n": 1},
        ]);
        let message = json!([{"role": "user", "parts": [
            {"type": "text", "content": "Hi", "raw": "AAAA", "name": {"data": "AAAA"}},
            {"type": "text", "text": "Ho"},
            {"type": "binary", "media_type": "image/png", "content": "AAAA"},
            {"type": "tool_call", "id": "c", "name": "f", "args": {"a": 1}},
            {"type": "tool_call_response", "id": "c", "response": hit, "raw": "AAAA"},
        ]}]);
        let found = read(&[(Part::Input, &message)], &[]);
        let expected = json!([
            {"type": "text", "content": "Hi"},
            {"type": "text", "content": "Ho"},
            {"type": "binary"},
            {"type": "tool_call", "id": "c", "name": "f", "arguments": {"a": 1}},
            {"type": "tool_call_response", "id": "c", "response": hit},
        ]);
        assert_eq!(found.input[0]["parts"], expected);
    }

    #[test]
    fn results_are_searched_whatever_their_name() {
        let part = json!({"type": "tool_call_response", "result": {"customer": "Ann"}});
        let message = json!([{"role": "tool", "parts": [part]}]);
        let found = read(&[(Part::Input, &message)], &["$.customer"]);
        let response = &found.input[0]["parts"][0]["response"];
        assert_eq!(response, &json!({"customer": HIDDEN}));
    }
}

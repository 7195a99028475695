//! What agents tell of their own spans: messages as providers have them or as the conventions have
//! them, plain words, and what went into a tool and came out of it.

use serde_json::{Map, Value, json};

use super::{HIDDEN, Response, hide_in, hide_in_tools, messages, room::MOST, text::parsed};
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
            Part::Result => all.result = Some(searched(value, hidden, &mut all.cut)),
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
    for message in &mut list {
        if let Some(fields) = message.as_object_mut() {
            fields.retain(|name, _| matches!(&**name, "role" | "name" | "finish_reason" | "parts"));
        }
        let parts = message.get_mut("parts").and_then(Value::as_array_mut);
        parts.into_iter().flatten().for_each(without_bytes);
        if !hidden.is_empty() {
            all.cut |= !hide_in_tools(message, hidden);
        }
    }
    list
}

/// Leaves of pictures, sound and files only kind and size: nobody can tell what is in them.
fn without_bytes(part: &mut Value) {
    let Some(fields) = part.as_object_mut() else {
        return;
    };
    let is = |name: &str| fields.get("type").and_then(Value::as_str) == Some(name);
    let data = fields.get("uri").and_then(Value::as_str);
    let is_data = data.is_some_and(|uri| uri.starts_with("data:"));
    if is("blob") || is_data {
        let encoded = if is_data {
            data
        } else {
            fields.get("content").and_then(Value::as_str)
        };
        let bytes = encoded.map(|text| text.len() / 4 * 3);
        let mut blob = Map::new();
        for name in ["mime_type", "modality"] {
            if let Some(value) = fields.get(name) {
                blob.insert(name.to_owned(), value.clone());
            }
        }
        blob.insert("type".to_owned(), json!("blob"));
        blob.insert("bytes".to_owned(), json!(bytes));
        *part = Value::Object(blob);
    }
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
}

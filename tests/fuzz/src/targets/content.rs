//! What was said in calls, and what agents tell of their spans.
//!
//! What must hold: of any bytes messages are read, and never much more of them than there was to read;
//! what is read once is read again; nothing that is hidden is among them where all is JSON.

use serde_json::{Value, json};

use super::{
    cases::{self, Case},
    steered,
};
use crate::{
    call::{
        content::{Messages, Part},
        json_path::JsonPath,
    },
    provider::{
        content::{Response, messages, told},
        wire::framing::Framing,
    },
};

const PARTS: [Part; 6] = [
    Part::System,
    Part::Input,
    Part::Output,
    Part::Tools,
    Part::Arguments,
    Part::Result,
];

/// How much longer what was read may be than the bytes: empty parts are read as what they are.
const LONGER: usize = 64;

pub fn run(input: &[u8]) {
    let Some((bytes, [high, low, form, split])) = steered(input) else {
        return;
    };
    let hidden = ["$..secret", "$.messages[0].content", "$[*].id"];
    let hidden: Vec<JsonPath> = hidden.iter().filter_map(|path| path.parse().ok()).collect();
    let hidden = if form & 0x80 == 0 { &hidden[..] } else { &[] };
    let case = cases::pick(high, low);
    let at = bytes.len() * usize::from(split) / 255;
    let (request, answer) = bytes.split_at(at);
    let read = |hidden: &[JsonPath]| match form % 8 {
        0 => messages(request, Response::Document(answer), hidden),
        1 => messages(request, Response::Stream(Framing::Sse, answer), hidden),
        2 => messages(request, Response::Stream(Framing::Lines, answer), hidden),
        3 => messages(request, Response::Stream(Framing::Array, answer), hidden),
        4 => {
            // A checksum is not guessed: mutations are made before there are any.
            let frames = cases::frames(answer);
            messages(
                request,
                Response::Stream(Framing::EventStream, &frames),
                hidden,
            )
        },
        5 => messages(&case.request, Response::Document(bytes), hidden),
        6 => messages(bytes, Response::None, hidden),
        _ => {
            let part = PARTS[usize::from(low) % PARTS.len()];
            let text = String::from_utf8_lossy(bytes);
            told(&[(part, text.into())], hidden)
        },
    };
    let found = read(hidden);
    let shown = shown(&found);
    let most = LONGER * (bytes.len() + case.request.len()) + 4_096;
    assert!(shown.len() <= most, "{} of {}", shown.len(), bytes.len());
    assert!(found == read(hidden), "what is read once is read again");
    if let (6, Ok(value), false) = (form % 8, serde_json::from_slice(bytes), hidden.is_empty()) {
        let marked = marked(&value);
        let found = messages(marked.to_string().as_bytes(), Response::None, hidden);
        assert!(!self::shown(&found).contains(MARK), "{marked}");
    }
}

/// What must not be read.
const MARK: &str = "0a8f-hush-77d3";

/// The document with a secret wherever there can be one.
fn marked(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(marked).collect(),
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| (name.clone(), marked(value)));
            fields.chain([("secret".to_owned(), json!(MARK))]).collect()
        },
        other => other.clone(),
    }
}

fn shown(found: &Messages) -> String {
    let lists = found.lists();
    json!([lists, found.arguments, found.result]).to_string()
}

/// Our own exchanges, and what agents tell.
pub fn seeds() -> Vec<Vec<u8>> {
    let seed = |(n, case): (usize, &Case)| {
        let [high, low] = cases::steer(n);
        let form = match case.framing {
            None => 0,
            Some(Framing::Sse) => 1,
            Some(Framing::Lines) => 2,
            Some(Framing::Array) => 3,
            Some(Framing::EventStream) => 4,
        };
        [&*case.response, &[high, low, form, 0]].concat()
    };
    let request = |(n, case): (usize, &Case)| {
        let [high, low] = cases::steer(n);
        [&*case.request, &[high, low, 6, 0]].concat()
    };
    let cases = cases::all();
    let mut seeds: Vec<_> = cases.iter().enumerate().map(seed).collect();
    seeds.extend(cases.iter().enumerate().map(request));
    let told = json!([{"role": "user", "parts": [{"type": "text", "content": "c"},
        {"type": "blob", "mime_type": "m", "content": "AAAA"},
        {"type": "tool_call", "id": "i", "name": "n", "arguments": {"secret": 1}}]}]);
    for part in 0..PARTS.len() as u8 {
        seeds.push([told.to_string().as_bytes(), &[0, part, 7, 0]].concat());
    }
    seeds
}

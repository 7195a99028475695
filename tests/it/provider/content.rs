//! Real exchanges: what was said in them is found, and the calls of tools are the recorded ones.

use std::fmt;

use serde_json::Value;
use tollgate::{
    call::{content::Messages, facts::Spends},
    provider::{
        Config, Providers,
        content::{Response, messages},
    },
};

use super::corpus::{Exchange, exchanges};

/// Operations whose answers are no text.
const SPEECHLESS: [&str; 8] = [
    "mbed",
    "moderation",
    "image",
    "speech",
    "rerank",
    "predict",
    "count",
    "input_tokens",
];

#[test]
fn what_was_said_is_found_in_every_recorded_exchange() {
    let Some(exchanges) = exchanges() else {
        return;
    };
    let providers = Providers::build(&Config::default()).unwrap();
    let mut wrong = Vec::new();
    let (mut seen, mut with_calls) = (0, 0);
    for exchange in &exchanges {
        let generates = exchange.expected.is_generation == Some(true) && exchange.status < 400;
        if exchange.suspect_synthetic || !generates || exchange.request_body.is_none() {
            continue;
        }
        let provider = providers
            .named(&exchange.provider)
            .or_else(|| providers.named("openai"))
            .unwrap();
        let method = exchange.method.parse().unwrap();
        let (dialect, op) = provider.operation(&method, exchange.path(), exchange.query());
        if op.spends != Spends::Tokens {
            continue;
        }
        let bytes = exchange.bytes();
        let content_type = exchange.response_headers.get("content-type");
        let content_type = content_type.and_then(Value::as_str).unwrap_or_default();
        let framing = dialect
            .framing(op, content_type)
            .filter(|_| exchange.stream);
        let response = match framing {
            Some(framing) => Response::Stream(framing, &bytes),
            None => Response::Document(&bytes),
        };
        let request = exchange.request_body.as_deref().unwrap();
        if serde_json::from_str::<Value>(request).is_err() {
            continue;
        }
        seen += 1;
        let found = messages(request.as_bytes(), response, &[]);
        let mut differ = |what: &str, found: &dyn fmt::Debug| {
            let Exchange { endpoint, id, .. } = exchange;
            wrong.push(format!("{endpoint} {id} {what}: {found:?}"));
        };
        check(exchange, request, &found, &mut differ);
        with_calls += usize::from(check_calls(exchange, &found.output, &mut differ));
        // Wherever it breaks off.
        let half = &bytes[..bytes.len() / 2];
        let cut = match framing {
            Some(framing) => Response::Stream(framing, half),
            None => Response::Document(half),
        };
        let _less = messages(&request.as_bytes()[..request.len() / 2], cut, &[]);
    }
    println!("{seen} exchanges, {with_calls} of them with calls of tools");
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(seen > 700 && with_calls > 100);
}

fn check(
    exchange: &Exchange,
    request: &str,
    found: &Messages,
    differ: &mut dyn FnMut(&str, &dyn fmt::Debug),
) {
    let continues = request.contains("previous_response_id") || request.contains("conversation");
    if found.input.is_empty() && found.system.is_empty() && !continues {
        differ("input", &"none");
    }
    if found.cut && exchange.expected.stream_complete != Some(false) {
        differ("cut", &true);
    }
    let output = serde_json::to_string(&found.output).unwrap();
    if output.contains("ELIDED_") {
        differ("bytes of a file", &"kept");
    }
    // What was thought, or may not be said, is counted all the same.
    let mut reasons = found.output.iter().map(|message| &message["finish_reason"]);
    let is_silent = reasons.any(|it| it == "content_filter" || it == "length");
    let mut speechless = SPEECHLESS.iter();
    let is_speechless = speechless.any(|word| exchange.endpoint.contains(word));
    let wrote = exchange.expected.output_tokens.as_ref();
    let wrote = wrote
        .and_then(Value::as_f64)
        .is_some_and(|tokens| tokens > 1.0);
    if wrote && !is_speechless && !is_silent && !has_parts(&found.output) {
        differ("output", &output);
    }
}

fn has_parts(output: &[Value]) -> bool {
    let parts = output
        .iter()
        .filter_map(|message| message["parts"].as_array());
    parts.map(Vec::len).sum::<usize>() > 0
}

fn check_calls(
    exchange: &Exchange,
    output: &[Value],
    differ: &mut dyn FnMut(&str, &dyn fmt::Debug),
) -> bool {
    let Some(calls) = &exchange.expected.tool_calls else {
        return false;
    };
    let expected: Vec<(&str, &str)> = calls
        .iter()
        .filter_map(|call| {
            Some((
                call.name.as_deref()?,
                call.id.as_deref().unwrap_or_default(),
            ))
        })
        .filter(|(name, _)| !name.is_empty())
        .collect();
    let parts = output
        .iter()
        .filter_map(|message| message["parts"].as_array());
    let found: Vec<(&str, &str)> = parts
        .flatten()
        .filter(|part| part["type"] == "tool_call")
        .map(|part| (&part["name"], &part["id"]))
        .map(|(name, id)| {
            (
                name.as_str().unwrap_or_default(),
                id.as_str().unwrap_or_default(),
            )
        })
        .filter(|(name, _)| !name.is_empty())
        .collect();
    if found != expected {
        differ("calls", &(&found, &expected));
    }
    !expected.is_empty()
}

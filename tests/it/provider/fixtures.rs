//! Exchanges of our own, one a folder: `case.json` with the request and what is to be read, and
//! `response.json`, `response.sse`, `response.ndjson` or `response.frames` (a line for each frame of an AWS event stream:
//! its name and its data, or what is in its `chunk`). Only the facts that a case names are compared.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tollgate::{
    call::facts::{Continued, Operation, RequestFacts, ResponseFacts},
    provider::{DIALECTS, Dialect, Event, wire::framing::Framing},
};

use super::reading::{self, Read};

/// One exchange.
pub(super) struct Fixture {
    /// Where it is, for messages.
    pub(super) name: String,
    pub(super) dialect: &'static dyn Dialect,
    pub(super) op: &'static Operation,
    pub(super) path: String,
    pub(super) request: Vec<u8>,
    pub(super) response: Vec<u8>,
    /// The response is a stream of events.
    pub(super) is_stream: bool,
    pub(super) framing: Framing,
    reads: Reads,
}

#[derive(Deserialize)]
struct Case {
    method: String,
    path: String,
    request: Value,
    reads: Reads,
}

#[derive(Deserialize)]
struct Reads {
    request: Map<String, Value>,
    response: Map<String, Value>,
}

impl Fixture {
    /// Reads the response, a stream in chunks of `size`.
    pub(super) fn read(&self, size: usize) -> Read {
        if self.is_stream {
            let chunks: Vec<_> = self.response.chunks(size).collect();
            reading::stream(self.dialect, self.op, self.framing, &chunks)
        } else {
            reading::body(self.dialect, self.op, &self.response)
        }
    }

    /// Reads the request.
    pub(super) fn read_request(&self, body: &[u8]) -> RequestFacts {
        let mut facts = RequestFacts::default();
        let read = self
            .dialect
            .read_request(self.op, &self.path, body, &mut facts);
        let needs_body = !self.request.is_empty();
        assert!(read.is_ok() || !needs_body, "{}: {read:?}", self.name);
        facts
    }
}

/// Every fixture, in the order of their names.
pub(super) fn all() -> Vec<Fixture> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut found = Vec::new();
    for dialect in DIALECTS {
        let cases = fs::read_dir(root.join(dialect.name()))
            .unwrap_or_else(|error| panic!("no fixtures of {}: {error}", dialect.name()));
        found.extend(cases.map(|entry| load(*dialect, &entry.unwrap().path())));
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

fn load(dialect: &'static dyn Dialect, directory: &Path) -> Fixture {
    let case = fs::read(directory.join("case.json")).unwrap();
    let case: Case = serde_json::from_slice(&case).unwrap();
    let (response, framing) = if let Ok(stream) = fs::read(directory.join("response.sse")) {
        (stream, Some(Framing::Sse))
    } else if let Ok(lines) = fs::read(directory.join("response.ndjson")) {
        (lines, Some(Framing::Lines))
    } else if let Ok(lines) = fs::read_to_string(directory.join("response.frames")) {
        (frames(&lines), Some(Framing::EventStream))
    } else {
        (fs::read(directory.join("response.json")).unwrap(), None)
    };
    let request = match &case.request {
        Value::Null => Vec::new(),
        body => body.to_string().into_bytes(),
    };
    Fixture {
        name: format!(
            "{}/{}",
            dialect.name(),
            directory.file_name().unwrap().display()
        ),
        dialect,
        op: dialect.operation(&case.method.parse().unwrap(), &case.path),
        path: case.path,
        request,
        response,
        is_stream: framing.is_some(),
        framing: framing.unwrap_or_default(),
        reads: case.reads,
    }
}

/// Each line as a frame: `messageStop {…}`, `!throttlingException {…}`, `chunk {…}`.
fn frames(lines: &str) -> Vec<u8> {
    let mut stream = Vec::new();
    for line in lines.lines() {
        let (name, data) = line.split_once(' ').unwrap();
        let data = match name {
            "chunk" => json!({"bytes": STANDARD.encode(data), "p": "abc"}).to_string(),
            _ => data.to_owned(),
        };
        let event = Event {
            name: Some(name.trim_start_matches('!')),
            fault: name.starts_with('!'),
            ..Event::data(data.as_bytes())
        };
        stream.extend(Framing::EventStream.end(&[event], false));
    }
    stream
}

fn request_facts(facts: &RequestFacts) -> Value {
    let labels = facts.labels.iter();
    let labels: Map<_, _> = labels
        .map(|(label, value)| (label.name().to_owned(), json!(value)))
        .collect();
    json!({
        "model": facts.model,
        "stream": facts.stream,
        "asks_usage": facts.asks_usage,
        "output_limit": facts.output_limit,
        "choices": facts.choices,
        "continues": facts.continues.as_ref().map(Continued::id),
        "background": facts.background,
        "response_id": facts.response_id,
        "labels": labels,
    })
}

fn response_facts(facts: &ResponseFacts) -> Value {
    let tools: Vec<_> = facts
        .tool_calls
        .iter()
        .map(|call| json!([call.id, call.name]))
        .collect();
    json!({
        "id": facts.id,
        "model": facts.model,
        "input": facts.usage.input,
        "output": facts.usage.output,
        "cache_read": facts.usage.cache_read,
        "cache_write": facts.usage.cache_write,
        "reasoning": facts.usage.reasoning,
        "finish": facts.finish_reasons,
        "stop_detail": facts.stop_detail,
        "tools": tools,
        "server_tools": facts.server_tools,
        "error": facts.error.as_ref().map(|error| json!([error.kind, error.code])),
        "complete": facts.complete,
        "pending": facts.pending,
        "output_bytes": facts.output_bytes.bytes,
    })
}

#[test]
fn every_fixture_is_read_as_it_says() {
    for fixture in all() {
        let request = request_facts(&fixture.read_request(&fixture.request));
        let read = fixture.read(usize::MAX);
        let response = response_facts(&read.facts);
        assert_eq!(read.unreadable, [], "{}", fixture.name);
        for (expected, found) in [
            (&fixture.reads.request, request),
            (&fixture.reads.response, response),
        ] {
            for (fact, value) in expected {
                let found = found
                    .get(fact)
                    .unwrap_or_else(|| panic!("no fact is called {fact}"));
                assert_eq!(found, value, "{} {fact}", fixture.name);
            }
        }
    }
}

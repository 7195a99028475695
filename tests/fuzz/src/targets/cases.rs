//! The exchanges in `tests/fixtures`: which dialects and operations there are, and what to begin
//! with. Whatever has a fixture is fuzzed.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use serde_json::{Value, json};

use crate::{
    call::facts::Operation,
    provider::{DIALECTS, Dialect, Event, wire::framing::Framing},
};

/// One exchange.
#[derive(Debug)]
pub struct Case {
    pub dialect: &'static dyn Dialect,
    pub op: &'static Operation,
    pub path: String,
    pub request: Vec<u8>,
    /// Frames as their lines ([`frames`]).
    pub response: Vec<u8>,
    /// How the response is divided, if it is a stream.
    pub framing: Option<Framing>,
}

/// Every exchange, in the order of their names.
pub fn all() -> &'static [Case] {
    static ALL: OnceLock<Vec<Case>> = OnceLock::new();
    ALL.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
        let folders = DIALECTS.iter().flat_map(|dialect| {
            let folders = below(&root.join(dialect.name()));
            folders.into_iter().map(|folder| (*dialect, folder))
        });
        let cases: Vec<_> = folders
            .filter_map(|(dialect, folder)| load(dialect, &folder))
            .collect();
        assert!(!cases.is_empty(), "there are no exchanges in {root:?}");
        cases
    })
}

/// The exchange that two steering bytes pick, and its place.
pub fn pick(high: u8, low: u8) -> &'static Case {
    let all = all();
    &all[usize::from(u16::from_be_bytes([high, low])) % all.len()]
}

/// The steering bytes that pick the exchange at `place`.
pub fn steer(place: usize) -> [u8; 2] {
    u16::try_from(place).unwrap_or_default().to_be_bytes()
}

fn load(dialect: &'static dyn Dialect, folder: &Path) -> Option<Case> {
    let case = fs::read(folder.join("case.json")).ok()?;
    let case: Value = serde_json::from_slice(&case).ok()?;
    let method: Method = case["method"].as_str()?.parse().ok()?;
    let path = case["path"].as_str()?.to_owned();
    let request = match &case["request"] {
        Value::Null => Vec::new(),
        body => body.to_string().into_bytes(),
    };
    let is_response = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem == "response");
    let response = below(folder).into_iter().find(is_response)?;
    let framing = match response.extension()?.to_str()? {
        "json" => None,
        "sse" => Some(Framing::Sse),
        "jsonl" | "ndjson" => Some(Framing::Lines),
        "array" => Some(Framing::Array),
        "frames" => Some(Framing::EventStream),
        other => panic!("how a response.{other} is divided is not known"),
    };
    Some(Case {
        op: dialect.operation(&method, &path),
        dialect,
        path,
        request,
        response: fs::read(response).ok()?,
        framing,
    })
}

/// A stream of frames, one a line: `messageStop {…}`, `!throttlingException {…}`, and
/// `chunk {…}`, whose data goes in base64.
pub fn frames(lines: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let Some(space) = memchr::memchr(b' ', line) else {
            continue;
        };
        let (name, data) = (&line[..space], &line[space + 1..]);
        let data = match name {
            b"chunk" => json!({"bytes": STANDARD.encode(data), "p": "abc"})
                .to_string()
                .into_bytes(),
            _ => data.to_vec(),
        };
        let event = Event {
            name: std::str::from_utf8(name.strip_prefix(b"!").unwrap_or(name)).ok(),
            fault: name.starts_with(b"!"),
            ..Event::data(&data)
        };
        stream.extend(Framing::EventStream.end(&[event], false));
    }
    stream
}

/// What is in a folder, in order.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut found: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}

//! Requests of every dialect and operation: what is read, what is kept of one that is too large,
//! and what is edited.
//!
//! What must hold: another spelling of the same JSON asks for the same; any chunking keeps the same
//! fields, and what is kept is JSON; an edited request is still JSON, has the field that was to be
//! set however it was spelt before, and is else the same.

use serde_json::Value;

use super::{
    cases::{self, Case},
    chunks, json, steered,
};
use crate::{
    call::facts::RequestFacts,
    provider::{
        Splice, steps,
        wire::{
            form::BodyScanner,
            scan::{Reduced, Scanner, Wanted},
        },
    },
};

/// The most tools that dialects name.
const MAX_TOOLS: usize = 128;
const FORM: &str = "multipart/form-data; boundary=b";

pub fn run(input: &[u8]) {
    let Some((bytes, [high, low, limit, size])) = steered(input) else {
        return;
    };
    let case = cases::pick(high, low);
    let facts = read(case, bytes);
    if let Some(respelt) = json::respelt(bytes) {
        let again = read(case, &respelt);
        assert_eq!(
            asked(&facts),
            asked(&again),
            "{} {}",
            case.dialect.name(),
            case.op.name
        );
    }
    let _of_any_bytes = steps(bytes, crate::call::steps::Steps::default());
    kept(case.dialect.wanted().request, bytes, size);
    // Nobody is bounded to nothing; to Ollama, zero is no bound.
    bound(case, bytes, &facts, u64::from(limit).max(1));
    let streams = RequestFacts {
        stream: true,
        ..facts
    };
    if let Some(splice) = case.dialect.ask_usage(case.op, bytes, &streams)
        && let Some(after) = edited(bytes, &splice, &|value| *value == Value::Bool(true))
    {
        assert!(read(case, &after).asks_usage, "usage is asked for");
    }
}

fn read(case: &Case, body: &[u8]) -> RequestFacts {
    let mut facts = RequestFacts::default();
    let _unreadable = case
        .dialect
        .read_request(case.op, &case.path, body, &mut facts);
    facts
}

/// The facts that do not depend on how the request is spelt.
fn asked(facts: &RequestFacts) -> RequestFacts {
    let mut tools = facts.tools.clone();
    // Gemini's are the fields of objects, which have no order; of too many the first are kept.
    tools.sort();
    if tools.len() >= MAX_TOOLS {
        tools.clear();
    }
    RequestFacts {
        input: Default::default(),
        tools,
        ..facts.clone()
    }
}

/// The request with its output bounded.
fn bound(case: &Case, bytes: &[u8], facts: &RequestFacts, limit: u64) {
    let Some(splice) = case.dialect.bound_output(case.op, bytes, limit) else {
        return;
    };
    let Some(after) = edited(bytes, &splice, &|value| *value == Value::from(limit)) else {
        return;
    };
    let least = facts.output_limit.map_or(limit, |known| known.min(limit));
    let bound = read(case, &after).output_limit;
    // More than it was only if another name of it had no number, in whose place there is one now.
    let most = if has_limit_of_no_number(bytes) {
        limit
    } else {
        least
    };
    assert!(
        bound.is_some_and(|bound| (least..=most).contains(&bound)),
        "{bound:?} {} {}: {}",
        case.dialect.name(),
        case.op.name,
        String::from_utf8_lossy(&after)
    );
}

/// Whether something that may be called an output limit is no number, at any depth.
fn has_limit_of_no_number(bytes: &[u8]) -> bool {
    fn within(value: &Value) -> bool {
        let is_limit = |key: &str| {
            let key = key.to_lowercase();
            key.contains("max") || key.contains("predict")
        };
        match value {
            Value::Object(members) => members
                .iter()
                .any(|(key, value)| is_limit(key) && !value.is_u64() || within(value)),
            Value::Array(items) => items.iter().any(within),
            _ => false,
        }
    }
    serde_json::from_slice(bytes).is_ok_and(|value| within(&value))
}

/// The edited body, in another spelling than ours; `None` if it was not JSON of one meaning.
fn edited(bytes: &[u8], splice: &Splice, is_edit: &dyn Fn(&Value) -> bool) -> Option<Vec<u8>> {
    assert!(splice.at + splice.remove <= bytes.len(), "{splice:?}");
    let after = splice.apply(bytes);
    let before: Value = serde_json::from_slice(bytes).ok()?;
    let value: Value = serde_json::from_slice(&after).expect("an edited request is still JSON");
    json::respelt(bytes)?;
    assert!(
        json::differs_only(&before, &value, is_edit),
        "{before} was edited to {value}"
    );
    Some(json::respelt(&after).expect("an edit makes no name twice"))
}

fn kept(wanted: Wanted, bytes: &[u8], size: u8) {
    for kind in [None, Some(FORM.as_bytes())] {
        let scan = |size| -> Reduced {
            let mut scanner = BodyScanner::new(kind, wanted);
            chunks(bytes, size).for_each(|chunk| scanner.feed(&chunk));
            scanner.finish()
        };
        let whole = scan(0);
        assert_eq!(scan(size), whole, "chunks of {size}");
        assert!(whole.document.len() <= Scanner::MAX_KEPT + 64);
        let is_json = serde_json::from_slice::<Value>(bytes).is_ok_and(|value| value.is_object());
        if is_json || kind.is_some() {
            let document: Result<Value, _> = serde_json::from_slice(&whole.document);
            assert!(
                document.is_ok(),
                "{}",
                String::from_utf8_lossy(&whole.document)
            );
        }
    }
}

/// Our own exchanges, and a form.
pub fn seeds() -> Vec<Vec<u8>> {
    let seed = |(n, case): (usize, &Case)| {
        let [high, low] = cases::steer(n);
        [&*case.request, &[high, low, 50, 7]].concat()
    };
    let form = b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b\r\n\
        content-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--b--\r\n";
    let mut seeds: Vec<_> = cases::all().iter().enumerate().map(seed).collect();
    seeds.push([&form[..], &[0, 0, 0, 3]].concat());
    seeds
}

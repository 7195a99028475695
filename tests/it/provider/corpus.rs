//! Real exchanges: every fact that is read must be the recorded one, whatever the chunking.

use std::{collections::BTreeMap, io::Read as _, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use tollgate::{
    call::{
        facts::{Operation, RequestFacts, Spends, ToolCall},
        usage::Usage,
    },
    provider::{Config, Dialect, Providers, wire::framing::Framing},
};

use super::reading::Read;

#[derive(Deserialize)]
pub(super) struct Exchange {
    pub(super) id: String,
    pub(super) provider: String,
    pub(super) endpoint: String,
    pub(super) method: String,
    pub(super) url: String,
    pub(super) stream: bool,
    pub(super) status: u16,
    pub(super) request_body: Option<String>,
    pub(super) response_headers: BTreeMap<String, Value>,
    pub(super) response_body: String,
    pub(super) response_body_encoding: String,
    pub(super) suspect_synthetic: bool,
    pub(super) expected: Expected,
}

#[derive(Deserialize)]
pub(super) struct Expected {
    pub(super) request_model: Option<String>,
    pub(super) azure_deployment: Option<String>,
    pub(super) response_model: Option<String>,
    pub(super) response_id: Option<String>,
    pub(super) service_tier: Option<String>,
    pub(super) input_tokens: Option<Value>,
    pub(super) cached_input_tokens: Option<Value>,
    pub(super) cache_write_tokens: Option<Value>,
    pub(super) cache_write_5m_tokens: Option<Value>,
    pub(super) cache_write_1h_tokens: Option<Value>,
    pub(super) output_tokens: Option<Value>,
    pub(super) reasoning_tokens: Option<Value>,
    pub(super) input_audio_tokens: Option<Value>,
    pub(super) output_audio_tokens: Option<Value>,
    pub(super) web_search_requests: Option<Value>,
    pub(super) usage_status: Option<String>,
    pub(super) finish_reasons: Option<Vec<String>>,
    pub(super) tool_calls: Option<Vec<Call>>,
    pub(super) server_tool_calls: Option<Vec<Value>>,
    pub(super) error: Option<Fault>,
    pub(super) stream_complete: Option<bool>,
    pub(super) is_generation: Option<bool>,
    #[serde(default)]
    pub(super) ambiguous: serde_json::Map<String, Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Call {
    pub(super) name: Option<String>,
    pub(super) id: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Fault {
    r#type: Option<String>,
    code: Option<Value>,
    message: Option<String>,
}

/// The dialects are known by their hosts' providers; hosts that are not known speak `OpenAI`'s.
const OTHERS: &str = "{google: {dialect: gemini, base_url: 'http://x'}, \
    google_vertex: {dialect: gemini, base_url: 'http://x'}, \
    bedrock_mantle: {base_url: 'http://x'}, \
    aleph_alpha: {dialect: alephalpha, base_url: 'http://x'}}";

/// Endpoints that some dialect reads.
fn is_read(endpoint: &str) -> bool {
    const SUFFIXES: [&str; 32] = [
        ".chat",
        ".completions",
        ".responses",
        ".responses.retrieve",
        ".responses.compact",
        ".responses.input_tokens",
        ".assistants.runs",
        ".assistants.other",
        "openai.other",
        "google.other",
        ".images",
        ".complete",
        ".messages",
        ".anthropic_messages",
        ".count_tokens",
        ".generateContent",
        ".streamGenerateContent",
        ".countTokens",
        ".converse",
        ".converse_stream",
        ".invoke",
        ".invoke_stream",
        ".chat_v1",
        ".chat_v2",
        ".embed_v2",
        ".generate_v1",
        ".rerank_v1",
        ".rerank_v2",
        ".rerank",
        ".generate",
        ".generation",
        ".generation_stream",
    ];
    let embeds = endpoint.ends_with(".embeddings") || endpoint.contains("mbedContent");
    embeds || SUFFIXES.iter().any(|suffix| endpoint.ends_with(suffix))
}

#[test]
fn every_recorded_exchange_is_read_as_it_was_recorded() {
    let Some(exchanges) = exchanges() else {
        return;
    };
    let config: Config = serde_saphyr::from_str(OTHERS).unwrap();
    let providers = Providers::build(&config).unwrap();
    let mut wrong = Vec::new();
    let mut streams = 0;
    let read: Vec<_> = exchanges
        .iter()
        .filter(|exchange| is_read(&exchange.endpoint) && !exchange.suspect_synthetic)
        .collect();
    for exchange in &read {
        let path = exchange.path();
        let provider = providers
            .named(&exchange.provider)
            .or_else(|| providers.named("openai"))
            .unwrap();
        let method = exchange.method.parse().unwrap();
        let (dialect, op) = provider.operation(&method, path, exchange.query());
        let mut differ = |what: &str, found: String| {
            let Exchange { endpoint, id, .. } = exchange;
            wrong.push(format!("{endpoint} {id} {what}: {found}"));
        };
        check_request(exchange, dialect, op, &mut differ);
        let bytes = exchange.bytes();
        let headers = exchange.headers();
        let begin = || Read::begin(dialect, op, &headers);
        if exchange.stream {
            streams += 1;
            for size in [1, 7, 100, 4096, bytes.len().max(1)] {
                let chunks: Vec<_> = bytes.chunks(size).collect();
                let read = begin().stream(dialect, op, exchange.framing(), &chunks);
                check(exchange, &read, &mut differ);
            }
        } else {
            check(exchange, &begin().body(dialect, op, &bytes), &mut differ);
        }
    }
    println!("{} exchanges, {streams} of them streams", read.len());
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(read.len() > 900 && streams > 90);
}

impl Exchange {
    pub(super) fn query(&self) -> Option<&str> {
        self.url.split_once('?').map(|(_, query)| query)
    }

    pub(super) fn path(&self) -> &str {
        let path = self.url.find('/').map_or("", |slash| &self.url[slash..]);
        path.split(['?', '#']).next().unwrap_or_default()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        match &*self.response_body_encoding {
            "base64" => STANDARD.decode(&self.response_body).unwrap(),
            _ => self.response_body.clone().into_bytes(),
        }
    }

    fn headers(&self) -> HeaderMap {
        let texts = self.response_headers.iter();
        let texts = texts.filter_map(|(name, value)| Some((name, value.as_str()?)));
        let headers = texts.map(|(name, value)| {
            let name = HeaderName::try_from(name).unwrap();
            (name, HeaderValue::try_from(value).unwrap())
        });
        headers.collect()
    }

    fn framing(&self) -> Framing {
        let content_type = self.response_headers.get("content-type");
        let named = content_type.and_then(Value::as_str).and_then(Framing::of);
        named.unwrap_or_default()
    }

    /// What AWS counts in a header where the body has less: the recorded facts know bodies only.
    fn header_count(&self, name: &str) -> Option<u64> {
        let name = format!("x-amzn-bedrock-{name}-token-count");
        self.response_headers.get(&name)?.as_str()?.parse().ok()
    }
}

fn check_request(
    exchange: &Exchange,
    dialect: &dyn Dialect,
    op: &Operation,
    differ: &mut impl FnMut(&str, String),
) {
    let mut facts = RequestFacts::default();
    // Some requests were not recorded.
    let body = match &exchange.request_body {
        Some(body) => body.as_bytes(),
        None if op.spends == Spends::Tokens => return,
        None => b"",
    };
    let is_json = serde_json::from_slice::<Value>(body).is_ok();
    if let Err(problem) = dialect.read_request(op, exchange.path(), body, &mut facts)
        && is_json
    {
        differ("request", problem.to_string());
    }
    let expected = &exchange.expected;
    let model = expected
        .request_model
        .as_ref()
        .or(expected.azure_deployment.as_ref());
    if facts.model.as_deref() != model.map(String::as_str) {
        differ("request model", format!("{:?}, not {model:?}", facts.model));
    }
    let answering = expected.azure_deployment.as_ref().or(model);
    if facts.answering() != answering.map(String::as_str) {
        let found = facts.answering();
        differ("answering", format!("{found:?}, not {answering:?}"));
    }
    let spends = [Spends::Tokens, Spends::Once].contains(&op.spends);
    if exchange.status < 400 && expected.is_generation == Some(true) && !spends {
        differ("operation", format!("{op:?}"));
    }
    if facts.input.text_bytes.bytes == 0 && op.spends == Spends::Tokens {
        differ("input", format!("{:?}", facts.input));
    }
}

fn check(exchange: &Exchange, read: &Read, differ: &mut impl FnMut(&str, String)) {
    let (facts, expected) = (&read.facts, &exchange.expected);
    let mut same = |what: &str, found: &Option<Box<str>>, expected: &Option<String>| {
        // No name and an empty one are the same.
        let expected = expected.as_deref().filter(|text| !text.is_empty());
        if found.as_deref() != expected {
            differ(what, format!("{found:?}, not {expected:?}"));
        }
    };
    same("model", &facts.model, &expected.response_model);
    same("id", &facts.id, &expected.response_id);
    // The recorded facts leave out the tier that Google's streams report, and that Vertex AI calls
    // a type of traffic.
    let left_out = [".streamGenerateContent", "google_vertex.generateContent"];
    if !left_out.iter().any(|end| exchange.endpoint.ends_with(end)) {
        same("service tier", &facts.service_tier, &expected.service_tier);
    }
    if !read.unreadable.is_empty() {
        differ("unreadable", format!("{:?}", read.unreadable));
    }
    check_usage(exchange, &facts.usage, differ);
    let reasons = expected.finish_reasons.iter().flatten();
    if !reasons.eq(facts.finish_reasons.iter().map(|reason| &**reason)) {
        let reasons = &expected.finish_reasons;
        differ(
            "finish",
            format!("{:?}, not {reasons:?}", facts.finish_reasons),
        );
    }
    check_calls(expected, &facts.tool_calls, differ);
    let servers = expected.server_tool_calls.as_ref().map_or(0, Vec::len);
    if expected.server_tool_calls.is_some() && facts.server_tools.len() != servers {
        let calls = &expected.server_tool_calls;
        differ(
            "server tools",
            format!("{:?}, not {calls:?}", facts.server_tools),
        );
    }
    check_error(exchange, read, differ);
    let told = expected.stream_complete.is_some();
    if exchange.stream && told && expected.stream_complete != Some(facts.complete) {
        differ("complete", format!("{}", facts.complete));
    }
    let writes = expected.output_tokens.is_some() && facts.server_tools.is_empty();
    if exchange.stream && writes && facts.output_bytes.bytes == 0 {
        differ("output bytes", "none".to_owned());
    }
}

fn check_usage(exchange: &Exchange, found: &Usage, differ: &mut impl FnMut(&str, String)) {
    let expected = &exchange.expected;
    if expected.usage_status.as_deref() == Some("not_applicable") {
        return;
    }
    for (name, found, recorded) in [
        ("input_tokens", found.input, &expected.input_tokens),
        (
            "cached_input_tokens",
            found.cache_read,
            &expected.cached_input_tokens,
        ),
        (
            "cache_write_tokens",
            found.cache_write,
            &expected.cache_write_tokens,
        ),
        (
            "cache_write_5m_tokens",
            found.cache_write_5m,
            &expected.cache_write_5m_tokens,
        ),
        (
            "cache_write_1h_tokens",
            found.cache_write_1h,
            &expected.cache_write_1h_tokens,
        ),
        ("output_tokens", found.output, &expected.output_tokens),
        (
            "reasoning_tokens",
            found.reasoning,
            &expected.reasoning_tokens,
        ),
        (
            "input_audio_tokens",
            found.input_audio,
            &expected.input_audio_tokens,
        ),
        (
            "output_audio_tokens",
            found.output_audio,
            &expected.output_audio_tokens,
        ),
    ] {
        let told = exchange
            .header_count("output")
            .filter(|_| name == "output_tokens");
        let is_same = match expected.ambiguous.get(name) {
            _ if recorded.is_none() && told.is_some() => told == found,
            Some(Value::Object(readings)) => readings.values().any(|one| whole(one) == found),
            Some(_) => true,
            None => recorded.as_ref().and_then(whole) == found,
        };
        if !is_same {
            differ(name, format!("{found:?}, not {recorded:?}"));
        }
    }
    let searches = expected
        .web_search_requests
        .as_ref()
        .and_then(Value::as_u64);
    if searches.is_some() && found.web_searches != searches {
        differ(
            "web searches",
            format!("{:?}, not {searches:?}", found.web_searches),
        );
    }
}

/// Some counts are recorded as `28.0`.
fn whole(number: &Value) -> Option<u64> {
    let number = number.as_f64().filter(|number| number.fract() == 0.0)?;
    format!("{number:.0}").parse().ok()
}

fn check_calls(expected: &Expected, found: &[ToolCall], differ: &mut impl FnMut(&str, String)) {
    let Some(calls) = &expected.tool_calls else {
        return;
    };
    // One server sends empty calls beside the real ones.
    let is_one = |call: &&Call| call.name.as_deref().is_some_and(|name| !name.is_empty());
    let calls: Vec<_> = calls.iter().filter(is_one).collect();
    let is_same = |(one, other): (&&Call, &ToolCall)| {
        one.name.as_deref() == Some(&*other.name)
            && one.id.as_deref().filter(|id| !id.is_empty()) == other.id.as_deref()
    };
    if calls.len() != found.len() || !calls.iter().zip(found).all(is_same) {
        differ("tool calls", format!("{found:?}, not {calls:?}"));
    }
}

fn check_error(exchange: &Exchange, read: &Read, differ: &mut impl FnMut(&str, String)) {
    let found = read.facts.error.as_ref();
    let Some(expected) = &exchange.expected.error else {
        let answered = exchange.expected.usage_status.as_deref() == Some("present");
        if exchange.status < 400 && answered && found.is_some() {
            differ("error", format!("{found:?}, not none"));
        }
        return;
    };
    let code = expected.code.as_ref().map(|code| match code {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    let text = |value: &Option<Box<str>>| value.as_deref().map(str::to_owned);
    let found = found.map(|error| (text(&error.kind), text(&error.code), text(&error.message)));
    let expected = Some((expected.r#type.clone(), code, expected.message.clone()));
    if found != expected {
        differ("error", format!("{found:?}, not {expected:?}"));
    }
}

/// The corpus, or `None`, loudly, where it is not there.
pub(super) fn exchanges() -> Option<Vec<Exchange>> {
    let directory = std::env::var("TOLLGATE_CORPUS").map_or_else(
        |_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"),
        PathBuf::from,
    );
    let path = directory.join("exchanges.jsonl.gz");
    let Ok(file) = std::fs::File::open(&path) else {
        println!(
            "NOT TESTED: the corpus is not at {} (TOLLGATE_CORPUS)",
            path.display()
        );
        return None;
    };
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    Some(
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}

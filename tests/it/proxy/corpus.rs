//! Real exchanges, replayed through the proxy: the client's bytes are the recorded ones, and the
//! span has the recorded model, counts, finish reasons, tool calls and cost.

use std::{collections::HashSet, io::Read as _, io::Write as _, path::PathBuf, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use tollgate::{
    base::{
        clock::{TestClock, Timestamp},
        money::Usd,
    },
    mock::{Exact, Framing, Options, every},
};

use super::has_time;
use crate::support::{Sandbox, client};

#[derive(Deserialize)]
struct Exchange {
    id: String,
    provider: String,
    endpoint: String,
    method: String,
    url: String,
    stream: bool,
    status: u16,
    request_body: Option<String>,
    response_headers: std::collections::BTreeMap<String, Value>,
    response_body: String,
    response_body_encoding: String,
    suspect_synthetic: bool,
    expected: Value,
}

/// The instant at which the corpus prices everything: 2026-11-15T12:00:00Z.
const PRICED_AT: u64 = 1_794_744_000;

/// What is built: the dialects' main endpoints, at the providers that are known.
const ENDPOINTS: &[&str] = &[
    "chat",
    "responses",
    "embeddings",
    "messages",
    "generateContent",
    "streamGenerateContent",
    "completions",
    "responses.compact",
    "responses.input_tokens",
    "responses.retrieve",
    "assistants.runs",
    "assistants.other",
    "other",
    "images",
    "complete",
    "count_tokens",
    "converse",
    "converse_stream",
    "invoke",
    "invoke_stream",
    "embedContent",
    "batchEmbedContents",
    "countTokens",
    "chat_v1",
    "chat_v2",
    "embed_v2",
    "generate_v1",
    "rerank_v1",
    "rerank_v2",
    "rerank",
    "tokenize",
    "generate",
    "generation",
    "generation_stream",
    "anthropic_messages",
];
const PROVIDERS: &[(&str, &str)] = &[
    ("openai", "openai"),
    ("anthropic", "anthropic"),
    ("google", "gemini"),
    ("google_vertex", "vertex"),
    ("azure", "azure"),
    ("groq", "groq"),
    ("mistral", "mistral"),
    ("deepseek", "deepseek"),
    ("openrouter", "openrouter"),
    ("cerebras", "cerebras"),
    ("huggingface", "huggingface"),
    ("bedrock", "bedrock"),
    ("bedrock_mantle", "bedrock-mantle"),
    ("cohere", "cohere"),
    ("ollama", "ollama"),
    ("ollama_cloud", "ollama-cloud"),
    ("voyage", "voyage"),
    ("writer", "writer"),
    ("watsonx", "watsonx"),
    ("aleph_alpha", "aleph-alpha"),
    ("heroku", "heroku"),
    ("crusoe", "crusoe"),
    ("snowflake", "snowflake"),
    ("together", "together"),
    ("zai", "zai"),
    ("local_openai_compat", "huggingface"),
];

#[tokio::test]
async fn every_recorded_exchange_passes_and_is_billed_as_it_was() {
    let Some(exchanges) = exchanges() else { return };
    let clock = Arc::new(TestClock::at(Timestamp::from_secs(PRICED_AT)));
    let sandbox = Sandbox::with(
        "pricing: {unknown_model: ceiling, unknown_price: {input: 10.00, output: 50.00}}\n\
         budgets: {daily: 1000000, unbounded: allow}",
        Options::default(),
        clock,
    );
    let mut wrong = Vec::new();
    let mut sent = Vec::new();
    for exchange in &exchanges {
        let Some(provider) = exchange.provider() else {
            continue;
        };
        for framing in exchange.framings(sent.len()) {
            let (id, differs) = exchange.replay(&sandbox, provider, framing).await;
            wrong.extend(differs.map(|what| format!("{} {what}", exchange.id)));
            sent.push((id, exchange));
        }
    }
    sandbox.settled().await;
    let awaited = sandbox.app.holdings().awaited_responses;
    assert!(awaited > 0 || sandbox.budget("daily").reserved == 0);
    let spans = sandbox.spans(sent.len()).await;
    let mut billed = 0;
    let mut seen = HashSet::new();
    for (span, (id, exchange)) in spans.iter().zip(&sent) {
        assert_eq!(span["attributes"]["tollgate.request_id"], *id);
        let place = format!("{} {} ", exchange.endpoint, exchange.id);
        let response = exchange.expected["response_id"].as_str();
        let is_billed = span["attributes"]["tollgate.usage.source"] == "reported";
        let again = exchange.method == "GET" && response.is_some_and(|id| seen.contains(id));
        let mut differ = |what| wrong.push(format!("{place}{what}"));
        exchange.compare(span, again, &mut differ);
        seen.extend(response.filter(|_| is_billed));
        billed += usize::from(span["attributes"]["tollgate.cost.usd"].is_string());
    }
    println!("{} replays, {billed} of them billed", sent.len());
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(sent.len() > 800 && billed > 700);
}

impl Exchange {
    fn bytes(&self) -> Vec<u8> {
        match &*self.response_body_encoding {
            "base64" => STANDARD.decode(&self.response_body).unwrap(),
            _ => self.response_body.clone().into_bytes(),
        }
    }

    /// What AWS counts in a header, where the body has no such count: the recorded facts know
    /// bodies only.
    fn counted_apart(&self) -> Option<u64> {
        let header = self
            .response_headers
            .get("x-amzn-bedrock-output-token-count")?;
        let count = header.as_str()?.parse().ok()?;
        self.expected["output_tokens"].is_null().then_some(count)
    }

    /// The provider under whose name it is replayed, if it is one that is built.
    fn provider(&self) -> Option<&'static str> {
        let endpoint = self.endpoint.split_once('.')?.1;
        let known = ENDPOINTS.contains(&endpoint) && !self.suspect_synthetic;
        let asked = self.request_body.is_some() || self.method != "POST";
        let found = PROVIDERS.iter().find(|(name, _)| *name == self.provider);
        found.filter(|_| known && asked).map(|(_, ours)| *ours)
    }

    /// Whether its stream reports no usage unless it is asked to.
    fn is_silent(&self) -> bool {
        self.endpoint
            .split_once('.')
            .is_some_and(|(_, name)| matches!(name, "chat" | "completions"))
    }

    /// How its body is cut: in turn, or in all ways if there is time.
    fn framings(&self, turn: usize) -> Vec<Framing> {
        let body = &*self.bytes();
        let tiny = if body.len() < 3_000 { 1 } else { 31 };
        let mut all = vec![every(tiny, body), every(7, body), every(100, body)];
        all.extend([every(4_096, body), Framing::Length, Framing::Close]);
        if has_time() {
            return all;
        }
        vec![all.swap_remove(turn % all.len())]
    }

    /// Returns the call's id, and what differed of the bytes.
    async fn replay(
        &self,
        sandbox: &Sandbox,
        provider: &str,
        framing: Framing,
    ) -> (String, Option<String>) {
        let body = self.bytes();
        let usual = if self.stream {
            "text/event-stream"
        } else {
            "application/json"
        };
        let recorded = self.response_headers.get("content-type");
        let content_type = recorded.and_then(Value::as_str).unwrap_or(usual);
        let mut exact = Exact::new(self.status, content_type, body.clone()).framed(framing);
        let counts = self.response_headers.iter();
        for (name, value) in counts.filter(|(name, _)| name.starts_with("x-amzn-bedrock-")) {
            let value = value.as_str().unwrap_or_default().to_owned();
            exact.headers.push((name.clone(), value.into()));
        }
        sandbox.mock.forget();
        sandbox.mock.next_exact(exact);
        let path = &self.url[self.url.find('/').unwrap()..];
        let target = format!("/{provider}{path}");
        let request = self.request_body.clone().unwrap_or_default();
        let headers = [("content-type", "application/json")];
        let method = self.method.parse().unwrap();
        let answer = client::call(sandbox.addr(), method, &target, &headers, request.clone()).await;
        let id = answer.header("x-tollgate-request-id").to_owned();
        let received = sandbox.mock.requests();
        let Some(received) = received.first() else {
            return (id, Some(format!("was not sent: {answer:?}")));
        };
        if answer.status != self.status || answer.error.is_some() {
            return (id, Some(format!("{:?} {:?}", answer.status, answer.error)));
        }
        // The one edit is to ask for the usage of a stream.
        if received.body != request {
            let edited: Result<Value, _> = serde_json::from_slice(&received.body);
            let asked = edited.is_ok_and(|body| {
                body.pointer("/stream_options/include_usage") == Some(&json!(true))
            });
            if !asked || !self.is_silent() {
                return (id, Some("the request was changed".to_owned()));
            }
        }
        let same = answer.body == body;
        (
            id,
            (!same).then(|| format!("bytes differ: {}", answer.text())),
        )
    }

    /// `again`: what it reads was billed before.
    fn compare(&self, span: &Value, again: bool, differ: &mut impl FnMut(String)) {
        let (found, expected) = (&span["attributes"], &self.expected);
        let mut same = |name: &str, recorded: &Value| {
            let found = &found[name];
            let none = recorded.is_null() || recorded == "";
            // Some counts are recorded as `28.0`.
            let equal = recorded.is_f64() && found.as_f64() == recorded.as_f64();
            if found != recorded && !equal && !(none && found.is_null()) {
                differ(format!("{name}: {found}, not {recorded}"));
            }
        };
        let model = match &expected["request_model"] {
            Value::Null => expected.get("azure_deployment").unwrap_or(&Value::Null),
            model => model,
        };
        same("gen_ai.request.model", model);
        same("gen_ai.response.model", &expected["response_model"]);
        same("gen_ai.response.id", &expected["response_id"]);
        let reported = expected["usage_status"] == "present" && is_plain(&expected["ambiguous"]);
        if again {
            same("tollgate.cost.usd", &json!(Usd::ZERO.to_string()));
        } else if reported {
            for (ours, theirs) in [
                ("input_tokens", "input_tokens"),
                ("output_tokens", "output_tokens"),
                ("cache_read.input_tokens", "cached_input_tokens"),
                ("cache_creation.input_tokens", "cache_write_tokens"),
                ("reasoning.output_tokens", "reasoning_tokens"),
            ] {
                let apart = self.counted_apart().filter(|_| ours == "output_tokens");
                let recorded = apart.map_or_else(|| expected[theirs].clone(), Value::from);
                same(&format!("gen_ai.usage.{ours}"), &recorded);
            }
            same("tollgate.usage.source", &json!("reported"));
            if self.counted_apart().is_none() {
                self.compare_cost(found, &mut same);
            }
        }
        let reasons = &expected["finish_reasons"];
        let none = reasons.as_array().is_none_or(Vec::is_empty);
        let null = Value::Null;
        same(
            "gen_ai.response.finish_reasons",
            if none { &null } else { reasons },
        );
        self.compare_calls(&found["tollgate.tool_calls"], differ);
        let failed = self.status >= 400 || !expected["error"].is_null();
        let status = if failed { "error" } else { "ok" };
        // One provider says with status 200 and without usage that it has refused.
        if span["status"] != status && expected["usage_status"] != "absent" {
            differ(format!("status {}, not {status}", span["status"]));
        }
    }

    fn compare_cost(&self, found: &Value, same: &mut impl FnMut(&str, &Value)) {
        let cost = &self.expected["cost"];
        let Some(usd) = cost["usd"].as_str().filter(|_| cost["uncertain"].is_null()) else {
            return;
        };
        // Counts of images and the like are in no recorded fact.
        let apart = [
            "input_image",
            "output_image",
            "input_video",
            "cache_image_read",
        ]
        .iter()
        .filter_map(|part| cost["usage"][format!("{part}_tokens")].as_u64())
        .sum::<u64>();
        if apart == 0 {
            // The recorded costs hold the fees of searches for Anthropic alone.
            let fees = found["tollgate.cost.tools_usd"].as_str();
            let fees = fees.filter(|_| self.provider != "anthropic");
            let fees: Usd = fees.map_or(Usd::ZERO, |fees| fees.parse().unwrap());
            let usd: Usd = rounded(usd).parse().unwrap();
            same("tollgate.cost.usd", &json!((usd + fees).to_string()));
        }
    }

    fn compare_calls(&self, found: &Value, differ: &mut impl FnMut(String)) {
        let Some(calls) = self.expected["tool_calls"].as_array() else {
            return;
        };
        let pair = |call: &Value| {
            let text = |name: &str| call[name].as_str().unwrap_or_default().to_owned();
            (text("name"), text("id"))
        };
        let named = |(name, _): &(String, String)| !name.is_empty();
        let recorded: Vec<_> = calls.iter().map(pair).filter(named).collect();
        let ours: Vec<_> = found.as_array().into_iter().flatten().map(pair).collect();
        if recorded != ours {
            differ(format!("tool calls {ours:?}, not {recorded:?}"));
        }
    }
}

fn is_plain(ambiguous: &Value) -> bool {
    ambiguous.as_object().is_none_or(serde_json::Map::is_empty)
}

/// With nine decimals, half to even, as bills are rounded.
fn rounded(usd: &str) -> String {
    let (whole, decimals) = usd.split_once('.').unwrap_or((usd, ""));
    let digits = format!("{decimals:0<9}");
    let (kept, rest) = digits.split_at(9);
    let nanos: u128 = format!("{whole}{kept}").parse().unwrap();
    let half = format!("5{}", "0".repeat(rest.len().saturating_sub(1)));
    let up = !rest.is_empty() && (rest > half.as_str() || (rest == half && nanos % 2 == 1));
    let nanos = nanos + u128::from(up);
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// The corpus, or `None`, loudly, where it is not there.
fn exchanges() -> Option<Vec<Exchange>> {
    let directory = std::env::var("TOLLGATE_CORPUS").map_or_else(
        |_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"),
        PathBuf::from,
    );
    let path = directory.join("exchanges.jsonl.gz");
    let Ok(file) = std::fs::File::open(&path) else {
        // Not by a macro: what those print is only shown when the test fails.
        let line = format!(
            "NOT TESTED: no corpus at {} (set TOLLGATE_CORPUS)\n",
            path.display()
        );
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return None;
    };
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    let lines = text.lines();
    Some(
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}

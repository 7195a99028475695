//! The clouds: where Vertex AI's locations are, and what Azure's deployments and versions mean.

use std::{net::SocketAddr, sync::Arc};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tollgate::{app::App, base::clock::SystemClock, provider::ProviderConfig};

use super::{chat, chat_stream};
use crate::support::{Sandbox, client, sandbox};

/// What an egress proxy is asked to connect to for a call to `path` at Vertex AI.
async fn reached(path: &str) -> String {
    reached_at("vertex", None, path, |_| Vec::new()).await
}

/// The same of any provider, with what else is said of it, and headers made for the address that the
/// client asks.
pub(super) async fn reached_at(
    name: &str,
    said: Option<ProviderConfig>,
    path: &str,
    headers: impl FnOnce(SocketAddr) -> Vec<(String, String)>,
) -> String {
    let egress = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let yaml = format!(
        "upstream: {{proxy: 'http://{}'}}",
        egress.local_addr().unwrap()
    );
    let mut config = sandbox::configuration(&yaml, directory.path(), "http://127.0.0.1:9");
    config.providers.providers.remove(name);
    let said = said.map(|said| (name.to_owned(), said));
    config.providers.providers.extend(said);
    let app = App::start(config, Arc::new(SystemClock)).unwrap();
    let body = json!({});
    let headers = headers(app.proxy_address());
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let call = client::post(app.proxy_address(), path, &headers, &body);
    let refuse = async {
        let (mut socket, _) = egress.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(socket.read_u8().await.unwrap());
        }
        let no = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
        socket.write_all(no).await.unwrap();
        String::from_utf8(asked).unwrap()
    };
    let (answer, asked) = tokio::join!(call, refuse);
    assert_eq!(answer.status, 502);
    app.stop().await;
    asked.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn a_call_to_vertex_goes_to_the_host_of_the_location_in_its_path() {
    for (location, host) in [
        ("us-east5", "us-east5-aiplatform.googleapis.com"),
        ("global", "aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
    ] {
        let path = format!("/v1/projects/p/locations/{location}/x");
        let asked = reached(&path).await;
        assert_eq!(asked, format!("CONNECT {host}:443 HTTP/1.1"));
    }
}

/// A chat request to a deployment, which names no model.
fn to_deployment(mut body: Value) -> Value {
    body.as_object_mut().unwrap().remove("model");
    body["model"] = json!("my-gpt");
    body
}

const DEPLOYMENT: &str = "/openai/deployments/my-gpt/chat/completions";

#[tokio::test]
async fn a_deployment_costs_what_its_model_costs() {
    let sandbox = Sandbox::new(
        "providers: {azure: {base_url: '{mock}', models: {my-gpt: gpt-4o}}}\n\
         pricing: {gpt-4o: {input: 2.50, output: 10.00}}\n\
         budgets: {daily: 5.00}",
    );
    let target = format!("{DEPLOYMENT}?api-version=2024-10-21");
    let headers = [("x-mock", "input=100;output=10")];
    let body = to_deployment(chat());
    let answer = sandbox.post_with(&target, &headers, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let span = sandbox.span(&answer).await;
    assert_eq!(span.get("gen_ai.provider.name"), "azure");
    assert_eq!(span.get("gen_ai.request.model"), "my-gpt");
    assert_eq!(span.get("tollgate.cost.usd"), "0.000350000");
    assert_eq!(sandbox.spent("daily").await, 350_000);
    // Whatever the body says: and the span tells which, for who prices it again.
    let mut body = to_deployment(chat());
    body["model"] = "gpt-9".into();
    let answer = sandbox.post_with(&target, &headers, &body).await;
    let span = sandbox.span(&answer).await;
    assert_eq!(span.get("gen_ai.request.model"), "gpt-9");
    assert_eq!(span.get("tollgate.deployment"), "my-gpt");
    assert_eq!(span.get("tollgate.cost.usd"), "0.000350000");
}

#[tokio::test]
async fn a_deployment_of_an_unknown_model_is_refused_where_a_budget_needs_its_price() {
    let sandbox = Sandbox::new("budgets: {daily: 5.00}");
    let target = format!("{DEPLOYMENT}?api-version=2024-10-21");
    let answer = sandbox.post(&target, &to_deployment(chat())).await;
    assert_eq!(
        answer.header("x-tollgate-blocked-by"),
        "model.unknown_price"
    );
    assert_eq!(sandbox.mock.count(), 0);
}

#[tokio::test]
async fn nothing_is_put_into_a_request_that_its_api_version_does_not_know() {
    let sandbox = Sandbox::new(
        "providers: {azure: {base_url: '{mock}', models: {my-gpt: gpt-4o}}}\nbudgets: {daily: 5.00}",
    );
    let stream = to_deployment(chat_stream());
    for (version, asks) in [("2024-02-01", false), ("2024-10-21", true)] {
        let target = format!("{DEPLOYMENT}?api-version={version}");
        let answer = sandbox.post(&target, &stream).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let received = sandbox.mock.requests().pop().unwrap();
        let sent: Value = serde_json::from_slice(&received.body).unwrap();
        assert_eq!(sent.get("stream_options").is_some(), asks, "{sent}");
    }
}

const CLAUDE: &str =
    "/v1/projects/p/locations/us-east5/publishers/anthropic/models/claude-haiku-4-5";
const GOOGLE: &str = "/v1/projects/p/locations/global/publishers/google/models";

fn claude() -> Value {
    let messages = json!([{"role": "user", "content": "hello"}]);
    json!({"anthropic_version": "vertex-2023-10-16", "max_tokens": 50, "messages": messages})
}

fn claude_stream() -> Value {
    let mut body = claude();
    body["stream"] = json!(true);
    body
}

fn contents() -> Value {
    let contents = json!([{"role": "user", "parts": [{"text": "hello"}]}]);
    json!({"contents": contents, "generationConfig": {"maxOutputTokens": 50}})
}

/// A path, its request, and what 100 tokens in and 10 out cost there in nano-dollars.
fn rows() -> Vec<(String, Value, i64)> {
    const CHAT: i64 = 100 * 2_500 + 10 * 10_000;
    const EMBEDDING: i64 = 100 * 2_500;
    let mut gemini = chat();
    gemini["model"] = json!("google/gemini-2.5-flash");
    vec![
        (format!("{CLAUDE}:rawPredict"), claude(), CHAT),
        (format!("{CLAUDE}:streamRawPredict"), claude_stream(), CHAT),
        (
            format!("{GOOGLE}/gemini-2.5-flash:generateContent"),
            contents(),
            CHAT,
        ),
        (
            format!("{GOOGLE}/gemini-2.5-flash:streamGenerateContent"),
            contents(),
            CHAT,
        ),
        (
            "/v1/projects/p/locations/global/endpoints/openapi/chat/completions".to_owned(),
            gemini,
            CHAT,
        ),
        (
            format!("{GOOGLE}/gemini-embedding-001:predict"),
            json!({"instances": [{"content": "hello"}, {"content": "you"}]}),
            EMBEDDING,
        ),
        (
            "/v1beta/models/gemini-embedding-001:embedContent".to_owned(),
            json!({"content": {"parts": [{"text": "hello"}]}}),
            EMBEDDING,
        ),
        (
            "/v1beta/models/gemini-embedding-001:batchEmbedContents".to_owned(),
            json!({"requests": [{"content": {"parts": [{"text": "hello"}]}}]}),
            EMBEDDING,
        ),
        (
            "/v1beta/models/imagen-4.0-generate-001:predict".to_owned(),
            json!({"instances": [{"prompt": "An otter"}], "parameters": {"sampleCount": 2}}),
            80_000_000,
        ),
        (
            format!("{DEPLOYMENT}?api-version=2024-10-21"),
            to_deployment(chat()),
            CHAT,
        ),
        (
            "/azure/openai/v1/chat/completions".to_owned(),
            to_deployment(chat()),
            CHAT,
        ),
    ]
}

#[tokio::test]
async fn each_endpoint_moves_its_budget_and_is_refused_once_that_is_spent() {
    let prices = super::priced("").replace("pricing: {", "pricing: {imagen-*: {images: 40}, ");
    for (path, body, cost) in rows() {
        let sandbox = Sandbox::new(&format!(
            "providers: {{azure: {{base_url: '{{mock}}', models: {{my-gpt: gpt-4o}}}}}}\n{prices}\n\
             budgets: {{rules: [{{name: b, window: total, limit: {{usd: 1}}}}]}}"
        ));
        let usual = [("x-mock", "input=100;output=10")];
        let answer = sandbox.post_with(&path, &usual, &body).await;
        assert_eq!(answer.status, 200, "{path} {answer:?}");
        let span = sandbox.span(&answer).await;
        assert_eq!(span.nanos("tollgate.cost.usd"), cost, "{path}");
        assert_eq!(sandbox.spent("b").await, cost, "{path}");
        let large = [("x-mock", "input=400000;output=10")];
        let mut last = answer;
        for _ in 0..20 {
            last = sandbox.post_with(&path, &large, &body).await;
            if last.status != 200 {
                break;
            }
        }
        assert_eq!(last.status, 429, "{path}");
        assert_eq!(last.header("x-tollgate-blocked-by"), "budget.b", "{path}");
    }
}

#[tokio::test]
async fn counting_is_free_and_what_is_stored_passes_unmetered() {
    let sandbox = Sandbox::new("budgets: {daily: 5.00}");
    let counting = [
        (
            "/v1beta/models/gemini-2.5-flash:countTokens".to_owned(),
            contents(),
        ),
        (
            CLAUDE.replace("claude-haiku-4-5", "count-tokens:rawPredict"),
            {
                let mut body = claude();
                body["model"] = json!("claude-haiku-4-5");
                body
            },
        ),
        ("/v1beta/cachedContents".to_owned(), contents()),
    ];
    for (path, body) in counting {
        let answer = sandbox.post(&path, &body).await;
        assert_eq!(answer.status, 200, "{path} {answer:?}");
    }
    assert_eq!(sandbox.spent("daily").await, 0);
}

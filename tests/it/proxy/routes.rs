//! Which provider a request reaches, and with which path.

use http::Method;

use super::chat;
use crate::support::{Line, Sandbox, client};

type Headers = &'static [(&'static str, &'static str)];
const NONE: Headers = &[];
const ANTHROPIC: Headers = &[("anthropic-version", "2023-06-01")];
const GOOGLE: Headers = &[("x-goog-api-key", "k")];

/// What is asked for, with which headers, the provider, and what that gets.
const ROUTES: &[(&str, Headers, &str, &str)] = &[
    (
        "/openai/deployments/d/chat?x=1",
        NONE,
        "azure",
        "/openai/deployments/d/chat?x=1",
    ),
    (
        "/openai/v1/models?api-version=1",
        NONE,
        "azure",
        "/openai/v1/models?api-version=1",
    ),
    (
        "/openai/v1/models?x=api-version",
        NONE,
        "openai",
        "/v1/models?x=api-version",
    ),
    ("/openai/v1/models", NONE, "openai", "/v1/models"),
    ("/anthropic/v1/models", NONE, "anthropic", "/v1/models"),
    ("/groq/openai/v1/models", NONE, "groq", "/openai/v1/models"),
    (
        "/azure/openai/deployments/d/x",
        NONE,
        "azure",
        "/openai/deployments/d/x",
    ),
    (
        "/openrouter/api/v1/models?q=%20a",
        NONE,
        "openrouter",
        "/api/v1/models?q=%20a",
    ),
    ("/my-vllm/v1/models", NONE, "my-vllm", "/v1/models"),
    ("/my-vllm", NONE, "my-vllm", "/"),
    ("/v1/models", ANTHROPIC, "anthropic", "/v1/models"),
    (
        "/v1/messages/batches",
        NONE,
        "anthropic",
        "/v1/messages/batches",
    ),
    ("/v1/complete", NONE, "anthropic", "/v1/complete"),
    ("/v1beta/models", NONE, "gemini", "/v1beta/models"),
    (
        "/upload/v1beta/files",
        NONE,
        "gemini",
        "/upload/v1beta/files",
    ),
    (
        "/v1/models/gemini-2.5-pro:x",
        NONE,
        "gemini",
        "/v1/models/gemini-2.5-pro:x",
    ),
    ("/v1/models", GOOGLE, "gemini", "/v1/models"),
    ("/v1/projects/p/x", NONE, "vertex", "/v1/projects/p/x"),
    ("/v1/projects/p/x", ANTHROPIC, "vertex", "/v1/projects/p/x"),
    (
        "/v1beta1/publishers/google/models/x",
        GOOGLE,
        "vertex",
        "/v1beta1/publishers/google/models/x",
    ),
    (
        "/v1beta1/projects/p/x",
        NONE,
        "vertex",
        "/v1beta1/projects/p/x",
    ),
    ("/model/m/converse", NONE, "bedrock", "/model/m/converse"),
    ("/api/chat", NONE, "ollama", "/api/chat"),
    ("/api/generate", NONE, "ollama", "/api/generate"),
    ("/api/embeddings", NONE, "ollama", "/api/embeddings"),
    ("/v2/rerank", NONE, "cohere", "/v2/rerank"),
    ("/v1/models", NONE, "openai", "/v1/models"),
    (
        "/v1/anything/at%2fall//x/../y",
        NONE,
        "openai",
        "/v1/anything/at%2fall//x/../y",
    ),
];

/// Sends a request that spends nothing, and returns provider and path as the span has them.
async fn routed(sandbox: &Sandbox, target: &str, headers: &[(&str, &str)]) -> (String, String) {
    let answer = client::call(sandbox.addr(), Method::GET, target, headers, "").await;
    assert_eq!(answer.status, 200, "{target} {answer:?}");
    let span = sandbox.span(&answer).await;
    let provider = span.get("gen_ai.provider.name").as_str().unwrap();
    let received = sandbox.mock.requests().pop().unwrap();
    (provider.to_owned(), received.target)
}

#[tokio::test]
async fn every_route_reaches_its_provider_with_its_path() {
    let sandbox = Sandbox::new("providers: {my-vllm: {dialect: openai, base_url: '{mock}'}}");
    for (asked, headers, provider, sent) in ROUTES {
        let found = routed(&sandbox, asked, headers).await;
        assert_eq!(
            found,
            ((*provider).to_owned(), (*sent).to_owned()),
            "{asked}"
        );
    }
}

#[tokio::test]
async fn identity_rides_in_the_path_and_is_taken_out_of_it() {
    let sandbox = Sandbox::new("");
    let target = "/~agent=support;user=42;team=core%20x/v1/chat/completions?a=b";
    let answer = sandbox.post(target, &chat()).await;
    assert_eq!(answer.status, 200);
    let received = &sandbox.mock.requests()[0];
    assert_eq!(received.target, "/v1/chat/completions?a=b");
    let span = sandbox.span(&answer).await;
    assert_eq!(span.get("tollgate.agent"), "support");
    assert_eq!(span.get("tollgate.user"), "42");
    assert_eq!(span.get("url.path"), "/v1/chat/completions");

    let target = "/~agent=a/groq/openai/v1/chat/completions";
    let answer = sandbox.post(target, &chat()).await;
    let span = sandbox.span(&answer).await;
    assert_eq!(span.get("gen_ai.provider.name"), "groq");
}

#[tokio::test]
async fn a_prefix_of_the_base_url_comes_first_and_its_version_is_not_repeated() {
    let sandbox = Sandbox::new(
        "providers:\n  a: {base_url: '{mock}/pre/fix', dialect: openai}\n  \
         b: {base_url: '{mock}/pre/v1', dialect: openai}\n",
    );
    for (asked, sent) in [
        ("/a/v1/models", "/pre/fix/v1/models"),
        ("/b/v1/models?x", "/pre/v1/models?x"),
    ] {
        assert_eq!(sandbox.get(asked).await.status, 200);
        assert_eq!(sandbox.mock.requests().pop().unwrap().target, sent);
    }
}

#[tokio::test]
async fn an_unknown_path_is_answered_404_in_openai_s_form_naming_the_routes() {
    let sandbox = Sandbox::new("");
    for path in ["/", "/chat/completions", "/nobody/v1/models", "/~agent=a"] {
        let answer = sandbox.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(!answer.header("x-tollgate-request-id").is_empty());
        let message = answer.json()["error"]["message"].to_string();
        for route in ["/v1/", "/v1/messages", "/v1beta/", "groq", "anthropic"] {
            assert!(message.contains(route), "{message}");
        }
    }
    assert_eq!(sandbox.mock.count(), 0);
}

#[tokio::test]
async fn a_forward_proxy_s_request_goes_to_its_host_if_that_is_a_provider() {
    let sandbox = Sandbox::new("");
    let own = sandbox.mock.addr();
    let mut line = Line::connect(sandbox.addr()).await;
    let request =
        |host: &str| format!("GET http://{host}/v1/models HTTP/1.1\r\nhost: {host}\r\n\r\n");
    line.send(request("example.com")).await;
    let head = line.head().await;
    assert_eq!(head.status(), 404);
    let (body, _) = line.body(&head).await;
    assert!(String::from_utf8(body).unwrap().contains("example.com"));
    line.send(request(&own.to_string())).await;
    let head = line.head().await;
    assert_eq!(head.status(), 200);
    line.body(&head).await;
    assert_eq!(sandbox.mock.requests()[0].target, "/v1/models");
}

#[tokio::test]
async fn azure_without_an_address_is_refused_by_name() {
    let mut config = crate::support::sandbox::configuration(
        "",
        tempfile::tempdir().unwrap().path(),
        "http://127.0.0.1:9",
    );
    config.providers.providers.remove("azure");
    let clock = std::sync::Arc::new(tollgate::base::clock::SystemClock);
    let app = tollgate::app::App::start(config, clock).unwrap();
    let target = "/openai/deployments/d/chat/completions?api-version=1";
    let answer = client::post(app.proxy_address(), target, &[], &chat()).await;
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("providers.azure.base_url"));
    app.stop().await;
}

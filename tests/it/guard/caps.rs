//! What a call and a session may take at most.

use serde_json::{Value, json};

use crate::support::{Answer, Sandbox};

const CHAT: &str = "/v1/chat/completions";
const PRICES: &str = "pricing: {gpt-4o: {input: 2.50, output: 10.00}}";

fn ask(most: Option<u64>, stream: bool) -> Value {
    let mut body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]});
    if let Some(most) = most {
        body["max_tokens"] = most.into();
    }
    if stream {
        body["stream"] = true.into();
    }
    body
}

fn by(answer: &Answer) -> &str {
    answer.header("x-tollgate-blocked-by")
}

/// The output limit of the last request that the mock has got.
fn sent_limit(sandbox: &Sandbox) -> Value {
    let last = sandbox.mock.requests().pop().unwrap();
    let body: Value = serde_json::from_slice(&last.body).unwrap();
    let limits = ["max_tokens", "max_completion_tokens"].map(|name| body[name].clone());
    limits.into_iter().find(|limit| !limit.is_null()).unwrap()
}

#[tokio::test]
async fn an_output_limit_above_the_cap_is_refused_and_a_request_without_one_is_given_it() {
    let sandbox = Sandbox::new("guards: {call: {max_output_tokens: 100}}");
    let refused = sandbox.post(CHAT, &ask(Some(101), false)).await;
    assert_eq!(
        (refused.status.as_u16(), by(&refused)),
        (403, "call.max_output_tokens")
    );
    assert_eq!(refused.header("x-should-retry"), "false");
    let span = sandbox.span(&refused).await;
    assert_eq!(
        span.outcome(),
        "blocked complete refused absent 0.000000000"
    );
    assert_eq!(sandbox.mock.count(), 0);

    assert_eq!(sandbox.post(CHAT, &ask(Some(100), false)).await.status, 200);
    assert_eq!(sent_limit(&sandbox), 100);
    let capped = sandbox.post(CHAT, &ask(None, false)).await;
    assert_eq!(capped.status, 200);
    assert_eq!(sent_limit(&sandbox), 100);
    let span = sandbox.span(&capped).await;
    assert_eq!(span.get("tollgate.decision"), "capped");
    assert_eq!(span.get("tollgate.edits")[0], "request.output_limit");
    // Choices count together.
    let mut two = ask(Some(60), false);
    two["n"] = 2.into();
    assert_eq!(
        by(&sandbox.post(CHAT, &two).await),
        "call.max_output_tokens"
    );
    sandbox.settled().await;
    assert!(sandbox.app.budgets().is_empty());
}

#[tokio::test]
async fn a_cap_that_clamps_lowers_the_limit_and_one_that_watches_says_so() {
    let sandbox = Sandbox::new("guards: {call: {max_output_tokens: 100, on_exhausted: clamp}}");
    let clamped = sandbox.post(CHAT, &ask(Some(4_000), false)).await;
    assert_eq!(clamped.status, 200);
    assert_eq!(sent_limit(&sandbox), 100);
    let span = sandbox.span(&clamped).await;
    assert_eq!(span.get("tollgate.decision"), "clamped");

    let sandbox = Sandbox::new("guards: {call: {max_output_tokens: 100, on_exhausted: shadow}}");
    let watched = sandbox.post(CHAT, &ask(Some(4_000), false)).await;
    assert_eq!(watched.status, 200);
    assert_eq!(sent_limit(&sandbox), 4_000);
    let span = sandbox.span(&watched).await;
    assert_eq!(span.get("tollgate.decision"), "shadow");
    assert_eq!(span.get("tollgate.shadow")[0], "call.max_output_tokens");
}

#[tokio::test]
async fn a_cap_is_the_same_whatever_budgets_say_of_requests_without_a_limit() {
    for unbounded in ["cap", "refuse", "allow"] {
        // The budget buys what the model can make, and only what the cap lets it make.
        for daily in ["", "daily: 5.00, ", "daily: 0.05, "] {
            let sandbox = Sandbox::new(&format!(
                "{PRICES}\nguards: {{call: {{max_output_tokens: 100}}}}\n\
                 budgets: {{{daily}unbounded: {unbounded}}}"
            ));
            let capped = sandbox.post(CHAT, &ask(None, false)).await;
            assert_eq!(capped.status, 200, "{unbounded}, {daily}: {capped:?}");
            assert_eq!(sent_limit(&sandbox), 100, "{unbounded}, {daily}");
            let span = sandbox.span(&capped).await;
            assert_eq!(span.get("tollgate.decision"), "capped");
            assert!(span.get("tollgate.bound").is_null());
        }
    }
    // Where the budget buys less than the cap, what it says of such requests stands.
    for (unbounded, passes) in [("cap", true), ("refuse", false), ("allow", false)] {
        let sandbox = Sandbox::new(&format!(
            "{PRICES}\nguards: {{call: {{max_output_tokens: 1000}}}}\n\
             budgets: {{daily: 0.005, unbounded: {unbounded}}}"
        ));
        let answer = sandbox.post(CHAT, &ask(None, false)).await;
        assert_eq!(answer.status == 200, passes, "{unbounded}: {answer:?}");
        if passes {
            assert!(sent_limit(&sandbox).as_u64().unwrap() < 500);
        } else {
            assert_eq!(by(&answer), "call.max_output_tokens", "{unbounded}");
        }
    }
}

#[tokio::test]
async fn a_stream_without_a_limit_is_cut_at_the_cap() {
    for (caps, by) in [
        ("max_output_tokens: 200", "call.max_output_tokens"),
        // 200 tokens of output, and more than the input.
        ("max_usd: 0.0022", "call.max_usd"),
    ] {
        for budgets in ["", "budgets: {daily: 5.00}"] {
            let sandbox = Sandbox::new(&format!(
                "{PRICES}\nguards: {{call: {{{caps}}}}}\n{budgets}"
            ));
            let settings = [("x-mock", "events=2000;event-size=8")];
            let cut = sandbox.post_with(CHAT, &settings, &ask(None, true)).await;
            assert_eq!((cut.status.as_u16(), &cut.error), (200, &None));
            assert!(cut.text().contains("\"finish_reason\":\"length\""));
            let span = sandbox.span(&cut).await;
            assert_eq!(span.get("tollgate.blocked_by"), by, "{budgets}");
            assert_eq!(span.get("tollgate.decision"), "cut");
            let output = span.get("gen_ai.usage.output_tokens").as_u64().unwrap();
            assert!(output <= 220, "{output}");
            sandbox.settled().await;
        }
    }
}

#[tokio::test]
async fn money_and_input_of_a_call_are_capped_as_well() {
    let sandbox = Sandbox::new(&format!(
        "{PRICES}\nguards: {{call: {{max_usd: 0.01, max_input_tokens: 1000}}}}"
    ));
    // 2,000 tokens of output are 0.02 dollars.
    let refused = sandbox.post(CHAT, &ask(Some(2_000), false)).await;
    assert_eq!(by(&refused), "call.max_usd");
    assert_eq!(sandbox.post(CHAT, &ask(Some(500), false)).await.status, 200);
    let mut long = ask(Some(10), false);
    long["messages"][0]["content"] = "x ".repeat(50_000).into();
    let refused = sandbox.post(CHAT, &long).await;
    assert_eq!(by(&refused), "call.max_input_tokens");
    assert!(refused.text().contains("Shorten its input"));
    // Without a price nobody can say that it costs so little.
    let mut unknown = ask(Some(10), false);
    unknown["model"] = "no-such-model".into();
    let refused = sandbox.post(CHAT, &unknown).await;
    assert_eq!(by(&refused), "model.unknown_price");
    assert!(refused.text().contains("a limit in dollars"));
    // A cap that only watches has nothing to say of it.
    let sandbox = Sandbox::new("guards: {call: {max_usd: 0.01, on_exhausted: shadow}}");
    assert_eq!(sandbox.post(CHAT, &unknown).await.status, 200);
}

#[tokio::test]
async fn a_session_has_so_many_calls_and_so_much_output_also_over_a_restart() {
    let yaml = "guards: {session: {max_calls: 2, max_output_tokens: 1000}}";
    let sandbox = Sandbox::new(yaml);
    let call = async |sandbox: &Sandbox, session: &str, most| {
        let headers = [
            ("x-tollgate-session", session),
            ("x-mock", "input=5;output=90"),
        ];
        sandbox
            .post_with(CHAT, &headers, &ask(Some(most), false))
            .await
    };
    assert_eq!(
        by(&call(&sandbox, "long", 1_001).await),
        "budget.guards.session"
    );
    for _ in 0..2 {
        assert_eq!(call(&sandbox, "one", 100).await.status, 200);
    }
    assert_eq!(
        by(&call(&sandbox, "one", 100).await),
        "budget.guards.session"
    );
    assert_eq!(call(&sandbox, "two", 100).await.status, 200);
    sandbox.settled().await;
    let sandbox = sandbox.restarted(yaml).await;
    let refused = call(&sandbox, "one", 100).await;
    assert_eq!(
        (refused.status.as_u16(), by(&refused)),
        (429, "budget.guards.session")
    );
    assert_eq!(refused.header("x-should-retry"), "false");
    assert_eq!(call(&sandbox, "two", 100).await.status, 200);
}

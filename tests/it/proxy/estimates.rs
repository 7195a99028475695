//! What is learned of a model's tokens, and streams that are cut by it.

use serde_json::{Value, json};
use tollgate::{
    base::clock::SystemClock,
    mock::{Options, Rule, Script, When, tokens},
};

use super::{chat_stream, priced};
use crate::support::{Answer, Sandbox, sandbox::Span};

/// What a token costs, in nano-dollars: input and output.
const PRICES: (i64, i64) = (2_500, 10_000);

/// Prose of so many bytes.
fn prose(bytes: usize) -> String {
    let words = "every stream of words that a model makes is made of small pieces and each of them \
                 costs a little until nothing is left ";
    let mut text = words.repeat(bytes / words.len() + 1);
    text.truncate(bytes);
    text
}

/// A sandbox whose model says `long` when asked for it, and 600 bytes of prose when asked for
/// something short, which has happened `learning` times at no cost to the budget.
async fn after(learning: usize, limit: f64, long: &str) -> Sandbox {
    let say = |word: &str, text: &str| {
        let when = When {
            user: Some(word.into()),
            ..When::default()
        };
        Rule::say(when, text)
    };
    let options = Options {
        script: Script {
            rules: vec![say("long", long), say("short", &prose(600))],
        },
        ..Options::default()
    };
    let yaml = priced(&format!(
        "budgets: {{rules: [{{name: run, match: {{agent: spender}}, window: total, limit: {{usd: {limit}}}}}]}}"
    ));
    let sandbox = Sandbox::with(&yaml, options, std::sync::Arc::new(SystemClock));
    for _ in 0..learning {
        let answer = ask(&sandbox, "gpt-4o", "short", "learner").await;
        assert!(answer.text().ends_with("[DONE]\n\n"), "{answer:?}");
    }
    sandbox
}

async fn ask(sandbox: &Sandbox, model: &str, word: &str, agent: &str) -> Answer {
    let mut body = chat_stream();
    body["model"] = model.into();
    body["messages"] = json!([{"role": "user", "content": word}]);
    let pieces = if word == "short" {
        "event-size=300"
    } else {
        "event-size=16"
    };
    let headers = [("x-tollgate-agent", agent), ("x-mock", pieces)];
    sandbox
        .post_with("/v1/chat/completions", &headers, &body)
        .await
}

/// What the client got of an answer.
fn text(answer: &Answer) -> String {
    let pieces = answer.data();
    let pieces = pieces.iter().filter_map(|event| {
        let content = event.pointer("/choices/0/delta/content");
        content.and_then(Value::as_str)
    });
    pieces.collect()
}

async fn cut(sandbox: &Sandbox, model: &str) -> (String, Span) {
    let answer = ask(sandbox, model, "long", "spender").await;
    let span = sandbox.span(&answer).await;
    assert_eq!(span.get("tollgate.end"), "cut", "{span:?}");
    assert_eq!(span.get("tollgate.usage.source"), "estimated");
    (text(&answer), span)
}

/// What `output` tokens cost after a short question.
fn cost(output: u64) -> i64 {
    let input = i64::try_from(tokens("long".len())).unwrap();
    input * PRICES.0 + i64::try_from(output).unwrap() * PRICES.1
}

#[tokio::test]
async fn a_stream_of_a_model_that_is_known_is_cut_when_its_budget_is_nearly_spent() {
    let limit = 50_000_000;
    let mut parts = Vec::new();
    for learning in [0, 10, 130] {
        let sandbox = after(learning, 0.05, &prose(60_000)).await;
        let (got, span) = cut(&sandbox, "gpt-4o").await;
        let spent = sandbox.spent("run").await;
        let really = cost(tokens(got.len()));
        assert!(really <= spent && spent <= limit, "{really} {spent}");
        assert_eq!(span.nanos("tollgate.budget.charged.usd"), spent);
        parts.push(really * 100 / limit);
    }
    assert!(parts[0] < 26, "{parts:?}");
    assert!(parts[1] > 70, "{parts:?}");
    assert!(parts[2] >= 95, "{parts:?}");
}

#[tokio::test]
async fn the_error_of_an_estimate_is_on_its_span_and_shrinks_with_traffic() {
    let mut errors = Vec::new();
    for learning in [0, 1, 10, 130] {
        let sandbox = after(learning, 100.0, "").await;
        let headers = [("x-tollgate-agent", "spender"), ("x-mock", "usage=none")];
        let mut body = chat_stream();
        body["messages"] = json!([{"role": "user", "content": "short"}]);
        let answer = sandbox
            .post_with("/v1/chat/completions", &headers, &body)
            .await;
        let span = sandbox.span(&answer).await;
        assert_eq!(span.get("tollgate.usage.source"), "estimated");
        let number = |name: &str| span.get(name).as_i64().unwrap();
        let (likely, error) = (
            number("gen_ai.usage.output_tokens"),
            number("tollgate.usage.error_bound"),
        );
        assert!((likely - 150).abs() < 5, "{likely}");
        let spent = sandbox.spent("run").await;
        assert!(spent >= cost(150) && spent > span.nanos("tollgate.cost.usd"));
        errors.push(error);
    }
    assert!(
        errors.is_sorted_by(|wide, close| wide > close),
        "{errors:?}"
    );
    // Of the request nothing is known: it is too short to tell.
    assert!(errors[0] > 450 && errors[3] < 150, "{errors:?}");
}

/// What has a token for each byte, or nearly, with some model.
fn adversarial() -> Vec<(&'static str, String)> {
    let mut random = fastrand::Rng::with_seed(7);
    let base64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/";
    vec![
        ("digits", (0..60_000).map(|_| random.digit(10)).collect()),
        (
            "capitals",
            (0..60_000)
                .map(|_| char::from(*random.choice(base64).unwrap()))
                .collect(),
        ),
        ("emoji", "🦄🐙🪐🫠🦤".repeat(3_000)),
        ("a rare script", "ሰላምለሁሉም".repeat(2_500)),
        (
            "punctuation",
            "!@#$%^&*()[]{};:'\",.<>/?|`~-_=+".repeat(2_000),
        ),
    ]
}

#[tokio::test]
async fn what_was_learned_of_prose_spends_no_budget_on_what_has_a_token_for_each_byte() {
    let limit = 100_000_000;
    for (what, long) in adversarial() {
        let sandbox = after(130, 0.10, &long).await;
        let (got, _) = cut(&sandbox, "gpt-4o").await;
        let spent = sandbox.spent("run").await;
        // The event that was cut was made too.
        let made = cost(u64::try_from(got.len()).unwrap());
        assert!(made <= limit && spent <= limit, "{what} {made} {spent}");
        assert!(made > limit * 80 / 100, "{what} {made}");
    }
}

#[tokio::test]
async fn each_model_and_provider_is_learned_apart() {
    let sandbox = after(130, 0.05, &prose(60_000)).await;
    assert!((sandbox.metric("tollgate_held{what=\"estimated_models\"}") - 1.0).abs() < 0.1);
    let (got, _) = cut(&sandbox, "gpt-4.1").await;
    // It costs 8,000 nano-dollars a token.
    let part = tokens(got.len()) * 8_000 * 100 / 50_000_000;
    assert!(part < 26, "nothing is known of it: {part}");
}

#[tokio::test]
async fn an_answer_with_more_tokens_than_the_bound_is_charged_in_full_counted_and_learned() {
    let sandbox = after(130, 0.02, "").await;
    let headers = [("x-tollgate-agent", "spender"), ("x-mock", "output=400")];
    let mut body = chat_stream();
    body["messages"] = json!([{"role": "user", "content": "short"}]);
    let answer = sandbox
        .post_with("/v1/chat/completions", &headers, &body)
        .await;
    let span = sandbox.span(&answer).await;
    assert_eq!(span.get("tollgate.usage.source"), "reported");
    assert!(span.get("tollgate.usage.error_bound").is_null());
    assert_eq!(sandbox.spent("run").await, span.nanos("tollgate.cost.usd"));
    assert!((sandbox.metric("tollgate_over_bound_total{what=\"estimates\"}") - 1.0).abs() < 0.1);
}

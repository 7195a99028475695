//! Requests that ask for more than they seem to: the reservation must cover what the provider will
//! read, whichever way it reads it. `TensorZero` believes `max_tokens` (#3648), others count the prompt
//! alone (agentgateway), or nothing at all.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use tollgate::mock::End;

use super::*;

/// Five thousand tokens.
const LIMIT: i64 = 50_000_000;

/// What the mock delivers unless the request bounds it: 75,000 tokens.
const ENDLESS: (&str, &str) = ("x-mock", "events=3000;event-size=100;gap=1ms");

fn sandbox() -> Sandbox {
    Sandbox::new(&priced("budgets: {daily: 0.05, max_wait: 0s}"))
}

/// Sends it until it is refused, a few times. What the provider took is within the limit, all of it is
/// counted, and nothing is left reserved.
async fn hold(sandbox: &Sandbox, what: &str, target: &str, body: &str) {
    for _ in 0..8 {
        let answer = send(sandbox, target, &[ENDLESS], body.to_owned()).await;
        if is_refused(&answer) {
            break;
        }
    }
    let spent = sandbox.spent("daily").await;
    assert!(spent <= LIMIT, "{what}: {spent}");
    let delivered: u64 = sandbox
        .mock
        .requests()
        .iter()
        .map(|request| request.sent)
        .sum();
    // Four bytes a token; a stream's events are less than four times their text, and what is around
    // the text of an answer is less than a kilobyte.
    let around = 1_000 * sandbox.mock.count();
    let tokens = i64::try_from(delivered.saturating_sub(around)).unwrap() / 4 / 4;
    assert!(tokens * OUTPUT <= LIMIT, "{what}: {delivered}");
    assert!(
        tokens * OUTPUT <= spent,
        "{what}: {delivered} bytes, and {spent} counted"
    );
}

/// A chat request with this in the place of its output limit.
fn asks(members: &str) -> String {
    let messages = r#"[{"role":"user","content":"hello"}]"#;
    format!(r#"{{"model":"gpt-4o",{members}"messages":{messages}}}"#)
}

#[tokio::test]
async fn a_small_limit_does_not_hide_a_large_one() {
    for (what, members) in [
        ("none", ""),
        ("the last of two", r#""max_tokens":1,"max_tokens":100000,"#),
        ("the first of two", r#""max_tokens":100000,"max_tokens":1,"#),
        (
            "the other name",
            r#""max_tokens":1,"max_completion_tokens":100000,"#,
        ),
        (
            "a name in escapes",
            r#""max_tokens":1,"max_tok\u0065ns":100000,"#,
        ),
        ("nothing behind it", r#""max_tokens":1,"max_tokens":null,"#),
        ("nothing before it", r#""max_tokens":null,"max_tokens":1,"#),
        (
            "a text behind it",
            r#""max_tokens":1,"max_tokens":"100000","#,
        ),
        ("nested", r#""metadata":{"max_tokens":1},"#),
        ("in words", r#""max_tokens":"1","#),
        ("with an exponent", r#""max_tokens":1e5,"#),
        ("below zero", r#""max_tokens":-1,"#),
        ("a fraction", r#""max_tokens":0.5,"#),
        ("beyond all numbers", r#""max_tokens":1e400,"#),
        (
            "more than 64 bits",
            r#""max_tokens":99999999999999999999999,"#,
        ),
        ("many choices", r#""max_tokens":500,"n":64,"#),
        (
            "two numbers of choices",
            r#""max_tokens":500,"n":64,"n":1,"#,
        ),
        (
            "four billion choices",
            r#""max_tokens":500,"n":4294967297,"#,
        ),
        ("a stream by another word", r#""stream":1,"#),
        (
            "two answers to whether it streams",
            r#""stream":true,"stream":false,"#,
        ),
        (
            "and the other way round",
            r#""stream":false,"stream":true,"#,
        ),
        (
            "a stream that shall not tell its usage",
            r#""stream":true,"stream_options":{"include_usage":false},"#,
        ),
        (
            "a stream with nothing behind its limit",
            r#""stream":true,"max_tokens":1,"max_tokens":null,"#,
        ),
        (
            "a cheap model before it",
            r#""model":"gpt-4o-mini","max_tokens":4000,"model":"gpt-4o","#,
        ),
    ] {
        hold(&sandbox(), what, CHAT, &asks(members)).await;
    }
}

#[tokio::test]
async fn many_prompts_and_the_best_of_many_are_all_counted() {
    for (what, members) in [
        (
            "prompts",
            r#""prompt":["a","b","c","d","e","f","g","h"],"max_tokens":1000"#,
        ),
        (
            "the best of many",
            r#""prompt":"a","best_of":50,"max_tokens":1000"#,
        ),
        (
            "lists of tokens",
            r#""prompt":[[1],[2],[3],[4],[5],[6],[7],[8]],"max_tokens":1000"#,
        ),
    ] {
        let body = format!(r#"{{"model":"gpt-4o",{members}}}"#);
        hold(&sandbox(), what, "/v1/completions", &body).await;
    }
}

#[tokio::test]
async fn the_other_spelling_and_the_other_dialects_are_read_as_well() {
    let contents = r#""contents":[{"role":"user","parts":[{"text":"hello"}]}]"#;
    for config in [
        r#""generation_config":{"max_output_tokens":100000}"#,
        r#""generationConfig":{"maxOutputTokens":1,"max_output_tokens":100000}"#,
        r#""generationConfig":{"maxOutputTokens":1,"maxOutputTokens":null}"#,
        r#""generationConfig":{"maxOutputTokens":1000,"candidateCount":8}"#,
        r#""generationConfig":{"maxOutputTokens":1000,"candidate_count":8,"candidateCount":1}"#,
    ] {
        let body = format!("{{{contents},{config}}}");
        let path = "/v1beta/models/gemini-x:generateContent";
        hold(&sandbox(), config, path, &body).await;
    }
    for limit in [
        r#""max_tokens":100000"#,
        r#""max_tokens":1,"max_tokens":100000"#,
        r#""max_tokens":1,"max_tokens":null"#,
    ] {
        let messages = r#"[{"role":"user","content":"hello"}]"#;
        let body = format!(r#"{{"model":"claude-x","messages":{messages},{limit}}}"#);
        hold(&sandbox(), limit, "/v1/messages", &body).await;
    }
}

/// To Ollama no limit is what zero means (`num_predict`), and what is below it.
#[tokio::test]
async fn no_limit_by_another_name_is_bounded_in_its_place() {
    for limit in ["0", "-1", "-2", "null"] {
        let sandbox = Sandbox::new(
            "pricing: {llama3.2: {input: 2.50, output: 10.00}}\n\
             budgets: {daily: 0.05, max_wait: 0s}",
        );
        let body = format!(
            r#"{{"model":"llama3.2","stream":false,"options":{{"num_predict":{limit}}},
                "messages":[{{"role":"user","content":"hello"}}]}}"#
        );
        let answer = send(&sandbox, "/ollama/api/chat", &[ENDLESS], body).await;
        assert_eq!(answer.status, 200, "{limit}: {answer:?}");
        let received: Value = serde_json::from_slice(&sandbox.mock.requests()[0].body).unwrap();
        let bound = received["options"]["num_predict"].as_i64().unwrap();
        assert!((64..5_000).contains(&bound), "{limit}: {received}");
        let spent = sandbox.spent("daily").await;
        assert!(spent > 0 && spent <= LIMIT, "{limit}: {spent}");
    }
}

/// What cannot be read might be anything: under a budget it is refused, or counted as the worst.
#[tokio::test]
async fn what_only_another_parser_reads_is_held_all_the_same() {
    let body = chat_with(json!({"max_tokens": 100_000})).to_string();
    let deep = format!(
        r#"{{"deep":{}{},{}"#,
        "[".repeat(50_000),
        "]".repeat(50_000),
        &body[1..]
    );
    let utf16: Vec<u8> = body.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(body.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let plain = |text: String| (text.into_bytes(), "identity");
    for (what, (bytes, coding)) in [
        ("a mark of the byte order", plain(format!("\u{feff}{body}"))),
        ("space before it", plain(format!("\r\n\t {body}"))),
        ("something behind it", plain(format!("{body}{{}}"))),
        ("a zero byte behind it", plain(format!("{body}\0"))),
        ("a list around it", plain(format!("[{body}]"))),
        ("fifty thousand levels", plain(deep)),
        ("sixteen bits a character", (utf16, "identity")),
        ("packed", (gzip.clone(), "gzip")),
        ("packed, in capitals", (gzip.clone(), "GZip")),
        ("packed by the old name", (gzip.clone(), "x-gzip")),
        ("packed, it says twice", (gzip.clone(), "gzip, gzip")),
        ("packed, and not said", (gzip, "identity")),
        (
            "a coding that nobody knows",
            (body.clone().into_bytes(), "rot13"),
        ),
    ] {
        let sandbox = sandbox();
        for _ in 0..4 {
            let headers = [ENDLESS, ("content-encoding", coding)];
            let answer = send(&sandbox, CHAT, &headers, bytes.clone()).await;
            assert!(
                answer.status == 200 || answer.status.is_client_error(),
                "{what} {answer:?}"
            );
        }
        let spent = sandbox.spent("daily").await;
        assert!(spent <= LIMIT, "{what}: {spent}");
        let mut taken = sandbox.mock.requests();
        taken.retain(|request| request.status.is_some_and(|status| status.is_success()));
        assert_eq!(taken.is_empty(), spent == 0, "{what}: {spent}");
    }
}

/// A body that is too large to be held goes on while it is read, its end last.
#[tokio::test]
async fn a_body_beyond_what_is_held_hides_nothing_at_its_end() {
    let yaml = priced("limits: {peek: 2kB}\nbudgets: {daily: 0.05, max_wait: 0s}");
    for tail in [
        r#""max_tokens":100000"#,
        r#""max_tokens":1,"max_tokens":100000"#,
        r#""max_tokens":1,"max_tokens":null"#,
        r#""max_tokens":500,"n":64"#,
        r#""model":"gpt-4o","max_tokens":100000"#,
        r#""stream":true"#,
    ] {
        let sandbox = Sandbox::new(&yaml);
        let text = "x ".repeat(2_000);
        let body = format!(
            r#"{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"{text}"}}],
                "model":"gpt-4o",{tail}}}"#
        );
        let answer = send(&sandbox, CHAT, &[ENDLESS], body).await;
        let spent = sandbox.spent("daily").await;
        assert!(spent <= LIMIT, "{tail}: {spent} {answer:?}");
        for request in sandbox
            .mock
            .until(|all| all.iter().all(|one| one.end != End::Open))
            .await
        {
            assert!(
                !request.whole || spent > 0,
                "{tail}: sent whole, and not counted"
            );
        }
    }
}

/// A server that knows no codings reads it as it is.
#[tokio::test]
async fn a_model_that_is_hidden_by_a_false_coding_is_counted_wherever_one_is() {
    for rules in [
        "budgets: {rules: [{name: dear, match: {model: o*}, window: day, limit: {requests: 1}}]}",
        "rate_limits: [{name: dear, match: {model: o*}, requests_per_minute: 1}]",
    ] {
        let sandbox = Sandbox::new(rules);
        for headers in [
            &[("content-encoding", "gzip")][..],
            &[
                ("content-encoding", "gzip"),
                ("connection", "content-encoding"),
            ],
        ] {
            let answer = send(&sandbox, CHAT, headers, chat().to_string()).await;
            let is_first = sandbox.mock.count() == 1 && answer.status == 200;
            assert!(is_first != is_refused(&answer), "{rules}: {answer:?}");
        }
        assert_eq!(sandbox.mock.count(), 1, "{rules}");
        // One that is seen to be another is not.
        let answer = send(&sandbox, CHAT, &[], chat().to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

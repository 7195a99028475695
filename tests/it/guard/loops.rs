//! Conversations that turn in circles.

use serde_json::{Value, json};

use crate::support::{Answer, Sandbox};

const CHAT: &str = "/v1/chat/completions";
const TOOLS: &str = "guards: {loops: [{name: tools, except: check_*, slow_by: 1ms}]}";

/// A chat in which these calls were made, each with its result.
fn chat(calls: &[(&str, Value, &str)]) -> Value {
    let mut messages = vec![json!({"role": "user", "content": "Go"})];
    for (place, (tool, arguments, result)) in calls.iter().enumerate() {
        let id = format!("call_{place}");
        let function = json!({"name": tool, "arguments": arguments.to_string()});
        messages.push(json!({"role": "assistant", "content": null,
            "tool_calls": [{"id": id, "type": "function", "function": function}]}));
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": result}));
    }
    json!({"model": "gpt-4o", "messages": messages})
}

pub(super) fn again(times: usize) -> Value {
    chat(&vec![
        ("look_up", json!({"secret-query": 1}), "none");
        times
    ])
}

fn is_stopped(answer: &Answer) -> bool {
    let stopped = answer.header("x-tollgate-blocked-by") == "loop.tools";
    assert_eq!(stopped, answer.status == 403, "{answer:?}");
    assert_eq!(answer.status == 200, !stopped, "{answer:?}");
    stopped
}

#[tokio::test]
async fn a_tool_that_is_called_again_and_again_is_told_alerted_slowed_and_refused() {
    let sandbox = Sandbox::new(TOOLS);
    for (times, said) in [
        (2, None),
        (3, Some("tag")),
        (4, Some("alert")),
        (5, Some("slow")),
        (6, Some("refuse")),
        (20, Some("refuse")),
    ] {
        let answer = sandbox.post(CHAT, &again(times)).await;
        assert_eq!(is_stopped(&answer), said == Some("refuse"), "{times}");
        let span = sandbox.span(&answer).await;
        let told = span.get("tollgate.guards")[0].as_str().map(str::to_owned);
        match (said, told) {
            (None, None) => {},
            (Some(action), Some(told)) => {
                assert!(
                    told.starts_with(&format!("loop.tools: {action}: ")),
                    "{told}"
                );
                assert!(told.contains("`look_up`"), "{told}");
                assert!(told.contains(&format!("{times} times")), "{told}");
                assert!(!told.contains("secret-query"), "{told}");
            },
            (said, told) => panic!("{times}: {said:?}, {told:?}"),
        }
    }
    let answer = sandbox.post(CHAT, &again(6)).await;
    assert_eq!(answer.header("x-should-retry"), "false");
    let message = answer.json()["error"]["message"].to_string();
    assert!(
        message.contains("Use the result that you have"),
        "{message}"
    );
    assert_eq!(sandbox.mock.count(), 4);
    for (action, count) in [("tag", 1.0), ("alert", 1.0), ("slow", 1.0), ("refuse", 3.0)] {
        let name =
            format!("tollgate_guard_actions_total{{action=\"{action}\",guard=\"loop.tools\"}}");
        assert!((sandbox.metric(&name) - count).abs() < 0.5, "{action}");
    }
}

#[tokio::test]
async fn progress_and_polling_are_no_loops() {
    let sandbox = Sandbox::new(TOOLS);
    let same = ("look_up", json!({"q": 1}), "none");
    let differs = [
        // Other arguments, another result, another call, and a tool that may be asked often.
        vec![same.clone(), ("look_up", json!({"q": 2}), "none")],
        vec![same.clone(), ("look_up", json!({"q": 1}), "one")],
        vec![same.clone(), ("write", json!({}), "done")],
        vec![("check_status", json!({"id": 1}), "pending")],
    ];
    for last in &differs {
        let mut calls = vec![same.clone(); if last.len() > 1 { 6 } else { 1 }];
        calls.extend(
            last.iter()
                .cycle()
                .take(if last.len() > 1 { 2 } else { 20 })
                .cloned(),
        );
        let answer = sandbox.post(CHAT, &chat(&calls)).await;
        assert!(!is_stopped(&answer), "{last:?}");
        assert!(sandbox.span(&answer).await.get("tollgate.guards").is_null());
    }
    // The user says something else.
    let mut body = again(8);
    let words = json!({"role": "user", "content": "Try the archive"});
    body["messages"].as_array_mut().unwrap().push(words);
    assert!(!is_stopped(&sandbox.post(CHAT, &body).await));
}

#[tokio::test]
async fn calls_in_turn_are_a_loop() {
    let sandbox =
        Sandbox::new("guards: {loops: [{name: tools, same_tool: {}, alternating: {refuse: 3}}]}");
    let (one, other) = (
        ("read", json!({"a": 1}), "x"),
        ("write", json!({"a": 2}), "y"),
    );
    let rounds = |rounds: usize| {
        let calls = [one.clone(), other.clone()];
        chat(
            &calls
                .iter()
                .cycle()
                .take(2 * rounds)
                .cloned()
                .collect::<Vec<_>>(),
        )
    };
    assert!(!is_stopped(&sandbox.post(CHAT, &rounds(2)).await));
    let answer = sandbox.post(CHAT, &rounds(3)).await;
    assert!(is_stopped(&answer));
    let message = answer.json()["error"]["message"].to_string();
    assert!(
        message.contains("`read`, `write` were called in turn 3 times"),
        "{message}"
    );
    // Of the rungs that are not written there are none.
    assert!(!is_stopped(&sandbox.post(CHAT, &again(20)).await));
}

/// What begins a conversation, and then six rounds of it.
fn rounds(first: Value, each: impl Fn(String) -> [Value; 2]) -> Value {
    let rounds = (0..6).flat_map(|round| each(round.to_string()));
    std::iter::once(first).chain(rounds).collect()
}

fn tool_calls(arguments: &Value) -> Value {
    rounds(json!({"role": "user", "content": "Go"}), |id| {
        let function = json!({"name": "look_up", "arguments": arguments});
        let calls = json!([{"id": id, "type": "function", "function": function}]);
        [
            json!({"role": "assistant", "tool_calls": calls}),
            json!({"role": "tool", "tool_call_id": id, "content": "none"}),
        ]
    })
}

fn items() -> Value {
    rounds(json!({"role": "user", "content": "Go"}), |id| {
        [
            json!({"type": "function_call", "call_id": id, "name": "look_up",
                "arguments": "{\"q\": 1}"}),
            json!({"type": "function_call_output", "call_id": id, "output": "none"}),
        ]
    })
}

fn tool_use() -> Value {
    rounds(json!({"role": "user", "content": "Go"}), |id| {
        let call = json!({"type": "tool_use", "id": id, "name": "look_up", "input": {"q": 1}});
        let result = json!({"type": "tool_result", "tool_use_id": id, "content": "none"});
        [
            json!({"role": "assistant", "content": [call]}),
            json!({"role": "user", "content": [result]}),
        ]
    })
}

fn parts() -> Value {
    rounds(json!({"role": "user", "parts": [{"text": "Go"}]}), |_id| {
        let call = json!({"functionCall": {"name": "look_up", "args": {"q": 1}}});
        let result = json!({"functionResponse": {"name": "look_up", "response": {"found": 0}}});
        [
            json!({"role": "model", "parts": [call]}),
            json!({"role": "user", "parts": [result]}),
        ]
    })
}

fn converse() -> Value {
    rounds(json!({"role": "user", "content": [{"text": "Go"}]}), |id| {
        let call = json!({"toolUseId": id, "name": "look_up", "input": {"q": 1}});
        let result = json!({"toolUseId": id, "content": [{"text": "none"}]});
        [
            json!({"role": "assistant", "content": [{"toolUse": call}]}),
            json!({"role": "user", "content": [{"toolResult": result}]}),
        ]
    })
}

#[tokio::test]
async fn a_loop_is_stopped_in_every_dialect() {
    let sandbox = Sandbox::new("guards: {loops: [{name: tools}]}");
    let chat = json!({"model": "m", "messages": tool_calls(&json!("{\"q\": 1}"))});
    let ollama = json!({"model": "llama3.2", "messages": tool_calls(&json!({"q": 1}))});
    for (path, body) in [
        (CHAT, &chat),
        ("/mistral/v1/chat/completions", &chat),
        ("/v2/chat", &chat),
        ("/api/chat", &ollama),
        (
            "/v1/responses",
            &json!({"model": "gpt-4o", "input": items()}),
        ),
        (
            "/v1/messages",
            &json!({"model": "c", "max_tokens": 9, "messages": tool_use()}),
        ),
        (
            "/v1beta/models/gemini-x:generateContent",
            &json!({"contents": parts()}),
        ),
        (
            "/model/amazon.nova-lite-v1:0/converse",
            &json!({"messages": converse()}),
        ),
    ] {
        let answer = sandbox.post(path, body).await;
        assert!(is_stopped(&answer), "{path}");
        let text = answer.text();
        assert!(
            text.contains("`look_up` was called 6 times"),
            "{path}: {text}"
        );
    }
    assert_eq!(sandbox.mock.count(), 0);
}

#[tokio::test]
async fn the_same_request_is_counted_per_caller_and_a_retry_is_not() {
    let sandbox = Sandbox::new(
        "guards: {loops: [{name: tools, match: {agent: '*'}, same_request: {refuse: 3}}]}",
    );
    let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "Go"}]});
    let one = [("x-tollgate-agent", "one")];
    for refused in [false, false, true, true] {
        assert_eq!(
            is_stopped(&sandbox.post_with(CHAT, &one, &body).await),
            refused
        );
    }
    let answer = sandbox
        .post_with(CHAT, &[("x-tollgate-agent", "other")], &body)
        .await;
    assert!(!is_stopped(&answer));
    // What matches no entry is not counted, nor is a retry.
    for _ in 0..5 {
        assert!(!is_stopped(&sandbox.post(CHAT, &body).await));
        let retry = [
            ("x-tollgate-agent", "third"),
            ("x-stainless-retry-count", "1"),
        ];
        assert!(!is_stopped(&sandbox.post_with(CHAT, &retry, &body).await));
    }
    assert_eq!(sandbox.app.holdings().requests, 2);
}

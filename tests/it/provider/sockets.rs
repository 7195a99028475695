//! The rows of `docs/providers.md` that are said in sockets, driven through the whole app and the
//! mock: the counter moves by what the mock reports, and the limit holds.

use serde_json::{Value, json};

use super::drives::{self, Drive};
use crate::support::{Sandbox, Socket, sandbox::Span, socket::Said};

/// What is said in a socket.
struct Talk {
    /// Where it is opened.
    target: &'static str,
    /// What is said first, and how many messages answer that.
    opening: (Vec<Value>, usize),
    /// What asks for a response.
    ask: Value,
    /// Whether a message is the last of it.
    ends: fn(&Value) -> bool,
    /// What the span is called.
    name: &'static str,
    /// Whether a refused response gets a message, and where its code stands.
    refusal: Option<&'static str>,
}

/// How a row is driven.
fn talk(drive: &Drive) -> Talk {
    let [_, endpoint, operation] = drive.row;
    match operation {
        "realtime.response" => Talk {
            target: match endpoint {
                "GET /openai/realtime" => "/openai/realtime?api-version=1&deployment=gpt-realtime",
                _ => "/v1/realtime?model=gpt-realtime",
            },
            opening: (vec![], 1),
            ask: json!({"type": "response.create", "response": {"max_output_tokens": 500}}),
            ends: |message| message["type"] == "response.done",
            name: "realtime gpt-realtime",
            refusal: Some("/error/code"),
        },
        "responses" => Talk {
            target: "/v1/responses",
            opening: (vec![], 0),
            ask: json!({"type": "response.create", "model": "gpt-4o", "input": "hello"}),
            ends: |message| message["type"] == "response.completed",
            name: "chat gpt-4o",
            refusal: Some("/error/code"),
        },
        "live.turn" => {
            let setup = json!({"setup": {"model": "models/gemini-3.8-live"}});
            let turns = json!([{"role": "user", "parts": [{"text": "hello"}]}]);
            Talk {
                target: endpoint.split_once(' ').unwrap().1,
                opening: (vec![setup], 1),
                ask: json!({"clientContent": {"turns": turns, "turnComplete": true}}),
                ends: |message| message["serverContent"]["turnComplete"] == true,
                name: "realtime gemini-3.8-live",
                refusal: None,
            }
        },
        other => panic!("in sockets.rs: say how {other} is driven"),
    }
}

impl Talk {
    fn target(&self, drive: &Drive) -> String {
        format!("/{}{}", drive.row[0], self.target)
    }

    async fn open(&self, drive: &Drive, sandbox: &Sandbox) -> Socket {
        let mut socket = Socket::open(sandbox.addr(), &self.target(drive), &[]).await;
        for message in &self.opening.0 {
            socket.say(message).await;
        }
        for _ in 0..self.opening.1 {
            socket.message().await;
        }
        socket
    }
}

fn driven() -> Vec<(Drive, Talk)> {
    let rows = drives::all().into_iter().filter(|drive| drive.in_socket);
    let driven: Vec<_> = rows
        .map(|drive| {
            let talk = talk(&drive);
            (drive, talk)
        })
        .collect();
    assert!(driven.len() > 2);
    driven
}

fn sandbox(limit: &str) -> Sandbox {
    Sandbox::new(&format!("budgets: {{daily: {limit}}}\n{}", drives::SETUP))
}

#[tokio::test]
async fn each_response_in_a_socket_moves_the_counter_by_what_it_cost() {
    for (drive, talk) in driven() {
        let sandbox = sandbox("10");
        let mut socket = talk.open(&drive, &sandbox).await;
        for counts in ["input=1000;output=200", "input=3000;output=100;cached=500"] {
            sandbox.mock.next_with(counts).unwrap();
            socket.say(&talk.ask).await;
            socket.until(talk.ends).await;
        }
        socket.close().await;
        assert!(matches!(socket.heard().await, Said::Close(1000, _)));
        assert_eq!(socket.heard().await, Said::End);
        let spans = sandbox.spans(3).await.into_iter().map(Span);
        let (llm, socket): (Vec<_>, Vec<_>) = spans.partition(|span| span.field("kind") == "llm");
        let [socket] = &socket[..] else {
            panic!("{socket:?}")
        };
        let mut cost = 0;
        for (span, [input, output]) in llm.iter().zip([[1000, 200], [3000, 100]]) {
            let at = format!("{drive:?} {:#}", span.0);
            assert_eq!(span.field("operation_name"), talk.name, "{at}");
            assert_eq!(span.get("tollgate.end"), "complete", "{at}");
            assert_eq!(span.get("tollgate.usage.source"), "reported", "{at}");
            assert_eq!(span.get("gen_ai.usage.input_tokens"), input, "{at}");
            assert_eq!(span.get("gen_ai.usage.output_tokens"), output, "{at}");
            assert_eq!(
                span.field("parent_span_id"),
                socket.field("span_id"),
                "{at}"
            );
            cost += span.nanos("tollgate.cost.usd");
        }
        assert!(cost > 0, "{drive:?}");
        assert_eq!(socket.nanos("tollgate.socket.cost_usd"), cost, "{drive:?}");
        assert_eq!(sandbox.spent("daily").await, cost, "{drive:?}");
    }
}

#[tokio::test]
async fn a_response_that_does_not_fit_is_refused_and_closes_its_socket() {
    for (drive, talk) in driven() {
        let sandbox = sandbox("0.000000001");
        let mut socket = talk.open(&drive, &sandbox).await;
        socket.say(&talk.ask).await;
        if let Some(code) = talk.refusal {
            let refused = socket.message().await;
            let found = refused.pointer(code);
            assert_eq!(
                found,
                Some(&json!("insufficient_quota")),
                "{drive:?} {refused}"
            );
        }
        let said = socket.heard().await;
        let Said::Close(1008, reason) = &said else {
            panic!("{drive:?} {said:?}")
        };
        assert!(reason.contains("budget"), "{reason}");
        assert_eq!(socket.heard().await, Said::End);
        assert_eq!(sandbox.spent("daily").await, 0, "{drive:?}");
        let heard = sandbox.mock.until(|all| all[0].whole).await;
        let asked = heard[0].body.split(|byte| *byte == b'\n').count() - 1;
        assert_eq!(asked, talk.opening.0.len(), "the provider was not asked");
    }
}

#[tokio::test]
async fn once_the_budget_is_spent_no_socket_opens() {
    for (drive, talk) in driven() {
        let sandbox = sandbox("0.001");
        let mut socket = talk.open(&drive, &sandbox).await;
        drop(sandbox.mock.next_with("output=1000000"));
        let body = json!({"model": "gpt-4o-mini", "max_tokens": 10,
            "messages": [{"role": "user", "content": "hello"}]});
        let answer = sandbox.post("/openai/v1/chat/completions", &body).await;
        assert_eq!(answer.status, 200);
        // The one that is open is told.
        let closed = loop {
            if let Said::Close(code, _) = socket.heard().await {
                break code;
            }
        };
        assert_eq!(closed, 1008, "{drive:?}");
        let refused = Socket::ask(sandbox.addr(), &talk.target(&drive), &[]).await;
        let head = refused.err().unwrap();
        assert_eq!(head.status(), 429, "{drive:?}");
        assert_eq!(head.header("x-tollgate-blocked-by"), Some("budget.daily"));
    }
}

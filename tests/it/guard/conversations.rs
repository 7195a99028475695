//! Conversations that turn in circles where the provider keeps them: stored responses and sockets.

use serde_json::{Value, json};
use tollgate::{
    base::clock::SystemClock,
    mock::{Options, Rule, Script, When},
};

use crate::support::{
    Answer, Sandbox, Socket,
    sandbox::Span,
    socket::Said::{self, Close},
};

const TOOLS: &str = "guards: {loops: [{name: tools, slow_by: 1ms}]}";
const RESPONSES: &str = "/v1/responses";
/// What is said of each request, the first of which continues nothing.
const LADDER: [Option<&str>; 7] = [
    None,
    None,
    None,
    Some("tag"),
    Some("alert"),
    Some("slow"),
    Some("refuse"),
];

/// With a model that always calls the same tool.
fn sandbox(guards: &str) -> Sandbox {
    let query = json!({"what": "secret-query", "many": 1});
    let script = Script {
        rules: vec![Rule::call(When::default(), "look_up", query)],
    };
    let mock = Options {
        script,
        ..Options::default()
    };
    Sandbox::with(guards, mock, std::sync::Arc::new(SystemClock))
}

/// What guards have said of it, as its span has it.
fn said(span: &Span) -> Option<String> {
    let told = span.get("tollgate.guards")[0].as_str()?;
    assert!(told.contains("`look_up`"), "{told}");
    assert!(!told.contains("secret-query"), "{told}");
    let (action, _) = told.strip_prefix("loop.tools: ")?.split_once(": ")?;
    Some(action.to_owned())
}

/// The last answer, whole or of a stream.
fn response(answer: &Answer) -> Value {
    match answer.data().last() {
        Some(event) => event["response"].clone(),
        None => answer.json(),
    }
}

fn result_of(output: &Value, result: &str) -> Value {
    let items = output.as_array().unwrap();
    let call = items.iter().find(|item| item["type"] == "function_call");
    let id = &call.unwrap()["call_id"];
    json!({"type": "function_call_output", "call_id": id, "output": result})
}

/// An agent that goes on with stored responses; `with` is what it asks with besides.
struct Agent<'a> {
    sandbox: &'a Sandbox,
    with: Value,
    input: Value,
    previous: Value,
}

impl<'a> Agent<'a> {
    fn new(sandbox: &'a Sandbox, with: Value) -> Self {
        Self {
            sandbox,
            with,
            input: json!("Go"),
            previous: Value::Null,
        }
    }

    fn body(&self) -> Value {
        let mut body = json!({"model": "gpt-4o", "input": self.input});
        let fields = body.as_object_mut().unwrap();
        fields.extend(self.with.as_object().unwrap().clone());
        if !fields.contains_key("conversation") {
            fields.insert("previous_response_id".into(), self.previous.clone());
        }
        body
    }

    /// Asks, and finds that `result` comes of what is called. Returns what was said of the request.
    async fn goes_on(&mut self, headers: &[(&str, &str)], result: &str) -> Option<String> {
        let answer = self
            .sandbox
            .post_with(RESPONSES, headers, &self.body())
            .await;
        let told = said(&self.sandbox.span(&answer).await);
        if answer.status == 403 {
            assert_eq!(answer.header("x-tollgate-blocked-by"), "loop.tools");
            assert!(answer.text().contains("Use the result that you have"));
            return told;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        let mut made = response(&answer);
        let id = made["id"].as_str().unwrap().to_owned();
        while made["status"] != "completed" {
            let fetched = self.sandbox.get(&format!("{RESPONSES}/{id}")).await;
            made = fetched.json();
        }
        self.input = json!([result_of(&made["output"], result)]);
        self.previous = json!(id);
        told
    }
}

#[tokio::test]
async fn a_loop_over_stored_responses_climbs_the_ladder() {
    for with in [
        json!({}),
        json!({"stream": true}),
        json!({"background": true}),
        json!({"conversation": "conv_1"}),
        json!({"conversation": {"id": "conv_2"}, "stream": true}),
    ] {
        let sandbox = sandbox(TOOLS);
        let mut agent = Agent::new(&sandbox, with.clone());
        for expected in LADDER {
            let told = agent.goes_on(&[], "none").await;
            assert_eq!(told.as_deref(), expected, "{with}");
        }
        // It is refused until it does something else.
        assert_eq!(agent.goes_on(&[], "none").await.unwrap(), "refuse");
        agent.input = json!([agent.input[0], {"role": "user", "content": "Try another"}]);
        assert_eq!(agent.goes_on(&[], "none").await, None, "{with}");
        assert!(sandbox.app.holdings().conversation_bytes > 0);
    }
}

#[tokio::test]
async fn progress_in_stored_responses_is_no_loop() {
    let sandbox = sandbox(TOOLS);
    let mut agent = Agent::new(&sandbox, json!({}));
    for round in 0..10 {
        let told = agent.goes_on(&[], &format!("found {round}")).await;
        assert_eq!(told, None);
    }
}

#[tokio::test]
async fn answers_that_continue_the_same_response_side_by_side_are_no_loop() {
    let sandbox = sandbox("guards: {loops: [{name: tools, same_request: {}}]}");
    let mut agent = Agent::new(&sandbox, json!({}));
    agent.goes_on(&[], "none").await;
    let (input, previous) = (agent.input.clone(), agent.previous.clone());
    for _ in 0..10 {
        (agent.input, agent.previous) = (input.clone(), previous.clone());
        assert_eq!(agent.goes_on(&[], "none").await, None);
    }
}

#[tokio::test]
async fn a_conversation_is_only_its_caller_s() {
    let sandbox = sandbox(TOOLS);
    let (one, other) = (
        [("authorization", "Bearer 1")],
        [("authorization", "Bearer 2")],
    );
    let mut agent = Agent::new(&sandbox, json!({"conversation": "conv_1"}));
    for _ in 0..5 {
        agent.goes_on(&one, "none").await;
    }
    let input = agent.input.clone();
    assert_eq!(agent.goes_on(&other, "none").await, None);
    agent.input = input;
    assert_eq!(agent.goes_on(&one, "none").await.unwrap(), "slow");
}

#[tokio::test]
async fn nothing_is_kept_where_no_loop_is_looked_for() {
    let sandbox = sandbox("guards: {}");
    let mut agent = Agent::new(&sandbox, json!({}));
    for _ in 0..8 {
        assert_eq!(agent.goes_on(&[], "none").await, None);
    }
    assert_eq!(sandbox.app.holdings().conversation_bytes, 0);
}

/// What was said of each response in a socket, and of the one that was refused.
async fn said_in_socket(sandbox: &Sandbox, responses: usize) -> Vec<Option<String>> {
    let spans = sandbox.spans(responses + 1).await.into_iter().map(Span);
    let responses = spans.filter(|span| span.field("kind") == "llm");
    responses.map(|span| said(&span)).collect()
}

fn is_end(message: &Value) -> bool {
    let ends = ["response.completed", "response.done", "error"];
    ends.iter().any(|end| message["type"] == *end)
}

#[tokio::test]
async fn a_loop_in_a_socket_of_responses_is_refused_there() {
    let sandbox = sandbox(TOOLS);
    let mut socket = Socket::open(sandbox.addr(), RESPONSES, &[]).await;
    let mut ask = json!({"type": "response.create", "model": "gpt-4o", "input": "Go"});
    for expected in LADDER {
        socket.say(&ask).await;
        let last = socket.until(is_end).await.pop().unwrap();
        if expected == Some("refuse") {
            let message = last["error"]["message"].as_str().unwrap();
            assert!(
                message.contains("`look_up` was called 6 times"),
                "{message}"
            );
            continue;
        }
        let response = &last["response"];
        ask["previous_response_id"] = response["id"].clone();
        ask["input"] = json!([result_of(&response["output"], "none")]);
    }
    // Another socket of the same caller goes on where this one was.
    drop(socket);
    let mut socket = Socket::open(sandbox.addr(), RESPONSES, &[]).await;
    socket.say(&ask).await;
    assert_eq!(socket.until(is_end).await[0]["type"], "error");
    drop(socket);
    let told = said_in_socket(&sandbox, 9).await;
    let told: Vec<_> = told.iter().map(Option::as_deref).collect();
    assert_eq!(told, [&LADDER[..], &[Some("refuse")]].concat());
}

fn item(item: &Value) -> Value {
    json!({"type": "conversation.item.create", "item": item})
}

#[tokio::test]
async fn a_loop_in_a_realtime_socket_is_refused_there() {
    let sandbox = sandbox(TOOLS);
    let mut socket = Socket::open(sandbox.addr(), "/v1/realtime?model=gpt-realtime", &[]).await;
    let words = |text| {
        let content = json!([{"type": "input_text", "text": text}]);
        item(&json!({"type": "message", "role": "user", "content": content}))
    };
    let ask = json!({"type": "response.create", "response": {"output_modalities": ["text"]}});
    socket.say(&words("Go")).await;
    for expected in LADDER {
        socket.say(&ask).await;
        let last = socket.until(is_end).await.pop().unwrap();
        if expected == Some("refuse") {
            assert_eq!(last["error"]["code"], "blocked", "{last}");
            continue;
        }
        let result = result_of(&last["response"]["output"], "none");
        socket.say(&item(&result)).await;
    }
    // Another message of the user ends it.
    socket.say(&words("Try another")).await;
    socket.say(&ask).await;
    assert_eq!(
        socket.until(is_end).await.pop().unwrap()["type"],
        "response.done"
    );
    drop(socket);
    let told = said_in_socket(&sandbox, 8).await;
    let told: Vec<_> = told.iter().map(Option::as_deref).collect();
    assert_eq!(told, [&LADDER[..], &[None]].concat());
}

#[tokio::test]
async fn responses_that_are_not_of_the_conversation_are_no_loop_in_it() {
    let sandbox = sandbox(TOOLS);
    let mut socket = Socket::open(sandbox.addr(), "/v1/realtime?model=gpt-realtime", &[]).await;
    let ask = json!({"type": "response.create",
        "response": {"conversation": "none", "output_modalities": ["text"], "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Go"}]}]}});
    for _ in 0..8 {
        socket.say(&ask).await;
        let last = socket.until(is_end).await.pop().unwrap();
        assert_eq!(last["type"], "response.done", "{last}");
    }
}

#[tokio::test]
async fn a_loop_in_a_live_turn_closes_its_socket() {
    let sandbox = sandbox(TOOLS);
    let target =
        "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent?key=k";
    let mut socket = Socket::open(sandbox.addr(), target, &[]).await;
    socket
        .say(&json!({"setup": {"model": "models/gemini-3.8-live"}}))
        .await;
    socket.message().await;
    let turns = json!([{"role": "user", "parts": [{"text": "Go"}]}]);
    let mut say = json!({"clientContent": {"turns": turns, "turnComplete": true}});
    for _ in 0..6 {
        socket.say(&say).await;
        let called = socket.until(|said| said.get("toolCall").is_some()).await;
        let call = &called.last().unwrap()["toolCall"]["functionCalls"][0];
        let result = json!({"id": call["id"], "name": "look_up", "response": {"found": 0}});
        say = json!({"toolResponse": {"functionResponses": [result]}});
    }
    socket.say(&say).await;
    let Close(code, reason) = socket.heard().await else {
        panic!("it goes on");
    };
    assert_eq!(code, 1008);
    assert!(reason.starts_with("Tollgate stopped this loop"), "{reason}");
    assert_eq!(socket.heard().await, Said::End);
    let mut spans = sandbox.spans(2).await.into_iter().map(Span);
    let turn = spans.find(|span| span.field("kind") == "llm");
    let turn = turn.unwrap();
    assert_eq!(turn.get("tollgate.blocked_by"), "loop.tools");
    assert!(turn.outcome().starts_with("blocked cut cut "), "{turn:?}");
    let told = turn.get("tollgate.guards").as_array().unwrap();
    let told: Vec<_> = told.iter().map(|said| said.as_str().unwrap()).collect();
    for (said, action) in told.iter().zip(["tag", "alert", "slow", "refuse"]) {
        assert!(
            said.starts_with(&format!("loop.tools: {action}: ")),
            "{said}"
        );
    }
    assert_eq!(told.len(), 4);
}

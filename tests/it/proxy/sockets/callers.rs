//! Responses in sockets count for whoever opened the socket.

use serde_json::{Value, json};

use crate::support::{Sandbox, Socket};

#[tokio::test]
async fn a_response_counts_for_the_credential_that_its_socket_was_opened_with() {
    let sandbox = Sandbox::new(
        "budgets: {rules: [{name: b, match: {key: 'sha256:*'}, window: total, limit: {requests: 9}}]}",
    );
    let target = "/v1/realtime?model=gpt-realtime";
    let mut socket = Socket::open(sandbox.addr(), target, &[]).await;
    let ask = json!({"type": "response.create", "response": {"output_modalities": ["text"]}});
    for _ in 0..2 {
        socket.say(&ask).await;
        let is_done = |message: &Value| message["type"] == "response.done";
        socket.until(is_done).await;
    }
    drop(socket);
    let spans = sandbox.spans(3).await;
    assert_eq!(sandbox.spent("b").await, 2, "the socket itself is none");
    let mut names = spans.iter().map(|span| &span["attributes"]["tollgate.key"]);
    let name = names.next().unwrap();
    assert!(name.as_str().unwrap().starts_with("sha256:"), "{spans:#?}");
    assert!(names.all(|other| other == name), "{spans:#?}");
}

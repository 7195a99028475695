//! What the provider of a socket makes without being asked, or goes on with: admitted and charged.

use serde_json::{Value, json};
use tollgate::identity;

use super::{
    super::keys::{Keys, now},
    BUDGET, COST, LIVE, REALTIME, SMALL, created, done, down, open, spans, up,
};
use crate::support::{Sandbox, Upstream, sandbox::until};

/// 1,000 tokens of audio at $64 a million, on which the provider is at work, and 85 that any request
/// may have at $4.
const MOST: i64 = 64_340_000;

#[tokio::test]
async fn what_the_provider_begins_by_itself_is_admitted_too_or_the_socket_closed() {
    for budget in [BUDGET, SMALL] {
        let upstream = Upstream::bind().await;
        let sandbox = Sandbox::new(&format!("{}\n{budget}", upstream.as_provider("openai")));
        let mut ends = open(sandbox.addr(), &upstream, REALTIME, "").await;
        let limit = json!({"type": "session.update", "session": {"max_output_tokens": 1000}});
        ends.up(up(&limit)).await;
        if budget == BUDGET {
            ends.down(down(&created("r"))).await;
            ends.down(down(&done("r"))).await;
            drop(ends);
            assert_eq!(sandbox.spent("b").await, COST);
            continue;
        }
        ends.provider.send(down(&created("r"))).await;
        let (_, payload) = ends.heard().await;
        let event: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(event["type"], "error");
        ends.closed(1008).await;
        assert_eq!(sandbox.spent("b").await, MOST);
        let spans = spans(&sandbox, 2).await;
        assert_eq!(
            spans[0].outcome(),
            "blocked cut refused ceiling 0.064340000"
        );
        assert_eq!(spans[1].nanos("tollgate.socket.cost_usd"), MOST);
        let again = json!({"model": "gpt-4o", "max_tokens": 1, "messages": []});
        let again = sandbox.post("/v1/chat/completions", &again).await;
        assert_eq!(again.status, 429);
    }
}

#[tokio::test]
async fn what_is_refused_when_it_is_over_is_charged_what_it_says() {
    let upstream = Upstream::bind().await;
    let sandbox = Sandbox::new(&format!("{}\n{SMALL}", upstream.as_provider("openai")));
    let mut ends = open(sandbox.addr(), &upstream, REALTIME, "").await;
    let session = json!({"type": "session.updated", "session": {"model": "gpt-realtime",
        "max_output_tokens": 100,
        "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}}});
    ends.down(down(&session)).await;
    ends.down(down(&created("r"))).await;
    let transcript = json!({"type": "conversation.item.input_audio_transcription.completed",
        "item_id": "i", "transcript": "Hello", "usage": {"type": "tokens", "total_tokens": 1200,
            "input_tokens": 1000, "input_token_details": {"text_tokens": 0, "audio_tokens": 1000},
            "output_tokens": 200}});
    // The first uses the budget up.
    ends.provider
        .send([down(&done("r")), down(&transcript)].concat())
        .await;
    assert_eq!(ends.heard().await.0, 0x81, "done");
    assert_eq!(ends.heard().await.0, 0x81, "an error");
    ends.closed(1008).await;
    // $6 and $10 a million.
    let transcribed = 1000 * 6_000 + 200 * 10_000;
    assert_eq!(sandbox.spent("b").await, COST + transcribed);
    let spans = spans(&sandbox, 3).await;
    assert_eq!(
        spans[1].outcome(),
        "blocked complete refused reported 0.008000000"
    );
}

#[tokio::test]
async fn what_the_provider_has_begun_counts_as_sent_before_it_is_admitted() {
    let upstream = Upstream::bind().await;
    let budget = "budgets: {max_wait: 15s, rules: [{name: b, window: total, limit: {usd: 0.01}}]}";
    let sandbox = Sandbox::new(&format!("{}\n{budget}", upstream.as_provider("openai")));
    let mut ends = open(sandbox.addr(), &upstream, REALTIME, "").await;
    let limit = json!({"type": "session.update", "session": {"max_output_tokens": 100}});
    ends.up(up(&limit)).await;
    ends.down(down(&created("r1"))).await;
    // There is room for one of them, so that the second waits, and nobody stays.
    ends.provider.send(down(&created("r2"))).await;
    until("the second to wait", || {
        sandbox.app.holdings().in_flight == 3
    })
    .await;
    drop(ends);
    let spans = spans(&sandbox, 3).await;
    for span in &spans[..2] {
        assert_ne!(span.get("tollgate.usage.source"), "absent");
        assert_ne!(span.nanos("tollgate.cost.usd"), 0);
    }
    let costs = spans.iter().map(|span| span.nanos("tollgate.cost.usd"));
    let (costs, spent) = (costs.sum::<i64>(), sandbox.spent("b").await);
    assert!(spent >= costs, "{spent} of {costs}: {spans:#?}");
}

#[tokio::test]
async fn what_has_begun_is_charged_though_whose_key_it_is_may_begin_nothing_more() {
    let keys = Keys::new();
    let secret = keys.add("ci", |_| {});
    let (upstream, path) = (
        Upstream::bind().await,
        format!("/~key={}{REALTIME}", secret.expose()),
    );
    let yaml = format!("{}\n{BUDGET}", upstream.as_provider("openai"));
    let sandbox = Sandbox::new(&keys.yaml("", &yaml));
    let mut ends = open(sandbox.addr(), &upstream, &path, "").await;
    let limit = json!({"type": "session.update", "session": {"max_output_tokens": 1000}});
    ends.up(up(&limit)).await;
    identity::revoke(&keys.path(), "ci", now()).unwrap();
    sandbox.app.refresh_keys();
    ends.provider.send(down(&created("r"))).await;
    let (_, payload) = ends.heard().await;
    let event: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(event["error"]["code"], "invalid_api_key", "{event}");
    let (first, farewell) = ends.heard().await;
    assert_eq!((first, &farewell[..2]), (0x88, &1008_u16.to_be_bytes()[..]));
    assert_eq!(sandbox.spent("b").await, MOST);
    let spans = spans(&sandbox, 2).await;
    assert_eq!(
        spans[0].outcome(),
        "blocked cut refused ceiling 0.064340000"
    );
    assert_eq!(spans[1].nanos("tollgate.socket.cost_usd"), MOST);
}

#[tokio::test]
async fn what_has_begun_is_charged_though_there_is_no_room_for_it() {
    let upstream = Upstream::bind().await;
    let yaml = format!(
        "{}\nlimits: {{in_flight: 1}}\n{BUDGET}",
        upstream.as_provider("openai")
    );
    let sandbox = Sandbox::new(&yaml);
    // The socket itself is all that there may be.
    let mut ends = open(sandbox.addr(), &upstream, REALTIME, "").await;
    let limit = json!({"type": "session.update", "session": {"max_output_tokens": 1000}});
    ends.up(up(&limit)).await;
    ends.provider.send(down(&created("r"))).await;
    assert_eq!(ends.heard().await.0, 0x81, "an error");
    ends.closed(1012).await;
    assert_eq!(sandbox.spent("b").await, MOST);
    spans(&sandbox, 2).await;
}

#[tokio::test]
async fn what_joins_a_turn_under_way_has_to_fit_as_well() {
    let setup = json!({"setup": {"model": "models/gemini-3.8-live", "generationConfig": {"maxOutputTokens": 100}}});
    let say = json!({"clientContent": {"turns": [{"role": "user", "parts": [{"text": "Hello"}]}], "turnComplete": true}});
    let tells = |length| {
        let output = json!({"result": "x".repeat(length)});
        json!({"toolResponse": {"functionResponses": [{"id": "1", "name": "f", "response": output}]}})
    };
    let call = json!({"toolCall": {"functionCalls": [{"id": "1", "name": "f", "args": {}}]}});
    let budget = "budgets: {rules: [{name: b, window: total, limit: {tokens: 10000}}]}";
    for begun in [false, true] {
        let upstream = Upstream::bind().await;
        let sandbox = Sandbox::new(&format!("{}\n{budget}", upstream.as_provider("gemini")));
        let mut ends = open(sandbox.addr(), &upstream, LIVE, "").await;
        ends.up(up(&setup)).await;
        ends.up(up(&say)).await;
        if begun {
            ends.down(down(&call)).await;
        }
        let before = sandbox.budget("b").reserved;
        ends.up(up(&tells(1_000))).await;
        assert!(sandbox.budget("b").reserved >= before + 1_000);
        ends.client.send(up(&tells(900_000))).await;
        ends.closed(1008).await;
        let spans = spans(&sandbox, 2).await;
        assert_eq!(spans[1].get("tollgate.socket.refused"), 1);
    }
}

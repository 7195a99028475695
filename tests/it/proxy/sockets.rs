//! Sockets: frames pass untouched, each response in them is a call, and limits hold in them.

mod callers;
mod unasked;

use std::net::SocketAddr;

use flate2::{Compress, Compression, FlushCompress};
use serde_json::{Value, json};
use tollgate::provider::wire::websocket::{Opcode, close, frame};

use crate::support::{Line, Sandbox, Upstream, sandbox::Span};

const MASK: Option<[u8; 4]> = Some([1, 2, 3, 4]);
const BUDGET: &str = "budgets: {rules: [{name: b, window: total, limit: {usd: 1.00}}]}";
/// Less than one response of the model may cost.
const SMALL: &str = "budgets: {rules: [{name: b, window: total, limit: {usd: 0.01}}]}";
const REALTIME: &str = "/v1/realtime?model=gpt-realtime";
const LIVE: &str =
    "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent?key=k";

/// Both ends of a socket through Tollgate.
struct Ends {
    client: Line,
    provider: Line,
}

async fn open(addr: SocketAddr, upstream: &Upstream, path: &str, extension: &str) -> Ends {
    let extension = match extension {
        "" => String::new(),
        value => format!("sec-websocket-extensions: {value}\r\n"),
    };
    let mut client = Line::connect(addr).await;
    client
        .send(format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             x-tollgate-agent: voice\r\n{extension}\r\n"
        ))
        .await;
    let mut provider = upstream.accept().await;
    provider.head().await;
    provider
        .send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             {extension}\r\n"
        ))
        .await;
    assert_eq!(client.head().await.status(), 101);
    Ends { client, provider }
}

fn up(message: &Value) -> Vec<u8> {
    frame(Opcode::Text, message.to_string().as_bytes(), MASK)
}

fn down(message: &Value) -> Vec<u8> {
    frame(Opcode::Text, message.to_string().as_bytes(), None)
}

impl Ends {
    /// Sends bytes from the client, which must arrive as they are.
    async fn up(&mut self, bytes: Vec<u8>) {
        self.client.send(&bytes).await;
        assert_eq!(self.provider.take(bytes.len()).await, bytes);
    }

    /// Sends bytes from the provider, which must arrive as they are.
    async fn down(&mut self, bytes: Vec<u8>) {
        self.provider.send(&bytes).await;
        assert_eq!(self.client.take(bytes.len()).await, bytes);
    }

    /// The next frame that the client gets: the first byte, and the payload.
    async fn heard(&mut self) -> (u8, Vec<u8>) {
        let head = self.client.take(2).await;
        let length = match head[1] {
            126 => {
                let long = self.client.take(2).await;
                usize::from(u16::from_be_bytes([long[0], long[1]]))
            },
            short => usize::from(short),
        };
        (head[0], self.client.take(length).await)
    }

    /// The client gets a close frame with this code, and then the end; the provider its own.
    async fn closed(&mut self, code: u16) {
        let (first, payload) = self.heard().await;
        assert_eq!(first, 0x88);
        assert_eq!(payload[..2], code.to_be_bytes());
        assert!(
            std::str::from_utf8(&payload[2..])
                .unwrap()
                .starts_with("Tollgate")
        );
        let rest = self.provider.rest().await;
        assert_eq!(rest[..2], [0x88, 0x82], "masked, with a code");
        let code_there = [rest[6] ^ rest[2], rest[7] ^ rest[3]];
        assert_eq!((code_there, rest.len()), (code.to_be_bytes(), 8));
        assert_eq!(self.client.rest().await, b"");
    }
}

fn created(id: &str) -> Value {
    json!({"type": "response.created", "response": {"id": id, "status": "in_progress", "usage": null}})
}

/// 200 tokens of audio, 50 of text, of which 64 cached; 100 of audio and 20 of text came out:
/// (36 x 4 + 14 x 0.4 + 150 x 32 + 50 x 0.4 + 20 x 16 + 100 x 64) / 1,000,000 dollars.
const COST: i64 = 11_689_600;

fn done(id: &str) -> Value {
    json!({"type": "response.done", "response": {"id": id, "status": "completed", "output": [],
        "usage": {"total_tokens": 370, "input_tokens": 250, "output_tokens": 120,
            "input_token_details": {"text_tokens": 50, "audio_tokens": 200, "cached_tokens": 64,
                "cached_tokens_details": {"text_tokens": 14, "audio_tokens": 50}},
            "output_token_details": {"text_tokens": 20, "audio_tokens": 100}}}})
}

/// The spans, those of responses first.
async fn spans(sandbox: &Sandbox, count: usize) -> Vec<Span> {
    let mut spans = sandbox.spans(count).await;
    spans.sort_by_key(|span| span["kind"] == "http");
    spans.into_iter().map(Span).collect()
}

#[tokio::test]
async fn frames_pass_as_they_are_and_each_response_is_a_call_in_its_socket() {
    let upstream = Upstream::bind().await;
    let sandbox = Sandbox::new(&format!("{}\n{BUDGET}", upstream.as_provider("openai")));
    let mut ends = open(sandbox.addr(), &upstream, REALTIME, "").await;
    ends.down(down(
        &json!({"type": "session.created", "session": {"model": "gpt-realtime"}}),
    ))
    .await;
    ends.up(frame(Opcode::Ping, b"are you there", MASK)).await;
    ends.down(frame(Opcode::Pong, b"are you there", None)).await;
    let audio = "A".repeat(3_000_000);
    ends.up(up(
        &json!({"type": "input_audio_buffer.append", "audio": audio}),
    ))
    .await;
    for id in ["resp_1", "resp_2"] {
        // In fragments, with a ping between them.
        let text = json!({"type": "response.create", "response": {"max_output_tokens": 200}});
        let text = text.to_string();
        let (one, two) = text.split_at(9);
        let mut first = frame(Opcode::Text, one.as_bytes(), MASK);
        first[0] &= 0x7f;
        let mut message = first;
        message.extend(frame(Opcode::Ping, b"", MASK));
        message.extend(frame(Opcode::Continuation, two.as_bytes(), MASK));
        ends.up(message).await;
        ends.down(down(&created(id))).await;
        assert!(sandbox.budget("b").reserved > 0);
        let delta =
            json!({"type": "response.output_audio.delta", "response_id": id, "delta": audio});
        ends.down(down(&delta)).await;
        ends.down(down(&done(id))).await;
    }
    ends.up(close(1000, "bye", MASK)).await;
    ends.down(close(1000, "bye", None)).await;
    drop(ends);
    let spans = spans(&sandbox, 3).await;
    let socket = spans.last().unwrap();
    for (span, id) in spans.iter().zip(["resp_1", "resp_2"]) {
        assert_eq!(span.field("kind"), "llm");
        assert_eq!(span.field("operation_name"), "realtime gpt-realtime");
        assert_eq!(span.field("parent_span_id"), socket.field("span_id"));
        assert_eq!(span.field("trace_id"), socket.field("trace_id"));
        assert_eq!(span.get("gen_ai.response.id"), id);
        assert_eq!(span.get("tollgate.agent"), "voice");
        let cost = "ok complete admitted reported 0.011689600";
        assert_eq!(span.outcome(), cost);
    }
    assert_eq!(socket.field("status"), "ok");
    assert_eq!(socket.nanos("tollgate.cost.usd"), 0);
    assert_eq!(socket.get("tollgate.socket.responses"), 2);
    assert_eq!(socket.get("tollgate.socket.output_tokens"), 240);
    assert_eq!(socket.nanos("tollgate.socket.cost_usd"), 2 * COST);
    assert_eq!(sandbox.spent("b").await, 2 * COST);
}

#[tokio::test]
async fn a_response_that_does_not_fit_gets_an_error_and_is_not_sent() {
    let upstream = Upstream::bind().await;
    let rates = "rate_limits: [{name: r, requests_per_minute: 1}]";
    let sandbox = Sandbox::new(&format!("{}\n{rates}", upstream.as_provider("openai")));
    // Of the same clients as the socket: its opening is one, and given back.
    let mut ends = open(sandbox.addr(), &upstream, REALTIME, "").await;
    ends.up(up(&json!({"type": "response.create"}))).await;
    ends.down(down(&created("r"))).await;
    ends.down(down(&done("r"))).await;
    ends.client
        .send(up(&json!({"type": "response.create", "event_id": "mine"})))
        .await;
    let (first, payload) = ends.heard().await;
    assert_eq!(first, 0x81);
    let event: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(event["type"], "error");
    assert_eq!(event["error"]["event_id"], "mine");
    assert_eq!(event["error"]["code"], "rate_limit_exceeded");
    // The socket goes on, and nothing of the refused one has reached the provider.
    ends.up(up(&json!({"type": "input_audio_buffer.clear"})))
        .await;
    drop(ends);
    let spans = spans(&sandbox, 3).await;
    assert_eq!(
        spans[1].outcome(),
        "blocked complete refused absent 0.000000000"
    );
    assert_eq!(spans[1].get("tollgate.blocked_by"), "rate.r");
    assert_eq!(spans[2].get("tollgate.socket.refused"), 1);
}

#[tokio::test]
async fn a_used_up_budget_closes_the_socket_with_1008() {
    let upstream = Upstream::bind().await;
    let sandbox = Sandbox::new(&format!("{}\n{SMALL}", upstream.as_provider("openai")));
    let mut ends = open(sandbox.addr(), &upstream, REALTIME, "").await;
    ends.client
        .send(up(&json!({"type": "response.create"})))
        .await;
    let (first, payload) = ends.heard().await;
    assert_eq!(first, 0x81);
    let event: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(event["error"]["code"], "insufficient_quota");
    ends.closed(1008).await;
    assert_eq!(sandbox.spent("b").await, 0);
    let spans = spans(&sandbox, 2).await;
    assert_eq!(spans[0].get("tollgate.blocked_by"), "budget.b");
    assert_eq!(spans[1].get("tollgate.end"), "cut");
}

#[tokio::test]
async fn a_budget_that_others_use_up_closes_an_idle_socket() {
    let upstream = Upstream::bind().await;
    let providers = upstream.as_provider("openai");
    let budget = "budgets: {rules: [{name: b, window: total, limit: {tokens: 1000}}]}";
    let sandbox = Sandbox::new(&format!("{providers}\n{budget}"));
    let mut ends = open(sandbox.addr(), &upstream, REALTIME, "").await;
    let mut other = open(sandbox.addr(), &upstream, "/v1/responses", "").await;
    let create = json!({"type": "response.create", "model": "gpt-4o", "max_output_tokens": 9, "input": "Hi"});
    other.up(up(&create)).await;
    let response = json!({"id": "resp_a", "model": "gpt-4o", "status": "completed", "output": [],
        "usage": {"input_tokens": 900, "output_tokens": 100}});
    other
        .down(down(
            &json!({"type": "response.created", "response": {"id": "resp_a"}}),
        ))
        .await;
    other
        .down(down(
            &json!({"type": "response.completed", "response": response}),
        ))
        .await;
    let (first, _) = ends.heard().await;
    assert_eq!(first, 0x81);
    ends.closed(1008).await;
    drop(other);
    sandbox.settled().await;
    let spans = spans(&sandbox, 3).await;
    assert_eq!(spans[0].field("operation_name"), "chat gpt-4o");
    assert_eq!(spans[0].get("gen_ai.response.id"), "resp_a");
}

#[tokio::test]
async fn a_provider_s_error_costs_nothing_and_a_client_that_leaves_pays_what_was_seen() {
    let upstream = Upstream::bind().await;
    let sandbox = Sandbox::new(&format!("{}\n{BUDGET}", upstream.as_provider("openai")));
    let mut ends = open(sandbox.addr(), &upstream, "/v1/responses", "").await;
    let create = json!({"type": "response.create", "model": "gpt-4o", "max_output_tokens": 100, "input": "Hi"});
    ends.up(up(&create)).await;
    ends.down(down(
        &json!({"type": "error", "status": 400, "error": {"code": "c"}}),
    ))
    .await;
    ends.up(up(&create)).await;
    ends.down(down(
        &json!({"type": "response.created", "response": {"id": "resp_a"}}),
    ))
    .await;
    ends.down(down(
        &json!({"type": "response.output_text.delta", "delta": "Hello"}),
    ))
    .await;
    let Ends {
        client,
        mut provider,
    } = ends;
    drop(client);
    assert_eq!(provider.rest().await, b"");
    drop(provider);
    assert!(sandbox.spent("b").await > 0);
    let spans = spans(&sandbox, 3).await;
    let mut outcomes: Vec<String> = spans[..2].iter().map(Span::outcome).collect();
    outcomes.sort();
    assert!(
        outcomes[0].starts_with("cancelled client admitted estimated 0.0"),
        "{outcomes:?}"
    );
    assert_eq!(outcomes[1], "error complete admitted absent 0.000000000");
}

#[tokio::test]
async fn compressed_messages_are_read_on_the_side() {
    let upstream = Upstream::bind().await;
    let rates = "rate_limits: [{name: r, requests_per_minute: 2}]";
    let sandbox = Sandbox::new(&format!(
        "{}\n{BUDGET}\n{rates}",
        upstream.as_provider("openai")
    ));
    let mut ends = open(sandbox.addr(), &upstream, REALTIME, "permessage-deflate").await;
    let mut compress = [(); 2].map(|()| Compress::new(Compression::best(), false));
    let mut deflated = |way: usize, message: &Value| {
        let mut out = Vec::with_capacity(4096);
        let text = message.to_string();
        compress[way]
            .compress_vec(text.as_bytes(), &mut out, FlushCompress::Sync)
            .unwrap();
        out.truncate(out.len() - 4);
        let mut frame = frame(Opcode::Text, &out, if way == 0 { MASK } else { None });
        frame[0] |= 0x40;
        frame
    };
    let create = json!({"type": "response.create", "response": {"max_output_tokens": 200}});
    for id in ["r1", "r2"] {
        ends.up(deflated(0, &create)).await;
        ends.down(deflated(1, &created(id))).await;
        ends.down(deflated(1, &done(id))).await;
    }
    assert_eq!(sandbox.budget("b").spent, 2 * COST);
    // A response that is refused cannot be left out of what later messages refer to.
    let refused = deflated(0, &create);
    ends.client.send(refused).await;
    assert_eq!(ends.heard().await.0, 0x81);
    ends.closed(1013).await;
    drop(ends);
    assert_eq!(sandbox.spent("b").await, 2 * COST);
}

#[tokio::test]
async fn a_message_that_cannot_be_read_may_be_of_any_response_under_way() {
    let upstream = Upstream::bind().await;
    // For two first steps, and not for all that a response may have.
    let budget = BUDGET.replace("1.00", "0.10");
    let sandbox = Sandbox::new(&format!("{}\n{budget}", upstream.as_provider("openai")));
    let path = "/v1/responses";
    let mut ends = open(sandbox.addr(), &upstream, path, "permessage-deflate").await;
    let create = json!({"type": "response.create", "model": "gpt-4o", "input": "Hi"});
    for id in ["r1", "r2"] {
        ends.up(up(&create)).await;
        ends.down(down(&created(id))).await;
    }
    let mut damaged = frame(Opcode::Text, b"\xff\xff\xff", None);
    damaged[0] |= 0x40;
    ends.provider.send(damaged).await;
    assert_eq!(ends.heard().await.0, 0x81);
    ends.closed(1008).await;
    for span in &spans(&sandbox, 3).await[..2] {
        assert_eq!(span.get("tollgate.partial"), "socket message");
        assert_eq!(span.get("tollgate.usage.source"), "ceiling");
    }
}

#[tokio::test]
async fn turns_of_a_live_socket_are_calls_and_a_refused_one_closes_it() {
    let usage = json!({"promptTokenCount": 30, "responseTokenCount": 20, "totalTokenCount": 50,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 30}],
        "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 20}]});
    let setup = json!({"setup": {"model": "models/gemini-3.8-live", "generationConfig": {"maxOutputTokens": 100}}});
    let say = json!({"clientContent": {"turns": [{"role": "user", "parts": [{"text": "Hello"}]}], "turnComplete": true}});
    let budget = "budgets: {rules: [{name: b, window: total, limit: {usd: 0.002}}]}";
    let upstream = Upstream::bind().await;
    let sandbox = Sandbox::new(&format!("{}\n{budget}", upstream.as_provider("gemini")));
    let mut ends = open(sandbox.addr(), &upstream, LIVE, "").await;
    ends.up(up(&setup)).await;
    ends.down(frame(Opcode::Binary, br#"{"setupComplete":{}}"#, None))
        .await;
    for _ in 0..2 {
        ends.up(up(&say)).await;
        let turn =
            json!({"serverContent": {"modelTurn": {"parts": [{"inlineData": {"data": "AAAA"}}]}}});
        ends.down(down(&turn)).await;
        ends.down(down(&json!({"serverContent": {"turnComplete": true}})))
            .await;
        ends.down(down(&json!({"usageMetadata": usage}))).await;
    }
    // 30 x 0.75 and 20 x 12 dollars a million.
    assert_eq!(sandbox.budget("b").spent, 2 * 262_500);
    let long = json!({"clientContent": {"turns": [{"parts": [{"text": "Hello".repeat(500)}]}], "turnComplete": true}});
    ends.client.send(up(&long)).await;
    ends.closed(1008).await;
    let spans = spans(&sandbox, 4).await;
    assert_eq!(spans[0].field("operation_name"), "realtime gemini-3.8-live");
    assert_eq!(spans[0].get("gen_ai.usage.output_tokens"), 20);
    assert_eq!(spans[2].get("tollgate.blocked_by"), "budget.b");
}

#[tokio::test]
async fn what_is_no_socket_is_closed() {
    let upstream = Upstream::bind().await;
    let sandbox = Sandbox::new(&upstream.as_provider("openai"));
    let mut ends = open(sandbox.addr(), &upstream, REALTIME, "").await;
    ends.client
        .send(frame(Opcode::Text, b"not masked", None))
        .await;
    let (first, payload) = ends.heard().await;
    assert_eq!((first, &payload[..2]), (0x88, &1002_u16.to_be_bytes()[..]));
    drop(ends);
    sandbox.settled().await;
}

#[tokio::test]
async fn an_extension_that_is_not_known_leaves_a_socket_unmetered() {
    for (rule, passes) in [("unmetered: allow, ", true), ("unmetered: deny, ", false)] {
        let upstream = Upstream::bind().await;
        let budget = BUDGET.replace("{rules", &format!("{{{rule}rules"));
        let sandbox = Sandbox::new(&format!("{}\n{budget}", upstream.as_provider("openai")));
        let mut client = Line::connect(sandbox.addr()).await;
        client
            .send(format!(
                "GET {REALTIME} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
            ))
            .await;
        let mut provider = upstream.accept().await;
        provider.head().await;
        provider
            .send(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-extensions: x-other\r\n\r\n",
            )
            .await;
        let status = client.head().await.status();
        assert_eq!(status, if passes { 101 } else { 403 });
        drop((client, provider));
        let span = sandbox.only_span().await;
        assert_eq!(span.get("tollgate.usage.source"), "absent");
        assert!(sandbox.metric("tollgate_unmetered_total") > 0.0);
    }
}

#[tokio::test]
async fn a_socket_is_told_when_tollgate_leaves() {
    let upstream = Upstream::bind().await;
    let sandbox = Sandbox::new(&format!(
        "{}\nshutdown: {{deadline: 0s}}",
        upstream.as_provider("openai")
    ));
    let mut ends = open(sandbox.addr(), &upstream, REALTIME, "").await;
    ends.up(up(&json!({"type": "response.create"}))).await;
    ends.down(down(&created("r"))).await;
    let stopping = tokio::spawn(sandbox.stop());
    let (first, payload) = ends.heard().await;
    assert_eq!((first, &payload[..2]), (0x88, &1012_u16.to_be_bytes()[..]));
    drop(ends);
    stopping.await.unwrap();
}

//! Sockets: OpenAI's Realtime and Responses, Gemini's Live.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tollgate::mock::{End, Mock, Options};

use crate::support::{Socket, socket::Said};

const REALTIME: &str = "/v1/realtime?model=gpt-realtime";
const LIVE: &str = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent";

fn mock() -> Mock {
    Mock::start(Options::default()).unwrap()
}

fn is(kind: &str) -> impl Fn(&Value) -> bool {
    move |message| message["type"] == kind
}

fn kinds(messages: &[Value]) -> Vec<&str> {
    let kinds = messages
        .iter()
        .map(|message| message["type"].as_str().unwrap());
    kinds.collect()
}

fn said(text: &str) -> Value {
    let content = json!([{"type": "input_text", "text": text}]);
    json!({"type": "conversation.item.create",
        "item": {"type": "message", "role": "user", "content": content}})
}

fn in_text() -> Value {
    json!({"type": "response.create", "response": {"output_modalities": ["text"]}})
}

async fn realtime(mock: &Mock, settings: &str) -> Socket {
    let mut socket = Socket::open(mock.addr(), REALTIME, &[("x-mock", settings)]).await;
    let created = socket.message().await;
    assert_eq!(created["type"], "session.created");
    assert_eq!(created["session"]["model"], "gpt-realtime");
    socket
}

fn audio(byte: u8, tokens: usize) -> Value {
    json!({"type": "input_audio_buffer.append", "audio": STANDARD.encode(vec![byte; 4_800 * tokens])})
}

#[tokio::test]
async fn a_conversation_grows_with_each_response() {
    let mock = mock();
    let mut socket = realtime(&mock, "").await;
    socket.say(&said("Good morning")).await;
    socket.say(&in_text()).await;
    let events = socket.until(is("response.done")).await;
    let expected = [
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ];
    assert_eq!(kinds(&events), expected);
    let response = &events.last().unwrap()["response"];
    assert_eq!(
        response["output"][0]["content"][0]["text"],
        "You said: Good morning"
    );
    assert_eq!(response["id"], events[2]["response"]["id"]);
    // 12 bytes in, 22 out.
    let counts = |response: &Value| {
        let usage = &response["usage"];
        [&usage["input_tokens"], &usage["output_tokens"]].map(|count| count.as_u64().unwrap())
    };
    assert_eq!(counts(response), [3, 6]);
    socket.say(&said("Again")).await;
    socket.say(&in_text()).await;
    let events = socket.until(is("response.done")).await;
    assert_eq!(
        counts(&events.last().unwrap()["response"]),
        [10, 4],
        "39 and 15 bytes"
    );
    socket.close().await;
    assert_eq!(socket.heard().await, Said::Close(1000, String::new()));
    assert_eq!(socket.heard().await, Said::End);
    let kept = mock
        .until(|requests| requests[0].end == End::Complete)
        .await;
    assert_eq!((kept.len(), kept[0].status.unwrap().as_u16()), (1, 101));
    assert!(kept[0].whole);
    let lines: Vec<Value> = kept[0]
        .body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(
        lines,
        [said("Good morning"), in_text(), said("Again"), in_text()]
    );
}

#[tokio::test]
async fn audio_is_heard_and_spoken() {
    let mock = mock();
    let mut socket = realtime(&mock, "text=Yes sir;cached=3").await;
    let detection =
        json!({"turn_detection": null, "transcription": {"model": "gpt-4o-transcribe"}});
    let update = json!({"type": "session.update", "session": {"audio": {"input": detection}}});
    socket.say(&update).await;
    let updated = socket.message().await;
    assert_eq!(updated["session"]["audio"]["input"], detection);
    socket.say(&audio(7, 3)).await;
    socket
        .say(&json!({"type": "input_audio_buffer.commit"}))
        .await;
    let heard = socket.until(|event| event["transcript"].is_string()).await;
    assert_eq!(
        heard.last().unwrap()["usage"]["input_token_details"]["audio_tokens"],
        3
    );
    socket.say(&json!({"type": "response.create"})).await;
    let events = socket.until(is("response.done")).await;
    let spoken = events
        .iter()
        .filter(|event| event["type"] == "response.output_audio.delta");
    let spoken: Vec<u8> = spoken
        .flat_map(|event| STANDARD.decode(event["delta"].as_str().unwrap()).unwrap())
        .collect();
    let each: Vec<u8> = spoken.chunks(600).map(|chunk| chunk[0]).collect();
    assert_eq!(each, b"Yes sir");
    let response = &events.last().unwrap()["response"];
    assert_eq!(response["output"][0]["content"][0]["transcript"], "Yes sir");
    let usage = &response["usage"];
    assert_eq!(usage["total_tokens"], 5);
    assert_eq!(usage["input_token_details"]["audio_tokens"], 3);
    let cached = json!({"text_tokens": 0, "audio_tokens": 3, "image_tokens": 0});
    assert_eq!(
        usage["input_token_details"]["cached_tokens_details"],
        cached
    );
    assert_eq!(
        usage["output_token_details"],
        json!({"text_tokens": 0, "audio_tokens": 2})
    );
}

#[tokio::test]
async fn with_voice_detection_silence_after_speech_is_answered() {
    let mock = mock();
    let mut socket = realtime(&mock, "").await;
    let input = json!({"turn_detection": {"type": "server_vad"}});
    let session = json!({"audio": {"input": input}, "output_modalities": ["text"]});
    socket
        .say(&json!({"type": "session.update", "session": session}))
        .await;
    socket.message().await;
    for (byte, tokens) in [(0, 1), (7, 2), (0, 1)] {
        socket.say(&audio(byte, tokens)).await;
    }
    let events = socket.until(is("response.done")).await;
    assert_eq!(events[0]["type"], "input_audio_buffer.committed");
    let usage = &events.last().unwrap()["response"]["usage"];
    assert_eq!(usage["input_token_details"]["audio_tokens"], 4);
}

#[tokio::test]
async fn a_response_can_be_cancelled_and_is_billed_as_far_as_it_went() {
    let mock = mock();
    let mut socket = realtime(&mock, "events=100;gap=1h").await;
    socket.say(&in_text()).await;
    assert_eq!(socket.message().await["type"], "response.created");
    socket.say(&in_text()).await;
    let code = "conversation_already_has_active_response";
    assert_eq!(socket.message().await["error"]["code"], code);
    socket.say(&json!({"type": "response.cancel"})).await;
    let done = socket.message().await;
    assert_eq!(done["response"]["status"], "cancelled");
    assert!(done["response"]["usage"]["output_tokens"].as_u64().unwrap() < 10);
    socket
        .say(&json!({"type": "response.cancel", "event_id": "mine"}))
        .await;
    let error = socket.message().await;
    assert_eq!(error["error"]["code"], "response_cancel_not_active");
    assert_eq!(error["error"]["event_id"], "mine");
}

#[tokio::test]
async fn a_tool_is_called_and_its_result_answered() {
    let mock = mock();
    let mut socket = realtime(&mock, "tool=weather;times=2").await;
    let tools = json!([{"type": "function", "name": "weather", "parameters": {}}]);
    socket
        .say(&json!({"type": "session.update", "session": {"tools": tools}}))
        .await;
    socket.message().await;
    socket.say(&in_text()).await;
    let events = socket.until(is("response.done")).await;
    let call = &events.last().unwrap()["response"]["output"][0];
    assert_eq!(
        (&call["type"], &call["name"]),
        (&json!("function_call"), &json!("weather"))
    );
    let item =
        json!({"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"});
    socket
        .say(&json!({"type": "conversation.item.create", "item": item}))
        .await;
    socket.say(&in_text()).await;
    let events = socket.until(is("response.done")).await;
    let text = &events.last().unwrap()["response"]["output"][0]["content"][0]["text"];
    assert_eq!(text, "The tool says: sunny");
}

#[tokio::test]
async fn responses_follow_each_other_in_a_socket() {
    let mock = mock();
    let mut socket = Socket::open(mock.addr(), "/v1/responses", &[]).await;
    let create = |input: &str, previous: &Value| {
        json!({"type": "response.create", "model": "gpt-4o", "input": input, "store": false,
            "previous_response_id": previous})
    };
    socket.say(&create("hello", &Value::Null)).await;
    let events = socket.until(is("response.completed")).await;
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    let first = &events.last().unwrap()["response"];
    assert_eq!(first["usage"]["input_tokens"], 2);
    socket.say(&create("there", &first["id"])).await;
    let events = socket.until(is("response.completed")).await;
    // 5, 15 and 5 bytes.
    assert_eq!(
        events.last().unwrap()["response"]["usage"]["input_tokens"],
        7
    );
    socket.say(&create("there", &json!("resp_none"))).await;
    let error = socket.message().await;
    assert_eq!(
        (&error["type"], &error["status"]),
        (&json!("error"), &json!(400))
    );
    assert_eq!(error["error"]["code"], "previous_response_not_found");
    mock.next_with("status=429;code=rate_limit_exceeded")
        .unwrap();
    socket.say(&create("there", &Value::Null)).await;
    assert_eq!(socket.message().await["status"], 429);
}

#[tokio::test]
async fn live_turns_are_answered_in_text_and_audio() {
    let mock = mock();
    for modality in ["TEXT", "AUDIO"] {
        let mut socket = Socket::open(mock.addr(), LIVE, &[]).await;
        let config = json!({"responseModalities": [modality]});
        let setup = json!({"model": "models/gemini-3.8-live", "generationConfig": config,
            "outputAudioTranscription": {}});
        socket.say(&json!({"setup": setup})).await;
        assert!(socket.message().await["setupComplete"].is_object());
        let parts = json!([{"text": "Hello"}]);
        let turn = json!({"turns": [{"role": "user", "parts": parts}], "turnComplete": true});
        socket.say(&json!({"clientContent": turn})).await;
        let ends = |message: &Value| message["serverContent"]["turnComplete"] == true;
        let messages = socket.until(ends).await;
        let usage = &messages.last().unwrap()["usageMetadata"];
        assert_eq!(usage["promptTokenCount"], 2);
        assert_eq!(usage["responseTokenCount"], 4, "You said: Hello");
        assert_eq!(usage["responseTokensDetails"][0]["modality"], modality);
        let first = &messages[0]["serverContent"]["modelTurn"]["parts"][0];
        let is_spoken = first["inlineData"]["data"].is_string();
        assert_eq!(is_spoken, modality == "AUDIO", "{first}");
        // What is heard is answered once it has been said.
        for (byte, count) in [(7, 9_600), (0, 10)] {
            let audio =
                json!({"data": STANDARD.encode(vec![byte; count]), "mimeType": "audio/pcm"});
            socket
                .say(&json!({"realtimeInput": {"audio": audio}}))
                .await;
        }
        let messages = socket.until(ends).await;
        let usage = &messages.last().unwrap()["usageMetadata"];
        let heard = json!({"modality": "AUDIO", "tokenCount": 3});
        assert_eq!(usage["promptTokensDetails"][1], heard);
    }
}

#[tokio::test]
async fn a_live_turn_goes_on_with_a_tool_is_interrupted_and_fails_with_the_socket() {
    let mock = mock();
    let mut socket = Socket::open(mock.addr(), LIVE, &[]).await;
    let tools = json!([{"functionDeclarations": [{"name": "weather"}]}]);
    let setup = json!({"model": "models/m", "tools": tools, "generation_config": {"response_modalities": ["TEXT"]}});
    socket.say(&json!({"setup": setup})).await;
    socket.message().await;
    socket
        .say(&json!({"realtimeInput": {"text": "What is the weather?"}}))
        .await;
    let call = socket.message().await["toolCall"]["functionCalls"][0].clone();
    assert_eq!(call["name"], "weather");
    mock.next_with("first=1h").unwrap();
    let result = json!({"id": call["id"], "name": "weather", "response": {"result": "sunny"}});
    socket
        .say(&json!({"toolResponse": {"functionResponses": [result]}}))
        .await;
    socket
        .say(&json!({"realtimeInput": {"text": "Stop"}}))
        .await;
    assert_eq!(socket.message().await["serverContent"]["interrupted"], true);
    let ended = socket.message().await;
    assert_eq!(ended["serverContent"]["turnComplete"], true);
    assert!(ended["usageMetadata"]["totalTokenCount"].as_u64().unwrap() > 0);
    let ends = |message: &Value| message["serverContent"]["turnComplete"] == true;
    socket.until(ends).await;
    mock.next_with("status=429").unwrap();
    socket
        .say(&json!({"realtimeInput": {"text": "Go on"}}))
        .await;
    assert!(matches!(socket.heard().await, Said::Close(1011, _)));
}

#[tokio::test]
async fn a_handshake_is_a_request_as_any_other_and_frames_are_answered() {
    let mock = mock();
    let refused = Socket::ask(mock.addr(), REALTIME, &[("x-mock", "status=401")]).await;
    assert_eq!(refused.err().unwrap().status(), 401);
    let mut socket = realtime(&mock, "chunk=5;truncate=200").await;
    socket.ping(b"there?").await;
    assert_eq!(socket.heard().await, Said::Pong(b"there?".to_vec()));
    socket.say(&in_text()).await;
    let rest = socket.line.rest().await;
    assert_eq!(
        (rest.len(), &rest[..2]),
        (200, &[1, 5][..]),
        "a first fragment"
    );
    let kept = mock.until(|requests| requests[1].end == End::Broken).await;
    assert_eq!(kept[1].end, End::Broken);
}

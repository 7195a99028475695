//! Reading requests, answers and the events of a stream.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group};
use http::Method;
use tollgate::{
    call::{
        facts::{RequestFacts, ResponseFacts},
        steps::Steps,
    },
    provider::{
        Anthropic, Dialect, Event, OpenAi, StreamState, steps,
        wire::sse::{Splitter, parse},
    },
};

const EVENTS: usize = 64;
const CHAT: &str = "/v1/chat/completions";

fn chat_stream() -> Vec<u8> {
    let chunk = |delta: &str, rest: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz012\",\
             \"object\":\"chat.completion.chunk\",\"created\":1795328714,\
             \"model\":\"gpt-4o-2024-08-06\",\"service_tier\":\"default\",\
             \"system_fingerprint\":\"fp_0123456789\",\"choices\":[{{\"index\":0,\
             \"delta\":{delta},\"logprobs\":null,\"finish_reason\":{rest}\n\n"
        )
    };
    let mut stream = chunk(
        r#"{"role":"assistant","content":""}"#,
        r#"null}],"usage":null}"#,
    );
    for n in 2..EVENTS {
        let delta = format!(r#"{{"content":" word{n}"}}"#);
        stream.push_str(&chunk(
            &delta,
            r#"null}],"usage":null,"obfuscation":"aBcDeF"}"#,
        ));
    }
    stream.push_str(&chunk("{}", r#""stop"}],"usage":null}"#));
    stream.push_str("data: [DONE]\n\n");
    stream.into_bytes()
}

fn messages_stream() -> Vec<u8> {
    let delta = |n| {
        format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\
             \"delta\":{{\"type\":\"text_delta\",\"text\":\" word{n}\"}}}}\n\n"
        )
    };
    (0..EVENTS).map(delta).collect::<String>().into_bytes()
}

fn read_stream(dialect: &dyn Dialect, path: &str, stream: &[u8]) -> ResponseFacts {
    let op = dialect.operation(&Method::POST, path);
    let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
    let mut splitter = Splitter::default();
    let mut rest = stream;
    while let Some(end) = splitter.next(rest) {
        let (event, tail) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        rest = tail;
        let Some(event) = parse(event) else {
            continue;
        };
        // What cannot be read is not what is measured here.
        let _read = dialect.read_event(op, &event, &mut facts, &mut state);
    }
    facts
}

fn request() -> Vec<u8> {
    let text = "You are a helpful assistant. ".repeat(50);
    format!(
        r#"{{"model":"gpt-4o","messages":[{{"role":"system","content":"{text}"}},
        {{"role":"user","content":"What is the weather in Paris?"}}],"temperature":0.2,
        "max_completion_tokens":256,"user":"42","stream":false}}"#
    )
    .into_bytes()
}

/// With a text of so many sentences of 28 bytes.
/// A chat in which a tool was called 64 times.
fn conversation() -> Vec<u8> {
    let result = "fn main() { println!(1); } ".repeat(20);
    let round = |round| {
        format!(
            r#"{{"role":"assistant","content":null,"tool_calls":[{{"id":"call_{round}",
            "type":"function","function":{{"name":"read","arguments":"{{\"line\":{round}}}"}}}}]}},
            {{"role":"tool","tool_call_id":"call_{round}","content":"{result}"}}"#
        )
    };
    let rounds: Vec<String> = (0..64).map(round).collect();
    format!(r#"{{"model":"gpt-4o","messages":[{}]}}"#, rounds.join(",")).into_bytes()
}

fn answer(sentences: usize) -> Vec<u8> {
    let text = "It is sunny in Paris today. ".repeat(sentences);
    format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1795328714,
        "model":"gpt-4o-2024-08-06","choices":[{{"index":0,"message":{{"role":"assistant",
        "content":"{text}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],
        "usage":{{"prompt_tokens":120,"completion_tokens":45,"total_tokens":165,
        "prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},
        "completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0}}}},
        "service_tier":"default","system_fingerprint":"fp_0123456789"}}"#
    )
    .into_bytes()
}

fn reading(criterion: &mut Criterion) {
    let (chat, messages) = (chat_stream(), messages_stream());
    let request = request();
    let op = OpenAi::Current.operation(&Method::POST, CHAT);
    let mut group = criterion.benchmark_group("provider");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("chat stream of 64", |bench| {
        bench.iter(|| read_stream(&OpenAi::Current, CHAT, black_box(&chat)));
    });
    group.bench_function("messages stream of 64", |bench| {
        bench.iter(|| read_stream(&Anthropic, "/v1/messages", black_box(&messages)));
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("chat request of 1.8 kB", |bench| {
        bench.iter(|| {
            let mut facts = RequestFacts::default();
            let read = OpenAi::Current.read_request(op, CHAT, black_box(&request), &mut facts);
            (read.is_ok(), facts)
        });
    });
    for (name, sentences) in [("1.3 kB", 25), ("10 kB", 340)] {
        let answer = answer(sentences);
        group.bench_function(format!("chat answer of {name}"), |bench| {
            bench.iter(|| {
                let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
                let event = Event::body(black_box(&answer));
                let read = OpenAi::Current.read_event(op, &event, &mut facts, &mut state);
                (read.is_ok(), facts)
            });
        });
    }
    // What a loop guard adds to the reading of a request.
    let conversation = conversation();
    group.bench_function("steps of a chat with 64 calls", |bench| {
        bench.iter(|| steps(black_box(&conversation), Steps::default()));
    });
    group.finish();
}

criterion_group!(benches, reading);

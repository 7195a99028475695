//! The upstream: a bare HTTP/1.1 server that answers chat completions at once, or streams as many
//! events as the request asks for (`x-bench-events`, `x-bench-gap-ms`), one write an event, each
//! with the time of its writing in it. Usage comes with a stream only if the request asks for it.

use std::{io, io::Write as _, str::FromStr, time::Duration};

use memchr::memmem;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    runtime,
    task::JoinSet,
    time,
};
use tokio_rustls::TlsAcceptor;

use crate::{Watch, way::Wire};

/// What stands before an event's time of writing, 20 digits of nanoseconds: they are its text.
pub(crate) const STAMP: &[u8] = br#""content":""#;

/// The usage of every answer. The script expects these numbers on every span.
const USAGE: &str = r#"{"prompt_tokens":412,"completion_tokens":180,"total_tokens":592,"prompt_tokens_details":{"cached_tokens":128,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#;

/// The JSON answer: about 1.3 kB.
pub(crate) fn answer() -> String {
    let text = "Your order left our warehouse on Tuesday and is on its way. ".repeat(12);
    format!(
        r#"{{"id":"chatcmpl-bench0000000000000000000000","object":"chat.completion","created":1795328714,"model":"gpt-4o-2024-08-06","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{USAGE},"service_tier":"default","system_fingerprint":"fp_f5bdcc3276"}}"#
    )
}

/// Serves until the process ends, over TLS if it is given.
pub(crate) fn serve(
    listener: std::net::TcpListener,
    tls: Option<&TlsAcceptor>,
    watch: Watch,
) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            match tls.cloned() {
                None => connections.spawn(converse(stream, watch)),
                Some(tls) => connections
                    .spawn(async move { converse(tls.accept(stream).await?, watch).await }),
            };
            while connections.try_join_next().is_some() {}
        }
    })
}

/// Answers one connection's requests until it is closed.
async fn converse(mut stream: impl Wire, watch: Watch) -> io::Result<()> {
    let body = answer();
    let plain = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_bench\r\nopenai-processing-ms: 0\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut read = Vec::with_capacity(16 * 1024);
    loop {
        let Some(request) = Request::read(&mut stream, &mut read).await? else {
            return Ok(());
        };
        if request.events == 0 {
            stream.write_all(plain.as_bytes()).await?;
            stream.flush().await?;
        } else {
            send_events(&mut stream, &request, watch).await?;
        }
    }
}

/// What the upstream needs to know of a request.
struct Request {
    events: u32,
    gap: Duration,
    usage: bool,
}

impl Request {
    /// The next one, taken off the front of `read`; `None` if there is no more.
    async fn read(stream: &mut impl Wire, read: &mut Vec<u8>) -> io::Result<Option<Self>> {
        loop {
            if let Some((request, length)) = Self::parse(read) {
                read.drain(..length);
                return Ok(Some(request));
            }
            if stream.read_buf(read).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The request at the front of `read`, and its length, if it is whole.
    fn parse(read: &[u8]) -> Option<(Self, usize)> {
        let (head, body) = read.split_at(memmem::find(read, b"\r\n\r\n")? + 4);
        let length = head.len();
        let head = std::str::from_utf8(head).ok()?;
        let body = body.get(..header(head, "content-length")?)?;
        let request = Self {
            events: header(head, "x-bench-events").unwrap_or(0),
            gap: Duration::from_millis(header(head, "x-bench-gap-ms").unwrap_or(0)),
            usage: memmem::find(body, b"\"include_usage\":true").is_some(),
        };
        Some((request, length + body.len()))
    }
}

/// The number in a header, which a proxy may have written in another case.
fn header<T: FromStr>(head: &str, name: &str) -> Option<T> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().parse().ok())?
    })
}

async fn send_events(stream: &mut impl Wire, request: &Request, watch: Watch) -> io::Result<()> {
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nx-request-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n")
        .await?;
    let mut tick = time::interval(request.gap.max(Duration::from_millis(1)));
    let (mut event, mut chunk) = (Vec::new(), Vec::new());
    let no_usage: &[u8] = if request.usage {
        br#","usage":null"#
    } else {
        b""
    };
    for number in 1..=request.events {
        if !request.gap.is_zero() {
            tick.tick().await;
        }
        let role = if number == 1 {
            r#""role":"assistant","#
        } else {
            ""
        };
        chunk.clear();
        push_event(&mut chunk, &mut event, |event| {
            let now = watch.nanos();
            write!(
                event,
                r#"[{{"index":0,"delta":{{{role}"content":"{now:020}"}},"logprobs":null,"finish_reason":null}}]"#
            )?;
            event.extend_from_slice(no_usage);
            Ok(())
        })?;
        stream.write_all(&chunk).await?;
    }
    chunk.clear();
    push_event(&mut chunk, &mut event, |event| {
        event.extend_from_slice(
            br#"[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]"#,
        );
        event.extend_from_slice(no_usage);
        Ok(())
    })?;
    if request.usage {
        push_event(&mut chunk, &mut event, |event| {
            write!(event, r#"[],"usage":{USAGE}"#)
        })?;
    }
    push_chunk(&mut chunk, b"data: [DONE]\n\n")?;
    chunk.extend_from_slice(b"0\r\n\r\n");
    stream.write_all(&chunk).await
}

/// An event with what `choices` writes, and all that is the same in every event of a stream.
fn push_event(
    wire: &mut Vec<u8>,
    event: &mut Vec<u8>,
    choices: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
) -> io::Result<()> {
    event.clear();
    event.extend_from_slice(br#"data: {"id":"chatcmpl-bench0000000000000000000000","object":"chat.completion.chunk","created":1795328714,"model":"gpt-4o-2024-08-06","service_tier":"default","system_fingerprint":"fp_f5bdcc3276","choices":"#);
    choices(event)?;
    event.extend_from_slice(b"}\n\n");
    push_chunk(wire, event)
}

fn push_chunk(wire: &mut Vec<u8>, content: &[u8]) -> io::Result<()> {
    write!(wire, "{:x}\r\n", content.len())?;
    wire.extend_from_slice(content);
    wire.extend_from_slice(b"\r\n");
    Ok(())
}

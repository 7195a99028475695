//! A client: one connection, one call after the other, every answer checked to the byte.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use memchr::memmem;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time,
};
use tollgate::base::clock::{Clock as _, Instant, SystemClock};

use crate::{
    Calls, Watch,
    chunked::Chunked,
    upstream::{self, STAMP},
    way::{Opener, Wire},
};

/// How many users the calls are divided among.
const USERS: u32 = 50;

/// What is in the last event of an answer.
const FINISH: &[u8] = br#""finish_reason":"stop""#;

/// What a client saw. Times are in nanoseconds.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) calls: u64,
    pub(crate) events: u64,
    pub(crate) latency: Vec<u64>,
    pub(crate) first_event: Vec<u64>,
    pub(crate) delay: Vec<u64>,
}

impl Seen {
    pub(crate) fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.events += other.events;
        self.latency.extend(other.latency);
        self.first_event.extend(other.first_event);
        self.delay.extend(other.delay);
    }
}

/// An open connection and what is sent on it, again and again.
pub(crate) struct Connection {
    stream: Box<dyn Wire>,
    opener: Arc<Opener>,
    number: u32,
    request: Vec<u8>,
    /// The JSON answer that is expected.
    answer: String,
    watch: Watch,
    /// Bytes read and not yet looked at; content of a stream without its transfer coding.
    wire: Vec<u8>,
    content: Vec<u8>,
    seen: Seen,
}

impl Connection {
    pub(crate) async fn open(
        job: &Calls,
        opener: &Arc<Opener>,
        number: u32,
        watch: Watch,
    ) -> io::Result<Self> {
        Ok(Self {
            stream: opener.open().await?,
            opener: Arc::clone(opener),
            number,
            request: request(job, number).into_bytes(),
            answer: upstream::answer(),
            watch,
            wire: Vec::with_capacity(64 * 1024),
            content: Vec::new(),
            seen: Seen::default(),
        })
    }

    /// Calls until the job's time is up. In an open loop, `slot` is the next call of all.
    pub(crate) async fn run(
        mut self,
        job: Arc<Calls>,
        slot: Arc<AtomicU64>,
        start: Instant,
    ) -> io::Result<Seen> {
        // Streams begin spread over the time between two events, not all at once.
        let stagger = Duration::from_millis(job.gap_ms) * self.number / job.connections;
        time::sleep_until(start + stagger).await;
        loop {
            let began = match job.rate {
                0 => SystemClock.mono(),
                rate => turn(start, slot.fetch_add(1, Ordering::Relaxed), rate).await,
            };
            if began.duration_since(start).as_secs_f64() >= job.seconds {
                return Ok(self.seen);
            }
            if job.fresh {
                self.stream = self.opener.open().await?;
            }
            self.stream.write_all(&self.request).await?;
            self.stream.flush().await?;
            let asked = self.watch.nanos();
            if job.events == 0 {
                self.read_json().await?;
            } else {
                self.read_events(asked, u64::from(job.events)).await?;
            }
            self.seen.calls += 1;
            let took = SystemClock.mono().duration_since(began);
            self.seen
                .latency
                .push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.wire).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Reads up to the end of the answer's head, and takes it off.
    async fn read_head(&mut self) -> io::Result<()> {
        let end = loop {
            match memmem::find(&self.wire, b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => self.fill().await?,
            }
        };
        if !self.wire.starts_with(b"HTTP/1.1 200 ") {
            let answer = String::from_utf8_lossy(&self.wire).into_owned();
            return Err(io::Error::other(answer));
        }
        self.wire.drain(..end);
        Ok(())
    }

    async fn read_json(&mut self) -> io::Result<()> {
        self.read_head().await?;
        while self.wire.len() < self.answer.len() {
            self.fill().await?;
        }
        if self.wire != self.answer.as_bytes() {
            return Err(io::Error::other("the answer is not the upstream's"));
        }
        self.wire.clear();
        Ok(())
    }

    async fn read_events(&mut self, asked: u64, expected: u64) -> io::Result<()> {
        self.read_head().await?;
        let (mut chunked, mut events) = (Chunked::default(), 0);
        loop {
            let now = self.watch.nanos();
            let ended = chunked.decode(&self.wire, &mut self.content)?;
            self.wire.clear();
            let (arrived, read) = self.see_events(now)?;
            if events == 0 && arrived > 0 {
                self.seen.first_event.push(now.saturating_sub(asked));
            }
            events += arrived;
            self.content.drain(..read);
            if ended {
                break;
            }
            self.fill().await?;
        }
        if events != expected || !self.content.is_empty() {
            return Err(io::Error::other(format!("{events} events for {expected}")));
        }
        self.seen.events += events;
        Ok(())
    }

    /// Notes the delay of each whole event in the content: how many there are, and their bytes.
    fn see_events(&mut self, now: u64) -> io::Result<(u64, usize)> {
        let (mut events, mut read) = (0, 0);
        let ends = memmem::find_iter(&self.content, b"\n\n");
        for end in ends {
            let event = self.content.get(read..end).unwrap_or_default();
            read = end + 2;
            if let Some(written) = stamp(event) {
                self.seen.delay.push(now.saturating_sub(written));
                events += 1;
            } else if event != b"data: [DONE]" && memmem::find(event, FINISH).is_none() {
                let event = String::from_utf8_lossy(event).into_owned();
                return Err(io::Error::other(event));
            }
        }
        Ok((events, read))
    }
}

/// Waits for the call number `slot` of an open loop to be due, and tells since when it counts: if
/// it is late because all connections were busy, since it was due; if it was waited for, since the
/// timer went off, which is 1 ms coarse.
async fn turn(start: Instant, slot: u64, rate: u32) -> Instant {
    let slot = u32::try_from(slot).unwrap_or(u32::MAX);
    let due = start + Duration::from_secs(1) * slot / rate;
    if due <= SystemClock.mono() {
        return due;
    }
    time::sleep_until(due).await;
    SystemClock.mono()
}

/// When the upstream wrote this event.
fn stamp(event: &[u8]) -> Option<u64> {
    let at = memmem::find(event, STAMP)? + STAMP.len();
    std::str::from_utf8(event.get(at..at + 20)?)
        .ok()?
        .parse()
        .ok()
}

/// A chat request as the official Python SDK writes it, its body about 1.8 kB.
fn request(job: &Calls, number: u32) -> String {
    let policy = "Answer only from the order data below, in two sentences at most. ".repeat(8);
    let question = "Where is my order 7231, and can I still change the address? ".repeat(12);
    let stream = job.events > 0;
    let body = format!(
        r#"{{"messages":[{{"role":"system","content":"{policy}"}},{{"role":"user","content":"{question}"}}],"model":"gpt-4o","max_tokens":256,"temperature":0.2,"stream":{stream},"tools":[{{"type":"function","function":{{"name":"find_order","description":"Finds an order by its number.","parameters":{{"type":"object","properties":{{"number":{{"type":"integer","description":"The order's number."}},"with_history":{{"type":"boolean"}}}},"required":["number"]}}}}}}]}}"#
    );
    let scenario = if stream {
        format!(
            "x-bench-events: {}\r\nx-bench-gap-ms: {}\r\n",
            job.events, job.gap_ms
        )
    } else {
        String::new()
    };
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\naccept-encoding: identity\r\naccept: application/json\r\ncontent-type: application/json\r\nuser-agent: OpenAI/Python 2.8.1\r\nx-stainless-lang: python\r\nx-stainless-package-version: 2.8.1\r\nauthorization: Bearer sk-bench\r\nx-tollgate-agent: support\r\nx-tollgate-user: user-{}\r\n{scenario}content-length: {}\r\n\r\n{body}",
        job.way.host(),
        number % USERS,
        body.len()
    )
}

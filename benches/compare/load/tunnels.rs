//! Clients of tunnels, with the far end behind them.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time,
};
use tollgate::base::clock::{Clock as _, Instant, SystemClock};

use crate::{
    Failure, Report, Spread, Watch,
    far::{self, DOWN, ECHO, Far, UP},
    way::Way,
};

/// What to do with tunnels, and how many at once.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Job {
    way: Way,
    shape: Shape,
    connections: u32,
    seconds: f64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Shape {
    /// Bytes without an end: up in every other tunnel, down in the rest.
    Bytes,
    /// A question and its answer, again and again.
    Turns,
    /// A question and its answer in a new tunnel each time.
    New,
}

/// What a question is as long as, and its answer.
const QUESTION: usize = 1024;

pub(crate) async fn run(job: Job, far: &Far, watch: Watch) -> Result<Report, Failure> {
    let length = Duration::from_secs_f64(job.seconds);
    match job.shape {
        Shape::Bytes => bytes(&job, length, far).await,
        Shape::Turns | Shape::New => turns(&job, length, watch).await,
    }
}

/// So many tunnels, each of which has carried something.
pub(crate) async fn hold(way: &Way, connections: u32) -> io::Result<Vec<TcpStream>> {
    let mut held = Vec::new();
    for _ in 0..connections {
        let mut socket = way.socket().await?;
        socket.write_u8(ECHO).await?;
        socket.read_u8().await?;
        held.push(socket);
    }
    Ok(held)
}

async fn bytes(job: &Job, length: Duration, far: &Far) -> Result<Report, Failure> {
    let (heard, mut clients) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
    for number in 0..job.connections {
        let (mut socket, heard) = (job.way.socket().await?, Arc::clone(&heard));
        clients.spawn(async move {
            if number % 2 == 0 {
                socket.write_u8(DOWN).await?;
                far::hear(&mut socket, &heard).await
            } else {
                socket.write_u8(UP).await?;
                far::send(&mut socket).await
            }
        });
    }
    let all = || heard.load(Relaxed) + far.heard.load(Relaxed);
    // Windows and buffers grow at first.
    time::sleep(length / 10).await;
    let (before, start) = (all(), SystemClock.mono());
    tokio::select! {
        () = time::sleep(length) => {},
        Some(ended) = clients.join_next() => {
            ended??;
            return Err("a tunnel ended before its time".into());
        },
    }
    let (bytes, took) = (all() - before, SystemClock.mono().duration_since(start));
    clients.shutdown().await;
    if far.wrong.load(Relaxed) > 0 {
        return Err("what arrived at the far end is not what was sent".into());
    }
    Ok(Report {
        bytes,
        seconds: took.as_secs_f64(),
        ..Report::default()
    })
}

async fn turns(job: &Job, length: Duration, watch: Watch) -> Result<Report, Failure> {
    let start = SystemClock.mono();
    let mut clients = JoinSet::new();
    for _ in 0..job.connections {
        clients.spawn(ask(job.clone(), start + length, watch));
    }
    let mut latency = Vec::new();
    while let Some(seen) = clients.join_next().await {
        latency.extend(seen??);
    }
    Ok(Report {
        calls: u64::try_from(latency.len())?,
        seconds: SystemClock.mono().duration_since(start).as_secs_f64(),
        latency: Spread::of(latency),
        ..Report::default()
    })
}

/// Asks until `end`. How long each answer took, in nanoseconds; that of a new tunnel with all that
/// came before it.
async fn ask(job: Job, end: Instant, watch: Watch) -> io::Result<Vec<u64>> {
    let (question, mut answer) = (vec![ECHO; QUESTION], vec![0; QUESTION]);
    let (mut took, mut tunnel) = (Vec::new(), None);
    while SystemClock.mono() < end {
        let began = watch.nanos();
        let mut socket = match tunnel.take() {
            Some(socket) => socket,
            None => job.way.socket().await?,
        };
        socket.write_all(&question).await?;
        socket.read_exact(&mut answer).await?;
        took.push(watch.nanos() - began);
        if answer != question {
            return Err(io::Error::other("the answer is not the question"));
        }
        if matches!(job.shape, Shape::Turns) {
            tunnel = Some(socket);
        }
    }
    Ok(took)
}

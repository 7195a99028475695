//! The two ends of the comparison in one process: the upstream that answers, and the clients that
//! call it, so that both read the same monotonic clock. `benches/compare/run` drives it: one job a
//! line on stdin, one report a line on stdout; it ends with its stdin.

use std::{
    error::Error,
    io::{BufRead as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{runtime, task::JoinSet, time};
use tollgate::base::clock::{Clock as _, Instant, SystemClock};

mod chunked;
mod client;
mod upstream;

/// What to do.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    /// Where to connect: the upstream itself, or a proxy in front of it.
    target: SocketAddr,
    /// How many connections, each with one call at a time.
    connections: u32,
    /// No call starts later than this, in seconds; those that have begun are finished.
    seconds: f64,
    /// Calls a second over all connections, whatever the answers take; 0: as fast as they come.
    #[serde(default)]
    rate: u32,
    /// Ask for a stream of this many events; 0: a JSON answer.
    #[serde(default)]
    events: u32,
    /// Milliseconds between events.
    #[serde(default)]
    gap_ms: u64,
}

/// What came of it. Times are in microseconds.
#[derive(Serialize)]
struct Report {
    calls: u64,
    events: u64,
    seconds: f64,
    /// Of a call: from its request to the last byte of its answer.
    latency: Option<Spread>,
    /// Of a stream: from the request to the first event.
    first_event: Option<Spread>,
    /// Of an event: from the moment at which the upstream wrote it to its arrival.
    delay: Option<Spread>,
}

/// The middle and the tail of a set of times.
#[derive(Serialize)]
struct Spread {
    p50: f64,
    p99: f64,
}

impl Spread {
    fn of(mut nanos: Vec<u64>) -> Option<Self> {
        nanos.sort_unstable();
        let at = |percent: usize| {
            let nanos = nanos.get((nanos.len().saturating_sub(1)) * percent / 100)?;
            Some(Duration::from_nanos(*nanos).as_secs_f64() * 1e6)
        };
        Some(Self {
            p50: at(50)?,
            p99: at(99)?,
        })
    }
}

/// The one clock of both ends, in nanoseconds from the start of the process.
#[derive(Clone, Copy)]
struct Watch(Instant);

impl Watch {
    fn nanos(self) -> u64 {
        u64::try_from(SystemClock.mono().duration_since(self.0).as_nanos()).unwrap_or(u64::MAX)
    }
}

async fn work(job: Job, watch: Watch) -> Result<Report, Box<dyn Error + Send + Sync>> {
    let (job, slot) = (Arc::new(job), Arc::new(AtomicU64::new(0)));
    let mut connections = Vec::new();
    for number in 0..job.connections {
        connections.push(client::Connection::open(&job, number, watch).await?);
    }
    let start = SystemClock.mono();
    let mut clients = JoinSet::new();
    for connection in connections {
        clients.spawn(connection.run(Arc::clone(&job), Arc::clone(&slot), start));
    }
    let mut all = client::Seen::default();
    while let Some(seen) = clients.join_next().await {
        all.add(seen??);
    }
    Ok(Report {
        calls: all.calls,
        events: all.events,
        seconds: SystemClock.mono().duration_since(start).as_secs_f64(),
        latency: Spread::of(all.latency),
        first_event: Spread::of(all.first_event),
        delay: Spread::of(all.delay),
    })
}

#[expect(clippy::print_stdout, reason = "its reports go to the script")]
fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let watch = Watch(SystemClock.mono());
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    println!(
        "{}",
        serde_json::json!({"upstream": listener.local_addr()?})
    );
    std::thread::Builder::new()
        .name("upstream".into())
        .spawn(move || upstream::serve(listener, watch))?;

    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for line in std::io::stdin().lock().lines() {
        let job: Job = serde_json::from_str(&line?)?;
        let limit = Duration::from_secs_f64(job.seconds + 60.0);
        let report = runtime.block_on(async {
            time::timeout(limit, work(job, watch))
                .await
                .map_err(|_late| "no end within a minute of the last call's start")?
        })?;
        println!("{}", serde_json::to_string(&report)?);
        std::io::stdout().flush()?;
    }
    Ok(())
}

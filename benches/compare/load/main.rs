//! The two ends of the comparisons in one process: what is called, and the clients that call it, so
//! that both read the same monotonic clock. The scripts beside it drive it: one job a line on stdin,
//! one report a line on stdout; it ends with its stdin. Given a directory, it puts certificates there
//! (`tls.rs`), and speaks TLS too.

use std::{
    error::Error,
    io::{BufRead as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, runtime, task::JoinSet, time};
use tokio_rustls::TlsAcceptor;
use tollgate::{
    base::clock::{Clock as _, Instant, SystemClock},
    net::authority::Authority,
};

mod chunked;
mod client;
mod far;
mod tls;
mod tunnels;
mod upstream;
mod way;

use way::Way;

/// Why something could not be done.
type Failure = Box<dyn Error + Send + Sync>;

/// What to do.
#[derive(Debug, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
enum Job {
    /// Call the upstream.
    Calls(Calls),
    /// Send through tunnels to the far end.
    Tunnels(tunnels::Job),
    /// Open so many tunnels that carry a byte each and nothing more, and keep them.
    Hold { way: Way, connections: u32 },
    /// Close those that are kept.
    Release,
    /// Make so many certificates by the authority in a directory.
    Leaves { directory: PathBuf, count: u32 },
}

/// Calls, each connection with one at a time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Calls {
    /// To the upstream itself, or a proxy in front of it.
    way: Way,
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
    /// A new connection for each call.
    #[serde(default)]
    fresh: bool,
}

/// What came of it. Times are in microseconds.
#[derive(Default, Serialize)]
struct Report {
    calls: u64,
    events: u64,
    bytes: u64,
    seconds: f64,
    /// Of a call: from its request to the last byte of its answer.
    latency: Option<Spread>,
    /// Of a stream: from the request to the first event.
    first_event: Option<Spread>,
    /// Of an event: from the moment at which the upstream wrote it to its arrival.
    delay: Option<Spread>,
    /// The version and cipher of TLS, as the last connection had them.
    tls: Option<String>,
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

async fn calls(calls: Calls, watch: Watch) -> Result<Report, Failure> {
    let (calls, slot) = (Arc::new(calls), Arc::new(AtomicU64::new(0)));
    let opener = Arc::new(calls.way.opener()?);
    let mut connections = Vec::new();
    for number in 0..calls.connections {
        connections.push(client::Connection::open(&calls, &opener, number, watch).await?);
    }
    let start = SystemClock.mono();
    let mut clients = JoinSet::new();
    for connection in connections {
        clients.spawn(connection.run(Arc::clone(&calls), Arc::clone(&slot), start));
    }
    let mut all = client::Seen::default();
    while let Some(seen) = clients.join_next().await {
        all.add(seen??);
    }
    Ok(Report {
        calls: all.calls,
        events: all.events,
        bytes: 0,
        seconds: SystemClock.mono().duration_since(start).as_secs_f64(),
        latency: Spread::of(all.latency),
        first_event: Spread::of(all.first_event),
        delay: Spread::of(all.delay),
        tls: opener.spoken(),
    })
}

/// What making certificates takes.
fn leaves(directory: &Path, count: u32) -> Result<Report, Failure> {
    let authority = Authority::open(directory)?;
    let mut took = Vec::new();
    let start = Watch(SystemClock.mono());
    for _ in 0..count {
        let watch = Watch(SystemClock.mono());
        authority.leaf(tls::NAME, SystemClock.wall())?;
        took.push(watch.nanos());
    }
    Ok(Report {
        calls: u64::from(count),
        seconds: Duration::from_nanos(start.nanos()).as_secs_f64(),
        latency: Spread::of(took),
        ..Report::default()
    })
}

/// Both ends, and the tunnels that are kept.
struct Ends {
    watch: Watch,
    far: Arc<far::Far>,
    held: Vec<TcpStream>,
}

impl Ends {
    async fn work(&mut self, job: Job) -> Result<Report, Failure> {
        match job {
            Job::Calls(job) => calls(job, self.watch).await,
            Job::Tunnels(job) => tunnels::run(job, &self.far, self.watch).await,
            Job::Hold { way, connections } => {
                self.held = tunnels::hold(&way, connections).await?;
                Ok(Report::default())
            },
            Job::Release => {
                self.held.clear();
                Ok(Report::default())
            },
            Job::Leaves { directory, count } => leaves(&directory, count),
        }
    }
}

/// A listening socket on any port, and the thread that serves it.
fn serve(
    name: &str,
    service: impl FnOnce(std::net::TcpListener) -> std::io::Result<()> + Send + 'static,
) -> std::io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || service(listener))?;
    Ok(address)
}

#[expect(clippy::print_stdout, reason = "its reports go to the script")]
fn main() -> Result<(), Failure> {
    let watch = Watch(SystemClock.mono());
    let plain = serve("upstream", move |listener| {
        upstream::serve(listener, None, watch)
    })?;
    let far = Arc::new(far::Far::default());
    let mut at = serde_json::json!({"upstream": plain});
    if let Some(directory) = std::env::args_os().nth(1) {
        let tls = TlsAcceptor::from(tls::server(Path::new(&directory))?);
        let opened = serve("upstream-tls", move |listener| {
            upstream::serve(listener, Some(&tls), watch)
        })?;
        let here = Arc::clone(&far);
        let far = serve("far", move |listener| here.serve(listener))?;
        at = serde_json::json!({"upstream": plain, "tls": opened, "far": far});
    }
    println!("{at}");

    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut ends = Ends {
        watch,
        far,
        held: Vec::new(),
    };
    for line in std::io::stdin().lock().lines() {
        let job: Job = serde_json::from_str(&line?)?;
        // The longest jobs take seconds, and streams a little more to end.
        let limit = Duration::from_mins(2);
        let report = runtime.block_on(async {
            time::timeout(limit, ends.work(job))
                .await
                .map_err(|_late| "a job did not end within two minutes")?
        })?;
        println!("{}", serde_json::to_string(&report)?);
        std::io::stdout().flush()?;
    }
    Ok(())
}

//! How long the webhook takes for a pod of ten containers, and how many it manages on one core: the
//! real program, over TLS connections that are kept, asked by a stand-in for the API server.
//!
//! `cargo bench --bench webhook` prints, for a pod with the built-in configuration and for one with
//! a `ConfigMap`: the times of an answer at 500 reviews a second, counted from when each was due, the
//! share of a core that takes, and how many reviews a second there are when nobody waits.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a bench may panic, print and ask for the time"
)]

#[expect(dead_code, reason = "tests use the rest")]
#[path = "../tests/it/kubernetes/webhook/caller.rs"]
mod caller;
#[expect(dead_code, reason = "tests use the rest")]
#[path = "../tests/it/kubernetes/webhook/cluster.rs"]
mod cluster;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tollgate::base::clock::{Clock as _, SystemClock, TestClock};

use self::{
    caller::{Caller, pod, post, review},
    cluster::Cluster,
};

const HOST: &str = "hook.tollgate.svc";

/// Connections, each with one review at a time.
const CONNECTIONS: u32 = 8;

/// Reviews a second.
const RATE: u32 = 500;

/// How long each part takes.
const PART: Duration = Duration::from_secs(10);

/// The goals: the slowest of a hundred answers, and reviews a second.
const GOALS: (Duration, f64) = (Duration::from_millis(5), RATE as f64);

const CONFIG: &str = "
rate_limits:
  - {name: per-agent, per: [agent, model], requests_per_minute: 600, tokens_per_minute: 200000}
tracing:
  service_name: agents
";

struct Program {
    child: Child,
    address: SocketAddr,
    /// A program whose output nobody reads ends.
    _stdout: BufReader<ChildStdout>,
}

impl Program {
    fn start(cluster: &Cluster, certificate: &std::path::Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args([
                "webhook",
                "--listen=127.0.0.1:0",
                "--health=127.0.0.1:0",
                "--drain=0s",
            ])
            .args([
                "--log-level=error",
                "--api",
                &cluster.url,
                "--service-account",
            ])
            .arg(cluster.account())
            .arg("--cert-dir")
            .arg(certificate)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut first).unwrap();
        let address = first.split_once("https://").unwrap().1;
        let address = address.split('/').next().unwrap().parse().unwrap();
        Self {
            child,
            address,
            _stdout: stdout,
        }
    }

    /// How long it has been busy: it has one thread.
    fn busy(&self) -> Duration {
        let path = format!("/proc/{}/schedstat", self.child.id());
        let text = fs::read_to_string(path).unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Asks over one connection: each review when it is due, or as fast as answers come. How long each
/// took.
async fn ask(caller: Caller, bundle: String, body: String, due: Vec<Instant>) -> Vec<Duration> {
    let connection = caller.connect(bundle.as_bytes(), "http/1.1").await;
    let mut connection = connection.unwrap();
    let until = Instant::now() + PART;
    let mut took = Vec::new();
    let mut ask = async |begun: Instant| {
        let (head, answer) = connection.send(post(body.clone())).await;
        took.push(begun.elapsed());
        assert_eq!(head.status(), 200);
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert!(answer["response"]["patch"].is_string(), "{answer}");
    };
    if due.is_empty() {
        while Instant::now() < until {
            ask(Instant::now()).await;
        }
    }
    for due in due {
        sleep_until(due).await;
        ask(due).await;
    }
    took
}

/// Asks over all connections; the times, sorted, and the share of a core that it took.
async fn part(
    program: &Program,
    caller: &Caller,
    (bundle, body): (&str, &str),
    rate: u32,
) -> (Vec<Duration>, f64) {
    let first = Instant::now() + Duration::from_millis(200);
    let mut asking = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let count = rate * PART.as_secs() as u32;
        let mine = (0..count).filter(|number| number % CONNECTIONS == connection);
        let due = mine
            .map(|number| first + Duration::from_secs(1) / rate * number)
            .collect();
        asking.spawn(ask(caller.clone(), bundle.to_owned(), body.to_owned(), due));
    }
    let (begun, before) = (Instant::now(), program.busy());
    let mut took: Vec<_> = asking.join_all().await.into_iter().flatten().collect();
    let busy = program.busy().checked_sub(before).unwrap();
    took.sort_unstable();
    (took, busy.as_secs_f64() / begun.elapsed().as_secs_f64())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let cluster = Cluster::start().await;
    cluster.namespace("shop", "enabled");
    cluster.config_map("shop", "limits", CONFIG);
    let certificate = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
    fs::write(certificate.path().join("tls.crt"), made.cert.pem()).unwrap();
    fs::write(
        certificate.path().join("tls.key"),
        made.signing_key.serialize_pem(),
    )
    .unwrap();
    let program = Program::start(&cluster, certificate.path());
    let caller = Caller {
        address: program.address,
        clock: Arc::new(TestClock::at(SystemClock.wall())),
        host: HOST,
    };
    let bundle = made.cert.pem();
    let until = Instant::now() + PART;
    while let Err(error) = caller.tls(bundle.as_bytes(), b"http/1.1").await {
        assert!(Instant::now() < until, "{error}");
        sleep(Duration::from_millis(20)).await;
    }
    println!(
        "pod of 10 containers; {CONNECTIONS} TLS connections; {RATE} reviews/s, then all it can"
    );
    for (what, annotations) in [
        ("built-in", json!({})),
        ("ConfigMap", json!({"tollgate.dev/config": "limits"})),
    ] {
        let mut pod = pod(10);
        pod["metadata"]["annotations"] = annotations;
        let body = review("shop", &pod).to_string();
        let (took, share) = part(&program, &caller, (&bundle, &body), RATE).await;
        let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
        let (most, busy) = part(&program, &caller, (&bundle, &body), 0).await;
        let rate = most.len() as f64 / PART.as_secs_f64();
        let is_reached = at(0.99) <= GOALS.0 && rate >= GOALS.1;
        println!(
            "{what:<10} p50 {:.2?}  p99 {:.2?}  {:.0} % of a core;  {rate:.0} reviews/s at {:.0} % \
             of a core  ({}: p99 5 ms, 500/s)",
            at(0.5),
            at(0.99),
            share * 100.0,
            busy * 100.0,
            if is_reached { "reached" } else { "MISSED" },
        );
    }
}

//! Ten thousand spans a second to files and over OTLP: whether all arrive, in what memory and time, and
//! what a span costs the thread that offers it.
//!
//! `cargo bench --bench spans -- [SECONDS]` prints one line a figure, and fails if one is beyond what it
//! has to be. The receiver is a process of its own.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench may, and may wait on its own threads"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use tollgate::{
    base::clock::{Clock as _, Instant, SystemClock},
    pipeline::{BuildContext, Config, Outlet, Pipeline, Stats},
};

#[path = "pipeline/span.rs"]
mod span;

/// Spans a second, of both threads.
const RATE: u32 = 10_000;
const THREADS: u32 = 2;
/// What offering one may take, in microseconds: its median.
const MOST_MICROS: f64 = 3.0;
/// How many cores all of it may take, with the threads that offer.
const MOST_CORES: f64 = 2.0;
/// How long everything may take to arrive afterwards.
const GRACE: Duration = Duration::from_mins(1);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|word| word == "receive") {
        return receive();
    }
    let mut words = arguments.iter().filter(|word| !word.starts_with("--"));
    let seconds = words.next();
    let seconds = seconds.map_or(10, |seconds| seconds.parse().unwrap());
    let mut receiver = Command::new(std::env::current_exe().unwrap())
        .arg("receive")
        .stdout(Stdio::piped())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let met = measure(&mut receiver, seconds);
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    assert!(met, "a figure is beyond what it has to be");
}

fn measure(receiver: &mut Child, seconds: u32) -> bool {
    let mut address = String::new();
    let mut said = BufReader::new(receiver.stdout.take().unwrap());
    said.read_line(&mut address).unwrap();
    let place = tempfile::tempdir().unwrap();
    let outlets = outlets(place.path(), address.trim());
    let memory = outlets.iter().map(|outlet| outlet.delivery.memory).max();
    let memory = u64::try_from(memory.unwrap()).unwrap();
    let pipeline = Pipeline::start(Vec::new(), outlets, Arc::new(SystemClock)).unwrap();

    let (before, began) = (cpu_seconds(), SystemClock.mono());
    let (mut taken, most_waiting) = thread::scope(|scope| {
        let offering: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| offer(&pipeline, seconds)))
            .collect();
        let mut most = 0;
        while !offering.iter().all(thread::ScopedJoinHandle::is_finished) {
            let waiting = pipeline.stats().into_iter();
            most = waiting
                .map(|(_, stats)| stats.queued_bytes)
                .fold(most, u64::max);
            thread::sleep(Duration::from_millis(10));
        }
        let taken = offering.into_iter().flat_map(|it| it.join().unwrap());
        (taken.collect::<Vec<f64>>(), most)
    });
    let elapsed = SystemClock.mono().duration_since(began).as_secs_f64();
    let cores = (cpu_seconds() - before) / elapsed;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let began = SystemClock.mono();
    runtime.block_on(pipeline.flush(GRACE));
    let rest = SystemClock.mono().duration_since(began).as_secs_f64();
    let offered = u64::from(RATE * seconds);
    let stats = pipeline.stats();
    let arrived = |(_, stats): &(_, Stats)| stats.delivered == offered;
    let all = stats.iter().all(arrived);
    runtime.block_on(pipeline.close(GRACE));

    taken.sort_unstable_by(f64::total_cmp);
    let at = |share: usize| taken.get(taken.len() * share / 1000).copied().unwrap();
    println!(
        "offered       {offered} spans in {elapsed:.1} s, {RATE} a second by {THREADS} threads"
    );
    for (name, stats) in &stats {
        println!(
            "{name:<13} {} delivered, {} dropped",
            stats.delivered, stats.dropped
        );
    }
    println!("the rest      within {rest:.2} s");
    println!(
        "waiting       {:.1} MB at most, of {:.0} MB",
        mb(most_waiting),
        mb(memory)
    );
    println!("resident      {:.0} MB at most", mb(resident()));
    println!("cores         {cores:.2}, at most {MOST_CORES}");
    println!(
        "an offer      p50 {:.2} us, p99 {:.2} us, p99.9 {:.2} us; p50 at most {MOST_MICROS}",
        at(500),
        at(990),
        at(999)
    );
    all && most_waiting <= memory && cores <= MOST_CORES && at(500) <= MOST_MICROS
}

fn outlets(place: &Path, address: &str) -> Vec<Outlet> {
    let at = place.display();
    let yaml = format!(
        "buffering: {{buffer_directory: '{at}/buffer'}}
processors:
  - {{type: file, directory: '{at}/spans'}}
  - {{type: otlp, endpoint: 'http://{address}', batch_size: 1000, flush_interval: 1s}}
"
    );
    let config: Config = serde_saphyr::from_str(&yaml).unwrap();
    let context = BuildContext::new(Arc::new(SystemClock));
    config.build(&context).unwrap()
}

/// Offers its share of spans, a few every ten milliseconds; the microseconds that each took.
fn offer(pipeline: &Pipeline, seconds: u32) -> Vec<f64> {
    let model = span::span();
    let share = RATE / THREADS / 100;
    let began = SystemClock.mono();
    let mut taken = Vec::new();
    for round in 0..seconds * 100 {
        wait_until(began + Duration::from_millis(10) * round);
        for _ in 0..share {
            let span = model.clone();
            let began = SystemClock.mono();
            pipeline.offer(span);
            let time = SystemClock.mono().duration_since(began);
            taken.push(time.as_secs_f64() * 1e6);
        }
    }
    taken
}

fn wait_until(at: Instant) {
    thread::sleep(at.duration_since(SystemClock.mono()));
}

/// Answers every request with success, for ever.
fn receive() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    println!("{}", listener.local_addr().unwrap());
    for stream in listener.incoming() {
        thread::spawn(move || serve(stream.unwrap()));
    }
}

/// As long as it speaks.
fn serve(stream: TcpStream) {
    let mut answers = stream.try_clone().unwrap();
    let mut requests = BufReader::new(stream);
    let mut line = String::new();
    let mut length = 0;
    while requests.read_line(&mut line).unwrap_or(0) > 0 {
        let header = line.trim().to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if header.is_empty() {
            let mut body = vec![0; length];
            requests.read_exact(&mut body).unwrap();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\n";
            let answer = format!("{head}content-length: 0\r\n\r\n");
            answers.write_all(answer.as_bytes()).unwrap();
        }
        line.clear();
    }
}

/// What this process has used of processors so far.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // Behind the name, which may have anything in it; in hundredths of a second.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields = fields.split_ascii_whitespace().skip(11).take(2);
    let ticks: u32 = fields.map(|field| field.parse::<u32>().unwrap()).sum();
    f64::from(ticks) / 100.0
}

/// The most bytes of memory that this process has had.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.unwrap().split_ascii_whitespace().nth(1);
    kilobytes.unwrap().parse::<u64>().unwrap() * 1024
}

fn mb(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes >> 10).unwrap()) / 1024.0
}

//! The real program: how it starts, how it leaves, how much memory it takes.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use http::Method;
use tempfile::TempDir;
use tollgate::mock::{Mock, Options};

use super::{chat, chat_stream, has_time};
use crate::support::{Line, Upstream, client, sandbox::until};

/// A running program; killed when it is dropped.
pub(super) struct Process {
    child: Child,
    /// Where its proxy listens.
    pub(super) addr: SocketAddr,
}

impl Process {
    /// Starts it in this directory with this configuration, and waits until it listens.
    pub(super) fn start(directory: &Path, yaml: &str) -> Self {
        let mut child = command(directory, yaml)
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(directory.join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let listening = lines
            .find_map(|line| {
                let line = line.unwrap();
                let (_, address) = line.split_once("http://")?;
                Some(address.split(' ').next()?.to_owned())
            })
            .expect("it says where it listens");
        // It must be able to write on.
        std::thread::spawn(move || lines.count());
        let addr = listening.parse().unwrap();
        Self { child, addr }
    }

    pub(super) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        until("the program to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap().code()
    }

    /// A line of its memory's account, in bytes.
    fn memory(&self, what: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(what));
        let kib = line.unwrap().trim_matches([':', ' ', '\t', 'k', 'B']);
        kib.parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn command(directory: &Path, yaml: &str) -> Command {
    let file = directory.join("tollgate.yaml");
    std::fs::write(&file, yaml).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command
        .args(["run", "-c"])
        .arg(file)
        .current_dir(directory)
        .env_clear();
    command
}

/// Runs a program that does not start, and returns its exit code and what it says.
fn refused(directory: &Path, yaml: &str) -> (Option<i32>, String) {
    let output = command(directory, yaml).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

const LISTEN: &str = "listen: {proxy: 127.0.0.1:0, admin: 127.0.0.1:0}\n";

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn a_second_program_on_the_same_store_names_the_first() {
    let directory = directory();
    let first = Process::start(directory.path(), LISTEN);
    let (code, said) = refused(directory.path(), LISTEN);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains(&first.child.id().to_string()), "{said}");
    assert!(said.contains("store.path"), "{said}");
    // Also where it would find the first one's ports taken: whose they are says more.
    let same = format!(
        "listen: {{proxy: \"{}\", admin: 127.0.0.1:0}}\n",
        first.addr
    );
    let (code, said) = refused(directory.path(), &same);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains(&first.child.id().to_string()), "{said}");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (key, other) in [("proxy", "admin"), ("admin", "proxy")] {
        let yaml = format!("listen: {{{key}: \"{address}\", {other}: 127.0.0.1:0}}\n");
        let (code, said) = refused(directory().path(), &yaml);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(&address), "{said}");
        assert!(said.contains(&format!("listen.{key}")), "{said}");
    }
}

#[tokio::test]
async fn an_unusable_directory_ends_a_program_with_budgets() {
    let store = "store: {path: /dev/null/x}\nledger: {path: /dev/null/x/journal}\n";
    let yaml = format!("{LISTEN}{store}budgets: {{daily: 1.00}}\n");
    let (code, said) = refused(directory().path(), &yaml);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("/dev/null/x"), "{said}");
    let without = directory();
    let running = Process::start(without.path(), &format!("{LISTEN}{store}"));
    let answer = client::call(running.addr, Method::GET, "/nowhere", &[], "").await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn a_wrong_price_file_ends_the_program() {
    let directory = directory();
    std::fs::write(directory.path().join("prices.json"), "{\"no\": ").unwrap();
    let yaml = format!("{LISTEN}pricing: {{file: prices.json}}\n");
    let (code, said) = refused(directory.path(), &yaml);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("prices.json"), "{said}");
}

pub(super) fn upstream(url: &str) -> String {
    format!("{LISTEN}upstream: {{proxy: none}}\nproviders: {{openai: {{base_url: '{url}'}}}}\n")
}

/// Begins a stream that goes on for a while.
async fn begin_stream(addr: SocketAddr, settings: &str) -> Line {
    let body = chat_stream().to_string();
    let mut line = Line::connect(addr).await;
    line.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-mock: {settings}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    assert_eq!(line.head().await.status(), 200);
    line.take(10).await;
    line
}

#[tokio::test]
async fn a_signal_lets_streams_finish_and_takes_no_further_calls() {
    let mock = Mock::start(Options::default()).unwrap();
    let directory = directory();
    let mut running = Process::start(directory.path(), &upstream(&mock.url()));
    let mut line = begin_stream(running.addr, "events=20;gap=25ms").await;
    running.signal("TERM");
    until("the listener to close", || {
        std::net::TcpStream::connect(running.addr).is_err()
    })
    .await;
    let rest = String::from_utf8(line.rest().await).unwrap();
    assert!(rest.contains("data: [DONE]\n\n"), "{rest}");
    assert_eq!(running.ended().await, Some(0));
}

#[tokio::test]
async fn what_does_not_finish_by_the_deadline_is_cut_and_settled() {
    let mock = Mock::start(Options::default()).unwrap();
    let directory = directory();
    let yaml = format!(
        "{}shutdown: {{deadline: 200ms}}\ntracing: {{processors: [{{type: file, directory: spans}}]}}\n",
        upstream(&mock.url())
    );
    let mut running = Process::start(directory.path(), &yaml);
    let mut line = begin_stream(running.addr, "hang=700").await;
    running.signal("TERM");
    line.rest().await;
    assert_eq!(running.ended().await, Some(0));
    let spans = crate::support::sandbox::read_spans(&directory.path().join("spans"));
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0]["attributes"]["tollgate.end"], "cut");
    assert_ne!(spans[0]["status"], "ok");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mock = Mock::start(Options::default()).unwrap();
    let directory = directory();
    let mut running = Process::start(directory.path(), &upstream(&mock.url()));
    let _line = begin_stream(running.addr, "hang=700").await;
    running.signal("TERM");
    until("the listener to close", || {
        std::net::TcpStream::connect(running.addr).is_err()
    })
    .await;
    assert!(running.child.try_wait().unwrap().is_none(), "it waits");
    running.signal("TERM");
    // Long before the deadline of 30 s.
    running.ended().await;
}

#[tokio::test]
async fn it_says_that_it_is_not_ready_before_it_leaves() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = free.local_addr().unwrap();
    drop(free);
    let directory = directory();
    let yaml =
        format!("listen: {{proxy: 127.0.0.1:0, admin: \"{admin}\"}}\nshutdown: {{delay: 10s}}\n");
    let running = Process::start(directory.path(), &yaml);
    let ready = || async {
        client::call(admin, Method::GET, "/readyz", &[], "")
            .await
            .status
    };
    assert_eq!(ready().await, 200);
    running.signal("TERM");
    let unready = async {
        while ready().await == 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(5), unready).await;
    assert!(told.is_ok(), "it goes on saying that it is ready");
    // Calls are still taken.
    let answer = client::call(running.addr, Method::GET, "/nowhere", &[], "").await;
    assert_eq!(answer.status, 404);
}

/// Bytes of a large body.
fn large() -> usize {
    if has_time() { 200_000_000 } else { 40_000_000 }
}

/// How much more memory a large body may take than none.
const ROOM: u64 = 24 * 1024 * 1024;

#[tokio::test]
async fn large_bodies_pass_both_ways_in_bounded_memory() {
    let provider = Upstream::bind().await;
    let directory = directory();
    let running = Process::start(
        directory.path(),
        &upstream(&format!("http://{}", provider.addr())),
    );
    // So that all that is made once is there.
    client::call(running.addr, Method::GET, "/nowhere", &[], "").await;
    let before = running.memory("VmRSS");
    let serving = tokio::spawn(async move {
        let mut line = provider.accept().await;
        let head = line.head().await;
        let length: usize = head.header("content-length").unwrap().parse().unwrap();
        let mut left = length;
        while left > 0 {
            let part = left.min(100_000);
            line.take(part).await;
            left -= part;
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            large()
        );
        line.send(head).await;
        line.send(vec![b' '; large()]).await;
        length
    });
    let chat = chat().to_string();
    let prefix = &chat[..chat.len() - 1];
    let suffix = ",\"padding\":\"";
    let length = prefix.len() + suffix.len() + large() + 2;
    let mut line = Line::connect(running.addr).await;
    line.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n\
         {prefix}{suffix}"
    ))
    .await;
    let block = vec![b'x'; 1_000_000];
    for _ in 0..large() / block.len() {
        line.send(&block).await;
    }
    line.send("\"}").await;
    let head = line.head().await;
    assert_eq!(head.status(), 200);
    let mut left = large();
    while left > 0 {
        let part = left.min(100_000);
        assert!(line.take(part).await.iter().all(|byte| *byte == b' '));
        left -= part;
    }
    assert_eq!(serving.await.unwrap(), length);
    let most = running.memory("VmHWM");
    assert!(
        most < before + ROOM,
        "{before} bytes before, {most} at most"
    );
}

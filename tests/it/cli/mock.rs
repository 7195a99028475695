//! `tollgate mock`.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Stdio},
};

use super::program::Program;

/// A mock in the foreground; killed if a test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn post(address: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: mock\r\nconnection: close\r\n";
    write!(stream, "{head}content-length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn it_says_what_to_export_answers_by_its_script_and_ends_when_told() {
    let script = r#"[{"when": {"user": "hello"}, "say": "Hi there", "with": "header=x-a:b"}]"#;
    let program = Program::new().with("script.json", script);
    let mut command = program.command(&[
        "mock",
        "--listen=127.0.0.1:0",
        "--script=script.json",
        "--latency=1ms",
        "--with=header=x-b: c",
    ]);
    let mut running = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let url = first
        .strip_prefix("export OPENAI_BASE_URL=http://")
        .unwrap();
    let address = url.split("/v1").next().unwrap().to_owned();
    assert!(
        lines
            .next()
            .unwrap()
            .unwrap()
            .contains("ANTHROPIC_BASE_URL=http://127")
    );
    assert!(
        lines
            .next()
            .unwrap()
            .unwrap()
            .contains("GOOGLE_GEMINI_BASE_URL=http://127")
    );

    let body = r#"{"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}"#;
    let answer = post(&address, body);
    assert!(
        ["x-a: b", "x-b: c", "Hi there"]
            .iter()
            .all(|part| answer.contains(part)),
        "{answer}"
    );

    let pid = running.0.id().to_string();
    let killed = std::process::Command::new("kill")
        .arg(&pid)
        .status()
        .unwrap();
    assert!(killed.success());
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
}

#[test]
fn wrong_settings_scripts_and_addresses_say_so() {
    let program = Program::new().with("script.json", r#"[{"wenn": {}}]"#);
    let ran = program.run(&["mock", "--with=stauts=1"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("`stauts`"), "{}", ran.stderr);
    let ran = program.run(&["mock", "--script=script.json"]);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains("script.json") && ran.stderr.contains("wenn"),
        "{}",
        ran.stderr
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ran = program.run(&["mock", "--listen", &address]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains(&address), "{}", ran.stderr);
}

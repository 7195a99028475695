//! Edits of the file with the keys, and of the files with Tollgate's own, while it runs.

use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};
use tollgate::{
    base::secret::Secret,
    identity,
    mock::{Mock, Options},
};

use super::{
    super::{chat, process::Process},
    Keys, OURS, now, seen,
};
use crate::support::{Sandbox, Socket, client, sandbox::until};

#[tokio::test]
async fn edits_of_the_file_are_taken_and_bad_ones_keep_the_keys_from_before() {
    let keys = Keys::new();
    let secret = keys.add("ci", |_| {});
    let sandbox = Sandbox::new(&keys.yaml("", ""));
    let call = async || {
        let headers = [("x-tollgate-key", secret.expose())];
        let answer = sandbox
            .post_with("/v1/chat/completions", &headers, &chat())
            .await;
        answer.status.as_u16()
    };
    assert_eq!(call().await, 200);
    let text = fs::read_to_string(keys.path()).unwrap();
    for bad in ["{", "{}\n", &format!("{text}{text}")] {
        fs::write(keys.path(), bad).unwrap();
        sandbox.app.refresh_keys();
        assert_eq!(call().await, 200, "{bad}");
    }
    fs::remove_file(keys.path()).unwrap();
    sandbox.app.refresh_keys();
    assert_eq!(call().await, 200);
    let refused = sandbox.metric("tollgate_client_key_files_total{event=\"refused\"}");
    assert!((refused - 4.0).abs() < 0.1, "{refused}");
    fs::write(keys.path(), text).unwrap();
    identity::revoke(&keys.path(), "ci", now()).unwrap();
    sandbox.app.refresh_keys();
    assert_eq!(call().await, 401);
}

#[tokio::test]
async fn without_the_file_it_does_not_start() {
    let error = Sandbox::refused("identity: {keys_file: /nowhere/keys.jsonl}");
    let error = error.to_string();
    assert!(
        error.contains("identity.keys_file: /nowhere/keys.jsonl"),
        "{error}"
    );
    assert!(error.contains("tollgate keys create"), "{error}");
}

/// The running program: within a second no call is taken with a revoked key, and the next one goes
/// to the provider with its new key; and nothing of either is in its log.
#[tokio::test]
async fn a_running_program_follows_both_files() {
    let mock = Mock::start(Options::default()).unwrap();
    let keys = Keys::new();
    let [secret, other] = ["ci", "other"].map(|name| keys.add(name, |_| {}));
    let at = |name: &str| keys.0.path().join(name);
    fs::write(at("openai"), "sk-first\n").unwrap();
    let yaml = keys.yaml(
        "",
        &format!(
            "listen: {{proxy: 127.0.0.1:0, admin: 127.0.0.1:0}}\nupstream: {{proxy: none}}\n\
             log: {{level: trace}}\nproviders: {{openai: {{base_url: '{}', api_key: '${{file:{}}}'}}}}\n",
            mock.url(),
            at("openai").display()
        ),
    );
    let program = Process::start(keys.0.path(), &yaml);
    let call = async |secret: &Secret| {
        let bearer = format!("Bearer {}", secret.expose());
        let target = "/v1/chat/completions";
        client::post(program.addr, target, &[("authorization", &bearer)], &chat()).await
    };
    assert_eq!(call(&secret).await.status, 200);
    assert!(seen(&mock).contains("Bearer sk-first"));

    identity::revoke(&keys.path(), "ci", now()).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let answer = call(&secret).await;
    assert_eq!(answer.status, 401, "{answer:?}");
    assert!(answer.text().contains("revoked"), "{answer:?}");

    let beside = at("openai.new");
    fs::write(&beside, "sk-other\n").unwrap();
    fs::rename(&beside, at("openai")).unwrap();
    let mut is_sent = false;
    for _ in 0..200 {
        assert_eq!(call(&other).await.status, 200);
        is_sent = seen(&mock).contains("Bearer sk-other");
        if is_sent {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(is_sent, "the provider's new key is not taken");
    until_log(keys.0.path(), "client keys were read again").await;
    let log = fs::read_to_string(at("log")).unwrap();
    for gone in [secret.expose(), other.expose(), "sk-first", "sk-other"] {
        assert!(!log.contains(gone), "{log}");
    }
}

async fn until_log(directory: &Path, says: &str) {
    until(says, || {
        let log = fs::read_to_string(directory.join("log")).unwrap();
        log.contains(says)
    })
    .await;
}

#[tokio::test]
async fn an_open_socket_begins_nothing_more_with_a_revoked_key() {
    let keys = Keys::new();
    let secret = keys.add("ci", |_| {});
    let sandbox = Sandbox::new(&keys.yaml("", OURS));
    let headers = [("x-tollgate-key", secret.expose())];
    let target = "/v1/realtime?model=gpt-realtime";
    let mut socket = Socket::open(sandbox.addr(), target, &headers).await;
    let ask = json!({"type": "response.create", "response": {"output_modalities": ["text"]}});
    socket.say(&ask).await;
    let is_done = |message: &Value| message["type"] == "response.done";
    socket.until(is_done).await;

    identity::revoke(&keys.path(), "ci", now()).unwrap();
    sandbox.app.refresh_keys();
    socket.say(&ask).await;
    let told = socket.message().await;
    let (kind, code) = (&told["type"], &told["error"]["code"]);
    assert_eq!(
        (kind.as_str(), code.as_str()),
        (Some("error"), Some("invalid_api_key"))
    );
    let words = told["error"]["message"].as_str().unwrap();
    assert!(words.contains("revoked"), "{told}");
    let asked = sandbox.metric("tollgate_client_key_failures_total{reason=\"revoked\"}");
    assert!((asked - 1.0).abs() < 0.1, "{asked}");
    assert_eq!(sandbox.only_span().await.get("tollgate.key"), "ci");
}

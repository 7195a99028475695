//! Connections to providers that are opened: calls on them are calls like any other.

use bytes::Bytes;
use http::Method;
use rustls::ProtocolVersion;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{CHAT, Ca, OPENAI, Opening, chat, chat_stream, configured};
use crate::support::{
    Answer, Sandbox, Socket, client,
    entry::{Entry, ask},
    front::Front,
};

/// The limit that the calls of a test use up.
const BUDGET: &str = "budgets: {rules: [{name: b, window: total, limit: {requests: 2}}]}";

async fn post(entry: &Entry, version: u8, host: &str, body: &Value) -> Answer {
    let headers = [
        ("content-type", "application/json"),
        ("authorization", "Bearer sk-client"),
        ("x-stainless-lang", "python"),
    ];
    if version == 2 {
        let url = format!("https://{host}{CHAT}");
        let body = Bytes::from(body.to_string());
        return client::call_h2_at(entry.addr, Method::POST, &url, &headers, body).await;
    }
    let mut all = vec![("host", host)];
    all.extend(headers);
    client::call(entry.addr, Method::POST, CHAT, &all, body.to_string()).await
}

#[tokio::test]
async fn a_call_is_metered_limited_and_traced_and_reaches_the_provider_as_it_was_sent() {
    for (alpn, version) in [
        (&["h2", "http/1.1"][..], 2),
        (&["http/1.1"][..], 1),
        (&[][..], 1),
    ] {
        let opening = Opening::new("", BUDGET);
        let entry = opening.entry(OPENAI, alpn).await;
        for _ in 0..2 {
            let answer = post(&entry, version, OPENAI, &chat()).await;
            assert_eq!(answer.status, 200, "{alpn:?} {answer:?}");
            let span = opening.sandbox.span(&answer).await;
            assert_eq!(span.get("gen_ai.provider.name"), "openai");
            assert!(span.nanos("tollgate.cost.usd") > 0);
            let sent = opening.sandbox.mock.requests().pop().unwrap();
            assert_eq!(sent.target, CHAT);
            assert_eq!(sent.body, chat().to_string());
            assert_eq!(sent.headers["authorization"], "Bearer sk-client");
            assert_eq!(sent.headers["x-stainless-lang"], "python");
        }
        let refused = post(&entry, version, OPENAI, &chat()).await;
        assert_eq!(refused.status, 429, "{refused:?}");
        assert_eq!(opening.sandbox.mock.count(), 2);
        assert_eq!(opening.count("tollgate_unmetered_connections_total{"), 0);
        assert!(opening.became("opened") >= 1);
    }
}

#[tokio::test]
async fn a_stream_passes_event_by_event() {
    for (alpn, version) in [("h2", 2), ("http/1.1", 1)] {
        let opening = Opening::new("", "");
        let entry = opening.entry(OPENAI, &[alpn]).await;
        let answer = post(&entry, version, OPENAI, &chat_stream()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(
            answer.text().ends_with("data: [DONE]\n\n"),
            "{}",
            answer.text()
        );
        let span = opening.sandbox.span(&answer).await;
        assert_eq!(span.get("tollgate.usage.source"), "reported");
    }
}

#[tokio::test]
async fn a_socket_is_read_as_ever() {
    let opening = Opening::new(
        "",
        "budgets: {rules: [{name: b, window: total, limit: {usd: 1.00}}]}",
    );
    let entry = opening.entry(OPENAI, &["http/1.1"]).await;
    let target = "/v1/realtime?model=gpt-realtime";
    let mut socket = Socket::open(entry.addr, target, &[("host", OPENAI)]).await;
    let ask = json!({"type": "response.create", "response": {"output_modalities": ["text"]}});
    socket.say(&ask).await;
    socket
        .until(|message| message["type"] == "response.done")
        .await;
    drop(socket);
    opening.sandbox.spans(2).await;
    assert!(opening.sandbox.spent("b").await > 0);
}

/// A client that reads in one thread and writes in another, as Python's sockets do, loses what it
/// writes while it reads a ticket.
#[tokio::test]
async fn a_client_reads_nothing_after_the_handshake_but_the_answer_to_its_first_call() {
    let opening = Opening::new("", "");
    let (socket, _) = ask(opening.addr(), "api.openai.com:443", "").await;
    let says = opening.says(OPENAI, &["http/1.1"]);
    let mut tls = says.over(socket).await.unwrap();
    let call = format!("GET /v1/models HTTP/1.1\r\nhost: {OPENAI}\r\n\r\n");
    tls.write_all(call.as_bytes()).await.unwrap();
    tls.read_u8().await.unwrap();
    let (_, tls) = tls.get_ref();
    assert_eq!(tls.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(tls.tls13_tickets_received(), 0);
}

#[tokio::test]
async fn calls_go_to_the_very_host_over_tls_that_is_verified() {
    for is_trusted in [true, false] {
        let (ca, theirs) = (Ca::new(), Ca::new());
        let mock = tollgate::mock::Mock::start(tollgate::mock::Options::default()).unwrap();
        let behind = mock.url()["http://".len()..].parse().unwrap();
        let leaf = theirs.authority.leaf("localhost", super::now()).unwrap();
        let front = Front::before(behind, leaf.key).await;
        let target = format!("localhost:{}", front.addr.port());
        let trusted = if is_trusted { &theirs } else { &ca };
        let yaml = format!(
            "providers: {{mine: {{base_url: 'https://{target}'}}}}\n\
             upstream: {{proxy: none, ca_file: '{}'}}",
            trusted.path(tollgate::net::authority::ROOTS)
        );
        let sandbox = Sandbox::new(&configured(&ca, "", &yaml));
        let opening = Opening { sandbox, ca };
        let says = opening.says("localhost", &["h2"]);
        let entry = Entry::new(opening.addr(), &target, "", Some(says)).await;
        let answer = post(&entry, 2, &target, &chat()).await;
        if is_trusted {
            assert_eq!(answer.status, 200, "{answer:?}");
            let span = opening.sandbox.span(&answer).await;
            assert_eq!(span.get("gen_ai.provider.name"), "mine");
            let sent = mock.requests().remove(0);
            assert_eq!(sent.headers["host"], target.as_str());
            assert_eq!(sent.body, chat().to_string());
        } else {
            assert_eq!(answer.status, 502, "{answer:?}");
            assert!(answer.text().contains("certificate"), "{}", answer.text());
            assert_eq!(mock.count(), 0);
        }
    }
}

#[tokio::test]
async fn a_provider_at_an_address_is_opened_for_clients_that_name_no_host_in_tls_or_use_none() {
    let opening = Opening::new("", "");
    let target = opening.sandbox.mock.url()["http://".len()..].to_owned();
    let by_address = Some(opening.says("127.0.0.1", &[]));
    for says in [by_address, None] {
        let entry = Entry::new(opening.addr(), &target, "", says).await;
        let answer = post(&entry, 1, &target, &chat()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        opening.sandbox.span(&answer).await;
    }
}

#[tokio::test]
async fn a_request_for_another_host_than_its_connection_is_misdirected() {
    let opening = Opening::new("", "");
    for (alpn, version) in [("h2", 2), ("http/1.1", 1)] {
        let entry = opening.entry(OPENAI, &[alpn]).await;
        for (host, status) in [
            ("api.openai.com:443", 200),
            ("API.OpenAI.com.", 200),
            ("api.anthropic.com", 421),
            ("api.openai.com:8443", 421),
            ("api.openai.com.evil.example", 421),
            ("127.0.0.1", 421),
        ] {
            let answer = post(&entry, version, host, &chat()).await;
            assert_eq!(answer.status, status, "{version} {host} {answer:?}");
        }
    }
    assert_eq!(opening.sandbox.mock.count(), 4);
}

#[tokio::test]
async fn reports_of_agents_to_a_provider_are_the_provider_s() {
    let opening = Opening::new("", "");
    let entry = opening.entry(OPENAI, &["http/1.1"]).await;
    let headers = [("host", OPENAI), ("content-type", "application/json")];
    let path = "/v1/traces/ingest";
    client::call(entry.addr, Method::POST, path, &headers, r#"{"data": []}"#).await;
    assert_eq!(opening.sandbox.mock.requests()[0].target, path);
}

#[tokio::test]
async fn a_way_that_is_shut_is_said_to_be() {
    let sandbox = Sandbox::new("");
    let (_socket, answer) = ask(sandbox.addr(), "api.openai.com:443", "").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(
        answer.contains("x-tollgate-blocked-by: intercept.enabled"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_path_below_a_base_url_stays_as_it_is_and_tells_its_provider() {
    const TEAMS: &str = "providers: {one: {base_url: '{mock}/team', api_key: sk-own}, \
         two: {base_url: '{mock}/team/two/v1', api_key: sk-two}}\nidentity: {trusted: [127.0.0.0/8]}";
    let opening = Opening::new("", TEAMS);
    let target = opening.sandbox.mock.url()["http://".len()..].to_owned();
    let entry = Entry::new(opening.addr(), &target, "", None).await;
    let headers = [
        ("content-type", "application/json"),
        ("host", &*target),
        ("authorization", "Bearer sk-client"),
    ];
    for (path, provider, key) in [
        ("/team/v1/chat/completions", "one", "sk-own"),
        ("/team/two/v1/chat/completions", "two", "sk-two"),
        ("/team/two/v1/v1/chat/completions", "two", "sk-two"),
        ("/team/twofold/v1/chat/completions?a=1", "one", "sk-own"),
        // Elsewhere on that host there is no provider that has a key of ours.
        ("/teams/v1/chat/completions", "openai", "sk-client"),
    ] {
        for absolute in [false, true] {
            let body = chat().to_string();
            let answer = if absolute {
                let url = format!("http://{target}{path}");
                client::call(opening.addr(), Method::POST, &url, &headers, body).await
            } else {
                client::call(entry.addr, Method::POST, path, &headers, body).await
            };
            assert_eq!(answer.status, 200, "{path} {answer:?}");
            let span = opening.sandbox.span(&answer).await;
            assert_eq!(span.get("gen_ai.provider.name"), provider, "{path}");
            assert_eq!(span.get("gen_ai.operation.name"), "chat", "{path}");
            let sent = opening.sandbox.mock.requests().pop().unwrap();
            assert_eq!(sent.target, path, "{absolute}");
            assert_eq!(sent.headers["authorization"], format!("Bearer {key}"));
        }
    }
    // No way leads out of a base URL's path.
    let path = "/team/two/v1/../../v1/chat/completions";
    let answer = client::call(entry.addr, Method::POST, path, &headers, chat().to_string()).await;
    assert_eq!(answer.status, 400, "{answer:?}");
}

#[tokio::test]
async fn a_key_of_ours_goes_to_no_other_path_of_its_host() {
    let yaml = "providers: {mine: {base_url: 'http://localhost:{port}/team', api_key: sk-own}}\n\
                identity: {trusted: [127.0.0.0/8]}";
    let upstream = crate::support::Upstream::bind().await;
    let port = upstream.addr().port();
    let opening = Opening::new("", &yaml.replace("{port}", &port.to_string()));
    let target = format!("localhost:{port}");
    let entry = Entry::new(opening.addr(), &target, "", None).await;
    for (path, key) in [
        ("/team/v1/models", Some("Bearer sk-own")),
        ("/other/v1/models", None),
        ("/teams", None),
        ("/team", Some("Bearer sk-own")),
    ] {
        let answers = async {
            let mut server = upstream.accept().await;
            let head = server.head().await;
            server
                .send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                .await;
            head
        };
        let headers = [("host", &*target)];
        let asked = client::call(entry.addr, Method::GET, path, &headers, "");
        let (answer, head) = tokio::join!(asked, answers);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(head.first_line, format!("GET {path} HTTP/1.1"));
        assert_eq!(head.header("authorization"), key, "{path}");
    }
}

#[tokio::test]
async fn a_provider_that_was_moved_below_a_path_is_reached_there_by_its_usual_name() {
    let opening = Opening::new("", "providers: {openai: {base_url: '{mock}/team'}}");
    let entry = opening.entry(OPENAI, &["http/1.1"]).await;
    let answer = post(&entry, 1, OPENAI, &chat()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let sent = opening.sandbox.mock.requests().pop().unwrap();
    assert_eq!(sent.target, "/team/v1/chat/completions");
    let url = format!("http://{OPENAI}{CHAT}");
    let headers = [("content-type", "application/json")];
    let body = chat().to_string();
    let answer = client::call(opening.addr(), Method::POST, &url, &headers, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let sent = opening.sandbox.mock.requests().pop().unwrap();
    assert_eq!(sent.target, "/team/v1/chat/completions");
}

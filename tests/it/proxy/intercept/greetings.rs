//! What a client says first: it may tell that a provider is meant where none was named, hide whom it
//! means, or come in pieces, late or never.

use std::time::Duration;

use http::Method;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{CHAT, Ca, OPENAI, Opening, chat, configured};
use crate::{
    proxy::keys::Keys,
    support::{
        Sandbox, Upstream, client,
        entry::{Entry, ask},
        front::Front,
        sandbox::{PATIENCE, until},
    },
};

const LOCAL: &str = ", allow_private: [127.0.0.0/8]";

/// A greeting of TLS 1.3, so far as it tells for whom it is.
fn hello(name: Option<&str>, is_sealed: bool) -> Vec<u8> {
    let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let extension = |kind: u16, content: &[u8]| [&kind.to_be_bytes(), &*sized(content)].concat();
    let mut extensions = Vec::new();
    if let Some(name) = name {
        let entry = [&[0], &*sized(name.as_bytes())].concat();
        extensions.extend(extension(0, &sized(&entry)));
    }
    if is_sealed {
        extensions.extend(extension(0xfe0d, &[0; 64]));
    }
    extensions.extend(extension(43, &[2, 3, 4]));
    let random = [7; 32];
    let message = [
        &[3, 3],
        &random[..],
        &[0],
        &sized(&[0x13, 1]),
        &[1, 0],
        &sized(&extensions),
    ]
    .concat();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let handshake = [&[1], &length[1..], &message].concat();
    [&[22, 3, 1], &*sized(&handshake)].concat()
}

/// A provider at `https://localhost`, with TLS by an authority of its own, and its port.
struct Mine {
    opening: Opening,
    _front: Front,
    port: u16,
}

impl Mine {
    async fn new(intercept: &str) -> Self {
        Self::with(intercept, "").await
    }

    /// The same, with more of a configuration.
    async fn with(intercept: &str, more: &str) -> Self {
        let (ca, theirs) = (Ca::new(), Ca::new());
        let mock = tollgate::mock::Mock::start(tollgate::mock::Options::default()).unwrap();
        let behind = mock.url()["http://".len()..].parse().unwrap();
        let leaf = theirs.authority.leaf("localhost", super::now()).unwrap();
        let front = Front::before(behind, leaf.key).await;
        let port = front.addr.port();
        let yaml = format!(
            "providers: {{mine: {{base_url: 'https://localhost:{port}'}}}}\n\
             upstream: {{proxy: none, ca_file: '{}'}}\n{more}",
            theirs.path(tollgate::net::authority::ROOTS)
        );
        let mut sandbox = Sandbox::new(&configured(&ca, intercept, &yaml));
        sandbox.mock = mock;
        let opening = Opening { sandbox, ca };
        Self {
            opening,
            _front: front,
            port,
        }
    }
}

#[tokio::test]
async fn whoever_asks_for_an_address_and_names_a_provider_in_tls_is_metered() {
    let mine = Mine::new(LOCAL).await;
    let (opening, port) = (&mine.opening, mine.port);
    let says = opening.says("localhost", &["http/1.1"]);
    let target = format!("127.0.0.1:{port}");
    let entry = Entry::new(opening.addr(), &target, "", Some(says)).await;
    let host = format!("localhost:{port}");
    let headers = [("host", &*host), ("content-type", "application/json")];
    let body = chat().to_string();
    let answer = client::call(entry.addr, Method::POST, CHAT, &headers, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let span = opening.sandbox.span(&answer).await;
    assert_eq!(span.get("gen_ai.provider.name"), "mine");
    assert_eq!(opening.became("opened"), 1);
    assert_eq!(opening.became("passed"), 0);
    assert_eq!(opening.count("tollgate_unmetered_connections_total{"), 0);
    until("the tunnel to be gone", || {
        opening.count("tollgate_tunnels ") == 0
    })
    .await;
}

#[tokio::test]
async fn a_provider_that_is_named_in_tls_and_cannot_be_opened_is_counted_by_its_name() {
    let opening = Opening::new(LOCAL, "");
    let upstream = Upstream::bind().await;
    let (mut client, _) = ask(opening.addr(), &upstream.addr().to_string(), "").await;
    let said = hello(Some(OPENAI), false);
    client.write_all(&said).await.unwrap();
    let mut server = upstream.accept().await;
    assert_eq!(server.take(said.len()).await, said, "every byte passes");
    assert_eq!(opening.unmetered(OPENAI, "port"), 1);
    // Other names are nobody's.
    let (mut client, _) = ask(opening.addr(), &upstream.addr().to_string(), "").await;
    let said = hello(Some("www.example.com"), false);
    client.write_all(&said).await.unwrap();
    let mut server = upstream.accept().await;
    assert_eq!(server.take(said.len()).await, said);
    // But here the mock's address is a provider's, and this is another port of it.
    assert_eq!(opening.unmetered("127.0.0.1", "port"), 1);
}

#[tokio::test]
async fn a_server_that_speaks_first_is_not_waited_for_and_few_bytes_pass_too() {
    let opening = Opening::new(&format!("{LOCAL}, handshake_timeout: 300ms"), "");
    let upstream = Upstream::bind().await;
    let (mut client, _) = ask(opening.addr(), &upstream.addr().to_string(), "").await;
    let mut server = upstream.accept().await;
    server.send("220 hi\r\n").await;
    let mut heard = [0; 8];
    client.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"220 hi\r\n");
    client.write_all(b"HELO").await.unwrap();
    assert_eq!(server.take(4).await, b"HELO");
    // What could be the beginning of something that is read, and is not.
    let (mut client, _) = ask(opening.addr(), &upstream.addr().to_string(), "").await;
    let mut server = upstream.accept().await;
    client.write_all(b"GE").await.unwrap();
    assert_eq!(server.take(2).await, b"GE");
    server.send("and back").await;
    let mut heard = [0; 8];
    client.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"and back");
}

#[tokio::test]
async fn a_client_that_takes_its_time_to_begin_is_metered_all_the_same() {
    let patience = Duration::from_millis(300);
    let mine = Mine::new(&format!("{LOCAL}, handshake_timeout: 300ms")).await;
    let opening = &mine.opening;
    let target = format!("127.0.0.1:{}", mine.port);
    let (client, _) = ask(opening.addr(), &target, "").await;
    sleep(2 * patience).await;
    let says = opening.says("localhost", &["http/1.1"]);
    let shaken = says.over(client).await;
    shaken.expect("a certificate of ours");
    until("it to be counted", || opening.became("opened") == 1).await;
    assert_eq!(opening.became("passed"), 0);
}

#[tokio::test]
async fn a_handshake_that_leaves_open_for_whom_it_is_passes_nowhere() {
    let opening = Opening::new(&format!("{LOCAL}, handshake_timeout: 300ms"), "");
    let upstream = Upstream::bind().await;
    let whole = hello(Some(OPENAI), false);
    // Servers take longer ones than we read.
    let long = hello(Some(&"a".repeat(17_000)), false);
    for said in [&whole[..1], &whole[..40], &long] {
        let (mut client, _) = ask(opening.addr(), &upstream.addr().to_string(), "").await;
        let mut server = upstream.accept().await;
        client.write_all(said).await.unwrap();
        let mut rest = Vec::new();
        let read = timeout(PATIENCE, client.read_to_end(&mut rest)).await;
        let _broken = read.expect("it is held open");
        assert!(!server.more().await, "something passed");
    }
    until("them to be counted", || {
        opening.unmetered("other", "handshake_failed") == 3
    })
    .await;
    assert_eq!(opening.became("denied"), 3);
}

#[tokio::test]
async fn what_a_client_would_speak_with_a_provider_and_is_not_http_passes_only_where_others_do() {
    for (others, passed) in [("tunnel", 1), ("deny", 0)] {
        let mine = Mine::new(&format!("{LOCAL}, others: {others}")).await;
        let opening = &mine.opening;
        let target = format!("localhost:{}", mine.port);
        let (client, _) = ask(opening.addr(), &target, "").await;
        let says = opening.says("localhost", &["imap"]);
        assert!(says.over(client).await.is_err(), "it is the provider's own");
        until("it to be counted", || {
            opening.unmetered("localhost", "protocol") == 1
        })
        .await;
        until("it to have passed, or not", || {
            opening.became("passed") == passed
        })
        .await;
        assert_eq!(opening.unmetered("localhost", "handshake_failed"), 0);
    }
}

#[tokio::test]
async fn what_passes_to_a_provider_unread_takes_a_client_key_where_keys_are_asked_for() {
    let keys = Keys::new();
    let secret = keys.add("ci", |_| ());
    let shown = format!("proxy-authorization: Bearer {}\r\n", secret.expose());
    let mine = Mine::with(LOCAL, &keys.yaml("", "")).await;
    let opening = &mine.opening;
    let target = format!("localhost:{}", mine.port);
    for (headers, passed) in [("", 0), (&*shown, 1)] {
        let (client, answer) = ask(opening.addr(), &target, headers).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let says = opening.says("localhost", &["imap"]);
        assert!(says.over(client).await.is_err());
        let count = passed + 1;
        until("it to be counted", || {
            opening.unmetered("localhost", "protocol") == count
        })
        .await;
        assert_eq!(opening.became("passed"), passed, "{headers}");
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_at_all_is_let_go() {
    let opening = Opening::new(", handshake_timeout: 200ms", "");
    let (mut client, _) = ask(opening.addr(), "api.openai.com:443", "").await;
    client.write_all(&[22]).await.unwrap();
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, client.read_to_end(&mut rest)).await;
    let _broken = read.expect("it is held open");
    until("it to be counted", || {
        opening.unmetered(OPENAI, "handshake_failed") == 1
    })
    .await;
}

#[tokio::test]
async fn a_client_that_hides_whom_it_means_fails_or_passes_unread_and_is_counted() {
    let opening = Opening::new("", "");
    let (mut client, _) = ask(opening.addr(), "api.openai.com:443", "").await;
    let said = hello(Some("front.example"), true);
    client.write_all(&said).await.unwrap();
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, client.read_to_end(&mut rest)).await;
    let _broken = read.expect("it is held open");
    until("it to be counted", || {
        opening.unmetered(OPENAI, "sealed") == 1
    })
    .await;
    // One that only looks so, or whose front is the provider itself, is served as any other.
    let (mut client, _) = ask(opening.addr(), "api.openai.com:443", "").await;
    client.write_all(&hello(Some(OPENAI), true)).await.unwrap();
    client.shutdown().await.unwrap();
    until("it to be counted", || {
        opening.unmetered(OPENAI, "handshake_failed") == 1
    })
    .await;
    assert_eq!(opening.unmetered(OPENAI, "sealed"), 1);
    drop(opening);
    let upstream = Upstream::bind().await;
    let port = upstream.addr().port();
    let yaml = format!("providers: {{mine: {{base_url: 'https://localhost:{port}'}}}}");
    let opening = Opening::new(", on_refused: tunnel", &yaml);
    let (mut client, _) = ask(opening.addr(), &format!("localhost:{port}"), "").await;
    client.write_all(&said).await.unwrap();
    let mut server = upstream.accept().await;
    assert_eq!(server.take(said.len()).await, said);
    assert_eq!(opening.unmetered("localhost", "sealed"), 1);
}

#[tokio::test]
async fn a_client_that_names_nobody_in_tls_gets_the_certificate_of_the_host_that_it_asked_for() {
    let opening = Opening::new("", "");
    let (socket, _) = ask(opening.addr(), "api.openai.com:443", "").await;
    let says = opening.says(OPENAI, &["http/1.1"]);
    let mut tls = says.over_unnamed(socket).await.unwrap();
    let request = format!("GET /v1/models HTTP/1.1\r\nhost: {OPENAI}\r\n\r\n");
    tls.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    tls.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

/// How many names are made up.
const MANY: usize = 10_000;

#[tokio::test]
async fn ten_thousand_names_leave_no_more_behind_than_there_is_room_for() {
    let opening = Opening::new(", leaves: 64", "");
    // In TLS, on connections to one host.
    for number in 0..MANY {
        let said = hello(Some(&format!("n{number}.example")), false);
        let head = "CONNECT api.openai.com:443 HTTP/1.1\r\nhost: x\r\n\r\n".as_bytes();
        let mut client = TcpStream::connect(opening.addr()).await.unwrap();
        client.write_all(&[head, &said].concat()).await.unwrap();
        let mut rest = Vec::new();
        let _broken = client.read_to_end(&mut rest).await;
    }
    let many = u64::try_from(MANY).unwrap();
    until("all to be counted", || {
        opening.unmetered(OPENAI, "handshake_failed") == many
    })
    .await;
    let counts = || {
        let count = |begins: &str| opening.count(begins);
        [
            count("tollgate_held{what=\"certificates\"}"),
            count("tollgate_certificates_total{event=\"made\"}"),
            count("tollgate_over_bound_total{what=\"certificates\"}"),
        ]
    };
    assert_eq!(counts(), [1, 1, 0], "for nobody but the host");
    // By name, each a provider's.
    for number in 0..MANY {
        let target = format!("n{number}.openai.azure.com:443");
        let (_socket, answer) = ask(opening.addr(), &target, "").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(counts(), [64, many + 1, many + 1 - 64]);
    // Names that metrics tell are bounded, too.
    let families = opening.sandbox.app.registry().gather();
    let text = prometheus::TextEncoder::new()
        .encode_to_string(&families)
        .unwrap();
    let told = text.lines().filter(|line| line.contains("{host="));
    assert!(told.count() < 10);
    let entry = opening.entry(OPENAI, &["h2"]).await;
    let url = format!("https://{OPENAI}/v1/models");
    let answer = client::call_h2_at(entry.addr, Method::GET, &url, &[], "").await;
    assert_eq!(answer.status, 200, "who comes after them is served");
}

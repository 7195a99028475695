//! Certificates: clients that refuse ours, and client keys that are shown to a proxy.

use http::Method;
use rustls::pki_types::CertificateDer;
use tokio::io::AsyncWriteExt as _;

use super::{CHAT, Ca, OPENAI, Opening, chat, configured};
use crate::{
    proxy::keys::Keys,
    support::{
        Sandbox, client,
        entry::{Entry, Says, ask},
        front::Front,
        sandbox::until,
    },
};

fn says(name: &str, roots: Vec<CertificateDer<'static>>) -> Says {
    Says {
        name: name.to_owned(),
        roots,
        alpn: Vec::new(),
    }
}

#[tokio::test]
async fn a_client_that_refuses_our_certificate_is_counted_and_fails() {
    let opening = Opening::new("", "");
    for count in 1..3 {
        let (socket, _) = ask(opening.addr(), "api.openai.com:443", "").await;
        let refused = says(OPENAI, Ca::new().roots()).over(socket).await;
        assert!(refused.is_err());
        until("it to be counted", || {
            opening.unmetered(OPENAI, "refused") == count
        })
        .await;
    }
    assert_eq!(opening.unmetered(OPENAI, "pinned"), 0);
}

#[tokio::test]
async fn a_client_that_refused_our_certificate_passes_unread_the_next_time_and_others_do_not() {
    let (ca, theirs) = (Ca::new(), Ca::new());
    let mock = tollgate::mock::Mock::start(tollgate::mock::Options::default()).unwrap();
    let behind = mock.url()["http://".len()..].parse().unwrap();
    let leaf = theirs.authority.leaf("localhost", super::now()).unwrap();
    let front = Front::before(behind, leaf.key).await;
    let target = format!("localhost:{}", front.addr.port());
    let yaml = format!(
        "providers: {{mine: {{base_url: 'https://{target}'}}}}\n\
         upstream: {{proxy: none, ca_file: '{}'}}",
        theirs.path(tollgate::net::authority::ROOTS)
    );
    let sandbox = Sandbox::new(&configured(&ca, ", on_refused: tunnel", &yaml));
    let opening = Opening { sandbox, ca };
    // It pins the provider's own authority.
    let pinned = says("localhost", theirs.roots());
    let (socket, _) = ask(opening.addr(), &target, "").await;
    assert!(pinned.over(socket).await.is_err());
    until("it to be counted", || {
        opening.unmetered("localhost", "refused") == 1
    })
    .await;
    let entry = Entry::new(opening.addr(), &target, "", Some(pinned)).await;
    let headers = [("host", &*target), ("content-type", "application/json")];
    let body = chat().to_string();
    let answer = client::call(entry.addr, Method::POST, CHAT, &headers, body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("x-tollgate-request-id"),
        "",
        "nobody has read it"
    );
    assert_eq!(opening.unmetered("localhost", "pinned"), 1);
    assert_eq!(opening.sandbox.spans_now().len(), 0);
}

#[tokio::test]
async fn a_client_that_looks_at_the_certificate_and_leaves_has_refused_it_unless_it_made_calls() {
    for made_calls in [false, true] {
        let opening = Opening::new(", on_refused: tunnel", "");
        let all = || opening.says(OPENAI, &["http/1.1"]);
        if made_calls {
            let entry = opening.entry(OPENAI, &["http/1.1"]).await;
            let headers = [("host", OPENAI)];
            let answer = client::call(entry.addr, Method::GET, "/v1/models", &headers, "").await;
            assert_eq!(answer.status, 200);
        }
        let (socket, _) = ask(opening.addr(), "api.openai.com:443", "").await;
        let mut tls = all().over(socket).await.unwrap();
        tls.shutdown().await.unwrap();
        drop(tls);
        until("it to be counted", || {
            opening.unmetered(OPENAI, "left") == 1
        })
        .await;
        let held = "tollgate_held{what=\"certificate_refusers\"}";
        until("it to be remembered, or not", || {
            opening.count(held) == u64::from(!made_calls)
        })
        .await;
    }
}

#[tokio::test]
async fn one_program_s_refusal_does_not_open_a_way_for_those_that_made_calls_from_its_address() {
    let opening = Opening::new(", on_refused: tunnel", "");
    let entry = opening.entry(OPENAI, &["http/1.1"]).await;
    let headers = [("host", OPENAI)];
    let get = || client::call(entry.addr, Method::GET, "/v1/models", &headers, "");
    assert_eq!(get().await.status, 200);
    let (socket, _) = ask(opening.addr(), "api.openai.com:443", "").await;
    let refused = says(OPENAI, Ca::new().roots()).over(socket).await;
    assert!(refused.is_err());
    until("it to be counted", || {
        opening.unmetered(OPENAI, "refused") == 1
    })
    .await;
    let answer = get().await;
    assert_eq!(answer.status, 200);
    opening.sandbox.span(&answer).await;
    assert_eq!(opening.unmetered(OPENAI, "pinned"), 0);
    let held = "tollgate_held{what=\"certificate_refusers\"}";
    assert_eq!(opening.count(held), 0);
}

#[tokio::test]
async fn a_client_key_is_shown_to_the_proxy_or_with_each_call() {
    let keys = Keys::new();
    let secret = keys.add("ci", |_| ());
    let opening = Opening::new(", allow_private: [127.0.0.0/8]", &keys.yaml("", ""));
    let upstream = crate::support::Upstream::bind().await;
    let elsewhere = upstream.addr().to_string();
    // A host that is no provider's: at once.
    let (_socket, answer) = ask(opening.addr(), &elsewhere, "").await;
    assert!(answer.starts_with("HTTP/1.1 407"), "{answer}");
    assert!(answer.contains("proxy-authenticate: Basic"), "{answer}");
    let bearer = format!("proxy-authorization: Bearer {}\r\n", secret.expose());
    let (_socket, answer) = ask(opening.addr(), &elsewhere, &bearer).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let forged =
        "proxy-authorization: Bearer tg_0000000000000000000000000000000000000000000000000\r\n";
    let (_socket, answer) = ask(opening.addr(), "api.openai.com:443", forged).await;
    assert!(answer.starts_with("HTTP/1.1 407"), "{answer}");
    // A provider's: each call, unless the connection has said who it is.
    for (on_connection, on_call, status) in [
        ("", "sk-own", 401),
        ("", secret.expose(), 401),
        (&*bearer, "sk-own", 200),
    ] {
        let told = Some(opening.says(OPENAI, &["http/1.1"]));
        let target = "api.openai.com:443";
        let entry = Entry::new(opening.addr(), target, on_connection, told).await;
        let authorization = format!("Bearer {on_call}");
        let headers = [
            ("host", OPENAI),
            ("content-type", "application/json"),
            ("authorization", &*authorization),
        ];
        let body = chat().to_string();
        let answer = client::call(entry.addr, Method::POST, CHAT, &headers, body).await;
        assert_eq!(answer.status, status, "{on_connection} {answer:?}");
        if status == 200 {
            let span = opening.sandbox.span(&answer).await;
            assert_eq!(span.get("tollgate.key"), "ci");
            let sent = opening.sandbox.mock.requests().remove(0);
            assert_eq!(sent.headers["authorization"], "Bearer sk-own");
        }
    }
    assert_eq!(opening.sandbox.mock.count(), 1);
}

#[tokio::test]
async fn certificates_for_many_hosts_are_made_and_only_some_are_kept() {
    let opening = Opening::new(", leaves: 8", "");
    for round in 0..40 {
        let host = format!("customer-{round}.openai.azure.com");
        let (socket, _) = ask(opening.addr(), &format!("{host}:443"), "").await;
        let tls = says(&host, opening.ca.roots()).over(socket).await;
        tls.unwrap_or_else(|error| panic!("{host}: {error}"));
    }
    until("all to be counted", || opening.became("opened") == 40).await;
}

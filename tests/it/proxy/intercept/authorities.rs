//! Authorities that have ended, are of somebody else, may not vouch for a host, or change while we run.

use std::{fs, time::Duration};

use http::Method;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tollgate::net::authority::{Authority, Before, ROOTS, Terms};

use super::{CHAT, Ca, OPENAI, Opening, chat, configured};
use crate::support::{
    Sandbox, Upstream, client,
    entry::{Entry, Says, ask},
    sandbox::until,
};

const ISSUER: &str = "issuer.pem";

/// One that was made so long ago, for these hosts alone, or for any.
fn made(ago: Duration, hosts: &[&str]) -> Ca {
    let directory = tempfile::tempdir().unwrap();
    let terms = match hosts {
        [] => Terms::default(),
        hosts => Terms::of(hosts.iter().copied()).unwrap(),
    };
    let then = super::now() - ago;
    let authority = Authority::create(directory.path(), &terms, &[], then).unwrap();
    Ca {
        directory,
        authority,
    }
}

fn opening(ca: Ca, intercept: &str, yaml: &str) -> Opening {
    let sandbox = Sandbox::new(&configured(&ca, intercept, yaml));
    Opening { sandbox, ca }
}

const YEARS: Duration = Duration::from_hours(2 * 366 * 24);

#[tokio::test]
async fn a_host_that_the_authority_cannot_vouch_for_is_refused_before_there_is_a_connection() {
    for (ca, why) in [
        (made(YEARS, &[]), "ended at"),
        (
            made(Duration::ZERO, &["api.anthropic.com"]),
            "may not vouch",
        ),
    ] {
        let opening = opening(ca, "", "");
        let (_socket, answer) = ask(opening.addr(), "api.openai.com:443", "").await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert!(
            answer.contains("x-tollgate-blocked-by: intercept.ca_dir"),
            "{answer}"
        );
        let answer = client::call(
            opening.addr(),
            Method::CONNECT,
            "api.openai.com:443",
            &[("host", "api.openai.com:443")],
            "",
        )
        .await;
        assert!(answer.text().contains(why), "{}", answer.text());
        assert!(answer.text().contains("tollgate ca"), "{}", answer.text());
        assert_eq!(opening.unmetered(OPENAI, "unvouched"), 2);
        assert_eq!(opening.became("denied"), 2);
        // What needs no certificate is served as ever.
        let target = opening.sandbox.mock.url()["http://".len()..].to_owned();
        let entry = Entry::new(opening.addr(), &target, "", None).await;
        let headers = [("host", &*target), ("content-type", "application/json")];
        let body = chat().to_string();
        let answer = client::call(entry.addr, Method::POST, CHAT, &headers, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn a_host_that_the_authority_cannot_vouch_for_passes_unread_where_refusals_do() {
    let upstream = Upstream::bind().await;
    let port = upstream.addr().port();
    let yaml = format!("providers: {{mine: {{base_url: 'https://localhost:{port}'}}}}");
    let opening = opening(made(YEARS, &[]), ", on_refused: tunnel", &yaml);
    let (mut client, answer) = ask(opening.addr(), &format!("localhost:{port}"), "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    client.write_all(b"\x16\x03\x01").await.unwrap();
    let mut server = upstream.accept().await;
    assert_eq!(server.take(3).await, b"\x16\x03\x01");
    assert_eq!(opening.unmetered("localhost", "unvouched"), 1);
}

#[test]
fn an_authority_that_is_of_somebody_else_or_of_nobody_is_told_at_the_start() {
    let (ours, theirs) = (Ca::new(), Ca::new());
    let read = |ca: &Ca, file: &str| fs::read_to_string(ca.path(file)).unwrap();
    let certificate = |ca: &Ca| {
        let text = read(ca, ISSUER);
        let end = text.find("-----BEGIN PRIVATE KEY").unwrap();
        (text[..end].to_owned(), text[end..].to_owned())
    };
    let ((own, _), (_, foreign)) = (certificate(&ours), certificate(&theirs));
    let (issuer, root) = (read(&ours, ISSUER), read(&ours, ROOTS));
    for (issuer, root, expected) in [
        (issuer.clone(), read(&theirs, ROOTS), "vouches for"),
        ([own.clone(), foreign].concat(), root.clone(), "is not that"),
        (own, root.clone(), "no key"),
        (issuer, "nothing".to_owned(), "ca.pem"),
        (root.clone(), root, "no key"),
        (String::new(), String::new(), "issuer.pem"),
    ] {
        fs::write(ours.path(ISSUER), issuer).unwrap();
        fs::write(ours.path(ROOTS), root).unwrap();
        let error = Sandbox::refused(&configured(&ours, "", "")).to_string();
        assert!(error.starts_with("intercept.ca_dir: "), "{error}");
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("PRIVATE"), "{error}");
    }
    let nowhere = Ca {
        directory: TempDir::new().unwrap(),
        authority: ours.authority,
    };
    let error = Sandbox::refused(&configured(&nowhere, "", "")).to_string();
    assert!(error.contains("tollgate ca create"), "{error}");
}

/// The client trusts this alone.
async fn is_served(
    opening: &Opening,
    roots: Vec<rustls::pki_types::CertificateDer<'static>>,
) -> bool {
    let (socket, answer) = ask(opening.addr(), "api.openai.com:443", "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let says = Says {
        name: OPENAI.to_owned(),
        roots,
        alpn: Vec::new(),
    };
    let Ok(mut tls) = says.over(socket).await else {
        return false;
    };
    let request = format!("GET /v1/models HTTP/1.1\r\nhost: {OPENAI}\r\n\r\n");
    tls.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    tls.read_exact(&mut answer).await.unwrap();
    answer == *b"HTTP/1.1 200"
}

#[tokio::test]
async fn an_authority_that_is_replaced_is_put_in_force_and_one_that_is_broken_is_not() {
    let opening = opening(Ca::new(), ", on_refused: tunnel", "");
    let app = &opening.sandbox.app;
    let events = |event: &str| {
        opening.count(&format!(
            "tollgate_authority_files_total{{event=\"{event}\"}}"
        ))
    };
    app.tend_authority();
    let terms = Terms {
        before: Before::Keep,
        ..Terms::default()
    };
    let directory = opening.ca.directory.path();
    let next = Authority::create(directory, &terms, &[], super::now()).unwrap();
    let new_root = next.roots()[..1].to_vec();
    // Whoever trusts the next one alone refuses what is served until then.
    assert!(!is_served(&opening, new_root.clone()).await);
    until("that to be seen", || {
        opening.unmetered(OPENAI, "refused") == 1
    })
    .await;
    assert_eq!(
        opening.count("tollgate_held{what=\"certificate_refusers\"}"),
        1
    );
    app.tend_authority();
    assert_eq!((events("used"), events("refused")), (1, 0));
    assert_eq!(
        opening.count("tollgate_held{what=\"certificate_refusers\"}"),
        0
    );
    assert!(is_served(&opening, new_root.clone()).await);
    // One whose key is taken away is in nobody's hands but ours.
    Authority::forget(directory).unwrap();
    app.tend_authority();
    assert_eq!((events("used"), events("refused")), (1, 0));
    fs::write(opening.ca.path(ISSUER), "nothing").unwrap();
    app.tend_authority();
    app.tend_authority();
    assert_eq!((events("used"), events("refused")), (1, 1));
    assert!(is_served(&opening, new_root).await);
    let ends = next.about().ends.as_secs();
    assert_eq!(opening.count("tollgate_authority_end_time_seconds "), ends);
}

//! Where a client can put its key, however it is written there; and that it goes nowhere else.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{super::chat, AZURE, CHAT, FLASH, HAIKU, Keys, OURS, claude, gemini, seen};
use crate::support::Sandbox;

/// A way to show a client key.
struct Way {
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Value,
    /// The line in which the provider gets its key.
    line: &'static str,
}

/// Every place where a client can put a key: the header and the path of ours, and where providers
/// have theirs.
fn ways(secret: &str) -> Vec<Way> {
    const BEARER: &str = "authorization: Bearer sk-ours";
    const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=AK/20260101/us-east-1/bedrock/aws4_request, \
         SignedHeaders=host, Signature=0";
    let bearer = || format!("Bearer {secret}");
    let basic = || format!("Basic {}", STANDARD.encode(format!("{secret}:")));
    let own = || ("x-tollgate-key", secret.to_owned());
    let auth = |value: &str| ("authorization", value.to_owned());
    let in_path = format!("/~agent=a;key={secret}{CHAT}");
    let converse = json!({"messages": [{"role": "user", "content": [{"text": "hello"}]}]});
    let way = |target: &str, headers: &[(&'static str, String)], body: Value, line| Way {
        target: target.to_owned(),
        headers: headers.to_vec(),
        body,
        line,
    };
    let google = "x-goog-api-key: sk-ours";
    let in_query = format!("{FLASH}?key={secret}&alt=json");
    // As clients write it that encode more than they must.
    let codes: Vec<String> = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let encoded = codes.concat();
    let underscore = secret.replacen('_', "%5F", 1);
    let in_queries = [
        format!("{FLASH}?k%65y={underscore}&alt=json"),
        format!("{FLASH}?key={encoded}"),
        format!("{FLASH}?api_key={encoded}&alt=json"),
    ];
    let in_paths = [
        format!("/~agent=a;key={encoded}{CHAT}"),
        format!("/%7Ek%65y={underscore};agent=a{CHAT}"),
        format!("/%7ekey%3D{encoded}{CHAT}"),
    ];
    let theirs = format!("{FLASH}?key=AIza-mine");
    let token = ("x-amz-security-token", "sk-mine".to_owned());
    let encoded = in_queries
        .iter()
        .map(|target| way(target, &[], gemini(), google));
    let encoded = encoded.chain(in_paths.iter().map(|path| way(path, &[], chat(), BEARER)));
    let encoded: Vec<Way> = encoded.collect();
    let plain = vec![
        way(CHAT, &[auth(&bearer())], chat(), BEARER),
        way(CHAT, &[auth(&basic())], chat(), BEARER),
        way(CHAT, &[own(), auth("Bearer sk-mine")], chat(), BEARER),
        way(&in_path, &[auth("Bearer unused")], chat(), BEARER),
        way(&in_path, &[], chat(), BEARER),
        way(
            AZURE,
            &[("api-key", secret.to_owned())],
            chat(),
            "api-key: sk-ours",
        ),
        way(
            "/v1/messages",
            &[("x-api-key", secret.to_owned())],
            claude(),
            "x-api-key: sk-ours",
        ),
        way(
            "/v1/messages",
            &[auth(&bearer())],
            claude(),
            "x-api-key: sk-ours",
        ),
        way(
            FLASH,
            &[("x-goog-api-key", secret.to_owned())],
            gemini(),
            google,
        ),
        way(&in_query, &[], gemini(), google),
        way(&theirs, &[own()], gemini(), google),
        way(HAIKU, &[own(), auth(SIGNED), token], converse, BEARER),
    ];
    plain.into_iter().chain(encoded).collect()
}

#[tokio::test]
async fn a_key_lets_in_from_every_place_and_goes_nowhere_else() {
    let keys = Keys::new();
    let secret = keys.add("ci", |_| {});
    for way in ways(secret.expose()) {
        let Way {
            target,
            headers,
            body,
            line,
        } = way;
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let sandbox = Sandbox::new(&keys.yaml("", OURS));
        let answer = sandbox.post_with(&target, &headers, &body).await;
        assert_eq!(answer.status, 200, "{target} {headers:?} {answer:?}");
        let sent = seen(&sandbox.mock);
        let lower = sent.to_ascii_lowercase().replace("bearer", "Bearer");
        assert_eq!(lower.matches("sk-ours").count(), 1, "{sent}");
        assert!(lower.contains(&format!("\r\n{line}\r\n")), "{line}: {sent}");
        let span = sandbox.span(&answer).await;
        let all = format!("{sent}{:?}{:#}", answer.headers, span.0);
        for gone in ["tg_", "tg%5", "%74%67", "-mine", "unused", "AWS4", "key="] {
            assert!(!all.contains(gone), "{gone}: {all}");
        }
        assert_eq!(span.get("tollgate.key"), "ci");
        assert_eq!(span.get("tollgate.user"), "42");
        assert_eq!(*span.get("tollgate.edits"), json!(["request.credential"]));
    }
}

#[tokio::test]
async fn a_key_in_no_place_for_one_is_not_sent_on_however_it_is_encoded() {
    let keys = Keys::new();
    let secret = keys.add("ci", |_| {});
    let (key, encoded) = (secret.expose(), secret.expose().replacen('_', "%5f", 1));
    let sandbox = Sandbox::new(&keys.yaml(", trusted: [127.0.0.0/8]", OURS));
    let own = [("x-tollgate-key", key)];
    for target in [
        format!("{CHAT}?session={key}"),
        format!("{CHAT}?session={encoded}"),
        format!("{CHAT}/{encoded}"),
        // One code that is no text does not hide it.
        format!("{CHAT}?session={encoded}&x=%ff"),
    ] {
        // Whoever calls from a trusted address may keep theirs, but has one all the same.
        for headers in [&own[..], &[]] {
            let answer = sandbox.post_with(&target, headers, &chat()).await;
            assert_eq!(answer.status, 400, "{target} {answer:?}");
            let says = answer.text().contains("its path or query");
            assert!(says && !answer.text().contains(key), "{answer:?}");
        }
    }
    assert!(sandbox.mock.requests().is_empty());
}

//! Keys for a web identity: a token in a file, as Kubernetes mounts it, is changed for them at AWS's
//! security token service (`AssumeRoleWithWebIdentity`).

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};

use super::{Keys, profile};
use crate::{
    base::{clock::Timestamp, secret::Secret},
    net::{body::Outgoing, connect::Origin, upstream::Upstream},
};

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Who is to be acted for, and what proves that we may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebIdentity {
    /// The ARN of the role.
    pub role: String,
    /// The file that the token is in; read again each time.
    pub token_file: PathBuf,
    /// How AWS's logs name us.
    pub session: String,
    /// Where the service is: scheme and host.
    pub service: Uri,
}

impl WebIdentity {
    /// Changes the token for keys; until when they hold.
    ///
    /// # Errors
    /// What went wrong, in words, without any secret.
    pub(super) async fn ask(&self, upstream: &Arc<Upstream>) -> Result<(Keys, Timestamp), String> {
        let file = self.token_file.display();
        let token = profile::text(&self.token_file).map_err(|error| format!("{file}: {error}"))?;
        let asked = tokio::time::timeout(PATIENCE, self.exchange(upstream, token.trim()));
        let answer = asked
            .await
            .map_err(|_elapsed| format!("{} did not answer within {PATIENCE:?}", self.service))??;
        keys(&answer).ok_or_else(|| format!("{} answered without keys", self.service))
    }

    async fn exchange(&self, upstream: &Arc<Upstream>, token: &str) -> Result<String, String> {
        let wrong = |what: &dyn std::fmt::Display| format!("{}: {what}", self.service);
        let origin = Origin::of(&self.service).ok_or_else(|| wrong(&"is no address"))?;
        let body = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("DurationSeconds", "3600"),
            ("RoleArn", &self.role),
            ("RoleSessionName", &self.session),
            ("WebIdentityToken", token),
        ]
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .join("&");
        let request = Request::builder()
            .method(Method::POST)
            .uri("/")
            .header(header::HOST, origin.host_header())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "text/xml")
            .body(Outgoing::whole(Bytes::from(body)))
            .map_err(|error| wrong(&error))?;
        let answer = upstream.send(&origin, request, || {}).await;
        let answer = answer.map_err(|error| wrong(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| wrong(&error))?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        match status {
            StatusCode::OK => Ok(text),
            _ => Err(wrong(&format!(
                "{status} {}: {}",
                element(&text, "Code").unwrap_or_default(),
                element(&text, "Message").unwrap_or_default()
            ))),
        }
    }
}

/// The keys in an answer, and until when they hold.
fn keys(answer: &str) -> Option<(Keys, Timestamp)> {
    let expires: jiff::Timestamp = element(answer, "Expiration")?.parse().ok()?;
    let expires = u64::try_from(expires.as_second()).ok()?;
    let keys = Keys {
        id: element(answer, "AccessKeyId")?.to_owned(),
        secret: Secret::new(element(answer, "SecretAccessKey")?),
        token: Some(Secret::new(element(answer, "SessionToken")?)),
    };
    Some((keys, Timestamp::from_secs(expires)))
}

/// What an error of AWS's is called, if `answer` is one in XML: `AccessDenied`.
pub(in crate::net) fn code(answer: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(answer).ok()?;
    text.trim_start().strip_prefix('<')?;
    element(text, "Code")
}

/// The text of an element of XML that has no attributes; none of those asked for has any markup.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim())
}

/// As forms have it.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_the_services_answer() {
        let answer = "<AssumeRoleWithWebIdentityResponse xmlns=\"x\"><AssumeRoleWithWebIdentityResult>\
            <Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s/1=</SecretAccessKey>\
            <SessionToken>t</SessionToken><Expiration>2026-11-25T20:00:00Z</Expiration></Credentials>";
        let (keys, expires) = keys(answer).unwrap();
        assert_eq!(keys.id, "ASIA1");
        assert_eq!(keys.secret.expose(), "s/1=");
        assert_eq!(expires.as_secs(), 1_795_636_800);
        assert!(super::keys("<AccessKeyId>ASIA1</AccessKeyId>").is_none());
        let refusal =
            b"<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>m</Message></Error>";
        assert_eq!(code(refusal), Some("SlowDown"));
        assert_eq!(code(b"say <Code>no</Code>"), None);
        assert_eq!(
            encoded("arn:aws:iam::1:role/r"),
            "arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr"
        );
    }
}

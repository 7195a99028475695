//! AWS around the models: signatures are verified against the host that was asked, and tokens are
//! changed for keys (`AssumeRoleWithWebIdentity`).

use http::{HeaderMap, Method, StatusCode, header::AUTHORIZATION, uri::PathAndQuery};

use super::{
    problem::Problem,
    reply::{Payload, Reply},
};
use crate::{
    base::{clock::Timestamp, secret::Secret},
    net::aws::{Keys, verify},
};

/// What signs with the id [`super::SIGNING_ID`].
const SECRET: &str = "mock-secret";
/// The keys that a token is changed for.
const SESSION: (&str, &str, &str) = ("ASIAMOCK", "mock-session-secret", "mock-session-token");

fn known(id: &str) -> Option<Keys> {
    let (secret, token) = match id {
        super::SIGNING_ID => (SECRET, None),
        id if id == SESSION.0 => (SESSION.1, Some(SESSION.2)),
        _ => return None,
    };
    Some(Keys {
        id: id.to_owned(),
        secret: Secret::new(secret),
        token: token.map(Secret::new),
    })
}

/// Refuses a request whose signature does not hold, as AWS does.
pub(super) fn check(
    method: &Method,
    target: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), Problem> {
    let named = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    if !named.is_some_and(|value| value.starts_with("AWS4-")) {
        return Ok(());
    }
    let target: PathAndQuery = target
        .parse()
        .map_err(|_invalid| Problem::invalid("no target"))?;
    verify((method, &target), headers, body, known).map_err(|what| {
        let code = if what.contains("token") {
            "UnrecognizedClientException"
        } else {
            "InvalidSignatureException"
        };
        Problem::new(StatusCode::FORBIDDEN, what).code(code)
    })
}

/// Whether a token is to be changed for keys.
pub(super) fn is_exchange(target: &str, body: &[u8]) -> bool {
    let asks = memchr::memmem::find(body, b"Action=AssumeRoleWithWebIdentity").is_some();
    target == "/" && asks
}

/// Keys that hold for an hour, for any token that is there at all.
pub(super) fn exchange(body: &[u8], now: u64) -> Result<Reply, Problem> {
    let text = String::from_utf8_lossy(body);
    let mut pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    let token = pairs.find(|(name, _)| *name == "WebIdentityToken");
    if token.is_none_or(|(_, token)| token.is_empty()) {
        return Err(Problem::invalid(
            "The ID Token provided is not a valid JWT.",
        ));
    }
    let (id, secret, token) = SESSION;
    let expires = Timestamp::from_secs(now.saturating_add(3600));
    let xml = format!(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
         <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
         <SessionToken>{token}</SessionToken><Expiration>{expires}</Expiration></Credentials>\
         </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    );
    Ok(Reply::ok(Payload::Prepared {
        frames: [xml.into()].into(),
        content_type: "text/xml",
    }))
}

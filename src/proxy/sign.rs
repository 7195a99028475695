//! Signs a request again that a client has signed for AWS: the signature names the host, which is
//! another one behind Tollgate, and holds for no byte that is changed.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, Request,
    header::{AUTHORIZATION, HOST},
    request::Parts,
};

use super::{exchange::Exchange, peek::Bounds};
use crate::{
    call::refusal::{Reason, Refusal},
    net::aws::{self, Keys, Scope},
};

/// The largest body that is signed, in bytes: more than Bedrock takes. The whole of it must be there
/// first, since AWS takes unsigned bodies at few other services.
const MAX_BODY: u64 = 32 * 1024 * 1024;

/// How a request will be signed.
pub(super) struct Signing {
    keys: Keys,
    scope: Scope,
    /// The hash of the body, once that is known.
    body: String,
}

/// Sees to it that a request is signed again, and takes the client's signature off; unless it passes
/// as it is, for it is not signed, or for the very host that it goes to.
///
/// # Errors
/// It is signed for another host, and cannot be signed again.
pub(super) fn again(exchange: &mut Exchange, parts: &mut Parts) -> Result<(), Refusal> {
    let Some(scope) = Scope::of(&parts.headers) else {
        return Ok(());
    };
    let to = &exchange.route.to;
    if parts.headers.get(HOST) == Some(to.host_header()) {
        return Ok(());
    }
    let Some(keyring) = to.keyring.clone() else {
        return if is_aws(&to.server_address) {
            Err(unsigned(exchange))
        } else {
            // Whoever stands before AWS may not look at it.
            Ok(())
        };
    };
    let now = exchange.proxy.clock.wall();
    let Some(keys) = keyring.keys(now) else {
        let name = &to.provider.name;
        let message = format!(
            "Tollgate has no credentials now that it could sign this request with \
             (providers.{name}.sign). See its log."
        );
        return Err(Refusal::new(Reason::Overload, "", message));
    };
    let region = region(exchange, &scope.region)?;
    for name in [
        AUTHORIZATION,
        HeaderName::from_static("x-amz-security-token"),
    ] {
        parts.headers.remove(name);
    }
    exchange.edits.push("request.signature");
    exchange.signing = Some(Box::new(Signing {
        keys,
        scope: Scope { region, ..scope },
        body: String::new(),
    }));
    Ok(())
}

/// The region to sign for. A provider that is the same in all of them is asked in the client's.
fn region(exchange: &mut Exchange, asked: &str) -> Result<String, Refusal> {
    let to = &exchange.route.to;
    let Some(own) = region_in(&to.server_address) else {
        return Ok(asked.to_owned());
    };
    if own == asked {
        return Ok(asked.to_owned());
    }
    let host = to.server_address.replacen(own, asked, 1);
    if to.provider.is_regional
        && region_in(&host) == Some(asked)
        && let Some(there) = to.at(&host)
    {
        exchange.route.to = Arc::new(there);
        return Ok(asked.to_owned());
    }
    let name = &to.provider.name;
    let message = format!(
        "This request is signed for the region {asked}, and Tollgate sends it to {own} \
         (providers.{name}.base_url). Make both the same."
    );
    Err(Refusal::new(Reason::BadRequest, "", message))
}

/// The region in a host's name: `eu-west-1`, `us-gov-west-1`.
fn region_in(host: &str) -> Option<&str> {
    host.split('.').find(|label| {
        let mut parts = label.split('-');
        let first = parts.next().unwrap_or_default();
        let last = parts.next_back().unwrap_or_default();
        let letters = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_lowercase());
        let mut between = parts.peekable();
        first.len() == 2
            && letters(first)
            && between.peek().is_some()
            && between.all(letters)
            && !last.is_empty()
            && last.bytes().all(|c| c.is_ascii_digit())
    })
}

fn is_aws(host: &str) -> bool {
    [
        ".amazonaws.com",
        ".amazonaws.com.cn",
        ".api.aws",
        ".amazonaws.eu",
    ]
    .iter()
    .any(|end| host.ends_with(end))
}

/// What can be done about a signature that cannot hold.
fn unsigned(exchange: &Exchange) -> Refusal {
    let name = &exchange.route.to.provider.name;
    let message = format!(
        "This request is signed (AWS Signature Version 4) for Tollgate's own host, which AWS would \
         refuse. Either let Tollgate sign with its own credentials (providers.{name}.sign), or use a \
         Bedrock API key (AWS_BEARER_TOKEN_BEDROCK; AWS's own SDKs send it only over TLS), or use \
         Tollgate as a forward proxy."
    );
    Refusal::new(Reason::BadRequest, "", message)
}

/// How much of a body is read before it is sent.
pub(super) fn bounds(exchange: &Exchange) -> Bounds {
    let usual = exchange.live.bounds;
    match exchange.signing {
        Some(_) => Bounds {
            each: usual.each.max(MAX_BODY),
            ..usual
        },
        None => usual,
    }
}

/// The body is too large to be signed, or there is no room for it.
pub(super) fn too_large() -> Refusal {
    let message = format!(
        "Tollgate signs bodies of up to {} MiB, and only as long as there is room to hold them \
         (limits.peek_total).",
        MAX_BODY / 1024 / 1024
    );
    Refusal::new(Reason::BadRequest, "", message)
}

impl Signing {
    /// For this body, which must not change any more.
    pub(super) fn over(&mut self, body: &[u8]) {
        self.body = aws::hash(body);
    }

    /// Signs the request, which has all its other headers.
    pub(super) fn sign<B>(&self, request: &mut Request<B>, exchange: &Exchange) {
        let now = exchange.proxy.clock.wall();
        let mut headers: HeaderMap = std::mem::take(request.headers_mut());
        if let Some(target) = request.uri().path_and_query() {
            let head = (request.method(), target);
            let by = (&self.keys, &self.scope);
            aws::sign(head, &mut headers, &self.body, by, now);
        }
        *request.headers_mut() = headers;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_name_tells_its_region() {
        for (host, region) in [
            ("bedrock-runtime.eu-west-1.amazonaws.com", Some("eu-west-1")),
            (
                "bedrock-runtime.us-gov-west-1.amazonaws.com",
                Some("us-gov-west-1"),
            ),
            ("bedrock-mantle.us-east-2.api.aws", Some("us-east-2")),
            (
                "vpce-0a-1b.bedrock-runtime.us-east-1.vpce.amazonaws.com",
                Some("us-east-1"),
            ),
            ("127.0.0.1", None),
            ("llm-gw-1.example.com", None),
            ("", None),
        ] {
            assert_eq!(region_in(host), region, "{host}");
        }
        assert!(is_aws("bedrock-runtime.eu-west-1.amazonaws.com") && !is_aws("127.0.0.1"));
    }
}

//! Protocol upgrades (WebSocket and others): after the provider's 101, bytes are copied both ways
//! untouched until one side ends.

use http::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::{body::ResponseBody, exchange::Exchange, headers};
use crate::{
    call::{
        facts::{Operation, ResponseFacts, Spends},
        outcome::{End, Kind},
    },
    net::upstream::UpstreamBody,
};

/// What an upgrade is, whatever its path: its traffic cannot be metered.
pub(super) const OPERATION: &Operation = &Operation {
    name: "upgrade",
    gen_ai: None,
    kind: Kind::Http,
    spends: Spends::Unknown,
};

/// Answers 101 and joins both sides in a task of its own, which ends with the exchange.
pub(super) fn join(
    client: OnUpgrade,
    response: Response<UpstreamBody>,
    mut exchange: Box<Exchange>,
) -> Response<ResponseBody> {
    let (mut parts, body) = response.into_parts();
    parts.headers = headers::to_client(parts.headers);
    let mut answer = Response::from_parts(parts, ResponseBody::ours(bytes::Bytes::new()));
    exchange.mark(&mut answer);
    let Some((provider, drive)) = body.into_upgrade() else {
        return answer;
    };
    let copying = async move {
        let (client, provider, ()) = tokio::join!(client, provider, drive);
        let end = match (client, provider) {
            (Ok(client), Ok(provider)) => {
                let (mut client, mut provider) = (TokioIo::new(client), TokioIo::new(provider));
                let copied = tokio::io::copy_bidirectional(&mut client, &mut provider).await;
                copied.map_or(End::Upstream, |_bytes| End::Complete)
            },
            (Err(_), _) => End::Client,
            (_, Err(_)) => End::Upstream,
        };
        exchange.finish(end, ResponseFacts::default());
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "ends with either side's connection"
    )]
    drop(tokio::spawn(copying));
    answer
}

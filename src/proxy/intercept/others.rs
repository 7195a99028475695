//! Plain HTTP to hosts that are no provider's, as clients send it to a forward proxy: passed on
//! unread, or refused.

use std::sync::Arc;

use http::{Method, Request, Response, Uri, Version, request::Parts, uri::Scheme};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::{
    super::{body::ResponseBody, headers, serve::Client},
    At, Denied, Intercept, Others, Unmetered,
    seen::Outcome,
};
use crate::{
    call::refusal::{Reason, Refusal},
    net::{body::Outgoing, connect::Origin, pace::Paced, upstream::UpstreamError},
};

/// Whether a request names a host, as to a forward proxy, that is no provider's.
pub(in crate::proxy) fn is_for_others(client: &Client, request: &Request<Incoming>) -> bool {
    // In HTTP/2 every target has an authority.
    let Some(host) = request
        .uri()
        .host()
        .filter(|_| request.version() < Version::HTTP_2)
    else {
        return false;
    };
    let proxy = &client.worker.proxy;
    let is_on = proxy.intercept.is_some() && *request.method() != Method::CONNECT;
    is_on
        && proxy
            .live
            .load()
            .by_host(host, request.uri().port_u16(), request.uri().path())
            .is_none()
}

/// Passes a request on.
pub(in crate::proxy) async fn pass_on(
    client: Arc<Client>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let passed = pass(&client, request).await;
    passed.unwrap_or_else(|refusal| client.worker.proxy.refuse_connection(&refusal))
}

async fn pass(
    client: &Client,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Refusal> {
    let proxy = &client.worker.proxy;
    let (Some(intercept), Some(upstream)) = (&proxy.intercept, &client.worker.others) else {
        let message = "Tollgate passes nothing on to hosts that are no provider's here.";
        return Err(Refusal::new(Reason::NotFound, "", message));
    };
    let (mut parts, body) = request.into_parts();
    let at = asked(&parts)?;
    let live = proxy.live.load_full();
    let caller = live.door.caller(&parts, client.peer, proxy.clock.wall());
    caller.map_err(|stranger| proxy.turn_away(stranger, client.peer))?;
    intercept.came_through(&parts.headers, &at)?;
    if intercept.config.others == Others::Deny {
        return Err(intercept.denied(&at, &Denied::Other));
    }
    let place = intercept.place()?;
    let origin = Origin::of(&parts.uri).ok_or_else(no_target)?;
    parts.headers = headers::to_upstream(parts.headers, origin.host_header());
    parts.uri = path(&parts.uri);
    parts.version = Version::HTTP_11;
    parts.extensions = http::Extensions::new();
    let body = Paced::new(body, live.bounds.wait).map_err(Into::into);
    let request = Request::from_parts(parts, Outgoing::Stream(Box::pin(body)));
    let answered = upstream.send(&origin, request, || {}).await;
    let mut response = answered.map_err(|error| failed(intercept, &at, &error))?;
    intercept.seen.became(Outcome::Passed);
    let is_providers = live.is_providers(at.host());
    let why = Unmetered::elsewhere(is_providers);
    intercept.seen.unmetered(at.host(), is_providers, why);
    *response.headers_mut() = headers::to_client(std::mem::take(response.headers_mut()));
    Ok(response.map(|body| ResponseBody::passed(body, place)))
}

/// The place that a request names.
fn asked(parts: &Parts) -> Result<At, Refusal> {
    let wrong = |message: &str| Err(Refusal::new(Reason::BadRequest, "", message.to_owned()));
    if parts.uri.scheme() != Some(&Scheme::HTTP) {
        return wrong(
            "To a host that is no provider's only http:// is passed on; for others use CONNECT.",
        );
    }
    if headers::is_upgrade(&parts.headers) {
        return wrong("To a host that is no provider's no upgrade is passed on: use CONNECT.");
    }
    let authority = parts.uri.authority();
    authority
        .and_then(|authority| At::of(authority, Some(80)))
        .ok_or_else(no_target)
}

fn no_target() -> Refusal {
    Refusal::new(
        Reason::BadRequest,
        "",
        "The request's target names no host.",
    )
}

/// The target without the host, as servers get it.
fn path(uri: &Uri) -> Uri {
    let path = uri.path_and_query().cloned();
    path.map_or_else(Uri::default, Uri::from)
}

fn failed(intercept: &Intercept, at: &At, error: &UpstreamError) -> Refusal {
    match error {
        UpstreamError::Connect(error) => intercept.unreachable(at, error),
        error => {
            let reason = if error.is_timeout() {
                Reason::Timeout
            } else {
                Reason::BadGateway
            };
            Refusal::new(reason, "", format!("{at} did not answer: {error}"))
        },
    }
}

//! The proxy on the way out.

use std::io;

use http::{Uri, uri::Scheme};
use hyper_util::client::{
    legacy::connect::{HttpConnector, proxy::Tunnel},
    proxy::matcher::{Intercept, Matcher},
};

use super::super::{
    BoxError,
    guarded::{self, Manner},
    hops::Hops,
    lookups::Crowded,
    reach::{Forbidden, Reach},
};

/// A way through it, which tells it where the connection comes from.
///
/// # Errors
/// Its address cannot be used.
pub(super) fn tunnel(
    proxy: &Intercept,
    tcp: HttpConnector,
    hops: &Hops,
) -> Result<Tunnel<HttpConnector>, BoxError> {
    let tunnel = Tunnel::new(http_only(proxy)?, tcp).with_headers(hops.headers());
    Ok(match proxy.basic_auth().cloned() {
        Some(authorization) => tunnel.with_auth(authorization),
        None => tunnel,
    })
}

/// Whether it may be asked for a host, which it resolves itself: what the name stands for
/// here is checked here; where it stands for nothing, the proxy knows what is within its reach.
pub(super) async fn may_be_asked_for(
    host: &str,
    port: u16,
    reach: &Reach,
    manner: Manner<'_>,
) -> Result<(), BoxError> {
    match guarded::addresses(host, port, reach, manner).await {
        // What was not looked up was not checked.
        Err(error) if error.is::<Forbidden>() || error.is::<Crowded>() => Err(error),
        _ => Ok(()),
    }
}

/// Its address, to which nothing but plain HTTP is spoken.
pub(super) fn http_only(proxy: &Intercept) -> Result<Uri, BoxError> {
    let address = proxy.uri();
    if address.scheme() == Some(&Scheme::HTTP) {
        return Ok(address.clone());
    }
    let scheme = address.scheme_str().unwrap_or("none");
    let message = format!("the egress proxy's scheme is {scheme}; only http is supported");
    Err(io::Error::new(io::ErrorKind::Unsupported, message).into())
}

/// A place with the port in it: a tunnel takes 443 where there is none, whatever the scheme.
pub(super) fn with_port(uri: &Uri) -> Result<Uri, http::Error> {
    let host = uri.host().unwrap_or_default();
    if uri.port().is_some() || uri.scheme() != Some(&Scheme::HTTP) {
        return Ok(uri.clone());
    }
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(format!("{host}:80").parse()?);
    Ok(Uri::from_parts(parts)?)
}

/// The egress proxy that Tollgate's own environment names (`HTTPS_PROXY`, `HTTP_PROXY`,
/// `ALL_PROXY`, `NO_PROXY`), except where it names Tollgate itself: `own_ports` on this machine.
pub(super) fn egress_from_env(own_ports: &[u16]) -> Option<Matcher> {
    let matcher = Matcher::from_env();
    let towards_itself = |scheme: &str| {
        // Any host will do: what matters is which proxy would be taken for it.
        let example = Uri::try_from(format!("{scheme}://provider.example/")).ok()?;
        let proxy = matcher.intercept(&example)?;
        let uri = proxy.uri();
        let local = matches!(
            uri.host(),
            Some("127.0.0.1" | "localhost" | "[::1]" | "::1")
        );
        Some(local && uri.port_u16().is_some_and(|port| own_ports.contains(&port)))
    };
    let own = ["http", "https"]
        .iter()
        .any(|scheme| towards_itself(scheme) == Some(true));
    (!own).then_some(matcher)
}

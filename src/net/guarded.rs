//! Plain connections to places that somebody else names: to addresses that were checked, and to no
//! others, whatever the name stands for a moment later.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use hyper_util::client::legacy::connect::{HttpConnector, dns::Name};
use tokio::net::TcpStream;
use tower_service::Service;

use super::{
    BoxError,
    lookups::Lookups,
    reach::{Forbidden, Reach},
};

/// How connections are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner<'a> {
    /// Where names are looked up.
    pub(super) lookups: &'a Lookups,
    /// The longest that one may take. Half of it may be waiting for a place to look up a name.
    pub(super) timeout: Duration,
    /// Time between TCP keep-alive probes.
    pub(super) keepalive: Option<Duration>,
    /// The mark of its packets.
    pub(super) mark: Option<NonZeroU32>,
}

/// The addresses of `host` that may be reached.
///
/// # Errors
/// It has none at all, or none of those.
pub(super) async fn addresses(
    host: &str,
    port: u16,
    reach: &Reach,
    manner: Manner<'_>,
) -> Result<Vec<SocketAddr>, BoxError> {
    let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_name) => {
            let patience = manner.timeout / 2;
            manner.lookups.find(host, port, patience).await?
        },
    };
    let mut forbidden: Option<Forbidden> = None;
    let mut addresses = found;
    addresses.retain(|address| {
        let checked = reach.check(host, *address);
        match checked.and_then(|()| reach.check_here(host, *address)) {
            Ok(()) => true,
            Err(error) => {
                forbidden = Some(error);
                false
            },
        }
    });
    match forbidden {
        Some(forbidden) if addresses.is_empty() => Err(forbidden.into()),
        _ if addresses.is_empty() => {
            let message = format!("{host} has no address");
            Err(io::Error::new(io::ErrorKind::NotFound, message).into())
        },
        _ => Ok(addresses),
    }
}

/// A connection to one of the addresses of `host` that may be reached, the first that answers of
/// IPv6 and IPv4.
///
/// # Errors
/// There is none, or none answers.
pub(super) async fn connect(
    host: &str,
    port: u16,
    reach: &Reach,
    manner: Manner<'_>,
) -> Result<TcpStream, BoxError> {
    let addresses = addresses(host, port, reach, manner).await?;
    let mut connector = HttpConnector::new_with_resolver(Checked(addresses));
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(manner.keepalive);
    connector.set_connect_timeout(Some(manner.timeout));
    connector.set_mark(manner.mark.map(NonZeroU32::get));
    // Any name will do: it stands for what was found.
    let uri = http::Uri::builder()
        .scheme("http")
        .authority(format!("checked.invalid:{port}"))
        .path_and_query("/")
        .build()?;
    let socket = connector.call(uri).await?.into_inner();
    reach.check_made(host, (socket.local_addr()?, socket.peer_addr()?))?;
    Ok(socket)
}

/// Finds what was found and checked before.
#[derive(Clone, Debug)]
struct Checked(Vec<SocketAddr>);

impl Service<Name> for Checked {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _name: Name) -> Self::Future {
        ready(Ok(self.0.clone().into_iter()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::net::reach::Sort;

    const fn manner(lookups: &Lookups) -> Manner<'_> {
        Manner {
            lookups,
            timeout: Duration::from_secs(5),
            keepalive: None,
            mark: None,
        }
    }

    #[tokio::test]
    async fn a_name_that_stands_for_this_machine_is_refused_unless_it_is_allowed() {
        let lookups = Lookups::default();
        let manner = manner(&lookups);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["localhost", "127.0.0.1", "127.1", "0x7f.1", "2130706433"] {
            let refused = connect(host, port, &Reach::default(), manner).await;
            let error = refused.unwrap_err();
            let forbidden = error.downcast_ref::<Forbidden>();
            assert_eq!(
                forbidden.map(|forbidden| forbidden.sort),
                Some(Sort::Loopback),
                "{host}: {error}"
            );
        }
        let allowed = vec!["localhost".parse().unwrap()];
        let reach = Reach::new(allowed, Vec::new());
        let made = connect("localhost", port, &reach, manner).await.unwrap();
        assert_eq!(made.peer_addr().unwrap().port(), port);
    }

    #[tokio::test]
    async fn our_own_listener_is_refused_by_any_name() {
        let lookups = Lookups::default();
        let manner = manner(&lookups);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap();
        let reach = Reach::new(vec!["0.0.0.0/0".parse().unwrap()], vec![own]);
        for host in ["localhost", "127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1"] {
            let refused = connect(host, own.port(), &reach, manner).await;
            let error = refused.unwrap_err();
            assert!(error.is::<Forbidden>(), "{host}: {error}");
        }
    }
}

//! Begins a call with what the head of its request says: who calls, where it goes, for whom it is.

use std::{net::IpAddr, sync::Arc};

use http::{Response, Version, request::Parts};

use super::{
    Worker,
    authenticate::Caller,
    body::ResponseBody,
    exchange::{Beginning, Exchange},
    headers, identify,
    intercept::{self, Opened},
    reply, route, trace, upgrade,
};
use crate::{base::id::RequestId, call::refusal::Refusal};

impl Worker {
    /// Whether a request to a forward proxy has not come through us before.
    ///
    /// # Errors
    /// It has, or through too many.
    fn comes_from_others(&self, parts: &Parts) -> Result<(), Refusal> {
        let host = parts.uri.host();
        // In HTTP/2 every target has an authority.
        let Some(host) = host.filter(|_| parts.version < Version::HTTP_2) else {
            return Ok(());
        };
        let hops = self.upstream.me().after(&parts.headers);
        hops.map(drop)
            .map_err(|looped| intercept::goes_round(&host, looped))
    }

    /// Route, labels, trace: everything that the head says.
    pub(super) fn begin(
        &self,
        parts: &Parts,
        peer: Option<IpAddr>,
    ) -> Result<Box<Exchange>, Box<Response<ResponseBody>>> {
        let proxy = &self.proxy;
        let (start, began) = (proxy.clock.wall(), proxy.clock.mono());
        let live = proxy.live.load_full();
        let request_id = RequestId::new(start);
        let mut caller = live.door.caller(parts, peer, start);
        if let Some(opened) = parts.extensions.get::<Arc<Opened>>() {
            caller = opened.caller_of(caller, &live, start);
        }
        let caller = caller.map_err(|stranger| proxy.turn_away(stranger, peer));
        let route = self.comes_from_others(parts);
        let route = route.and_then(|()| route::route(&live, parts));
        let routed = match (route, &caller) {
            (Ok(route), _) => proxy.flights.enter(live.places).map(|place| (route, place)),
            // Whoever is not let in hears of no routes.
            (Err(_), Err(stranger)) => Err(stranger.clone()),
            (Err(nowhere), Ok(_)) => Err(nowhere),
        };
        let (mut route, in_flight) = routed.map_err(|refusal| {
            proxy.metrics.turned_away(&refusal);
            proxy.tell_refused("A call was refused", &refusal, request_id, None);
            let response = reply::turned_away(&refusal, start, request_id);
            Box::new(response.map(ResponseBody::ours))
        })?;
        if headers::is_upgrade(&parts.headers) {
            route.operation = upgrade::operation(&route, &parts.method, &parts.headers);
        }
        let segment = route.segment.as_deref();
        let (caller, stranger) = match caller {
            Ok(caller) => (caller, None),
            Err(stranger) => (Caller::default(), Some(stranger)),
        };
        let key = caller.key.as_deref();
        let labels = identify::labels(&parts.headers, segment, key, &live.identity);
        let exchange = Exchange::begin(Beginning {
            proxy: Arc::clone(proxy),
            request_id,
            trace: trace::Context::of(&parts.headers, &live.propagation.formats),
            start,
            began,
            method: parts.method.clone(),
            route,
            labels,
            caller,
            in_flight,
            live,
        });
        match stranger {
            None => Ok(exchange),
            Some(stranger) => Err(Box::new(exchange.refuse(stranger))),
        }
    }
}

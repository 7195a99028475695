//! The sockets of every listener: bound here, or handed over by systemd.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
};

use super::{StartError, keep::Kept, worker::Entry};
use crate::{
    admin::Face,
    net::{config::Listen, listen, ours::Ours, systemd::Handed},
};

/// The sockets of the admin and the health listener. From now on the directory's owner says where it
/// answers.
pub(super) fn admin(
    listen: &Listen,
    kept: &mut Kept,
    handed: &mut Handed,
) -> Result<(Bound, Bound), StartError> {
    let admin = bind(
        "listen.admin",
        Listen::with_counterpart(listen.admin),
        1,
        handed,
    )?;
    let health = bind("listen.health", listen.health.into_iter(), 1, handed)?;
    if let Some(owner) = &mut kept.owner {
        owner.answers_at(&admin.address(listen.admin).to_string())?;
    }
    Ok((admin, health))
}

/// Where clients come in.
pub(super) struct Entries {
    /// Where the proxy listens.
    pub(super) proxy: Vec<SocketAddr>,
    /// Where redirected connections come in.
    pub(super) transparent: Vec<SocketAddr>,
    /// Each worker's sockets.
    pub(super) sockets: Vec<Vec<(Entry, StdListener)>>,
}

impl Entries {
    /// Binds them, for so many workers.
    pub(super) fn bind(
        listen: &Listen,
        count: usize,
        handed: &mut Handed,
    ) -> Result<Self, StartError> {
        let proxy = Listen::with_counterpart(listen.proxy);
        let proxy = bind("listen.proxy", proxy, count, handed)?;
        let transparent = listen.transparent.into_iter();
        let transparent = transparent.flat_map(Listen::with_counterpart);
        let transparent = bind("listen.transparent", transparent, count, handed)?;
        let both = proxy.sockets.into_iter().zip(transparent.sockets);
        let sockets = both.map(|(calls, redirected)| {
            let redirected = redirected.into_iter().map(|at| (Entry::Transparent, at));
            let calls = calls.into_iter().map(|at| (Entry::Proxy, at));
            calls.chain(redirected).collect()
        });
        Ok(Self {
            sockets: sockets.collect(),
            proxy: proxy.addresses,
            transparent: transparent.addresses,
        })
    }

    /// All of them.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        [&*self.proxy, &*self.transparent].concat()
    }

    /// Where our connections are noted, if the system may redirect them to us.
    pub(super) fn ours(&self) -> Option<Ours> {
        (!self.transparent.is_empty()).then(Ours::default)
    }
}

/// Whether every socket that was handed over is one that we listen on.
///
/// # Errors
/// What systemd connects us to would never be answered.
pub(super) fn all_are_used(
    handed: &Handed,
    entries: &[SocketAddr],
    admin: &[SocketAddr],
    health: &[SocketAddr],
) -> Result<(), StartError> {
    let left = handed.left();
    if left.is_empty() {
        return Ok(());
    }
    let words = |addresses: &[SocketAddr]| {
        let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
        addresses.join(", ")
    };
    Err(StartError::Handed {
        left: words(&left),
        listening: words(&[entries, admin, health].concat()),
    })
}

/// The sockets of one listener.
pub(super) struct Bound {
    /// The addresses that were bound.
    pub(super) addresses: Vec<SocketAddr>,
    /// Each worker's sockets.
    sockets: Vec<Vec<StdListener>>,
}

impl Bound {
    /// Where it listens first; `wanted` if nowhere.
    fn address(&self, wanted: SocketAddr) -> SocketAddr {
        self.addresses.first().copied().unwrap_or(wanted)
    }

    /// Its sockets with `face`, and those of the health listener.
    pub(super) fn faces(self, face: Face, health: Self) -> Vec<(Face, StdListener)> {
        let of = |bound: Self, face| {
            bound
                .sockets
                .into_iter()
                .flatten()
                .map(move |at| (face, at))
        };
        of(self, face).chain(of(health, Face::Health)).collect()
    }
}

/// Sockets for every worker at `wanted`, of which all but the first are counterparts of it; port 0
/// is any free one, for all of them the same.
fn bind(
    key: &'static str,
    wanted: impl Iterator<Item = SocketAddr>,
    count: usize,
    handed: &mut Handed,
) -> Result<Bound, StartError> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    let mut sockets: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
    for mut address in wanted {
        let first = addresses.first();
        if let Some(first) = first {
            address.set_port(first.port());
        }
        let bound = match handed.at(address) {
            Some(socket) => listen::share(socket, count),
            None => listen::bind(address, count),
        };
        let bound = match bound {
            Ok(bound) => bound,
            // Machines without IPv6 have no counterpart.
            Err(error) if first.is_some() && error.kind() != io::ErrorKind::AddrInUse => continue,
            Err(source) => {
                return Err(StartError::Listen {
                    key,
                    address,
                    source,
                });
            },
        };
        for (place, socket) in sockets.iter_mut().zip(bound) {
            address = socket.local_addr()?;
            place.push(socket);
        }
        addresses.push(address);
    }
    Ok(Bound { addresses, sockets })
}

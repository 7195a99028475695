//! What tests of several modules share: the real program in process, its upstream, clients.

pub(crate) mod client;
pub(crate) mod entry;
pub(crate) mod front;
pub(crate) mod raw;
pub(crate) mod sandbox;
pub(crate) mod socket;

use tollgate::pipeline::Stats;

pub(crate) use client::{Answer, Line};
pub(crate) use raw::Upstream;
pub(crate) use sandbox::Sandbox;
pub(crate) use socket::Socket;

/// Asserts that of every span that was offered to a processor it is known what became of it.
#[track_caller]
pub(crate) fn conserved(stats: &Stats) {
    assert_eq!(stats.offered + stats.found, stats.accounted(), "{stats:?}");
}

//! What tests of several modules share: the real program in process, its upstream, clients.

pub(crate) mod client;
pub(crate) mod raw;
pub(crate) mod sandbox;
pub(crate) mod socket;

pub(crate) use client::{Answer, Line};
pub(crate) use raw::Upstream;
pub(crate) use sandbox::Sandbox;
pub(crate) use socket::Socket;

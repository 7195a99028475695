//! Sockets, TLS and connections to providers. Knows nothing of LLMs.

pub mod authority;
pub mod aws;
pub mod begun;
pub mod body;
mod cidr;
pub mod config;
pub mod connect;
pub mod grpc;
mod guarded;
pub mod hops;
pub mod listen;
mod lookups;
mod muted;
pub mod opening;
pub mod ours;
pub mod pace;
pub mod patience;
pub mod peek;
mod pool;
pub mod post;
pub mod reach;
pub mod systemd;
pub mod tls;
pub mod tunnel;
pub mod upstream;

pub use cidr::{Cidr, InvalidCidr};

/// What a body or a connection can fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

//! Sockets, TLS and connections to providers. Knows nothing of LLMs.

mod cidr;
pub mod config;

pub use cidr::{Cidr, InvalidCidr};

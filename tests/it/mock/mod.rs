//! The mock providers: each dialect is well-formed, each fault is what it says.

mod chat;
mod client;
mod fault;

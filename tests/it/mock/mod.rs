//! The mock providers: each dialect is well-formed, each fault is what it says.

mod anthropic;
mod chat;
mod client;
mod endpoints;
mod fault;
mod gemini;
mod hosts;
mod responses;
mod sockets;

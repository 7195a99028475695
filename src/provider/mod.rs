//! Providers' wire formats: bytes in, facts out. Pure.
//!
//! A [`Dialect`] reads and edits one wire format; a [`Provider`] is a host that speaks one, and is
//! data. The next dialect is one file and one line in [`DIALECTS`]; the next provider one line in
//! `known.rs`, or in the configuration.

mod abandoned;
mod anthropic;
mod bedrock;
mod body_labels;
mod config;
mod dialect;
mod gemini;
mod http;
mod known;
mod openai;
mod registry;
mod splice;
mod state;
mod vertex;
pub mod wire;

pub use abandoned::Abandoned;
pub use anthropic::Anthropic;
pub use bedrock::Bedrock;
pub use config::{Config, Price, ProviderConfig};
pub use dialect::{Cut, CutStyle, Dialect, Event};
pub use gemini::Gemini;
pub use http::Http;
pub use openai::OpenAi;
pub use registry::{BaseUrl, Provider, ProviderError, Providers};
pub use splice::Splice;
pub use state::StreamState;
pub use wire::json::Unreadable;

/// Every dialect, by the name in its [`Dialect::name`].
pub const DIALECTS: &[&dyn Dialect] = &[&OpenAi::Compatible, &Anthropic, &Gemini, &Bedrock, &Http];

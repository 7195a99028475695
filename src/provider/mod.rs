//! Providers' wire formats: bytes in, facts out. Pure.
//!
//! A [`Dialect`] reads and edits one wire format; a [`Provider`] is a host that speaks one, and is
//! data. The next dialect is one file and one line in [`DIALECTS`]; the next provider one line in
//! `known.rs`, or in the configuration.

mod abandoned;
mod aleph_alpha;
mod anthropic;
mod base_url;
mod bedrock;
mod body_labels;
mod cohere;
mod config;
pub mod content;
mod dialect;
mod gemini;
mod http;
mod known;
mod limit;
mod ollama;
mod openai;
mod registry;
mod socket;
mod splice;
mod state;
mod steps;
mod vertex;
mod watsonx;
pub mod wire;

pub use abandoned::Abandoned;
pub use aleph_alpha::AlephAlpha;
pub use anthropic::Anthropic;
pub use base_url::BaseUrl;
pub use bedrock::Bedrock;
pub use cohere::Cohere;
pub use config::{Config, Price, ProviderConfig, Sign};
pub use dialect::{Cut, CutStyle, Dialect, Event};
pub use gemini::Gemini;
pub use http::Http;
pub use ollama::Ollama;
pub use openai::OpenAi;
pub use registry::{Provider, ProviderError, Providers};
pub use socket::{Heard, Said, Session, Socket};
pub use splice::Splice;
pub use state::StreamState;
pub use steps::steps;
pub use watsonx::Watsonx;
pub use wire::json::Unreadable;

/// Every dialect, by the name in its [`Dialect::name`].
pub const DIALECTS: &[&dyn Dialect] = &[
    &OpenAi::Compatible,
    &Anthropic,
    &Gemini,
    &Bedrock,
    &Cohere,
    &Ollama,
    &Watsonx,
    &AlephAlpha,
    &Http,
];

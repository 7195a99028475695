//! Embeddings: an answer without text.

use super::{fault, usage};
use crate::{
    call::facts::ResponseFacts,
    provider::{
        dialect::Event,
        wire::json::{Json, Unreadable},
    },
};

/// Reads a whole answer.
pub(super) fn read(event: &Event<'_>, facts: &mut ResponseFacts) -> Result<(), Unreadable> {
    Json::document(&event.data).object(|key, value| match key {
        b"id" => facts.id = value.take().name(),
        b"model" => facts.model = value.take().name(),
        b"usage" => facts.usage.update(&usage::read_embedding(value)),
        b"error" => facts.error = fault::read(value).or_else(|| facts.error.take()),
        _ => {},
    })?;
    facts.complete = true;
    Ok(())
}

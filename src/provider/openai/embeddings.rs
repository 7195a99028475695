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
    for entry in Json::document(&event.data).entries() {
        let entry = entry?;
        let value = entry.value;
        match &*entry.key {
            b"id" => facts.id = value.name(),
            b"model" => facts.model = value.name(),
            b"usage" => facts.usage.update(&usage::read_embedding(value)),
            b"error" if fault::is_one(value) => facts.error = Some(fault::read(value)),
            _ => {},
        }
    }
    facts.complete = true;
    Ok(())
}

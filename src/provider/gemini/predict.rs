//! `:predict`: the older embeddings of Vertex AI, and Imagen's images.

use super::{answer, operations};
use crate::{
    call::{
        facts::{Operation, RequestFacts, ResponseFacts, Unsaid},
        usage::Usage,
    },
    provider::{
        dialect::Event,
        wire::json::{Ahead, Json, Unreadable},
    },
};

/// How many images there are if a request does not say.
const IMAGES: u32 = 4;

/// Reads a request's `parameters`.
pub(super) fn parameters(value: Ahead<'_, '_>, facts: &mut RequestFacts) {
    value.object(|key, value| {
        if key == b"sampleCount" {
            let count = value.take().u64().unwrap_or(0);
            facts.choices = u32::try_from(count).unwrap_or(u32::MAX);
        }
    });
}

/// Says of a request for images what it can be billed by: images, by the piece.
pub(super) fn ask_images(facts: &mut RequestFacts) {
    if facts.choices == 0 {
        facts.choices = IMAGES;
    }
    let pieces = Usage {
        images: Some(facts.choices()),
        ..Usage::NONE
    };
    facts.unsaid = Some(Unsaid {
        likely: pieces,
        most: pieces,
    });
}

/// Reads a whole answer: each embedding says how many tokens it was made of; images count, and
/// those that were filtered out are not there.
pub(super) fn read(
    op: &Operation,
    event: &Event<'_>,
    facts: &mut ResponseFacts,
) -> Result<(), Unreadable> {
    let (mut tokens, mut images) = (None, None);
    let document = Json::document(&event.data).unwrapped();
    document.object(|key, value| match key {
        b"predictions" => {
            let images = images.insert(0_u64);
            value.items(|prediction| {
                prediction.object(|key, value| match key {
                    b"embeddings" => {
                        if let Some(count) = embedding(value) {
                            tokens = Some(tokens.unwrap_or(0_u64).saturating_add(count));
                        }
                    },
                    b"bytesBase64Encoded" | b"gcsUri" => *images += 1,
                    _ => {},
                });
            });
        },
        b"error" if value.is_object() => facts.error = Some(answer::read_error(value)),
        _ => {},
    })?;
    if *op == operations::IMAGES {
        facts.usage.images = images;
    } else if let Some(tokens) = tokens {
        facts.usage.update(&Usage::text(tokens, 0));
    }
    facts.complete = true;
    Ok(())
}

/// The tokens that one embedding was made of.
fn embedding(value: Ahead<'_, '_>) -> Option<u64> {
    let mut statistics = None;
    value.object(|key, value| {
        if key == b"statistics" {
            statistics = value.take().get("token_count").and_then(Json::u64);
        }
    });
    statistics
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(op: &Operation, body: &str) -> ResponseFacts {
        let mut facts = ResponseFacts::default();
        read(op, &Event::body(body.as_bytes()), &mut facts).unwrap();
        facts
    }

    #[test]
    fn the_tokens_of_all_embeddings_are_added() {
        let found = facts(
            &operations::PREDICT,
            r#"{"predictions":[
            {"embeddings":{"statistics":{"truncated":false,"token_count":6},"values":[0.1]}},
            {"embeddings":{"values":[0.2],"statistics":{"token_count":4}}}],
            "metadata":{"billableCharacterCount":40}}"#,
        );
        assert_eq!((found.usage, found.complete), (Usage::text(10, 0), true));
        let silent = facts(
            &operations::PREDICT,
            r#"{"predictions":[{"textEmbedding":[1]}]}"#,
        );
        assert_eq!(silent.usage, Usage::NONE);
    }

    #[test]
    fn the_images_that_are_there_count() {
        let found = facts(
            &operations::IMAGES,
            r#"{"predictions":[{"mimeType":"image/png","bytesBase64Encoded":"AA"},
            {"raiFilteredReason":"no"},{"gcsUri":"gs://b/i.png"}]}"#,
        );
        assert_eq!(found.usage.images, Some(2));
        let failed = facts(
            &operations::IMAGES,
            r#"[{"error":{"code":400,"message":"no","status":"INVALID_ARGUMENT"}}]"#,
        );
        assert_eq!(failed.usage, Usage::NONE);
        assert_eq!(
            failed.error.unwrap().kind.as_deref(),
            Some("INVALID_ARGUMENT")
        );
    }

    #[test]
    fn a_request_for_images_says_how_many() {
        let asked = |body: &str| {
            let mut facts = RequestFacts::default();
            let path = "/v1beta/models/imagen-4.0-generate-001:predict";
            super::super::request::read(&operations::IMAGES, path, body.as_bytes(), &mut facts)
                .unwrap();
            facts.unsaid.unwrap().most.images
        };
        let two = r#"{"instances":[{"prompt":"An otter"}],"parameters":{"sampleCount":2}}"#;
        assert_eq!(asked(two), Some(2));
        assert_eq!(asked(r#"{"instances":[{"prompt":"An otter"}]}"#), Some(4));
    }
}

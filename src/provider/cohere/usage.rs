//! Cohere's two counts of a call: what it bills, and what the model saw.
//!
//! The bill leaves out what Cohere itself puts around a prompt and an answer, which can be more
//! than the prompt. So `billed_units` are the call's tokens. What came from the cache is a part of
//! what the model saw, and may be more than what is billed.

use crate::{call::usage::Usage, provider::wire::json::Ahead};

/// Reads a `usage` object (version 2), or a `meta` object (version 1).
pub(super) fn read(usage: Ahead<'_, '_>) -> Usage {
    let (mut billed, mut seen, mut cached) = (Usage::NONE, Usage::NONE, None);
    usage.object(|key, value| match key {
        b"billed_units" => billed = counts(value),
        b"tokens" => seen = counts(value),
        b"cached_tokens" => cached = value.take().u64(),
        _ => {},
    });
    Usage {
        input: billed.input.or(seen.input),
        input_image: billed.input_image,
        output: billed.output.or(seen.output),
        cache_read: cached,
        search_units: billed.search_units,
        seen_input: seen.input,
        seen_output: seen.output,
        ..Usage::NONE
    }
}

/// Images are counted beside the text, not in it.
fn counts(units: Ahead<'_, '_>) -> Usage {
    let mut found = Usage::NONE;
    units.object(|key, value| {
        let count = value.take().u64();
        match key {
            b"input_tokens" => found.input = count,
            b"output_tokens" => found.output = count,
            b"image_tokens" => found.input_image = count,
            b"search_units" => found.search_units = count,
            _ => {},
        }
    });
    if let Some(images) = found.input_image.filter(|images| *images > 0) {
        found.input = Some(found.input.unwrap_or(0).saturating_add(images));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::wire::json::Json;

    fn usage(text: &str) -> Usage {
        Json::document(text.as_bytes()).read(read)
    }

    #[test]
    fn the_bill_counts_and_what_was_seen_only_where_there_is_no_bill() {
        let found = usage(
            r#"{"billed_units":{"input_tokens":25.0,"output_tokens":9.0},
                "tokens":{"input_tokens":91,"output_tokens":11},"cached_tokens":64}"#,
        );
        let seen = |usage| Usage {
            seen_input: Some(91),
            seen_output: Some(11),
            ..usage
        };
        let expected = Usage {
            cache_read: Some(64),
            ..seen(Usage::text(25, 9))
        };
        assert_eq!(found, expected);
        let unbilled = r#"{"billed_units":null,"tokens":{"input_tokens":91,"output_tokens":11}}"#;
        assert_eq!(usage(unbilled), seen(Usage::text(91, 11)));
        assert_eq!(usage(r#"{"api_version":{"version":"2"}}"#), Usage::NONE);
    }

    #[test]
    fn images_are_input_beside_the_text() {
        let found = usage(r#"{"billed_units":{"input_tokens":4,"image_tokens":1000}}"#);
        assert_eq!((found.input, found.input_image), (Some(1004), Some(1000)));
    }
}

//! Token counts as `OpenAI` and its likes report them.

use crate::{call::usage::Usage, provider::wire::json::Json};

/// Reads a usage object, of chat completions or of the Responses API, with the extra fields by
/// which compatible servers say the same.
pub(super) fn read(usage: Json<'_>) -> Usage {
    let mut found = Usage::NONE;
    let mut total = None;
    let mut reasoning_apart = None;
    let mut hidden_cache = None;
    for entry in usage.entries().map_while(Result::ok) {
        let count = entry.value.u64();
        match &*entry.key {
            b"prompt_tokens" | b"input_tokens" => found.input = count.or(found.input),
            b"completion_tokens" | b"output_tokens" => found.output = count.or(found.output),
            b"total_tokens" => total = count,
            b"prompt_tokens_details" | b"input_tokens_details" => {
                input_details(entry.value, &mut found);
            },
            b"completion_tokens_details" | b"output_tokens_details" => {
                output_details(entry.value, &mut found);
            },
            b"cached_tokens" | b"prompt_cache_hit_tokens" | b"cache_read_input_tokens" => {
                hidden_cache = hidden_cache.or(count);
            },
            b"reasoning_tokens" => reasoning_apart = count,
            b"num_search_queries" => found.web_searches = count,
            _ => {},
        }
    }
    found.cache_read = found.cache_read.or(hidden_cache);
    found.reasoning = found.reasoning.or(reasoning_apart);
    if let (Some(input), Some(output), Some(total)) = (found.input, found.output, total) {
        // Some servers leave hidden reasoning out of the output, but not out of the total that
        // they bill by.
        found.output = Some(output.max(total.saturating_sub(input)));
    }
    found
}

/// Reads the usage of an embedding: there is no output, and some report only a total.
pub(super) fn read_embedding(usage: Json<'_>) -> Usage {
    let mut found = read(usage);
    found.input = found.input.or_else(|| usage.get("total_tokens")?.u64());
    found.output = found.input.map(|_| 0);
    found
}

fn input_details(details: Json<'_>, found: &mut Usage) {
    for entry in details.entries().map_while(Result::ok) {
        let count = entry.value.u64();
        match &*entry.key {
            b"cached_tokens" => found.cache_read = count,
            b"cache_write_tokens" => found.cache_write = count,
            b"audio_tokens" => found.input_audio = count,
            b"image_tokens" => found.input_image = count,
            b"video_tokens" => found.input_video = count,
            _ => {},
        }
    }
}

fn output_details(details: Json<'_>, found: &mut Usage) {
    for entry in details.entries().map_while(Result::ok) {
        let count = entry.value.u64();
        match &*entry.key {
            b"reasoning_tokens" => found.reasoning = count,
            b"audio_tokens" => found.output_audio = count,
            b"image_tokens" => found.output_image = count,
            _ => {},
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(text: &str) -> Usage {
        read(Json::document(text.as_bytes()))
    }

    #[test]
    fn both_families_of_names_give_the_same_counts() {
        let expected = Usage {
            cache_read: Some(4),
            reasoning: Some(3),
            ..Usage::text(10, 5)
        };
        assert_eq!(
            usage(
                r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,
                "prompt_tokens_details":{"cached_tokens":4},
                "completion_tokens_details":{"reasoning_tokens":3}}"#
            ),
            expected
        );
        assert_eq!(
            usage(
                r#"{"input_tokens":10,"output_tokens":5,"total_tokens":15,
                "input_tokens_details":{"cached_tokens":4},
                "output_tokens_details":{"reasoning_tokens":3}}"#
            ),
            expected
        );
        assert_eq!(
            usage(
                r#"{"prompt_tokens":10,"completion_tokens":5,"cached_tokens":4,"reasoning_tokens":3}"#
            ),
            expected
        );
    }

    #[test]
    fn reasoning_that_is_only_in_the_total_is_output() {
        let found = usage(r#"{"prompt_tokens":35,"completion_tokens":12,"total_tokens":109}"#);
        assert_eq!(found, Usage::text(35, 74));
    }

    #[test]
    fn what_is_not_reported_is_unknown_and_null_is_not_zero() {
        assert_eq!(usage("{}"), Usage::NONE);
        assert_eq!(usage("null"), Usage::NONE);
        assert_eq!(
            usage(r#"{"prompt_tokens":null,"completion_tokens":"x"}"#),
            Usage::NONE
        );
        let found = usage(r#"{"prompt_tokens":0,"prompt_tokens_details":null}"#);
        assert_eq!((found.input, found.cache_read), (Some(0), None));
    }

    #[test]
    fn an_embedding_has_no_output() {
        let found = read_embedding(Json::document(br#"{"total_tokens":8}"#));
        assert_eq!(found, Usage::text(8, 0));
    }
}

//! Token counts as `OpenAI` and its likes report them.

use crate::{
    call::usage::Usage,
    provider::wire::json::{Ahead, Json},
};

/// What a usage object says.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// The counts.
    pub(super) usage: Usage,
    /// What the provider says it costs, as it is spelt.
    pub(super) cost: Option<Box<str>>,
    total: Option<u64>,
}

/// Reads a usage object, of chat completions or of the Responses API, with the extra fields by
/// which compatible servers say the same.
pub(super) fn read(usage: Ahead<'_, '_>) -> Report {
    let mut report = Report::default();
    let found = &mut report.usage;
    let mut reasoning_apart = None;
    let mut hidden_cache = None;
    usage.object(|key, value| match key {
        b"prompt_tokens" | b"input_tokens" => found.input = value.take().u64().or(found.input),
        b"completion_tokens" | b"output_tokens" => {
            found.output = value.take().u64().or(found.output);
        },
        b"total_tokens" => report.total = value.take().u64(),
        // Assistants and transcriptions say it in the singular.
        b"prompt_tokens_details"
        | b"input_tokens_details"
        | b"prompt_token_details"
        | b"input_token_details" => input_details(value, found),
        b"completion_tokens_details"
        | b"output_tokens_details"
        | b"completion_token_details"
        | b"output_token_details" => {
            output_details(value, found);
        },
        b"cached_tokens" | b"prompt_cache_hit_tokens" | b"cache_read_input_tokens" => {
            hidden_cache = hidden_cache.or_else(|| value.take().u64());
        },
        b"reasoning_tokens" => reasoning_apart = value.take().u64(),
        b"num_search_queries" => found.web_searches = value.take().u64(),
        b"seconds" | b"prompt_audio_seconds" => found.audio_seconds = seconds(value.take()),
        b"citation_tokens" => found.citation = value.take().u64(),
        b"cost" => report.cost = cost(value),
        b"cost_in_usd_ticks" => report.cost = value.take().u64().map(ticks),
        _ => {},
    });
    found.cache_read = found.cache_read.or(hidden_cache);
    found.reasoning = found.reasoning.or(reasoning_apart);
    if let (Some(citation), Some(output)) = (found.citation, found.output) {
        // Perplexity leaves both out of the output, and bills them at prices of their own.
        let apart = citation.saturating_add(reasoning_apart.unwrap_or(0));
        found.output = Some(output.saturating_add(apart));
    }
    if let (Some(input), Some(output), Some(total)) = (found.input, found.output, report.total) {
        // Some servers leave hidden reasoning out of the output, but not out of the total that
        // they bill by.
        found.output = Some(output.max(total.saturating_sub(input)));
    }
    report
}

/// What a call costs, in dollars: a number (OpenRouter), or an object with the total (Perplexity).
fn cost(value: Ahead<'_, '_>) -> Option<Box<str>> {
    let mut total = None;
    let value = value.object(|key, value| {
        if key == b"total_cost" {
            total = value.take().name_or_number();
        }
    });
    total.or_else(|| value.name_or_number())
}

/// xAI counts in ticks, of which a dollar has ten thousand million.
fn ticks(count: u64) -> Box<str> {
    const A_DOLLAR: u64 = 10_000_000_000;
    format!("{}.{:010}", count / A_DOLLAR, count % A_DOLLAR).into_boxed_str()
}

/// Reads a length in seconds: one that has begun is billed whole.
pub(super) fn seconds(value: Json<'_>) -> Option<u64> {
    let text = value.name_or_number()?;
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    let begun = rest.bytes().any(|digit| digit != b'0');
    whole.parse::<u64>().ok()?.checked_add(u64::from(begun))
}

/// Reads the usage of an embedding: there is no output, and some report only a total.
pub(super) fn read_embedding(usage: Ahead<'_, '_>) -> Usage {
    let report = read(usage);
    let mut found = report.usage;
    found.input = found.input.or(report.total);
    found.output = found.input.map(|_| 0);
    found
}

fn input_details(details: Ahead<'_, '_>, found: &mut Usage) {
    details.object(|key, value| {
        if key == b"cached_tokens_details" {
            return cached_details(value, found);
        }
        let count = value.take().u64();
        match key {
            b"cached_tokens" => found.cache_read = count,
            b"cache_write_tokens" => found.cache_write = count,
            b"audio_tokens" => found.input_audio = count,
            b"image_tokens" => found.input_image = count,
            b"video_tokens" => found.input_video = count,
            _ => {},
        }
    });
}

/// What the cache held, by kind (Realtime).
fn cached_details(details: Ahead<'_, '_>, found: &mut Usage) {
    details.object(|key, value| {
        let count = value.take().u64();
        match key {
            b"audio_tokens" => found.cache_audio_read = count,
            b"image_tokens" => found.cache_image_read = count,
            _ => {},
        }
    });
}

fn output_details(details: Ahead<'_, '_>, found: &mut Usage) {
    details.object(|key, value| {
        let count = value.take().u64();
        match key {
            b"reasoning_tokens" => found.reasoning = count,
            b"audio_tokens" => found.output_audio = count,
            b"image_tokens" => found.output_image = count,
            _ => {},
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(text: &str) -> Usage {
        Json::document(text.as_bytes()).read(read).usage
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
    fn a_second_of_audio_that_has_begun_is_a_whole_one() {
        let heard = |text| usage(text).audio_seconds;
        assert_eq!(heard(r#"{"type":"duration","seconds":9}"#), Some(9));
        assert_eq!(heard(r#"{"type":"duration","seconds":8.47}"#), Some(9));
        assert_eq!(heard(r#"{"type":"duration","seconds":8.0}"#), Some(8));
        assert_eq!(heard(r#"{"seconds":-1}"#), None);
        assert_eq!(heard(r#"{"seconds":null}"#), None);
    }

    #[test]
    fn citations_and_the_thinking_beside_them_are_output_that_was_left_out() {
        let found = usage(
            r#"{"prompt_tokens":33,"completion_tokens":7163,"total_tokens":7196,
            "citation_tokens":20016,"num_search_queries":18,"reasoning_tokens":73997}"#,
        );
        let expected = Usage {
            citation: Some(20_016),
            reasoning: Some(73_997),
            web_searches: Some(18),
            ..Usage::text(33, 7_163 + 20_016 + 73_997)
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn what_a_provider_says_that_it_costs_is_read_in_each_spelling() {
        let cost = |text: &str| Json::document(text.as_bytes()).read(read).cost;
        assert_eq!(cost(r#"{"cost":0.0012}"#).as_deref(), Some("0.0012"));
        let parts = r#"{"cost":{"input_tokens_cost":0.001,"total_cost":0.006}}"#;
        assert_eq!(cost(parts).as_deref(), Some("0.006"));
        let ticks = r#"{"cost_in_usd_ticks":37756000}"#;
        assert_eq!(cost(ticks).as_deref(), Some("0.0037756000"));
        assert_eq!(cost(r#"{"cost":null}"#), None);
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
        let found = Json::document(br#"{"total_tokens":8}"#).read(read_embedding);
        assert_eq!(found, Usage::text(8, 0));
    }
}

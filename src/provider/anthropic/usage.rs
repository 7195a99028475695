//! Token counts as Anthropic reports them.
//!
//! What the cache held of the input, or took of it, is reported apart and belongs to it.

use crate::{
    call::{facts::ResponseFacts, usage::Usage},
    provider::{
        state::StreamState,
        wire::json::{Ahead, Json},
    },
};

/// When in a response usage is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Before the output: its output count is a stub.
    Before,
    /// With the output, or after it.
    After,
}

/// Takes in a usage object: what it says replaces what was said before, field by field.
pub(super) fn read(
    usage: Ahead<'_, '_>,
    when: When,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) {
    let mut found = Usage::NONE;
    let mut uncached = None;
    let mut rounds = Rounds::default();
    usage.object(|key, value| match key {
        b"input_tokens" => uncached = value.take().u64(),
        b"cache_read_input_tokens" => found.cache_read = value.take().u64(),
        b"cache_creation_input_tokens" => found.cache_write = value.take().u64(),
        b"cache_creation" => lifetimes(value, &mut found),
        b"output_tokens" if when == When::After => found.output = value.take().u64(),
        b"output_tokens_details" => {
            found.reasoning = value.take().get("thinking_tokens").and_then(Json::u64);
        },
        b"server_tool_use" => {
            found.web_searches = value.take().get("web_search_requests").and_then(Json::u64);
        },
        b"service_tier" => named(value, &mut facts.service_tier),
        b"speed" => named(value, &mut facts.speed),
        b"iterations" => rounds = sum_of_rounds(value),
        _ => {},
    });
    if rounds.usage.output.is_some() && rounds.total() > total(uncached, &found) {
        uncached = Some(rounds.uncached);
        found.update(&rounds.usage);
    }
    state.uncached_input = uncached.or(state.uncached_input);
    facts.usage.update(&found);
    let known = facts.usage;
    facts.usage.input = state.uncached_input.map(|uncached| {
        let cached = known
            .cache_read
            .unwrap_or(0)
            .saturating_add(known.cache_write.unwrap_or(0));
        uncached.saturating_add(cached)
    });
}

/// Takes in a name, unless it is `null`.
fn named(value: Ahead<'_, '_>, name: &mut Option<Box<str>>) {
    let value = value.take();
    if !value.is_null() {
        *name = value.name();
    }
}

fn lifetimes(value: Ahead<'_, '_>, found: &mut Usage) {
    (found.cache_write_5m, found.cache_write_1h) = (None, None);
    value.object(|key, value| match key {
        b"ephemeral_5m_input_tokens" => found.cache_write_5m = value.take().u64(),
        b"ephemeral_1h_input_tokens" => found.cache_write_1h = value.take().u64(),
        _ => {},
    });
}

fn total(uncached: Option<u64>, found: &Usage) -> u64 {
    let parts = [uncached, found.cache_read, found.cache_write, found.output];
    parts.into_iter().flatten().fold(0, u64::saturating_add)
}

/// What the model was asked for in all rounds that one response took (compaction, advisors): the
/// bill is their sum, of which the usage above them may show only a part.
#[derive(Clone, Copy, Debug, Default)]
struct Rounds {
    uncached: u64,
    usage: Usage,
}

impl Rounds {
    fn total(&self) -> u64 {
        total(Some(self.uncached), &self.usage)
    }
}

fn sum_of_rounds(rounds: Ahead<'_, '_>) -> Rounds {
    let mut sum = Rounds::default();
    rounds.items(|round| {
        let mut one = Usage::NONE;
        let mut uncached = None;
        round.object(|key, value| match key {
            b"input_tokens" => uncached = value.take().u64(),
            b"cache_read_input_tokens" => one.cache_read = value.take().u64(),
            b"cache_creation_input_tokens" => one.cache_write = value.take().u64(),
            b"cache_creation" => lifetimes(value, &mut one),
            b"output_tokens" => one.output = value.take().u64(),
            _ => {},
        });
        let add = |sum: &mut Option<u64>, more: Option<u64>| {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or(0).saturating_add(more));
            }
        };
        sum.uncached = sum.uncached.saturating_add(uncached.unwrap_or(0));
        add(&mut sum.usage.cache_read, one.cache_read);
        add(&mut sum.usage.cache_write, one.cache_write);
        add(&mut sum.usage.cache_write_5m, one.cache_write_5m);
        add(&mut sum.usage.cache_write_1h, one.cache_write_1h);
        add(&mut sum.usage.output, one.output);
    });
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(reports: &[(&str, When)]) -> Usage {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        for (report, when) in reports {
            let report = Json::document(report.as_bytes());
            report.read(|report| read(report, *when, &mut facts, &mut state));
        }
        facts.usage
    }

    #[test]
    fn input_is_what_was_read_with_and_without_the_cache() {
        let found = usage(&[(
            r#"{"input_tokens":10,"cache_read_input_tokens":100,"cache_creation_input_tokens":7,
            "cache_creation":{"ephemeral_5m_input_tokens":5,"ephemeral_1h_input_tokens":2},
            "output_tokens":20,"output_tokens_details":{"thinking_tokens":3},
            "server_tool_use":{"web_search_requests":2}}"#,
            When::After,
        )]);
        let expected = Usage {
            cache_read: Some(100),
            cache_write: Some(7),
            cache_write_5m: Some(5),
            cache_write_1h: Some(2),
            reasoning: Some(3),
            web_searches: Some(2),
            ..Usage::text(117, 20)
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_later_report_replaces_field_by_field_and_null_says_nothing() {
        let found = usage(&[
            (
                r#"{"input_tokens":10,"cache_read_input_tokens":100,"output_tokens":1}"#,
                When::Before,
            ),
            (
                r#"{"input_tokens":30,"cache_read_input_tokens":null,"output_tokens":9}"#,
                When::After,
            ),
            (r#"{"output_tokens":12}"#, When::After),
        ]);
        assert_eq!(
            found,
            Usage {
                cache_read: Some(100),
                ..Usage::text(130, 12)
            }
        );
    }

    #[test]
    fn the_stub_before_the_output_is_no_count() {
        let found = usage(&[(r#"{"input_tokens":10,"output_tokens":1}"#, When::Before)]);
        assert_eq!((found.input, found.output), (Some(10), None));
    }

    #[test]
    fn rounds_are_summed_where_the_top_shows_only_a_part() {
        let found = usage(&[(
            r#"{"input_tokens":181,"cache_read_input_tokens":0,"output_tokens":8,"iterations":[
            {"input_tokens":100,"cache_read_input_tokens":55096,"output_tokens":83,"type":"compaction"},
            {"input_tokens":181,"cache_read_input_tokens":0,"output_tokens":8,"type":"message"}]}"#,
            When::After,
        )]);
        assert_eq!(
            found,
            Usage {
                cache_read: Some(55096),
                ..Usage::text(55377, 91)
            }
        );
        let whole = usage(&[(
            r#"{"input_tokens":5,"output_tokens":6,"iterations":[{"input_tokens":5,"output_tokens":6}]}"#,
            When::After,
        )]);
        assert_eq!(whole, Usage::text(5, 6));
    }
}

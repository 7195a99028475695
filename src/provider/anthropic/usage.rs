//! Token counts as Anthropic reports them.
//!
//! What the cache held of the input, or took of it, is reported apart and belongs to it.

use crate::{
    call::{
        facts::{ResponseFacts, Round},
        usage::Usage,
    },
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
        b"inference_geo" => named(value, &mut facts.region),
        b"iterations" if when == When::After => rounds = Rounds::read(value),
        _ => {},
    });
    if rounds.are_billed(total(uncached, &found)) {
        uncached = Some(rounds.uncached);
        found.update(&rounds.usage);
        facts.rounds = rounds.list;
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

/// What models were asked for in all rounds that one response took (compaction, advisors): the bill
/// is their sum, each by its own model, of which the usage above them may show only a part.
#[derive(Debug, Default)]
struct Rounds {
    uncached: u64,
    /// The sum, `input` apart.
    usage: Usage,
    list: Vec<Round>,
}

impl Rounds {
    /// The most that are kept one by one; a later one is added to the last of its model.
    const MOST: usize = 64;

    fn read(rounds: Ahead<'_, '_>) -> Self {
        let mut all = Self::default();
        rounds.items(|round| {
            let mut one = Round::default();
            let mut uncached = None;
            round.object(|key, value| match key {
                b"input_tokens" => uncached = value.take().u64(),
                b"cache_read_input_tokens" => one.usage.cache_read = value.take().u64(),
                b"cache_creation_input_tokens" => one.usage.cache_write = value.take().u64(),
                b"cache_creation" => lifetimes(value, &mut one.usage),
                b"output_tokens" => one.usage.output = value.take().u64(),
                b"model" => named(value, &mut one.model),
                _ => {},
            });
            all.uncached = all.uncached.saturating_add(uncached.unwrap_or(0));
            // Its input is not set yet: that is not a part of the sum.
            all.usage.add(&one.usage);
            one.usage.input = Some(total(
                uncached,
                &Usage {
                    output: None,
                    ..one.usage
                },
            ));
            all.keep(one);
        });
        all
    }

    fn keep(&mut self, one: Round) {
        if self.list.len() < Self::MOST {
            self.list.push(one);
            return;
        }
        let same = self.list.iter().rposition(|known| known.model == one.model);
        let place = same.unwrap_or(Self::MOST - 1);
        if let Some(last) = self.list.get_mut(place) {
            last.usage.add(&one.usage);
        }
    }

    fn total(&self) -> u64 {
        total(Some(self.uncached), &self.usage)
    }

    /// Whether they are the bill, where the usage above them has `shown` tokens.
    fn are_billed(&self, shown: u64) -> bool {
        let others = self.list.iter().any(|round| round.model.is_some());
        let total = self.total();
        self.usage.output.is_some() && (total > shown || (others && total == shown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(reports: &[(&str, When)]) -> Usage {
        facts(reports).usage
    }

    fn facts(reports: &[(&str, When)]) -> ResponseFacts {
        let (mut facts, mut state) = (ResponseFacts::default(), StreamState::default());
        for (report, when) in reports {
            let report = Json::document(report.as_bytes());
            report.read(|report| read(report, *when, &mut facts, &mut state));
        }
        facts
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

    #[test]
    fn each_round_keeps_its_model_and_its_own_input() {
        let found = facts(&[(
            r#"{"input_tokens":2390,"output_tokens":121,"inference_geo":"us","iterations":[
            {"input_tokens":1128,"output_tokens":110,"type":"message"},
            {"input_tokens":2500,"cache_read_input_tokens":18,"output_tokens":22,
             "type":"advisor_message","model":"claude-opus-4-8"},
            {"input_tokens":1262,"output_tokens":11,"type":"message"}]}"#,
            When::After,
        )]);
        let own = |input, output| Round {
            model: None,
            usage: Usage::text(input, output),
        };
        let advisor = Round {
            model: Some(Box::from("claude-opus-4-8")),
            usage: Usage {
                cache_read: Some(18),
                ..Usage::text(2518, 22)
            },
        };
        assert_eq!(found.rounds, [own(1128, 110), advisor, own(1262, 11)]);
        assert_eq!(
            (found.usage.input, found.usage.output),
            (Some(4908), Some(143))
        );
        assert_eq!(found.region.as_deref(), Some("us"));
    }

    #[test]
    fn rounds_that_the_top_shows_whole_are_not_kept_unless_they_name_models() {
        let report = |model| {
            let top = r#""input_tokens":5,"output_tokens":6"#;
            let report = format!("{{{top},\"iterations\":[{{{top}{model}}}]}}");
            facts(&[(&report, When::After)]).rounds.len()
        };
        assert_eq!(report(""), 0);
        assert_eq!(report(r#","model":"claude-opus-4-8""#), 1);
    }

    #[test]
    fn of_too_many_rounds_the_last_take_the_rest() {
        let round = r#"{"input_tokens":2,"output_tokens":1},"#;
        let other = r#"{"input_tokens":3,"output_tokens":1,"model":"other"},"#;
        let report = format!(
            r#"{{"input_tokens":2,"output_tokens":1,"iterations":[{other}{}{other}{{}}]}}"#,
            round.repeat(100)
        );
        let found = facts(&[(&report, When::After)]);
        assert_eq!(found.rounds.len(), Rounds::MOST);
        assert_eq!(found.rounds[0].usage, Usage::text(6, 2));
        let input = found.rounds.iter().filter_map(|round| round.usage.input);
        assert_eq!(Some(input.sum()), found.usage.input);
    }
}

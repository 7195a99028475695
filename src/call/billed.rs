//! What the cost of a stored call depends on, so that it can be worked out again, and the new cost
//! on its line.

use serde_json::{Map, Value, json};

use super::{
    facts::Round,
    span::{PRICING_VERSION, RECOVERED, ROUNDS},
    usage::Usage,
};
use crate::base::{clock::Timestamp, money::Usd};

/// The attribute of what a call cost.
const COST: &str = "tollgate.cost.usd";

/// Attribute: what the call was said to cost before, the first value first, each with what it was
/// priced by and when that was replaced.
const AMENDED: &str = "tollgate.cost.amended";

/// A stored call that can be priced again.
#[derive(Clone, Debug, PartialEq)]
pub struct Billed {
    span: Map<String, Value>,
    /// When it was made.
    pub start: Timestamp,
    /// What was used.
    pub usage: Usage,
    /// The rounds of its answer, where they are billed one by one.
    pub rounds: Vec<Round>,
    /// What it is said to cost.
    pub cost: Option<Usd>,
}

impl Billed {
    /// Reads a span's line. `None`: it is none, or its cost does not follow from its counts: they
    /// are not known, or only bounds, or of several answers, or not all on the line (an earlier
    /// version wrote it, or the ledger, after a kill).
    pub fn read(line: &str) -> Option<Self> {
        let Value::Object(span) = serde_json::from_str(line).ok()? else {
            return None;
        };
        let attributes = span.get("attributes")?.as_object()?;
        let text = |name: &str| attributes.get(name).and_then(Value::as_str);
        let cost: Option<Usd> = text(COST).and_then(|cost| cost.parse().ok());
        let source = text("tollgate.usage.source")?;
        let counts = matches!(source, "reported" | "estimated");
        let whole = cost.is_none() || text(PRICING_VERSION).is_some();
        let not_here = ["tollgate.batch.answers", RECOVERED];
        if !counts || !whole || not_here.iter().any(|name| attributes.contains_key(*name)) {
            return None;
        }
        let start: jiff::Timestamp = span.get("start_time")?.as_str()?.parse().ok()?;
        let start = Timestamp::from_nanos(start.as_nanosecond().try_into().ok()?);
        let usage = usage_of(attributes);
        let rounds = attributes.get(ROUNDS).and_then(Value::as_array);
        let rounds = rounds.filter(|_| source == "reported");
        let rounds = rounds.into_iter().flatten();
        let rounds = rounds
            .map(|round| round.as_str()?.parse().ok())
            .collect::<Option<Vec<Round>>>()?;
        usage.is_reported().then_some(Self {
            span,
            start,
            usage,
            rounds,
            cost,
        })
    }

    /// The attribute of that name, if it is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.span.get("attributes")?.get(name)?.as_str()
    }

    /// Its line with another cost, `by` that version of prices; the one that it had stays on it.
    pub fn amended(mut self, cost: Usd, by: &str, now: Timestamp) -> String {
        let before = json!({
            "usd": self.text(COST),
            "pricing_version": self.text(PRICING_VERSION),
            "replaced": now.to_string(),
        });
        if let Some(Value::Object(attributes)) = self.span.get_mut("attributes") {
            attributes.insert(COST.to_owned(), Value::String(cost.to_string()));
            attributes.insert(PRICING_VERSION.to_owned(), Value::String(by.to_owned()));
            let amended = attributes.entry(AMENDED).or_insert_with(|| json!([]));
            if let Value::Array(amended) = amended {
                amended.push(before);
            }
        }
        Value::Object(self.span).to_string()
    }
}

/// The counts that a span's attributes say.
pub(super) fn usage_of(attributes: &Map<String, Value>) -> Usage {
    let count = |name: &str| attributes.get(name).and_then(Value::as_u64);
    let mut usage = Usage {
        input: count("gen_ai.usage.input_tokens"),
        cache_read: count("gen_ai.usage.cache_read.input_tokens"),
        cache_write: count("gen_ai.usage.cache_creation.input_tokens"),
        output: count("gen_ai.usage.output_tokens"),
        reasoning: count("gen_ai.usage.reasoning.output_tokens"),
        ..Usage::NONE
    };
    for (name, _) in Usage::NONE.further() {
        usage.set_further(name, count(&format!("tollgate.usage.{name}")));
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            span::{Span, Value as Attribute, tests::example},
            usage::UsageSource,
        },
        *,
    };

    fn priced() -> Span {
        let text = |text: &str| Attribute::Text(Box::from(text));
        let rounds = Attribute::Texts(vec![Box::from("- input=5 output=6")]);
        Span {
            attributes: vec![(PRICING_VERSION, text("a book 1")), (ROUNDS, rounds)],
            ..example()
        }
    }

    #[test]
    fn every_count_is_read_back_as_it_was_written() {
        let mut counts = serde_json::to_value(Usage::NONE).unwrap();
        let fields = counts.as_object_mut().unwrap().values_mut();
        for (field, count) in fields.zip(1..) {
            *field = json!(count);
        }
        let usage: Usage = serde_json::from_value(counts).unwrap();
        let span = Span { usage, ..priced() };
        let read = Billed::read(&span.to_json()).unwrap();
        assert_eq!((read.usage, read.cost), (usage, span.cost));
        assert_eq!(
            read.rounds,
            [Round {
                model: None,
                usage: Usage::text(5, 6),
            }]
        );
        assert_eq!(
            read.text("gen_ai.response.model"),
            Some("gpt-4o-2024-08-06")
        );
    }

    #[test]
    fn what_does_not_follow_from_counts_is_left_alone() {
        let bound = Span {
            usage_source: UsageSource::Ceiling,
            ..priced()
        };
        let silent = Span {
            usage: Usage::NONE,
            ..priced()
        };
        let mut several = priced();
        let answers = ("tollgate.batch.answers", Attribute::Int(2));
        several.attributes.push(answers);
        let mut from_the_ledger = priced();
        let recovered = (RECOVERED, Attribute::Bool(true));
        from_the_ledger.attributes.push(recovered);
        for span in [bound, silent, several, from_the_ledger, example()] {
            assert_eq!(Billed::read(&span.to_json()), None);
        }
        assert_eq!(Billed::read("no JSON"), None);
        let unknown = Span {
            cost: None,
            ..example()
        };
        assert!(Billed::read(&unknown.to_json()).is_some());
    }

    #[test]
    fn an_amended_line_keeps_what_it_said_before() {
        let line = priced().to_json();
        let now = Timestamp::from_secs(1_795_400_000);
        let once = Billed::read(&line).unwrap();
        let old = once.cost.unwrap().to_string();
        let once = once.amended(Usd::from_nanos(7), "a book 2", now);
        let again = Billed::read(&once).unwrap();
        assert_eq!(again.cost, Some(Usd::from_nanos(7)));
        let again = again.amended(Usd::from_nanos(8), "a book 3", now);
        let again: Value = serde_json::from_str(&again).unwrap();
        let amended = &again["attributes"][AMENDED];
        assert_eq!(
            (&amended[0]["usd"], &amended[0]["pricing_version"]),
            (&json!(old), &json!("a book 1"))
        );
        assert_eq!(amended[1]["usd"], "0.000000007");
        assert_eq!(again["attributes"][COST], "0.000000008");
    }
}

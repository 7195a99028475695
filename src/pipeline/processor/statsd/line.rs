//! A span as lines of the statsd protocol: `name:value|type`, and tags where the dialect has them.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write as _,
    time::Duration,
};

use serde::Deserialize;

use crate::{
    call::{labels::Label, span::Span},
    pipeline::Record,
};

/// The most agents and models that are told apart, each; further ones are `other`.
const MOST_VALUES: usize = 1_000;

/// The longest value of a tag, in characters.
const MOST_LETTERS: usize = 100;

/// How lines are written: by the server that reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// The first one. It has no tags: the ends of the names are provider, model and status.
    #[default]
    Etsy,
    /// Datadog's: `name:1|c|#k:v`, with distributions.
    Dogstatsd,
    /// That of `InfluxDB`'s Telegraf: `name,k=v:1|c`.
    Influx,
    /// Graphite's: `name;k=v:1|c`.
    Graphite,
    /// That of `SignalFx`: `name[k=v]:1|c`.
    Signalfx,
}

/// What a number means, which chooses its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// Adds up.
    Count,
    /// Milliseconds.
    Time,
    /// Adds up, and its distribution is of interest.
    Amount,
    /// The same with digits behind the point.
    Money,
}

impl Dialect {
    const fn code(self, means: Means) -> &'static str {
        match (self, means) {
            (_, Means::Count) => "c",
            (Self::Dogstatsd, _) => "d",
            (_, Means::Time) => "ms",
            // Telegraf cuts counters to whole numbers.
            (Self::Influx, Means::Money) => "h",
            (_, Means::Amount | Means::Money) => "c",
        }
    }

    fn line(self, name: &str, value: (&str, Means), tags: &[(&str, String)]) -> String {
        let (value, means) = value;
        let code = self.code(means);
        let joined = |between: &str, is: char| {
            let mut text = String::new();
            for (at, (key, value)) in tags.iter().enumerate() {
                let before = if at == 0 { "" } else { between };
                // Writing to a String cannot fail.
                let _ok = write!(text, "{before}{key}{is}{value}");
            }
            text
        };
        match self {
            Self::Etsy => {
                let of = |key: &str| tags.iter().find(|(name, _)| *name == key);
                let of = |key: &str| of(key).map_or_else(|| "none".to_owned(), |(_, it)| part(it));
                let (provider, model, status) = (of("provider"), of("model"), of("status"));
                format!("{name}.{provider}.{model}.{status}:{value}|{code}")
            },
            Self::Dogstatsd => format!("{name}:{value}|{code}|#{}", joined(",", ':')),
            Self::Influx => format!("{name},{}:{value}|{code}", joined(",", '=')),
            Self::Graphite => format!("{name};{}:{value}|{code}", joined(";", '=')),
            Self::Signalfx => format!("{name}[{}]:{value}|{code}", joined(",", '=')),
        }
    }
}

/// A value as a part of a name, which dots divide.
fn part(value: &str) -> String {
    value.replace(['.', '/'], "_")
}

/// A value of a tag without what means something in any dialect.
fn cleaned(value: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "._-/".contains(letter);
    let letters = value.chars().take(MOST_LETTERS);
    let text: String = letters.map(|it| if plain(it) { it } else { '_' }).collect();
    if text.is_empty() {
        "none".to_owned()
    } else {
        text
    }
}

/// The values of a tag that whoever calls may choose freely.
#[derive(Debug, Default)]
struct Known(HashSet<Box<str>>);

impl Known {
    fn bounded(&mut self, value: &str) -> String {
        if !self.0.contains(value) {
            if self.0.len() >= MOST_VALUES {
                return "other".to_owned();
            }
            self.0.insert(Box::from(value));
        }
        cleaned(value)
    }
}

/// Writes lines.
pub(super) struct Writer {
    dialect: Dialect,
    prefix: Box<str>,
    /// Tags of every line.
    tags: Vec<(Box<str>, String)>,
    service: String,
    environment: Option<Box<str>>,
    agents: Known,
    models: Known,
}

impl Writer {
    /// `service`: what spans are reported for, and their environment where they do not say theirs.
    pub(super) fn new(
        (dialect, prefix): (Dialect, &str),
        tags: &BTreeMap<Box<str>, Box<str>>,
        (service, environment): (&str, Option<&str>),
    ) -> Self {
        let tags = tags.iter();
        Self {
            dialect,
            prefix: Box::from(prefix),
            tags: tags
                .map(|(key, value)| (cleaned(key).into_boxed_str(), cleaned(value)))
                .collect(),
            service: cleaned(service),
            environment: environment.map(Box::from),
            agents: Known::default(),
            models: Known::default(),
        }
    }

    /// The lines of a span. What is not known has none.
    pub(super) fn lines(&mut self, record: &Record) -> Vec<String> {
        let span = &record.span;
        let usage = &span.usage;
        let tokens = usage.input.or(usage.output).map(|_known| usage.total());
        let whole = |number: Option<u64>| number.map(|number| number.to_string());
        let values = [
            ("spans", Some("1".to_owned()), Means::Count),
            ("span.duration", Some(millis(span.duration)), Means::Time),
            (
                "span.time_to_first_token",
                span.first_chunk.map(millis),
                Means::Time,
            ),
            ("tokens.total", whole(tokens), Means::Amount),
            ("tokens.input", whole(usage.input), Means::Amount),
            ("tokens.output", whole(usage.output), Means::Amount),
            (
                "cost.usd",
                span.cost.map(|cost| cost.to_string()),
                Means::Money,
            ),
        ];
        let (dialect, prefix) = (self.dialect, self.prefix.clone());
        let tags = self.tags_of(span);
        let lines = values.into_iter().filter_map(|(name, value, means)| {
            let name = format!("{prefix}.{name}");
            Some(dialect.line(&name, (&value?, means), &tags))
        });
        lines.collect()
    }

    fn tags_of(&mut self, span: &Span) -> Vec<(&str, String)> {
        let environment = span.labels.get(Label::Environment);
        let environment = environment.or(self.environment.as_deref());
        let agent = span.labels.get(Label::Agent);
        let own = [
            ("service", Some(self.service.clone())),
            ("env", environment.map(cleaned)),
            ("span_type", Some(span.kind.name().to_owned())),
            ("status", Some(span.status.name().to_owned())),
            ("provider", Some(cleaned(&span.provider))),
            (
                "model",
                span.model().map(|model| self.models.bounded(model)),
            ),
            ("agent", agent.map(|agent| self.agents.bounded(agent))),
        ];
        let own = own
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)));
        let more = self.tags.iter();
        let more = more.map(|(key, value)| (&**key, value.clone()));
        own.chain(more).collect()
    }
}

/// In milliseconds, exact to the microsecond.
fn millis(duration: Duration) -> String {
    let micros = duration.as_micros();
    format!("{}.{:03}", micros / 1_000, micros % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{
        labels::{Labels, Source},
        span::tests::example,
        usage::Usage,
    };

    fn writer(dialect: Dialect) -> Writer {
        let tags = [(Box::from("te:am"), Box::from("a|b"))].into();
        Writer::new((dialect, "ai_agents"), &tags, ("raaf", Some("prod")))
    }

    fn of_agent(agent: &str) -> Span {
        let mut labels = Labels::default();
        labels.set(Label::Agent, agent, Source::Header);
        Span {
            labels,
            ..example()
        }
    }

    fn lines(dialect: Dialect, span: &Span) -> Vec<String> {
        writer(dialect).lines(&Record::new(span.clone()))
    }

    #[test]
    fn each_dialect_has_its_tags_in_its_place() {
        let tags = [
            "service:raaf",
            "env:prod",
            "span_type:llm",
            "status:ok",
            "provider:openai",
            "model:gpt-4o-2024-08-06",
            "agent:support",
            "te_am:a_b",
        ];
        let joined = |between: &str| tags.join(between);
        let equal = |between: &str| joined(between).replace(':', "=");
        for (dialect, first, cost) in [
            (
                Dialect::Etsy,
                "ai_agents.spans.openai.gpt-4o-2024-08-06.ok:1|c".to_owned(),
                ":0.000625000|c",
            ),
            (
                Dialect::Dogstatsd,
                format!("ai_agents.spans:1|c|#{}", joined(",")),
                ":0.000625000|d|",
            ),
            (
                Dialect::Influx,
                format!("ai_agents.spans,{}:1|c", equal(",")),
                ":0.000625000|h",
            ),
            (
                Dialect::Graphite,
                format!("ai_agents.spans;{}:1|c", equal(";")),
                ":0.000625000|c",
            ),
            (
                Dialect::Signalfx,
                format!("ai_agents.spans[{}]:1|c", equal(",")),
                ":0.000625000|c",
            ),
        ] {
            let lines = lines(dialect, &example());
            assert_eq!(lines[0], first);
            assert_eq!(lines.len(), 7);
            assert!(lines[6].contains(cost), "{}", lines[6]);
        }
    }

    #[test]
    fn what_is_not_known_has_no_line() {
        let span = Span {
            cost: None,
            first_chunk: None,
            usage: Usage {
                output: None,
                ..example().usage
            },
            ..example()
        };
        let lines = lines(Dialect::Etsy, &span);
        let names: Vec<&str> = lines
            .iter()
            .map(|it| it.split(".openai").next().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "ai_agents.spans",
                "ai_agents.span.duration",
                "ai_agents.tokens.total",
                "ai_agents.tokens.input"
            ]
        );
        assert!(lines[1].ends_with(":812.400|ms"), "{}", lines[1]);
        assert!(lines[2].ends_with(":120|c"), "{}", lines[2]);
    }

    #[test]
    fn no_value_ends_its_line_or_its_tag() {
        for dialect in [
            Dialect::Dogstatsd,
            Dialect::Influx,
            Dialect::Graphite,
            Dialect::Signalfx,
            Dialect::Etsy,
        ] {
            let mut span = of_agent("a:b|c#d,e;f=g]h\n@i {j");
            span.response_model = Some("m\n:1|c".into());
            for line in lines(dialect, &span) {
                assert!(!line.contains(['\n', ' ', '@', '{']), "{line}");
                let divided = line.matches('|').count();
                assert_eq!(
                    divided,
                    if dialect == Dialect::Dogstatsd { 2 } else { 1 },
                    "{line}"
                );
            }
        }
    }

    #[test]
    fn agents_are_told_apart_up_to_a_bound() {
        let mut writer = writer(Dialect::Dogstatsd);
        let mut of = |agent: &str| {
            let span = of_agent(agent);
            writer.lines(&Record::new(span)).remove(0)
        };
        for number in 0..MOST_VALUES {
            assert!(of(&format!("a{number}")).contains(&format!("agent:a{number},")));
        }
        assert!(of("one-more").contains("agent:other,"));
        assert!(of("a7").contains("agent:a7,"));
    }
}

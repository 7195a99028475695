//! Which spans are for a processor: those that went well, those that failed, those that took long,
//! those of which something else holds.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, de};

use super::{options::Options, record::Record};
use crate::{
    base::{glob::Glob, money::Usd},
    call::outcome::Status,
};

/// What must hold of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Whether calls that did not fail pass: those that went well, and those that their client left.
    pub successful: bool,
    /// Whether calls that failed or were refused do.
    pub failed: bool,
    /// Calls that did not fail must have taken as long.
    pub min_duration: Duration,
    /// Calls that did not fail must have cost as much; what nobody knows is not enough.
    pub min_cost: Option<Usd>,
    /// What must hold besides.
    pub matches: Match,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            successful: true,
            failed: true,
            min_duration: Duration::ZERO,
            min_cost: None,
            matches: Match::default(),
        }
    }
}

impl Filter {
    /// What the options ask for, beside what the type asks for already.
    pub(super) fn narrowed(mut self, options: &Options) -> Self {
        self.successful &= options.include_successful_traces.unwrap_or(true);
        self.failed &= options.include_error_traces.unwrap_or(true);
        if let Some(least) = options.min_duration_ms {
            self.min_duration = Duration::from_millis(least);
        }
        if let Some(matches) = &options.matches {
            self.matches.0.extend(matches.0.iter().cloned());
        }
        self
    }

    /// Whether no span is for the processor, whatever it says.
    pub const fn is_shut(&self) -> bool {
        !self.successful && !self.failed
    }

    /// Whether the span is for the processor.
    pub fn passes(&self, record: &Record) -> bool {
        self.fit(record) == Fit::Passes
    }

    /// What is to be thought of the span.
    pub(super) fn fit(&self, record: &Record) -> Fit {
        let span = &record.span;
        let fit = match span.status {
            Status::Ok | Status::Cancelled => {
                let dear = |least| span.cost.is_some_and(|cost| cost >= least);
                let passes = self.successful
                    && span.duration >= self.min_duration
                    && self.min_cost.is_none_or(dear);
                if passes { Fit::Passes } else { Fit::Follows }
            },
            Status::Error | Status::Blocked if self.failed => Fit::Passes,
            Status::Error | Status::Blocked => Fit::Fails,
        };
        // Only a span that passes can take others along.
        let alone = fit == Fit::Follows && !self.waits();
        if alone || fit != Fit::Fails && !self.matches.holds(record) {
            return Fit::Fails;
        }
        fit
    }

    /// Whether there can be spans that do not pass by themselves, and others that do.
    pub(super) fn waits(&self) -> bool {
        let all = self.successful && self.min_duration.is_zero() && self.min_cost.is_none();
        !all && (self.successful || self.failed)
    }
}

/// What a filter says of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It is for the processor.
    Passes,
    /// It did not fail, and is too short or too cheap by itself: another span of its trace may pass.
    Follows,
    /// It is not for the processor.
    Fails,
}

/// `match: {agent: "research-*", environment: [prod, staging]}` — each name (a label, a tag, a
/// member or an attribute of the span) must have a value that is as one of its patterns says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match(Vec<(Box<str>, Patterns)>);

impl Match {
    /// Whether all of it holds. A span that lacks a name does not match it.
    pub fn holds(&self, record: &Record) -> bool {
        let matches = |(name, patterns): &(Box<str>, Patterns)| {
            record.texts(name).iter().any(|text| patterns.matches(text))
        };
        self.0.iter().all(matches)
    }
}

/// One or several patterns in which `*` stands for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns(Vec<Glob>);

impl Patterns {
    fn matches(&self, text: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(text))
    }
}

impl<'de> Deserialize<'de> for Match {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> de::Visitor<'de> for Entries {
            type Value = Match;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels or attributes with patterns, like {agent: \"support-*\"}")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Match, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Match(entries))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        impl<'de> de::Visitor<'de> for OneOrMore {
            type Value = Patterns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a pattern like \"research-*\", or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Patterns, E> {
                Ok(Patterns(vec![Glob::new(text)]))
            }

            fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Patterns, E> {
                self.visit_str(if flag { "true" } else { "false" })
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Patterns, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Patterns, A::Error> {
                let mut patterns = Vec::new();
                while let Some(mut more) = list.next_element::<Patterns>()? {
                    patterns.append(&mut more.0);
                }
                Ok(Patterns(patterns))
            }
        }

        deserializer.deserialize_any(OneOrMore)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::span, *};
    use crate::call::{
        labels::{Label, Source},
        span::{Span, Value},
    };

    fn matches(yaml: &str) -> Filter {
        Filter {
            matches: serde_saphyr::from_str(yaml).unwrap(),
            ..Filter::default()
        }
    }

    fn record(status: Status, millis: u64) -> Record {
        Record::new(Span {
            status,
            duration: Duration::from_millis(millis),
            ..span(1)
        })
    }

    #[test]
    fn short_calls_are_left_out_unless_they_failed() {
        let filter = Filter {
            min_duration: Duration::from_millis(100),
            ..Filter::default()
        };
        for (status, millis, passes) in [
            (Status::Ok, 99, false),
            (Status::Ok, 100, true),
            (Status::Error, 1, true),
            (Status::Blocked, 1, true),
            (Status::Cancelled, 1, false),
        ] {
            assert_eq!(filter.passes(&record(status, millis)), passes, "{status:?}");
        }
    }

    #[test]
    fn cheap_calls_are_left_out_and_so_are_those_whose_cost_nobody_knows() {
        let filter = Filter {
            min_cost: Some(Usd::from_nanos(100)),
            ..Filter::default()
        };
        let passes = |status, cost| {
            let cost = Option::map(cost, Usd::from_nanos);
            let span = Span {
                status,
                cost,
                ..span(1)
            };
            filter.passes(&Record::new(span))
        };
        assert!(passes(Status::Ok, Some(100)) && !passes(Status::Ok, Some(99)));
        assert!(!passes(Status::Ok, None) && passes(Status::Error, None));
    }

    #[test]
    fn successes_and_failures_can_each_be_left_out() {
        let options = |successful, failed| Options {
            include_successful_traces: successful,
            include_error_traces: failed,
            ..Options::default()
        };
        let passes = |options: &Options, status| {
            let filter = Filter::default().narrowed(options);
            filter.passes(&record(status, 1))
        };
        let failures = options(Some(false), None);
        assert!(!passes(&failures, Status::Ok) && passes(&failures, Status::Error));
        let successes = options(None, Some(false));
        assert!(passes(&successes, Status::Ok) && !passes(&successes, Status::Error));
    }

    #[test]
    fn labels_tags_members_and_attributes_can_be_matched() {
        let mut span = span(1);
        span.labels.set(Label::Agent, "support-eu", Source::Header);
        span.labels.tag("team", "a\"b", Source::Header);
        for name in ["status", "url.path", "tollgate.attempt"] {
            span.labels
                .tag(name, "chosen by the client", Source::Header);
        }
        span.http_status = Some(429);
        span.finish_reasons = vec!["stop".into(), "length".into()];
        span.path = "/v1/\",\"error.type\":\"fake\"".into();
        span.attributes = vec![("tollgate.attempt", Value::Int(2))];
        let record = Record::new(span);
        for (yaml, holds) in [
            ("{}", true),
            ("{agent: 'support-*'}", true),
            ("{agent: [research, 'support-*'], team: 'a\"b'}", true),
            ("{agent: research}", false),
            ("{user: '*'}", false),
            ("{status: 'chosen*'}", false),
            ("{url.path: 'chosen*'}", false),
            ("{tollgate.attempt: 'chosen*'}", false),
            ("{status: ok, kind: [http, llm]}", true),
            ("{http.response.status_code: 429}", true),
            ("{http.response.status_code: '4*'}", true),
            ("{gen_ai.response.finish_reasons: length}", true),
            ("{tollgate.attempt: 2}", true),
            ("{tollgate.attempt: 3}", false),
            ("{error.type: fake}", false),
        ] {
            assert_eq!(matches(yaml).passes(&record), holds, "{yaml}");
        }
    }
}

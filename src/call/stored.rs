//! A span read back from its line: the same span, but for what the line does not say (where labels
//! came from, times below a microsecond, the last digit of a fraction).

use std::{collections::HashSet, str::FromStr, time::Duration};

use serde::{Deserialize, de::value::StrDeserializer};
use serde_json::{Map, Value as Json};

use super::{
    billed::usage_of,
    brief::seconds,
    facts::ToolCall,
    labels::{Label, Labels, Source},
    outcome::{Decision, End, Kind, Status},
    reported::{Format, Reported},
    span::{Event, Span, Value},
    usage::{Usage, UsageSource},
};
use crate::base::{clock::Timestamp, id::RequestId};

/// The most names that are kept; a program has some hundred.
const MOST: usize = 4_096;

/// The longest name that is kept, in bytes.
const LONGEST: usize = 128;

/// The line is not a span's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the line is not a span: `{0}` is missing or wrong")]
pub struct NotASpan(&'static str);

/// The names of attributes, edits and operations that lines said. Spans hold such names as parts of
/// the program, so each is kept for as long as the process runs, which is why they are bounded:
/// what has a name beyond the bound is left out of its span.
#[derive(Debug, Default)]
pub struct Names {
    known: HashSet<&'static str>,
    left_out: u64,
}

impl Names {
    /// How often something was left out because there were too many names.
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    fn keep(&mut self, name: &str) -> Option<&'static str> {
        if let Some(known) = self.known.get(name) {
            return Some(known);
        }
        if self.known.len() >= MOST || name.len() > LONGEST {
            self.left_out += 1;
            return None;
        }
        let name: &'static str = Box::leak(Box::from(name));
        self.known.insert(name);
        Some(name)
    }
}

impl Span {
    /// Reads what [`Span::to_json`] wrote.
    ///
    /// # Errors
    /// The text is not a span.
    pub fn from_json(line: &str, names: &mut Names) -> Result<Self, NotASpan> {
        let mut line = Fields(match serde_json::from_str(line) {
            Ok(Json::Object(fields)) => fields,
            _ => return Err(NotASpan("{")),
        });
        let mut said = Fields(match line.0.remove("attributes") {
            Some(Json::Object(fields)) => fields,
            _ => return Err(NotASpan("attributes")),
        });
        let by = said.string("tollgate.reported.by");
        let by = by.and_then(|by| Format::ALL.into_iter().find(|it| it.name() == by));
        let name = by.and_then(|_| line.text("operation_name"));
        let usage = said.usage();
        let labels = said.labels();
        let tool_calls = said.tool_calls();
        let edits = said.texts("tollgate.edits");
        let mut span = Self {
            trace_id: line.need("trace_id")?,
            span_id: line.need("span_id")?,
            parent_span_id: line.parsed("parent_span_id"),
            request_id: said.of_call("tollgate.request_id", by, RequestId::NONE, Fields::need)?,
            kind: line.word::<Kind>("kind")?,
            operation: said.name("gen_ai.operation.name", names),
            start: line.time("start_time").ok_or(NotASpan("start_time"))?,
            duration: line.duration("duration_ms", 1e3).unwrap_or_default(),
            first_chunk: said.duration("gen_ai.response.time_to_first_chunk", 1.0),
            status: line.word::<Status>("status")?,
            end: said.of_call("tollgate.end", by, End::Complete, Fields::word)?,
            provider: said.text("gen_ai.provider.name").unwrap_or_default(),
            request_model: said.text("gen_ai.request.model"),
            response_model: said.text("gen_ai.response.model"),
            response_id: said.text("gen_ai.response.id"),
            finish_reasons: said.texts("gen_ai.response.finish_reasons"),
            tool_calls,
            stream: said.0.remove("gen_ai.request.stream") == Some(Json::Bool(true)),
            labels,
            usage,
            usage_source: said.of_call(
                "tollgate.usage.source",
                by,
                UsageSource::Absent,
                Fields::word,
            )?,
            cost: said.parsed("tollgate.cost.usd"),
            decision: said.of_call("tollgate.decision", by, Decision::Admitted, Fields::word)?,
            blocked_by: said.text("tollgate.blocked_by"),
            http_status: said
                .count("http.response.status_code")
                .and_then(|status| u16::try_from(status).ok()),
            method: said.text("http.request.method").unwrap_or_default(),
            server_address: said.text("server.address").unwrap_or_default(),
            path: said.text("url.path").unwrap_or_default(),
            error_type: said.text("error.type"),
            edits: edits.iter().filter_map(|edit| names.keep(edit)).collect(),
            partial: said.name("tollgate.partial", names),
            events: line.events(),
            attributes: Vec::new(),
            reported: None,
        };
        let rest = said.0.into_iter();
        let rest = rest.filter_map(|(name, json)| Some((name, value(json)?)));
        if let Some(by) = by {
            span.reported = Some(Box::new(Reported {
                by,
                name: name.unwrap_or_default(),
                attributes: rest.map(|(name, value)| (name.into(), value)).collect(),
            }));
        } else {
            let rest = rest.filter_map(|(name, value)| Some((names.keep(&name)?, value)));
            span.attributes = rest.collect();
        }
        Ok(span)
    }
}

/// What is not read yet of an object.
struct Fields(Map<String, Json>);

impl Fields {
    fn string(&mut self, name: &str) -> Option<String> {
        match self.0.remove(name) {
            Some(Json::String(text)) => Some(text),
            _ => None,
        }
    }

    fn text<T: From<String>>(&mut self, name: &str) -> Option<T> {
        self.string(name).map(T::from)
    }

    fn name(&mut self, name: &str, names: &mut Names) -> Option<&'static str> {
        self.string(name).and_then(|text| names.keep(&text))
    }

    fn parsed<T: FromStr>(&mut self, name: &str) -> Option<T> {
        self.string(name)?.parse().ok()
    }

    fn need<T: FromStr>(&mut self, name: &'static str) -> Result<T, NotASpan> {
        self.parsed(name).ok_or(NotASpan(name))
    }

    fn word<T: for<'de> Deserialize<'de>>(&mut self, name: &'static str) -> Result<T, NotASpan> {
        let text = self.string(name).ok_or(NotASpan(name))?;
        let word: StrDeserializer<'_, serde::de::value::Error> = StrDeserializer::new(&text);
        T::deserialize(word).map_err(|_unknown| NotASpan(name))
    }

    /// What every call says, and no span that was reported.
    fn of_call<T>(
        &mut self,
        name: &'static str,
        by: Option<Format>,
        otherwise: T,
        read: fn(&mut Self, &'static str) -> Result<T, NotASpan>,
    ) -> Result<T, NotASpan> {
        match by {
            Some(_) => Ok(otherwise),
            None => read(self, name),
        }
    }

    fn count(&mut self, name: &str) -> Option<u64> {
        self.0.remove(name)?.as_u64()
    }

    fn time(&mut self, name: &str) -> Option<Timestamp> {
        let time: jiff::Timestamp = self.parsed(name)?;
        let nanos = u64::try_from(time.as_nanosecond()).ok()?;
        Some(Timestamp::from_nanos(nanos))
    }

    fn duration(&mut self, name: &str, per_second: f64) -> Option<Duration> {
        Some(seconds(self.0.remove(name)?.as_f64()? / per_second))
    }

    fn texts(&mut self, name: &str) -> Vec<Box<str>> {
        let Some(Json::Array(items)) = self.0.remove(name) else {
            return Vec::new();
        };
        items
            .iter()
            .filter_map(Json::as_str)
            .map(Box::from)
            .collect()
    }

    fn usage(&mut self) -> Usage {
        let usage = usage_of(&self.0);
        self.0.retain(|name, _| {
            let count = name.strip_prefix("tollgate.usage.").is_some_and(|name| {
                Usage::NONE
                    .further()
                    .iter()
                    .any(|(known, _)| *known == name)
            });
            let is_token_count = matches!(
                name.as_str(),
                "gen_ai.usage.input_tokens"
                    | "gen_ai.usage.output_tokens"
                    | "gen_ai.usage.cache_read.input_tokens"
                    | "gen_ai.usage.cache_creation.input_tokens"
                    | "gen_ai.usage.reasoning.output_tokens"
            );
            !count && !is_token_count
        });
        usage
    }

    fn labels(&mut self) -> Labels {
        let mut labels = Labels::default();
        for label in Label::ALL {
            let name = format!("tollgate.{}", label.name());
            if let Some(value) = self.string(&name) {
                labels.set(label, &value, Source::Static);
            }
        }
        if let Some(Json::Object(tags)) = self.0.remove("tollgate.tags") {
            for (key, value) in &tags {
                labels.tag(key, value.as_str().unwrap_or_default(), Source::Static);
            }
        }
        labels
    }

    fn tool_calls(&mut self) -> Vec<ToolCall> {
        let Some(Json::Array(calls)) = self.0.remove("tollgate.tool_calls") else {
            return Vec::new();
        };
        let text = |call: &Json, name| call.get(name).and_then(Json::as_str).map(Box::from);
        let calls = calls.iter().map(|call| ToolCall {
            id: text(call, "id"),
            name: text(call, "name").unwrap_or_default(),
        });
        calls.collect()
    }

    fn events(&mut self) -> Vec<Event> {
        let Some(Json::Array(events)) = self.0.remove("events") else {
            return Vec::new();
        };
        let events = events.into_iter().filter_map(|event| {
            let Json::Object(event) = event else {
                return None;
            };
            let mut event = Self(event);
            Some(Event {
                time: event.time("time")?,
                name: event.string("name")?.into(),
            })
        });
        events.collect()
    }
}

fn value(json: Json) -> Option<Value> {
    Some(match json {
        Json::Null => Value::Float(f64::NAN),
        Json::Bool(flag) => Value::Bool(flag),
        Json::Number(number) => match number.as_u64() {
            Some(number) => Value::Int(number),
            None => Value::Float(number.as_f64()?),
        },
        Json::String(text) => Value::Text(text.into()),
        Json::Array(items) if items.iter().all(Json::is_string) => {
            let texts = items.iter().filter_map(Json::as_str);
            Value::Texts(texts.map(Box::from).collect())
        },
        json => Value::Json(json.to_string().into()),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::{super::span::tests::example, *};
    use crate::base::{id::SpanId, money::Usd};

    /// What the line and the span say, in an order of its own.
    fn shape(span: &Span) -> (Json, String) {
        let mut span = span.clone();
        let json = serde_json::from_str(&span.to_json()).unwrap();
        span.attributes.sort_by_key(|(name, _)| *name);
        span.labels = Labels::default();
        (json, format!("{span:?}"))
    }

    fn labels(values: &[String], tags: &[(String, String)]) -> Labels {
        let mut labels = Labels::default();
        for (label, value) in Label::ALL.into_iter().zip(values) {
            labels.set(label, value, Source::Header);
        }
        for (key, value) in tags {
            labels.tag(key, value, Source::Body);
        }
        labels
    }

    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<u64>().prop_map(Value::Int),
            // Others may be read a unit in their last place off.
            any::<i32>().prop_map(|quarters| Value::Float(f64::from(quarters) / 4.0)),
            any::<String>().prop_map(|text| Value::Text(text.into())),
            prop::collection::vec(any::<String>().prop_map(Box::from), 0..4).prop_map(Value::Texts),
        ]
    }

    prop_compose! {
        fn spans()(
            texts in prop::collection::vec(any::<String>(), 8),
            values in prop::collection::vec(values(), 3),
            label_values in prop::collection::vec(any::<String>(), 6),
            tags in prop::collection::vec(any::<(String, String)>(), 0..4),
            micros in 0_u64..1 << 45,
            cost in proptest::option::of(any::<i64>()),
            counts in prop::collection::vec(proptest::option::of(any::<u64>()), 6),
            flag: bool,
        ) -> Span {
            let text = |at: usize| Box::<str>::from(&*texts[at]);
            let maybe = |at: usize| flag.then(|| text(at));
            Span {
                parent_span_id: flag.then(|| SpanId::from_bytes([7; 8])),
                duration: Duration::from_micros(micros),
                first_chunk: flag.then(|| Duration::from_micros(micros / 2)),
                start: Timestamp::from_nanos(1_795_328_714_000_000_000 + micros * 1_000),
                provider: Arc::from(&*texts[0]),
                request_model: Some(Arc::from(&*texts[1])),
                response_model: maybe(2).map(Arc::from),
                response_id: maybe(3),
                finish_reasons: vec![text(4), text(5)],
                tool_calls: vec![ToolCall { id: maybe(6), name: text(7) }],
                stream: flag,
                labels: labels(&label_values, &tags),
                usage: Usage {
                    input: counts[0],
                    cache_write: counts[1],
                    reasoning: counts[2],
                    web_searches: counts[3],
                    images: counts[4],
                    seen_output: counts[5],
                    ..Usage::NONE
                },
                cost: cost.map(Usd::from_nanos),
                blocked_by: maybe(1),
                http_status: flag.then_some(429),
                path: text(2),
                error_type: maybe(0),
                edits: if flag { vec!["usage", "tail"] } else { Vec::new() },
                partial: flag.then_some("body"),
                events: vec![Event { name: texts[3].clone().into(), time: example().start }],
                attributes: ["tollgate.sdk", "gen_ai.request.top_p", "x"]
                    .into_iter()
                    .zip(values)
                    .collect(),
                ..example()
            }
        }
    }

    proptest! {
        #[test]
        fn a_span_is_read_back_as_it_was_written(span in spans()) {
            let line = span.to_json();
            let read = Span::from_json(&line, &mut Names::default()).unwrap();
            let (json, debug) = shape(&span);
            let (json_read, debug_read) = shape(&read);
            prop_assert_eq!(json, json_read);
            prop_assert_eq!(debug, debug_read);
            for label in Label::ALL {
                prop_assert_eq!(span.labels.get(label), read.labels.get(label));
            }
            for (key, value) in span.labels.tags() {
                prop_assert_eq!(read.labels.tag_value(key), Some(&**value));
            }
            prop_assert_eq!(span.labels.tags().len(), read.labels.tags().len());
        }

        #[test]
        fn no_text_is_a_span_by_mistake(text in ".{0,80}", cut in 0_usize..1_000) {
            let mut names = Names::default();
            prop_assert!(Span::from_json(&text, &mut names).is_err());
            let line = example().to_json();
            let cut = line.floor_char_boundary(cut.min(line.len() - 1));
            prop_assert!(Span::from_json(line.split_at(cut).0, &mut names).is_err());
        }
    }

    #[test]
    fn a_span_that_an_agent_reported_is_read_back_whatever_its_names() {
        let ids = (example().trace_id, example().span_id);
        let mut span = Span::reported(Format::Otlp, ids, "plan a trip", example().start);
        span.kind = Kind::Agent;
        let reported = span.reported.as_mut().unwrap();
        for number in 0..5_000_u64 {
            reported.put(&format!("x{number:05}"), Some(Value::Int(number)));
        }
        let mut names = Names::default();
        let read = Span::from_json(&span.to_json(), &mut names).unwrap();
        assert_eq!(read.reported, span.reported);
        assert_eq!(names.left_out(), 0);
        assert_eq!(shape(&read), shape(&span));
    }

    #[test]
    fn names_are_bounded_and_what_has_no_room_is_counted() {
        let mut names = Names::default();
        let mut known = 0;
        for number in 0..MOST + 5 {
            known += usize::from(names.keep(&format!("tollgate.x{number}")).is_some());
        }
        assert_eq!((known, names.left_out()), (MOST, 5));
        assert_eq!(names.keep("tollgate.x0"), Some("tollgate.x0"));
        assert_eq!(names.keep(&"x".repeat(LONGEST + 1)), None);
    }
}

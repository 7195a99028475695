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
/// what has a name beyond the bound is left out of its span. Nothing that clients, providers or agents
/// make up is among them.
#[derive(Debug, Default)]
pub struct Names {
    known: HashSet<&'static str>,
    left_out: u64,
}

impl Names {
    /// How often something was left out since the last time that this was asked: there were too many
    /// names, or its own is none that a line of ours can have.
    pub fn left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }

    fn keep(&mut self, name: &str) -> Option<&'static str> {
        if let Some(known) = self.known.get(name) {
            return Some(known);
        }
        let is_plain = |byte: u8| byte >= b' ' && !matches!(byte, b'"' | b'\\');
        if self.known.len() >= MOST || name.len() > LONGEST || !name.bytes().all(is_plain) {
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
        let span = Self {
            trace_id: line.need("trace_id")?,
            span_id: line.need("span_id")?,
            parent_span_id: line.parsed("parent_span_id"),
            request_id: RequestId::NONE,
            kind: line.word::<Kind>("kind")?,
            duration: line.duration("duration_ms", 1e3).unwrap_or_default(),
            first_chunk: said.duration("gen_ai.response.time_to_first_chunk", 1.0),
            status: line.word::<Status>("status")?,
            request_model: said.text("gen_ai.request.model"),
            response_model: said.text("gen_ai.response.model"),
            response_id: said.text("gen_ai.response.id"),
            stream: said.0.remove("gen_ai.request.stream") == Some(Json::Bool(true)),
            labels: said.labels(),
            error_type: said.text("error.type"),
            events: line.events(),
            ..Self::begun(line.time("start_time").ok_or(NotASpan("start_time"))?)
        };
        match by {
            Some(by) => Ok(said.reported(span, by, line.text("operation_name"), names)),
            None => said.called(span, names),
        }
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

    /// The rest of a span that an agent reported. Whatever the agent says is an attribute, and no field
    /// that calls have, and none of it is among the names.
    fn reported(
        mut self,
        mut span: Span,
        by: Format,
        name: Option<Box<str>>,
        names: &mut Names,
    ) -> Span {
        // Of the one format it is a word of ours, of the other the agent's.
        if by == Format::Agents {
            span.operation = self.name("gen_ai.operation.name", names);
        }
        let rest = self.0.into_iter();
        let rest = rest.filter_map(|(name, json)| Some((name.into(), value(json)?)));
        span.reported = Some(Box::new(Reported {
            by,
            name: name.unwrap_or_default(),
            attributes: rest.collect(),
        }));
        span
    }

    /// The rest of a call.
    fn called(mut self, span: Span, names: &mut Names) -> Result<Span, NotASpan> {
        let edits = self.texts("tollgate.edits");
        let status = self.count("http.response.status_code");
        let mut span = Span {
            request_id: self.need("tollgate.request_id")?,
            operation: self.name("gen_ai.operation.name", names),
            end: self.word::<End>("tollgate.end")?,
            provider: self.text("gen_ai.provider.name").unwrap_or_default(),
            finish_reasons: self.texts("gen_ai.response.finish_reasons"),
            tool_calls: self.tool_calls(),
            usage: self.usage(),
            usage_source: self.word::<UsageSource>("tollgate.usage.source")?,
            cost: self.parsed("tollgate.cost.usd"),
            decision: self.word::<Decision>("tollgate.decision")?,
            blocked_by: self.text("tollgate.blocked_by"),
            http_status: status.and_then(|status| u16::try_from(status).ok()),
            method: self.text("http.request.method").unwrap_or_default(),
            server_address: self.text("server.address").unwrap_or_default(),
            path: self.text("url.path").unwrap_or_default(),
            edits: edits.iter().filter_map(|edit| names.keep(edit)).collect(),
            partial: self.name("tollgate.partial", names),
            ..span
        };
        let rest = self.0.into_iter();
        let rest = rest.filter_map(|(name, json)| Some((names.keep(&name)?, value(json)?)));
        span.attributes = rest.collect();
        Ok(span)
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
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::Negative(number),
            (None, None) => Value::Float(number.as_f64()?),
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
mod tests;

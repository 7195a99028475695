//! Spans as Jaeger's own structs, in the binary protocol of Thrift.

use std::{collections::BTreeMap, sync::Arc};

use super::super::{
    super::Record,
    otlp::{
        Profile,
        attribute::{Attributes, Value},
        failure::Failure,
    },
};
use crate::{
    base::id::SpanId,
    call::{
        outcome::Kind,
        span::{Event, Span},
    },
};

/// Who spans come from.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) service: Box<str>,
    pub(super) environment: Option<Box<str>>,
    pub(super) tags: BTreeMap<String, String>,
}

/// Types of values, as the protocol numbers them.
const BOOL: u8 = 2;
const DOUBLE: u8 = 4;
const I32: u8 = 8;
const I64: u8 = 10;
const STRING: u8 = 11;
const STRUCT: u8 = 12;
const LIST: u8 = 15;

/// The flags of a span that was sampled, as all are that come here.
const SAMPLED: i32 = 1;

/// A whole batch: the struct alone, without a message around it, as the collector's HTTP endpoint
/// takes it.
pub(super) fn batch(records: &[Arc<Record>], process: &Process, profile: Profile) -> Vec<u8> {
    let mut out = Out(Vec::new());
    out.field(1, STRUCT);
    out.string(1, &process.service);
    out.tags(2, &process.tags());
    out.stop();
    out.list(2, records, |out, record| out.span(record, profile));
    out.stop();
    out.0
}

impl Process {
    fn tags(&self) -> Attributes {
        let known = self.environment.iter();
        let known = known.map(|it| ("deployment.environment.name".into(), Value::text(&**it)));
        let own = self.tags.iter();
        let own = own.map(|(name, text)| (name.clone().into(), Value::text(text)));
        known.chain(own).collect()
    }
}

/// Bytes that grow. What no 31 bits can count is cut off before: a batch is far smaller.
struct Out(Vec<u8>);

impl Out {
    fn field(&mut self, number: i16, kind: u8) {
        self.0.push(kind);
        self.0.extend(number.to_be_bytes());
    }

    fn stop(&mut self) {
        self.0.push(0);
    }

    fn length(&mut self, length: usize) {
        let length = i32::try_from(length).unwrap_or(i32::MAX);
        self.0.extend(length.to_be_bytes());
    }

    fn i32(&mut self, number: i16, value: i32) {
        self.field(number, I32);
        self.0.extend(value.to_be_bytes());
    }

    fn i64(&mut self, number: i16, value: i64) {
        self.field(number, I64);
        self.0.extend(value.to_be_bytes());
    }

    fn id(&mut self, number: i16, bytes: [u8; 8]) {
        self.i64(number, i64::from_be_bytes(bytes));
    }

    fn string(&mut self, number: i16, text: &str) {
        self.field(number, STRING);
        self.length(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    /// A list of structs.
    fn list<T>(
        &mut self,
        number: i16,
        items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        let items = items.into_iter();
        self.field(number, LIST);
        self.0.push(STRUCT);
        self.length(items.len());
        for item in items {
            write(self, item);
            self.stop();
        }
    }

    fn span(&mut self, record: &Record, profile: Profile) {
        let span = &record.span;
        let (high, low) = halves(span.trace_id.bytes());
        self.id(1, low);
        self.id(2, high);
        self.id(3, span.span_id.bytes());
        self.id(4, span.parent_span_id.map_or([0; 8], SpanId::bytes));
        self.string(5, &span.operation_name());
        self.i32(7, SAMPLED);
        self.i64(8, micros(span.start.as_micros()));
        let duration = u64::try_from(span.duration.as_micros()).unwrap_or(u64::MAX);
        self.i64(9, micros(duration));
        self.tags(10, &tags(record, profile));
        self.list(11, &span.events, Self::log);
    }

    fn log(&mut self, event: &Event) {
        self.i64(1, micros(event.time.as_micros()));
        let name = [("event".into(), Value::text(&*event.name))];
        self.tags(2, &name.into());
    }

    fn tags(&mut self, number: i16, tags: &Attributes) {
        self.list(number, tags, |out, (name, value)| {
            out.string(1, name);
            match value {
                Value::Text(text) => out.tag_text(text),
                // There are no lists of texts: they go as their JSON.
                Value::Texts(texts) => out.tag_text(&serde_json::Value::from(&**texts).to_string()),
                Value::Float(number) => {
                    out.i32(2, 1);
                    out.field(4, DOUBLE);
                    out.0.extend(number.to_bits().to_be_bytes());
                },
                Value::Bool(flag) => {
                    out.i32(2, 2);
                    out.field(5, BOOL);
                    out.0.push(u8::from(*flag));
                },
                Value::Int(number) => {
                    out.i32(2, 3);
                    out.i64(6, *number);
                },
            }
        });
    }

    fn tag_text(&mut self, text: &str) {
        self.i32(2, 0);
        self.string(3, text);
    }
}

/// The first eight bytes, and the last.
fn halves(bytes: [u8; 16]) -> ([u8; 8], [u8; 8]) {
    let number = u128::from_be_bytes(bytes);
    let half = |number: u128| {
        let half = u64::try_from(number & u128::from(u64::MAX)).unwrap_or_default();
        half.to_be_bytes()
    };
    (half(number >> 64), half(number))
}

fn micros(micros: u64) -> i64 {
    i64::try_from(micros).unwrap_or(i64::MAX)
}

/// The attributes, and what Jaeger looks for in tags.
fn tags(record: &Record, profile: Profile) -> Attributes {
    let mut tags = profile.attributes(record);
    tags.insert("span.kind".into(), Value::text(kind(&record.span)));
    if let Some(failure) = Failure::of(&record.span) {
        tags.insert("error".into(), Value::Bool(true));
        tags.insert("otel.status_code".into(), Value::text("ERROR"));
        tags.insert(
            "otel.status_description".into(),
            Value::Text(failure.message),
        );
    }
    tags
}

const fn kind(span: &Span) -> &'static str {
    match span.kind {
        Kind::Llm | Kind::Embedding | Kind::Http => "client",
        Kind::Tool | Kind::Agent | Kind::Handoff | Kind::Guardrail | Kind::Workflow => "internal",
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::otlp::testing::call, *};

    #[test]
    fn a_batch_is_a_struct_of_the_process_and_its_spans() {
        let process = Process {
            service: "agents".into(),
            environment: None,
            tags: BTreeMap::new(),
        };
        let record = Arc::new(Record::new(call()));
        let bytes = batch(&[record], &process, Profile::V1_41);
        let head = b"\x0c\0\x01\x0b\0\x01\0\0\0\x06agents\x0f\0\x02\x0c\0\0\0\0\0";
        let list = b"\x0f\0\x02\x0c\0\0\0\x01\x0a\0\x01\xab\xab\xab\xab\xab\xab\xab\xab";
        assert!(bytes.starts_with(&[&head[..], list].concat()), "{bytes:x?}");
        assert!(bytes.ends_with(&[0, 0, 0]));
    }

    #[test]
    fn both_halves_of_a_trace_id_are_told() {
        let bytes = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let (high, low) = halves(bytes);
        assert_eq!((high[0], high[7], low[0], low[7]), (0, 7, 8, 15));
    }
}

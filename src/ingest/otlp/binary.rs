//! The binary form of OTLP, Protocol Buffers.

use super::{Attributes, Item, Take, Unreadable, draft, of_use, part};
use crate::{
    base::{
        id::{SpanId, TraceId},
        protobuf::{Binary, Field, Fields, Form as _, Malformed, Value as Wire},
    },
    call::span::Value,
};

/// `STATUS_CODE_ERROR`.
const FAILED: u64 = 2;

/// Reads a request.
pub(super) fn read(body: &[u8], with_content: bool, take: Take<'_>) -> Result<(), Unreadable> {
    request(body, with_content, take).map_err(|malformed| Unreadable::Body(malformed.to_string()))
}

/// The answer to a request of which so many spans were refused.
pub(super) fn answer(refused: usize, why: &str) -> Vec<u8> {
    let mut answer = Binary::default();
    if refused > 0 {
        answer.message(Field(1, "partialSuccess"), |partial| {
            let refused = i64::try_from(refused).unwrap_or(i64::MAX);
            partial.int(Field(1, "rejectedSpans"), refused);
            partial.text(Field(2, "errorMessage"), why);
        });
    }
    answer.finish()
}

/// The answer to a request of which nothing was taken: `google.rpc.Status`.
pub(super) fn refusal(why: &str) -> Vec<u8> {
    let mut status = Binary::default();
    status.text(Field(2, "message"), why);
    status.finish()
}

fn request(body: &[u8], with_content: bool, take: Take<'_>) -> Result<(), Malformed> {
    for of_resource in messages(body, 1) {
        let of_resource = of_resource?;
        let mut resource = Attributes::new();
        for described in messages(of_resource, 1) {
            for attribute in messages(described?, 1) {
                let (name, bytes) = named(attribute?)?;
                let value = value_of(bytes)?;
                resource.extend(value.map(|value| (Box::from(draft::short(&name)), value)));
            }
        }
        let resource = of_use(resource);
        for of_scope in messages(of_resource, 2) {
            for span in messages(of_scope?, 2) {
                take(
                    &resource,
                    item(span?, with_content).map_err(|malformed| malformed.to_string()),
                );
            }
        }
    }
    Ok(())
}

/// The messages within a message at this number.
fn messages(message: &[u8], number: u32) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    Fields::of(message).filter_map(move |field| match field {
        Ok((found, Wire::Bytes(bytes))) if found == number => Some(Ok(bytes)),
        Ok(_other) => None,
        Err(malformed) => Some(Err(malformed)),
    })
}

fn item(span: &[u8], with_content: bool) -> Result<Item, Malformed> {
    let mut item = Item::default();
    for field in Fields::of(span) {
        match field? {
            (1, Wire::Bytes(id)) => item.trace = id.try_into().ok().and_then(trace_id),
            (2, Wire::Bytes(id)) => item.span = id.try_into().ok().and_then(span_id),
            (4, Wire::Bytes(id)) => item.parent = id.try_into().ok().and_then(span_id),
            (5, Wire::Bytes(name)) => item.name = text(name),
            (7, Wire::Eight(start)) => item.start = start,
            (8, Wire::Eight(end)) => item.end = end,
            (9, Wire::Bytes(attribute)) => attribute_of(attribute, with_content, &mut item)?,
            (15, Wire::Bytes(status)) => {
                for field in Fields::of(status) {
                    match field? {
                        (2, Wire::Bytes(message)) => item.message = text(message),
                        (3, Wire::Varint(code)) => item.failed = code == FAILED,
                        _ => {},
                    }
                }
            },
            _ => {},
        }
    }
    Ok(item)
}

fn attribute_of(attribute: &[u8], with_content: bool, item: &mut Item) -> Result<(), Malformed> {
    let (name, bytes) = named(attribute)?;
    if let Some(part) = part(&name) {
        for said in messages(bytes, 1) {
            let said = said?;
            if with_content {
                item.said.parts.push((part, text(said).into()));
            }
        }
    } else {
        let value = value_of(bytes)?;
        let value = value.map(|value| (Box::from(draft::short(&name)), value));
        item.attributes.extend(value);
    }
    Ok(())
}

fn trace_id(id: [u8; 16]) -> Option<TraceId> {
    (id != [0; 16]).then(|| TraceId::from_bytes(id))
}

fn span_id(id: [u8; 8]) -> Option<SpanId> {
    (id != [0; 8]).then(|| SpanId::from_bytes(id))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The name of an attribute, and its value as it stands.
fn named(attribute: &[u8]) -> Result<(String, &[u8]), Malformed> {
    let (mut name, mut value) = (String::new(), &[][..]);
    for field in Fields::of(attribute) {
        match field? {
            (1, Wire::Bytes(bytes)) => name = text(bytes),
            (2, Wire::Bytes(bytes)) => value = bytes,
            _ => {},
        }
    }
    Ok((name, value))
}

/// An attribute's value; none if it is of a kind that is not kept.
fn value_of(bytes: &[u8]) -> Result<Option<Value>, Malformed> {
    let mut value = None;
    for field in Fields::of(bytes) {
        value = match field? {
            (1, Wire::Bytes(bytes)) => Some(draft::text(&text(bytes))),
            (2, Wire::Varint(flag)) => Some(Value::Bool(flag != 0)),
            (3, Wire::Varint(bits)) => Some(draft::whole(bits.cast_signed())),
            (4, Wire::Eight(bits)) => Some(Value::Float(f64::from_bits(bits))),
            (5, Wire::Bytes(list)) => {
                let mut texts = Vec::new();
                for item in messages(list, 1) {
                    for said in messages(item?, 1) {
                        texts.push(text(said?));
                    }
                }
                Some(draft::texts(texts.iter()))
            },
            _ => value,
        };
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::super::{Config, Ingest, Report, Taken, Unreadable},
        *,
    };
    use crate::{
        base::clock::Timestamp,
        call::{
            content::Part,
            labels::{Label, Labels},
            outcome::{Kind, Status},
            reported::{Format, Reported},
        },
    };

    const NOW: Timestamp = Timestamp::from_secs(1_795_328_720);

    fn taken(body: &[u8]) -> Result<Taken, Unreadable> {
        let report = Report {
            format: Format::Otlp,
            content_type: "application/x-protobuf",
            body,
            labels: &Labels::default(),
            now: NOW,
            with_content: true,
        };
        Ingest::default().read(&report, &Config::default())
    }

    const fn at(number: u32) -> Field {
        Field(number, "")
    }

    fn attribute(out: &mut Binary, number: u32, name: &str, value: impl FnOnce(&mut Binary)) {
        out.message(at(number), |out| {
            out.text(at(1), name);
            out.message(at(2), value);
        });
    }

    fn span(span: &mut Binary) {
        span.id(at(1), &[1; 16]);
        span.id(at(2), &[2; 8]);
        span.id(at(4), &[3; 8]);
        span.text(at(5), "lookup");
        span.fixed(at(7), 1_795_328_714_000_000_000);
        span.fixed(at(8), 1_795_328_715_500_000_000);
        for (name, text) in [
            ("gen_ai.operation.name", "execute_tool"),
            ("gen_ai.tool.call.result", "sunny"),
        ] {
            attribute(span, 9, name, |value| value.text(at(1), text));
        }
        attribute(span, 9, "gen_ai.request.seed", |value| value.int(at(3), -5));
        attribute(span, 9, "gen_ai.request.stop_sequences", |value| {
            value.message(at(5), |list| {
                list.messages(at(1), ["a", "b"], |item, text| item.text(at(1), text));
            });
        });
        span.message(at(15), |status| {
            status.text(at(2), "timed out");
            status.number(at(3), 2);
        });
    }

    /// A span, and one without anything.
    fn example() -> Vec<u8> {
        let mut body = Binary::default();
        body.message(at(1), |of_resource| {
            of_resource.message(at(1), |resource| {
                let name = "deployment.environment.name";
                attribute(resource, 1, name, |value| value.text(at(1), "staging"));
            });
            of_resource.message(at(2), |scope| {
                scope.message(at(2), span);
                scope.message(at(2), |_nameless| {});
            });
        });
        body.finish()
    }

    #[test]
    fn a_span_is_what_it_would_be_as_json() {
        let found = taken(&example()).unwrap();
        let [span] = &found.spans[..] else {
            panic!("{found:?}")
        };
        assert_eq!((span.kind, span.status), (Kind::Tool, Status::Error));
        assert_eq!(span.error_type.as_deref(), Some("timed out"));
        assert_eq!(span.parent_span_id, Some(SpanId::from_bytes([3; 8])));
        assert_eq!(span.duration.as_millis(), 1_500);
        assert_eq!(span.labels.get(Label::Environment), Some("staging"));
        let get = |name| {
            span.reported
                .as_deref()
                .and_then(|it: &Reported| it.get(name))
        };
        assert_eq!(get("gen_ai.request.seed"), Some(&Value::Negative(-5)));
        let stops = Value::Texts(vec!["a".into(), "b".into()]);
        assert_eq!(get("gen_ai.request.stop_sequences"), Some(&stops));
        assert!(!span.to_json().contains("sunny"));
        let said = &found.said.values().next().unwrap().parts;
        assert_eq!(said[..], [(Part::Result, "sunny".into())]);
        assert_eq!(found.content_type, "application/x-protobuf");
        let partial = messages(&found.answer, 1).next().unwrap().unwrap();
        let fields: Vec<_> = Fields::of(partial).map(Result::unwrap).collect();
        assert_eq!(fields[0], (1, Wire::Varint(1)));
        assert!(matches!(fields[1], (2, Wire::Bytes(why)) if text(why).contains("span 1")));
    }

    #[test]
    fn what_was_said_is_not_copied_where_it_is_not_wanted() {
        for (with_content, expected) in [(true, 1), (false, 0)] {
            let mut said = Vec::new();
            let mut take = |_: &Attributes, item: Result<Item, String>| {
                said.extend(item.map(|item| item.said.parts.len()));
            };
            read(&example(), with_content, &mut take).unwrap();
            assert_eq!(said, [expected, 0]);
        }
    }

    proptest! {
        #[test]
        fn what_is_damaged_is_no_report_or_less(at: prop::sample::Index, byte: u8) {
            let mut body = example();
            let place = at.index(body.len());
            let _cut = taken(&body[..place]);
            body[place] = byte;
            let spans = taken(&body).map_or(0, |taken| taken.spans.len());
            prop_assert!(spans <= 2);
        }
    }
}

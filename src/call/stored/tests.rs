//! Spans of every shape, written and read back.

use std::sync::Arc;

use proptest::prelude::*;

use super::{super::span::tests::example, *};
use crate::base::{id::SpanId, money::Usd};

/// What the line and the span say, in an order of its own.
fn shape(span: &Span) -> (Json, String) {
    let mut span = span.clone();
    let json = serde_json::from_str(&span.to_json()).unwrap();
    span.attributes.sort_by_key(|(name, _)| *name);
    if let Some(reported) = &mut span.reported {
        reported
            .attributes
            .sort_by(|(one, _), (other, _)| one.cmp(other));
    }
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
        (i64::MIN..0).prop_map(Value::Negative),
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

/// Names of attributes as agents choose them: also those of what is a field of a call.
fn agents_names() -> impl Strategy<Value = String> {
    let known = [
        "gen_ai.provider.name",
        "gen_ai.response.finish_reasons",
        "gen_ai.usage.input_tokens",
        "http.request.method",
        "http.response.status_code",
        "server.address",
        "url.path",
        "tollgate.cost.usd",
        "tollgate.tool_calls",
        "tollgate.decision",
        "tollgate.edits",
        "tollgate.partial",
    ];
    prop_oneof![
        prop::sample::select(known.map(str::to_owned).to_vec()),
        "[a-z]{1,3}\\.[a-z\"\\\\\n]{0,9}",
    ]
}

prop_compose! {
    fn reports()(
        span in spans(),
        name: String,
        operation: String,
        is_otlp: bool,
        attributes in prop::collection::btree_map(agents_names(), values(), 0..6),
    ) -> Span {
        let by = if is_otlp { Format::Otlp } else { Format::Agents };
        let mut reported = Span::reported(by, (span.trace_id, span.span_id), &name, span.start);
        let attributes = attributes.into_iter().map(|(name, value)| (name.into(), value));
        if let Some(reported) = &mut reported.reported {
            reported.attributes.extend(attributes);
            if is_otlp {
                reported.put("gen_ai.operation.name", Some(Value::Text(operation.into())));
            }
        }
        Span {
            kind: Kind::Tool,
            operation: (!is_otlp).then_some("execute_tool"),
            parent_span_id: span.parent_span_id,
            duration: span.duration,
            first_chunk: span.first_chunk,
            request_model: span.request_model,
            response_model: span.response_model,
            response_id: span.response_id,
            stream: span.stream,
            labels: span.labels,
            error_type: span.error_type,
            ..reported
        }
    }
}

proptest! {
    #[test]
    fn a_span_is_read_back_as_it_was_written(
        span in prop_oneof![spans(), reports()],
    ) {
        let line = span.to_json();
        let mut names = Names::default();
        let read = Span::from_json(&line, &mut names).unwrap();
        let (json, debug) = shape(&span);
        let (json_read, debug_read) = shape(&read);
        prop_assert_eq!(json, json_read);
        prop_assert_eq!(debug, debug_read);
        prop_assert!(span.reported.is_none() || names.known.len() <= 1, "{:?}", names);
        for label in Label::ALL {
            prop_assert_eq!(span.labels.get(label), read.labels.get(label));
        }
        for (key, value) in span.labels.tags() {
            prop_assert_eq!(read.labels.tag_value(key), Some(&**value));
        }
        prop_assert_eq!(span.labels.tags().len(), read.labels.tags().len());
    }

    #[test]
    fn what_was_read_back_is_written_as_it_was(nanos in 0_u64..1 << 55, more in 0_u64..1 << 50) {
        let span = Span {
            start: Timestamp::from_nanos(1_795_328_714_000_000_000 + nanos),
            duration: Duration::from_nanos(more),
            ..example()
        };
        let line = span.to_json();
        let read = Span::from_json(&line, &mut Names::default()).unwrap();
        let [written, again] = [line, read.to_json()]
            .map(|line| serde_json::from_str::<Json>(&line).unwrap());
        prop_assert_eq!(written, again);
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
    assert_eq!(Names::default().keep("no \"name\""), None);
}

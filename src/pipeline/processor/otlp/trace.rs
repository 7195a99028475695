//! Spans as OTLP's request for traces.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    failure::Failure,
    profile::Profile,
    resource::{Resource, attributes, schema, scope},
};
use crate::{
    base::protobuf::{Field, Form},
    call::{
        labels::Label,
        outcome::Kind,
        span::{Event, Span},
    },
    pipeline::{
        Record,
        sampling::{share_of, trace_state},
    },
};

/// The request that sends a batch.
pub(super) fn request<F: Form>(
    batch: &[Arc<Record>],
    resource: &Resource,
    profile: Profile,
) -> Vec<u8> {
    let mut environments: BTreeMap<Option<&str>, Vec<&Record>> = BTreeMap::new();
    for record in batch {
        let environment = record.span.labels.get(Label::Environment);
        environments.entry(environment).or_default().push(record);
    }
    let mut form = F::default();
    let all = Field(1, "resourceSpans");
    form.messages(all, environments, |form, (environment, records)| {
        resource.write(form, environment);
        form.messages(Field(2, "scopeSpans"), [records], |form, records| {
            scope(form);
            form.messages(Field(2, "spans"), records, |form, record| {
                span(form, record, profile);
            });
            schema(form, profile);
        });
    });
    form.finish()
}

fn span<F: Form>(form: &mut F, record: &Record, profile: Profile) {
    let span = &record.span;
    form.id(Field(1, "traceId"), &span.trace_id.bytes());
    form.id(Field(2, "spanId"), &span.span_id.bytes());
    if let Some(state) = share_of(span).and_then(trace_state) {
        form.text(Field(3, "traceState"), &state);
    }
    if let Some(parent) = span.parent_span_id {
        form.id(Field(4, "parentSpanId"), &parent.bytes());
    }
    form.text(Field(5, "name"), &span.operation_name());
    form.number(Field(6, "kind"), kind(span));
    form.fixed(Field(7, "startTimeUnixNano"), span.start.as_nanos());
    form.fixed(Field(8, "endTimeUnixNano"), span.end_time().as_nanos());
    attributes(form, 9, &profile.attributes(record));
    form.messages(Field(11, "events"), &span.events, event);
    if let Some(failure) = Failure::of(span) {
        form.message(Field(15, "status"), |status| {
            status.text(Field(2, "message"), &failure.message);
            status.number(Field(3, "code"), 2);
        });
    }
}

/// `CLIENT` is a call to somebody else, all others are `INTERNAL`.
const fn kind(span: &Span) -> u32 {
    match span.kind {
        Kind::Llm | Kind::Embedding | Kind::Http => 3,
        Kind::Tool | Kind::Agent | Kind::Handoff | Kind::Guardrail | Kind::Workflow => 1,
    }
}

fn event<F: Form>(form: &mut F, event: &Event) {
    form.fixed(Field(1, "timeUnixNano"), event.time.as_nanos());
    form.text(Field(2, "name"), &event.name);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::testing::call, *};
    use crate::{
        base::protobuf::{self, Binary, Fields, Json},
        call::{labels::Source, outcome::Status},
    };

    fn resource() -> Resource {
        let own = [("service.version".to_owned(), "1.2".to_owned())];
        Resource::new("agents", Some("prod"), own.into())
    }

    fn read(batch: Vec<Span>) -> Value {
        let batch: Vec<_> = batch
            .into_iter()
            .map(|it| Arc::new(Record::new(it)))
            .collect();
        let bytes = request::<Json>(&batch, &resource(), Profile::V1_41);
        serde_json::from_slice(&bytes).unwrap()
    }

    fn attribute<'a>(of: &'a Value, name: &str) -> &'a Value {
        let items = of["attributes"].as_array().unwrap();
        let item = items.iter().find(|item| item["key"] == name);
        item.map_or(&Value::Null, |item| &item["value"])
    }

    #[test]
    fn a_span_says_who_when_and_what() {
        let json = read(vec![call()]);
        let of = &json["resourceSpans"][0];
        for (name, value) in [
            ("service.name", "agents"),
            ("service.version", "1.2"),
            ("deployment.environment.name", "prod"),
            ("telemetry.sdk.name", "tollgate"),
        ] {
            let expected = json!({"stringValue": value});
            assert_eq!(attribute(&of["resource"], name), &expected, "{name}");
        }
        let scoped = &of["scopeSpans"][0];
        assert_eq!(scoped["scope"]["name"], "tollgate");
        let schema = "https://opentelemetry.io/schemas/1.41.0";
        assert_eq!(scoped["schemaUrl"], schema);
        let span = &scoped["spans"][0];
        assert_eq!(span["traceId"], "ab".repeat(16));
        assert_eq!(span["spanId"], "cd".repeat(8));
        assert_eq!(span["parentSpanId"], "ef".repeat(8));
        assert_eq!(span["name"], "chat gpt-4o");
        assert_eq!(span["kind"], 3);
        assert_eq!(span["startTimeUnixNano"], "1795328714017417000");
        assert_eq!(span["endTimeUnixNano"], "1795328714829817000");
        let input = attribute(span, "gen_ai.usage.input_tokens");
        assert_eq!(input, &json!({"intValue": "120"}));
        let stream = attribute(span, "gen_ai.request.stream");
        assert_eq!(stream, &json!({"boolValue": true}));
        let event = json!({"timeUnixNano": "1795328714227417000", "name": "first_token"});
        assert_eq!(span["events"], json!([event]));
        assert_eq!(span["status"], Value::Null);
    }

    #[test]
    fn a_failed_span_says_so_and_why() {
        let failed = Span {
            status: Status::Error,
            http_status: Some(529),
            error_type: Some("overloaded_error".into()),
            kind: Kind::Tool,
            parent_span_id: None,
            ..call()
        };
        let json = read(vec![failed]);
        let span = &json["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        let message = "overloaded_error (status 529)";
        assert_eq!(span["status"], json!({"code": 2, "message": message}));
        let kind = json!({"stringValue": "overloaded_error"});
        assert_eq!(attribute(span, "error.type"), &kind);
        assert_eq!(span["kind"], 1);
        assert_eq!(span["parentSpanId"], Value::Null);
    }

    #[test]
    fn a_sampled_span_says_for_how_many_it_stands() {
        let sampled = Record::new(call()).marked(0.25).span;
        let json = read(vec![sampled, call()]);
        let spans = &json["resourceSpans"][0]["scopeSpans"][0]["spans"];
        assert_eq!(spans[0]["traceState"], "ot=th:c");
        assert_eq!(
            attribute(&spans[0], "SampleRate"),
            &json!({"intValue": "4"})
        );
        let share = attribute(&spans[0], "tollgate.sampling.rate");
        assert_eq!(share, &json!({"doubleValue": 0.25}));
        assert_eq!(spans[1]["traceState"], Value::Null);
        assert_eq!(attribute(&spans[1], "SampleRate"), &Value::Null);
    }

    #[test]
    fn each_environment_is_a_resource() {
        let mut staging = call();
        staging
            .labels
            .set(Label::Environment, "staging", Source::Header);
        let json = read(vec![call(), staging.clone(), call(), staging]);
        let all = json["resourceSpans"].as_array().unwrap();
        let told: Vec<_> = all
            .iter()
            .map(|of| {
                let name = "deployment.environment.name";
                let environment = &attribute(&of["resource"], name)["stringValue"];
                let spans = of["scopeSpans"][0]["spans"].as_array().unwrap();
                (environment.as_str().unwrap(), spans.len())
            })
            .collect();
        assert_eq!(told, [("prod", 2), ("staging", 2)]);
    }

    /// The field of that number, as often as it occurs.
    fn within(message: &[u8], number: u32) -> Vec<protobuf::Value<'_>> {
        let fields = Fields::of(message).map(Result::unwrap);
        let wanted = fields.filter(|(found, _)| *found == number);
        wanted.map(|(_, value)| value).collect()
    }

    fn message(message: &[u8], number: u32) -> &[u8] {
        match within(message, number)[..] {
            [protobuf::Value::Bytes(bytes)] => bytes,
            ref other => panic!("{number}: {other:?}"),
        }
    }

    #[test]
    fn the_binary_form_holds_the_same() {
        let batch = [Arc::new(Record::new(call()))];
        let bytes = request::<Binary>(&batch, &resource(), Profile::V1_41);
        let scoped = message(message(&bytes, 1), 2);
        assert_eq!(message(message(scoped, 1), 1), b"tollgate");
        let span = message(scoped, 2);
        assert_eq!(message(span, 1), [0xab; 16]);
        assert_eq!(message(span, 4), [0xef; 8]);
        assert_eq!(message(span, 5), b"chat gpt-4o");
        let start = protobuf::Value::Eight(1_795_328_714_017_417_000);
        assert_eq!(within(span, 7), [start]);
        let attributes = Profile::V1_41.attributes(&batch[0]);
        assert_eq!(within(span, 9).len(), attributes.len());
        assert!(within(span, 15).is_empty());
    }
}

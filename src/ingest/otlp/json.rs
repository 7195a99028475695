//! The JSON form of OTLP: ids in hexadecimal, numbers of 64 bits as texts or numbers.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value as Json, json, value::RawValue};

use super::{super::object, Attributes, Item, Take, Unreadable, draft, of_use, part};
use crate::call::{content::Told, span::Value};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default, rename = "resourceSpans")]
    resources: Vec<OfResource<'a>>,
}

#[derive(Deserialize)]
struct OfResource<'a> {
    #[serde(borrow, default)]
    resource: Described<'a>,
    #[serde(borrow, default, rename = "scopeSpans")]
    scopes: Vec<OfScope<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Described<'a> {
    #[serde(borrow)]
    attributes: Vec<Attribute<'a>>,
}

#[derive(Deserialize)]
struct OfScope<'a> {
    #[serde(borrow, default)]
    spans: Vec<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Span<'a> {
    trace_id: String,
    span_id: String,
    parent_span_id: String,
    name: String,
    start_time_unix_nano: Json,
    end_time_unix_nano: Json,
    #[serde(borrow)]
    attributes: Vec<Attribute<'a>>,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    message: String,
    /// A number, or the name of it.
    code: Json,
}

#[derive(Deserialize)]
struct Attribute<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    /// As it stands: not all are wanted, and prompts are long.
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
}

impl Attribute<'_> {
    /// The value, read.
    fn value(&self) -> Result<Json, String> {
        let value = self.value.map(|value| serde_json::from_str(value.get()));
        value
            .transpose()
            .map(Option::unwrap_or_default)
            .map_err(|error| error.to_string())
    }
}

/// Reads a request.
pub(super) fn read(body: &[u8], with_content: bool, take: Take<'_>) -> Result<(), Unreadable> {
    let body: Body<'_> = object(body)?;
    for of_resource in body.resources {
        let resource = attributes(&of_resource.resource.attributes);
        let resource = of_use(resource.map_err(Unreadable::Body)?);
        for span in of_resource.scopes.iter().flat_map(|scope| &scope.spans) {
            let span = serde_json::from_str::<Span<'_>>(span.get());
            let span = span.map_err(|error| error.to_string());
            take(&resource, span.and_then(|span| item(span, with_content)));
        }
    }
    Ok(())
}

/// The answer to a request of which so many spans were refused.
pub(super) fn answer(refused: usize, why: &str) -> Vec<u8> {
    let answer = if refused == 0 {
        json!({})
    } else {
        let partial = json!({"rejectedSpans": refused.to_string(), "errorMessage": why});
        json!({"partialSuccess": partial})
    };
    answer.to_string().into_bytes()
}

fn item(span: Span<'_>, with_content: bool) -> Result<Item, String> {
    let time = |name: &str, value: &Json| number(value).ok_or_else(|| format!("{name} is no time"));
    let start = time("startTimeUnixNano", &span.start_time_unix_nano)?;
    let end = time("endTimeUnixNano", &span.end_time_unix_nano)?;
    let code = &span.status.code;
    Ok(Item {
        trace: span.trace_id.parse().ok(),
        span: span.span_id.parse().ok(),
        parent: span.parent_span_id.parse().ok(),
        name: span.name,
        start,
        end,
        said: if with_content {
            said(&span.attributes)?
        } else {
            Told::default()
        },
        attributes: attributes(&span.attributes)?,
        failed: code.as_u64() == Some(2) || code.as_str() == Some("STATUS_CODE_ERROR"),
        message: span.status.message,
    })
}

fn attributes(attributes: &[Attribute<'_>]) -> Result<Attributes, String> {
    let attributes = attributes.iter().filter(|it| part(&it.key).is_none());
    let values = attributes.filter_map(|attribute| {
        let value = attribute
            .value()
            .map(|value| value_of(&value))
            .transpose()?;
        Some(value.map(|value| (Box::from(draft::short(&attribute.key)), value)))
    });
    values.collect()
}

/// What was said, of attributes that are texts.
fn said(attributes: &[Attribute<'_>]) -> Result<Told, String> {
    let mut told = Told::default();
    for attribute in attributes {
        if let Some(part) = part(&attribute.key)
            && let Json::Object(mut value) = attribute.value()?
            && let Some(Json::String(text)) = value.remove("stringValue")
        {
            told.parts.push((part, text.into()));
        }
    }
    Ok(told)
}

/// A whole number, as a number or as a text.
fn number(value: &Json) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn value_of(value: &Json) -> Option<Value> {
    let (kind, value) = value.as_object()?.iter().next()?;
    match kind.as_str() {
        "stringValue" => value.as_str().map(draft::text),
        "boolValue" => value.as_bool().map(Value::Bool),
        "intValue" => {
            let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
            number.map(draft::whole)
        },
        "doubleValue" => value.as_f64().map(Value::Float),
        "arrayValue" => {
            let items = value.get("values")?.as_array()?.iter();
            Some(draft::texts(
                items.filter_map(|item| item.get("stringValue")?.as_str()),
            ))
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::{Config, Ingest, Report, Taken, Unreadable},
        *,
    };
    use crate::{
        base::clock::Timestamp,
        call::{
            labels::{Label, Labels},
            outcome::{Kind, Status as Ended},
            reported::{Format, REPORTED_INPUT},
            span::Span as Finished,
        },
    };

    const NOW: Timestamp = Timestamp::from_secs(1_795_328_720);

    fn taken(body: &Json) -> Result<Taken, Unreadable> {
        let body = body.to_string();
        let report = Report {
            format: Format::Otlp,
            content_type: "application/json; charset=utf-8",
            body: body.as_bytes(),
            labels: &Labels::default(),
            now: NOW,
            with_content: true,
        };
        Ingest::default().read(&report, &Config::default())
    }

    fn request(spans: &[Json]) -> Json {
        let resource = json!({"attributes": [
            {"key": "service.name", "value": {"stringValue": "shop"}},
            {"key": "deployment.environment.name", "value": {"stringValue": "staging"}},
        ]});
        json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]})
    }

    fn span(id: u8, attributes: &Json) -> Json {
        let attributes: Vec<Json> = attributes
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| json!({"key": key, "value": value}))
            .collect();
        json!({
            "traceId": "0A".repeat(16), "spanId": format!("{id:02x}").repeat(8), "parentSpanId": "",
            "name": format!("span {id}"), "startTimeUnixNano": "1795328714000000000",
            "endTimeUnixNano": 1_795_328_715_500_000_000_u64, "attributes": attributes,
        })
    }

    #[test]
    fn what_says_what_happened_is_kept_and_content_is_not() {
        let chat = json!({
            "gen_ai.operation.name": {"stringValue": "chat"},
            "gen_ai.request.model": {"stringValue": "gpt-4o"},
            "gen_ai.response.id": {"stringValue": "resp_1"},
            "gen_ai.usage.input_tokens": {"intValue": "120"},
            "gen_ai.request.temperature": {"doubleValue": 0.5},
            "gen_ai.response.finish_reasons": {"arrayValue": {"values": [{"stringValue": "stop"}]}},
            "gen_ai.input.messages": {"stringValue": "secret"},
            "gen_ai.prompt.0.content": {"stringValue": "secret"},
            "gen_ai.conversation.id": {"stringValue": "chat-7"},
        });
        let mut tool = span(
            2,
            &json!({
                "openinference.span.kind": {"stringValue": "TOOL"},
                "tool.name": {"stringValue": "lookup"},
                "input.value": {"stringValue": "secret"},
            }),
        );
        tool["status"] = json!({"code": 2, "message": "timed out"});
        tool["parentSpanId"] = json!("01".repeat(8));
        let found = taken(&request(&[span(1, &chat), tool])).unwrap();
        let [chat, tool] = &found.spans[..] else {
            panic!("{found:?}")
        };
        assert_eq!((chat.kind, tool.kind), (Kind::Llm, Kind::Tool));
        assert_eq!(chat.response_id.as_deref(), Some("resp_1"));
        assert_eq!(chat.labels.get(Label::Session), Some("chat-7"));
        assert_eq!(chat.labels.get(Label::Environment), Some("staging"));
        assert_eq!(chat.usage, crate::call::usage::Usage::NONE);
        assert_eq!(
            chat.reported.as_ref().unwrap().number(REPORTED_INPUT),
            Some(120)
        );
        assert_eq!(tool.status, Ended::Error);
        assert_eq!(tool.error_type.as_deref(), Some("timed out"));
        assert_eq!(tool.parent_span_id, Some(chat.span_id));
        let lines: String = found.spans.iter().map(Finished::to_json).collect();
        assert!(
            !lines.contains("secret") && !lines.contains("gen_ai.usage"),
            "{lines}"
        );
        assert!(
            lines.contains("\"gen_ai.response.finish_reasons\":[\"stop\"]"),
            "{lines}"
        );
        assert!(lines.contains("\"service.name\":\"shop\""), "{lines}");
        assert_eq!(found.answer, b"{}");
    }

    #[test]
    fn what_cannot_be_read_is_named_and_our_own_spans_do_not_come_back() {
        let mut nameless = span(2, &json!({}));
        nameless["traceId"] = json!("00000000000000000000000000000000");
        let mut timeless = span(3, &json!({}));
        timeless["endTimeUnixNano"] = json!("soon");
        let ours = span(4, &json!({"tollgate.request_id": {"stringValue": "1"}}));
        let found = taken(&request(&[
            span(1, &json!({})),
            nameless,
            timeless,
            ours,
            json!(1),
        ]));
        let found = found.unwrap();
        assert_eq!((found.spans.len(), found.refused), (1, 4));
        assert_eq!(found.spans[0].kind, Kind::Workflow);
        let answer: Json = serde_json::from_slice(&found.answer).unwrap();
        assert_eq!(answer["partialSuccess"]["rejectedSpans"], "4");
        let why = answer["partialSuccess"]["errorMessage"].as_str().unwrap();
        assert!(why.contains("span 2: endTimeUnixNano is no time"), "{why}");
    }

    #[test]
    fn what_is_no_report_is_an_error() {
        assert!(matches!(taken(&json!([])), Err(Unreadable::Body(_))));
        assert!(taken(&json!({})).unwrap().spans.is_empty());
        let report = Report {
            format: Format::Otlp,
            content_type: "text/plain",
            body: b"{}",
            labels: &Labels::default(),
            now: NOW,
            with_content: true,
        };
        let error = Ingest::default()
            .read(&report, &Config::default())
            .unwrap_err();
        assert!(error.to_string().contains("text/plain"), "{error}");
    }

    #[test]
    fn what_was_said_is_not_even_read_where_it_is_not_wanted() {
        let words = json!({"gen_ai.input.messages": {"stringValue": "Hi"}, "tool.name": {"stringValue": "f"}});
        let body = request(&[span(1, &words)]).to_string();
        // No parser goes so deep.
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        let deep = body.replace("\"Hi\"", &deep);
        let said = |body: &str, with_content| {
            let mut found = Vec::new();
            read(body.as_bytes(), with_content, &mut |_, item| {
                let item = item.ok();
                assert!(item.iter().all(|item| item.attributes.len() == 1));
                found.push(item.map(|item| item.said.parts.len()));
            })
            .unwrap();
            found
        };
        assert_eq!(said(&body, true), [Some(1)]);
        assert_eq!(said(&body, false), [Some(0)]);
        assert_eq!(said(&deep, true), [None]);
        assert_eq!(said(&deep, false), [Some(0)]);
    }
}

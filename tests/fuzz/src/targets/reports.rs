//! Reports of spans, in every format.
//!
//! What must hold: of any bytes there is an answer; all items are accounted for; what is taken is
//! bounded, is a line of JSON, and is read back from that as it was; none of it is among the names that
//! lines share; what was said is told only where it is wanted.

use serde_json::{Value, json};

use super::steered;
use crate::{
    base::clock::Timestamp,
    call::{labels::Labels, reported::Format, span::Span, stored::Names},
    ingest::{Config, Ingest, Report},
};

const FORMS: [(Format, &str); 3] = [
    (Format::Agents, "application/json"),
    (Format::Otlp, "application/json"),
    (Format::Otlp, "application/x-protobuf"),
];

pub fn run(input: &[u8]) {
    let Some((body, [form])) = steered(input) else {
        return;
    };
    let (format, content_type) = FORMS[usize::from(form) % FORMS.len()];
    let with_content = form & 0x80 == 0;
    let report = Report {
        format,
        content_type,
        body,
        labels: &Labels::default(),
        now: Timestamp::from_secs(1_795_328_720),
        with_content,
    };
    let config = Config {
        spans: 100,
        ..Config::default()
    };
    let ingest = Ingest::default();
    let Ok(taken) = ingest.read(&report, &config) else {
        return;
    };
    assert_eq!(taken.accepted, taken.spans.len());
    assert!(taken.accepted + taken.repeated <= config.spans);
    assert!(with_content || taken.said.is_empty());
    if content_type == "application/json" {
        let answer: Result<Value, _> = serde_json::from_slice(&taken.answer);
        answer.expect("an answer is JSON");
    }
    let mut names = Names::default();
    for span in &taken.spans {
        let line = span.to_json();
        assert!(line.len() <= 16 * body.len() + 4_096, "{}", line.len());
        let read = Span::from_json(&line, &mut names).expect("a line is read back");
        let written: Value = serde_json::from_str(&line).expect("a line is JSON");
        let again: Value = serde_json::from_str(&read.to_json()).expect("a line is JSON");
        assert_eq!(written, again);
    }
    assert_eq!(names.left_out(), 0);
    let again = ingest
        .read(&report, &config)
        .expect("it was a report before");
    assert_eq!(again.accepted, 0, "what comes again is known");
}

/// A report in each format.
pub fn seeds() -> Vec<Vec<u8>> {
    let agents = json!({"data": [
        {"object": "trace", "id": "trace_1", "workflow_name": "w", "group_id": "g", "metadata": {"a": 1}},
        {"object": "trace.span", "id": "span_1", "trace_id": "trace_1", "parent_id": null,
            "started_at": "2026-11-22T06:25:14.017417+00:00", "ended_at": "2026-11-22T06:25:15+00:00",
            "span_data": {"type": "function", "name": "f", "input": "{}", "output": "o"},
            "error": {"message": "m"}},
        {"object": "trace.span", "id": "span_2", "trace_id": "trace_1", "parent_id": "span_1",
            "started_at": "2026-11-22T06:25:14+00:00", "ended_at": "2026-11-22T06:25:15+00:00",
            "span_data": {"type": "generation", "model": "m", "input": [{"role": "user", "content": "c"}],
                "output": [{"tool_calls": [{"id": "c"}]}], "usage": {"input_tokens": 1}}, "error": null}]});
    let otlp = json!({"resourceSpans": [{"resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": "s"}}]}, "scopeSpans": [{"spans": [
        {"traceId": "0a".repeat(16), "spanId": "0b".repeat(8), "parentSpanId": "", "name": "n",
            "startTimeUnixNano": "1795328714000000000", "endTimeUnixNano": 1_795_328_715_000_000_000_u64,
            "attributes": [
                {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
                {"key": "gen_ai.input.messages", "value": {"stringValue": "[]"}},
                {"key": "gen_ai.request.seed", "value": {"intValue": "-5"}},
                {"key": "gen_ai.request.top_p", "value": {"doubleValue": 0.5}},
                {"key": "gen_ai.response.finish_reasons",
                    "value": {"arrayValue": {"values": [{"stringValue": "stop"}]}}}],
            "status": {"code": 2, "message": "m"}}]}]}]});
    let time = 1_795_328_714_000_000_000_u64.to_le_bytes();
    let text = message(1, b"tool");
    let span = [
        message(1, &[7; 16]),
        message(2, &[8; 8]),
        [&[0x39], &time[..], &[0x41], &time[..]].concat(),
        message(
            9,
            &[message(1, b"gen_ai.tool.name"), message(2, &text)].concat(),
        ),
        message(15, &[0x18, 2]),
    ];
    let binary = message(1, &message(2, &message(2, &span.concat())));
    vec![
        [agents.to_string().as_bytes(), &[0]].concat(),
        [otlp.to_string().as_bytes(), &[1]].concat(),
        [&*binary, &[2]].concat(),
    ]
}

/// A message within a message, in the binary form.
fn message(number: u8, inner: &[u8]) -> Vec<u8> {
    let length = u8::try_from(inner.len()).expect("seeds are short");
    [&[number << 3 | 2, length][..], inner].concat()
}

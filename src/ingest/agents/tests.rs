//! Reports of the Agents SDK, read.

use std::time::Duration;

use super::{
    super::{Config, Ingest, Taken},
    *,
};
use crate::base::clock::Timestamp;

const NOW: Timestamp = Timestamp::from_secs(1_795_328_720);

fn item(id: &str, parent: Option<&str>, data: &Json) -> Json {
    json!({
        "object": "trace.span", "id": format!("span_{}", id.repeat(24)),
        "trace_id": format!("trace_{}", "a".repeat(32)),
        "parent_id": parent.map(|parent| format!("span_{}", parent.repeat(24))),
        "started_at": "2026-11-22T06:25:14.017417+00:00",
        "ended_at": "2026-11-22T06:25:15+00:00",
        "span_data": data, "error": null,
    })
}

fn trace() -> Json {
    json!({
        "object": "trace", "id": format!("trace_{}", "a".repeat(32)),
        "workflow_name": "Refunds", "group_id": "chat-7",
        "metadata": {"team": "core", "tier": 2, "nested": {}},
    })
}

fn taken(ingest: &Ingest, items: &[Json]) -> Taken {
    let body = json!({"data": items}).to_string();
    let report = Report {
        format: Format::Agents,
        content_type: "application/json",
        body: body.as_bytes(),
        labels: &Labels::default(),
        now: NOW,
        with_content: true,
    };
    ingest.read(&report, &Config::default()).unwrap()
}

/// A report with a span of every type.
fn run() -> Taken {
    let agent = json!({"type": "agent", "name": "triage", "tools": ["lookup"],
        "handoffs": ["billing"], "output_type": "str"});
    let call = json!({"type": "generation", "model": "gpt-4o", "input": [{"secret": 1}],
        "output": [{"content": "secret", "tool_calls": [{"id": "call_1"}]}],
        "usage": {"input_tokens": 120, "output_tokens": 45}});
    taken(
        &Ingest::default(),
        &[
            trace(),
            item("3", Some("2"), &call),
            item(
                "4",
                Some("2"),
                &json!({"type": "function", "name": "lookup", "input": "{}",
            "output": "secret", "mcp_data": {"server": "crm"}}),
            ),
            item(
                "5",
                Some("2"),
                &json!({"type": "handoff", "from_agent": "triage",
            "to_agent": "billing"}),
            ),
            item(
                "6",
                Some("1"),
                &json!({"type": "guardrail", "name": "polite", "triggered": true}),
            ),
            item(
                "2",
                Some("1"),
                &json!({"type": "custom", "name": "turn", "data":
            {"sdk_span_type": "turn", "turn": 1, "agent_name": "triage"}}),
            ),
            item("1", Some("9"), &agent),
            item(
                "9",
                None,
                &json!({"type": "custom", "name": "task", "data":
            {"sdk_span_type": "task", "name": "Refunds"}}),
            ),
            item(
                "7",
                Some("9"),
                &json!({"type": "response", "response_id": "resp_1"}),
            ),
            item("8", Some("9"), &json!({"type": "of tomorrow", "name": "x"})),
        ],
    )
}

#[test]
fn each_type_becomes_its_kind_below_its_parent() {
    let found = run();
    assert_eq!((found.spans.len(), found.refused), (9, 0));
    let spans: Vec<_> = found
        .spans
        .iter()
        .map(|span| {
            let agent = span.labels.get(Label::Agent).unwrap_or("-");
            format!("{} | {} | {agent}", span.kind.name(), span.operation_name())
        })
        .collect();
    assert_eq!(
        spans,
        [
            "llm | generation gpt-4o | triage",
            "tool | execute_tool lookup | triage",
            "handoff | handoff triage → billing | triage",
            "guardrail | guardrail polite | triage",
            "workflow | turn 1 | triage",
            "agent | invoke_agent triage | triage",
            "workflow | Refunds | -",
            "llm | response | -",
            "workflow | of tomorrow x | -",
        ]
    );
    let first = &found.spans[0];
    assert_eq!(first.labels.get(Label::Workflow), Some("Refunds"));
    assert_eq!(first.labels.get(Label::Session), Some("chat-7"));
    assert_eq!(first.labels.tag_value("tier"), Some("2"));
    assert_eq!(first.duration, Duration::from_micros(982_583));
    assert_eq!(first.parent_span_id, Some(found.spans[4].span_id));
    assert_eq!(found.spans[7].response_id.as_deref(), Some("resp_1"));
    let lines: String = found.spans.iter().map(Span::to_json).collect();
    assert!(!lines.contains("secret"), "{lines}");
    assert!(!format!("{found:?}").contains("secret"));
    let said = |at: usize| {
        let span = &found.spans[at];
        let said = found.said.get(&(span.trace_id, span.span_id));
        said.map_or_else(Vec::new, |said| said.parts.clone())
    };
    let calls = r#"[{"content":"secret","tool_calls":[{"id":"call_1"}]}]"#;
    let call = [
        (Part::Input, r#"[{"secret":1}]"#.into()),
        (Part::Output, calls.into()),
    ];
    assert_eq!(said(0), call);
    let tool = [
        (Part::Arguments, "{}".into()),
        (Part::Result, "secret".into()),
    ];
    assert_eq!(said(1), tool);
    assert_eq!(said(2), []);
    assert!(
        lines.contains("\"tollgate.reported.tool_calls\":[\"call_1\"]"),
        "{lines}"
    );
    assert!(!lines.contains("gen_ai.usage"), "{lines}");
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_taken() {
    let good = json!({"type": "agent", "name": "a"});
    let mut old = item("4", None, &good);
    old["started_at"] = json!("2026-11-20T06:25:14+00:00");
    let mut nameless = item("5", None, &good);
    nameless["trace_id"] = Json::Null;
    let found = taken(
        &Ingest::default(),
        &[
            item("1", None, &good),
            json!(7),
            json!({"object": "session", "id": "x"}),
            item("2", None, &json!({})),
            item("3", None, &json!("text")),
            old,
            nameless,
        ],
    );
    assert_eq!((found.spans.len(), found.refused), (1, 6));
    let answer: Json = serde_json::from_slice(&found.answer).unwrap();
    assert_eq!(answer["accepted"], 1);
    let errors: Vec<_> = answer["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["index"].as_u64().unwrap())
        .collect();
    assert_eq!(errors, [1, 2, 3, 4, 5, 6]);
    assert_eq!(
        answer["errors"][4]["reason"],
        "it began more than a day ago"
    );
}

#[test]
fn a_report_that_comes_again_is_known_and_so_are_names_of_earlier_ones() {
    let ingest = Ingest::default();
    taken(&ingest, &[trace()]);
    let span = item("1", None, &json!({"type": "agent", "name": "a"}));
    let first = taken(&ingest, std::slice::from_ref(&span));
    assert_eq!(first.spans[0].labels.get(Label::Workflow), Some("Refunds"));
    let again = taken(&ingest, &[span]);
    assert_eq!(
        (again.spans.len(), again.repeated, again.refused),
        (0, 1, 0)
    );
}

#[test]
fn what_is_no_report_is_an_error_and_too_many_items_are_refused() {
    let ingest = Ingest::default();
    for body in ["", "{}", "[]", "{\"data\": 1}", "{\"data\": [1"] {
        let report = Report {
            format: Format::Agents,
            content_type: "application/json",
            body: body.as_bytes(),
            labels: &Labels::default(),
            now: NOW,
            with_content: true,
        };
        let error = ingest.read(&report, &Config::default()).unwrap_err();
        assert!(matches!(error, Unreadable::Body(_)), "{body}");
    }
    let many = vec![trace(); Config::default().spans + 3];
    assert_eq!(taken(&ingest, &many).refused, 3);
}

#[test]
fn spans_that_are_each_other_s_parents_end_somewhere() {
    let turn = json!({"type": "custom", "name": "x", "data": {}});
    let found = taken(
        &Ingest::default(),
        &[item("1", Some("2"), &turn), item("2", Some("1"), &turn)],
    );
    assert_eq!(found.spans.len(), 2);
}

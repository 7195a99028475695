//! What Datadog is told, and how it is reached.

use serde_json::{Value, json};

use super::*;
use crate::{
    base::clock::SystemClock,
    call::{
        content,
        labels::{Label, Source},
        outcome::{Kind, Status},
        span::{Span, tests::example},
    },
};

fn about() -> About {
    About {
        service: Box::from("raaf"),
        environment: Some(Box::from("prod")),
        version: Some(Box::from("1.2")),
        tags: vec![(Box::from("team"), Box::from("a"))],
        ml_app: Box::from("bot"),
    }
}

fn events(span: Span, form: Form) -> Value {
    let record = Record::new(span);
    serde_json::from_str(&llmobs::events(&[&record], &about(), form)).unwrap()
}

fn context(variable: crate::pipeline::Variables) -> BuildContext {
    BuildContext {
        variable,
        service_name: Box::from("raaf"),
        ..BuildContext::new(Arc::new(SystemClock))
    }
}

fn way(yaml: &str, variable: crate::pipeline::Variables) -> String {
    let config: Config = serde_saphyr::from_str(yaml).unwrap();
    match Way::of(&config, &context(variable)).unwrap() {
        Way::Agent(base) => format!("agent {base}"),
        Way::Intake(base, key) => format!("intake {base} {}", key.expose()),
    }
}

#[test]
fn an_agent_goes_before_a_key_and_what_is_written_before_variables() {
    let none = &|_: &str| None;
    let all = &|name: &str| match name {
        "DD_AGENT_HOST" => Some("node".to_owned()),
        "DD_API_KEY" => Some("k2".to_owned()),
        "DD_SITE" => Some("datadoghq.eu".to_owned()),
        _ => None,
    };
    let key = &|name: &str| (name == "DATADOG_API_KEY").then(|| "k1".to_owned());
    assert_eq!(way("{}", none), "agent http://localhost:8126");
    assert_eq!(way("{}", all), "agent http://node:8126");
    assert_eq!(way("{}", key), "intake https://api.datadoghq.com k1");
    assert_eq!(
        way("{agent_host: '::1', agent_port: 1}", key),
        "agent http://[::1]:1"
    );
    assert_eq!(way("{endpoint: 'http://a:1/'}", key), "agent http://a:1");
    assert_eq!(
        way("{api_key: k}", all),
        "intake https://api.datadoghq.eu k"
    );
    assert_eq!(
        way("{api_key: k, site: us5.datadoghq.com}", all),
        "intake https://api.us5.datadoghq.com k"
    );
    assert_eq!(
        way("{api_key: k, endpoint: 'http://a'}", none),
        "intake http://a k"
    );
    assert_eq!(
        way("{api_key: k, agent_host: a}", none),
        "agent http://a:8126"
    );
    assert_eq!(
        way("{api_key_secret: datadog-api-key}", key),
        "intake https://api.datadoghq.com k1"
    );
}

#[test]
fn what_cannot_be_is_said_with_its_key() {
    for (yaml, word) in [
        ("{api_key: hush, mode: [apm]}", "mode: apm needs an Agent"),
        ("{mode: []}", "mode: expected"),
        ("{api_key: hush, metrics: true}", "dogstatsd"),
        ("{metrics: true, dogstatsd: nowhere}", "dogstatsd: address"),
        ("{endpoint: 'ftp://hush'}", "endpoint: it is no http"),
        (
            "{endpoint: 'http://hush/hush@agent', metrics: true}",
            "endpoint: a `@` behind the host",
        ),
        ("{api_key: \"hush\\n\"}", "api_key"),
    ] {
        let config: Config = serde_saphyr::from_str(yaml).unwrap();
        let error = build(&config, &context(&|_| None)).unwrap_err().to_string();
        assert!(error.contains(word) && !error.contains("hush"), "{error}");
    }
}

#[test]
fn an_event_has_the_form_of_its_receiver() {
    let mut span = example();
    span.labels.set(Label::Session, "s1", Source::Header);
    span.parent_span_id = Some(SpanId::from_bytes([0, 0, 0, 0, 0, 0, 1, 0]));
    let api = events(span.clone(), Form::Api);
    let data = &api["data"]["attributes"];
    let event = &data["spans"][0];
    assert_eq!(
        (&api["data"]["type"], &data["ml_app"]),
        (&json!("span"), &json!("bot"))
    );
    assert_eq!(event["trace_id"], "01010101010101010101010101010101");
    assert_eq!(event["span_id"], "144680345676153346");
    assert_eq!(event["parent_id"], "256");
    assert_eq!(event["name"], "chat gpt-4o");
    assert_eq!(event["start_ns"], 1_795_328_714_017_417_000_u64);
    assert_eq!(event["duration"], 812_400_000);
    assert_eq!(event["status"], "ok");
    assert_eq!(event["session_id"], "s1");
    let meta = &event["meta"];
    assert_eq!(
        (&meta["kind"], &meta["span.kind"]),
        (&json!("llm"), &Value::Null)
    );
    assert_eq!(meta["model_name"], "gpt-4o-2024-08-06");
    assert_eq!(meta["metadata"]["span_id"], "0202020202020202");
    assert_eq!(
        event["metrics"],
        json!({
            "input_tokens": 120, "output_tokens": 45, "total_tokens": 165,
            "cache_read_input_tokens": 100, "reasoning_output_tokens": 0,
            "time_to_first_token": 0.21, "total_cost": 0.000_625,
        })
    );
    let tags = event["tags"].as_array().unwrap();
    for tag in [
        "service:raaf",
        "env:prod",
        "version:1.2",
        "team:a",
        "agent:support",
        "ml_app:bot",
    ] {
        assert!(tags.contains(&json!(tag)), "{tag}: {tags:?}");
    }
    let tracer = events(span, Form::Tracer);
    let event = &tracer[0]["spans"][0];
    assert_eq!(tracer[0]["event_type"], "span");
    assert_eq!(event["meta"]["span.kind"], "llm");
    assert_eq!(event["_dd"]["apm_trace_id"], "72340172838076673");
    assert_eq!(event["ml_app"], "bot");
}

#[test]
fn a_root_a_failure_and_what_is_not_known_are_said_so() {
    let span = Span {
        status: Status::Blocked,
        blocked_by: Some(Box::from("budget.daily")),
        cost: None,
        usage: crate::call::usage::Usage::NONE,
        first_chunk: None,
        kind: Kind::Http,
        ..example()
    };
    let api = events(span.clone(), Form::Api);
    let event = &api["data"]["attributes"]["spans"][0];
    assert_eq!(
        (&event["parent_id"], &event["status"]),
        (&json!("undefined"), &json!("error"))
    );
    assert_eq!(event["metrics"], json!({}));
    assert_eq!(event["meta"]["kind"], "task");
    let error = json!({"type": "blocked", "message": "refused or cut by budget.daily"});
    assert_eq!(event["meta"]["error"], error);
    let tracer = events(span, Form::Tracer);
    assert_eq!(tracer[0]["spans"][0]["meta"]["error.type"], "blocked");
}

#[test]
fn what_was_said_is_told_if_the_span_has_it_and_is_not_too_long() {
    let with = |text: &str| {
        let input = json!([
            {"role": "user", "parts": [{"type": "text", "content": text}, {"type": "blob", "content": "x"}]},
            {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "look", "arguments": {"a": 1}}]},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": {"b": 2}}]},
        ]);
        let texts = |value: Value| crate::call::span::Value::Text(value.to_string().into());
        let mut span = example();
        span.attributes.push((content::INPUT, texts(input)));
        span.attributes.push((
            content::SYSTEM,
            texts(json!([{"type": "text", "content": "Be kind"}])),
        ));
        events(span, Form::Api)["data"]["attributes"]["spans"][0]["meta"].clone()
    };
    let meta = with("Hi");
    assert_eq!(
        meta["input"]["messages"],
        json!([
            {"role": "system", "content": "Be kind"},
            {"role": "user", "content": "Hi\n[blob]"},
            {"role": "assistant", "content": "", "tool_calls": [
                {"name": "look", "arguments": {"a": 1}, "tool_id": "c1", "type": "function"}
            ]},
            {"role": "tool", "content": "{\"b\":2}"},
        ])
    );
    assert!(meta["metadata"].get(content::INPUT).is_none() && meta.get("output").is_none());
    let meta = with(&"long ".repeat(300_000));
    assert!(
        meta["input"]["value"]
            .as_str()
            .unwrap()
            .starts_with("left out")
    );
}

#[test]
fn what_a_tool_was_given_and_gave_is_no_tag_but_its_input_and_output() {
    let with = |given: &str, kind| {
        let text = |text: &str| crate::call::span::Value::Text(text.into());
        let mut span = Span { kind, ..example() };
        let said = [
            (content::ARGUMENTS, text(given)),
            (content::RESULT, text("hush")),
        ];
        span.attributes.extend(said);
        span
    };
    let record = Record::new(with("hush", Kind::Tool));
    let (body, _) = apm::traces(&[&record], &about());
    assert!(memchr::memmem::find(&body, b"hush").is_none());
    let meta = |span| events(span, Form::Api)["data"]["attributes"]["spans"][0]["meta"].clone();
    for kind in [Kind::Tool, Kind::Llm] {
        let meta = meta(with("{\"to\":1}", kind));
        assert_eq!(meta["input"], json!({"value": "{\"to\":1}"}));
        assert_eq!(meta["output"], json!({"value": "hush"}));
        assert!(!meta["metadata"].to_string().contains("hush"));
    }
    let mut both = with("hush", Kind::Tool);
    let input = json!([{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]);
    let input = crate::call::span::Value::Text(input.to_string().into());
    both.attributes.push((content::INPUT, input));
    assert_eq!(meta(both)["input"], json!({"value": "Hi"}));
    let long = meta(with(&"long ".repeat(300_000), Kind::Tool));
    for name in ["input", "output"] {
        let value = long[name]["value"].as_str().unwrap();
        assert!(value.starts_with("left out"), "{value}");
    }
}

#[test]
fn spans_of_one_trace_are_together_and_the_highest_are_marked() {
    let with = |trace: u8, id: u8, parent: Option<u8>| {
        Record::new(Span {
            trace_id: crate::base::id::TraceId::from_bytes([trace; 16]),
            span_id: SpanId::from_bytes([id; 8]),
            parent_span_id: parent.map(|id| SpanId::from_bytes([id; 8])),
            ..example()
        })
    };
    let records = [with(1, 1, None), with(2, 2, Some(9)), with(1, 3, Some(1))];
    let (body, count) = apm::traces(&records.iter().collect::<Vec<_>>(), &about());
    assert_eq!((count, body[0], body[1]), (2, 0x92, 0x92));
    let times = |text: &str| {
        let found = body
            .windows(text.len())
            .filter(|part| *part == text.as_bytes());
        found.count()
    };
    assert_eq!(times("_top_level"), 2);
    assert_eq!(times("_sampling_priority_v1"), 2);
    assert_eq!(
        (times("0101010101010101\u{a9}"), times("trace_id\u{cf}")),
        (0, 0)
    );
    assert_eq!(times("openai.request"), 3);
    // The low half of a trace's id is on two spans; one span and the parent of another are the same.
    let id = [0xcf, 1, 1, 1, 1, 1, 1, 1, 1];
    let ids = body.windows(id.len()).filter(|part| *part == id);
    assert_eq!(ids.count(), 4);
}

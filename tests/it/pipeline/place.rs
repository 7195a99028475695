//! Where spans were made, as the cluster tells Tollgate, on the spans and at their destinations.

use std::sync::Arc;

use serde_json::{Value, json};
use tollgate::{
    base::clock::SystemClock,
    call::workload::{Owner, Workload},
    pipeline::{BuildContext, Pipeline},
};

use super::{
    sink::{Sink, TAKES},
    sinks::{span, with_metrics},
};
use crate::support::{Sandbox, sandbox::PATIENCE};

const VARIABLES: &[(&str, &str)] = &[
    ("TOLLGATE_POD", "support-7d-x"),
    ("TOLLGATE_POD_UID", "4d0c"),
    ("TOLLGATE_NAMESPACE", "agents"),
    ("TOLLGATE_SERVICE_ACCOUNT", "bot"),
    ("TOLLGATE_NODE", "node-1"),
    ("TOLLGATE_OWNER", "Deployment/support"),
];

#[tokio::test]
async fn every_span_says_in_which_pod_it_was_made_with_nothing_configured() {
    let sandbox = Sandbox::with_variables("", VARIABLES);
    let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]});
    let reported = json!({"data": [{"object": "trace.span", "id": "span_1",
        "trace_id": "trace_0123456789abcdef0123456789abcdef", "parent_id": null,
        "started_at": "2026-11-26T12:00:00Z", "ended_at": "2026-11-26T12:00:01Z",
        "span_data": {"type": "function", "name": "lookup", "input": "", "output": ""}}]});
    assert_eq!(
        sandbox.post("/v1/chat/completions", &body).await.status,
        200
    );
    let taken = sandbox.post("/v1/traces/ingest", &reported).await;
    assert_eq!(taken.status, 200, "{taken:?}");
    let spans = sandbox.spans(2).await;
    for span in spans {
        let attributes = &span["attributes"];
        assert_eq!(attributes["k8s.pod.name"], "support-7d-x", "{span}");
        assert_eq!(attributes["k8s.pod.uid"], "4d0c");
        assert_eq!(attributes["k8s.namespace.name"], "agents");
        assert_eq!(attributes["k8s.node.name"], "node-1");
        assert_eq!(attributes["k8s.deployment.name"], "support");
        assert_eq!(attributes["tollgate.service_account"], "bot");
    }
}

#[tokio::test]
async fn otlp_s_resource_says_it_and_the_configuration_goes_before() {
    let sink = Sink::start(&[], TAKES).await;
    let context = BuildContext {
        workload: Workload {
            pod: Some("support-7d-x".into()),
            namespace: Some("agents".into()),
            owner: Owner::named("StatefulSet/support"),
            ..Workload::default()
        },
        ..BuildContext::new(Arc::new(SystemClock))
    };
    let yaml = format!(
        "{{type: otlp, endpoint: {}, protocol: http/json, compression: none, resource: \
         {{k8s.namespace.name: mine}}}}",
        sink.url
    );
    let outlets = with_metrics(&yaml, "{rate: 1}", &context);
    let pipeline = Pipeline::start(Vec::new(), outlets, Arc::new(SystemClock)).unwrap();
    pipeline.offer(span(1));
    assert!(pipeline.flush(PATIENCE).await, "{:?}", pipeline.stats());
    pipeline.close(PATIENCE).await;
    let sent: Value = serde_json::from_slice(&sink.seen()[0].body).unwrap();
    let attributes = &sent["resourceSpans"][0]["resource"]["attributes"];
    let value = |name: &str| {
        let mut attributes = attributes.as_array().unwrap().iter();
        let found = attributes.find(|attribute| attribute["key"] == name);
        found.map(|found| found["value"]["stringValue"].clone())
    };
    assert_eq!(value("k8s.pod.name"), Some("support-7d-x".into()));
    assert_eq!(value("k8s.namespace.name"), Some("mine".into()));
    assert_eq!(value("k8s.statefulset.name"), Some("support".into()));
    assert_eq!(value("k8s.node.name"), None);
}

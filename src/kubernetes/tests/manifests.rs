//! Whole manifests: every workload, lists, and what describes no pod.

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::{CronJob, Job},
        core::v1::{Pod, ReplicationController},
    },
    serde::de::DeserializeOwned,
};
use serde_json::{Value, json};

use super::{
    super::{
        Defaults,
        manifest::{self, Options},
    },
    names, pod,
};

/// Parses it as the API would, and fails if anything in it is not the API's.
fn typed<T: DeserializeOwned + serde::Serialize>(value: &Value) {
    let parsed: T = serde_json::from_value(value.clone()).unwrap();
    let again = serde_json::to_value(&parsed).unwrap();
    assert_eq!(lost(value, &again, ""), Vec::<String>::new());
}

/// What of `value` is not in `again`.
fn lost(value: &Value, again: &Value, path: &str) -> Vec<String> {
    match (value, again) {
        (Value::Object(map), again) => map
            .iter()
            .flat_map(|(key, value)| {
                let path = format!("{path}/{key}");
                match again.get(key) {
                    Some(again) => lost(value, again, &path),
                    // Empty is as good as not there.
                    None if value == &json!({}) || value == &json!([]) => Vec::new(),
                    None => vec![path],
                }
            })
            .collect(),
        (Value::Array(list), Value::Array(again)) if list.len() == again.len() => list
            .iter()
            .zip(again)
            .enumerate()
            .flat_map(|(index, (one, other))| lost(one, other, &format!("{path}/{index}")))
            .collect(),
        (one, other) if one == other => Vec::new(),
        _ => vec![path.to_owned()],
    }
}

/// Every workload, with the template of its pods.
fn workloads() -> Vec<Value> {
    let template = |restart: &str| {
        let mut template = pod(json!({"tollgate.dev/mode": "transparent"}));
        template["spec"]
            .as_object_mut()
            .unwrap()
            .remove("unknownField");
        template["spec"]["restartPolicy"] = json!(restart);
        json!({
            "metadata": {"labels": {"app": "a"}, "annotations": template["metadata"]["annotations"]},
            "spec": template["spec"]
        })
    };
    let selector = json!({"matchLabels": {"app": "a"}});
    let object = |version: &str, kind: &str, spec: Value| json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, "spec": spec});
    let job = json!({"template": template("Never")});
    let usual = json!({"selector": selector, "template": template("Always")});
    let set = json!({
        "selector": selector, "template": template("Always"), "serviceName": "a"
    });
    let mut plain = pod(json!({"tollgate.dev/mode": "proxy"}));
    plain["spec"]
        .as_object_mut()
        .unwrap()
        .remove("unknownField");
    vec![
        plain,
        object("apps/v1", "Deployment", usual.clone()),
        object("apps/v1", "ReplicaSet", usual.clone()),
        object("apps/v1", "DaemonSet", usual),
        object("apps/v1", "StatefulSet", set),
        object(
            "v1",
            "ReplicationController",
            json!({"selector": {"app": "a"}, "template": template("Always")}),
        ),
        object("batch/v1", "Job", job.clone()),
        object(
            "batch/v1",
            "CronJob",
            json!({"schedule": "0 3 * * *", "jobTemplate": {"spec": job}}),
        ),
    ]
}

fn offline(files: &[(&str, &str)], config: Option<&str>) -> manifest::Outcome {
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    let options = Options {
        defaults: &Defaults::default(),
        namespace: "default",
        config,
    };
    manifest::inject(&files, &options).unwrap()
}

#[test]
fn every_workload_is_what_the_api_takes_and_a_patch_makes_it_so() {
    for native in [true, false] {
        for mut before in workloads() {
            let kind = before["kind"].as_str().unwrap().to_owned();
            let pointer = match &*kind {
                "Pod" => "/metadata/annotations",
                "CronJob" => "/spec/jobTemplate/spec/template/metadata/annotations",
                _ => "/spec/template/metadata/annotations",
            };
            let native = if native { "true" } else { "false" };
            before.pointer_mut(pointer).unwrap()["tollgate.dev/native-sidecar"] = json!(native);
            let outcome = offline(&[("a.json", &before.to_string())], None);
            assert_eq!(outcome.refusals, Vec::<String>::new());
            let after: Value = serde_json::from_str(&outcome.text).unwrap();
            match &*kind {
                "Pod" => typed::<Pod>(&after),
                "Deployment" => typed::<Deployment>(&after),
                "ReplicaSet" => typed::<ReplicaSet>(&after),
                "DaemonSet" => typed::<DaemonSet>(&after),
                "StatefulSet" => typed::<StatefulSet>(&after),
                "ReplicationController" => typed::<ReplicationController>(&after),
                "Job" => typed::<Job>(&after),
                _ => typed::<CronJob>(&after),
            }
            let patch = json_patch::diff(&before, &after);
            assert!(!patch.0.is_empty());
            let mut patched = before.clone();
            json_patch::patch(&mut patched, &patch).unwrap();
            assert_eq!(patched, after);
        }
    }
}

#[test]
fn manifests_that_describe_no_pod_stay_as_they_are_written() {
    let text = "# What we have\napiVersion: v1\nkind: Service\nmetadata: {name: a}   # ours\n---\n\
                apiVersion: batch.volcano.sh/v1alpha1\nkind: Job\nspec: {x: 0644}\n---\n---\n# end\n";
    let outcome = offline(&[("a.yaml", text)], None);
    assert_eq!(outcome.text, text);
}

#[test]
fn what_is_among_the_manifests_is_known() {
    let pods = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  namespace: team\n  annotations:\n    \
                tollgate.dev/config: settings\nspec:\n  containers:\n  - name: app\n    image: a\n";
    let config = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  \
                  metadata: {name: settings, namespace: team}\n  data: {config.yaml: 'log: {level: \
                  loud}'}\n";
    let outcome = offline(&[("p.yaml", pods), ("c.yaml", config)], None);
    let [refusal] = outcome.refusals.as_slice() else {
        panic!("{outcome:?}");
    };
    assert!(
        refusal.starts_with("p.yaml: Pod team/p: ConfigMap settings, config.yaml:1:"),
        "{refusal}"
    );
    let outcome = offline(&[("p.yaml", pods)], None);
    assert!(outcome.refusals[0].contains("no ConfigMap settings"));
    let outcome = offline(&[("p.yaml", pods)], Some("log: {level: debug}"));
    assert_eq!(outcome.refusals, Vec::<String>::new());
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team, labels: \
                     {tollgate.dev/inject: disabled}}\n";
    let outcome = offline(&[("n.yaml", namespace), ("p.yaml", pods)], None);
    assert_eq!(outcome.text, format!("{namespace}---\n{pods}"));
}

#[test]
fn items_of_lists_are_injected_into_and_misplaced_annotations_told_of() {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}},
        {
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "annotations": {"tollgate.dev/mode": "proxy"}},
            "spec": {"template": {"spec": {"containers": [{"name": "app"}]}}}
        }
    ]});
    let outcome = offline(&[("l.json", &list.to_string())], None);
    let after: Value = serde_json::from_str(&outcome.text).unwrap();
    assert_eq!(after["items"][0], list["items"][0]);
    let template = &after["items"][1]["spec"]["template"];
    assert_eq!(names(template, "/spec/initContainers"), ["tollgate"]);
    assert_eq!(
        outcome.warnings,
        [
            "l.json, item 1: Deployment default/web: annotation tollgate.dev/mode belongs to \
             spec.template.metadata; here nothing reads it"
        ]
    );
    let again = offline(&[("l.json", &outcome.text)], None);
    assert_eq!(again.text, outcome.text);
}

#[test]
fn several_documents_are_told_apart() {
    let text = "kind: A\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {hostNetwork: \
                true, containers: [{name: a}]}\n";
    let outcome = offline(&[("m.yaml", text)], None);
    assert!(
        outcome.refusals[0].starts_with("m.yaml, document 2 (line 2): Pod default/p: the pod has"),
        "{:?}",
        outcome.refusals
    );
    let files = [("m.yaml".to_owned(), "a: [\n".to_owned())];
    let options = Options {
        defaults: &Defaults::default(),
        namespace: "default",
        config: None,
    };
    let error = manifest::inject(&files, &options).unwrap_err();
    assert!(error.starts_with("m.yaml: no YAML: "), "{error}");
}

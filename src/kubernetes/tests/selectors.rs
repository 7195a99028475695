//! The pods that the shipped selectors show to the webhook are those that want a sidecar.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::kubernetes::{Asked, Defaults, INJECT, Namespace, Wish};

/// What a label or an annotation may say.
const SAID: [Option<&str>; 6] = [
    None,
    Some("enabled"),
    Some("true"),
    Some("disabled"),
    Some("false"),
    Some("maybe"),
];

/// Whether labels are as a selector wants them, by the two operators that are used.
fn selects(selector: &Value, labels: &Value) -> bool {
    let expressions = selector["matchExpressions"].as_array().unwrap();
    expressions.iter().all(|expression| {
        let label = &labels[expression["key"].as_str().unwrap()];
        let is_in = expression["values"].as_array().unwrap().contains(label);
        match expression["operator"].as_str().unwrap() {
            "In" => is_in,
            "NotIn" => !is_in,
            other => panic!("{other}"),
        }
    })
}

fn mark(value: Option<&str>) -> Value {
    value.map_or_else(|| json!({}), |value| json!({INJECT: value}))
}

/// Whether a pod is shown by one of the entries.
fn is_shown(entries: &[Value], namespace: &Value, pod: &Value) -> bool {
    let selects_both = |entry: &&Value| {
        selects(&entry["namespaceSelector"], namespace) && selects(&entry["objectSelector"], pod)
    };
    let shown = entries.iter().filter(selects_both).count();
    assert!(shown <= 1, "shown twice: {namespace}, {pod}");
    shown == 1
}

/// Whether the webhook gives a pod its sidecar.
fn is_wanted(namespace: &Value, labels: &Value, annotations: &Value) -> bool {
    let pod = json!({
        "metadata": {"labels": labels, "annotations": annotations},
        "spec": {"containers": [{"name": "app"}]}
    });
    let namespace = Namespace::of("team", &json!({"metadata": {"labels": namespace}}));
    let asked = Wish::of(&pod, &namespace, &Defaults::default());
    matches!(asked, Ok(Asked::For(_)))
}

#[test]
fn what_wants_a_sidecar_is_shown_to_the_webhook_by_the_shipped_selectors() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes/base/webhook.yaml");
    let shipped: Value = serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let entries = shipped["webhooks"].as_array().unwrap();
    let mut wanted = 0;
    for of_namespace in SAID {
        for of_pod in SAID {
            for annotated in SAID {
                let (namespace, labels) = (mark(of_namespace), mark(of_pod));
                let shown = is_shown(entries, &namespace, &labels);
                // No selector sees annotations: where the namespace does not ask, a label must.
                let by_note_alone =
                    of_pod.is_none() && !matches!(of_namespace, Some("enabled" | "true"));
                if is_wanted(&namespace, &labels, &mark(annotated)) {
                    wanted += 1;
                    let case = format!("{of_namespace:?}, {of_pod:?}, {annotated:?}");
                    assert_eq!(shown, !by_note_alone, "{case}");
                }
            }
        }
    }
    assert!(wanted > 0);
}

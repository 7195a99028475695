//! What becomes of pods.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{
    World,
    caller::{patch, pod, review},
};

fn names<'a>(pod: &'a Value, of: &str) -> Vec<&'a str> {
    let containers = pod["spec"][of].as_array().into_iter().flatten();
    containers.map(|it| it["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_pod_of_a_namespace_with_the_label_gets_the_sidecar_over_both_versions_of_http() {
    let world = World::new().await;
    let replica = world.ready().await;
    for protocol in ["http/1.1", "h2"] {
        let connection = replica.caller.connect(&world.bundle(), protocol).await;
        let mut connection = connection.unwrap();
        for containers in [1, 10] {
            let mut changed = pod(containers);
            let (status, response) = connection.ask(&review("shop", &changed)).await;
            assert_eq!(status, 200);
            assert_eq!(response["allowed"], true, "{response}");
            json_patch::patch(&mut changed, &patch(&response)).unwrap();
            assert_eq!(names(&changed, "initContainers"), ["tollgate"]);
            assert_eq!(
                changed["spec"]["containers"].as_array().unwrap().len(),
                containers
            );
            let typed: Pod = serde_json::from_value(changed.clone()).unwrap();
            let sidecar = &typed.spec.unwrap().init_containers.unwrap()[0];
            assert_eq!(sidecar.restart_policy.as_deref(), Some("Always"));
            // What the API server asks again about is left as it is.
            let (_, again) = connection.ask(&review("shop", &changed)).await;
            assert_eq!(again["allowed"], true);
            assert!(again.get("patch").is_none(), "{again}");
        }
    }
    let injected = "tollgate_webhook_reviews_total{outcome=\"injected\"}";
    assert!((replica.metric(injected).await - 4.0).abs() < 0.1);
}

#[tokio::test]
async fn a_pod_that_asks_to_be_left_alone_and_one_of_another_namespace_stay_as_they_are() {
    let world = World::new().await;
    world.cluster.namespace("other", "disabled");
    let replica = world.ready().await;
    let mut alone = pod(1);
    alone["metadata"]["annotations"] = json!({"tollgate.dev/inject": "disabled"});
    let mut connection = world.connect(&replica).await;
    for (namespace, pod) in [("shop", &alone), ("other", &pod(1))] {
        let (status, response) = connection.ask(&review(namespace, pod)).await;
        assert_eq!((status.as_u16(), &response["allowed"]), (200, &json!(true)));
        assert!(response.get("patch").is_none(), "{response}");
    }
}

#[tokio::test]
async fn a_missing_config_map_is_refused_until_it_is_there() {
    let world = World::new().await;
    let replica = world.ready().await;
    let mut pod = pod(1);
    pod["metadata"]["annotations"] = json!({"tollgate.dev/config": "limits"});
    let (status, response) = world.ask(&replica, &pod).await;
    assert_eq!((status, &response["allowed"]), (200, &json!(false)));
    assert_eq!(response["status"]["code"], 422);
    assert_eq!(response["status"]["reason"], "NoConfigMap");
    let message = response["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("there is no ConfigMap limits"),
        "{message}"
    );
    let text = "log: {level: warn}\n";
    world.cluster.config_map("shop", "limits", text);
    let (_, response) = world.ask(&replica, &pod).await;
    assert_eq!(response["allowed"], true, "{response}");
    patch(&response);
}

#[tokio::test]
async fn a_config_map_whose_name_leads_elsewhere_is_not_asked_for() {
    let world = World::new().await;
    let replica = world.ready().await;
    for name in ["../../secrets/x", "a%2f..", "x?y=z", "UPPER"] {
        let mut pod = pod(1);
        pod["metadata"]["annotations"] = json!({"tollgate.dev/config": name});
        let (status, response) = world.ask(&replica, &pod).await;
        assert_eq!(
            (status, &response["allowed"]),
            (200, &json!(false)),
            "{name}"
        );
    }
    // Nor a namespace, whatever somebody who is not the API server sends.
    let mut connection = world.connect(&replica).await;
    let (status, response) = connection.ask(&review("../secrets", &pod(1))).await;
    assert_eq!(
        (status.as_u16(), &response["allowed"]),
        (503, &json!(false))
    );
    let asked = world.cluster.asked();
    let strange = |asked: &&String| asked.contains("..") || asked.contains('%');
    assert_eq!(asked.iter().find(strange), None);
}

#[tokio::test]
async fn what_cannot_be_injected_safely_is_refused_with_its_reason() {
    let world = World::new().await;
    let replica = world.ready().await;
    let mut connection = world.connect(&replica).await;
    for (path, value, reason) in [
        ("/spec/hostNetwork", json!(true), "HostNetwork"),
        ("/spec/os", json!({"name": "windows"}), "Windows"),
        (
            "/spec/nodeSelector",
            json!({"kubernetes.io/os": "windows"}),
            "Windows",
        ),
        (
            "/spec/containers/0/ports",
            json!([{"containerPort": 4100}]),
            "PortTaken",
        ),
        ("/spec/containers/0/name", json!("tollgate"), "NameTaken"),
        ("/spec/containers", json!(null), "Malformed"),
        (
            "/metadata/annotations",
            json!({"tollgate.dev/moed": "env"}),
            "BadAnnotation",
        ),
    ] {
        let mut pod = pod(1);
        let (parent, member) = path.rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[member] = value;
        let (status, response) = connection.ask(&review("shop", &pod)).await;
        assert_eq!(
            (status.as_u16(), &response["allowed"]),
            (200, &json!(false)),
            "{path}"
        );
        assert_eq!(response["status"]["reason"], reason, "{response}");
        assert!(response["status"]["message"].as_str().unwrap().len() > 20);
        assert!(response.get("patch").is_none());
    }
}

#[tokio::test]
async fn a_container_that_sets_a_variable_itself_is_warned_of() {
    let world = World::new().await;
    let replica = world.ready().await;
    let mut pod = pod(2);
    let own = json!([{"name": "OPENAI_BASE_URL", "value": "https://api.openai.com/v1"}]);
    pod["spec"]["containers"][1]["env"] = own.clone();
    let (_, response) = world.ask(&replica, &pod).await;
    assert_eq!(response["allowed"], true);
    let warnings = response["warnings"].as_array().unwrap();
    let says = |warning: &Value| {
        let warning = warning.as_str().unwrap();
        warning.contains("agent-1") && warning.contains("OPENAI_BASE_URL")
    };
    assert!(warnings.iter().any(says), "{response}");
    json_patch::patch(&mut pod, &patch(&response)).unwrap();
    let env = pod["spec"]["containers"][1]["env"].as_array().unwrap();
    assert!(env.contains(&own[0]));
}

#[tokio::test]
async fn what_is_no_new_pod_is_let_in_with_a_warning() {
    let world = World::new().await;
    let replica = world.ready().await;
    let mut connection = world.connect(&replica).await;
    for (member, value) in [
        ("operation", json!("UPDATE")),
        ("operation", json!("DELETE")),
        ("subResource", json!("ephemeralcontainers")),
        (
            "resource",
            json!({"group": "apps", "version": "v1", "resource": "deployments"}),
        ),
    ] {
        let mut review = review("shop", &pod(1));
        review["request"][member] = value;
        let (status, response) = connection.ask(&review).await;
        assert_eq!((status.as_u16(), &response["allowed"]), (200, &json!(true)));
        assert!(
            response["warnings"][0]
                .as_str()
                .unwrap()
                .contains("CREATE of pods")
        );
        assert!(response.get("patch").is_none());
    }
    let mut empty = review("shop", &pod(1));
    empty["request"]["object"] = Value::Null;
    let (_, response) = connection.ask(&empty).await;
    assert_eq!(response["status"]["code"], 400, "{response}");
}

#[tokio::test]
async fn a_dry_run_is_answered_alike_and_nothing_is_ever_written_for_a_pod() {
    let world = World::new().await;
    let replica = world.ready().await;
    let written = || {
        let asked = world.cluster.asked();
        asked
            .iter()
            .filter(|asked| !asked.starts_with("GET "))
            .count()
    };
    let before = written();
    let mut connection = world.connect(&replica).await;
    let mut dry = review("shop", &pod(1));
    let (_, wet) = connection.ask(&dry).await;
    dry["request"]["dryRun"] = true.into();
    let (_, answer) = connection.ask(&dry).await;
    assert_eq!(answer, wet);
    assert_eq!(written(), before);
}

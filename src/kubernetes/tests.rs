//! Whole pods, injected into: what comes out is what the API takes, and what was there stays.

mod manifests;
mod selectors;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A pod for an agent of two containers, one of which runs first.
fn pod(annotations: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "agent"},
        "spec": {
            "unknownField": {"stays": true},
            "initContainers": [{"name": "warm-up", "image": "agent:1"}],
            "containers": [
                {"name": "agent", "image": "agent:1", "ports": [{"containerPort": 3001}]},
                {"name": "helper", "image": "helper:1", "env": [{"name": "A", "value": "b"}]}
            ]
        }
    });
    pod["metadata"]["annotations"] = annotations;
    pod
}

fn injected_with(pod: &Value, config_map: Option<&Value>) -> Result<Injected, Refusal> {
    let namespace = Namespace::assumed("team");
    match Wish::of(pod, &namespace, &Defaults::default())? {
        Asked::For(wish) => wish.inject(pod.clone(), config_map, &Owner::of_pod(pod)),
        Asked::Not(why) => panic!("{why}"),
    }
}

fn injected(annotations: Value) -> Result<Injected, Refusal> {
    injected_with(&pod(annotations), None)
}

fn refused(pod: &Value) -> String {
    injected_with(pod, None).unwrap_err().to_string()
}

fn names(pod: &Value, pointer: &str) -> Vec<String> {
    let all = pod.pointer(pointer).and_then(Value::as_array).unwrap();
    all.iter()
        .map(|one| one["name"].as_str().unwrap().to_owned())
        .collect()
}

fn find<'a>(pod: &'a Value, pointer: &str, name: &str) -> &'a Value {
    let all = pod.pointer(pointer).and_then(Value::as_array).unwrap();
    all.iter().find(|one| one["name"] == name).unwrap()
}

#[test]
fn the_sidecar_comes_before_what_it_serves() {
    let done = injected(json!({})).unwrap();
    assert_eq!(done.warnings, Vec::<String>::new());
    assert_eq!(
        names(&done.pod, "/spec/initContainers"),
        ["tollgate", "warm-up"]
    );
    assert_eq!(names(&done.pod, "/spec/containers"), ["agent", "helper"]);
    assert_eq!(done.pod["spec"]["unknownField"], json!({"stays": true}));
    let sidecar = find(&done.pod, "/spec/initContainers", "tollgate");
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert_eq!(sidecar["startupProbe"]["httpGet"]["port"], 4101);
    let security = &sidecar["securityContext"];
    assert_eq!(security["runAsNonRoot"], true);
    assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
    for container in ["agent", "helper"] {
        let container = find(&done.pod, "/spec/containers", container);
        let url = find(container, "/env", "OPENAI_BASE_URL");
        assert_eq!(url["value"], "http://127.0.0.1:4100/v1");
    }
    let first = find(&done.pod, "/spec/initContainers", "warm-up");
    assert!(names(first, "/env").contains(&"ANTHROPIC_BASE_URL".to_owned()));
}

#[test]
fn the_authoritys_key_is_in_memory_and_only_the_sidecar_has_it() {
    let done = injected(json!({"tollgate.dev/mode": "proxy"})).unwrap();
    assert_eq!(
        names(&done.pod, "/spec/initContainers"),
        ["tollgate-ca", "tollgate", "warm-up"]
    );
    let volume = find(&done.pod, "/spec/volumes", "tollgate-ca");
    assert_eq!(volume["emptyDir"]["medium"], "Memory");
    let mut with_key = Vec::new();
    for pointer in ["/spec/initContainers", "/spec/containers"] {
        for container in done.pod.pointer(pointer).unwrap().as_array().unwrap() {
            let mounts = names(container, "/volumeMounts");
            if mounts.contains(&"tollgate-ca".to_owned()) {
                with_key.push(container["name"].as_str().unwrap().to_owned());
            }
        }
    }
    assert_eq!(with_key, ["tollgate-ca", "tollgate"]);
    let agent = find(&done.pod, "/spec/containers", "agent");
    assert_eq!(
        find(agent, "/volumeMounts", "tollgate-trust")["readOnly"],
        true
    );
}

#[test]
fn only_what_redirects_may_change_the_network() {
    let done = injected(json!({"tollgate.dev/mode": "transparent"})).unwrap();
    assert_eq!(
        names(&done.pod, "/spec/initContainers"),
        ["tollgate-ca", "tollgate", "tollgate-redirect", "warm-up"]
    );
    let text = done.pod.to_string();
    assert_eq!(text.matches("NET_ADMIN").count(), 1);
    let redirect = find(&done.pod, "/spec/initContainers", "tollgate-redirect");
    assert_eq!(
        redirect["args"],
        json!([
            "redirect", "apply", "--uid", "4100", "--ports", "443", "--to", "4143"
        ])
    );
    let mut same = pod(json!({"tollgate.dev/mode": "transparent"}));
    same["spec"]["securityContext"] = json!({"runAsUser": 4100});
    assert!(refused(&same).contains("container warm-up runs as user 4100"));
    let secured = json!({"metadata": {"labels": {
        "tollgate.dev/inject": "enabled", "pod-security.kubernetes.io/enforce": "baseline"
    }}});
    let asked = Wish::of(
        &pod(json!({"tollgate.dev/mode": "transparent"})),
        &Namespace::of("team", &secured),
        &Defaults::default(),
    );
    let said = asked.unwrap_err().to_string();
    assert!(said.contains("namespace team forbids"), "{said}");
}

#[test]
fn where_clusters_are_old_the_sidecar_is_the_first_container() {
    let done = injected(json!({"tollgate.dev/native-sidecar": "false"})).unwrap();
    assert_eq!(
        names(&done.pod, "/spec/containers"),
        ["tollgate", "agent", "helper"]
    );
    let sidecar = find(&done.pod, "/spec/containers", "tollgate");
    assert_eq!(
        sidecar["lifecycle"]["postStart"]["exec"]["command"],
        json!(["tollgate", "wait"])
    );
    assert_eq!(sidecar.get("restartPolicy"), None);
    assert_eq!(names(&done.pod, "/spec/initContainers"), ["warm-up"]);
    let first = find(&done.pod, "/spec/initContainers", "warm-up");
    assert_eq!(first.get("env"), None);
    assert!(done.warnings[0].contains("init container warm-up runs before"));
    assert_eq!(
        done.pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"],
        "agent"
    );
    // Six seconds less than the pod has, so that the last spans go out.
    let overrides = find(sidecar, "/env", "TOLLGATE_OVERRIDES");
    let overrides: Value = serde_json::from_str(overrides["value"].as_str().unwrap()).unwrap();
    assert_eq!(
        overrides["shutdown"],
        json!({"delay": "15s", "deadline": "9s"})
    );
}

#[test]
fn a_job_without_the_clusters_help_ends_by_itself() {
    let mut of_job = pod(json!({"tollgate.dev/native-sidecar": "false"}));
    of_job["metadata"]["ownerReferences"] =
        json!([{"kind": "Job", "name": "nightly", "controller": true}]);
    let done = injected_with(&of_job, None).unwrap();
    let sidecar = find(&done.pod, "/spec/containers", "tollgate");
    let overrides = find(sidecar, "/env", "TOLLGATE_OVERRIDES");
    let overrides: Value = serde_json::from_str(overrides["value"].as_str().unwrap()).unwrap();
    assert_eq!(overrides["shutdown"]["idle"], "60s");
    assert_eq!(overrides["listen"]["quit"], true);
    assert_eq!(
        find(sidecar, "/env", "TOLLGATE_OWNER")["value"],
        "Job/nightly"
    );
}

#[test]
fn the_configuration_is_that_of_the_config_map() {
    let annotations = json!({
        "tollgate.dev/config": "tollgate", "tollgate.dev/secrets": "keys",
        "tollgate.dev/agent": "support", "tollgate.dev/budget": "5.00/day",
        "tollgate.dev/budget-scope": "pod"
    });
    let text = "providers: {openai: {api_key: '${file:/etc/tollgate/secrets/openai}'}}\nidentity: \
                {trusted: [127.0.0.0/8]}\ntracing: {resource_limits: {max_memory: 256Mi, max_cpu: \
                100m}}\n";
    let config_map = json!({"data": {"config.yaml": text, "notes.txt": "x"}});
    let done = injected_with(&pod(annotations.clone()), Some(&config_map)).unwrap();
    assert_eq!(done.warnings, Vec::<String>::new());
    let sidecar = find(&done.pod, "/spec/initContainers", "tollgate");
    assert_eq!(
        find(sidecar, "/env", "TOLLGATE_CONFIG")["value"],
        "/etc/tollgate/config/config.yaml"
    );
    assert_eq!(
        sidecar["resources"],
        json!({
            "requests": {"cpu": "50m", "memory": "64Mi"},
            "limits": {"cpu": "100m", "memory": "256Mi"}
        })
    );
    assert_eq!(
        find(&done.pod, "/spec/volumes", "tollgate-secrets")["secret"]["secretName"],
        "keys"
    );
    let without = injected_with(&pod(annotations), None);
    let said = without.unwrap_err();
    assert_eq!(said.reason(), "NoConfigMap");
    assert!(
        said.to_string()
            .contains("no ConfigMap tollgate in namespace team"),
        "{said}"
    );
}

#[test]
fn a_configuration_that_the_sidecar_could_not_use_is_refused_with_its_line() {
    let of = |text: &str| {
        let annotations = json!({"tollgate.dev/config": "c"});
        let config_map = json!({"data": {"config.yaml": text}});
        let done = injected_with(&pod(annotations), Some(&config_map));
        done.unwrap_err().to_string()
    };
    for (text, expected) in [
        (
            "listen:\n  prxy: x",
            "ConfigMap c, config.yaml:2:3: listen.prxy: unknown key",
        ),
        (
            "providers: {openai: {api_key: '${OPENAI_API_KEY}'}}",
            "write ${file:/etc/tollgate/secrets/KEY}",
        ),
        (
            "providers: {openai: {api_key: '${file:/run/secrets/openai}'}}",
            "the sidecar has no such file",
        ),
        (
            "store: {path: /data}",
            "store.path is /data, where the sidecar cannot write",
        ),
        (
            "ledger: {path: ../journal}",
            "ledger.path is ../journal, where the sidecar cannot write",
        ),
        (
            "tracing: {buffering: {buffer_directory: /data}}",
            "tracing.buffering.buffer_directory is /data, where",
        ),
        ("ledger: {url: 'redis://r'}", "ledger.url"),
        ("budgets: {daily: 5}", "budget daily would begin anew"),
    ] {
        let said = of(text);
        assert!(said.contains(expected), "{text}: {said}");
    }
    let annotations = json!({"tollgate.dev/config": "c/other.yaml"});
    let config_map = json!({"data": {"config.yaml": ""}});
    let said = injected_with(&pod(annotations), Some(&config_map)).unwrap_err();
    assert!(
        said.to_string()
            .contains("no key `other.yaml`, but config.yaml"),
        "{said}"
    );
}

#[test]
fn a_budget_on_a_claim_holds_for_a_single_pod() {
    let lost = refused(&pod(json!({"tollgate.dev/budget": "5.00"})));
    let expected = "budget tollgate.dev/budget (annotation) would begin anew with each pod";
    assert!(lost.contains(expected), "{lost}");
    let annotations = json!({
        "tollgate.dev/ledger-volume": "state", "tollgate.dev/budget": "5.00"
    });
    let mut single = pod(annotations);
    assert!(refused(&single).contains("no volume `state`; it has none"));
    single["spec"]["volumes"] =
        json!([{"name": "state", "persistentVolumeClaim": {"claimName": "c"}}]);
    single["spec"]["securityContext"] = json!({"fsGroup": 2000});
    let done = injected_with(&single, None).unwrap();
    assert_eq!(done.warnings, Vec::<String>::new());
    assert_eq!(names(&done.pod, "/spec/volumes"), ["state"]);
    let sidecar = find(&done.pod, "/spec/initContainers", "tollgate");
    assert_eq!(
        sidecar["volumeMounts"],
        json!([{"name": "state", "mountPath": "/var/lib/tollgate"}])
    );
    single["metadata"]["ownerReferences"] =
        json!([{"kind": "StatefulSet", "name": "s", "controller": true}]);
    assert!(refused(&single).contains("each pod of the StatefulSet alone"));
}

#[test]
fn a_budget_is_the_annotations_only_if_there_is_one() {
    let named = "budgets: {rules: [{name: pod-budget, window: day, limit: {usd: 1}}]}";
    let config_map = json!({"data": {"config.yaml": named}});
    let pod = pod(json!({"tollgate.dev/config": "ours"}));
    let refused = injected_with(&pod, Some(&config_map)).unwrap_err();
    let refused = refused.to_string();
    assert!(refused.starts_with("budget pod-budget would"), "{refused}");
}

#[test]
fn what_cannot_be_done_safely_is_refused() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut pod = pod(json!({}));
        change(&mut pod["spec"]);
        refused(&pod)
    };
    let port = json!([{"containerPort": 4100}]);
    for (said, expected) in [
        (
            with(&|spec| spec["hostNetwork"] = json!(true)),
            "hostNetwork",
        ),
        (
            with(&|spec| spec["os"] = json!({"name": "windows"})),
            "for Windows (os.name)",
        ),
        (
            with(&|spec| spec["nodeSelector"] = json!({"kubernetes.io/os": "windows"})),
            "for Windows (nodeSelector)",
        ),
        (
            with(&|spec| spec["containers"][0]["ports"] = port.clone()),
            "container agent: port 4100",
        ),
        (
            with(&|spec| spec["containers"][0]["name"] = json!("tollgate")),
            "container tollgate is not injected",
        ),
        (
            with(&|spec| spec["volumes"] = json!([{"name": "tollgate-data"}])),
            "volume tollgate-data is not injected",
        ),
        (
            with(&|spec| {
                spec["containers"][1]["volumeMounts"] =
                    json!([{"name": "tollgate-ca", "mountPath": "/ca"}]);
            }),
            "a mount of tollgate-ca is not injected",
        ),
        (
            with(&|spec| {
                spec["initContainers"][0]["volumeDevices"] =
                    json!([{"name": "tollgate-secrets", "devicePath": "/dev/x"}]);
            }),
            "a mount of tollgate-secrets is not injected",
        ),
    ] {
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_pod_with_too_little_time_to_leave_is_told_of() {
    let mut short = pod(json!({}));
    short["spec"]["terminationGracePeriodSeconds"] = json!(5);
    let done = injected_with(&short, None).unwrap();
    assert!(done.warnings[0].starts_with("terminationGracePeriodSeconds is 5, less than the 7"));
    // Kubernetes' default is not enough for ours, which nobody chose: it is fitted in.
    let done = injected(json!({})).unwrap();
    let sidecar = find(&done.pod, "/spec/initContainers", "tollgate");
    let overrides = find(sidecar, "/env", "TOLLGATE_OVERRIDES");
    let overrides: Value = serde_json::from_str(overrides["value"].as_str().unwrap()).unwrap();
    assert_eq!(overrides["shutdown"]["deadline"], "24s");
    let chosen = json!({"data": {"config.yaml": "shutdown: {deadline: 25s}"}});
    let with_config = pod(json!({"tollgate.dev/config": "c"}));
    let done = injected_with(&with_config, Some(&chosen)).unwrap();
    let expected = "terminationGracePeriodSeconds is 30, less than the 31";
    assert!(
        done.warnings[0].starts_with(expected),
        "{:?}",
        done.warnings
    );
}

#[test]
fn a_pod_that_has_all_it_may_use_keeps_its_class() {
    let mut guaranteed = pod(json!({}));
    let whole = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    guaranteed["spec"]["initContainers"][0]["resources"] = whole.clone();
    guaranteed["spec"]["containers"][0]["resources"] = whole.clone();
    guaranteed["spec"]["containers"][1]["resources"] = whole;
    let done = injected_with(&guaranteed, None).unwrap();
    let sidecar = find(&done.pod, "/spec/initContainers", "tollgate");
    let resources = &sidecar["resources"];
    assert_eq!(resources["requests"], resources["limits"]);
}

/// Any pod that a user may have, as far as injection looks at it.
fn any_pod() -> impl Strategy<Value = Value> {
    let variable = prop_oneof![
        Just(json!({"name": "OPENAI_BASE_URL", "value": "https://gateway.example/v1"})),
        Just(json!({"name": "HTTPS_PROXY", "value": "http://proxy.example"})),
        Just(json!({"name": "JAVA_TOOL_OPTIONS", "value": "-Xmx1g"})),
        Just(
            json!({"name": "NO_PROXY", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}})
        ),
        "[A-Z]{3}".prop_map(|name| json!({"name": name, "value": "x"})),
    ];
    let container = (
        prop::option::of(prop::collection::vec(variable, 0..4)),
        prop::option::of(Just(json!([{"name": "tmp", "mountPath": "/tmp"}]))),
        any::<bool>(),
    )
        .prop_map(|(env, mounts, from)| {
            let mut container = json!({"image": "a:1", "extra": [1, {"x": null}]});
            if let Some(env) = env {
                container["env"] = json!(env);
            }
            if let Some(mounts) = mounts {
                container["volumeMounts"] = mounts;
            }
            if from {
                container["envFrom"] = json!([{"secretRef": {"name": "s"}}]);
            }
            container
        });
    let containers = |least| prop::collection::vec(container.clone(), least..3);
    let mode = prop::sample::select(vec!["env", "proxy", "transparent"]);
    (
        containers(0),
        containers(1),
        mode,
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(first, rest, mode, native, volumes)| {
            let named = |prefix: &str, all: Vec<Value>| {
                let all = all.into_iter().enumerate();
                let all = all.map(|(index, mut container)| {
                    container["name"] = json!(format!("{prefix}{index}"));
                    container
                });
                Value::from(all.collect::<Vec<_>>())
            };
            let mut pod = pod(json!({
                "tollgate.dev/mode": mode, "tollgate.dev/native-sidecar": native.to_string()
            }));
            pod["spec"]["initContainers"] = named("first", first);
            pod["spec"]["containers"] = named("app", rest);
            if volumes {
                pod["spec"]["volumes"] = json!([{"name": "tmp", "emptyDir": {}}]);
            }
            pod
        })
}

/// Whether all that `before` has is in `after`, in its order: mappings may have more, and lists may
/// have more around.
fn keeps(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => before.iter().all(|(key, before)| {
            let after = after.get(key);
            after.is_some_and(|after| keeps(before, after))
        }),
        (Value::Array(before), Value::Array(after)) => {
            let mut rest = after.iter();
            before
                .iter()
                .all(|before| rest.any(|after| keeps(before, after)))
        },
        (before, after) => before == after,
    }
}

proptest! {
    #[test]
    fn what_the_user_wrote_stays_and_twice_is_once(before in any_pod()) {
        let done = injected_with(&before, None).unwrap();
        prop_assert!(keeps(&before, &done.pod), "{:#}", done.pod);
        let asked = Wish::of(&done.pod, &Namespace::assumed("team"), &Defaults::default());
        prop_assert!(matches!(asked, Ok(Asked::Not(NotWanted::Already))));
        let patch = json_patch::diff(&before, &done.pod);
        let mut patched = before;
        json_patch::patch(&mut patched, &patch).unwrap();
        prop_assert_eq!(patched, done.pod);
    }
}

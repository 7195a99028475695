//! `tollgate inject`, as it is called.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use super::program::{Program, Ran};

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: agent
spec:
  containers:
  - name: app
    image: agent:1
";

fn fed(mut command: Command, text: &str) -> Ran {
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    Ran::from(child.wait_with_output().unwrap())
}

#[test]
fn manifests_go_through_it() {
    let program = Program::new();
    let ran = fed(program.command(&["inject", "-f", "-"]), POD);
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    for part in [
        "  initContainers:\n",
        "restartPolicy: Always",
        "  - name: OPENAI_BASE_URL\n",
    ] {
        assert!(ran.stdout.contains(part), "{}", ran.stdout);
    }
    let again = fed(program.command(&["inject", "-f", "-"]), &ran.stdout);
    assert_eq!(again.stdout, ran.stdout);
}

#[test]
fn that_nothing_was_injected_is_said_and_no_error() {
    let program = Program::new();
    let left = POD.replace(
        "  name: agent\n",
        "  name: agent\n  annotations: {tollgate.dev/inject: disabled}\n",
    );
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    for (text, says) in [
        (
            &*left,
            "Pod default/agent: the pod says tollgate.dev/inject: disabled",
        ),
        (map, "describes no pods; what does is one of Pod,"),
        ("", "is empty"),
    ] {
        let ran = fed(program.command(&["inject", "-f", "-"]), text);
        assert_eq!((ran.code, &*ran.stdout), (Some(0), text));
        assert!(
            ran.stderr.starts_with("warning: nothing was injected: ") && ran.stderr.contains(says),
            "{}",
            ran.stderr
        );
    }
    let ran = fed(
        program.command(&["inject", "-f", "-"]),
        &[POD, "---\n", map].concat(),
    );
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
}

#[test]
fn options_are_what_pods_get_that_do_not_say() {
    let program = Program::new()
        .with("pod.yaml", POD)
        .with("config.yaml", "log: {level: debug}");
    let ran = program.run(&[
        "inject",
        "-f",
        "pod.yaml",
        "--config",
        "config.yaml",
        "--mode",
        "proxy",
        "--image",
        "host/tollgate:2",
        "--native-sidecar=false",
        "-n",
        "team",
        "--cpu-limit",
        "2",
    ]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for part in [
        "image: \"host/tollgate:2\"",
        "name: tollgate-ca",
        "configMap:\n      name: tollgate\n",
        "HTTPS_PROXY",
        "postStart",
        "cpu: \"2\"",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
}

#[test]
fn a_refusal_says_which_pod_and_prints_nothing() {
    let program = Program::new()
        .with("good.yaml", POD)
        .with(
            "bad.yaml",
            &POD.replace("spec:", "spec:\n  hostNetwork: true"),
        )
        .with("config.yaml", "budgets: {daily: 5}");
    let ran = program.run(&["inject", "-f", "good.yaml", "-f", "bad.yaml"]);
    assert_eq!((ran.code, &*ran.stdout), (Some(2), ""));
    assert!(
        ran.stderr
            .starts_with("error: bad.yaml: Pod default/agent: the pod has `hostNetwork: true`"),
        "{}",
        ran.stderr
    );
    let ran = program.run(&["inject", "-f", "good.yaml", "--config", "config.yaml"]);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains("budget daily would begin anew"),
        "{}",
        ran.stderr
    );
    let ran = program.run(&["inject", "-f", "absent.yaml"]);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains("absent.yaml: No such file"),
        "{}",
        ran.stderr
    );
}

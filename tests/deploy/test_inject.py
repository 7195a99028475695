"""What `tollgate inject` makes of every kind of workload, held to Kubernetes' own schemas."""

import json
import pathlib

import pytest

import manifests
from sidecar import ENVIRONMENT, PROGRAM
from tools import DEPLOY, run

WORKLOADS = pathlib.Path(__file__).parent / "workloads.yaml"
FILES = [WORKLOADS, *sorted((DEPLOY / "examples").glob("*.yaml"))]
KINDS = {
    "Pod",
    "ReplicationController",
    "Deployment",
    "ReplicaSet",
    "StatefulSet",
    "DaemonSet",
    "Job",
    "CronJob",
}


def inject(*arguments, **more):
    return run(PROGRAM, "inject", *arguments, env=ENVIRONMENT, **more)


def pods(found):
    """The pods that objects describe, each with its kind."""
    for document in found:
        spec = document.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template", document)
        if document["kind"] in KINDS:
            yield document["kind"], template


@pytest.mark.parametrize("native", ["true", "false"])
@pytest.mark.parametrize("mode", ["env", "proxy", "transparent"])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_outcome_is_right_by_kubernetes_own_schemas(file, mode, native):
    before = manifests.validate(file.read_text())
    after = manifests.validate(inject("-f", file, "--mode", mode, f"--native-sidecar={native}"))
    assert [one["metadata"]["name"] for one in after] == [one["metadata"]["name"] for one in before]
    for _, pod in pods(after):
        where = "initContainers" if native == "true" else "containers"
        assert "tollgate" in [container["name"] for container in pod["spec"][where]]
    if file == WORKLOADS:
        assert {kind for kind, _ in pods(after)} == KINDS


def test_what_is_written_is_read_by_others_as_it_was_meant():
    by_us = inject("-f", WORKLOADS)
    found = list(manifests.documents(by_us))
    [support] = [one for one in found if one["metadata"]["name"] == "support"]
    volumes = support["spec"]["template"]["spec"]["volumes"]
    [scripts] = [volume for volume in volumes if volume["name"] == "scripts"]
    assert scripts["configMap"]["defaultMode"] == 0o755
    items = list(manifests.documents(WORKLOADS.read_text()))
    as_json = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    assert json.loads(inject("-f", "-", input=as_json))["items"] == found


def test_twice_is_once():
    once = inject("-f", WORKLOADS)
    assert inject("-f", "-", input=once) == once

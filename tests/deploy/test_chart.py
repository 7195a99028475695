"""The chart, with its defaults and with each file of values in ci/."""

import json
import re

import pytest
import yaml

import manifests
from sidecar import PROGRAM
from tools import DEPLOY, checked, helm, kubectl, run

CHART = DEPLOY / "chart"
VALUES = [None, *sorted((CHART / "ci").glob("*.yaml"))]
NAMESPACE = "tollgate-system"


def rendered(values=None, *more):
    """The objects that the chart makes, held to the schemas; without its tests."""
    return manifests.validate(template(values, *more))


def template(values=None, *more):
    given = ["-f", values] if values else []
    return helm("template", "tollgate", CHART, "--namespace", NAMESPACE, *given, *more)


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem if path else "defaults")
def test_what_it_makes_is_right_by_kubernetes_own_schemas(values):
    given = ["-f", values] if values else []
    helm("lint", "--strict", CHART, *given)
    found = rendered(values)
    manifests.assert_restricted(found)
    manifests.assert_whole(found)
    manifests.assert_system_is_left_alone(found, NAMESPACE)


def test_what_it_makes_by_default_is_what_kubectl_makes_from_the_base():
    ours = rendered()
    base = manifests.validate(kubectl("kustomize", DEPLOY / "kubernetes/base"))

    def webhooks(found):
        [configuration] = manifests.of_kind(found, "MutatingWebhookConfiguration")
        for webhook in configuration["webhooks"]:
            for expression in webhook["namespaceSelector"]["matchExpressions"]:
                expression["values"].sort()
        return configuration["webhooks"]

    assert webhooks(ours) == webhooks(base)
    assert manifests.rights(ours) == manifests.rights(base)

    def pod(found):
        [(_, spec)] = manifests.pod_specs(manifests.of_kind(found, "Deployment"))
        [container] = spec["containers"]
        # The chart says all that it could leave out, and selects by its own labels.
        del container["args"], spec["topologySpreadConstraints"]
        container.pop("imagePullPolicy", None)
        return spec

    assert pod(ours) == pod(base)


def arguments(found):
    [container] = manifests.of_kind(found, "Deployment")[0]["spec"]["template"]["spec"]["containers"]
    return container["args"]


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem if path else "defaults")
def test_the_webhook_takes_the_arguments_that_it_is_given(values):
    found = rendered(values)
    if manifests.of_kind(found, "Deployment"):
        # The last one is wrong, and the only one that is.
        told = run(PROGRAM, *arguments(found), "--api=nowhere", fails=True)
        assert "--api nowhere" in told, told


def test_values_reach_the_webhook():
    found = rendered(CHART / "ci/everything.yaml")
    told = arguments(found)
    assert {
        "--mode=transparent",
        "--config-map=tollgate/tollgate.yaml",
        "--native-sidecar=false",
        "--cpu-limit=2",
        "--memory-request=100Mi",
        "--drain=10s",
        "--cert-dir=/etc/tollgate/certificate",
    } <= set(told)
    assert not any(argument.startswith("--secret") for argument in told)
    found = rendered(CHART / "ci/cert-manager.yaml")
    assert "--image=example/tollgate:1.2.3" in arguments(found)
    assert "--redirect-image=example/tollgate-redirect:1.2.3" in arguments(found)
    [configuration] = manifests.of_kind(found, "MutatingWebhookConfiguration")
    assert {webhook["failurePolicy"] for webhook in configuration["webhooks"]} == {"Fail"}
    assert manifests.of_kind(found, "Issuer") == []


def test_only_the_api_server_reaches_the_webhook_where_its_addresses_are_known():
    [policy] = manifests.of_kind(rendered(CHART / "ci/cert-manager.yaml"), "NetworkPolicy")
    reviews, probes = policy["spec"]["ingress"]
    blocks = [{"ipBlock": {"cidr": "10.1.0.0/28"}}, {"ipBlock": {"cidr": "fd00::/64"}}]
    assert reviews == {"from": blocks, "ports": [{"port": "https"}]}
    assert "from" not in probes and policy["spec"]["egress"][0]["to"] == blocks


def test_config_maps_are_read_where_it_is_told_to():
    found = rendered(CHART / "ci/cert-manager.yaml")
    [everywhere] = [role for role in manifests.rights(found) if "namespaces" in role[2]]
    assert everywhere[2] == "namespaces"
    bindings = manifests.of_kind(found, "RoleBinding")
    assert {binding["metadata"]["namespace"] for binding in bindings} == {"agents", "research"}


@pytest.mark.parametrize("name", ["gateway", "everything"])
def test_the_gateways_configuration_is_one(name, tmp_path):
    found = rendered(CHART / f"ci/{name}.yaml")
    [config] = [one for one in manifests.of_kind(found, "ConfigMap") if "tollgate.yaml" in one["data"]]
    file = tmp_path / "tollgate.yaml"
    file.write_text(config["data"]["tollgate.yaml"])
    told = checked(file)
    assert "0.0.0.0:4100" in told and ("$20.00 a day" in told) == (name == "gateway")
    parsed = yaml.safe_load(file.read_text())
    [workload] = manifests.of_kind(found, "StatefulSet")
    grace = workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    seconds = [int(parsed["shutdown"][key].rstrip("s")) for key in ("delay", "deadline")]
    assert grace >= sum(seconds) + 6


def test_rules_and_dashboard_are_the_shipped_ones():
    found = rendered(CHART / "ci/everything.yaml")
    [rule] = manifests.of_kind(found, "PrometheusRule")
    shipped = yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text())
    assert rule["spec"] == shipped
    [dashboard] = [one for one in manifests.of_kind(found, "ConfigMap") if "tollgate.json" in one["data"]]
    shipped = (DEPLOY / "grafana/tollgate.json").read_text()
    assert json.loads(dashboard["data"]["tollgate.json"]) == json.loads(shipped)
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("webhook.failurePolicy=Maybe", "failurePolicy"),
        ("webhook.replicas=0", "replicas"),
        ("webhook.timeoutSeconds=31", "timeoutSeconds"),
        ("webhook.excludedNamespaces={default}", "excludedNamespaces"),
        ("webhook.certificate.source=vault", "source"),
        ("webhook.failurepolicy=Fail", "failurepolicy"),
        ("sidecar.mode=magic", "mode"),
        ("sidecar.resources.limits.memory=lots", "memory"),
        ("gateway.config.listen.proxy=0.0.0.0:1", "config"),
        ("gateway.persistence.accessMode=ReadWriteMany", "accessMode"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(setting, told):
    refused = helm("template", "tollgate", CHART, "--set", setting, fails=True)
    assert "don't meet the specifications of the schema" in refused
    assert told in refused


def test_every_value_is_in_the_schema_and_every_key_of_the_schema_has_a_default():
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(schema, values, path):
        properties = schema.get("properties")
        if properties is None or "anyOf" in schema:
            return
        known = set(properties) - {"global", "ephemeral-storage", "cpu", "memory", "limits", "requests"}
        assert known == set(values) - {"cpu", "memory", "limits", "requests"}, path
        for name in known:
            if isinstance(values[name], dict):
                compare(properties[name], values[name], f"{path}.{name}")

    compare(schema, values, "")


def test_a_package_of_it_has_all_that_it_needs(tmp_path):
    helm("package", CHART, "--destination", tmp_path)
    [package] = tmp_path.iterdir()
    values = CHART / "ci/everything.yaml"
    given = ["tollgate", package, "--namespace", NAMESPACE, "-f", values]
    assert helm("template", *given) == template(values)


def test_its_versions_are_those_of_the_program():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = run(PROGRAM, "--version").split()[1]
    assert chart["appVersion"] == version and re.fullmatch(r"\d+\.\d+\.\d+", chart["version"])


def test_its_notes_say_what_comes_next():
    def notes(*settings):
        given = [part for setting in settings for part in ("--set", setting)]
        shown = helm("install", "tollgate", CHART, "--dry-run=client", "--namespace", NAMESPACE, *given)
        return shown.split("NOTES:")[1]

    assert "kubectl label namespace NAMESPACE tollgate.dev/inject=enabled" in notes()
    assert "no pod of these namespaces starts" in notes("webhook.failurePolicy=Fail")
    assert "WARNING: one replica" in notes("webhook.replicas=1")
    assert "OPENAI_BASE_URL=http://tollgate.tollgate-system:4100/v1" in notes("gateway.enabled=true")

"""The manifests of agents that deploy/ shows."""

import pytest
import yaml

import manifests
from sidecar import ENVIRONMENT, PROGRAM
from tools import DEPLOY, ROOT, checked, run

EXAMPLES = sorted((DEPLOY / "examples").glob("*.yaml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_they_are_right_by_kubernetes_own_schemas(file):
    manifests.validate(file.read_text())


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_their_configurations_load(file, tmp_path):
    config_maps = manifests.of_kind(manifests.documents(file.read_text()), "ConfigMap")
    assert config_maps
    for config_map in config_maps:
        mounted = tmp_path / "config.yaml"
        mounted.write_text(config_map["data"]["config.yaml"])
        assert "ok" in checked(mounted, env=ENVIRONMENT)


def test_the_guides_config_map_is_unchanged():
    [shipped] = manifests.of_kind(
        manifests.documents((DEPLOY / "examples/raaf.yaml").read_text()), "ConfigMap"
    )
    guide = yaml.safe_load((ROOT / "config/examples/kubernetes-configmap.yaml").read_text())
    assert shipped == guide


def injected(name):
    """An example's only pod as the webhook would have it."""
    file = DEPLOY / f"examples/{name}.yaml"
    text = run(PROGRAM, "inject", "-f", file, "--namespace", "agents", env=ENVIRONMENT)
    return manifests.validate(text)


def test_the_agent_is_as_restricted_with_its_sidecar_as_without():
    found = injected("agents")
    manifests.assert_restricted(found)
    [(_, spec)] = manifests.pod_specs(found)
    [agent] = spec["containers"]
    told = {variable["name"]: variable.get("value") for variable in agent["env"]}
    assert told["OPENAI_BASE_URL"] == "http://127.0.0.1:4100/v1"


def test_the_guides_resource_limits_are_the_sidecars():
    [(_, spec)] = manifests.pod_specs(injected("raaf"))
    [sidecar] = (one for one in spec["initContainers"] if one["name"] == "tollgate")
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["resources"]["limits"] == {"cpu": "100m", "memory": "256Mi"}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("replicas: 2", "replicas: two"), ("replicas: 2", "replica: 2"), ("containers:", "container:")],
)
def test_what_is_wrong_is_found(right, wrong):
    text = (DEPLOY / "examples/agents.yaml").read_text()
    with pytest.raises(AssertionError, match="Deployment support"):
        manifests.validate(text.replace(right, wrong))

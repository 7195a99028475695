"""The manifests for kubectl, as `kubectl kustomize` puts them together."""

import shutil

import pytest

import manifests
from sidecar import PROGRAM
from tools import DEPLOY, checked, kubectl, run

KUBERNETES = DEPLOY / "kubernetes"
WEBHOOKS = ["base", "overlays/fail-closed", "overlays/cert-manager"]


def built(name):
    """The objects of one folder, held to the schemas."""
    return manifests.validate(kubectl("kustomize", KUBERNETES / name))


def test_every_folder_is_tried_here():
    folders = {str(file.parent.relative_to(KUBERNETES)) for file in KUBERNETES.rglob("kustomization.yaml")}
    assert folders == {*WEBHOOKS, "gateway", "watching"}
    assert len(built("watching")) == 2


@pytest.mark.parametrize("name", WEBHOOKS)
def test_the_webhook(name):
    found = built(name)
    manifests.assert_restricted(found)
    manifests.assert_whole(found)
    manifests.assert_system_is_left_alone(found, "tollgate-system")
    [deployment] = manifests.of_kind(found, "Deployment")
    assert deployment["spec"]["replicas"] >= 2
    # Of its arguments, the program finds wrong the one that is added here.
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    wrong = ["--namespace=tollgate-system", "--api=nowhere"]
    assert "--api nowhere" in run(PROGRAM, *container["args"], *wrong, fails=True)


def policies(found):
    [configuration] = manifests.of_kind(found, "MutatingWebhookConfiguration")
    return {webhook["failurePolicy"] for webhook in configuration["webhooks"]}


def test_pods_start_without_the_webhook_unless_it_is_meant_otherwise():
    assert policies(built("base")) == {"Ignore"}
    assert policies(built("overlays/fail-closed")) == {"Fail"}


def test_it_may_do_no_more_than_it_must():
    reads = ("ClusterRole", "get", "namespaces,configmaps")
    assert manifests.rights(built("overlays/cert-manager")) == [reads]
    assert manifests.rights(built("base")) == [
        ("ClusterRole", "get", "namespaces,configmaps"),
        ("ClusterRole", "get,patch", "mutatingwebhookconfigurations", "tollgate-webhook"),
        ("Role", "get,update", "secrets", "tollgate-webhook-certificate"),
    ]


def test_cert_managers_certificate_is_the_one_that_is_served():
    found = built("overlays/cert-manager")
    [certificate] = manifests.of_kind(found, "Certificate")
    [(_, spec)] = manifests.pod_specs(found)
    [volume] = spec["volumes"]
    assert volume["secret"]["secretName"] == certificate["spec"]["secretName"]
    [container] = spec["containers"]
    assert f"--cert-dir={container['volumeMounts'][0]['mountPath']}" in container["args"]
    assert not any(argument.startswith("--configuration") for argument in container["args"])
    [configuration] = manifests.of_kind(found, "MutatingWebhookConfiguration")
    vouched = configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
    assert vouched == f"tollgate-system/{certificate['metadata']['name']}"
    [service] = manifests.of_kind(found, "Service")
    assert f"{service['metadata']['name']}.tollgate-system.svc" in certificate["spec"]["dnsNames"]


def test_the_gateway():
    found = built("gateway")
    manifests.assert_restricted(found)
    manifests.assert_whole(found)
    [workload] = manifests.of_kind(found, "StatefulSet")
    assert workload["spec"]["replicas"] == 1, "a ledger has one owner"
    assert "$100.00 a day" in checked(KUBERNETES / "gateway/tollgate.yaml")


def test_the_images_are_those_of_this_version():
    version = run(PROGRAM, "--version").split()[1]
    for name in [*WEBHOOKS, "gateway"]:
        for _, spec in manifests.pod_specs(built(name)):
            [container] = spec["containers"]
            assert container["image"] == f"tollgate:{version}"
            named = [one for one in container["args"] if one.startswith("--image=")]
            assert named in ([], [f"--image=tollgate:{version}"])


def test_pods_get_the_image_that_the_kustomization_names(tmp_path):
    base = shutil.copytree(KUBERNETES / "base", tmp_path / "base")
    file = base / "kustomization.yaml"
    file.write_text(file.read_text().replace("newName: tollgate,", "newName: host.example:5000/a/tollgate,"))
    [(_, spec)] = manifests.pod_specs(manifests.validate(kubectl("kustomize", base)))
    [container] = spec["containers"]
    assert container["image"].startswith("host.example:5000/a/tollgate:")
    assert f"--image={container['image']}" in container["args"]

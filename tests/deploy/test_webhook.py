"""The webhook as it is deployed, by kubectl's manifests and by the chart: with their arguments and no
more rights than they give, before an API server in small."""

import base64
import http.client
import json
import socket
import ssl

import pytest

import manifests
import sidecar
from cluster import Cluster, apply_patch
from sidecar import DEADLINE, Process, free_address, wait_for
from tools import DEPLOY, helm, kubectl, run

NAMESPACE = "tollgate-system"
CHART = ["template", "tollgate", DEPLOY / "chart", "--namespace", NAMESPACE]
CERT_MANAGER = ["--set", "webhook.certificate.source=cert-manager"]
INSTALLED = {
    "kubectl": lambda: kubectl("kustomize", DEPLOY / "kubernetes/base"),
    "kubectl-cert-manager": lambda: kubectl("kustomize", DEPLOY / "kubernetes/overlays/cert-manager"),
    "helm": lambda: helm(*CHART),
    "helm-cert-manager": lambda: helm(*CHART, *CERT_MANAGER),
}


@pytest.fixture(params=INSTALLED)
def deployed(request, tmp_path):
    """The cluster, and where the webhook takes reviews."""
    found = manifests.validate(INSTALLED[request.param]())
    agents = manifests.validate((DEPLOY / "examples/agents.yaml").read_text())
    [(_, spec)] = manifests.pod_specs(manifests.of_kind(found, "Deployment"))
    listen, health = free_address(), free_address()
    (tmp_path / "namespace").write_text(NAMESPACE)
    with Cluster(tmp_path, found + agents, spec["serviceAccountName"]) as cluster:
        here = [f"--listen={listen}", f"--health={health}", "--drain=0s"]
        here += [f"--api={cluster.url}", f"--service-account={tmp_path}"]
        arguments = [*spec["containers"][0]["args"], *here]
        for certificate in manifests.of_kind(found, "Certificate"):
            mounted = f"--cert-dir={spec['containers'][0]['volumeMounts'][0]['mountPath']}"
            arguments[arguments.index(mounted)] = f"--cert-dir={tmp_path}"
            issue(certificate, cluster, tmp_path)
        with Process(arguments, tmp_path / "webhook.log") as running:
            running.until(lambda: ready(health))
            yield cluster, listen


def issue(certificate, cluster, directory):
    """What cert-manager does: it writes the pair, and tells the API server who vouches for it."""
    names = ",".join(f"DNS:{name}" for name in certificate["spec"]["dnsNames"])
    told = ["-subj", "/CN=webhook", "-addext", f"subjectAltName={names}"]
    files = ["-keyout", directory / "tls.key", "-out", directory / "tls.crt"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    run("openssl", "req", "-x509", *curve, *files, *told)
    root = base64.b64encode((directory / "tls.crt").read_bytes()).decode()
    configuration = cluster.objects["MutatingWebhookConfiguration", None, "tollgate-webhook"]
    for webhook in configuration["webhooks"]:
        webhook["clientConfig"]["caBundle"] = root


def ready(health):
    return sidecar.request(f"http://{health}/readyz")[0] == 200


def review(cluster, listen, pod, namespace):
    """What the API server would get, trusting what the webhook has told it to."""
    [configuration] = [one for key, one in cluster.objects.items() if key[0].startswith("Mutating")]
    config = configuration["webhooks"][0]["clientConfig"]
    context = ssl.create_default_context(cadata=base64.b64decode(config["caBundle"]).decode())
    # As the API server does: by the service's name, wherever that leads.
    server = f"{config['service']['name']}.{config['service']['namespace']}.svc"
    asked = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "0b5a9a3c-7b1e-4d2f-9a55-000000000001",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": namespace,
            "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
            "object": pod,
            "dryRun": False,
        },
    }
    host, port = listen.split(":")
    connection = http.client.HTTPSConnection(server, timeout=DEADLINE)
    plain = socket.create_connection((host, int(port)), DEADLINE)
    connection.sock = context.wrap_socket(plain, server_hostname=server)
    body = json.dumps(asked)
    path = config["service"]["path"] + "?timeout=5s"
    connection.request("POST", path, body, {"content-type": "application/json"})
    answer = connection.getresponse()
    said = json.loads(answer.read())
    connection.close()
    assert answer.status == 200, said
    assert said["response"]["uid"] == asked["request"]["uid"]
    return said["response"]


def pod_of(cluster):
    """A pod as the deployment's ReplicaSet makes it."""
    deployment = cluster.objects["Deployment", "agents", "support"]
    template = deployment["spec"]["template"]
    owner = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": "support-6d4cf56db6",
        "uid": "7c0b",
        "controller": True,
    }
    more = {"generateName": "support-6d4cf56db6-", "namespace": "agents", "ownerReferences": [owner]}
    metadata = template["metadata"] | more
    metadata["labels"] = metadata["labels"] | {"pod-template-hash": "6d4cf56db6"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def test_a_pod_gets_its_sidecar_with_the_rights_that_are_given_and_no_others(deployed):
    cluster, listen = deployed
    pod = pod_of(cluster)
    said = review(cluster, listen, pod, "agents")
    assert said["allowed"] is True and said["patchType"] == "JSONPatch"
    patched = apply_patch(pod, json.loads(base64.b64decode(said["patch"])))
    # The API server gives it a name, in the end.
    patched["metadata"]["name"] = "support-6d4cf56db6-x"
    found = manifests.validate(json.dumps(patched))
    manifests.assert_restricted(found)
    assert "tollgate" in [one["name"] for one in patched["spec"]["initContainers"]]
    again = review(cluster, listen, patched, "agents")
    assert again["allowed"] is True and "patch" not in again
    assert cluster.refused == []


def test_a_pod_that_names_a_config_map_that_is_not_there_is_refused(deployed):
    cluster, listen = deployed
    pod = pod_of(cluster)
    pod["metadata"]["annotations"] = {"tollgate.dev/config": "nowhere"}
    said = review(cluster, listen, pod, "agents")
    assert said["allowed"] is False and "nowhere" in said["status"]["message"]
    assert cluster.refused == []


@pytest.mark.parametrize("deployed", ["kubectl", "helm"], indirect=True)
def test_the_replicas_share_a_certificate_in_the_secret_that_was_empty(deployed):
    cluster, _ = deployed
    secret = cluster.objects["Secret", NAMESPACE, "tollgate-webhook-certificate"]
    assert secret["data"]
    configuration = cluster.objects["MutatingWebhookConfiguration", None, "tollgate-webhook"]
    bundles = {webhook["clientConfig"]["caBundle"] for webhook in configuration["webhooks"]}
    assert len(bundles) == 1


@pytest.mark.parametrize("deployed", ["kubectl", "helm"], indirect=True)
def test_who_empties_the_secret_gets_another_certificate_in_it(deployed):
    cluster, listen = deployed
    key = ("Secret", NAMESPACE, "tollgate-webhook-certificate")
    before = cluster.objects[key]
    emptied = apply_patch(before, [{"op": "remove", "path": "/data"}])
    version = int(before["metadata"]["resourceVersion"])
    emptied["metadata"]["resourceVersion"] = str(version + 1)
    cluster.objects[key] = emptied
    host, port = listen.split(":")

    def another():
        data = cluster.objects[key].get("data", before["data"])
        kept = ssl.PEM_cert_to_DER_cert(base64.b64decode(data["tls.crt"]).decode())
        shown = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, int(port))))
        return data != before["data"] and kept == shown

    wait_for("another certificate is shown", another, 2 * DEADLINE)
    assert review(cluster, listen, pod_of(cluster), "agents")["allowed"] is True
    assert cluster.refused == []

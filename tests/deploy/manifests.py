"""Manifests: read, and held to Kubernetes' own schemas."""

import kubernetes_validate
import yaml

#: The first version with sidecars that are init containers, and the latest that there are schemas of.
VERSIONS = ["1.29", "1.37"]

#: Kinds that others define, of which Kubernetes has no schema.
FOREIGN = {
    ("cert-manager.io/v1", "Certificate"),
    ("cert-manager.io/v1", "Issuer"),
    ("monitoring.coreos.com/v1", "PodMonitor"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
}


def documents(text):
    """The objects in a text of several documents, lists taken apart."""
    for document in yaml.safe_load_all(text):
        if document and document.get("kind") == "List":
            yield from document["items"]
        elif document:
            yield document


def validate(text):
    """Holds every object of a text to the schemas of the versions, keys that they lack included, and
    returns the objects."""
    found = list(documents(text))
    assert found, "nothing in it"
    for document in found:
        if (document["apiVersion"], document["kind"]) in FOREIGN:
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = f"{document['kind']} {document['metadata']['name']}"
                raise AssertionError(f"{where}: {error.message} at {list(error.path)}") from error
    names = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in found]
    assert len(names) == len(set(names)), "the same thing twice"
    return found


def of_kind(found, *kinds):
    """The objects of these kinds."""
    return [document for document in found if document["kind"] in kinds]


def pod_specs(found):
    """What the pods are, of everything that makes some."""
    for document in of_kind(found, "Pod"):
        yield document["metadata"], document["spec"]
    for document in of_kind(found, "Deployment", "StatefulSet", "DaemonSet", "Job", "ReplicaSet"):
        template = document["spec"]["template"]
        yield template["metadata"], template["spec"]


def assert_restricted(found):
    """Every pod is one that the strictest of the pod security standards lets pass, and cannot write to
    its root file system."""
    for metadata, spec in pod_specs(found):
        assert spec["securityContext"]["runAsNonRoot"] is True, metadata
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec.get("hostNetwork") and not spec.get("hostPID")
        for container in spec["containers"] + spec.get("initContainers", []):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, container["name"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]["memory"], container["name"]


def assert_whole(found):
    """What is named is there: selectors select, ports and service accounts are known."""
    pods = [metadata["labels"] | {"namespace": None} for metadata, _ in pod_specs(found)]

    def selects(selector):
        return any(selector.items() <= labels.items() for labels in pods)

    ports = {
        port["name"]
        for _, spec in pod_specs(found)
        for container in spec["containers"]
        for port in container.get("ports", [])
    }
    for workload in of_kind(found, "Deployment", "StatefulSet"):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert workload["spec"]["selector"]["matchLabels"].items() <= labels.items()
    for service in of_kind(found, "Service"):
        assert selects(service["spec"]["selector"]), service["metadata"]["name"]
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for budget in of_kind(found, "PodDisruptionBudget"):
        assert selects(budget["spec"]["selector"]["matchLabels"])
    for policy in of_kind(found, "NetworkPolicy"):
        assert selects(policy["spec"]["podSelector"]["matchLabels"])
    accounts = {account["metadata"]["name"] for account in of_kind(found, "ServiceAccount")}
    bound = {
        subject["name"]
        for binding in of_kind(found, "RoleBinding", "ClusterRoleBinding")
        for subject in binding["subjects"]
    }
    assert bound <= accounts
    used = {spec["serviceAccountName"] for _, spec in pod_specs(found) if "serviceAccountName" in spec}
    assert used <= accounts
    roles = {(role["kind"], role["metadata"]["name"]) for role in of_kind(found, "Role", "ClusterRole")}
    given = [one["roleRef"] for one in of_kind(found, "RoleBinding", "ClusterRoleBinding")]
    assert {(role["kind"], role["name"]) for role in given} == roles
    services = {service["metadata"]["name"] for service in of_kind(found, "Service")}
    for configuration in of_kind(found, "MutatingWebhookConfiguration"):
        for webhook in configuration["webhooks"]:
            assert webhook["clientConfig"]["service"]["name"] in services


def rights(found):
    """What the roles allow: verbs, kinds, names."""
    return sorted(
        (role["kind"], ",".join(rule["verbs"]), ",".join(rule["resources"]), *rule.get("resourceNames", []))
        for role in of_kind(found, "Role", "ClusterRole")
        for rule in role["rules"]
    )


def assert_system_is_left_alone(found, namespace):
    """No pod of the system or of the webhook itself is shown to the webhook."""
    for configuration in of_kind(found, "MutatingWebhookConfiguration"):
        for webhook in configuration["webhooks"]:
            [hidden] = (
                expression
                for expression in webhook["namespaceSelector"]["matchExpressions"]
                if expression["key"] == "kubernetes.io/metadata.name"
            )
            assert hidden["operator"] == "NotIn"
            assert {"kube-system", namespace} <= set(hidden["values"])
            assert webhook["sideEffects"] == "None"
            assert webhook["reinvocationPolicy"] == "Never"
            assert webhook["clientConfig"]["service"]["namespace"] == namespace
            [rule] = webhook["rules"]
            assert (rule["operations"], rule["resources"]) == (["CREATE"], ["pods"])

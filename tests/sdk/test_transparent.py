"""Redirected connections: clients that know nothing of Tollgate on a host whose connections the
system leads to it, and a provider on another host."""

import asyncio
import json
import re
import socket
import ssl
import sys

import pytest
from websockets.asyncio.client import connect as websocket

import namespaces
import redirection
from redirection import ASK, THERE_4, THERE_6, URL, USER, Hosted, curl, metered
from sidecar import DEADLINE, HERE, PROGRAM, wait_for

JAVA = HERE / "java" / "Agent.java"

OBSTACLE = namespaces.obstacle()
pytestmark = pytest.mark.skipif(bool(OBSTACLE), reason=f"no network namespaces: {OBSTACLE}")


@pytest.fixture(scope="module")
def away(mock, tmp_path_factory):
    with redirection.away(mock, tmp_path_factory.mktemp("hosts")) as both:
        yield both


@pytest.fixture(scope="module")
def apart(away, tmp_path_factory):
    here, provider = away
    directory = tmp_path_factory.mktemp("redirected")
    variables = {"PROVIDER_CA": str(provider.authority)}
    with Hosted(here, directory, "transparent.yaml", variables) as running:
        yield running
        assert running.end() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def trust(apart):
    return apart.trust()


@pytest.fixture(params=["nft", "iptables"])
def redirected(request, apart):
    """Connections of that host are redirected, by either program."""
    with apart.redirecting(request.param, "--uid", USER):
        yield apart


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


@pytest.mark.parametrize("backend", ["nft", "iptables"])
def test_what_another_program_made_is_replaced_and_removed(apart, backend):
    """Whoever removes or applies again need not know by which program it was done before."""
    before = ["--uid", USER, "--to", 4143, "--backend", backend]
    other = {"nft": "iptables", "iptables": "nft"}[backend]
    apart.redirect("apply", *before)
    assert "removed" in apart.redirect("remove")
    assert "tollgate" not in rules(apart.host).lower()
    assert "nothing to remove" in apart.redirect("remove")
    apart.redirect("apply", *before)
    said = apart.redirect("apply", "--uid", USER, "--to", 4143, "--backend", other)
    assert f"{backend}, which an earlier apply had made" in said
    both = rules(apart.host)
    assert ("table inet tollgate" in both) == (other == "nft"), both
    assert ("TOLLGATE" in both) == (other == "iptables"), both
    assert "nothing to remove" in apart.redirect("remove", "--backend", backend)
    assert rules(apart.host) == both
    apart.redirect("remove", "--backend", other)
    assert "tollgate" not in rules(apart.host).lower()


def test_connections_that_would_all_fail_are_warned_of(apart):
    """The rules are in force all the same: Tollgate may start later."""
    cases = [
        (["--uid", USER, *apart.config], []),
        (["--uid", USER, "--to", 4144], ["nothing listens at 127.0.0.1:4144 yet"]),
        (["--uid", USER, "--to", 4144, *apart.config], ["`listen.transparent: 127.0.0.1:4144`", "yet"]),
        (["--from", "cable0", *apart.config], ["--from cable0", "`listen.transparent: 0.0.0.0:4143`"]),
        (["--from", "cable0", "--to", 4143], ["what comes in from other machines yet"]),
        (["--mark", 7, *apart.config], ["--mark 7", "`upstream.mark: 7`"]),
        (["--mark", 7, "--uid", USER, *apart.config], []),
    ]
    for how, warned in cases:
        command = [PROGRAM, "redirect", "apply", *how]
        done = apart.host.run(*command, environment=apart.variables)
        assert done.returncode == 0 and "tollgate" in rules(apart.host), done.stderr
        assert done.stderr.count("warning") == bool(warned) + ("yet" in warned), (how, done.stderr)
        for words in warned:
            assert words in done.stderr, (how, done.stderr)
        apart.redirect("remove")


def test_a_loop_to_ourselves_ends_at_once(apart, trust, away):
    """Tollgate's own connections are redirected to it, as its user was not told."""
    _, provider = away
    apart.redirect("apply", "--uid", USER + 1, *apart.config)
    try:
        # Kept connections, which were made before, would serve another.
        url = "https://unasked.example/v1/chat/completions"
        status, _, body = curl(apart, url, environment=trust)
        assert status == 502 and "redirects Tollgate's own connections to it" in body, body
        status, _, _ = curl(apart, "https://other.example/", "--cacert", provider.authority)
        assert status == 0
    finally:
        apart.redirect("remove")
    apart.spans(1)
    told = "This comes from Tollgate itself: the system redirects Tollgate's own connections to it"
    assert told in apart.log.read_text()
    assert apart.held("connections") < 20


def test_without_the_right_to_do_so_it_says_what_it_takes(apart):
    done = apart.host.run(PROGRAM, "redirect", "remove", user=USER)
    assert done.returncode == 1
    assert "CAP_NET_ADMIN" in done.stderr


def test_whom_nobody_knows_is_named_and_not_taken_for_a_lack_of_rights(apart):
    for action in ("print", "apply"):
        for user, says in (("nobodyhere", "no such user"), ("99999999999", "4294967295")):
            done = apart.host.run(PROGRAM, "redirect", action, "--uid", user, "--to", 4143)
            assert done.returncode == 2, done.stdout
            assert user in done.stderr and says in done.stderr, done.stderr
            assert "CAP_NET_ADMIN" not in done.stderr, done.stderr
    apart.redirect("print", "--uid", "nobody", "--to", 4143)

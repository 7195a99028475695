"""Redirected connections where Tollgate runs as the user of the agents: its own are told from theirs
by a mark alone."""

import sys

import pytest

import namespaces
import redirection
from namespaces import Host
from redirection import THERE_4, THERE_6, URL, USER, Hosted, curl, metered
from sidecar import HERE, PROGRAM, wait_for

OBSTACLE = namespaces.obstacle()
pytestmark = pytest.mark.skipif(bool(OBSTACLE), reason=f"no network namespaces: {OBSTACLE}")

#: As `upstream.mark` says.
MARK = 77

UNMETERED = "tollgate_unmetered_connections_total"
REFUSED = 'tollgate_(blocked_total|intercepted_connections_total{outcome="(denied|unreachable|full)"})'


@pytest.fixture(scope="module")
def away(mock, tmp_path_factory):
    with redirection.away(mock, tmp_path_factory.mktemp("hosts")) as both:
        yield both


def variables(away, directory):
    _, provider = away
    return {"DIRECTORY": str(directory), "PROVIDER_CA": str(provider.authority)}


@pytest.fixture(scope="module", params=[None, USER], ids=["root", "user"])
def marking(request, away, tmp_path_factory):
    """Tollgate and its agents as one user, who is root, or may mark connections because it is said."""
    here, _ = away
    directory = tmp_path_factory.mktemp("marking")
    same = {"user": request.param, "rights": ["net_admin"], "agents": request.param}
    with Hosted(here, directory, "marked.yaml", variables(away, directory), **same) as running:
        yield running
        assert running.end() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def trust(marking):
    return marking.trust()


@pytest.fixture(params=["nft", "iptables"])
def marked(request, marking):
    """Connections of that host are redirected but for those with the mark, by either program. None of
    them is refused, as one that goes round in circles would be."""
    before = marking.metric(REFUSED)
    with marking.redirecting(request.param, "--mark", MARK):
        yield marking
        assert marking.metric(REFUSED) == before, marking.log.read_text()
        marking.none()


def test_agents_of_the_same_user_are_metered_once(marked, trust):
    agent = [sys.executable, HERE / "agent.py", "2", "0"]
    marked.host.must(*agent, environment=trust, user=marked.agents)
    for family in ("-4", "-6"):
        status, _, body = curl(marked, URL, family, environment=trust)
        assert status == 200, body
    for span in marked.spans(4):
        metered(span)
    status, _, body = curl(marked, "http://vllm.example/v1/chat/completions")
    assert status == 200, body
    [span] = marked.spans(1)
    assert span["attributes"]["server.address"] == "vllm.example"


def test_other_hosts_pass_unread_and_are_counted_once(marked, away):
    _, provider = away
    before = marked.metric(UNMETERED)
    for there in ("other.example", THERE_4, f"[{THERE_6}]"):
        url = f"https://{there}/v1/chat/completions"
        status, _, body = curl(marked, url, "--cacert", provider.authority)
        assert status == 200, body
    status, _, body = curl(marked, "http://other.example/v1/chat/completions")
    assert status == 200, body
    wait_for("tunnels are counted", lambda: marked.metric(UNMETERED) >= before + 4)
    assert marked.metric(UNMETERED) == before + 4


def test_what_is_told_of_calls_does_not_come_back_either(marked, trust, mock):
    before, told = marked.metric(UNMETERED), len(mock.received("marked"))
    status, _, body = curl(marked, URL, environment=trust)
    assert status == 200, body
    wait_for("the call is told of", lambda: len(mock.received("marked")) > told)
    assert marked.metric(UNMETERED) == before
    marked.spans(1)


def test_with_another_mark_than_the_rules_say_a_call_ends_at_once(marking, trust):
    before = marking.metric(UNMETERED)
    with marking.redirecting("nft", "--mark", MARK + 1):
        url = "https://unasked.example/v1/chat/completions"
        status, _, body = curl(marking, url, environment=trust)
    assert status == 502 and "redirects Tollgate's own connections to it" in body, body
    [span] = marking.spans(1)
    assert span["status"] == "error", span
    # Nobody else refused the certificate that it was shown.
    assert marking.metric(UNMETERED) == before
    assert marking.held("connections") < 20


def test_without_the_right_to_mark_it_does_not_start(away, tmp_path):
    tmp_path.chmod(0o777)
    with Host(tmp_path, {}) as alone:
        done = alone.run(
            *[PROGRAM, "run", "-c", HERE / "marked.yaml"],
            user=USER,
            environment=variables(away, tmp_path),
        )
    assert done.returncode, done.stdout
    assert "upstream.mark" in done.stderr and "CAP_NET_ADMIN" in done.stderr, done.stderr

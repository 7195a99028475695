"""One Tollgate before one set of mock providers, for all tests; and each test's own calls."""

import itertools

import pytest

import namespaces
import sidecar
from nodes import Node
from sidecar import HERE, Mock, Tollgate

_numbers = itertools.count(1)


def pytest_terminal_summary(terminalreporter):
    """What a machine has no right to do is not passed over in silence; tests/run says it again."""
    if obstacle := namespaces.obstacle():
        missed = "REDIRECTED CONNECTIONS, NAMES THAT CHANGE AND PODS WERE NOT TESTED"
        said = f"!!! NO NETWORK NAMESPACES ({obstacle}): {missed}."
        terminalreporter.write_line(said)


@pytest.fixture(scope="session")
def mock(tmp_path_factory):
    with Mock(tmp_path_factory.mktemp("mock")) as running:
        yield running


@pytest.fixture(scope="session")
def tollgate(tmp_path_factory, mock):
    directory = tmp_path_factory.mktemp("tollgate")
    with Tollgate(directory, mock, HERE / "tollgate.yaml") as running:
        yield running
        assert running.end() == 0, running.log.read_text()


@pytest.fixture(scope="session")
def node(tmp_path_factory):
    with Node(tmp_path_factory.mktemp("node")) as running:
        yield running


@pytest.fixture(autouse=True)
def environment(request, monkeypatch):
    """The variables that a user sets, and no proxy between the tests and Tollgate."""
    if "tollgate" in request.fixturenames:
        for name, value in request.getfixturevalue("tollgate").variables().items():
            monkeypatch.setenv(name, value)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def calls(tollgate, mock, node):
    """The calls of one test."""
    return Calls(tollgate, mock, node)


class Calls:
    """One test's calls: told apart from all others by their session at Tollgate, and by `x-test` at
    the mock."""

    def __init__(self, tollgate, mock, node):
        self.tollgate, self.mock, self.node = tollgate, mock, node
        self.session = f"test-{next(_numbers)}"
        #: What is sent where once a stream has begun: its `url` and `body`.
        self.then = None

    def headers(self, agent="tester", **settings):
        """What the SDK is to send along: who it is, and how the mock shall answer."""
        labels = {"x-tollgate-session": self.session, "x-tollgate-agent": agent}
        asked = {f"x-mock-{name.replace('_', '-')}": str(value) for name, value in settings.items()}
        return labels | {"x-test": self.session} | asked

    def begun(self, pieces):
        """Passes the pieces of a stream on, and does then what is to be done once it has begun."""
        for number, piece in enumerate(pieces):
            if number == 0 and self.then:
                assert sidecar.request(**self.then)[0] == 200
            yield piece

    def by_hand(self, agent, headers=None):
        """Status and headers of a chat call that no SDK makes."""
        messages = [{"role": "user", "content": "Hi"}]
        status, answered, _ = sidecar.request(
            f"{self.tollgate.url}/v1/chat/completions",
            {"model": "gpt-4o", "max_tokens": 10, "messages": messages},
            headers or self.headers(agent),
        )
        return status, answered

    def until_refused(self, agent):
        """Calls by hand until one is refused: how many were not, and the refusal's headers."""
        for allowed in range(100):
            status, headers = self.by_hand(agent)
            if status != 200:
                assert status == 429
                return allowed, headers
        raise AssertionError("a hundred calls and none was refused")

    def spans(self, count=1):
        """What Tollgate wrote of them: exactly so many spans, in the order in which they ended.

        A last call by hand shows that no more are on their way, for spans are written in order."""
        self.tollgate.spans(self.session, count)
        self.by_hand("marker")
        found = self.tollgate.spans(self.session, count + 1)
        found = [span for span in found if span["attributes"]["tollgate.agent"] != "marker"]
        assert len(found) == count, found
        return found

    def span(self):
        """The span of the only call."""
        return self.spans()[0]

    def received(self):
        """What the mock got of them. Of a call that is still open there, the end is `open`."""
        return self.mock.received(self.session)

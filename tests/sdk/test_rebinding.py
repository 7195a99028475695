"""Names that stand for something else each time they are asked for (DNS rebinding): nobody is led
inside by them, and what was checked is what is connected to."""

import contextlib
import itertools
import socket
import threading
from http.client import HTTPResponse

import pytest

import namespaces
from namespaces import Host
from redirection import HERE_4, HERE_6, THERE_4, THERE_6, Hosted, listen
from resolver import Resolver
from sidecar import DEADLINE, wait_for

PORT = 8080

#: Where whoever asks may be led: on the Internet, and where `intercept.allow_private` says.
OUTSIDE = [THERE_4, "198.51.100.3", THERE_6, "10.2.0.2"]
#: As these, but nobody listens there.
SILENT = ["198.51.100.4", "2001:db8::4"]

#: Addresses of Tollgate's own machine, and of its network, on each of which somebody listens.
OWN = ["127.0.0.1", "::1", HERE_4, HERE_6]
NEAR = ["10.1.0.2", "169.254.169.254", "fd00:ec2::254"]
#: All that lead there.
INSIDE = [*OWN, *NEAR, "0.0.0.0", "::", "::ffff:127.0.0.1", "::ffff:10.1.0.2"]

#: What each name stands for, in turn: of those that change their minds first what may be reached.
CHANGING = [[at] for pair in zip(itertools.cycle(OUTSIDE), INSIDE * 4) for at in pair]
MIXED = [*([at, *INSIDE] for at in OUTSIDE), *([*INSIDE, at] for at in OUTSIDE)]
MIXED += [[inside, outside] for outside in OUTSIDE for inside in INSIDE]
FALLING_BACK = [[silent, *INSIDE] for silent in SILENT] + [[*SILENT, inside] for inside in INSIDE]

FORMS = ["CONNECT", "absolute"]
NAMES = {
    f"{form}.{kind}.example".lower(): turns
    for kind, turns in [("changing", CHANGING), ("mixed", MIXED), ("falling-back", FALLING_BACK)]
    for form in FORMS
} | {"inside.example": [INSIDE]}

OBSTACLE = namespaces.obstacle()
pytestmark = [
    pytest.mark.skipif(bool(OBSTACLE), reason=f"no network namespaces: {OBSTACLE}"),
    pytest.mark.parametrize("form", FORMS),
]


class Place:
    """A web server that says which address it is at, and counts its connections."""

    def __init__(self, address):
        self.address, self.connections = address, 0
        self._listener = listen(address, PORT)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                with client, contextlib.suppress(OSError):
                    client.settimeout(DEADLINE)
                    if client.recv(4096):
                        head = f"content-length: {len(self.address)}\r\nconnection: close"
                        client.sendall(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n{self.address}".encode())

    def close(self):
        self._listener.close()


class Field:
    """Tollgate, all the places, and the resolver."""

    def __init__(self, tollgate, resolver, inside):
        self.tollgate, self.resolver, self._inside = tollgate, resolver, inside

    def ask(self, form, name, times):
        """Status, what refused and body of so many requests for a name, by either way through a proxy."""
        return self.tollgate.host.within(lambda: [ask(form, f"{name}:{PORT}") for _ in range(times)])

    def is_asked_once_for(self, name, times):
        """Each request had the name resolved once for each version of IP, and no other name."""
        asked, self.resolver.asked[:] = sorted(self.resolver.asked), []
        assert asked == [(name, 4)] * times + [(name, 6)] * times

    def untouched(self):
        """Nobody was inside. We go there ourselves to see that the doors are open, and that nobody is
        still on the way in before us."""
        for place in self._inside:
            before = place.connections
            to = (place.address, PORT)
            self.tollgate.host.within(lambda: socket.create_connection(to, DEADLINE).close())
            wait_for("the way in is open", lambda: place.connections > before)
            assert place.connections == before + 1, place.address
            place.connections = 0
            assert before == 0, place.address


def ask(form, place):
    with socket.create_connection(("127.0.0.1", 4100), DEADLINE) as client:
        if form == "absolute":
            return exchange(client, f"GET http://{place}/", place)
        status, by, body = exchange(client, f"CONNECT {place}", place)
        return exchange(client, "GET /", place) if status == 200 else (status, by, body)


def exchange(client, request, place):
    client.sendall(f"{request} HTTP/1.1\r\nhost: {place}\r\n\r\n".encode())
    answer = HTTPResponse(client)
    answer.begin()
    goes_on = request.startswith("CONNECT") and answer.status == 200
    body = "" if goes_on else answer.read().decode()
    return answer.status, answer.headers["x-tollgate-blocked-by"], body


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    directory = tmp_path_factory.mktemp("hosts")
    for name in ("here", "there"):
        (directory / name).mkdir()
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(Host(directory / "here", {}, resolver=THERE_4))
        there = stack.enter_context(Host(directory / "there", {}))
        ours = [HERE_4, HERE_6, "10.1.0.1", "10.2.0.1", "169.254.0.1", "fd00:ec2::1"]
        theirs = [*OUTSIDE, *SILENT, *NEAR]
        namespaces.connect((here, prefixed(ours)), (there, prefixed(theirs)))
        own = here.within(lambda: [Place(address) for address in OWN])
        near = there.within(lambda: [Place(address) for address in NEAR])
        outside = there.within(lambda: [Place(address) for address in OUTSIDE])
        for place in [*own, *near, *outside]:
            stack.callback(place.close)
        names = there.within(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        names.bind((THERE_4, 53))
        resolver = stack.enter_context(Resolver(names, NAMES))
        running = stack.enter_context(Hosted(here, tmp_path_factory.mktemp("tollgate"), "rebinding.yaml"))
        yield Field(running, resolver, [*own, *near])
        assert running.end() == 0, running.log.read_text()


def prefixed(addresses):
    return [f"{address}/{64 if ':' in address else 16}" for address in addresses]


def refused(address):
    """What a refusal says of an address."""
    return f"[{address}]:{PORT} is " if ":" in address else f"{address}:{PORT} is "


def test_a_name_that_changes_its_mind_leads_to_what_was_checked(field, form):
    name = f"{form}.changing.example".lower()
    answers = field.ask(form, name, len(CHANGING))
    for [address], (status, by, body) in zip(CHANGING, answers, strict=True):
        if address in OUTSIDE:
            assert (status, body) == (200, address)
        else:
            assert (status, by) == (403, "intercept.allow_private"), (address, body)
            assert refused(address) in body, body
    field.untouched()
    field.is_asked_once_for(name, len(CHANGING))


def test_of_many_addresses_those_outside_alone_are_tried(field, form):
    name = f"{form}.mixed.example".lower()
    answers = field.ask(form, name, len(MIXED))
    for turn, (status, _, body) in zip(MIXED, answers, strict=True):
        assert status == 200 and [body] == [at for at in turn if at in OUTSIDE], (turn, body)
    field.untouched()
    field.is_asked_once_for(name, len(MIXED))


def test_nobody_falls_back_to_the_inside_where_the_outside_is_silent(field, form):
    name = f"{form}.falling-back.example".lower()
    answers = field.ask(form, name, len(FALLING_BACK))
    for turn, (status, by, body) in zip(FALLING_BACK, answers, strict=True):
        assert (status, by) == (502, None), (turn, body)
        assert "onnection refused" in body, body
    field.untouched()
    field.is_asked_once_for(name, len(FALLING_BACK))


def test_a_name_with_nothing_but_the_inside_is_refused(field, form):
    [(status, by, body)] = field.ask(form, "inside.example", 1)
    assert (status, by) == (403, "intercept.allow_private"), body
    assert any(refused(address) in body for address in INSIDE), body
    field.untouched()
    field.is_asked_once_for("inside.example", 1)

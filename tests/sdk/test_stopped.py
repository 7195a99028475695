"""Calls that a kill or a circuit breaker stops, as the SDKs of OpenAI and Anthropic see it: a kill is
final, a breaker is waited for."""

from concurrent.futures import ThreadPoolExecutor

import anthropic
import openai
import pytest

from conftest import Calls
from nodes import node_error
from sdks import asking
from sidecar import label, request

IN_OPENAI, IN_ANTHROPIC = openai.__dict__.get, anthropic.__dict__.get
#: Who asks and how, and what has its exceptions, by name.
ASKED = [
    ("openai", "chat", IN_OPENAI),
    ("openai", "responses stream", IN_OPENAI),
    ("openai in node", "chat", node_error),
    ("openai in node", "responses stream", node_error),
    ("anthropic", "messages", IN_ANTHROPIC),
    ("anthropic", "messages stream", IN_ANTHROPIC),
    ("anthropic in node", "messages", node_error),
    ("anthropic in node", "messages stream", node_error),
]
each = pytest.mark.parametrize(
    ("name", "way", "error"), ASKED, ids=[f"{name}, {way}" for name, way, _ in ASKED]
)


@each
def test_a_kill_costs_one_attempt(calls, name, way, error):
    order = {"match": {"session": calls.session}, "reason": "it loops"}
    assert request(f"{calls.tollgate.admin}/api/v1/kills", order)[0] == 200
    says = "Tollgate: calls like this one were stopped by hand .* Do not try again. Why: it loops"
    with pytest.raises(error("PermissionDeniedError"), match=says):
        asking(name, calls, calls.headers(), way)()
    [span] = calls.spans()
    assert (span["status"], label(span, "blocked_by")) == ("blocked", "kill")
    assert calls.received() == []


@each
def test_an_open_breaker_is_waited_for(broken, name, way, error):
    calls, refused, answer = broken[name, way]
    says = r"Tollgate: too many of the last calls .* \(breaker `fragile`\)\. Try again later"
    with pytest.raises(error("InternalServerError"), match=says):
        refused.result()
    assert answer.result()
    statuses = [span["status"] for span in calls.tollgate.spans(calls.session, 5)]
    assert statuses == ["error", "error", "blocked", "blocked", "ok"]


@pytest.fixture(scope="module")
def broken(tollgate, mock, node):
    """For each its calls; what it gets when it may not try again, and when it may, after two calls by
    hand have opened the breaker. All at once, since they mostly wait."""
    broken = {}
    with ThreadPoolExecutor(len(ASKED)) as pool:
        for name, way, _ in ASKED:
            calls = Calls(tollgate, mock, node)
            headers = calls.headers("fragile")
            once = asking(name, calls, headers, way, max_retries=0)
            until_it_goes = asking(name, calls, headers, way)
            for _ in range(2):
                failing = calls.headers("fragile", status=500)
                assert calls.by_hand("fragile", failing)[0] == 500
            refused = pool.submit(once)
            refused.exception()
            broken[name, way] = calls, refused, pool.submit(until_it_goes)
    return broken

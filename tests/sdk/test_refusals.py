"""What every SDK makes of Tollgate's refusals, with its retries as they come: a budget that is used
up costs one attempt and is its usual exception, a rate limit and calls in flight are waited for."""

import http.client
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import Calls
from sdks import SDKS, WAYS, asking
from sidecar import DEADLINE, HERE, Tollgate, label, read_spans, request, wait_for

every_sdk = pytest.mark.parametrize("name", SDKS)


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_a_budget_that_is_used_up_costs_one_attempt(poor, name, way):
    trial = poor[name, way]
    says = (
        r"Tollgate: the budget `spent` for session=\S+ is used up\. It resets at 2\d\d\d-\S+Z\. "
        r"Limit \$0\.0026, spent \$0\.0026, "
    )
    with pytest.raises(trial.sdk.error, match=says):
        trial.answer.result()
    [refused] = trial.spans()
    assert refused["status"] == "blocked"
    assert label(refused, "blocked_by") == "budget.spent"
    assert refused["attributes"]["http.response.status_code"] == trial.sdk.status
    assert len(trial.calls.received()) == 1, "the provider saw the other call only"


@every_sdk
def test_a_rate_limit_is_waited_for(crowded, name):
    crowded[name].waited(r"than the rate limit `crowded` for session=\S+ allows\. Try again")


@every_sdk
def test_calls_in_flight_that_hold_the_rest_are_waited_for_again(impatient, name):
    impatient[name].waited(r"calls in flight hold what is left of the budget `narrow`.* Try again")


@every_sdk
def test_calls_in_flight_that_hold_the_rest_are_waited_for_in_line(patient, name):
    assert patient[name].answer.result()
    assert patient[name].statuses("ok") == ["ok"]


def test_a_rate_is_waited_for_as_long_as_it_says(calls):
    allowed, headers = calls.until_refused("hurried")
    assert headers["x-tollgate-blocked-by"] == "rate.unhurried"
    assert float(headers["retry-after-ms"]) > 0 and "x-should-retry" not in headers
    assert asking("openai", calls, calls.headers("hurried"))()
    refused, done = calls.spans(allowed + 3)[-2:]
    assert (refused["status"], done["status"]) == ("blocked", "ok")


@pytest.fixture(scope="module")
def poor(tollgate, mock, node):
    """Each SDK, in each of its ways, asks for more than there is left: another call of its session
    has spent it all."""
    trials = {}
    for name, way in WAYS:
        trial = trials[name, way] = Trial(Calls(tollgate, mock, node), name, "spent", way)
        other = trial.other(input=1000, output=10)
        assert trial.calls.by_hand("spent", other)[0] == 200
    with ThreadPoolExecutor(len(trials)) as pool:
        for trial in trials.values():
            trial.answer = pool.submit(trial.ask)
    # Spans are written in order: with that of a last call, all are there.
    last = Calls(tollgate, mock, node)
    last.by_hand("last")
    last.span()
    return trials


@pytest.fixture(scope="module")
def crowded(tollgate, mock, node):
    """Each SDK meets a rate limit."""
    return in_the_way(tollgate, mock, node, "crowded", are_refused)


@pytest.fixture(scope="module")
def patient(tollgate, mock, node):
    """Each SDK's call waits in line at Tollgate."""
    return in_the_way(tollgate, mock, node, "narrow", are_in_line)


@pytest.fixture(scope="module")
def impatient(tmp_path_factory, mock, node):
    """Each SDK's call is refused, since Tollgate lets none wait in line."""
    directory = tmp_path_factory.mktemp("impatient")
    with Tollgate(directory, mock, HERE / "tollgate.yaml", {"MAX_WAIT": "0s"}) as running:
        yield in_the_way(running, mock, node, "narrow", are_refused)


def in_the_way(tollgate, mock, node, agent, stopped):
    """Each SDK asks while another call of its session is in the way, which leaves once they are all
    `stopped`. All at once, since they mostly wait."""
    trials = {name: Trial(Calls(tollgate, mock, node), name, agent) for name in SDKS}
    streams = [Stream(tollgate.url, trial.other(events=8, hang=600)) for trial in trials.values()]
    with ThreadPoolExecutor(len(trials)) as pool:
        for trial in trials.values():
            trial.answer = pool.submit(trial.ask)
        try:
            wait_for("all are stopped", lambda: stopped(tollgate, trials.values()))
        finally:
            for stream in streams:
                stream.leave()
    return trials


def are_refused(tollgate, trials):
    refused = {label(s, "session") for s in read_spans(tollgate.traces) if s["status"] == "blocked"}
    return all(trial.calls.session in refused or trial.answer.done() for trial in trials)


def are_in_line(tollgate, trials):
    _, _, metrics = request(f"{tollgate.admin}/metrics")
    [waiting] = re.findall(rb'tollgate_held{what="waiting_calls"} (\d+)', metrics)
    return int(waiting) + sum(trial.answer.done() for trial in trials) == len(trials)


class Trial:
    """One call of an SDK, before or beside another of the same session."""

    def __init__(self, calls, name, agent, way=None):
        self.calls, self.sdk, self.agent = calls, SDKS[name], agent
        self.ask = asking(name, calls, calls.headers(agent), way)
        self.answer = None

    def other(self, **settings):
        """What the other call says of itself."""
        return self.calls.headers(self.agent, **settings) | {"x-tollgate-user": "other"}

    def spans(self):
        """Those of the SDK's attempts that there are now."""
        spans = read_spans(self.calls.tollgate.traces)
        ours = [span for span in spans if label(span, "session") == self.calls.session]
        return [span for span in ours if label(span, "user") != "other"]

    def statuses(self, last):
        """How each attempt ended, once there is one that ended so."""

        def probe():
            statuses = [span["status"] for span in self.spans()]
            return last in statuses and statuses

        return wait_for(f"an attempt that is {last}", probe)

    def waited(self, says):
        """It was refused, and tried again until it was not, if it tries anything again; else it says
        why."""
        if self.sdk.retries:
            assert self.answer.result()
            *refused, last = self.statuses("ok")
            assert refused and set(refused) == {"blocked"} and last == "ok"
        else:
            with pytest.raises(self.sdk.error, match=says):
                self.answer.result()
            assert self.statuses("blocked") == ["blocked"]


class Stream:
    """A stream that is open until it is left."""

    def __init__(self, url, headers):
        messages = [{"role": "user", "content": "Hi"}]
        body = json.dumps({"model": "gpt-4o", "messages": messages, "stream": True})
        headers = headers | {"content-type": "application/json"}
        self.connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=DEADLINE)
        self.connection.request("POST", "/v1/chat/completions", body, headers)
        self.response = self.connection.getresponse()
        assert self.response.status == 200

    def leave(self):
        self.response.close()
        self.connection.close()

"""What Datadog's Agent and Prometheus make of the calls that pass, asked of these programs themselves."""

import base64
import json
import subprocess
from collections import Counter

import pytest

from peers import Agent, Prometheus, Pushgateway
from sidecar import HERE, Tollgate, label, request, wait_for

MESSAGES = [{"role": "user", "content": "Hi"}]
COUNT = 3


@pytest.fixture(scope="module")
def watched(tmp_path_factory, mock):
    """A Tollgate that some calls passed, and where its spans and metrics went."""
    directory = tmp_path_factory.mktemp("destinations")
    with Agent(directory) as agent, Pushgateway(directory) as gateway:
        more = {"AGENT": agent.url, "GATEWAY": gateway.url}
        with Tollgate(directory, mock, HERE / "destinations.yaml", more) as tollgate:
            for number in range(COUNT):
                headers = {"x-tollgate-session": "watched", "x-tollgate-agent": "tester"}
                if number == COUNT - 1:
                    headers["x-mock-status"] = "500"
                body = {"model": "gpt-4o", "max_tokens": 10, "messages": MESSAGES}
                request(f"{tollgate.url}/v1/chat/completions", body, headers)
            spans = tollgate.spans("watched", COUNT)
            yield tollgate, agent, gateway, {span["span_id"]: span for span in spans}


def test_datadogs_traces_are_those_of_other_destinations(watched):
    _, agent, _, spans = watched

    def probe():
        traces = agent.traces()
        return traces if len(traces) >= COUNT else None

    traces = wait_for("traces at the agent", probe)
    assert len(traces) == COUNT
    for [found] in traces:
        span = spans[f"{found['span_id']:016x}"]
        assert found["meta"]["_dd.p.tid"] + f"{found['trace_id']:016x}" == span["trace_id"]
        failed = span["status"] != "ok"
        assert (found["service"], found["name"]) == ("sdk-tests", "openai.request")
        assert (found["resource"], found["type"]) == ("chat gpt-4o", "llm")
        assert found["error"] == failed
        assert (found["parent_id"] or 0) == 0
        assert abs(found["duration"] / 1e6 - span["duration_ms"]) < 0.01
        meta, metrics = found["meta"], found["metrics"]
        assert (meta["env"], meta["version"], meta["team"]) == ("staging", "1.2", "a")
        assert meta["tollgate.agent"] == "tester"
        assert meta["span.kind"] == "client"
        assert metrics["_top_level"] == 1
        assert metrics["_sampling_priority_v1"] == (2 if failed else 1)
        if not failed:
            for name in ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"):
                assert metrics[name] == span["attributes"][name]
            assert metrics["gen_ai.usage.cost"] == float(label(span, "cost.usd"))


def test_llm_observability_gets_the_same_calls(watched):
    _, agent, _, spans = watched

    def probe():
        got = [r for r in agent.requests() if r["url"].endswith("/evp_proxy/v2/api/v2/llmobs")]
        told = [e for r in got for e in json.loads(base64.b64decode(r["body"]))]
        told = [span for event in told for span in event["spans"]]
        return (got, told) if len(told) >= COUNT else None

    got, told = wait_for("events at the agent", probe)
    headers = {name.lower(): value for name, value in got[0]["headers"].items()}
    assert headers["x-datadog-evp-subdomain"] == "llmobs-intake"
    assert len(told) == COUNT
    for event in told:
        span = spans[f"{int(event['span_id']):016x}"]
        assert event["trace_id"] == span["trace_id"]
        assert event["meta"]["metadata"]["span_id"] == span["span_id"]
        assert event["meta"]["span.kind"] == "llm"
        assert event["parent_id"] == "undefined"
        assert event["session_id"] == "watched"
        assert event["status"] == ("ok" if span["status"] == "ok" else "error")
        if event["status"] == "ok":
            attributes = span["attributes"]
            assert event["metrics"]["input_tokens"] == attributes["gen_ai.usage.input_tokens"]
            assert event["metrics"]["total_cost"] == float(label(span, "cost.usd"))


def test_prometheus_reads_what_was_pushed(watched, tmp_path):
    _, _, gateway, _ = watched
    with Prometheus(tmp_path, gateway.address) as prometheus:

        def probe():
            found = prometheus.query("tollgate_requests_total")
            return found if sum(int(value) for _, value in found) >= COUNT else None

        found = wait_for("the pushed requests in Prometheus", probe)
        counts = Counter()
        for metric, value in found:
            counts[metric["status"]] += int(value)
        assert +counts == {"ok": COUNT - 1, "error": 1}
        for metric, _ in found:
            assert (metric["job"], metric["instance"]) == ("sdk-tests", "a/b")
            assert (metric["provider"], metric["agent_name"]) == ("openai", "tester")
        [(_, failures)] = prometheus.query("push_failure_time_seconds")
        assert failures == "0"
        [(_, pushed)] = prometheus.query('tollgate_spans_total{processor="prometheus",outcome="failed"}')
        assert pushed == "0"


def test_promtool_finds_nothing_wrong_with_the_metrics(watched):
    tollgate, _, _, _ = watched
    metrics = request(f"{tollgate.admin}/metrics")[2]
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=metrics, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_nothing_is_left_at_the_gateway_when_tollgate_has_left(watched):
    tollgate, _, gateway, _ = watched
    assert "tollgate_requests_total" in gateway.metrics()
    assert tollgate.end() == 0
    assert "tollgate_" not in gateway.metrics()

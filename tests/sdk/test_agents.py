"""OpenAI's Agents SDK: its runs through Tollgate, and what its exporter reports to it."""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import agents
import pytest
from agents.tracing.processor_interface import TracingProcessor
from agents.tracing.processors import BackendSpanExporter, BatchTraceProcessor
from openai import AsyncOpenAI

import sidecar
from sidecar import HERE, Mock, Tollgate, wait_for

SCRIPT = [
    {
        "when": {"tool": "transfer_to_billing", "results": 0},
        "call": [{"name": "transfer_to_billing"}],
    },
    {
        "when": {"tool": "lookup", "after": "transfer_to_billing"},
        "call": [{"name": "lookup", "arguments": {"order": "7"}}],
    },
    {"say": "All done."},
]


class Receiver(ThreadingHTTPServer):
    """Takes what is sent to OpenAI's traces."""

    def __init__(self):
        self.requests = []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def items(self):
        return [item for _, body in list(self.requests) for item in body["data"]]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.requests.append((dict(self.headers), json.loads(body)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Recorder(TracingProcessor):
    """Keeps what the SDK exports."""

    def __init__(self):
        self.items = []

    def on_trace_start(self, trace):
        self.items.append(trace.export())

    def on_span_end(self, span):
        self.items.append(span.export())

    def on_trace_end(self, trace):
        pass

    def on_span_start(self, span):
        pass

    def shutdown(self):
        pass

    def force_flush(self):
        pass


@pytest.fixture(scope="module")
def receiver():
    with Receiver() as running:
        yield running
        running.shutdown()


@pytest.fixture(scope="module")
def beside(tmp_path_factory, receiver):
    """A Tollgate before a mock that follows the script."""
    directory = tmp_path_factory.mktemp("agents")
    script = directory / "script.json"
    script.write_text(json.dumps(SCRIPT))
    with (
        Mock(directory, "--script", str(script)) as mock,
        Tollgate(directory, mock, HERE / "agents.yaml", {"RECEIVER": receiver.url}) as running,
    ):
        yield running
        assert running.end() == 0, running.log.read_text()


@agents.function_tool
def lookup(order: str) -> str:
    """Looks an order up."""
    return f"{order} is paid"


@agents.input_guardrail
async def polite(context, agent, question):
    return agents.GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)


def run(beside, way, group):
    """Two agents, a tool, a hand-off and a guardrail; what the SDK exported of the run."""
    recorder = Recorder()
    exporter = BackendSpanExporter(
        api_key="sk-test", endpoint=f"{beside.url}/v1/traces/ingest", max_retries=1
    )
    reporter = BatchTraceProcessor(exporter)
    agents.set_trace_processors([reporter, recorder])
    client = AsyncOpenAI(base_url=f"{beside.url}/v1", api_key="sk-test")
    model = way("gpt-4o", client)
    billing = agents.Agent("billing", instructions="Bills.", tools=[lookup], model=model)
    triage = agents.Agent(
        "triage",
        instructions="Sorts.",
        handoffs=[billing],
        input_guardrails=[polite],
        model=model,
    )
    settings = agents.RunConfig(
        workflow_name="Refunds", group_id=group, trace_metadata={"team": "core"}
    )
    try:
        done = asyncio.run(agents.Runner.run(triage, "Is order 7 paid?", run_config=settings))
        assert done.final_output == "All done."
        reporter.force_flush()
    finally:
        agents.set_trace_processors([])
        reporter.shutdown()
    return recorder.items


def stored(beside, trace, count):
    """The spans of a trace in the store, once there are so many."""

    def probe():
        status, body = beside.ask(f"traces/{trace}")
        spans = json.loads(body)["spans"] if status == 200 else []
        return spans if len(spans) >= count else None

    found = wait_for(f"{count} spans of {trace}", probe)
    assert len(found) == count, found
    return found


def kind(span):
    return span["attributes"].get("tollgate.reported.type", "call")


WAYS = {"responses": agents.OpenAIResponsesModel, "chat": agents.OpenAIChatCompletionsModel}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_is_one_trace_with_our_calls_in_their_places(beside, way):
    items = run(beside, WAYS[way], f"group-{way}")
    trace, spans = items[0], items[1:]
    assert trace["object"] == "trace"
    calls = [item for item in spans if item["span_data"]["type"] in ("response", "generation")]
    assert len(calls) == 3

    found = stored(beside, trace["id"].removeprefix("trace_"), len(spans) + len(calls))
    by_id = {span["span_id"]: span for span in found}
    for item in spans:
        span = by_id[item["id"].removeprefix("span_")[:16]]
        data = item["span_data"]
        inner = (data.get("data") or {}).get("sdk_span_type", data["type"])
        assert kind(span) == inner
        parent = item["parent_id"] and item["parent_id"].removeprefix("span_")[:16]
        assert span["parent_span_id"] == parent
        assert span["attributes"]["tollgate.workflow"] == "Refunds"
        assert span["attributes"]["tollgate.session"] == f"group-{way}"
        assert span["attributes"]["tollgate.tags"] == {"team": "core"}
    kinds = {span["kind"] for span in found}
    assert kinds == {"workflow", "agent", "llm", "tool", "handoff", "guardrail"}

    ours = [span for span in found if kind(span) == "call"]
    above = [by_id[span["parent_span_id"]] for span in ours]
    assert {kind(span) for span in above} == {calls[0]["span_data"]["type"]}
    assert len({span["span_id"] for span in above}) == 3
    agents_of_ours = sorted(span["attributes"]["tollgate.agent"] for span in ours)
    assert agents_of_ours == ["billing", "billing", "triage"]
    assert all(span["attributes"]["tollgate.cost.usd"] for span in ours)
    for span in found:
        if kind(span) != "call":
            assert not any(name.startswith("gen_ai.usage") for name in span["attributes"])


def test_reported_spans_are_no_calls_in_reports(beside):
    before = sum(row["calls"] for row in beside.api("report"))
    run(beside, agents.OpenAIResponsesModel, "group-report")
    wait_for("three calls", lambda: sum(r["calls"] for r in beside.api("report")) == before + 3)


def test_what_is_sent_on_has_the_shape_of_the_sdk_s_own_export(beside, receiver):
    items = run(beside, agents.OpenAIResponsesModel, "group-shape")
    trace = items[0]["id"]

    def probe():
        mine = [i for i in receiver.items() if trace in (i["id"], i.get("trace_id"))]
        return mine if len(mine) >= len(items) else None

    sent = wait_for("the run at the receiver", probe)
    assert len(sent) == len(items)
    headers, _ = receiver.requests[-1]
    headers = {name.lower(): value for name, value in headers.items()}
    assert headers["authorization"] == "Bearer sk-test"
    assert headers["openai-beta"] == "traces=v1"
    assert sent[0] == items[0]
    by_id = {item["id"][:21]: item for item in sent}
    for own in items[1:]:
        other = by_id[own["id"][:21]]
        assert set(other) - {"metadata"} == set(own) - {"metadata"}
        assert (own["parent_id"] or "")[:21] == (other["parent_id"] or "")[:21]
        assert other["trace_id"] == own["trace_id"]
        assert other["started_at"] == own["started_at"]
        assert other["ended_at"] == own["ended_at"]
        assert other["error"] == own["error"]
        mine, theirs = other["span_data"], own["span_data"]
        assert set(mine) == set(theirs), theirs["type"]
        for key, value in theirs.items():
            if key not in ("data", "input", "output", "usage"):
                assert mine[key] == value, (theirs["type"], key)
    # Our own calls are there as well, each in the trace that it had on the wire.
    own = [item for item in receiver.items() if "tollgate.request_id" in (item.get("metadata") or {})]
    shapes = {frozenset(item["span_data"]) for item in own}
    assert shapes <= {frozenset(i["span_data"]) for i in items[1:]} | {
        frozenset({"type", "input", "output", "model", "model_config", "usage"})
    }


def test_a_report_that_cannot_be_read_is_answered_and_harms_nothing(beside):
    url = f"{beside.url}/v1/traces/ingest"
    for body, status, word in [
        ({"data": [{"object": "trace.span", "id": "span_1"}]}, 200, b"trace_id"),
        ([1], 400, b"no report"),
    ]:
        answered, _, text = sidecar.request(url, body)
        assert (answered, word in text) == (status, True), text

"""Spans and metrics at a real OpenTelemetry collector (rotel), in every way that OTLP has, and at an
older Jaeger, whose Thrift is decoded by Apache's own package; and spans that OpenTelemetry's own
exporters report."""

import http.server
import pathlib
import re
import threading
from decimal import Decimal

import openai
import pytest
import rotel
from opentelemetry.exporter.otlp.json.http.trace_exporter import (
    OTLPSpanExporter as JsonExporter,
)
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
    OTLPSpanExporter as BinaryExporter,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.trace import Status, StatusCode
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.Thrift import TType
from thrift.transport.TTransport import TMemoryBuffer

from sidecar import HERE, Process, Tollgate, free_address, listens, part, request, wait_for

#: The profile of each way to the collector.
WAYS = {
    "protobuf": "v1_41",
    "plain": "legacy",
    "json": "next",
    "grpc": "openinference",
    "grpc-plain": "langfuse",
}


class Collector(Process):
    """rotel, which prints what it receives."""

    def __init__(self, directory):
        self.http, self.grpc = free_address(), free_address()
        arguments = ["start", "--exporter", "blackhole", "--debug-log-verbosity", "detailed"]
        arguments += ["--debug-log", "traces", "--debug-log", "metrics"]
        arguments += ["--otlp-http-endpoint", self.http, "--otlp-grpc-endpoint", self.grpc]
        program = pathlib.Path(rotel.__file__).parent / "rotel-agent"
        super().__init__(arguments, directory / "rotel.log", program=str(program))
        self.until(lambda: listens(self.http) and listens(self.grpc))

    def messages(self, kind):
        """What it printed of each `ResourceSpans` or `ResourceMetrics`."""
        printed = re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text())
        found = re.split(r"^(Resource(?:Spans|Metrics)) #\d+$", printed, flags=re.MULTILINE)
        return [text for name, text in zip(found[1::2], found[2::2]) if name == kind]

    def of(self, kind, via, holding):
        """The first message that came that way and holds this text."""

        def probe():
            messages = self.messages(kind)
            found = [m for m in messages if f"-> via: Str({via})\n" in m and holding in m]
            return found and found[0]

        return wait_for(f"{kind} via {via} with {holding}", probe)


class Jaeger:
    """What an older collector of Jaeger does with a POST: it takes it."""

    def __init__(self):
        self.posts = posts = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                posts.append((self.path, self.headers["content-type"], body))
                self.send_response(202)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def spans(self):
        """Every span so far, with its process."""
        for path, kind, body in list(self.posts):
            assert (path, kind) == ("/api/traces", "application/x-thrift")
            buffer = TMemoryBuffer(body)
            batch = struct(TBinaryProtocol(buffer))
            assert buffer.cstringio_buf.read() == b"", "nothing behind the struct"
            for span in batch[2]:
                yield batch[1], span


def struct(protocol):
    """A Thrift struct without its schema: its fields by number."""
    fields = {}
    protocol.readStructBegin()
    while True:
        _, kind, number = protocol.readFieldBegin()
        if kind == TType.STOP:
            return fields
        fields[number] = value(protocol, kind)
        protocol.readFieldEnd()


def value(protocol, kind):
    if kind == TType.STRUCT:
        return struct(protocol)
    if kind == TType.LIST:
        of, size = protocol.readListBegin()
        return [value(protocol, of) for _ in range(size)]
    read = {
        TType.BOOL: protocol.readBool,
        TType.DOUBLE: protocol.readDouble,
        TType.I32: protocol.readI32,
        TType.I64: protocol.readI64,
        TType.STRING: protocol.readString,
    }
    return read[kind]()


def tags(listed):
    """Jaeger's tags: the member that holds the value follows from the type."""
    return {tag[1]: tag[{0: 3, 1: 4, 2: 5, 3: 6}[tag[2]]] for tag in listed}


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    with Collector(tmp_path_factory.mktemp("rotel")) as running:
        yield running


@pytest.fixture(scope="module")
def jaeger():
    with Jaeger() as running:
        yield running


@pytest.fixture(scope="module")
def telling(tmp_path_factory, mock, collector, jaeger):
    directory = tmp_path_factory.mktemp("telemetry")
    more = {
        "COLLECTOR_HTTP": collector.http,
        "COLLECTOR_GRPC": collector.grpc,
        "JAEGER": jaeger.address,
    }
    with Tollgate(directory, mock, HERE / "telemetry.yaml", more) as running:
        yield running
        assert running.end() == 0, running.log.read_text()


@pytest.fixture
def calls(calls, telling):
    calls.tollgate = telling
    return calls


@pytest.fixture
def answered(calls):
    """The span of a streamed call, as the file has it."""
    client = openai.OpenAI(
        base_url=f"{calls.tollgate.url}/v1",
        api_key="sk-test",
        default_headers=calls.headers(cached="10") | {"x-tollgate-user": "42"},
    )
    messages = [{"role": "user", "content": "Hi"}]
    list(client.chat.completions.create(model="gpt-4o", messages=messages, stream=True))
    return calls.span()


def shown(attributes):
    """Attributes as rotel prints them: fractions without an exponent."""
    for name, value in attributes.items():
        kind = {str: "Str", bool: "Bool", int: "Int", float: "Double"}[type(value)]
        if kind == "Double":
            value = format(Decimal(str(value)), "f")
        yield f"-> {name}: {kind}({str(value).lower() if kind == 'Bool' else value})\n"


@pytest.mark.parametrize("via", WAYS)
def test_a_span_arrives_whole(answered, collector, via):
    printed = collector.of("ResourceSpans", via, answered["span_id"])
    own = answered["attributes"]
    for line in (
        "-> service.name: Str(agents)\n",
        "-> deployment.environment.name: Str(testing)\n",
        "InstrumentationScope tollgate ",
        f"Trace ID       : {answered['trace_id']}\n",
        "Name           : chat gpt-4o\n",
        "Kind           : SPAN_KIND_CLIENT\n",
    ):
        assert line in printed, (line, printed)
    tokens = own["gen_ai.usage.input_tokens"], own["gen_ai.usage.output_tokens"]
    cost = float(own["tollgate.cost.usd"])
    expected = {
        "v1_41": {
            "gen_ai.provider.name": "openai",
            "gen_ai.usage.input_tokens": tokens[0],
            "gen_ai.usage.output_tokens": tokens[1],
            "gen_ai.usage.cost": cost,
            "gen_ai.request.stream": True,
            "gen_ai.conversation.id": own["tollgate.session"],
            "user.id": "42",
            "tollgate.cost.usd": own["tollgate.cost.usd"],
        },
        "legacy": {"gen_ai.system": "openai", "gen_ai.usage.prompt_tokens": tokens[0]},
        "next": {"gen_ai.provider.name": "openai", "gen_ai.usage.output_tokens": tokens[1]},
        "openinference": {
            "openinference.span.kind": "LLM",
            "llm.token_count.prompt": tokens[0],
            "llm.token_count.total": sum(tokens),
            "llm.cost.total": cost,
            "session.id": own["tollgate.session"],
        },
        "langfuse": {
            "langfuse.observation.type": "generation",
            "langfuse.observation.cost_details": f'{{"total":{own["tollgate.cost.usd"]}}}',
            "session.id": own["tollgate.session"],
        },
    }[WAYS[via]]
    for line in shown(expected):
        assert line in printed, (line, printed)


def test_the_resource_has_what_the_user_adds(answered, collector):
    printed = collector.of("ResourceSpans", "protobuf", answered["span_id"])
    assert "-> service.version: Str(1.4.2)\n" in printed
    assert "ScopeSpans SchemaURL: https://opentelemetry.io/schemas/1.41.0\n" in printed


def test_a_refusal_is_an_error_that_says_why(calls, collector):
    status, _ = calls.by_hand("broke")
    assert status == 429
    span = calls.span()
    printed = collector.of("ResourceSpans", "grpc", span["span_id"])
    assert "-> error.type: Str(budget_exceeded)\n" in printed
    assert "blocked by budget.nothing" in printed


@pytest.mark.parametrize("via", ["protobuf", "json", "grpc"])
def test_metrics_arrive(answered, collector, via):
    names = {
        "json": ["gen_ai.client.inference.duration", "gen_ai.client.inference.usage.input_tokens"],
    }.get(via, ["gen_ai.client.operation.duration", "gen_ai.client.token.usage"])
    for name in [*names, "tollgate.cost.usd"]:
        printed = collector.of("ResourceMetrics", via, name)
        assert "-> service.name: Str(agents)\n" in printed
        assert re.search("cumulative", printed, re.IGNORECASE), printed


def test_jaeger_decodes_it(answered, jaeger):
    number = int(answered["span_id"], 16)
    signed = number - 2**64 if number >= 2**63 else number

    def probe():
        return [found for found in jaeger.spans() if found[1][3] == signed]

    [(process, span)] = wait_for("the span at Jaeger", probe)
    assert process[1] == "agents"
    assert tags(process[2])["deployment.environment.name"] == "testing"
    trace = (span[2] % 2**64) << 64 | span[1] % 2**64
    assert f"{trace:032x}" == answered["trace_id"]
    assert (span[4], span[5], span[7]) == (0, "chat gpt-4o", 1)
    assert abs(span[9] - answered["duration_ms"] * 1000) <= 1
    found = tags(span[10])
    assert found["span.kind"] == "client" and found["gen_ai.request.stream"] is True
    own = answered["attributes"]
    names = ["gen_ai.usage.input_tokens", "tollgate.cost.usd", "server.address"]
    assert {name: found[name] for name in names} == part(answered, names)
    assert found["gen_ai.usage.cost"] == float(own["tollgate.cost.usd"])


def test_nothing_was_lost(answered, telling, collector):
    """Every processor has delivered what it was offered."""

    def probe():
        _, _, body = request(f"{telling.admin}/metrics")
        found = re.findall(
            r'^tollgate_spans_total\{outcome="(\w+)",processor="([^"]+)"\} (\d+)$',
            body.decode(),
            re.MULTILINE,
        )
        counts = {(name, outcome): int(count) for outcome, name, count in found}
        assert not any(count for (_, outcome), count in counts.items() if outcome == "failed")
        delivered = {counts.get((name, "delivered"), 0) for name in [*WAYS, "jaeger", "file"]}
        return len(delivered) == 1 and delivered != {0}

    wait_for("all have the same", probe)


class Results:
    """An exporter that notes what came of each export."""

    def __init__(self, exporter):
        self.exporter, self.results = exporter, []

    def export(self, spans):
        self.results.append(self.exporter.export(spans))
        return self.results[-1]

    def shutdown(self):
        self.exporter.shutdown()

    def force_flush(self, timeout_millis=0):
        return True


@pytest.mark.parametrize("exporter", [JsonExporter, BinaryExporter])
def test_the_exporters_of_opentelemetry_report_spans(calls, exporter):
    more = {"compression": Compression.Gzip} if exporter is BinaryExporter else {}
    results = Results(exporter(endpoint=f"{calls.tollgate.url}/v1/traces", **more))
    provider = TracerProvider(resource=Resource({"service.name": "trip-planner"}))
    provider.add_span_processor(SimpleSpanProcessor(results))
    tracer = provider.get_tracer("test")
    session = {"gen_ai.conversation.id": calls.session}
    with tracer.start_as_current_span("invoke_agent planner") as agent:
        agent.set_attributes(session | {"gen_ai.operation.name": "invoke_agent"})
        agent.set_attribute("gen_ai.agent.name", "planner")
        with tracer.start_as_current_span("execute_tool lookup") as tool:
            said = {"gen_ai.operation.name": "execute_tool", "gen_ai.request.seed": -7}
            said |= {"gen_ai.request.stop_sequences": ["a", "b"], "gen_ai.request.top_p": 0.5}
            tool.set_attributes(session | said | {"gen_ai.tool.call.arguments": '{"secret": 1}'})
            tool.set_status(Status(StatusCode.ERROR, "timed out"))
    provider.shutdown()
    assert results.results == [SpanExportResult.SUCCESS] * 2

    spans = {span["span_id"]: span for span in calls.tollgate.spans(calls.session, 2)}
    agent, tool = (format(it.get_span_context().span_id, "016x") for it in (agent, tool))
    agent, tool = spans[agent], spans[tool]
    assert (agent["kind"], tool["kind"]) == ("agent", "tool")
    assert tool["parent_span_id"] == agent["span_id"]
    assert tool["trace_id"] == agent["trace_id"]
    own = tool["attributes"]
    assert tool["status"] == "error" and own["error.type"] == "timed out"
    assert own["service.name"] == "trip-planner"
    assert own["gen_ai.request.seed"] == -7
    assert own["gen_ai.request.stop_sequences"] == ["a", "b"]
    assert own["gen_ai.request.top_p"] == 0.5
    assert agent["attributes"]["tollgate.agent"] == "planner"
    assert "secret" not in str(spans)

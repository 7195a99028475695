"""Trace context as OpenTelemetry's own propagators write and read it, through Tollgate: what they
inject it continues, and what it sends on they extract."""

import secrets

import pytest
import sidecar
from opentelemetry import baggage, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.propagators.jaeger import JaegerPropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

FORMATS = {
    "w3c": TraceContextTextMapPropagator(),
    "b3": B3SingleFormat(),
    "b3-multi": B3MultiFormat(),
    "jaeger": JaegerPropagator(),
}

STATE = [("vendor", "t61rcWkgMzE"), ("rojo", "00f067aa0ba902b7")]


def client(sampled=True, short=False, state=None):
    """A context with a client's span in it."""
    return trace.set_span_in_context(
        trace.NonRecordingSpan(
            trace.SpanContext(
                trace_id=secrets.randbits(63 if short else 127) + 1,
                span_id=secrets.randbits(63) + 1,
                is_remote=False,
                trace_flags=trace.TraceFlags(int(sampled)),
                trace_state=trace.TraceState(state or []),
            )
        )
    )


def passed(calls, carrier):
    """The call's span, and the headers that came to the provider."""
    status, _ = calls.by_hand("tester", calls.headers() | carrier)
    assert status == 200
    return calls.span(), calls.received()[0]["headers"]


def extracted(propagator, headers):
    """The span that whoever gets these headers continues."""
    return trace.get_current_span(propagator.extract(headers)).get_span_context()


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_a_trace_goes_through_in_the_format_that_it_came_in(calls, name, short, sampled):
    propagator, context, carrier = FORMATS[name], client(sampled, short), {}
    propagator.inject(carrier, context)
    theirs = trace.get_current_span(context).get_span_context()

    span, headers = passed(calls, carrier)
    assert span["trace_id"] == trace.format_trace_id(theirs.trace_id)
    assert span["parent_span_id"] == trace.format_span_id(theirs.span_id)
    found = extracted(propagator, headers)
    assert found.trace_id == theirs.trace_id
    assert trace.format_span_id(found.span_id) == span["span_id"]
    assert found.trace_flags.sampled == sampled
    # In that format alone.
    for other, reader in FORMATS.items():
        if other.split("-")[0] != name.split("-")[0]:
            assert not extracted(reader, headers).is_valid, (other, headers)


def test_formats_that_tell_of_the_same_trace_are_all_sent_on(calls):
    context, carrier = client(), {}
    for propagator in FORMATS.values():
        propagator.inject(carrier, context)
    span, headers = passed(calls, carrier)
    for name in ("w3c", "b3", "jaeger"):
        found = extracted(FORMATS[name], headers)
        assert trace.format_span_id(found.span_id) == span["span_id"], name


def test_a_call_that_tells_of_no_trace_tells_the_provider_of_none(calls):
    span, headers = passed(calls, {})
    assert len(span["trace_id"]) == 32 and span["parent_span_id"] is None
    for name, propagator in FORMATS.items():
        assert not extracted(propagator, headers).is_valid, name


def test_tracestate_and_baggage_pass_as_they_are_and_say_who_it_is_for(calls):
    context = client(state=STATE)
    # Without a space, for which Python's propagator alone writes a `+`.
    context = baggage.set_baggage("user.id", "mia&noah,100%", context)
    context = baggage.set_baggage("tollgate.project", "atlas", context)
    carrier = {}
    FORMATS["w3c"].inject(carrier, context)
    W3CBaggagePropagator().inject(carrier, context)

    span, headers = passed(calls, carrier)
    assert headers["tracestate"] == carrier["tracestate"]
    assert headers["baggage"] == carrier["baggage"]
    assert list(extracted(FORMATS["w3c"], headers).trace_state.items()) == STATE
    there = baggage.get_all(W3CBaggagePropagator().extract(headers))
    assert there == {"user.id": "mia&noah,100%", "tollgate.project": "atlas"}
    assert span["attributes"]["tollgate.project"] == "atlas"
    assert span["attributes"]["tollgate.user"] == "mia&noah,100%"


def test_jaeger_s_own_baggage_passes(calls):
    context = baggage.set_baggage("tenant", "blue", client())
    carrier = {}
    FORMATS["jaeger"].inject(carrier, context)
    _, headers = passed(calls, carrier)
    assert baggage.get_all(FORMATS["jaeger"].extract(headers)) == {"tenant": "blue"}


@pytest.mark.parametrize("long", [False, True])
def test_datadog_s_headers_are_continued(calls, long):
    """As dd-trace writes them: decimal halves, the upper one in a tag."""
    upper, lower, theirs = 0x640CFD8D00000000, 1234567890, 987654321
    carrier = {
        "x-datadog-trace-id": str(lower),
        "x-datadog-parent-id": str(theirs),
        "x-datadog-sampling-priority": "1",
        "x-datadog-origin": "synthetics",
    }
    if long:
        carrier["x-datadog-tags"] = f"_dd.p.dm=-0,_dd.p.tid={upper:016x}"
    span, headers = passed(calls, carrier)
    assert span["trace_id"] == f"{upper if long else 0:016x}{lower:016x}"
    assert span["parent_span_id"] == f"{theirs:016x}"
    ours = {"x-datadog-parent-id": str(int(span["span_id"], 16))}
    assert {name: headers[name] for name in carrier} == carrier | ours
    assert "traceparent" not in headers

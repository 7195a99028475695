"""Streams that reach their budget, as OpenAI's Python SDK sees the end: an answer that was cut at
its length, not an exception."""

from decimal import Decimal

from openai import OpenAI

from sidecar import wait_for

#: What the rule `thrifty` allows each session.
LIMIT = Decimal("0.02")
ENDLESS = {"events": 10_000, "event_size": 40}


def test_a_chat_stream_is_cut_at_its_budget(calls):
    client = OpenAI(default_headers=calls.headers("thrifty", **ENDLESS))
    messages = [{"role": "user", "content": "Say everything."}]
    chunks = list(client.chat.completions.create(model="gpt-4o", messages=messages, stream=True))
    assert len([c for c in chunks if c.choices[0].delta.content]) > 10
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["length"]
    check(calls)


def test_a_streamed_response_is_cut_at_its_budget(calls):
    client = OpenAI(default_headers=calls.headers("thrifty", **ENDLESS))
    with client.responses.stream(model="gpt-4o", input="Say everything.") as stream:
        events = list(stream)
    assert len([e for e in events if e.type == "response.output_text.delta"]) > 10
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.incomplete_details.reason == "max_output_tokens"
    check(calls)


def check(calls):
    """The limit held, and the provider was left."""
    [span] = calls.spans()
    wait_for("the mock is left", lambda: calls.received()[0]["end"] == "left")
    assert span["attributes"]["tollgate.decision"] == "cut"
    assert span["attributes"]["tollgate.end"] == "cut"
    assert 0 < Decimal(span["attributes"]["tollgate.cost.usd"]) <= LIMIT

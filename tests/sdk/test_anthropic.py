"""Anthropic's Python SDK: messages."""

import anthropic
import pytest
from anthropic import Anthropic

from sidecar import part, wait_for

MODEL = "claude-haiku-4-5"
MESSAGES = [{"role": "user", "content": "Say something."}]
TOOL = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def test_a_message_is_metered_and_priced(calls):
    client = Anthropic(default_headers=calls.headers("writer", input=1000, output=200))
    answer = client.messages.create(model=MODEL, max_tokens=500, messages=MESSAGES)
    assert answer.content[0].text
    wanted = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": MODEL,
        "gen_ai.response.model": answer.model,
        "gen_ai.response.id": answer.id,
        "gen_ai.response.finish_reasons": ["end_turn"],
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 200,
        "tollgate.agent": "writer",
        "tollgate.cost.usd": "0.006000000",
        "url.path": "/v1/messages",
    }
    assert part(calls.span(), wanted) == wanted


def test_a_streamed_message_is_metered_and_priced(calls):
    client = Anthropic(default_headers=calls.headers(input=1000, output=200))
    with client.messages.stream(model=MODEL, max_tokens=500, messages=MESSAGES) as events:
        text = "".join(events.text_stream)
        answer = events.get_final_message()
    assert text == answer.content[0].text
    wanted = {
        "gen_ai.request.stream": True,
        "gen_ai.response.id": answer.id,
        "gen_ai.response.finish_reasons": ["end_turn"],
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 200,
        "tollgate.cost.usd": "0.006000000",
    }
    span = calls.span()
    assert part(span, wanted) == wanted
    assert "tollgate.edits" not in span["attributes"]


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_a_tool_is_called_and_its_result_answered(calls, stream):
    client = Anthropic(default_headers=calls.headers())
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    first = ask(client, messages, stream)
    [use] = [block for block in first.content if block.type == "tool_use"]
    messages += [
        {"role": "assistant", "content": first.content},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}],
        },
    ]
    assert "sunny" in ask(client, messages, stream).content[0].text
    wanted = {
        "gen_ai.response.finish_reasons": ["tool_use"],
        "tollgate.tool_calls": [{"id": use.id, "name": "weather"}],
    }
    assert part(calls.spans(2)[0], wanted) == wanted


def ask(client, messages, stream):
    arguments = {"model": MODEL, "max_tokens": 500, "messages": messages, "tools": [TOOL]}
    if not stream:
        return client.messages.create(**arguments)
    with client.messages.stream(**arguments) as events:
        return events.get_final_message()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, anthropic.BadRequestError),
        (401, anthropic.AuthenticationError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (529, anthropic.InternalServerError),
    ],
)
def test_the_providers_error_is_the_sdks_usual_exception(calls, status, error):
    client = Anthropic(default_headers=calls.headers(status=status), max_retries=0)
    with pytest.raises(error) as raised:
        client.messages.create(model=MODEL, max_tokens=500, messages=MESSAGES)
    assert raised.value.body["error"]["message"]
    span = calls.span()
    assert span["status"] == "error"
    assert span["attributes"]["http.response.status_code"] == status
    assert span["attributes"]["error.type"] == raised.value.body["error"]["type"]


def test_a_client_that_leaves_mid_stream_ends_the_call_at_the_provider(calls):
    client = Anthropic(default_headers=calls.headers(events=10_000, gap="20ms"))
    with client.messages.stream(model=MODEL, max_tokens=50_000, messages=MESSAGES) as events:
        next(iter(events.text_stream))
    client.close()
    span = calls.span()
    assert span["status"] == "cancelled"
    assert span["attributes"]["tollgate.end"] == "client"
    wait_for("the mock is left", lambda: calls.received()[0]["end"] == "left")


def test_counting_tokens_costs_nothing(calls):
    client = Anthropic(default_headers=calls.headers())
    assert client.messages.count_tokens(model=MODEL, messages=MESSAGES).input_tokens > 0
    assert calls.span()["attributes"].get("tollgate.cost.usd") in (None, "0.000000000")

"""OpenAI's Python SDK: chat completions."""

import asyncio

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from sidecar import part, wait_for

MESSAGES = [{"role": "user", "content": "Say something."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def test_a_plain_call_is_metered_and_priced(calls):
    client = OpenAI(default_headers=calls.headers("support", input=1000, output=200, cached=400))
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES)
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert answer.usage.prompt_tokens == 1000
    assert raw.headers["x-tollgate-request-id"]
    span = calls.span()
    wanted = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": answer.model,
        "gen_ai.response.id": answer.id,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 200,
        "gen_ai.usage.cache_read.input_tokens": 400,
        "http.response.status_code": 200,
        "tollgate.request_id": raw.headers["x-tollgate-request-id"],
        "tollgate.agent": "support",
        "tollgate.cost.usd": "0.004000000",
        "tollgate.usage.source": "reported",
        "tollgate.decision": "admitted",
    }
    assert part(span, wanted) == wanted
    assert (span["kind"], span["status"]) == ("llm", "ok")


def test_the_provider_gets_what_the_sdk_sent_and_nothing_of_ours(calls):
    client = OpenAI(default_headers=calls.headers())
    client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    [received] = calls.received()
    assert received["target"] == "/v1/chat/completions"
    assert received["headers"]["authorization"] == "Bearer sk-test"
    assert received["headers"]["x-stainless-lang"] == "python"
    assert not [name for name in received["headers"] if name.startswith("x-tollgate-")]


@pytest.mark.parametrize("asked", [True, False], ids=["usage asked for", "usage not asked for"])
def test_a_stream_is_metered_whether_or_not_usage_was_asked_for(calls, asked):
    client = OpenAI(default_headers=calls.headers(input=1000, output=200))
    options = {"stream_options": {"include_usage": True}} if asked else {}
    stream = client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, stream=True, **options
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert [c.usage.prompt_tokens for c in chunks if c.usage] == ([1000] if asked else [])
    assert all(c.choices for c in chunks) != asked, "the usage chunk is there if it was asked for"
    span = calls.span()
    wanted = {
        "gen_ai.request.stream": True,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 200,
        "tollgate.cost.usd": "0.004500000",
        "tollgate.usage.source": "reported",
    }
    assert part(span, wanted) == wanted
    assert span["attributes"]["gen_ai.response.time_to_first_chunk"] > 0
    assert bool(span["attributes"].get("tollgate.edits")) != asked


def test_the_asynchronous_client_streams(calls):
    async def text():
        async with AsyncOpenAI(default_headers=calls.headers()) as client:
            stream = await client.chat.completions.create(
                model="gpt-4o", messages=MESSAGES, stream=True
            )
            return "".join([c.choices[0].delta.content or "" async for c in stream])

    assert asyncio.run(text())
    assert calls.span()["status"] == "ok"


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_a_tool_is_called_and_its_result_answered(calls, stream):
    client = OpenAI(default_headers=calls.headers())
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    call = ask(client, messages, stream).tool_calls[0]
    assert call.function.name == "weather"
    messages += [
        {
            "role": "assistant",
            "tool_calls": [{"id": call.id, "type": "function", "function": dict(call.function)}],
        },
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    assert "sunny" in ask(client, messages, stream).content
    first, second = calls.spans(2)
    wanted = {
        "gen_ai.response.finish_reasons": ["tool_calls"],
        "tollgate.tool_calls": [{"id": call.id, "name": "weather"}],
    }
    assert part(first, wanted) == wanted
    assert second["attributes"]["gen_ai.response.finish_reasons"] == ["stop"]


def ask(client, messages, stream):
    """The model's message, put together by the SDK."""
    arguments = {"model": "gpt-4o", "messages": messages, "tools": [WEATHER]}
    if not stream:
        return client.chat.completions.create(**arguments).choices[0].message
    with client.chat.completions.stream(**arguments) as events:
        return events.get_final_completion().choices[0].message


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
def test_the_providers_error_is_the_sdks_usual_exception(calls, status, error):
    client = OpenAI(default_headers=calls.headers(status=status), max_retries=0)
    with pytest.raises(error) as raised:
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert raised.value.body["message"]
    assert "x-tollgate-blocked-by" not in raised.value.response.headers
    span = calls.span()
    assert span["status"] == "error"
    assert span["attributes"]["http.response.status_code"] == status
    assert span["attributes"]["error.type"]
    assert span["attributes"].get("tollgate.cost.usd") in (None, "0.000000000")


def test_the_providers_rate_limit_is_retried_and_each_attempt_is_a_span(calls):
    client = OpenAI(default_headers=calls.headers(status=429, times=1, retry_after=0))
    client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert [span["status"] for span in calls.spans(2)] == ["error", "ok"]


def test_a_client_that_leaves_mid_stream_ends_the_call_at_the_provider(calls):
    client = OpenAI(default_headers=calls.headers(events=10_000, gap="20ms"))
    stream = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
    for _ in range(3):
        next(stream)
    stream.close()
    client.close()
    span = calls.span()
    assert span["status"] == "cancelled"
    assert span["attributes"]["tollgate.end"] == "client"
    assert float(span["attributes"]["tollgate.cost.usd"]) > 0
    wait_for("the mock is left", lambda: calls.received()[0]["end"] == "left")

"""What lies between the Python SDKs and the provider: compression, errors in mid-stream, identity in
the base URL, calls that Tollgate does not know."""

import anthropic
import openai
import pytest
from anthropic import Anthropic
from openai import OpenAI

from sidecar import part, wait_for

MESSAGES = [{"role": "user", "content": "Say something."}]
CLAUDE = {"model": "claude-haiku-4-5", "max_tokens": 500, "messages": MESSAGES}


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_answer_is_read_on_its_way(calls, encoding, stream):
    client = OpenAI(default_headers=calls.headers(encoding=encoding, input=1000, output=200))
    more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    answer = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, **more)
    usage = list(answer)[-1].usage if stream else answer.usage
    assert usage.completion_tokens == 200
    wanted = {"gen_ai.usage.output_tokens": 200, "tollgate.cost.usd": "0.004500000"}
    assert part(calls.span(), wanted) == wanted


def test_openais_error_in_mid_stream_reaches_the_sdk(calls):
    client = OpenAI(default_headers=calls.headers(stream_error=3))
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))
    span = calls.span()
    assert span["status"] == "error" and span["attributes"]["error.type"]


def test_anthropics_error_in_mid_stream_reaches_the_sdk(calls):
    client = Anthropic(default_headers=calls.headers(stream_error=3))
    with pytest.raises(anthropic.APIStatusError), client.messages.stream(**CLAUDE) as events:
        events.until_done()
    span = calls.span()
    assert span["status"] == "error" and span["attributes"]["error.type"]


def test_a_provider_that_breaks_off_is_a_broken_connection(calls):
    client = OpenAI(default_headers=calls.headers(events=100, reset=2000), max_retries=0)
    with pytest.raises(openai.APIConnectionError):
        list(client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True))
    span = calls.span()
    assert (span["status"], span["attributes"]["tollgate.end"]) == ("error", "upstream")


def test_who_calls_can_stand_in_the_base_url(calls):
    base = f"{calls.tollgate.url}/~agent=from-path;user=42/v1"
    headers = calls.headers()
    del headers["x-tollgate-agent"]
    client = OpenAI(base_url=base, default_headers=headers)
    client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    wanted = {"tollgate.agent": "from-path", "tollgate.user": "42"}
    assert part(calls.span(), wanted) == wanted
    assert calls.received()[0]["target"] == "/v1/chat/completions"


def test_the_body_says_who_the_user_is(calls):
    client = OpenAI(default_headers=calls.headers())
    client.chat.completions.create(model="gpt-4o", messages=MESSAGES, safety_identifier="user-7")
    assert calls.span()["attributes"]["tollgate.user"] == "user-7"


def test_a_call_that_is_not_metered_passes_and_is_recorded(calls):
    models = OpenAI(default_headers=calls.headers()).models.list()
    assert "gpt-4o" in [model.id for model in models]
    span = calls.span()
    assert (span["kind"], span["operation_name"]) == ("http", "GET /v1/models")


def test_what_a_call_cost_can_be_asked_by_its_request_id(calls):
    client = OpenAI(default_headers=calls.headers(input=1000, output=200))
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES)
    span = calls.span()
    place = f"requests/{raw.headers['x-tollgate-request-id']}"
    # The store and the file get a span at about the same time, in no order.
    wait_for("the span is stored", lambda: calls.tollgate.ask(place)[0] == 200)
    assert calls.tollgate.api(place) == span

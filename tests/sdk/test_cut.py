"""Streams that reach their budget, as each Python SDK sees the end: an answer that was cut at its
length, and not an exception; or, where the configuration wants that, its usual one."""

from decimal import Decimal

import botocore.exceptions
import cohere
import groq
import mistralai.client
import mistralai.client.errors
import ollama
import openai
import pytest
from botocore import UNSIGNED
from google import genai
from google.genai import errors, types

from sidecar import HERE, Tollgate, wait_for
from test_bedrock import client_at

#: What the rule `thrifty` allows each session.
LIMIT = Decimal("0.02")
ENDLESS = {"events": 10_000, "event_size": 40, "gap": "100us"}
QUESTION = "Say everything."
MESSAGES = [{"role": "user", "content": QUESTION}]
#: What the mock calls it with is the only thing that it may be called with.
TEXT = {"type": "string", "enum": ["x" * 1_400]}
TOOL = {
    "type": "function",
    "function": {
        "name": "write",
        "parameters": {"type": "object", "properties": {"text": TEXT}, "required": ["text"]},
    },
}


def chat(url, headers):
    client = openai.OpenAI(base_url=f"{url}/v1", default_headers=headers)
    return of_choices(
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
    )


def of_choices(chunks):
    choices = [choice for chunk in chunks for choice in chunk.choices]
    reasons = [choice.finish_reason for choice in choices if choice.finish_reason]
    return len([c for c in choices if c.delta.content]), reasons


def responses(url, headers):
    client = openai.OpenAI(base_url=f"{url}/v1", default_headers=headers)
    with client.responses.stream(model="gpt-4o", input=QUESTION) as stream:
        events = list(stream)
    pieces = len([e for e in events if e.type == "response.output_text.delta"])
    if events[-1].type == "error":
        raise RuntimeError(events[-1].message)
    assert events[-1].type == "response.incomplete"
    return pieces, [events[-1].response.incomplete_details.reason]


def gemini(url, headers):
    options = types.HttpOptions(base_url=url, headers=headers)
    with genai.Client(http_options=options) as client:
        model = "gemini-2.0-flash"
        chunks = list(client.models.generate_content_stream(model=model, contents=QUESTION))
    candidates = [candidate for chunk in chunks for candidate in chunk.candidates]
    reasons = [c.finish_reason.value for c in candidates if c.finish_reason]
    return len([c for c in candidates if c.content and c.content.parts]), reasons


def converse(url, headers):
    key = {"authorization": "Bearer bedrock-api-key-test"}
    made = client_at(url, headers | key, UNSIGNED)
    messages = [{"role": "user", "content": [{"text": QUESTION}]}]
    model = "anthropic.claude-3-haiku-20240307-v1:0"
    events = list(made.converse_stream(modelId=model, messages=messages)["stream"])
    assert "usage" in events[-1]["metadata"]
    reasons = [e["messageStop"]["stopReason"] for e in events if "messageStop" in e]
    return len([e for e in events if "contentBlockDelta" in e]), reasons


def cohere_v2(url, headers):
    client = cohere.ClientV2(api_key="test", base_url=f"{url}/cohere")
    options = {"additional_headers": headers}
    model = "command-a-03-2025"
    events = list(client.chat_stream(model=model, messages=MESSAGES, request_options=options))
    if error := events[-1].delta.error:
        raise RuntimeError(error)
    pieces = len([e for e in events if e.type == "content-delta"])
    return pieces, [events[-1].delta.finish_reason]


def cohere_v1(url, headers):
    client = cohere.Client(api_key="test", base_url=f"{url}/cohere")
    options = {"additional_headers": headers}
    model = "command-a-03-2025"
    events = list(client.chat_stream(model=model, message=QUESTION, request_options=options))
    pieces = len([e for e in events if e.event_type == "text-generation"])
    assert events[-1].event_type == "stream-end"
    if events[-1].finish_reason == "ERROR":
        raise RuntimeError("thrifty")  # it has no exception, and no place for a message
    return pieces, [events[-1].finish_reason]


def by_groq(url, headers):
    client = groq.Groq(api_key="test", base_url=f"{url}/groq", default_headers=headers)
    model = "llama-3.3-70b-versatile"
    return of_choices(client.chat.completions.create(model=model, messages=MESSAGES, stream=True))


def mistral(url, headers):
    client = mistralai.client.Mistral(api_key="test", server_url=f"{url}/mistral")
    asked = {"model": "mistral-large-2411", "messages": MESSAGES, "http_headers": headers}
    with client.chat.stream(**asked) as events:
        return of_choices(event.data for event in events)


def by_ollama(url, headers):
    client = ollama.Client(host=f"{url}/ollama", headers=headers)
    parts = list(client.chat("llama3.2", MESSAGES, stream=True))
    return len([p for p in parts if p.message.content]), [p.done_reason for p in parts if p.done]


#: The way to ask, what ends an answer at its length, and the SDK's exception.
DIALECTS = [
    (chat, "length", openai.APIError),
    (responses, "max_output_tokens", RuntimeError),
    (gemini, "MAX_TOKENS", errors.APIError),
    (converse, "max_tokens", botocore.exceptions.EventStreamError),
    (cohere_v2, "MAX_TOKENS", RuntimeError),
    (cohere_v1, "MAX_TOKENS", RuntimeError),
    (by_groq, "length", groq.APIError),
    (mistral, "length", mistralai.client.errors.ResponseValidationError),
    (by_ollama, "length", ollama.ResponseError),
]
dialects = pytest.mark.parametrize(
    ("ask", "reason", "error"), DIALECTS, ids=[ask.__name__ for ask, _, _ in DIALECTS]
)


@pytest.fixture(scope="module", params=["graceful", "error"])
def cutting(request, tmp_path_factory, mock):
    """A Tollgate that cuts streams in this way."""
    directory = tmp_path_factory.mktemp(request.param)
    with Tollgate(directory, mock, HERE / "cut.yaml", {"CUT": request.param}) as running:
        running.cut = request.param
        yield running
        assert running.end() == 0, running.log.read_text()


@dialects
def test_a_stream_is_cut_at_its_budget(calls, cutting, ask, reason, error):
    calls.tollgate = cutting
    headers = calls.headers("thrifty", **ENDLESS)
    if cutting.cut == "graceful":
        pieces, reasons = ask(cutting.url, headers)
        assert pieces > 10 and reasons == [reason]
    else:
        with pytest.raises(error, match="thrifty|insufficient_quota"):
            ask(cutting.url, headers)
    check(calls)


def test_a_tool_call_that_is_cut_is_what_came_of_it(calls, cutting):
    """Its arguments are no whole JSON, and the end says why."""
    calls.tollgate = cutting
    headers = calls.headers("thrifty", tool="write", gap="1ms")
    client = openai.OpenAI(base_url=f"{cutting.url}/v1", default_headers=headers)
    asked = {"model": "gpt-4o-mini", "messages": MESSAGES, "tools": [TOOL], "stream": True}
    chunks, raised = [], None
    try:
        for chunk in client.chat.completions.create(**asked):
            chunks += chunk.choices
    except openai.APIError as error:
        raised = error
    functions = [call.function for c in chunks for call in c.delta.tool_calls or []]
    arguments = "".join(function.arguments or "" for function in functions)
    assert functions[0].name == "write"
    assert arguments.startswith('{"text":"x') and not arguments.endswith("}")
    if cutting.cut == "graceful":
        assert chunks[-1].finish_reason == "length" and raised is None
    else:
        assert raised is not None
    check(calls)


def check(calls):
    """The limit held, and the provider was left."""
    [span] = calls.spans()
    wait_for("the mock is left", lambda: calls.received()[0]["end"] == "left")
    assert span["attributes"]["tollgate.decision"] == "cut"
    assert span["attributes"]["tollgate.end"] == "cut"
    assert 0 < Decimal(span["attributes"]["tollgate.cost.usd"]) <= LIMIT

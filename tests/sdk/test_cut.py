"""Streams that are cut, at their budget or by the kill switch, as each SDK sees the end: an answer
that was cut at its length, and not an exception; or, where the configuration wants that, its usual
one. A tool is not run whose call was cut."""

import json
from decimal import Decimal

import anthropic
import botocore.exceptions
import cohere
import groq
import mistralai.client.errors
import ollama
import openai
import pytest
from google.genai import errors

from nodes import node_error
from sdks import (
    anthropic_client,
    boto_client,
    cohere_client,
    gemini_client,
    groq_client,
    mistral_client,
    node_client,
    ollama_client,
    openai_client,
)
from sidecar import HERE, Tollgate, label, wait_for

#: What the rule `thrifty` allows each session.
LIMIT = Decimal("0.02")
ENDLESS = {"events": 10_000, "event_size": 40, "gap": "100us"}
QUESTION = "Say everything."
MESSAGES = [{"role": "user", "content": QUESTION}]
CLAUDE = {"model": "claude-haiku-4-5", "max_tokens": 500, "messages": MESSAGES}
#: What the mock calls it with is the only thing that it may be called with.
TEXT = {"type": "string", "enum": ["x" * 1_400]}
PARAMETERS = {"type": "object", "properties": {"text": TEXT}, "required": ["text"]}
TOOL = {"type": "function", "function": {"name": "write", "parameters": PARAMETERS}}


def chat(calls, headers):
    asked = {"model": "gpt-4o", "messages": MESSAGES, "stream": True}
    return of_choices(calls.begun(openai_client(calls, headers).chat.completions.create(**asked)))


def of_choices(chunks):
    choices = [choice for chunk in chunks for choice in chunk.choices]
    reasons = [choice.finish_reason for choice in choices if choice.finish_reason]
    return len([c for c in choices if c.delta.content]), reasons


def responses(calls, headers):
    client = openai_client(calls, headers)
    with client.responses.stream(model="gpt-4o", input=QUESTION) as stream:
        events = list(stream)
    pieces = len([e for e in events if e.type == "response.output_text.delta"])
    if events[-1].type == "error":
        raise RuntimeError(events[-1].message)
    assert events[-1].type == "response.incomplete"
    said = [e.delta for e in events if e.type == "response.output_text.delta"]
    assert events[-1].response.output_text == "".join(said)
    return pieces, [events[-1].response.incomplete_details.reason]


def messages(calls, headers):
    with anthropic_client(calls, headers).messages.stream(**CLAUDE) as stream:
        pieces = len(list(calls.begun(stream.text_stream)))
        return pieces, [stream.get_final_message().stop_reason]


def in_node(way):
    def ask(calls, headers):
        came = node_client(calls, headers)(way)
        return came["pieces"], came["reasons"]

    ask.__name__ = f"{way} in node"
    return ask


def gemini(calls, headers):
    with gemini_client(calls, headers) as client:
        model = "gemini-2.0-flash"
        chunks = list(client.models.generate_content_stream(model=model, contents=QUESTION))
    candidates = [candidate for chunk in chunks for candidate in chunk.candidates]
    reasons = [c.finish_reason.value for c in candidates if c.finish_reason]
    return len([c for c in candidates if c.content and c.content.parts]), reasons


def converse(calls, headers):
    messages = [{"role": "user", "content": [{"text": QUESTION}]}]
    model = "anthropic.claude-3-haiku-20240307-v1:0"
    client = boto_client(calls, headers)
    events = list(client.converse_stream(modelId=model, messages=messages)["stream"])
    assert "usage" in events[-1]["metadata"]
    reasons = [e["messageStop"]["stopReason"] for e in events if "messageStop" in e]
    return len([e for e in events if "contentBlockDelta" in e]), reasons


def invoked(calls, headers, model, body):
    """The chunks of a stream in the words of the model's maker."""
    client = boto_client(calls, headers)
    asked = {"modelId": model, "body": json.dumps(body)}
    events = client.invoke_model_with_response_stream(**asked)["body"]
    return (json.loads(event["chunk"]["bytes"]) for event in events)


def titan(calls, headers):
    body = {"inputText": QUESTION}
    chunks = list(invoked(calls, headers, "amazon.titan-text-express-v1", body))
    reasons = [chunk["completionReason"] for chunk in chunks if chunk.get("completionReason")]
    return len([chunk for chunk in chunks if chunk["outputText"]]), reasons


def claude_on_bedrock(calls, headers):
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 500, "messages": MESSAGES}
    events = invoked(calls, headers, "anthropic.claude-3-haiku-20240307-v1:0", body)
    started = next(events)
    chunks = [started, *calls.begun(events)]
    assert chunks[-1]["type"] == "message_stop"
    reasons = [c["delta"]["stop_reason"] for c in chunks if c["type"] == "message_delta"]
    return len([c for c in chunks if c["type"] == "content_block_delta"]), reasons


def cohere_v2(calls, headers):
    client, options = cohere_client(cohere.ClientV2)(calls, headers)
    model = "command-a-03-2025"
    events = list(client.chat_stream(model=model, messages=MESSAGES, request_options=options))
    if error := events[-1].delta.error:
        raise RuntimeError(error)
    pieces = len([e for e in events if e.type == "content-delta"])
    return pieces, [events[-1].delta.finish_reason]


def cohere_v1(calls, headers):
    client, options = cohere_client(cohere.Client)(calls, headers)
    model = "command-a-03-2025"
    events = list(client.chat_stream(model=model, message=QUESTION, request_options=options))
    pieces = len([e for e in events if e.event_type == "text-generation"])
    assert events[-1].event_type == "stream-end"
    if events[-1].finish_reason == "ERROR":
        raise RuntimeError("thrifty")  # it has no exception, and no place for a message
    return pieces, [events[-1].finish_reason]


def by_groq(calls, headers):
    client = groq_client(calls, headers)
    model = "llama-3.3-70b-versatile"
    return of_choices(client.chat.completions.create(model=model, messages=MESSAGES, stream=True))


def mistral(calls, headers):
    client, headers = mistral_client(calls, headers)
    asked = {"model": "mistral-large-2411", "messages": MESSAGES, "http_headers": headers}
    with client.chat.stream(**asked) as events:
        return of_choices(event.data for event in events)


def by_ollama(calls, headers):
    client = ollama_client(calls, headers)
    parts = list(client.chat("llama3.2", MESSAGES, stream=True))
    return len([p for p in parts if p.message.content]), [p.done_reason for p in parts if p.done]


#: The way to ask, what ends an answer at its length, and the SDK's exception.
DIALECTS = [
    (chat, "length", openai.APIError),
    (in_node("chat stream"), "length", node_error("APIError")),
    (responses, "max_output_tokens", RuntimeError),
    (in_node("responses stream"), "max_output_tokens", node_error("error")),
    (gemini, "MAX_TOKENS", errors.APIError),
    (converse, "max_tokens", botocore.exceptions.EventStreamError),
    (titan, "LENGTH", botocore.exceptions.EventStreamError),
    (cohere_v2, "MAX_TOKENS", RuntimeError),
    (cohere_v1, "MAX_TOKENS", RuntimeError),
    (by_groq, "length", groq.APIError),
    (mistral, "length", mistralai.client.errors.ResponseValidationError),
    (by_ollama, "length", ollama.ResponseError),
]
#: Claude's requests have a limit always, which is all that a budget needs: nothing but a kill cuts
#: its streams.
KILLED = [
    (chat, "length", openai.APIError),
    (in_node("chat stream"), "length", node_error("APIError")),
    (messages, "max_tokens", anthropic.APIError),
    (in_node("messages stream"), "max_tokens", node_error("APIError")),
    (claude_on_bedrock, "max_tokens", botocore.exceptions.EventStreamError),
]


def each(dialects):
    names = [ask.__name__ for ask, _, _ in dialects]
    return pytest.mark.parametrize(("ask", "reason", "error"), dialects, ids=names)


@pytest.fixture(scope="module", params=["graceful", "error"])
def cutting(request, tmp_path_factory, mock):
    """A Tollgate that cuts streams in this way."""
    directory = tmp_path_factory.mktemp(request.param)
    with Tollgate(directory, mock, HERE / "cut.yaml", {"CUT": request.param}) as running:
        running.cut = request.param
        yield running
        assert running.end() == 0, running.log.read_text()


@each(DIALECTS)
def test_a_stream_is_cut_at_its_budget(calls, cutting, ask, reason, error):
    calls.tollgate = cutting
    headers = calls.headers("thrifty", **ENDLESS)
    if cutting.cut == "graceful":
        pieces, reasons = ask(calls, headers)
        assert pieces > 10 and reasons == [reason]
    else:
        with pytest.raises(error, match="thrifty|insufficient_quota"):
            ask(calls, headers)
    check(calls)


def test_a_tool_call_that_is_cut_is_what_came_of_it(calls, cutting):
    """Its arguments are no whole JSON, and the end says why."""
    calls.tollgate = cutting
    headers = calls.headers("thrifty", tool="write", gap="1ms")
    client = openai_client(calls, headers)
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


@each(KILLED)
def test_a_stream_is_cut_by_the_kill_switch(calls, cutting, ask, reason, error):
    calls.tollgate = cutting
    calls.then = kill(calls)
    headers = calls.headers(events=10_000, event_size=4, gap="50ms")
    if cutting.cut == "graceful":
        _, reasons = ask(calls, headers)
        assert reasons == [reason]
    else:
        with pytest.raises(error, match="stopped by hand .* Why: it loops"):
            ask(calls, headers)
    check(calls)


def kill(calls):
    """The order that stops them."""
    body = {"match": {"session": calls.session}, "reason": "it loops"}
    return {"url": f"{calls.tollgate.admin}/api/v1/kills", "body": body}


def tool_runner(calls, headers):
    """Has the SDK run tools by itself: what it ran, and how that ended."""
    ran = []

    def write(text: str) -> str:
        ran.append(text)
        return "Written."

    tool = anthropic.beta_tool(write, description="Writes.", input_schema=PARAMETERS)
    runner = anthropic_client(calls, headers).beta.messages.tool_runner(
        **CLAUDE, tools=[tool], stream=True, run_tools_eagerly=True
    )
    try:
        for stream in runner:
            deltas = (event for event in stream if event.type == "content_block_delta")
            assert list(calls.begun(deltas))
    except anthropic.APIError as error:
        return ran, str(error)
    return ran, stream.get_final_message().stop_reason


def runner_in_node(way):
    def run(calls, headers):
        came = node_client(calls, headers)(way)
        return came["ran"], came["error"]["message"] if "error" in came else came["reason"]

    run.__name__ = f"{way} in node"
    return run


#: How it ends after the tool was run, and after the call of the tool was cut: OpenAI's helper goes on
#: all the same, and is refused.
RUNNERS = [
    (tool_runner, "end_turn", "max_tokens"),
    (runner_in_node("tool runner"), "end_turn", "max_tokens"),
    (runner_in_node("run tools"), "stop", "stopped by hand"),
]


@pytest.mark.parametrize(
    ("run", "end", "cut"), RUNNERS, ids=[run.__name__ for run, _, _ in RUNNERS]
)
def test_a_tool_is_not_run_whose_call_is_cut(calls, cutting, run, end, cut):
    calls.tollgate = cutting
    assert run(calls, calls.headers(tool="write")) == (TEXT["enum"], end)
    calls.then = kill(calls)
    ran, said = run(calls, calls.headers(tool="write", gap="200ms"))
    assert ran == []
    assert (cut if cutting.cut == "graceful" else "stopped by hand") in said
    assert label(calls.tollgate.spans(calls.session, 3)[2], "decision") == "cut"


def test_a_function_call_in_a_response_that_is_cut_is_incomplete(calls, cutting):
    calls.tollgate = cutting
    calls.then = kill(calls)
    ask = node_client(calls, calls.headers(tool="write", gap="200ms"))
    if cutting.cut == "graceful":
        call = ask("responses call")
        assert (call["type"], call["status"]) == ("function_call", "incomplete")
        assert call["name"] == "write"
        assert call["arguments"].startswith('{"text":"xxx') and call["arguments"][-1] == "x"
        assert call["reason"] == "max_output_tokens"
    else:
        with pytest.raises(node_error("error"), match="stopped by hand"):
            ask("responses call")
    check(calls)


def check(calls):
    """The limit held, and the provider was left."""
    [span] = calls.spans()
    wait_for("the mock is left", lambda: calls.received()[0]["end"] == "left")
    assert span["attributes"]["tollgate.decision"] == "cut"
    assert span["attributes"]["tollgate.end"] == "cut"
    assert 0 < Decimal(span["attributes"]["tollgate.cost.usd"]) <= LIMIT

"""OpenAI's Python SDK: Responses and embeddings."""

import pytest
from openai import OpenAI

from sidecar import part, wait_for

TOOL = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def test_a_response_is_metered_and_priced(calls):
    client = OpenAI(default_headers=calls.headers(input=1000, output=200, reasoning=50))
    answer = client.responses.create(model="gpt-4o", input="Say something.")
    assert answer.output_text
    wanted = {
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": answer.model,
        "gen_ai.response.id": answer.id,
        "gen_ai.response.finish_reasons": ["completed"],
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 200,
        "gen_ai.usage.reasoning.output_tokens": 50,
        "tollgate.cost.usd": "0.004500000",
        "url.path": "/v1/responses",
    }
    assert part(calls.span(), wanted) == wanted


def test_a_streamed_response_is_metered_and_priced(calls):
    client = OpenAI(default_headers=calls.headers(input=1000, output=200))
    with client.responses.stream(model="gpt-4o", input="Say something.") as events:
        answer = events.get_final_response()
    assert answer.output_text
    wanted = {
        "gen_ai.request.stream": True,
        "gen_ai.response.id": answer.id,
        "gen_ai.response.finish_reasons": ["completed"],
        "tollgate.cost.usd": "0.004500000",
    }
    assert part(calls.span(), wanted) == wanted


def test_a_tool_call_is_joined_to_its_result(calls):
    client = OpenAI(default_headers=calls.headers())
    question = "What is the weather in Paris?"
    first = client.responses.create(model="gpt-4o", input=question, tools=[TOOL])
    [call] = [item for item in first.output if item.type == "function_call"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    second = client.responses.create(
        model="gpt-4o", input=[result], tools=[TOOL], previous_response_id=first.id
    )
    assert "sunny" in second.output_text
    span = calls.spans(2)[0]
    assert span["attributes"]["tollgate.tool_calls"] == [{"id": call.call_id, "name": "weather"}]


def test_a_background_response_is_billed_once_however_often_it_is_read(calls):
    client = OpenAI(default_headers=calls.headers(input=1000, output=200, polls=2))
    answer = client.responses.create(model="gpt-4o", input="Say something.", background=True)
    assert answer.status == "queued"
    done = wait_for("the response", lambda: completed(client, answer.id))
    assert done.usage.input_tokens == 1000
    assert completed(client, answer.id)
    reads = len(calls.received()) - 1
    costs = [s["attributes"].get("tollgate.cost.usd") for s in calls.spans(1 + reads)]
    assert [cost for cost in costs if cost and float(cost)] == ["0.004500000"]


def completed(client, name):
    answer = client.responses.retrieve(name)
    return answer if answer.status == "completed" else None


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_are_metered_and_priced(calls, encoding):
    client = OpenAI(default_headers=calls.headers(input=1000))
    answer = client.embeddings.create(
        model="text-embedding-3-small", input=["a", "b"], encoding_format=encoding
    )
    assert len(answer.data) == 2
    wanted = {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.request.model": "text-embedding-3-small",
        "gen_ai.usage.input_tokens": 1000,
        "tollgate.cost.usd": "0.000020000",
    }
    span = calls.span()
    assert part(span, wanted) == wanted
    assert span["kind"] == "embedding"

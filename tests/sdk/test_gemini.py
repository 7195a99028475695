"""Google's Python SDK: Gemini."""

import pytest
from google import genai
from google.genai import errors, types

from sidecar import part, wait_for

MODEL = "gemini-2.5-flash"
DECLARATION = types.FunctionDeclaration(
    name="weather",
    parameters_json_schema={"type": "object", "properties": {"city": {"type": "string"}}},
)


def client_with(headers):
    return genai.Client(http_options=types.HttpOptions(headers=headers))


def test_content_is_metered_and_priced(calls):
    client = client_with(calls.headers("reader", input=1000, output=200, reasoning=50))
    answer = client.models.generate_content(model=MODEL, contents="Say something.")
    assert answer.text
    wanted = {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "gemini",
        "gen_ai.request.model": MODEL,
        "gen_ai.response.model": answer.model_version,
        "gen_ai.response.id": answer.response_id,
        "gen_ai.response.finish_reasons": ["STOP"],
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 200,
        "gen_ai.usage.reasoning.output_tokens": 50,
        "tollgate.agent": "reader",
        "tollgate.cost.usd": "0.000800000",
    }
    span = calls.span()
    assert part(span, wanted) == wanted
    assert span["attributes"]["url.path"].endswith(f"/models/{MODEL}:generateContent")


def test_streamed_content_is_metered_and_priced(calls):
    client = client_with(calls.headers(input=1000, output=200))
    chunks = list(client.models.generate_content_stream(model=MODEL, contents="Say something."))
    assert "".join(chunk.text or "" for chunk in chunks)
    wanted = {
        "gen_ai.request.stream": True,
        "gen_ai.response.finish_reasons": ["STOP"],
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 200,
        "tollgate.cost.usd": "0.000800000",
    }
    assert part(calls.span(), wanted) == wanted


def test_a_function_is_called(calls):
    client = client_with(calls.headers())
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[DECLARATION])],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    question = "What is the weather in Paris?"
    answer = client.models.generate_content(model=MODEL, contents=question, config=config)
    assert [call.name for call in answer.function_calls] == ["weather"]
    [called] = calls.span()["attributes"]["tollgate.tool_calls"]
    assert called["name"] == "weather"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, errors.ClientError),
        (401, errors.ClientError),
        (429, errors.ClientError),
        (500, errors.ServerError),
    ],
)
def test_the_providers_error_is_the_sdks_usual_exception(calls, status, error):
    client = client_with(calls.headers(status=status))
    with pytest.raises(error) as raised:
        client.models.generate_content(model=MODEL, contents="Say something.")
    assert raised.value.code == status
    span = calls.span()
    assert span["status"] == "error"
    assert span["attributes"]["http.response.status_code"] == status
    assert span["attributes"]["error.type"] == raised.value.status


def test_a_client_that_leaves_mid_stream_ends_the_call_at_the_provider(calls):
    client = client_with(calls.headers(events=10_000, gap="20ms"))
    stream = client.models.generate_content_stream(model=MODEL, contents="Say something.")
    next(stream)
    stream.close()
    client.close()
    span = calls.span()
    assert span["status"] == "cancelled"
    assert span["attributes"]["tollgate.end"] == "client"
    wait_for("the mock is left", lambda: calls.received()[0]["end"] == "left")

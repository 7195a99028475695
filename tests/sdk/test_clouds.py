"""The clouds through their own clients: Gemini and Claude on Vertex AI, OpenAI's models on Azure."""

import openai
import pytest
from google import genai
from google.genai import types

from sdks import anthropic_vertex_client as claude, azure_client as azure, vertex_client as vertex
from sidecar import part

GEMINI = "gemini-2.5-flash"
CLAUDE = "claude-haiku-4-5"
QUESTION = "Say something."
MESSAGES = [{"role": "user", "content": QUESTION}]


def metered(calls, provider, model, cost, stream=None):
    span = calls.span()
    wanted = {
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "gen_ai.request.stream": stream,
        "gen_ai.usage.input_tokens": 1000,
        "tollgate.cost.usd": cost,
    }
    assert part(span, wanted) == wanted
    return span


def test_gemini_on_vertex_is_metered_and_priced(calls):
    client = vertex(calls, calls.headers(input=1000, output=200))
    answer = client.models.generate_content(model=GEMINI, contents=QUESTION)
    assert answer.text
    span = metered(calls, "vertex", GEMINI, "0.000800000")
    assert "/locations/us-central1/publishers/google/" in span["attributes"]["url.path"]


def test_gemini_streams_on_vertex(calls):
    client = vertex(calls, calls.headers(input=1000, output=200))
    chunks = list(client.models.generate_content_stream(model=GEMINI, contents=QUESTION))
    assert "".join(chunk.text or "" for chunk in chunks)
    metered(calls, "vertex", GEMINI, "0.000800000", stream=True)


@pytest.mark.parametrize("model", ["gemini-embedding-2", "text-embedding-005"])
def test_texts_are_embedded_on_vertex(calls, model):
    client = vertex(calls, calls.headers(input=1000))
    answer = client.models.embed_content(model=model, contents="Hello")
    assert answer.embeddings[0].values
    metered(calls, "vertex", model, "0.000150000")


def test_texts_are_embedded_by_gemini(calls):
    client = genai.Client(http_options=types.HttpOptions(headers=calls.headers(input=1000)))
    answer = client.models.embed_content(model="gemini-embedding-2", contents="Hello")
    assert answer.embeddings[0].values
    metered(calls, "gemini", "gemini-embedding-2", "0.000150000")


def test_images_are_billed_by_the_piece(calls):
    client = vertex(calls, calls.headers())
    config = types.GenerateImagesConfig(number_of_images=2)
    answer = client.models.generate_images(
        model="imagen-4.0-generate-001", prompt="An otter", config=config
    )
    assert len(answer.generated_images) == 2
    assert calls.span()["attributes"]["tollgate.cost.usd"] == "0.080000000"


@pytest.mark.parametrize("client", [vertex, None], ids=["vertex", "gemini"])
def test_counting_costs_nothing(calls, client):
    headers = calls.headers()
    client = (
        client(calls, headers)
        if client
        else genai.Client(http_options=types.HttpOptions(headers=headers))
    )
    assert client.models.count_tokens(model=GEMINI, contents=QUESTION).total_tokens > 0
    assert calls.span()["attributes"]["tollgate.cost.usd"] == "0.000000000"


def test_claude_on_vertex_is_metered_and_priced(calls):
    client = claude(calls, calls.headers(input=1000, output=200))
    answer = client.messages.create(model=CLAUDE, max_tokens=500, messages=MESSAGES)
    assert answer.content[0].text
    metered(calls, "vertex", CLAUDE, "0.006000000")


def test_claude_streams_on_vertex(calls):
    client = claude(calls, calls.headers(input=1000, output=200))
    with client.messages.stream(model=CLAUDE, max_tokens=500, messages=MESSAGES) as stream:
        assert stream.get_final_text()
    metered(calls, "vertex", CLAUDE, "0.006000000", stream=True)


def test_counting_for_claude_costs_nothing(calls):
    client = claude(calls, calls.headers())
    assert client.messages.count_tokens(model=CLAUDE, messages=MESSAGES).input_tokens > 0
    assert calls.span()["attributes"]["tollgate.cost.usd"] == "0.000000000"


def test_a_deployment_on_azure_is_metered_and_priced(calls):
    client = azure(calls, calls.headers(input=1000, output=200))
    answer = client.chat.completions.create(model="my-gpt", messages=MESSAGES)
    assert answer.choices[0].message.content
    span = metered(calls, "azure", "my-gpt", "0.004500000")
    assert "/openai/deployments/my-gpt/" in span["attributes"]["url.path"]


def test_a_deployment_streams_on_azure(calls):
    client = azure(calls, calls.headers(input=1000, output=200))
    stream = client.chat.completions.create(model="my-gpt", messages=MESSAGES, stream=True)
    chunks = list(stream)
    assert all(chunk.usage is None for chunk in chunks)
    metered(calls, "azure", "my-gpt", "0.004500000", stream=True)


def test_responses_and_embeddings_on_azure(calls):
    client = azure(calls, calls.headers(input=1000, output=200))
    assert client.responses.create(model="my-gpt", input=QUESTION).output_text
    client.embeddings.create(model="my-embedding", input="Hello")
    costs = [span["attributes"]["tollgate.cost.usd"] for span in calls.spans(2)]
    assert costs == ["0.004500000", "0.000020000"]


def test_azure_s_newer_paths_need_its_name(calls):
    client = openai.OpenAI(
        base_url=f"{calls.tollgate.url}/azure/openai/v1/",
        api_key="azure-test",
        default_headers=calls.headers(input=1000, output=200),
    )
    assert client.chat.completions.create(model="my-gpt", messages=MESSAGES).choices
    metered(calls, "azure", "my-gpt", "0.004500000")

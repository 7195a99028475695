"""All SDKs in one table: how each is pointed at Tollgate and asked, and what it does by itself."""

import itertools
import json
from typing import NamedTuple

import anthropic
import botocore.exceptions
import cohere
import cohere.errors
import groq
import mistralai.client
import mistralai.client.errors
import ollama
import openai
from botocore import UNSIGNED
from google import genai
from google.genai import errors, types
from google.oauth2.credentials import Credentials

from nodes import node_error
from test_bedrock import client_at

QUESTION = "Say something."
MESSAGES = [{"role": "user", "content": QUESTION}]
GPT = {"model": "gpt-4o", "messages": MESSAGES}
CLAUDE = {"model": "claude-haiku-4-5", "max_tokens": 200, "messages": MESSAGES}
GEMINI = {"model": "gemini-2.5-flash", "contents": QUESTION}
CONVERSE = {
    "modelId": "anthropic.claude-3-haiku-20240307-v1:0",
    "messages": [{"role": "user", "content": [{"text": QUESTION}]}],
}
TITAN = {
    "modelId": "amazon.titan-text-express-v1",
    "body": json.dumps({"inputText": QUESTION}),
}


class Sdk(NamedTuple):
    """An SDK. `client(calls, headers)` makes its client, which sends these headers along."""

    client: object
    #: Its ways to ask, by their names.
    ways: dict
    #: What it raises when an answer says that there is no more money; what it says is its `str`.
    error: object
    #: The status that says so.
    status: int = 429
    #: Whether it tries again, by itself, what a rate limit refused.
    retries: bool = True


def openai_client(calls, headers, **more):
    url = f"{calls.tollgate.url}/v1"
    return openai.OpenAI(base_url=url, api_key="test", default_headers=headers, **more)


def azure_client(calls, headers):
    return openai.AzureOpenAI(
        azure_endpoint=calls.tollgate.url,
        api_key="test",
        api_version="2024-10-21",
        default_headers=headers,
    )


def anthropic_client(calls, headers, **more):
    url = calls.tollgate.url
    return anthropic.Anthropic(base_url=url, api_key="test", default_headers=headers, **more)


def anthropic_vertex_client(calls, headers):
    return anthropic.AnthropicVertex(
        project_id="p",
        region="us-east5",
        access_token="ya29.test",
        base_url=f"{calls.tollgate.url}/v1",
        default_headers=headers,
    )


def gemini_client(calls, headers):
    options = types.HttpOptions(base_url=calls.tollgate.url, headers=headers)
    return genai.Client(api_key="test", http_options=options)


def vertex_client(calls, headers):
    return genai.Client(
        vertexai=True,
        project="p",
        location="us-central1",
        credentials=Credentials(token="ya29.test"),
        http_options=types.HttpOptions(base_url=calls.tollgate.url, headers=headers),
    )


def boto_client(calls, headers):
    """With a key, which botocore itself sends only over TLS: it is put in by hand."""
    key = {"authorization": "Bearer bedrock-api-key-test"}
    return client_at(calls.tollgate.url, headers | key, UNSIGNED, retries=None)


def mistral_client(calls, headers):
    url = f"{calls.tollgate.url}/mistral"
    return mistralai.client.Mistral(api_key="test", server_url=url), headers


def cohere_client(client):
    def made(calls, headers):
        url = f"{calls.tollgate.url}/cohere"
        return client(api_key="test", base_url=url), {"additional_headers": headers}

    return made


def groq_client(calls, headers):
    url = f"{calls.tollgate.url}/groq"
    return groq.Groq(api_key="test", base_url=url, default_headers=headers)


def ollama_client(calls, headers):
    return ollama.Client(host=f"{calls.tollgate.url}/ollama", headers=headers)


def node_client(calls, headers, max_retries=2):
    client = calls.node.client
    return client(calls.tollgate.url, headers, calls.then, maxRetries=max_retries)


def by_node(*ways):
    return {way: lambda client, way=way: client(way) for way in ways}


def mistral_stream(client, headers):
    with client.chat.stream(**MISTRAL, http_headers=headers) as events:
        return list(events)


MISTRAL = GPT | {"model": "mistral-large-latest"}
COHERE = GPT | {"model": "command-a-03-2025"}
COHERE_V1 = {"model": "command-a-03-2025", "message": QUESTION}
GROQ = GPT | {"model": "llama-3.3-70b-versatile"}
OLLAMA = GPT | {"model": "llama3.2"}
ON_AZURE = GPT | {"model": "my-gpt"}
RESPONSE = {"model": "gpt-4o", "input": QUESTION}
IMAGE = {"model": "gpt-image-1", "prompt": QUESTION}
EMBED = {"model": "text-embedding-3-small", "input": QUESTION}
SPEECH = {"model": "tts-1", "voice": "coral", "input": QUESTION}
SOUND = {"model": "gpt-4o-transcribe", "file": ("a.mp3", bytes(16_000))}
PNG = ("a.png", b"PNG", "image/png")

#: The first way of each is the usual one.
SDKS = {
    "openai": Sdk(
        openai_client,
        {
            "chat": lambda c: c.chat.completions.create(**GPT).id,
            "chat stream": lambda c: list(c.chat.completions.create(**GPT, stream=True)),
            "responses": lambda c: c.responses.create(**RESPONSE).id,
            "responses stream": lambda c: list(c.responses.create(**RESPONSE, stream=True)),
            "embeddings": lambda c: c.embeddings.create(**EMBED).data,
            "images": lambda c: c.images.generate(**IMAGE).data,
            "images stream": lambda c: list(c.images.generate(**IMAGE, stream=True)),
            "image edits": lambda c: c.images.edit(**IMAGE, image=PNG).data,
            "speech": lambda c: c.audio.speech.create(**SPEECH).content,
            "transcription": lambda c: c.audio.transcriptions.create(**SOUND).text,
            "transcription stream": lambda c: list(
                c.audio.transcriptions.create(**SOUND, stream=True)
            ),
        },
        openai.RateLimitError,
    ),
    "openai on azure": Sdk(
        azure_client,
        {"chat": lambda c: c.chat.completions.create(**ON_AZURE).id},
        openai.RateLimitError,
    ),
    "openai in node": Sdk(
        node_client,
        by_node("chat", "chat stream", "responses", "responses stream", "embeddings"),
        node_error("RateLimitError"),
    ),
    "anthropic": Sdk(
        anthropic_client,
        {
            "messages": lambda c: c.messages.create(**CLAUDE).id,
            "messages stream": lambda c: list(c.messages.create(**CLAUDE, stream=True)),
        },
        anthropic.RateLimitError,
    ),
    "anthropic on vertex": Sdk(
        anthropic_vertex_client,
        {"messages": lambda c: c.messages.create(**CLAUDE).id},
        anthropic.RateLimitError,
    ),
    "anthropic in node": Sdk(
        node_client,
        by_node("messages", "messages stream"),
        node_error("RateLimitError"),
    ),
    "google-genai": Sdk(
        gemini_client,
        {
            "content": lambda c: c.models.generate_content(**GEMINI).text,
            "content stream": lambda c: list(c.models.generate_content_stream(**GEMINI)),
        },
        errors.ClientError,
        retries=False,
    ),
    "google-genai on vertex": Sdk(
        vertex_client,
        {"content": lambda c: c.models.generate_content(**GEMINI).text},
        errors.ClientError,
        retries=False,
    ),
    "mistralai": Sdk(
        mistral_client,
        {
            "chat": lambda c: c[0].chat.complete(**MISTRAL, http_headers=c[1]).id,
            "chat stream": lambda c: mistral_stream(*c),
        },
        mistralai.client.errors.SDKError,
        retries=False,
    ),
    # It tries a 429 again whatever the answer says.
    "cohere": Sdk(
        cohere_client(cohere.ClientV2),
        {
            "chat": lambda c: c[0].chat(**COHERE, request_options=c[1]).id,
            "chat stream": lambda c: list(c[0].chat_stream(**COHERE, request_options=c[1])),
        },
        cohere.errors.ForbiddenError,
        403,
    ),
    "cohere's first API": Sdk(
        cohere_client(cohere.Client),
        {
            "chat": lambda c: c[0].chat(**COHERE_V1, request_options=c[1]).text,
            "chat stream": lambda c: list(c[0].chat_stream(**COHERE_V1, request_options=c[1])),
        },
        cohere.errors.ForbiddenError,
        403,
    ),
    "groq": Sdk(
        groq_client,
        {
            "chat": lambda c: c.chat.completions.create(**GROQ).id,
            "chat stream": lambda c: list(c.chat.completions.create(**GROQ, stream=True)),
        },
        groq.RateLimitError,
    ),
    "ollama": Sdk(
        ollama_client,
        {
            "chat": lambda c: c.chat(**OLLAMA).message.content,
            "chat stream": lambda c: list(c.chat(**OLLAMA, stream=True)),
        },
        ollama.ResponseError,
        retries=False,
    ),
    # So does it, and it does not look at how long it is told to wait.
    "boto3": Sdk(
        boto_client,
        {
            "converse": lambda c: c.converse(**CONVERSE)["output"],
            "converse stream": lambda c: list(c.converse_stream(**CONVERSE)["stream"]),
            "invoke": lambda c: c.invoke_model(**TITAN)["body"].read(),
            "invoke stream": lambda c: list(
                c.invoke_model_with_response_stream(**TITAN)["body"]
            ),
        },
        botocore.exceptions.ClientError,
        403,
    ),
}

#: Every SDK in each of its ways.
WAYS = list(itertools.chain(*([(name, way) for way in sdk.ways] for name, sdk in SDKS.items())))


def asking(name, calls, headers, way=None, **more):
    """Makes a client; what is returned asks once with it."""
    sdk = SDKS[name]
    client = sdk.client(calls, headers, **more)
    ask = sdk.ways[way] if way else next(iter(sdk.ways.values()))
    return lambda: ask(client)


"""Mistral's, Cohere's, Groq's and Ollama's own clients."""

import json

import cohere
import groq
import mistralai.client
import ollama
import pytest

from sidecar import part

MESSAGES = [{"role": "user", "content": "Say something."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
#: The same for Cohere's first API.
WEATHER_V1 = {
    "name": "weather",
    "description": "The weather in a city.",
    "parameter_definitions": {"city": {"type": "str", "required": True}},
}


class Mistral:
    name, model = "mistral", "mistral-large-latest"

    def __init__(self, calls, headers):
        url = f"{calls.tollgate.url}/mistral"
        self.client = mistralai.client.Mistral(api_key="test", server_url=url)
        self.headers = headers

    def asked(self, messages, tools):
        more = {"tools": tools} if tools else {}
        asked = {"model": self.model, "messages": messages, "http_headers": self.headers}
        return asked | more

    def plain(self, messages=MESSAGES, tools=None):
        message = self.client.chat.complete(**self.asked(messages, tools)).choices[0].message
        called = [(call.function.name, call.function.arguments) for call in message.tool_calls or []]
        return message.content, called

    def stream(self, messages=MESSAGES, tools=None):
        text, called = "", []
        with self.client.chat.stream(**self.asked(messages, tools)) as events:
            for choice in (choice for event in events for choice in event.data.choices):
                text += choice.delta.content or ""
                called += [call.function for call in choice.delta.tool_calls or []]
        return text, joined((call.name, call.arguments) for call in called)


class Cohere:
    name, model = "cohere", "command-a-03-2025"

    def __init__(self, calls, headers):
        url = f"{calls.tollgate.url}/cohere"
        self.client = cohere.ClientV2(api_key="test", base_url=url)
        self.options = {"additional_headers": headers}

    def asked(self, messages, tools):
        more = {"tools": tools} if tools else {}
        asked = {"model": self.model, "messages": messages, "request_options": self.options}
        return asked | more

    def plain(self, messages=MESSAGES, tools=None):
        message = self.client.chat(**self.asked(messages, tools)).message
        called = [(call.function.name, call.function.arguments) for call in message.tool_calls or []]
        return (message.content[0].text if message.content else ""), called

    def stream(self, messages=MESSAGES, tools=None):
        text, called = "", []
        for event in self.client.chat_stream(**self.asked(messages, tools)):
            if event.type == "content-delta":
                text += event.delta.message.content.text
            elif event.type == "tool-call-start":
                called.append((event.delta.message.tool_calls.function.name, ""))
            elif event.type == "tool-call-delta":
                called.append((None, event.delta.message.tool_calls.function.arguments))
        return text, joined(called)


class CohereV1(Cohere):
    def __init__(self, calls, headers):
        super().__init__(calls, headers)
        self.client = cohere.Client(api_key="test", base_url=f"{calls.tollgate.url}/cohere")

    def asked(self, messages, tools):
        more = {"tools": [WEATHER_V1]} if tools else {}
        message = messages[-1]["content"]
        asked = {"model": self.model, "message": message, "request_options": self.options}
        return asked | more

    def plain(self, messages=MESSAGES, tools=None):
        answer = self.client.chat(**self.asked(messages, tools))
        return answer.text, self.called(answer)

    def stream(self, messages=MESSAGES, tools=None):
        text, called = "", []
        for event in self.client.chat_stream(**self.asked(messages, tools)):
            if event.event_type == "text-generation":
                text += event.text
            elif event.event_type == "tool-calls-generation":
                called += self.called(event)
        assert event.event_type == "stream-end" and event.response.text == text
        return text, called

    @staticmethod
    def called(answer):
        return [(call.name, json.dumps(call.parameters)) for call in answer.tool_calls or []]


class Groq:
    name, model = "groq", "llama-3.3-70b-versatile"

    def __init__(self, calls, headers):
        url = f"{calls.tollgate.url}/groq"
        self.client = groq.Groq(api_key="test", base_url=url, default_headers=headers)

    def asked(self, messages, tools):
        return {"model": self.model, "messages": messages} | ({"tools": tools} if tools else {})

    def plain(self, messages=MESSAGES, tools=None):
        answer = self.client.chat.completions.create(**self.asked(messages, tools))
        message = answer.choices[0].message
        called = [(call.function.name, call.function.arguments) for call in message.tool_calls or []]
        return message.content, called

    def stream(self, messages=MESSAGES, tools=None):
        text, called = "", []
        chunks = self.client.chat.completions.create(**self.asked(messages, tools), stream=True)
        for choice in (choice for chunk in chunks for choice in chunk.choices):
            text += choice.delta.content or ""
            called += [call.function for call in choice.delta.tool_calls or []]
        return text, joined((call.name, call.arguments) for call in called)


class Ollama:
    name, model = "ollama", "llama3.2"

    def __init__(self, calls, headers):
        self.client = ollama.Client(host=f"{calls.tollgate.url}/ollama", headers=headers)

    def plain(self, messages=MESSAGES, tools=None):
        return self.told([self.client.chat(self.model, messages, tools=tools)])

    def stream(self, messages=MESSAGES, tools=None):
        return self.told(self.client.chat(self.model, messages, tools=tools, stream=True))

    @staticmethod
    def told(parts):
        text, called = "", []
        for message in (part.message for part in parts):
            text += message.content or ""
            calls = [call.function for call in message.tool_calls or []]
            called += [(call.name, json.dumps(dict(call.arguments))) for call in calls]
        return text, called


def joined(parts):
    """Calls of tools from their parts: the first of each has the name."""
    called = []
    for name, arguments in parts:
        if name:
            called.append((name, ""))
        called[-1] = (called[-1][0], called[-1][1] + (arguments or ""))
    return called


HOSTS = [Mistral, Cohere, CohereV1, Groq, Ollama]
hosts = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.__name__)
forms = pytest.mark.parametrize("form", ["plain", "stream"])


@hosts
@forms
def test_a_call_is_metered_and_priced(calls, host, form):
    # Groq and Mistral report usage in every stream.
    client = host(calls, calls.headers(input=1000, output=200, usage="unasked"))
    text, called = getattr(client, form)()
    assert "Say something." in text and not called
    wanted = {
        "gen_ai.provider.name": host.name,
        "gen_ai.request.model": host.model,
        "gen_ai.request.stream": True if form == "stream" else None,
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 200,
        "tollgate.cost.usd": "0.004500000",
        "tollgate.usage.source": "reported",
    }
    assert part(calls.span(), wanted) == wanted


@hosts
@forms
def test_a_tool_is_called(calls, host, form):
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    text, [(name, arguments)] = getattr(host(calls, calls.headers()), form)(messages, [WEATHER])
    assert (text or "", name, json.loads(arguments)) == ("", "weather", {"city": "mock"})
    [called] = calls.span()["attributes"]["tollgate.tool_calls"]
    assert called["name"] == "weather"


def test_texts_are_embedded_and_ranked_by_cohere(calls):
    client = cohere.ClientV2(api_key="test", base_url=f"{calls.tollgate.url}/cohere")
    options = {"additional_headers": calls.headers(input=1000)}
    embedded = client.embed(
        model="embed-v4.0",
        texts=["Hello"],
        input_type="search_query",
        embedding_types=["float"],
        request_options=options,
    )
    assert embedded.embeddings.float_ or embedded.embeddings.float
    ranked = client.rerank(
        model="rerank-v3.5", query="Who?", documents=["I", "You"], request_options=options
    )
    assert len(ranked.results) == 2
    costs = [span["attributes"]["tollgate.cost.usd"] for span in calls.spans(2)]
    assert costs == ["0.000150000", "0.002000000"]


def test_texts_are_embedded_by_mistral_and_ollama(calls):
    headers = calls.headers(input=1000)
    mistral = Mistral(calls, headers).client
    answer = mistral.embeddings.create(
        model="mistral-embed", inputs=["Hello"], http_headers=headers
    )
    assert answer.data[0].embedding
    assert Ollama(calls, headers).client.embed("llama3.2", "Hello").embeddings
    costs = [span["attributes"]["tollgate.cost.usd"] for span in calls.spans(2)]
    assert costs == ["0.000150000", "0.002500000"]

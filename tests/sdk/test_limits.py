"""What the Python SDKs make of Tollgate's own refusals, with their retries as they come."""

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors, types

QUESTION = "Say something."
MESSAGES = [{"role": "user", "content": QUESTION}]
MODEL = {"model": "claude-haiku-4-5", "max_tokens": 500, "messages": MESSAGES}
GEMINI = {"model": "gemini-2.5-flash", "contents": QUESTION}


def chat(headers, **more):
    client = openai.OpenAI(default_headers=headers)
    return client.chat.completions.create(model="gpt-4o", messages=MESSAGES, **more)


def responses(headers, **more):
    return openai.OpenAI(default_headers=headers).responses.create(
        model="gpt-4o", input=QUESTION, **more
    )


def embeddings(headers):
    client = openai.OpenAI(default_headers=headers)
    return client.embeddings.create(model="text-embedding-3-small", input=QUESTION)


def images(headers, **more):
    client = openai.OpenAI(default_headers=headers)
    return client.images.generate(model="gpt-image-1", prompt=QUESTION, **more)


def edits(headers):
    client = openai.OpenAI(default_headers=headers)
    image = ("a.png", b"PNG", "image/png")
    return client.images.edit(model="gpt-image-1", prompt=QUESTION, image=image)


def speech(headers):
    client = openai.OpenAI(default_headers=headers)
    return client.audio.speech.create(model="tts-1", voice="coral", input=QUESTION)


def transcription(headers, **more):
    client = openai.OpenAI(default_headers=headers)
    sound = ("a.mp3", bytes(16_000))
    return client.audio.transcriptions.create(model="gpt-4o-transcribe", file=sound, **more)


def messages(headers, **more):
    return anthropic.Anthropic(default_headers=headers).messages.create(**MODEL, **more)


def gemini(headers):
    with genai.Client(http_options=types.HttpOptions(headers=headers)) as client:
        return client.models.generate_content(**GEMINI)


def gemini_stream(headers):
    with genai.Client(http_options=types.HttpOptions(headers=headers)) as client:
        return list(client.models.generate_content_stream(**GEMINI))


def streamed(call):
    return lambda headers: list(call(headers, stream=True))


OPENAI = {
    "chat": chat,
    "chat stream": streamed(chat),
    "responses": responses,
    "responses stream": streamed(responses),
    "embeddings": embeddings,
    "images": images,
    "images stream": streamed(images),
    "image edits": edits,
    "speech": speech,
    "transcription": transcription,
    "transcription stream": streamed(transcription),
}
ANTHROPIC = {"messages": messages, "messages stream": streamed(messages)}
GOOGLE = {"gemini": gemini, "gemini stream": gemini_stream}

REFUSED = [
    *((call, openai.RateLimitError) for call in OPENAI.values()),
    *((call, anthropic.RateLimitError) for call in ANTHROPIC.values()),
    *((call, errors.ClientError) for call in GOOGLE.values()),
]


@pytest.mark.parametrize(("call", "error"), REFUSED, ids=[*OPENAI, *ANTHROPIC, *GOOGLE])
def test_an_exhausted_budget_costs_one_attempt_and_the_usual_exception(calls, call, error):
    with pytest.raises(error, match="nothing") as raised:
        call(calls.headers("broke"))
    answered = raised.value.response.headers
    assert answered["x-tollgate-blocked-by"] == "budget.nothing"
    assert answered["x-should-retry"] == "false"
    assert "x-tollgate-reset" not in answered, "a window without end does not reset"
    span = calls.span()
    assert span["status"] == "blocked"
    assert span["attributes"]["tollgate.decision"] == "refused"
    assert span["attributes"]["http.response.status_code"] == 429
    assert len(calls.received()) == 1, "the provider saw the marker only"


@pytest.mark.parametrize("call", [chat, responses, messages], ids=["chat", "responses", "messages"])
def test_a_rate_limit_that_clears_is_waited_for(calls, call):
    allowed, headers = calls.until_refused("hurried")
    assert headers["x-tollgate-blocked-by"] == "rate.unhurried"
    assert float(headers["retry-after-ms"]) > 0 and "x-should-retry" not in headers
    assert call(calls.headers("hurried")).id
    refused, done = calls.spans(allowed + 3)[-2:]
    assert (refused["status"], done["status"]) == ("blocked", "ok")


def test_an_sdk_that_does_not_retry_says_that_the_rate_is_limited(calls):
    calls.until_refused("hurried")
    with pytest.raises(errors.ClientError) as raised:
        gemini(calls.headers("hurried"))
    assert (raised.value.code, raised.value.status) == (429, "RESOURCE_EXHAUSTED")
    assert raised.value.response.headers["x-tollgate-blocked-by"] == "rate.unhurried"

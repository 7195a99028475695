"""What SDKs send again is one call, of which each attempt is told."""

import anthropic
import botocore
import openai
import pytest

from test_bedrock import MESSAGES as CONVERSE, MODEL, client_at

QUESTION = [{"role": "user", "content": "Say something."}]


def openai_chat(calls, headers):
    client = openai.OpenAI(default_headers=headers, max_retries=2)
    assert client.chat.completions.create(model="gpt-4o", messages=QUESTION).id


def openai_stream(calls, headers):
    client = openai.OpenAI(default_headers=headers, max_retries=2)
    assert list(client.responses.create(model="gpt-4o", input="Say something.", stream=True))


def anthropic_messages(calls, headers):
    client = anthropic.Anthropic(default_headers=headers, max_retries=2)
    client.messages.create(model="claude-haiku-4-5", max_tokens=500, messages=QUESTION)


def bedrock(calls, headers):
    key = {"authorization": "Bearer bedrock-api-key-test"}
    client = client_at(calls.tollgate.url, headers | key, botocore.UNSIGNED)
    client.converse(modelId=MODEL, messages=CONVERSE)


ALL = [openai_chat, openai_stream, anthropic_messages, bedrock]


@pytest.mark.parametrize("call", ALL, ids=lambda call: call.__name__)
def test_a_call_that_fails_twice_is_three_linked_attempts(calls, call):
    call(calls, calls.headers(status=500, times=2))
    spans = calls.spans(3)
    assert [span["status"] for span in spans] == ["error", "error", "ok"]
    attributes = [span["attributes"] for span in spans]
    first = attributes[0]["tollgate.request_id"]
    assert [part.get("tollgate.attempt") for part in attributes] == [None, 2, 3]
    assert [part.get("tollgate.retry_of") for part in attributes] == [None, first, first]

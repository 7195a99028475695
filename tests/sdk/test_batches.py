"""Batches through the Python SDKs: what their results cost, once."""

import json

import openai
import pytest
from anthropic import Anthropic
from openai import OpenAI

from sidecar import part

MESSAGES = [{"role": "user", "content": "Say something."}]
CHAT = {"model": "gpt-4.1", "messages": MESSAGES}
MESSAGE = {"model": "claude-sonnet-4-5", "max_tokens": 500, "messages": MESSAGES}


def cost(span):
    return span["attributes"].get("tollgate.cost.usd") or "0.000000000"


def test_results_of_a_batch_are_priced_once_at_the_batch_rate(calls):
    client = OpenAI(default_headers=calls.headers(input=1000, output=100))
    asked = {"method": "POST", "url": "/v1/chat/completions", "body": CHAT}
    lines = [json.dumps({"custom_id": name} | asked) for name in ("a", "b")]
    file = client.files.create(file=("in.jsonl", "\n".join(lines).encode()), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    assert client.batches.retrieve(batch.id).status == "in_progress"
    done = client.batches.retrieve(batch.id)
    assert (done.status, done.request_counts.completed) == ("completed", 2)
    for _ in range(2):
        text = client.files.content(done.output_file_id).text
        answers = [json.loads(line)["response"]["body"] for line in text.splitlines()]
        assert [answer["usage"]["prompt_tokens"] for answer in answers] == [1000, 1000]
    spans = calls.spans(6)
    # Half of 1,000 tokens at $2 and 100 at $8, twice.
    assert [cost(span) for span in spans] == ["0.000000000"] * 4 + ["0.002800000", "0.000000000"]
    wanted = {"gen_ai.usage.input_tokens": 2000, "tollgate.batch.answers": 2}
    assert part(spans[4], wanted) == wanted


def test_results_of_message_batches_are_priced_at_the_batch_rate(calls):
    client = Anthropic(default_headers=calls.headers(input=1000, output=100))
    batch = client.messages.batches.create(requests=[{"custom_id": "a", "params": MESSAGE}])
    assert client.messages.batches.retrieve(batch.id).processing_status == "in_progress"
    done = client.messages.batches.retrieve(batch.id)
    assert (done.processing_status, done.request_counts.succeeded) == ("ended", 1)
    # The SDK's own `results` asks the address in `results_url`, past any base URL.
    text = client.get(f"/v1/messages/batches/{batch.id}/results", cast_to=str)
    [result] = [json.loads(line)["result"] for line in text.splitlines()]
    assert result["message"]["usage"]["output_tokens"] == 100
    # Half of 1,000 tokens at $3 and 100 at $15.
    assert [cost(span) for span in calls.spans(4)] == ["0.000000000"] * 3 + ["0.002250000"]


def test_a_failed_upload_is_the_sdks_usual_exception(calls):
    client = OpenAI(default_headers=calls.headers(status=400), max_retries=0)
    with pytest.raises(openai.BadRequestError):
        client.files.create(file=("in.jsonl", b"{}"), purpose="batch")

"""Agents as people write them, each with another client: nothing in them says where Tollgate is, and
nothing points them at it but what their environment says. Prints what was answered."""

import asyncio
import json
import os
import sys
import urllib.request

URL = "https://api.openai.com/v1/chat/completions"
ASK = {"model": "gpt-4o", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}
HEADERS = {"content-type": "application/json", "authorization": "Bearer sk-test"}


def with_openai():
    from openai import OpenAI

    return OpenAI().chat.completions.create(**ASK).choices[0].message.content


def with_openai_stream():
    from openai import OpenAI

    chunks = OpenAI().chat.completions.create(**ASK, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def with_anthropic():
    from anthropic import Anthropic

    messages = [{"role": "user", "content": "Hi"}]
    asked = Anthropic().messages.create(model="claude-haiku-4-5", max_tokens=100, messages=messages)
    return asked.content[0].text


def with_requests(url=URL):
    import requests

    answer = requests.post(url, json=ASK, headers=HEADERS)
    answer.raise_for_status()
    return answer.json()["choices"][0]["message"]["content"]


def with_aiohttp():
    import aiohttp

    async def ask():
        async with aiohttp.ClientSession(trust_env=True, raise_for_status=True) as session:
            async with session.post(URL, json=ASK, headers=HEADERS) as answer:
                return (await answer.json())["choices"][0]["message"]["content"]

    return asyncio.run(ask())


def with_httpx():
    import httpx

    answer = httpx.post(URL, json=ASK, headers=HEADERS).raise_for_status()
    return answer.json()["choices"][0]["message"]["content"]


def with_urllib():
    asked = urllib.request.Request(URL, json.dumps(ASK).encode(), HEADERS)
    with urllib.request.urlopen(asked) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]


def with_a_socket():
    from openai import OpenAI

    with OpenAI().realtime.connect(model="gpt-realtime") as talking:
        content = [{"type": "input_text", "text": "Hi"}]
        item = {"type": "message", "role": "user", "content": content}
        talking.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        talking.conversation.item.create(item=item)
        talking.response.create()
        return next(event.type for event in talking if event.type == "response.done")


def bedrock():
    import boto3

    return boto3.client("bedrock-runtime", region_name="eu-west-1")


CONVERSE = {
    "modelId": "anthropic.claude-3-haiku-20240307-v1:0",
    "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
}


def with_boto3():
    return bedrock().converse(**CONVERSE)["output"]["message"]["content"][0]["text"]


def with_boto3_stream():
    events = bedrock().converse_stream(**CONVERSE)["stream"]
    deltas = [event["contentBlockDelta"] for event in events if "contentBlockDelta" in event]
    return "".join(delta["delta"].get("text", "") for delta in deltas)


if __name__ == "__main__":
    assert not any(name.endswith("_BASE_URL") for name in os.environ)
    said = globals()[f"with_{sys.argv[1]}"](*sys.argv[2:])
    assert said
    print(said)

"""Client keys in SDKs: given where the provider's key belongs, they let in and go no further; without
a good one an SDK raises its usual exception, after one attempt."""

import subprocess

import anthropic
import boto3
import botocore
import openai
import pytest
from google import genai
from google.genai import errors, types

import sidecar
from sidecar import HERE, PROGRAM, Tollgate

QUESTION = "Say something."
MESSAGES = [{"role": "user", "content": QUESTION}]
CLAUDE, GEMINI = "claude-haiku-4-5", "gemini-2.5-flash"
NOVA = "amazon.nova-lite-v1:0"
WRONG = "tg_" + "0" * 49


class Gate(Tollgate):
    """A Tollgate with a client key."""

    def __init__(self, directory, mock):
        self.keys = directory / "keys.jsonl"
        self.key = self.create("ci")
        super().__init__(directory, mock, HERE / "keys.yaml")

    def create(self, name):
        """Makes a key, and returns it."""
        made = self.manage("create", name, "--label", "user=42")
        return made.stdout.strip()

    def manage(self, *arguments):
        command = [PROGRAM, "keys", *arguments, "--file", str(self.keys)]
        return subprocess.run(
            command, env=sidecar.ENVIRONMENT, capture_output=True, text=True, check=True
        )


@pytest.fixture(scope="module")
def gate(tmp_path_factory, mock):
    with Gate(tmp_path_factory.mktemp("gate"), mock) as running:
        yield running
        assert running.end() == 0, running.log.read_text()


@pytest.fixture
def calls(calls, gate):
    calls.tollgate = gate
    return calls


def by_openai(url, key, headers):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, default_headers=headers)
    answer = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=20)
    assert answer.choices[0].message.content


def by_anthropic(url, key, headers):
    client = anthropic.Anthropic(base_url=url, api_key=key, default_headers=headers)
    answer = client.messages.create(model=CLAUDE, messages=MESSAGES, max_tokens=20)
    assert answer.content[0].text


def by_google(url, key, headers):
    options = types.HttpOptions(base_url=url, headers=headers)
    client = genai.Client(api_key=key, http_options=options)
    assert client.models.generate_content(model=GEMINI, contents=QUESTION).text


def by_aws(url, key, headers):
    """Signed, with the client key beside: the signature gives way to Tollgate's own key."""
    client = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="AKIACLIENT",
        aws_secret_access_key="of the client",
    )

    def add(request, **_):
        for name, value in (headers | {"x-tollgate-key": key}).items():
            request.headers[name] = value

    client.meta.events.register("before-send.bedrock-runtime.*", add)
    messages = [{"role": "user", "content": [{"text": QUESTION}]}]
    assert client.converse(modelId=NOVA, messages=messages)["output"]


#: How each SDK calls, the header that its provider gets Tollgate's own key in, and what it raises.
SDKS = {
    "openai": (by_openai, ("authorization", "Bearer sk-ours"), openai.AuthenticationError),
    "anthropic": (by_anthropic, ("x-api-key", "sk-ours"), anthropic.AuthenticationError),
    "google": (by_google, ("x-goog-api-key", "sk-ours"), errors.ClientError),
    "aws": (by_aws, ("authorization", "Bearer sk-ours"), botocore.exceptions.ClientError),
}


@pytest.mark.parametrize("sdk", SDKS)
def test_the_provider_gets_its_own_key_in_place_of_the_client_s(calls, gate, sdk):
    call, (name, value), _ = SDKS[sdk]
    call(gate.url, gate.key, calls.headers())
    (received,) = calls.received()
    assert received["headers"][name] == value
    assert "tg_" not in str(received)
    (span,) = gate.spans(calls.session, 1)
    assert span["attributes"]["tollgate.key"] == "ci"
    assert span["attributes"]["tollgate.user"] == "42"
    assert "tg_" not in str(span)


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("key", [WRONG, "sk-of-the-client"])
def test_without_a_good_key_an_sdk_raises_after_one_attempt(calls, gate, sdk, key):
    call, _, error = SDKS[sdk]
    with pytest.raises(error) as raised:
        call(gate.url, key, calls.headers())
    assert "client key" in str(raised.value)
    assert calls.received() == []
    (span,) = gate.spans(calls.session, 1)
    assert span["attributes"]["tollgate.decision"] == "refused"


def test_a_revoked_key_raises_within_a_second(calls, gate):
    key = gate.create("leaver")
    sidecar.wait_for("the new key", lambda: lets_in(gate, key, calls), 1)
    gate.manage("revoke", "leaver")
    sidecar.wait_for("the revocation", lambda: not lets_in(gate, key, calls), 1)
    with pytest.raises(openai.AuthenticationError, match="revoked"):
        by_openai(gate.url, key, calls.headers())


def lets_in(gate, key, calls):
    status, _, _ = sidecar.request(
        f"{gate.url}/v1/models", headers=calls.headers() | {"x-tollgate-key": key}
    )
    assert status in (200, 401)
    return status == 200

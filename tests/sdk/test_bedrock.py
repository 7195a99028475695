"""AWS's Python SDK: Bedrock, with a key, and with requests that Tollgate signs again."""

import json

import boto3
import pytest
from botocore import UNSIGNED, auth, awsrequest, config, credentials, exceptions

from sidecar import HERE, Tollgate, part, wait_for

MODEL = "anthropic.claude-3-haiku-20240307-v1:0"
MESSAGES = [{"role": "user", "content": [{"text": "Say something."}]}]
TITAN = {"inputText": "Say something.", "textGenerationConfig": {"maxTokenCount": 500}}
CLAUDE = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 500,
    "messages": [{"role": "user", "content": "Say something."}],
}
#: What the mock knows.
KEYS = ("AKIAMOCK", "mock-secret")
THREE_ATTEMPTS = {"total_max_attempts": 3, "mode": "standard"}


def client_at(url, headers, signature=None, retries=THREE_ATTEMPTS, **settings):
    """A client that sends these headers along, unsigned: they are for Tollgate and the mock."""
    settings = {"region_name": "eu-west-1", "endpoint_url": url} | settings
    how = config.Config(retries=retries, read_timeout=20, signature_version=signature)
    client = boto3.client("bedrock-runtime", config=how, **settings)

    def add(request, **_):
        for name, value in headers.items():
            request.headers[name] = value

    client.meta.events.register("before-send.bedrock-runtime.*", add)
    return client


@pytest.fixture(scope="session")
def signing(tmp_path_factory, mock):
    """A Tollgate that signs with the keys that the mock knows."""
    directory = tmp_path_factory.mktemp("signing")
    file = directory / "credentials"
    file.write_text(
        f"[work]\naws_access_key_id = {KEYS[0]}\naws_secret_access_key = {KEYS[1]}\n"
    )
    more = {"AWS_SHARED_CREDENTIALS_FILE": str(file)}
    with Tollgate(directory, mock, HERE / "signing.yaml", more) as running:
        yield running
        assert running.end() == 0, running.log.read_text()


@pytest.fixture(params=["key", "signed again"])
def client(request, calls, tollgate, signing):
    """Makes clients of either sort; both reach the same mock. botocore itself sends a key only over
    TLS, so that it is put in here by hand."""
    if request.param == "key":
        key = {"authorization": "Bearer bedrock-api-key-test"}
        return lambda headers: client_at(tollgate.url, headers | key, UNSIGNED)
    calls.tollgate = signing
    keys = {"aws_access_key_id": "AKIACLIENT", "aws_secret_access_key": "of the client"}
    return lambda headers: client_at(signing.url, headers, **keys)


def converse(client):
    answer = client.converse(modelId=MODEL, messages=MESSAGES)
    return answer["output"]["message"]["content"][0]["text"]


def converse_stream(client):
    events = client.converse_stream(modelId=MODEL, messages=MESSAGES)["stream"]
    deltas = [event["contentBlockDelta"] for event in events if "contentBlockDelta" in event]
    return "".join(delta["delta"].get("text", "") for delta in deltas)


def invoke(client):
    answer = client.invoke_model(modelId=MODEL, body=json.dumps(CLAUDE))
    return json.loads(answer["body"].read())["content"][0]["text"]


def invoke_stream(client):
    model = "amazon.titan-text-express-v1"
    answer = client.invoke_model_with_response_stream(modelId=model, body=json.dumps(TITAN))
    chunks = [json.loads(event["chunk"]["bytes"]) for event in answer["body"]]
    return "".join(chunk["outputText"] for chunk in chunks)


CALLS = [converse, converse_stream, invoke, invoke_stream]


@pytest.mark.parametrize("call", CALLS)
def test_each_call_is_metered_and_priced(calls, client, call):
    assert call(client(calls.headers("reader", input=1000, output=200)))
    wanted = {
        "gen_ai.provider.name": "bedrock",
        "gen_ai.request.stream": True if "stream" in call.__name__ else None,
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 200,
        "tollgate.usage.source": "reported",
        "tollgate.agent": "reader",
        "tollgate.cost.usd": "0.006000000",
    }
    assert part(calls.span(), wanted) == wanted


def test_a_tool_is_called(calls, client):
    spec = {"name": "weather", "inputSchema": {"json": {"type": "object", "properties": {}}}}
    tools = {"tools": [{"toolSpec": spec}], "toolChoice": {"any": {}}}
    made = client(calls.headers())
    answer = made.converse(modelId=MODEL, messages=MESSAGES, toolConfig=tools)
    assert answer["stopReason"] == "tool_use"
    [called] = calls.span()["attributes"]["tollgate.tool_calls"]
    assert called["name"] == "weather"


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "ValidationException"), (403, "AccessDeniedException"), (404, "ResourceNotFoundException")],
)
def test_the_providers_error_is_the_sdks_usual_exception(calls, client, status, code):
    with pytest.raises(exceptions.ClientError) as raised:
        converse(client(calls.headers(status=status)))
    assert raised.value.response["Error"]["Code"] == code
    span = calls.span()
    assert span["status"] == "error"
    assert span["attributes"]["error.type"] == code


def test_an_exception_in_a_stream_is_raised(calls, client):
    made = client(calls.headers(stream_error=2, code="modelStreamErrorException"))
    with pytest.raises(exceptions.EventStreamError, match="modelStreamErrorException"):
        converse_stream(made)
    assert calls.span()["status"] == "error"


def test_a_client_that_leaves_mid_stream_ends_the_call_at_the_provider(calls, client):
    made = client(calls.headers(events=10_000, gap="20ms"))
    stream = made.converse_stream(modelId=MODEL, messages=MESSAGES)["stream"]
    next(iter(stream))
    stream.close()
    span = calls.span()
    assert span["status"] == "cancelled"
    assert span["attributes"]["tollgate.end"] == "client"
    wait_for("the mock is left", lambda: calls.received()[0]["end"] == "left")


def test_a_signature_of_tollgates_is_what_the_sdk_itself_would_sign(calls, signing):
    """The oracle of the mock's and Tollgate's own reckoning is botocore's."""
    calls.tollgate = signing
    keys = {"aws_access_key_id": "AKIACLIENT", "aws_secret_access_key": "of the client"}
    assert invoke(client_at(signing.url, calls.headers(), **keys))
    [received] = calls.received()
    sent = received["headers"]
    named = sent["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    request = awsrequest.AWSRequest(
        method=received["method"],
        url=f"http://{sent['host']}{received['target']}",
        data=json.dumps(CLAUDE),
        headers={name: sent[name] for name in named if name != "x-amz-date"},
    )
    request.context["timestamp"] = sent["x-amz-date"]
    signer = auth.SigV4Auth(credentials.Credentials(*KEYS), "bedrock", "eu-west-1")
    request.headers["x-amz-date"] = sent["x-amz-date"]
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    assert sent["authorization"].endswith(f"Signature={signature}")


def test_a_signed_call_is_refused_at_once_where_nobody_signs_it_again(calls, tmp_path, mock):
    with Tollgate(tmp_path, mock, HERE / "unsigned.yaml") as plain:
        keys = {"aws_access_key_id": "AKIACLIENT", "aws_secret_access_key": "of the client"}
        with pytest.raises(exceptions.ClientError, match="AWS_BEARER_TOKEN_BEDROCK") as raised:
            converse(client_at(plain.url, calls.headers(), **keys))
    response = raised.value.response
    assert response["Error"]["Code"] == "ValidationException"
    assert response["ResponseMetadata"]["RetryAttempts"] == 0

"""Sockets: OpenAI's Realtime and Responses through its SDK, Gemini's Live through Google's."""

import asyncio
import base64
import json

import openai
import pytest
from google import genai
from google.genai import errors, types
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from sidecar import DEADLINE, part, wait_for
from tls import Terminator

REALTIME = "gpt-realtime"
LIVE = "gemini-3.8-live"
TEXT = {"output_modalities": ["text"]}
COUNTS = {"input": 1000, "output": 200, "cached": 100}


def said(text):
    content = [{"type": "input_text", "text": text}]
    return {"type": "message", "role": "user", "content": content}


def run(talk):
    """What a client does that waits for its socket."""
    return asyncio.run(asyncio.wait_for(talk, DEADLINE))


def until(connection, kind):
    """The events up to the first of this kind."""
    events = []
    while not events or events[-1].type != kind:
        events.append(connection.recv())
    return events


async def async_until(connection, kind):
    events = []
    while not events or events[-1].type != kind:
        events.append(await connection.recv())
    return events


def spans_of(calls, turns):
    """The spans of the responses in the only socket, and its own."""
    spans = calls.spans(turns + 1)
    [socket] = [span for span in spans if span["kind"] == "http"]
    inside = [span for span in spans if span["kind"] == "llm"]
    assert all(span["parent_span_id"] == socket["span_id"] for span in inside)
    return inside, socket["attributes"]


def heard(calls):
    """What the mock heard in the only socket, as it came, once that has ended."""

    def ended():
        [socket] = [kept for kept in calls.received() if kept["status"] == 101]
        return socket if socket["end"] != "open" and socket["body"] else None

    messages = wait_for("the socket ends at the mock", ended)["body"].splitlines()
    return [json.loads(message) for message in messages]


WANTED = {
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": REALTIME,
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 200,
    "tollgate.agent": "voice",
    "tollgate.end": "complete",
    "tollgate.usage.source": "reported",
    # 900 at 4 dollars a million, 100 cached at 0.40, 200 at 16.
    "tollgate.cost.usd": "0.006840000",
}


def test_two_realtime_turns_of_one_socket_are_metered_and_priced(calls):
    client = openai.OpenAI(default_headers=calls.headers("voice", **COUNTS))
    ids = []
    with client.realtime.connect(model=REALTIME) as connection:
        created = connection.recv()
        assert (created.type, created.session.model) == ("session.created", REALTIME)
        for text in ("Good morning", "And again"):
            connection.conversation.item.create(item=said(text))
            connection.response.create(response=TEXT)
            response = until(connection, "response.done")[-1].response
            assert response.output[0].content[0].text == f"You said: {text}"
            assert (response.usage.input_tokens, response.usage.output_tokens) == (1000, 200)
            ids.append(response.id)
    turns, socket = spans_of(calls, 2)
    for span, response_id in zip(turns, ids, strict=True):
        assert part(span, WANTED) == WANTED
        assert span["attributes"]["gen_ai.response.id"] == response_id
    assert socket["tollgate.socket.responses"] == 2
    assert socket["tollgate.socket.cost_usd"] == "0.013680000"
    assert socket["tollgate.cost.usd"] == "0.000000000"


def test_an_async_client_and_handlers_see_the_same(calls):
    async def talk():
        client = openai.AsyncOpenAI(default_headers=calls.headers("voice", **COUNTS))
        async with client.realtime.connect(model=REALTIME) as connection:
            await connection.conversation.item.create(item=said("Good morning"))
            await connection.response.create(response=TEXT)
            events = await async_until(connection, "response.done")
            return "".join(e.delta for e in events if e.type == "response.output_text.delta")

    assert run(talk()) == "You said: Good morning"
    [span], _ = spans_of(calls, 1)
    assert part(span, WANTED) == WANTED


def test_audio_passes_as_it_is_both_ways_and_is_priced_as_audio(calls):
    sound = bytes(range(1, 241)) * 100
    client = openai.OpenAI(default_headers=calls.headers("voice", text="Yes sir"))
    with client.realtime.connect(model=REALTIME) as connection:
        connection.recv()
        audio = base64.b64encode(sound).decode()
        connection.input_audio_buffer.append(audio=audio)
        connection.input_audio_buffer.commit()
        connection.response.create()
        events = until(connection, "response.done")
    spoken = [e.delta for e in events if e.type == "response.output_audio.delta"]
    spoken = b"".join(map(base64.b64decode, spoken))
    assert spoken == b"".join(bytes([byte]) * 600 for byte in b"Yes sir")
    assert heard(calls)[0]["audio"] == audio
    [span], _ = spans_of(calls, 1)
    wanted = {
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 2,
        # 5 at 32 dollars a million, 2 at 64.
        "tollgate.cost.usd": "0.000288000",
    }
    assert part(span, wanted) == wanted


def test_a_response_that_voice_detection_begins_is_metered(calls):
    client = openai.OpenAI(default_headers=calls.headers("voice", **COUNTS))
    detection = {"input": {"turn_detection": {"type": "server_vad"}}}
    with client.realtime.connect(model=REALTIME) as connection:
        session = {"type": "realtime", "audio": detection, **TEXT}
        connection.session.update(session=session)
        for sound in (b"\1" * 4800, bytes(4800)):
            connection.input_audio_buffer.append(audio=base64.b64encode(sound).decode())
        until(connection, "response.done")
    [span], _ = spans_of(calls, 1)
    wanted = {"gen_ai.usage.input_tokens": 1000, "tollgate.decision": "admitted"}
    assert part(span, wanted) == wanted


def closed(raised):
    """Code and reason of the close frame that came."""
    frame = raised.value.rcvd
    return frame.code, frame.reason


def test_an_exhausted_budget_is_an_error_event_and_a_closed_realtime_socket(calls):
    client = openai.OpenAI(default_headers=calls.headers("broke"))
    with client.realtime.connect(model=REALTIME) as connection:
        connection.recv()
        connection.response.create(response=TEXT, event_id="mine")
        event = connection.recv()
        assert (event.type, event.error.code) == ("error", "insufficient_quota")
        assert event.error.event_id == "mine"
        assert "nothing" in event.error.message
        with pytest.raises(ConnectionClosedError) as raised:
            connection.recv()
    code, reason = closed(raised)
    assert code == 1008 and "nothing" in reason
    [refused], socket = spans_of(calls, 1)
    assert refused["status"] == "blocked"
    assert refused["attributes"]["tollgate.blocked_by"] == "budget.nothing"
    assert socket["tollgate.end"] == "cut"


def test_a_socket_that_a_rate_limit_refuses_does_not_open(calls):
    calls.until_refused("hurried")
    client = openai.OpenAI(default_headers=calls.headers("hurried"))
    with pytest.raises(InvalidStatus) as raised:
        client.realtime.connect(model=REALTIME).enter()
    answer = raised.value.response
    assert answer.status_code == 429
    assert answer.headers["x-tollgate-blocked-by"] == "rate.unhurried"


RESPONSE = {
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 200,
    "tollgate.end": "complete",
    # 900 at 2.50 dollars a million, 100 cached at 1.25, 200 at 10.
    "tollgate.cost.usd": "0.004375000",
}


def test_two_responses_of_one_socket_are_metered_and_priced(calls):
    client = openai.OpenAI(default_headers=calls.headers("coder", **COUNTS))
    previous = openai.omit
    with client.responses.connect() as connection:
        for text in ("Good morning", "And again"):
            connection.response.create(model="gpt-4o", input=text, previous_response_id=previous)
            response = until(connection, "response.completed")[-1].response
            assert response.output_text == f"You said: {text}"
            previous = response.id
    turns, socket = spans_of(calls, 2)
    for span in turns:
        assert part(span, RESPONSE) == RESPONSE
    assert turns[1]["attributes"]["gen_ai.response.id"] == previous
    assert socket["tollgate.socket.cost_usd"] == "0.008750000"
    assert [message["input"] for message in heard(calls)] == ["Good morning", "And again"]


def test_an_async_responses_socket_is_the_same(calls):
    async def talk():
        client = openai.AsyncOpenAI(default_headers=calls.headers("coder", **COUNTS))
        async with client.responses.connect() as connection:
            await connection.response.create(model="gpt-4o", input="Good morning")
            await async_until(connection, "response.completed")

    run(talk())
    [span], _ = spans_of(calls, 1)
    assert part(span, RESPONSE) == RESPONSE


def test_an_exhausted_budget_is_an_error_event_and_a_closed_responses_socket(calls):
    client = openai.OpenAI(default_headers=calls.headers("broke"))
    with client.responses.connect() as connection:
        connection.response.create(model="gpt-4o", input="Good morning")
        event = connection.recv()
        assert (event.type, event.code) == ("error", "insufficient_quota")
        assert "nothing" in event.message
        with pytest.raises(ConnectionClosedError) as raised:
            connection.recv()
    assert closed(raised)[0] == 1008
    [refused], _ = spans_of(calls, 1)
    assert refused["attributes"]["tollgate.blocked_by"] == "budget.nothing"


@pytest.fixture(scope="session")
def terminator(tmp_path_factory, tollgate):
    """Google's SDK opens sockets with TLS, whatever the base URL says."""
    with Terminator(tmp_path_factory.mktemp("tls"), tollgate.url) as running:
        yield running


@pytest.fixture
def live(calls, terminator, monkeypatch):
    """Opens a Live socket for an agent, with these settings."""
    monkeypatch.setenv("SSL_CERT_FILE", str(terminator.authority))

    def connect(agent, modality, **settings):
        headers = calls.headers(agent, **settings)
        options = types.HttpOptions(base_url=terminator.url, headers=headers)
        config = {"response_modalities": [modality]}
        return genai.Client(http_options=options).aio.live.connect(model=LIVE, config=config)

    return connect


async def ask(session, text):
    """Says something, and returns what the model says to it."""
    turn = types.Content(role="user", parts=[types.Part(text=text)])
    await session.send_client_content(turns=turn, turn_complete=True)
    return [message async for message in session.receive()]


def test_two_live_turns_of_one_socket_are_metered_and_priced(calls, live):
    async def talk():
        async with live("voice", "TEXT", input=1000, output=200) as session:
            for text in ("Good morning", "And again"):
                messages = await ask(session, text)
                assert "".join(m.text or "" for m in messages) == f"You said: {text}"
                assert messages[-1].usage_metadata.prompt_token_count == 1000

    run(talk())
    turns, socket = spans_of(calls, 2)
    wanted = {
        "gen_ai.provider.name": "gemini",
        "gen_ai.request.model": LIVE,
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 200,
        "tollgate.agent": "voice",
        "tollgate.end": "complete",
        # At 0.75 and 4.50 dollars a million.
        "tollgate.cost.usd": "0.001650000",
    }
    for span in turns:
        assert part(span, wanted) == wanted
    assert socket["tollgate.socket.cost_usd"] == "0.003300000"


def test_live_audio_passes_as_it_is_both_ways_and_is_priced_as_audio(calls, live):
    sound = bytes(range(1, 241)) * 40

    async def talk():
        async with live("voice", "AUDIO", text="Yes sir") as session:
            for data in (sound, bytes(4800)):
                blob = types.Blob(data=data, mime_type="audio/pcm;rate=16000")
                await session.send_realtime_input(audio=blob)
            return [message async for message in session.receive()]

    messages = run(talk())
    spoken = b"".join(message.data or b"" for message in messages)
    assert spoken == b"".join(bytes([byte]) * 600 for byte in b"Yes sir")
    audio = heard(calls)[1]["realtime_input"]["audio"]
    assert base64.urlsafe_b64decode(audio["data"]) == sound
    [span], _ = spans_of(calls, 1)
    wanted = {
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 2,
        # 3 at 3 dollars a million, 2 at 12.
        "tollgate.cost.usd": "0.000033000",
    }
    assert part(span, wanted) == wanted


def test_an_exhausted_budget_is_the_sdks_error_with_the_code_of_the_close(calls, live):
    async def talk():
        async with live("broke", "TEXT") as session:
            await ask(session, "Good morning")

    with pytest.raises(errors.APIError, match="nothing") as raised:
        run(talk())
    assert raised.value.code == 1008
    [refused], socket = spans_of(calls, 1)
    assert refused["attributes"]["tollgate.blocked_by"] == "budget.nothing"
    assert socket["tollgate.end"] == "cut"

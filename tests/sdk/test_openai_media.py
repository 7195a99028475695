"""OpenAI's Python SDK: images, audio, moderations."""

from openai import OpenAI

from sidecar import part

IMAGE = {"model": "gpt-image-1", "prompt": "An otter"}
DRAWN = {"gen_ai.usage.output_tokens": 1000, "tollgate.cost.usd": "0.040250000"}
#: Nine seconds, as the mock counts them.
SOUND = ("a.mp3", bytes(144_000))


def test_images_are_made_and_priced(calls):
    client = OpenAI(default_headers=calls.headers(input=50, output=1000))
    answer = client.images.generate(**IMAGE)
    assert answer.data[0].b64_json and answer.usage.output_tokens == 1000
    assert part(calls.span(), DRAWN) == DRAWN


def test_streamed_images_are_priced(calls):
    client = OpenAI(default_headers=calls.headers(input=50, output=1000))
    events = list(client.images.generate(**IMAGE, stream=True, partial_images=2))
    assert [event.type for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert part(calls.span(), DRAWN) == DRAWN


def test_an_image_in_a_form_is_changed_and_priced(calls):
    client = OpenAI(default_headers=calls.headers(input=50, output=1000))
    answer = client.images.edit(image=("a.png", b"PNG", "image/png"), **IMAGE)
    assert answer.data[0].b64_json
    span = calls.span()["attributes"]
    assert span["gen_ai.request.model"] == "gpt-image-1"
    assert span["gen_ai.usage.output_tokens"] == 1000
    assert float(span["tollgate.cost.usd"]) >= 0.04


def test_speech_is_priced_by_its_text(calls):
    client = OpenAI(default_headers=calls.headers())
    answer = client.audio.speech.create(model="tts-1", voice="coral", input="x" * 1000)
    assert answer.content.startswith(b"ID3")
    wanted = {"tollgate.cost.usd": "0.015000000", "tollgate.usage.source": "estimated"}
    assert part(calls.span(), wanted) == wanted


def test_a_transcript_is_priced_by_its_length(calls):
    client = OpenAI(default_headers=calls.headers(text="Six by nine"))
    answer = client.audio.transcriptions.create(model="whisper-1", file=SOUND)
    assert answer.text == "Six by nine"
    wanted = {"gen_ai.request.model": "whisper-1", "tollgate.cost.usd": "0.000900000"}
    assert part(calls.span(), wanted) == wanted


def test_a_streamed_transcript_is_priced_by_its_tokens(calls):
    client = OpenAI(default_headers=calls.headers(input=100, output=20))
    events = list(
        client.audio.transcriptions.create(model="gpt-4o-transcribe", file=SOUND, stream=True)
    )
    text = "".join(event.delta for event in events[:-1])
    assert text and events[-1].text == text
    # All input is audio: 100 tokens at $6, 20 at $10.
    wanted = {"gen_ai.usage.input_tokens": 100, "tollgate.cost.usd": "0.000800000"}
    assert part(calls.span(), wanted) == wanted


def test_moderations_cost_nothing(calls):
    client = OpenAI(default_headers=calls.headers())
    answer = client.moderations.create(input="Good morning")
    assert not answer.results[0].flagged
    assert calls.span()["attributes"].get("tollgate.cost.usd") in (None, "0.000000000")

//! Audio: speech that a model makes of text, and the text that it hears in audio.

use super::{fault, usage};
use crate::{
    call::{
        facts::{Operation, RequestFacts, ResponseFacts, Unsaid},
        text::Text,
        usage::Usage,
    },
    provider::{
        dialect::Event,
        openai::operations,
        wire::json::{Json, Unreadable},
    },
};

/// Bytes of a second of audio, as it mostly is sent (128 kbit/s).
const LIKELY_SECOND: u64 = 16_000;
/// The fewest bytes of a second of audio in any coding of speech (4 kbit/s).
const LEAST_SECOND: u64 = 500;

/// Reads what only requests of audio have. Speech that comes as bare audio says nothing of its
/// usage, and a transcript that comes as bare text neither.
pub(super) fn ask(op: &Operation, body: Json<'_>, facts: &mut RequestFacts) {
    if *op == operations::SPEECH {
        facts.stream |= body
            .get("stream_format")
            .is_some_and(|format| format.str().as_deref() == Some("sse"));
        let Some(text) = body.get("input").and_then(Json::str) else {
            return;
        };
        let characters = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
        // A minute of speech is 1,250 tokens, and some 800 characters, or 200 if it is very slow.
        let spoken = |input, output| Usage {
            characters: Some(characters),
            ..Usage::text(input, output)
        };
        let bytes = facts.input.text_bytes.bytes;
        let most = characters.saturating_mul(6);
        facts.unsaid = Some(Unsaid {
            likely: spoken(bytes.div_ceil(4), characters.saturating_mul(3).div_ceil(2)),
            most: spoken(bytes, most),
        });
        facts.output_limit = Some(most);
        return;
    }
    let file = body.get("file").and_then(|file| file.get("bytes")?.u64());
    match file {
        Some(bytes) => facts.input.media_bytes = facts.input.media_bytes.saturating_add(bytes),
        None => facts.input.linked += 1,
    }
    let heard = |second: u64| Usage {
        audio_seconds: file.map(|bytes| bytes.div_ceil(second)),
        ..Usage::NONE
    };
    facts.unsaid = Some(Unsaid {
        likely: heard(LIKELY_SECOND),
        most: heard(LEAST_SECOND),
    });
}

/// Reads one event, or a whole answer: JSON, or bare text.
pub(super) fn read(event: &Event<'_>, facts: &mut ResponseFacts) -> Result<(), Unreadable> {
    let first = event.data.trim_ascii_start().first();
    if event.whole && first.is_some_and(|first| *first != b'{') {
        facts.output_bytes += Text::of(&event.data);
        facts.complete = true;
        return Ok(());
    }
    let (mut kind, mut text, mut delta, mut length) =
        (None, Text::default(), Text::default(), None);
    Json::document(&event.data).object(|key, value| match key {
        b"type" => kind = value.take().str(),
        b"text" => text = value.count(),
        b"delta" => delta = value.count(),
        b"duration" => length = usage::seconds(value.take()),
        b"usage" if value.is_object() => facts.usage.update(&usage::read(value).usage),
        b"error" => facts.error = fault::read(value).or_else(|| facts.error.take()),
        _ => {},
    })?;
    if event.whole {
        facts.output_bytes += text;
        if !facts.usage.is_reported() {
            facts.usage.audio_seconds = length;
        }
    } else if kind.as_deref() == Some("transcript.text.delta") {
        facts.output_bytes += delta;
    }
    if kind.as_deref() == Some("speech.audio.done") {
        facts.usage.output_audio = facts.usage.output;
    }
    facts.complete |= event.whole || kind.is_some_and(|kind| kind.ends_with(".done"));
    Ok(())
}

/// Whether an event that was not read whole may bring text: the last one says again all of it.
pub(super) fn may_write(event: &Event<'_>) -> bool {
    let kind = Json::document(&event.data).get("type").and_then(Json::str);
    kind.is_none_or(|kind| kind == "transcript.text.delta")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(body: &str) -> ResponseFacts {
        let mut facts = ResponseFacts::default();
        read(&Event::body(body.as_bytes()), &mut facts).unwrap();
        facts
    }

    #[test]
    fn a_transcript_is_billed_by_tokens_or_by_its_length() {
        let tokens = whole(
            r#"{"text":"Hello","usage":{"type":"tokens","input_tokens":14,
            "input_token_details":{"text_tokens":4,"audio_tokens":10},"output_tokens":3,
            "total_tokens":17}}"#,
        );
        let expected = Usage {
            input_audio: Some(10),
            ..Usage::text(14, 3)
        };
        assert_eq!((tokens.usage, tokens.output_bytes.bytes), (expected, 5));
        let length = whole(r#"{"text":"Hi","usage":{"type":"duration","seconds":9}}"#);
        assert_eq!(length.usage.audio_seconds, Some(9));
        let old = whole(r#"{"task":"transcribe","duration":8.47,"text":"Hi"}"#);
        assert_eq!(old.usage.audio_seconds, Some(9));
    }

    #[test]
    fn bare_text_is_an_answer_without_usage() {
        let facts = whole("1\n00:00:00,000 --> 00:00:02,000\nHello\n");
        assert!(facts.complete && facts.output_bytes.bytes > 5);
        assert_eq!(facts.usage, Usage::NONE);
    }

    #[test]
    fn what_speech_is_billed_by_is_known_from_its_text() {
        let mut facts = RequestFacts::default();
        facts.input.text_bytes = Text::unknown(40);
        let body = r#"{"model":"tts-1","input":"Grüße","voice":"alloy","stream_format":"sse"}"#;
        ask(
            &operations::SPEECH,
            Json::document(body.as_bytes()),
            &mut facts,
        );
        let unsaid = facts.unsaid.unwrap();
        assert_eq!(unsaid.likely.characters, Some(5));
        assert_eq!(
            (unsaid.likely.output, unsaid.most.output),
            (Some(8), Some(30))
        );
        // No text has more tokens than bytes.
        assert_eq!(
            (unsaid.likely.input, unsaid.most.input),
            (Some(10), Some(40))
        );
        assert!(facts.stream);
    }
}

//! OpenAI's audio: speech, and what is heard in a file. A second of either is 16,000 bytes and ten
//! tokens.

use bytes::Bytes;

use super::{
    answer::failing,
    behaviour::Newline,
    conversation::tokens,
    endpoint::Order,
    images::error,
    json::{Json, Members, object},
    problem::Problem,
    reply::{Payload, named_event},
};

const SECOND: usize = 16_000;
const TOKENS_A_SECOND: u64 = 10;

/// Reads a text aloud, ten characters a second: bare audio, or events of it.
pub(super) fn speak(order: &Order<'_>) -> Result<Payload, Problem> {
    let text = order.required("input")?;
    order.required("voice")?;
    let seconds = text.chars().count().div_ceil(10);
    let second = Bytes::from([b"ID3".as_slice(), &vec![0; SECOND - 3]].concat());
    if order
        .body
        .get("stream_format")
        .and_then(|format| format.as_str())
        != Some("sse")
    {
        return Ok(Payload::Stream(vec![second; seconds], "audio/mpeg"));
    }
    let kind = "speech.audio.delta";
    let delta = object! {"type": kind, "audio": base64(&second)};
    let mut events = vec![named_event(kind, &delta); seconds];
    let kind = "speech.audio.done";
    let mut last = Members::new().with("type", &kind);
    let made = u64::try_from(seconds).unwrap_or(0) * TOKENS_A_SECOND;
    put_usage(&mut last, order, tokens(text.len()), made, false);
    events.push(named_event(kind, &last.close()));
    Ok(stream(order, events))
}

fn base64(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}

fn stream(order: &Order<'_>, events: Vec<Bytes>) -> Payload {
    let events = failing(events, order.behaviour, |problem| {
        named_event("error", &error(problem))
    });
    Payload::Events(events, Newline::Lf)
}

/// Writes down what is heard in a file: its length. `whisper` is billed by the second and does not
/// stream; others count tokens.
pub(super) fn transcribe(order: &Order<'_>, translated: bool) -> Result<Payload, Problem> {
    if order.body.get("file").is_none() {
        return Err(Problem::invalid("Missing required parameter: 'file'.").param("file"));
    }
    let seconds = u64::try_from(order.file.len().div_ceil(SECOND)).unwrap_or(u64::MAX);
    let text = order.behaviour.answer.text.clone();
    let text = text.unwrap_or_else(|| format!("The audio is {seconds} s long."));
    let by_second = order.model.contains("whisper");
    if order.flag("stream") && !by_second {
        let kind = "transcript.text.delta";
        let delta = |piece| {
            let data = object! {"type": kind, "delta": piece, "logprobs": [(); 0]};
            named_event(kind, &data)
        };
        let mut events: Vec<_> = text.split_inclusive(' ').map(delta).collect();
        let kind = "transcript.text.done";
        let mut last = Members::new().with("type", &kind).with("text", &text);
        heard(&mut last, order, seconds, &text);
        events.push(named_event(kind, &last.close()));
        return Ok(stream(order, events));
    }
    let format = order.body.get("response_format");
    let mut members = Members::new();
    match format.and_then(|format| format.as_str()) {
        Some("text") => {
            return Ok(Payload::Stream(
                vec![format!("{text}\n").into()],
                "text/plain",
            ));
        },
        Some(format @ ("srt" | "vtt")) => {
            return Ok(Payload::Stream(
                vec![subtitle(format, seconds, &text)],
                "text/plain",
            ));
        },
        Some("verbose_json") => {
            let task = if translated {
                "translate"
            } else {
                "transcribe"
            };
            members = members
                .with("task", &task)
                .with("language", &"english")
                .with(
                    "duration",
                    &(f64::from(u32::try_from(seconds).unwrap_or(u32::MAX))),
                )
                .with("segments", &[(); 0]);
        },
        _ => {},
    }
    members.put("text", &text);
    if !order.behaviour.answer.usage.absent && by_second {
        members.put("usage", &object! {"type": "duration", "seconds": seconds});
    } else {
        heard(&mut members, order, seconds, &text);
    }
    Ok(Payload::json(&members.close()))
}

fn heard(members: &mut Members, order: &Order<'_>, seconds: u64, text: &str) {
    let input = seconds.saturating_mul(TOKENS_A_SECOND);
    put_usage(members, order, input, tokens(text.len()), true);
}

/// The usage in tokens; all of the input is audio, or none of it.
fn put_usage(members: &mut Members, order: &Order<'_>, input: u64, output: u64, audio: bool) {
    let wanted = order.behaviour.answer.usage;
    if wanted.absent {
        return;
    }
    let (input, output) = (
        wanted.input.unwrap_or(input),
        wanted.output.unwrap_or(output),
    );
    let mut usage = Members::new();
    if audio {
        let details: Json = object! {"text_tokens": 0, "audio_tokens": input};
        usage = usage
            .with("type", &"tokens")
            .with("input_token_details", &details);
    }
    let usage = usage
        .with("input_tokens", &input)
        .with("output_tokens", &output)
        .with("total_tokens", &input.saturating_add(output));
    members.put("usage", &usage.close());
}

fn subtitle(format: &str, seconds: u64, text: &str) -> Bytes {
    let head = if format == "vtt" { "WEBVTT\n\n" } else { "1\n" };
    let comma = if format == "vtt" { '.' } else { ',' };
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    format!("{head}00:00:00{comma}000 --> 00:{minutes:02}:{seconds:02}{comma}000\n{text}\n\n")
        .into()
}

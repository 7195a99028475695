//! Images that a model makes or changes: requests, and answers, whole and as events.

use super::{fault, usage};
use crate::{
    call::{
        facts::{RequestFacts, ResponseFacts, Unsaid},
        usage::Usage,
    },
    provider::{
        dialect::Event,
        state::StreamState,
        wire::json::{Ahead, Json, Unreadable},
    },
};

/// Reads what only requests for images have. Models that are billed by the piece report no usage:
/// the request says how many there will be.
pub(super) fn ask(facts: &mut RequestFacts) {
    let pieces = Usage {
        images: Some(facts.choices()),
        ..Usage::NONE
    };
    facts.unsaid = Some(Unsaid {
        likely: pieces,
        most: pieces,
    });
}

/// Reads one event, or a whole answer.
pub(super) fn read(
    event: &Event<'_>,
    facts: &mut ResponseFacts,
    state: &mut StreamState,
) -> Result<(), Unreadable> {
    let (mut kind, mut found) = (None, None);
    Json::document(&event.data).object(|key, value| match key {
        b"type" => kind = value.take().str(),
        b"usage" if value.is_object() => found = Some(read_usage(value)),
        b"error" => facts.error = fault::read(value).or_else(|| facts.error.take()),
        _ => {},
    })?;
    // Each image of a stream is completed by an event of its own.
    let is_made = kind.is_some_and(|kind| kind.ends_with(".completed"));
    if let Some(found) = found.filter(|_| event.whole || is_made) {
        facts.usage.add(&found);
    }
    state.done = state.done.saturating_add(u32::from(is_made));
    facts.complete |= event.whole || (is_made && state.done >= state.choices);
    Ok(())
}

/// All output is images, but for what is said to be text.
fn read_usage(value: Ahead<'_, '_>) -> Usage {
    let found = usage::read(value).usage;
    Usage {
        output_image: found.output_image.or(found.output),
        ..found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(event: &Event<'_>) -> ResponseFacts {
        let mut facts = ResponseFacts::default();
        read(event, &mut facts, &mut StreamState::default()).unwrap();
        facts
    }

    #[test]
    fn all_output_is_images_unless_some_is_said_to_be_text() {
        let plain = facts(&Event::body(
            br#"{"created":1,"data":[{"b64_json":"AA"}],"usage":{"input_tokens":50,
            "input_tokens_details":{"text_tokens":10,"image_tokens":40},
            "output_tokens":1056,"total_tokens":1106}}"#,
        ));
        let expected = Usage {
            input_image: Some(40),
            output_image: Some(1056),
            ..Usage::text(50, 1056)
        };
        assert_eq!((plain.usage, plain.complete), (expected, true));
        let mixed = facts(&Event::body(
            br#"{"usage":{"input_tokens":5,"output_tokens":100,
            "output_tokens_details":{"text_tokens":60,"image_tokens":40}}}"#,
        ));
        assert_eq!(mixed.usage.output_image, Some(40));
    }

    #[test]
    fn each_image_of_a_stream_counts_and_unfinished_ones_do_not() {
        let mut facts = ResponseFacts::default();
        let mut state = StreamState::default();
        state.choices = 2;
        let done = r#"{"type":"image_edit.completed","b64_json":"AA",
            "usage":{"input_tokens":5,"output_tokens":100}}"#;
        let half = r#"{"type":"image_edit.partial_image","partial_image_index":0,"b64_json":"AA"}"#;
        for event in [half, done, half] {
            read(&Event::data(event.as_bytes()), &mut facts, &mut state).unwrap();
            assert!(!facts.complete);
        }
        read(&Event::data(done.as_bytes()), &mut facts, &mut state).unwrap();
        assert_eq!(facts.usage.output_image, Some(200));
        assert_eq!(facts.usage.total(), 210);
        assert!(facts.complete);
    }
}

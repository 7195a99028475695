//! Chat answers prepared once, for benches: no parsing, no record, no settings but the number and
//! the pace of the events. An answer of about 1.3 kB, or a stream with usage, a write an event.

use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem::Finder;

use super::{
    answer::{Ask, Ids},
    behaviour::Behaviour,
    chat,
    conversation::{Conversation, Turn},
    reply::{Payload, Reply},
    script,
};

/// The prepared answers.
pub(super) struct Fast {
    whole: Prepared,
    stream: Prepared,
    streams: [Finder<'static>; 2],
}

#[derive(Clone)]
struct Prepared {
    frames: Arc<[Bytes]>,
    content_type: &'static str,
}

impl Fast {
    /// Text of 60 events unless the behaviour says otherwise.
    pub(super) fn new(behaviour: &Behaviour, seed: u64, now: u64) -> Self {
        let mut behaviour = behaviour.clone();
        behaviour.answer.events.get_or_insert(60);
        behaviour.answer.event_size.get_or_insert(11);
        let prepare = |stream| {
            let asked = Conversation {
                model: "gpt-4o-mini".to_owned(),
                turns: vec![Turn::User("x".repeat(1_500))],
                answers: 1,
                stream,
                ..Conversation::default()
            };
            let mut ask = Ask {
                said: &script::say(&asked, None, &behaviour),
                asked: &asked,
                behaviour: &behaviour,
                ids: &mut Ids::new(seed),
                now,
            };
            Prepared::from(chat::write(&mut ask, true))
        };
        Self {
            whole: prepare(false),
            stream: prepare(true),
            streams: [
                Finder::new("\"stream\":true"),
                Finder::new("\"stream\": true"),
            ],
        }
    }

    /// The answer to a request with this body.
    pub(super) fn reply(&self, body: &[u8]) -> Reply {
        let stream = self
            .streams
            .iter()
            .any(|stream| stream.find(body).is_some());
        let prepared = if stream { &self.stream } else { &self.whole };
        Reply::ok(Payload::Prepared {
            frames: Arc::clone(&prepared.frames),
            content_type: prepared.content_type,
        })
    }
}

impl From<Payload> for Prepared {
    fn from(payload: Payload) -> Self {
        Self {
            content_type: payload.content_type(),
            frames: match payload {
                Payload::Json(bytes) => [bytes].into(),
                Payload::Events(events, _) | Payload::Stream(events, _) => events.into(),
                Payload::Prepared { frames, .. } => frames,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(body: &str) -> Arc<[Bytes]> {
        match Fast::new(&Behaviour::default(), 1, 1)
            .reply(body.as_bytes())
            .payload
        {
            Payload::Prepared { frames, .. } => frames,
            other => panic!("not prepared: {other:?}"),
        }
    }

    #[test]
    fn an_answer_is_about_1300_bytes_and_a_stream_has_60_events_of_text() {
        let whole = frames("{}");
        assert_eq!(whole.len(), 1);
        assert!(
            (1_200..1_500).contains(&whole[0].len()),
            "{} bytes",
            whole[0].len()
        );
        let role_finish_usage_done = 4;
        assert_eq!(
            frames("{\"stream\": true}").len(),
            60 + role_finish_usage_done
        );
    }
}

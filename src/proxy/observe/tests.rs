//! Tests of the observer.

use http::Method;

use super::*;
use crate::{
    call::{
        facts::{RequestFacts, Spends},
        outcome::Kind,
        refusal::Refusal,
    },
    provider::Unreadable,
};

const CHAT: &Operation = &Operation {
    name: "chat",
    gen_ai: Some("chat"),
    kind: Kind::Llm,
    spends: Spends::Tokens,
};

/// A dialect whose reader has a fault.
struct Faulty;

impl Dialect for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn operation(&self, _: &Method, _: &str) -> &'static Operation {
        CHAT
    }

    fn read_request(
        &self,
        _: &Operation,
        _: &str,
        _: &[u8],
        _: &mut RequestFacts,
    ) -> Result<(), Unreadable> {
        Ok(())
    }

    fn read_event(
        &self,
        _: &Operation,
        event: &Event<'_>,
        _: &mut ResponseFacts,
        _: &mut StreamState,
    ) -> Result<(), Unreadable> {
        assert!(!event.data.starts_with(b"bad"), "a fault of ours");
        Ok(())
    }

    fn error_body(&self, _: u16, _: &Refusal, _: &str) -> Bytes {
        Bytes::new()
    }
}

struct Always;

impl Progress for Always {
    fn may_go_on(&mut self, _: &ResponseFacts) -> bool {
        true
    }
}

#[test]
fn a_fault_in_a_reader_loses_no_byte_of_the_stream() {
    let stream = b"data: good\n\ndata: bad\n\ndata: good\n\n";
    let headers =
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))]);
    for editable in [true, false] {
        let mut observer = Observer::new(&Faulty, CHAT, &headers, editable);
        let mut out = VecDeque::new();
        for byte in stream {
            let chunk = Bytes::copy_from_slice(&[*byte]);
            observer.take(chunk, false, &mut out, &mut Always);
        }
        observer.end(&mut out, &mut Always);
        let passed: Vec<u8> = out.into_iter().flatten().collect();
        assert_eq!(passed, stream);
        assert!(observer.partial.unwrap().contains("panicked"));
    }
}

//! What a dialect is: how one wire format is read, edited, refused and ended early.

use std::{borrow::Cow, fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::{
    socket::Socket,
    splice::Splice,
    state::StreamState,
    wire::{framing::Framing, json::Unreadable, scan::Wants},
};
use crate::{
    base::clock::Timestamp,
    call::{
        facts::{Operation, RequestFacts, ResponseFacts},
        refusal::{Rate, Reason, Refusal},
        usage::Usage,
    },
};

/// What a request is that is no POST, of a dialect in which only those make a model work.
pub(super) fn other_than_post(method: &Method) -> &'static Operation {
    if method.is_safe() || *method == Method::DELETE {
        &Operation::READ
    } else {
        &Operation::OTHER
    }
}

/// A wire format. Pure: bytes in, facts out. Whatever it cannot read leaves the facts as they are.
pub trait Dialect: Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &'static str;

    /// What a request to `path` is. The path is the provider's, without the query; only its end is
    /// looked at, so that prefixes and versions do not matter.
    fn operation(&self, method: &Method, path: &str) -> &'static Operation;

    /// Reads a request: the path, and a body of plain JSON, whole or reduced by
    /// [`super::wire::scan::Scanner`]. What stands in the path is read whatever the body is.
    ///
    /// # Errors
    /// The body is not a JSON object; what was read before the place stays in `facts`.
    fn read_request(
        &self,
        op: &Operation,
        path: &str,
        body: &[u8],
        facts: &mut RequestFacts,
    ) -> Result<(), Unreadable>;

    /// The fields that are kept of a body or an event that is too large to hold.
    fn wanted(&self) -> Wants {
        Wants::default()
    }

    /// How a response with this content type is divided into events; `None`: it is one document.
    /// To be said again only by a dialect whose streams do not show by their content type.
    fn framing(&self, _op: &Operation, content_type: &str) -> Option<Framing> {
        Framing::of(content_type)
    }

    /// The name of the list whose items are the answers, where the results of a batch are one
    /// document ([`crate::call::facts::Spends::Lines`]); `None`: each stands on a line.
    fn list(&self, _op: &Operation) -> Option<&'static str> {
        None
    }

    /// Reads what a response's headers say of it; before its body, whose word goes before theirs.
    fn read_headers(
        &self,
        _op: &Operation,
        _headers: &HeaderMap,
        _facts: &mut ResponseFacts,
        _state: &mut StreamState,
    ) {
    }

    /// Reads one event of a stream, or a whole body ([`Event::body`]). What ends and cuts a stream
    /// need to know is kept in `state`, which belongs to the response as `facts` does.
    ///
    /// # Errors
    /// The event is not a JSON object; what was read before the place stays.
    fn read_event(
        &self,
        op: &Operation,
        event: &Event<'_>,
        facts: &mut ResponseFacts,
        state: &mut StreamState,
    ) -> Result<(), Unreadable>;

    /// Names of fields whose values are no text that the model wrote, however deep they stand in an
    /// event: pictures, sound, what was looked up. The rest of an event that is too large to read
    /// whole counts as such text.
    fn no_text(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether an event that was too large to read whole may bring text that the model wrote and that
    /// no event before it has brought.
    fn may_write(&self, _op: &Operation, _event: &Event<'_>) -> bool {
        true
    }

    /// The edit that makes a stream report its usage, where the client did not ask for it and the
    /// provider does not do it anyhow.
    fn ask_usage(&self, _op: &Operation, _body: &[u8], _facts: &RequestFacts) -> Option<Splice> {
        None
    }

    /// Whether this event is there only because of [`Dialect::ask_usage`], so that the client must
    /// not see it. It still is to be read.
    fn is_asked_usage(&self, _event: &Event<'_>) -> bool {
        false
    }

    /// The edit that sets the request's output limit, or lowers it, to `limit` tokens a choice.
    /// `None` if it is no higher already, or if the operation has none.
    fn bound_output(&self, _op: &Operation, _body: &[u8], _limit: u64) -> Option<Splice> {
        None
    }

    /// How the messages of a WebSocket that is opened at `path` are read; `None` if nothing is known
    /// of it. Only the end of the path is looked at.
    fn socket(&self, _path: &str) -> Option<&'static dyn Socket> {
        None
    }

    /// The header in which a request shows the provider its key; in `authorization` behind `Bearer`.
    fn key_header(&self) -> &'static str {
        "authorization"
    }

    /// A refusal in the provider's own error JSON, for an answer with `status`.
    fn error_body(&self, status: u16, refusal: &Refusal, request_id: &str) -> Bytes;

    /// The status of a refusal, where the provider's SDKs need another than the `usual` one to do
    /// what they should.
    fn refusal_status(&self, _reason: Reason, usual: u16) -> u16 {
        usual
    }

    /// The header that names the kind of an error, and what it says of a refusal.
    fn error_header(&self, _reason: Reason) -> Option<(&'static str, &'static str)> {
        None
    }

    /// The headers in which the provider tells how a rate limit stands, and that in `wait` there
    /// is room again; `at` is when that is. Most providers use `OpenAI`'s.
    fn rate_headers(&self, rate: &Rate, wait: Duration, _at: Timestamp) -> [(String, String); 3] {
        let name = |what| ["x-ratelimit-", what, "-", rate.unit].concat();
        [
            (name("limit"), rate.limit.to_string()),
            (name("remaining"), rate.remaining.to_string()),
            (name("reset"), spelled(wait)),
        ]
    }

    /// The legal last events of a stream that is ended before its time, to be sent after a complete
    /// event, framed as the stream is ([`Cut::end`]). Empty if the dialect has none, or none in that
    /// framing: then only an abort can end the stream.
    fn cut(&self, _op: &Operation, _cut: &Cut<'_>) -> Bytes {
        Bytes::new()
    }

    /// Whether those, in this style, say again what was sent of the output, so that it has to be kept.
    fn repeats_output(&self, _op: &Operation, _style: CutStyle) -> bool {
        false
    }
}

/// A time as `OpenAI` spells it: `250ms`, `17.4s`, `1m0s`; a part of a millisecond is a whole one.
fn spelled(wait: Duration) -> String {
    let millis = wait.as_micros().div_ceil(1000);
    let (minutes, seconds) = (millis / 60_000, millis % 60_000);
    if millis < 1000 {
        return [&*millis.to_string(), "ms"].concat();
    }
    let text = format!("{}.{:03}", seconds / 1000, seconds % 1000);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match minutes {
        0 => format!("{text}s"),
        _ => format!("{minutes}m{text}s"),
    }
}

impl fmt::Debug for dyn Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One event of a stream, or a whole body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The event's name, where it has one.
    pub name: Option<&'a str>,
    /// Its data: several lines are joined by LF.
    pub data: Cow<'a, [u8]>,
    /// It is not one event of many but the whole of a plain JSON body.
    pub whole: bool,
    /// Its framing says that it is an exception or an error (AWS event streams); then the name is
    /// the exception's, or the error's code.
    pub fault: bool,
}

impl<'a> Event<'a> {
    /// A plain JSON body, or what a scanner left of it.
    pub const fn body(data: &'a [u8]) -> Self {
        Self {
            name: None,
            data: Cow::Borrowed(data),
            whole: true,
            fault: false,
        }
    }

    /// One unnamed event of a stream.
    pub const fn data(data: &'a [u8]) -> Self {
        Self {
            name: None,
            data: Cow::Borrowed(data),
            whole: false,
            fault: false,
        }
    }
}

/// How a stream is ended before its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CutStyle {
    /// As if the output limit had been reached: SDKs hand over what there is.
    #[default]
    Graceful,
    /// With the dialect's error event: SDKs raise.
    Error,
}

/// What a dialect needs to end a stream early.
#[derive(Clone, Debug)]
pub struct Cut<'a> {
    /// How to end it.
    pub style: CutStyle,
    /// Why it is ended.
    pub refusal: &'a Refusal,
    /// The call's id.
    pub request_id: &'a str,
    /// What is charged for it.
    pub usage: Usage,
    /// The client asked for usage in the stream.
    pub asks_usage: bool,
    /// What was read so far.
    pub facts: &'a ResponseFacts,
    /// Where the stream stands.
    pub state: &'a StreamState,
    /// How the stream is divided into events.
    pub framing: Framing,
    /// The client has had events of it.
    pub begun: bool,
}

impl Cut<'_> {
    /// These events, framed as the stream is, and what ends it.
    pub fn end(&self, events: &[Event<'_>]) -> Bytes {
        Bytes::from(self.framing.end(events, self.begun))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::DIALECTS;

    #[test]
    fn of_events_too_large_to_read_whole_only_those_may_write_that_bring_something_new() {
        let check = |name: &str, path: &str, events: &[(&str, bool)]| {
            let mut dialects = DIALECTS.iter();
            let dialect = dialects.find(|dialect| dialect.name() == name).unwrap();
            let op = dialect.operation(&Method::POST, path);
            for (event, expected) in events {
                let data = if event.starts_with('{') { event } else { "{}" };
                let read = Event {
                    name: (data != *event).then_some(*event),
                    ..Event::data(data.as_bytes())
                };
                assert_eq!(dialect.may_write(op, &read), *expected, "{path} {event}");
            }
        };
        let chat: &[_] = &[("{}", true), (r#"{"id":"c"}"#, true)];
        check("openai", "/v1/chat/completions", chat);
        check("openai", "/v1/images/generations", &[("{}", false)]);
        let responses: &[_] = &[
            (r#"{"type":"response.output_text.delta"}"#, true),
            (r#"{"type":"response.mcp_call_arguments.delta"}"#, true),
            (r#"{"type":"response.audio.delta"}"#, false),
            (r#"{"type":"response.output_text.done"}"#, false),
            (r#"{"type":"response.output_item.done"}"#, false),
            (r#"{"type":"response.completed","response":{}}"#, false),
            ("{}", true),
        ];
        check("openai", "/v1/responses", responses);
        let transcripts: &[_] = &[
            (r#"{"type":"transcript.text.delta"}"#, true),
            (r#"{"type":"transcript.text.done"}"#, false),
        ];
        check("openai", "/v1/audio/transcriptions", transcripts);
        let runs: &[_] = &[
            (r#"{"object":"thread.message.delta"}"#, true),
            (r#"{"object":"thread.message"}"#, false),
        ];
        check("openai", "/v1/threads/t/runs", runs);
        let messages: &[_] = &[
            (r#"{"type":"content_block_delta","delta":{}}"#, true),
            (r#"{"type":"content_block_start"}"#, false),
            ("{}", true),
        ];
        check("anthropic", "/v1/messages", messages);
        let converse: &[_] = &[
            ("contentBlockDelta", true),
            ("contentBlockStart", false),
            ("metadata", false),
            ("{}", true),
        ];
        check("bedrock", "/model/m/converse-stream", converse);
        let invoke: &[_] = &[("chunk", false)];
        check("bedrock", "/model/m/invoke-with-response-stream", invoke);
        let cohere: &[_] = &[
            (r#"{"type":"content-delta","delta":{}}"#, true),
            (r#"{"type":"tool-call-start"}"#, true),
            (r#"{"type":"message-end"}"#, false),
            (r#"{"type":"citation-start"}"#, false),
            (r#"{"event_type":"text-generation"}"#, true),
            (r#"{"event_type":"stream-end","is_finished":true}"#, false),
            (r#"{"event_type":"search-results"}"#, false),
            (r#"{"event_type":"tool-calls-generation"}"#, false),
            (r#"{"is_finished":true}"#, false),
            ("text-generation", true),
            ("search-results", false),
        ];
        check("cohere", "/v2/chat", cohere);
        let gemini = "/v1beta/models/m:streamGenerateContent";
        check("gemini", gemini, &[("{}", true)]);
        check("ollama", "/api/chat", &[(r#"{"done":false}"#, true)]);
    }

    #[test]
    fn times_are_spelled_as_openai_spells_them() {
        let text = |micros| spelled(Duration::from_micros(micros));
        assert_eq!(text(0), "0ms");
        assert_eq!(text(5_001), "6ms");
        assert_eq!(text(999_001), "1s");
        assert_eq!(text(17_400_000), "17.4s");
        assert_eq!(text(10_000_000), "10s");
        assert_eq!(text(60_000_000), "1m0s");
        assert_eq!(text(100_050_000), "1m40.05s");
    }
}

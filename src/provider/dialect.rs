//! What a dialect is: how one wire format is read, edited, refused and ended early.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use http::Method;

use super::{
    splice::Splice,
    state::StreamState,
    wire::{json::Unreadable, scan::Wants},
};
use crate::call::{
    facts::{Operation, RequestFacts, ResponseFacts},
    refusal::Refusal,
    usage::Usage,
};

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

    /// A refusal in the provider's own error JSON, for an answer with `status`.
    fn error_body(&self, status: u16, refusal: &Refusal, request_id: &str) -> Bytes;

    /// The legal last events of a stream that is ended before its time, to be sent after a complete
    /// event. Empty if the dialect has none: then only an abort can end the stream.
    fn cut(&self, _op: &Operation, _cut: &Cut<'_>) -> Bytes {
        Bytes::new()
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
}

impl<'a> Event<'a> {
    /// A plain JSON body, or what a scanner left of it.
    pub const fn body(data: &'a [u8]) -> Self {
        Self {
            name: None,
            data: Cow::Borrowed(data),
            whole: true,
        }
    }

    /// One unnamed event of a stream.
    pub const fn data(data: &'a [u8]) -> Self {
        Self {
            name: None,
            data: Cow::Borrowed(data),
            whole: false,
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
}

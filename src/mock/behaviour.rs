//! How an answer is given: its size, timing, faults. Everything here can be set for all requests,
//! for one request by header or model name, and by a script, in one notation.
//!
//! The notation is `key=value;key=value`. It is read from `x-mock: status=429;times=2`, from
//! `x-mock-status: 429`, and from a model's name: `gpt-4o;status=429;times=2`. [`Behaviour::set`]
//! lists the keys.

use std::{str::FromStr, time::Duration};

use http::{HeaderName, HeaderValue, StatusCode};

use crate::base::units::parse_duration;

/// How an answer is given. The default is a correct answer at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// Time before the answer's head.
    pub delay: Duration,
    /// Time between the head and the first event of a stream.
    pub first: Duration,
    /// Time between two events of a stream; zero: each at once, and still written one by one.
    pub gap: Duration,
    /// An error with this status, in the dialect's form, instead of an answer.
    pub status: Option<StatusCode>,
    /// The error's `code` (its `type`, for Anthropic) instead of the usual one.
    pub code: Option<String>,
    /// `retry-after` in seconds, as it is to be sent.
    pub retry_after: Option<String>,
    /// Headers added to the answer, in order.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Only so many requests with the same settings get them; later ones get a good answer.
    pub times: Option<u32>,
    /// What the answer is.
    pub answer: Content,
    /// What is done to the body's bytes.
    pub bytes: Bytewise,
    /// How the body ends.
    pub ending: Option<Ending>,
    /// What is written around the body.
    pub wire: Wire,
}

/// What an answer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The answer's text; absent: a sentence that quotes the last message.
    pub text: Option<String>,
    /// Call this tool, unless its result is the last thing said.
    pub tool: Option<String>,
    /// Number of text deltas in a stream; absent: one a word.
    pub events: Option<usize>,
    /// Bytes of text in each delta; absent: as the text falls.
    pub event_size: Option<usize>,
    /// The finish reason, as the dialect spells it.
    pub finish: Option<String>,
    /// The usage reported; absent counts follow the text.
    pub usage: Counts,
    /// After so many events of a stream, the dialect's error event, and the end.
    pub stream_error: Option<usize>,
    /// How many looks at a background response, a batch or a run still find it running; absent: 1.
    pub polls: Option<u32>,
}

/// Token counts that were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Report no usage at all.
    pub absent: bool,
    /// Report usage in a chat stream though the request does not ask, as some hosts do.
    pub unasked: bool,
    /// Input tokens, cached ones included.
    pub input: Option<u64>,
    /// Output tokens, reasoning included.
    pub output: Option<u64>,
    /// How many of the input tokens came from a cache.
    pub cached: u64,
    /// How many of the input tokens were written to a cache.
    pub cache_write: u64,
    /// How many of the output tokens were reasoning.
    pub reasoning: u64,
}

/// What is done to the body's bytes, in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytewise {
    /// Line ends of a stream; absent: as the dialect has them.
    pub newline: Option<Newline>,
    /// A JSON answer is made this many bytes longer by a member `padding` at its front.
    pub pad: u64,
    /// A last event of this many bytes that never ends; zero: none.
    pub unending: u64,
    /// A byte order mark before a stream's first event.
    pub bom: bool,
    /// A comment before each event of a stream.
    pub comments: bool,
    /// Content coding, whether or not the client accepts it.
    pub encoding: Option<Encoding>,
    /// The body ends after so many bytes, coded or not, as if that were all.
    pub shorten: Option<u64>,
    /// One bit of this byte of the body is wrong.
    pub flip: Option<u64>,
    /// Bytes of each write, whatever the events; absent: a write an event.
    pub chunk: Option<usize>,
}

/// The line end of a stream of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newline {
    /// `\n`
    Lf,
    /// `\r\n`
    CrLf,
    /// `\r`
    Cr,
}

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `gzip`
    Gzip,
    /// `deflate` (zlib, as RFC 9110 says)
    Deflate,
    /// `br`, made of blocks that are not compressed
    Brotli,
    /// `zstd`
    Zstd,
}

impl Encoding {
    /// Its name in `content-encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// How an answer ends that does not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing more comes, and the connection stays open.
    Hang(At),
    /// The connection is closed.
    Close(At),
    /// The connection is reset (on HTTP/2, the stream).
    Reset(At),
}

/// A place in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Before the head.
    Head,
    /// After so many bytes of the body, after coding and before chunking.
    Byte(u64),
}

/// What is written around the body. Anything but the default is written by hand, on HTTP/1.1 only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// Close the connection after the answer, and say so.
    pub close: bool,
    /// An interim answer before the answer: 102 or 103.
    pub interim: Option<u16>,
    /// A `content-length` that need not be true.
    pub content_length: Option<u64>,
    /// Trailers after a chunked body.
    pub trailers: Vec<(HeaderName, HeaderValue)>,
}

/// A setting was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BehaviourError {
    /// No such key.
    #[error("the mock has no setting `{0}`; see the documentation of `Behaviour::set`")]
    Key(String),
    /// The value cannot be read.
    #[error("the mock's setting `{key}` does not understand `{value}`")]
    Value {
        /// The key.
        key: String,
        /// The value that was given.
        value: String,
    },
}

impl Behaviour {
    /// Sets one thing.
    ///
    /// | key | value |
    /// |---|---|
    /// | `delay` `first` `gap` | `20ms`, `2s`, `50us`: before the head, before the first event, between events |
    /// | `status` `code` `retry-after` `header` | `429`; `insufficient_quota`; `20`; `name:value`, repeatable |
    /// | `times` | `2`: the settings hold for the first two requests that carry them |
    /// | `text` `tool` `events` `event-size` `finish` | the answer; a tool's name; counts; `length` |
    /// | `usage` | `none`; `unasked`: also in chat streams that were not asked for it |
    /// | `input` `output` `cached` `cache-write` `reasoning` | token counts to report |
    /// | `stream-error` | `3`: the dialect's error event after three events |
    /// | `polls` | `2`: a background response is found running twice |
    /// | `newline` | `lf` `crlf` `cr` |
    /// | `pad` `unending` | bytes: longer JSON; an event without end |
    /// | `bom` `comments` | `1`: a byte order mark before the stream, a comment before each event |
    /// | `encoding` | `gzip` `deflate` `br` `zstd` |
    /// | `shorten` `flip` | a number of body bytes: it ends there; a bit is wrong there |
    /// | `chunk` | bytes a write |
    /// | `hang` `truncate` `reset` | `head`, or a number of body bytes |
    /// | `close` `interim` `content-length` `trailer` | `1`; `103`; bytes; `name:value`, repeatable |
    ///
    /// # Errors
    /// The key is unknown or the value is not of its kind; nothing is changed then.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), BehaviourError> {
        let set = match self.set_delivery(key, value) {
            Err(Wrong::Key) => self.set_answer(key, value),
            set => set,
        };
        set.map_err(|wrong| match wrong {
            Wrong::Key => BehaviourError::Key(key.to_owned()),
            Wrong::Value => BehaviourError::Value {
                key: key.to_owned(),
                value: value.to_owned(),
            },
        })
    }

    /// Applies `key=value;key=value`; empty parts are skipped.
    ///
    /// # Errors
    /// As [`Behaviour::set`]; what came before the part in error is applied.
    pub fn apply(&mut self, settings: &str) -> Result<(), BehaviourError> {
        for part in settings.split(';').map(str::trim) {
            if !part.is_empty() {
                let (key, value) = part.split_once('=').unwrap_or((part, "1"));
                self.set(key.trim(), value.trim())?;
            }
        }
        Ok(())
    }

    fn set_delivery(&mut self, key: &str, value: &str) -> Result<(), Wrong> {
        let bytes = &mut self.bytes;
        let set = match key {
            "delay" => put(&mut self.delay, parse_duration(value).ok()),
            "first" => put(&mut self.first, parse_duration(value).ok()),
            "gap" => put(&mut self.gap, parse_duration(value).ok()),
            "status" => some(&mut self.status, value.parse().ok()),
            "code" => some(&mut self.code, Some(value.to_owned())),
            "retry-after" => some(&mut self.retry_after, Some(value.to_owned())),
            "header" => push(&mut self.headers, value),
            "times" => some(&mut self.times, value.parse().ok()),
            "hang" => some(&mut self.ending, place(value).map(Ending::Hang)),
            "truncate" => some(&mut self.ending, place(value).map(Ending::Close)),
            "reset" => some(&mut self.ending, place(value).map(Ending::Reset)),
            "close" => put(&mut self.wire.close, Some(true)),
            "interim" => some(&mut self.wire.interim, value.parse().ok()),
            "content-length" => some(&mut self.wire.content_length, value.parse().ok()),
            "trailer" => push(&mut self.wire.trailers, value),
            "newline" => some(&mut bytes.newline, newline(value)),
            "pad" => put(&mut bytes.pad, value.parse().ok()),
            "unending" => put(&mut bytes.unending, value.parse().ok()),
            "bom" => put(&mut bytes.bom, Some(true)),
            "comments" => put(&mut bytes.comments, Some(true)),
            "encoding" => some(&mut bytes.encoding, encoding(value)),
            "shorten" => some(&mut bytes.shorten, value.parse().ok()),
            "flip" => some(&mut bytes.flip, value.parse().ok()),
            "chunk" => some(&mut bytes.chunk, value.parse().ok().filter(|n| *n > 0)),
            _ => return Err(Wrong::Key),
        };
        set.ok_or(Wrong::Value)
    }

    fn set_answer(&mut self, key: &str, value: &str) -> Result<(), Wrong> {
        let answer = &mut self.answer;
        let set = match key {
            "text" => some(&mut answer.text, Some(value.to_owned())),
            "tool" => some(&mut answer.tool, Some(value.to_owned())),
            "events" => some(&mut answer.events, value.parse().ok()),
            "event-size" => some(&mut answer.event_size, value.parse().ok()),
            "finish" => some(&mut answer.finish, Some(value.to_owned())),
            "usage" => match value {
                "none" => put(&mut answer.usage.absent, Some(true)),
                "unasked" => put(&mut answer.usage.unasked, Some(true)),
                _ => None,
            },
            "input" => some(&mut answer.usage.input, value.parse().ok()),
            "output" => some(&mut answer.usage.output, value.parse().ok()),
            "cached" => put(&mut answer.usage.cached, value.parse().ok()),
            "cache-write" => put(&mut answer.usage.cache_write, value.parse().ok()),
            "reasoning" => put(&mut answer.usage.reasoning, value.parse().ok()),
            "stream-error" => some(&mut answer.stream_error, value.parse().ok()),
            "polls" => some(&mut answer.polls, value.parse().ok()),
            _ => return Err(Wrong::Key),
        };
        set.ok_or(Wrong::Value)
    }
}

/// What is wrong with a setting.
enum Wrong {
    Key,
    Value,
}

impl FromStr for Behaviour {
    type Err = BehaviourError;

    fn from_str(settings: &str) -> Result<Self, BehaviourError> {
        let mut behaviour = Self::default();
        behaviour.apply(settings)?;
        Ok(behaviour)
    }
}

fn put<T>(place: &mut T, value: Option<T>) -> Option<()> {
    *place = value?;
    Some(())
}

fn some<T>(place: &mut Option<T>, value: Option<T>) -> Option<()> {
    *place = Some(value?);
    Some(())
}

fn push(list: &mut Vec<(HeaderName, HeaderValue)>, value: &str) -> Option<()> {
    let (name, value) = value.split_once(':')?;
    list.push((name.trim().parse().ok()?, value.trim().parse().ok()?));
    Some(())
}

/// `head`, or a number of body bytes.
fn place(text: &str) -> Option<At> {
    if text == "head" {
        return Some(At::Head);
    }
    text.parse().ok().map(At::Byte)
}

fn newline(text: &str) -> Option<Newline> {
    Some(match text {
        "lf" => Newline::Lf,
        "crlf" => Newline::CrLf,
        "cr" => Newline::Cr,
        _ => return None,
    })
}

fn encoding(text: &str) -> Option<Encoding> {
    use Encoding::{Brotli, Deflate, Gzip, Zstd};
    let all = [Gzip, Deflate, Brotli, Zstd];
    all.into_iter().find(|encoding| encoding.name() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_in_one_notation() {
        let behaviour: Behaviour =
            "status=429; retry-after=20;times=2;gap=10ms;header=x-a:b;reset=7;close;usage=none"
                .parse()
                .unwrap();
        assert_eq!(behaviour.status, Some(StatusCode::TOO_MANY_REQUESTS));
        assert_eq!(behaviour.retry_after.as_deref(), Some("20"));
        assert_eq!(behaviour.times, Some(2));
        assert_eq!(behaviour.gap, Duration::from_millis(10));
        assert_eq!(behaviour.headers.len(), 1);
        assert_eq!(behaviour.ending, Some(Ending::Reset(At::Byte(7))));
        assert!(behaviour.wire.close && behaviour.answer.usage.absent);
    }

    #[test]
    fn an_unknown_key_and_a_wrong_value_are_told_apart() {
        let mut behaviour = Behaviour::default();
        assert!(matches!(
            behaviour.set("stauts", "1"),
            Err(BehaviourError::Key(_))
        ));
        for (key, value) in [
            ("status", "9999"),
            ("gap", "ten"),
            ("hang", "tail"),
            ("encoding", "compress"),
            ("chunk", "0"),
            ("usage", "some"),
            ("header", "no colon"),
        ] {
            let wrong = behaviour.set(key, value);
            assert!(
                matches!(wrong, Err(BehaviourError::Value { .. })),
                "{key}={value}"
            );
        }
        assert_eq!(behaviour, Behaviour::default());
    }
}

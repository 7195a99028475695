//! How OTLP's messages go: over HTTP as protobuf or JSON, or over gRPC; and what is answered.

use http::{HeaderMap, HeaderValue, Method, header::CONTENT_TYPE};
use serde::Deserialize;
use std::time::Duration;

use super::super::DeliverError;
use crate::{
    base::protobuf::{Binary, Fields, Form, Json, Value},
    net::{
        grpc::{Call, Grpc},
        post::{Address, Compression, Courier, Letter},
    },
};

/// The longest that a gRPC call may take. The worker's own limit is what counts.
const LONGEST: Duration = Duration::from_mins(2);

/// `protocol:` — under the names of OpenTelemetry's own variables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Protocol {
    /// Protobuf over HTTP.
    #[default]
    #[serde(rename = "http/protobuf")]
    Protobuf,
    /// JSON over HTTP.
    #[serde(rename = "http/json")]
    Json,
    /// Protobuf over gRPC.
    #[serde(rename = "grpc")]
    Grpc,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
}

/// What a destination that took a message did not take of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// Spans, or points of metrics.
    pub(super) count: u64,
    /// What it said, as `: words`, if that is short and plain.
    pub(super) words: String,
}

/// The way to one destination.
pub(super) struct Channel {
    pub(super) way: Way,
    /// To be shown.
    pub(super) host: Option<Box<str>>,
    /// Sent along with every message.
    pub(super) headers: HeaderMap,
    pub(super) compression: Compression,
}

pub(super) enum Way {
    Http {
        courier: Courier,
        traces: Address,
        metrics: Address,
        encoding: Encoding,
    },
    Grpc(Grpc),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    /// A message in this form.
    pub(super) fn written(self, message: &impl Message) -> Vec<u8> {
        match self {
            Self::Protobuf => message.write::<Binary>(),
            Self::Json => message.write::<Json>(),
        }
    }

    const fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        })
    }
}

/// Writes a message in either form.
pub(super) trait Message {
    fn write<F: Form>(&self) -> Vec<u8>;
}

impl Channel {
    /// The form of its messages; over gRPC they are protobuf.
    pub(super) const fn encoding(&self) -> Encoding {
        match self.way {
            Way::Http { encoding, .. } => encoding,
            Way::Grpc(_) => Encoding::Protobuf,
        }
    }

    /// Sends a message that was [`written`](Encoding::written), and says what of it was refused.
    pub(super) async fn send(
        &mut self,
        signal: Signal,
        message: Vec<u8>,
    ) -> Result<Option<Refused>, DeliverError> {
        match &mut self.way {
            Way::Http {
                courier,
                traces,
                metrics,
                encoding,
            } => {
                let mut headers = self.headers.clone();
                headers.insert(CONTENT_TYPE, encoding.content_type());
                let letter = Letter {
                    method: Method::POST,
                    headers,
                    body: message.into(),
                    compression: self.compression,
                };
                let address = match signal {
                    Signal::Traces => traces,
                    Signal::Metrics => metrics,
                };
                let answer = courier.send(address, letter).await?;
                let kind = answer.headers.get(CONTENT_TYPE);
                let is_json = kind.is_some_and(|it| it.as_bytes().starts_with(b"application/json"));
                Ok(if is_json {
                    refused_json(&answer.body)
                } else {
                    refused(&answer.body)
                })
            },
            Way::Grpc(client) => {
                let call = Call {
                    path: match signal {
                        Signal::Traces => {
                            "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
                        },
                        Signal::Metrics => {
                            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
                        },
                    },
                    headers: self.headers.clone(),
                    message: message.into(),
                    compression: self.compression,
                    time: LONGEST,
                };
                Ok(refused(&client.call(call).await?))
            },
        }
    }
}

/// Reads `partial_success` of an answer in protobuf; none if there is none, or no sense in it.
fn refused(answer: &[u8]) -> Option<Refused> {
    let partial = Fields::of(answer).find_map(|field| match field {
        Ok((1, Value::Bytes(partial))) => Some(partial),
        _ => None,
    })?;
    let (mut count, mut said) = (0, "");
    for field in Fields::of(partial) {
        match field {
            Ok((1, Value::Varint(number))) => count = number,
            Ok((2, Value::Bytes(text))) => said = std::str::from_utf8(text).unwrap_or_default(),
            Ok(_) => {},
            Err(_malformed) => return None,
        }
    }
    Refused::new(count, said)
}

/// The same of an answer in JSON.
fn refused_json(answer: &[u8]) -> Option<Refused> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        partial_success: Partial,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Partial {
        #[serde(default, alias = "rejectedDataPoints")]
        rejected_spans: serde_json::Value,
        #[serde(default)]
        error_message: String,
    }

    let answer: Answer = serde_json::from_slice(answer).ok()?;
    let partial = answer.partial_success;
    let count = match partial.rejected_spans {
        serde_json::Value::String(text) => text.parse().ok()?,
        number => number.as_u64().unwrap_or(0),
    };
    Refused::new(count, &partial.error_message)
}

impl Refused {
    fn new(count: u64, said: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphabetic() || b" _-.,:!'".contains(&byte);
        let quotable = !said.is_empty() && said.len() <= 80 && said.bytes().all(plain);
        let words = if quotable {
            format!(": {said}")
        } else {
            String::new()
        };
        // A number below zero, or a warning alone, refuses nothing.
        let count = i64::try_from(count).unwrap_or(0);
        let count = u64::try_from(count).unwrap_or(0);
        (count > 0).then_some(Self { count, words })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::protobuf::Field;

    fn answer(count: i64, said: &str) -> Vec<u8> {
        let mut form = Binary::default();
        form.message(Field(1, "partialSuccess"), |partial| {
            partial.int(Field(1, "rejectedSpans"), count);
            partial.text(Field(2, "errorMessage"), said);
        });
        form.finish()
    }

    /// The count and the words of what was refused.
    fn told(refused: Option<Refused>) -> Option<(u64, String)> {
        refused.map(|refused| (refused.count, refused.words))
    }

    fn is(count: u64, words: &str) -> (u64, String) {
        (count, words.to_owned())
    }

    #[test]
    fn what_was_refused_is_read_in_both_forms() {
        assert_eq!(
            told(refused(&answer(3, "too old"))),
            Some(is(3, ": too old"))
        );
        assert_eq!(refused(&answer(0, "slow down")), None);
        assert_eq!(refused(&answer(-1, "")), None);
        assert_eq!(refused(b""), None);
        let json = |text: &str| refused_json(text.as_bytes());
        let three = r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}"#;
        assert_eq!(told(json(three)), Some(is(3, ": too old")));
        let points = r#"{"partialSuccess":{"rejectedDataPoints":2}}"#;
        assert_eq!(told(json(points)), Some(is(2, "")));
        assert_eq!(json(r#"{"partialSuccess":{}}"#), None);
        assert_eq!(json("{}"), None);
    }

    #[test]
    fn words_that_may_hold_anything_are_not_repeated() {
        assert_eq!(told(refused(&answer(1, "key=1234"))), Some(is(1, "")));
        assert_eq!(told(refused(&answer(1, &"x".repeat(81)))), Some(is(1, "")));
    }

    proptest! {
        #[test]
        fn any_answer_is_read(bytes: Vec<u8>) {
            let _none = (refused(&bytes), refused_json(&bytes));
        }
    }
}

//! Takes what agents report of themselves, at paths that are no provider's: `/v1/traces/ingest` and
//! `/v1/traces`. Reports are bounded in number, size and rate, and are read apart from traffic.

use std::{fmt::Display, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER},
    request::Parts,
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::Semaphore;

use super::{Worker, body::ResponseBody, identify, live::Live, reply, route};
use crate::{
    base::id::RequestId,
    call::{labels::Labels, refusal::Refusal, reported::Format},
    ingest::{self, Ingest, Report, Taken},
    net::pace::{Paced, Unfinished},
    provider::wire::encoding::{Decoder, GaveUp},
};

/// How many reports are read at once; further ones are to come again.
const AT_ONCE: usize = 4;

/// When a report that found no place may come again.
const SOON: Duration = Duration::from_secs(1);

/// What reports are read with. One for the process.
#[derive(Debug)]
pub(super) struct Intake {
    ingest: Ingest,
    places: Semaphore,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            ingest: Ingest::default(),
            places: Semaphore::new(AT_ONCE),
        }
    }
}

/// The format of a report; none if the request is a call. In HTTP/1 a target with a host is a
/// forward proxy's, so that the provider is meant.
pub(super) fn format(request: &Request<Incoming>) -> Option<Format> {
    let uri = request.uri();
    let is_elsewhere = uri.host().is_some() && request.version() < Version::HTTP_2;
    if *request.method() != Method::POST || is_elsewhere {
        return None;
    }
    let (_, path) = route::identity(uri.path());
    ingest::format(path)
}

/// Why a report was not taken.
enum Trouble {
    /// Whoever sent it shows no valid client key.
    Stranger(Refusal),
    /// Its sender may try again, after so long.
    Later(&'static str, Duration),
    /// It can never be taken.
    Wrong(StatusCode, String),
}

impl Trouble {
    fn wrong(status: StatusCode, why: &dyn Display) -> Self {
        Self::Wrong(status, why.to_string())
    }

    /// The word for it in metrics.
    const fn name(&self) -> &'static str {
        match self {
            Self::Stranger(_) => "identity",
            Self::Later(..) => "busy",
            Self::Wrong(StatusCode::PAYLOAD_TOO_LARGE, _) => "too_large",
            Self::Wrong(..) => "unreadable",
        }
    }
}

impl Worker {
    /// Takes a report: its spans go where those of calls go.
    pub(super) async fn report(
        &self,
        format: Format,
        request: Request<Incoming>,
        peer: Option<IpAddr>,
    ) -> Response<ResponseBody> {
        let proxy = &self.proxy;
        let (now, live) = (proxy.clock.wall(), proxy.live.load_full());
        let (head, body) = request.into_parts();
        let taken = self.take(&live, format, (&head, body), peer).await;
        let mut response = match &taken {
            Ok(taken) => {
                proxy.metrics.report(taken);
                answer(StatusCode::OK, taken.content_type, taken.answer.clone())
            },
            Err(trouble) => {
                proxy.metrics.no_report(trouble.name());
                worded(trouble, |refusal| {
                    reply::turned_away(refusal, now, RequestId::new(now))
                })
            },
        };
        let length = response.body().len();
        response
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(length));
        response.map(ResponseBody::ours)
    }

    async fn take(
        &self,
        live: &Arc<Live>,
        format: Format,
        (head, body): (&Parts, Incoming),
        peer: Option<IpAddr>,
    ) -> Result<Taken, Trouble> {
        let proxy = &self.proxy;
        let caller = live.door.caller(head, peer, proxy.clock.wall());
        let caller =
            caller.map_err(|stranger| Trouble::Stranger(proxy.turn_away(stranger, peer)))?;
        let intake = Arc::clone(&proxy.intake);
        let admitted = intake.ingest.admit(proxy.clock.mono());
        admitted.map_err(|wait| {
            Trouble::Later("More spans come than ingest.spans_per_second allows", wait)
        })?;
        let place = intake.places.try_acquire();
        let _place =
            place.map_err(|_full| Trouble::Later("Too many reports come at once", SOON))?;
        let body = whole(live, &head.headers, body).await?;
        let (segment, _) = route::identity(head.uri.path());
        let labels = identify::labels(
            &head.headers,
            segment,
            caller.key.as_deref(),
            &live.identity,
        );
        let content_type = head.headers.get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let posted = Posted {
            format,
            content_type: content_type.unwrap_or_default().to_owned(),
            body,
            labels,
        };
        self.read(live, posted).await
    }

    /// Reads a report and hands its spans on, apart from traffic: a large one takes many
    /// milliseconds.
    async fn read(&self, live: &Arc<Live>, posted: Posted) -> Result<Taken, Trouble> {
        let (proxy, live) = (Arc::clone(&self.proxy), Arc::clone(live));
        let reading = tokio::task::spawn_blocking(move || {
            let report = Report {
                format: posted.format,
                content_type: &posted.content_type,
                body: &posted.body,
                labels: &posted.labels,
                now: proxy.clock.wall(),
            };
            let (ingest, config) = (&proxy.intake.ingest, &live.ingest);
            let mut taken = ingest
                .read(&report, config)
                .map_err(|why| Trouble::wrong(StatusCode::BAD_REQUEST, &why))?;
            ingest.charge(taken.accepted, config, proxy.clock.mono());
            for span in taken.spans.drain(..) {
                proxy.pipeline.offer(span);
            }
            Ok(taken)
        });
        let unreadable = "Tollgate failed to read the report.";
        reading
            .await
            .unwrap_or_else(|_panicked| Err(Trouble::wrong(StatusCode::BAD_REQUEST, &unreadable)))
    }
}

/// A report that is there whole.
struct Posted {
    format: Format,
    content_type: String,
    body: Bytes,
    labels: Labels,
}

/// The body, decompressed.
async fn whole(live: &Live, headers: &HeaderMap, body: Incoming) -> Result<Bytes, Trouble> {
    let most = live.ingest.body.as_usize();
    let too_large = || {
        let why = format!(
            "A report may have {} (ingest.body): send fewer spans.",
            live.ingest.body
        );
        Trouble::wrong(StatusCode::PAYLOAD_TOO_LARGE, &why)
    };
    let body = Limited::new(Paced::new(body, live.bounds.wait), most)
        .collect()
        .await;
    let body = body.map_err(|error| {
        if error.is::<LengthLimitError>() {
            return too_large();
        }
        let status = match error.downcast_ref() {
            Some(Unfinished::Slow(_)) => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        };
        Trouble::wrong(status, &error)
    })?;
    let body = body.to_bytes();
    let wrong = |error: GaveUp| Trouble::wrong(StatusCode::BAD_REQUEST, &error);
    let Some(mut decoder) = Decoder::of(headers).map_err(wrong)? else {
        return Ok(body);
    };
    let mut plain = Vec::new();
    // A piece at a time, so that little comes out of it once it is too large.
    for piece in body.chunks(PIECE) {
        let fed = decoder.feed(piece, &mut |piece| {
            if plain.len() <= most {
                plain.extend_from_slice(piece);
            }
        });
        fed.map_err(wrong)?;
        if plain.len() > most {
            return Err(too_large());
        }
    }
    decoder.finish().map_err(wrong)?;
    Ok(Bytes::from(plain))
}

/// Bytes that are decompressed at a time.
const PIECE: usize = 16 * 1024;

fn answer(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// The answer to a report that was not taken. 503, not 429: exporters send again after the one, and
/// never after the other.
fn worded(trouble: &Trouble, refused: impl FnOnce(&Refusal) -> Response<Bytes>) -> Response<Bytes> {
    let (status, message, wait) = match trouble {
        Trouble::Stranger(refusal) => return refused(refusal),
        Trouble::Later(message, wait) => (StatusCode::SERVICE_UNAVAILABLE, *message, Some(*wait)),
        Trouble::Wrong(status, message) => (*status, &**message, None),
    };
    let error = json!({"error": {"message": message, "type": "ingest_error"}});
    let mut response = answer(status, "application/json", error.to_string().into_bytes());
    if let Some(wait) = wait {
        let seconds = wait.as_millis().div_ceil(1_000);
        let seconds = u64::try_from(seconds).unwrap_or(u64::MAX).max(1);
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

//! Takes what agents report of themselves, at paths that are no provider's: `/v1/traces/ingest` and
//! `/v1/traces`. Reports are bounded in number, size and rate, and are read apart from traffic.

use std::{fmt::Display, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER},
    request::Parts,
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    Worker, body::ResponseBody, identify, intercept::Opened, live::Live, reply, route, told,
};
use crate::{
    base::{clock::Timestamp, id::RequestId},
    call::{labels::Labels, refusal::Refusal, reported::Format},
    ingest::{self, Ingest, Report, Taken},
    net::pace::{Paced, Unfinished},
    provider::wire::encoding::{Decoder, GaveUp},
};

/// How many reports are read at once; further ones are to come again.
const AT_ONCE: usize = 4;

/// When a report that found no place may come again.
const SOON: Duration = Duration::from_secs(1);

/// How long a report may take to come: longer than exporters wait, and not so long that a few slow
/// ones keep all others out.
const LONGEST: Duration = Duration::from_mins(1);

/// What reports are read with. One for the process.
#[derive(Debug)]
pub(super) struct Intake {
    ingest: Ingest,
    places: Arc<Semaphore>,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            ingest: Ingest::default(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

/// The format of a report; none if the request is a call. In HTTP/1 a target with a host is a
/// forward proxy's, so that the provider is meant, as on a connection to it that was opened.
pub(super) fn format(request: &Request<Incoming>) -> Option<Format> {
    let uri = request.uri();
    let is_opened = request.extensions().get::<Arc<Opened>>().is_some();
    let is_elsewhere = is_opened || (uri.host().is_some() && request.version() < Version::HTTP_2);
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
            Self::Wrong(StatusCode::INTERNAL_SERVER_ERROR, _) => "failed",
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
                let refused = worded(trouble, |refusal| {
                    reply::turned_away(refusal, now, RequestId::new(now))
                });
                in_form(refused, trouble, format, &head)
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
        let place = Arc::clone(&intake.places).try_acquire_owned();
        let place = place.map_err(|_full| Trouble::Later("Too many reports come at once", SOON))?;
        let decoder = Decoder::of(&head.headers).map_err(gave_up)?;
        let body = whole(live, body).await?;
        let (segment, _) = route::identity(head.uri.path());
        let labels = identify::labels(
            &head.headers,
            segment,
            caller.key.as_deref(),
            &live.identity,
        );
        let posted = Posted {
            format,
            content_type: content_type(head).to_owned(),
            body,
            decoder,
            labels,
        };
        self.read(live, posted, place).await
    }

    /// Decompresses and reads a report and hands its spans on, apart from traffic: a large one takes
    /// many milliseconds. It goes on, and keeps its place, though its sender leaves.
    async fn read(
        &self,
        live: &Arc<Live>,
        posted: Posted,
        place: OwnedSemaphorePermit,
    ) -> Result<Taken, Trouble> {
        let (proxy, live) = (Arc::clone(&self.proxy), Arc::clone(live));
        let reading = tokio::task::spawn_blocking(move || {
            let _place = place;
            let (ingest, config) = (&proxy.intake.ingest, &live.ingest);
            let taken = posted.read(ingest, &live, proxy.clock.wall());
            // What is refused, or comes again, takes as long to read.
            let items = taken
                .as_ref()
                .map_or(1, |taken| taken.accepted + taken.repeated + taken.refused);
            let items = items.min(config.spans).max(1);
            ingest.charge(items, config, proxy.clock.mono());
            let mut taken = taken?;
            for span in taken.spans.drain(..) {
                let said = taken.said.remove(&(span.trace_id, span.span_id));
                let said = said.and_then(|said| told::captured(said, &live, &proxy.said));
                proxy.pipeline.offer_with(span, said);
            }
            Ok(taken)
        });
        reading.await.unwrap_or_else(|panicked| {
            tracing::error!(%panicked, "A report of spans could not be read");
            let failed = "Tollgate failed to read the report.";
            Err(Trouble::wrong(StatusCode::INTERNAL_SERVER_ERROR, &failed))
        })
    }
}

/// A report that is there whole, as it was sent.
struct Posted {
    format: Format,
    content_type: String,
    body: Bytes,
    decoder: Option<Decoder>,
    labels: Labels,
}

impl Posted {
    fn read(mut self, ingest: &Ingest, live: &Live, now: Timestamp) -> Result<Taken, Trouble> {
        let body = match self.decoder.take() {
            Some(decoder) => plain(live, decoder, &self.body)?,
            None => self.body,
        };
        let report = Report {
            format: self.format,
            content_type: &self.content_type,
            body: &body,
            labels: &self.labels,
            now,
            with_content: live.content.is_some(),
        };
        let read = ingest.read(&report, &live.ingest);
        read.map_err(|why| Trouble::wrong(StatusCode::BAD_REQUEST, &why))
    }
}

fn gave_up(why: GaveUp) -> Trouble {
    Trouble::wrong(StatusCode::BAD_REQUEST, &why)
}

/// Whoever sends more than may come out of a body is to send less at once, and not something else.
fn unpacked(live: &Live, why: GaveUp) -> Trouble {
    match why {
        GaveUp::TooLarge | GaveUp::Bomb => too_large(live),
        GaveUp::Unknown | GaveUp::Damaged | GaveUp::BrokeOff => gave_up(why),
    }
}

fn too_large(live: &Live) -> Trouble {
    let why = format!(
        "A report may have {} (ingest.body): send fewer spans.",
        live.ingest.body
    );
    Trouble::wrong(StatusCode::PAYLOAD_TOO_LARGE, &why)
}

/// The body, as it comes.
async fn whole(live: &Live, body: Incoming) -> Result<Bytes, Trouble> {
    let most = live.ingest.body.as_usize();
    let body = Limited::new(Paced::new(body, live.bounds.wait), most).collect();
    let body = timeout(LONGEST, body).await.map_err(|_late| {
        let why = format!("The report took longer than {} s.", LONGEST.as_secs());
        Trouble::wrong(StatusCode::REQUEST_TIMEOUT, &why)
    })?;
    let body = body.map_err(|error| {
        if error.is::<LengthLimitError>() {
            return too_large(live);
        }
        let status = match error.downcast_ref() {
            Some(Unfinished::Slow(_)) => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        };
        Trouble::wrong(status, &error)
    })?;
    Ok(body.to_bytes())
}

/// The body, decompressed.
fn plain(live: &Live, mut decoder: Decoder, body: &[u8]) -> Result<Bytes, Trouble> {
    let most = live.ingest.body.as_usize();
    let mut plain = Vec::new();
    // A piece at a time, so that little comes out of it once it is too large.
    for piece in body.chunks(PIECE) {
        let fed = decoder.feed(piece, &mut |piece| {
            if plain.len() <= most {
                plain.extend_from_slice(piece);
            }
        });
        fed.map_err(|why| unpacked(live, why))?;
        if plain.len() > most {
            return Err(too_large(live));
        }
    }
    decoder.finish().map_err(|why| unpacked(live, why))?;
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

/// The same in the form of the request, if that has one of its own for what is wrong with a report.
fn in_form(
    mut response: Response<Bytes>,
    trouble: &Trouble,
    format: Format,
    head: &Parts,
) -> Response<Bytes> {
    let why = match trouble {
        Trouble::Stranger(_) => return response,
        Trouble::Later(why, _) => why,
        Trouble::Wrong(_, why) => &**why,
    };
    if let Some((body, content_type)) = Ingest::refusal(format, content_type(head), why) {
        *response.body_mut() = Bytes::from(body);
        let content_type = HeaderValue::from_static(content_type);
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    response
}

fn content_type(head: &Parts) -> &str {
    let content_type = head.headers.get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    content_type.unwrap_or_default()
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

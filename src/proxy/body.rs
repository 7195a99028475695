//! The body of a response on its way to a client.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use tokio::sync::OwnedSemaphorePermit;

use super::tap::Tap;
use crate::net::{BoxError, patience::InRequest, upstream::UpstreamBody};

/// A provider's response, read while it passes, or one of ours.
pub struct ResponseBody {
    kind: Kind,
    /// Told when the response is over.
    in_request: Option<InRequest>,
}

enum Kind {
    Tap(Box<Tap>),
    Ours(Option<Bytes>),
    /// Of a host that is no provider's, with its place among those that pass unread.
    Passed(Box<UpstreamBody>, OwnedSemaphorePermit),
}

impl ResponseBody {
    pub(super) fn tap(tap: Tap) -> Self {
        Self {
            kind: Kind::Tap(Box::new(tap)),
            in_request: None,
        }
    }

    pub(super) fn ours(bytes: Bytes) -> Self {
        Self {
            kind: Kind::Ours((!bytes.is_empty()).then_some(bytes)),
            in_request: None,
        }
    }

    /// The body of an answer that passes unread.
    pub(super) fn passed(body: UpstreamBody, place: OwnedSemaphorePermit) -> Self {
        Self {
            kind: Kind::Passed(Box::new(body), place),
            in_request: None,
        }
    }

    /// Says when the response is over.
    pub(super) fn then_end(mut self, in_request: InRequest) -> Self {
        self.in_request = Some(in_request);
        self
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.kind {
            Kind::Tap(tap) => Pin::new(&mut **tap).poll_frame(cx),
            Kind::Ours(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Passed(body, _place) => Pin::new(&mut **body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Tap(tap) => tap.is_end_stream(),
            Kind::Ours(bytes) => bytes.is_none(),
            Kind::Passed(body, _place) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Tap(tap) => tap.size_hint(),
            Kind::Passed(body, _place) => body.size_hint(),
            Kind::Ours(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let Some(in_request) = &self.in_request {
            in_request.end();
        }
    }
}

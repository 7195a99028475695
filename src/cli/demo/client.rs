//! The agents' HTTP client: one call, one connection, as plain as can be.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::super::Failure;
use crate::base::id::{SpanId, TraceId};

/// Where calls go, and for whom they are.
pub(super) struct Client {
    proxy: SocketAddr,
    /// `x-tollgate-…`, the same for all of them.
    labels: Vec<(&'static str, &'static str)>,
    trace: TraceId,
}

/// What came back, to its end.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Client {
    /// A client whose calls are one trace.
    pub(super) fn new(proxy: SocketAddr, labels: &[(&'static str, &'static str)]) -> Self {
        Self {
            proxy,
            labels: labels.to_vec(),
            trace: TraceId::random(),
        }
    }

    /// The trace of its calls.
    pub(super) const fn trace(&self) -> TraceId {
        self.trace
    }

    /// Posts JSON for `agent`, with `parent` as the span above the call.
    ///
    /// # Errors
    /// The connection fails. An answer of any status is none.
    pub(super) async fn post(
        &self,
        agent: &str,
        parent: SpanId,
        path: &str,
        body: &Value,
    ) -> Result<Answer, Failure> {
        let mut request = Request::post(path)
            .header("host", self.proxy.to_string())
            .header("authorization", "Bearer no-key-is-needed")
            .header(CONTENT_TYPE, "application/json")
            .header("traceparent", format!("00-{}-{parent}-01", self.trace))
            .header("x-tollgate-agent", agent);
        for (name, value) in &self.labels {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(Failure::failed)?;
        let stream = TcpStream::connect(self.proxy).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(Failure::failed)?;
        // Moved in, so that the connection ends with the exchange.
        let exchange = async move {
            let response = sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Answer {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        // The connection does the work; what goes wrong with it the exchange says.
        let (answer, _end) = tokio::join!(exchange, connection);
        answer.map_err(Failure::failed)
    }
}

impl Answer {
    /// The span that the call became, as Tollgate told.
    pub(super) fn span(&self) -> Option<SpanId> {
        let told = self.header("traceresponse")?;
        told.split('-').nth(2)?.parse().ok()
    }

    /// A header's text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

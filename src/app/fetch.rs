//! A price book from elsewhere: fetched over our own connections, off the calls' way, within bounds.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri,
    header::{ETAG, HOST, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, USER_AGENT},
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::{
    base::secret::Secret,
    net::{
        body::Outgoing,
        connect::Origin,
        upstream::{Upstream, UpstreamError},
    },
};

/// The largest book that is read, in bytes: thirty times the built-in one.
const MOST_BYTES: usize = 16 << 20;
/// How long fetching may take, from the connection to the last byte.
const PATIENCE: Duration = Duration::from_mins(1);
/// The longest mark of a version that is kept, in bytes; a longer one is as none.
const LONGEST_MARK: usize = 1024;

/// How a server tells this version of its book from others: what it is asked by the next time, so
/// that it need not send the same again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_modified: Option<String>,
}

/// Why no book came. Never names the address, which may hold a token.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("it is no http:// or https:// address")]
    Address,
    #[error("{0}")]
    Upstream(#[from] UpstreamError),
    #[error("it answered with status {0}; redirections are not followed")]
    Status(StatusCode),
    #[error("it took longer than {} s", PATIENCE.as_secs())]
    Late,
    #[error("the answer is larger than {} MiB", MOST_BYTES >> 20)]
    Large,
    #[error("the answer broke off: {0}")]
    Broken(String),
    #[error("the answer is not text")]
    Text,
}

/// The text at `url` and its version; `None` if it is still `known`.
pub(super) async fn fetch(
    upstream: &Arc<Upstream>,
    url: &Secret,
    known: &Version,
) -> Result<Option<(String, Version)>, FetchError> {
    timeout(PATIENCE, ask(upstream, url, known))
        .await
        .map_err(|_elapsed| FetchError::Late)?
}

async fn ask(
    upstream: &Arc<Upstream>,
    url: &Secret,
    known: &Version,
) -> Result<Option<(String, Version)>, FetchError> {
    let url: Uri = url
        .expose()
        .parse()
        .map_err(|_invalid| FetchError::Address)?;
    let origin = Origin::of(&url).ok_or(FetchError::Address)?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::get(path)
        .header(HOST, origin.host_header())
        .header(USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")))
        .body(Outgoing::Whole(None))
        .map_err(|_invalid| FetchError::Address)?;
    known.ask_by(request.headers_mut());
    let response = upstream.send(&origin, request, || {}).await?;
    match response.status() {
        StatusCode::OK => {},
        StatusCode::NOT_MODIFIED if *known != Version::default() => return Ok(None),
        other => return Err(FetchError::Status(other)),
    }
    let version = Version::of(response.headers());
    let body = Limited::new(response.into_body(), MOST_BYTES)
        .collect()
        .await;
    let body = body.map_err(|error| {
        if error.is::<LengthLimitError>() {
            FetchError::Large
        } else {
            FetchError::Broken(error.to_string())
        }
    })?;
    let text = String::from_utf8(body.to_bytes().into()).map_err(|_invalid| FetchError::Text)?;
    Ok(Some((text, version)))
}

impl Version {
    fn of(headers: &HeaderMap) -> Self {
        let mark = |name: HeaderName| {
            let value = headers.get(name)?.to_str().ok()?;
            (value.len() <= LONGEST_MARK).then(|| value.to_owned())
        };
        Self {
            etag: mark(ETAG),
            last_modified: mark(LAST_MODIFIED),
        }
    }

    fn ask_by(&self, headers: &mut HeaderMap) {
        for (name, mark) in [
            (IF_NONE_MATCH, &self.etag),
            (IF_MODIFIED_SINCE, &self.last_modified),
        ] {
            let mark = mark.as_deref().map(HeaderValue::from_str);
            if let Some(Ok(mark)) = mark {
                headers.insert(name, mark);
            }
        }
    }
}

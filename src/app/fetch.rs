//! A price book from elsewhere: fetched over our own connections, off the calls' way, within bounds.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, StatusCode,
    header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED},
};
use serde::{Deserialize, Serialize};

use crate::{
    base::{secret::Secret, units::ByteSize},
    net::{
        post::{Address, Bounds, ExchangeError, NoAddress, exchange},
        upstream::Upstream,
    },
};

/// What fetching may take. The largest book is thirty times the built-in one.
const BOUNDS: Bounds = Bounds {
    time: Duration::from_mins(1),
    answer: ByteSize::mib(16),
};
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
    #[error(transparent)]
    Address(#[from] NoAddress),
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    #[error("it answered with status {0}; redirections are not followed")]
    Status(StatusCode),
    #[error("the answer is not text")]
    Text,
}

/// The text at `url` and its version; `None` if it is still `known`.
pub(super) async fn fetch(
    upstream: &Arc<Upstream>,
    url: &Secret,
    known: &Version,
) -> Result<Option<(String, Version)>, FetchError> {
    let address = Address::parse(url)?;
    let mut request = Request::new(Bytes::new());
    known.ask_by(request.headers_mut());
    let answer = exchange(upstream, &address, request, BOUNDS).await?;
    match answer.status {
        StatusCode::OK => {},
        StatusCode::NOT_MODIFIED if *known != Version::default() => return Ok(None),
        other => return Err(FetchError::Status(other)),
    }
    let version = Version::of(&answer.headers);
    let text = String::from_utf8(answer.body.into()).map_err(|_invalid| FetchError::Text)?;
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

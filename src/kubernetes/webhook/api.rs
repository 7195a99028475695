//! What is asked of the API server: as the service account of the pod, whose token and authority
//! are read again for each question, since both change while we run.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use parking_lot::Mutex;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde_json::Value;

use super::metrics::{Asked, Metrics};
use crate::{
    base::{secret::Secret, units::ByteSize},
    net::{
        connect::{ConnectError, Connector},
        post::{Address, Bounds, ExchangeError, exchange},
        upstream::{Patience, Upstream, UpstreamError},
    },
};

/// How long a question may take at most, the connection included.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer that is read: an object of the API has 1.5 MiB at most, as it is stored.
const ANSWER: ByteSize = ByteSize::mib(4);

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_mins(1);

/// The most that is read of a file of the service account, in bytes.
const FILE_BYTES: usize = 1 << 20;

/// A patch of RFC 6902.
pub(super) const JSON_PATCH: &str = "application/json-patch+json";
/// An object.
pub(super) const JSON: &str = "application/json";

/// The API server, as we may ask it.
#[derive(Debug)]
pub(super) struct Api {
    /// `https://HOST:PORT`.
    url: String,
    /// Where `token`, `ca.crt` and `namespace` are.
    account: PathBuf,
    link: Mutex<Option<Link>>,
    metrics: Arc<Metrics>,
}

/// Connections to a server that this authority vouches for.
#[derive(Debug)]
struct Link {
    authority: Vec<u8>,
    upstream: Arc<Upstream>,
}

/// Why a question was not answered.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// We cannot ask: what of the service account is missing.
    #[error("{path}: {why}: is the service account mounted (automountServiceAccountToken)?")]
    Account { path: String, why: String },
    /// It did not answer.
    #[error("the API server at {url} does not answer {asked}: {why}")]
    Away {
        url: String,
        asked: String,
        why: String,
    },
    /// It said no.
    #[error("the API server answers {asked} with {status}{words}")]
    Status {
        asked: String,
        status: StatusCode,
        /// What it said, as `: words`.
        words: String,
    },
}

impl ApiError {
    /// What was asked about is not there.
    pub(super) fn is_missing(&self) -> bool {
        self.is(StatusCode::NOT_FOUND)
    }

    /// Somebody else was faster: it is there already, or has changed since it was read.
    pub(super) fn is_conflict(&self) -> bool {
        // A patch whose test fails is "unprocessable".
        let is_patch = matches!(self, Self::Status { asked, .. } if asked.starts_with("PATCH"));
        self.is(StatusCode::CONFLICT) || (is_patch && self.is(StatusCode::UNPROCESSABLE_ENTITY))
    }

    /// We may not do that.
    pub(super) fn is_denied(&self) -> bool {
        self.is(StatusCode::FORBIDDEN) || self.is(StatusCode::UNAUTHORIZED)
    }

    fn is(&self, wanted: StatusCode) -> bool {
        matches!(self, Self::Status { status, .. } if *status == wanted)
    }
}

impl Api {
    pub(super) fn new(url: &str, account: &Path, metrics: Arc<Metrics>) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
            account: account.to_owned(),
            link: Mutex::default(),
            metrics,
        }
    }

    /// An object.
    pub(super) async fn get(&self, path: &str) -> Result<Value, ApiError> {
        self.get_within(path, PATIENCE).await
    }

    /// An object, if the server tells of it in that time.
    pub(super) async fn get_within(&self, path: &str, time: Duration) -> Result<Value, ApiError> {
        let get = (Method::GET, path);
        self.ask(get, JSON, Bytes::new(), time).await
    }

    /// Sends an object or a patch; the object as it is then.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        media_type: &'static str,
        body: &Value,
    ) -> Result<Value, ApiError> {
        let body = Bytes::from(body.to_string());
        self.ask((method, path), media_type, body, PATIENCE).await
    }

    async fn ask(
        &self,
        what: (Method, &str),
        media_type: &'static str,
        body: Bytes,
        time: Duration,
    ) -> Result<Value, ApiError> {
        let asked = format!("{} {}", what.0, what.1);
        let answer = self.answered(what, media_type, body, time).await;
        let answer = answer.map_err(|why| match why {
            Unasked::Account(path, why) => ApiError::Account { path, why },
            Unasked::Away(why) => ApiError::Away {
                url: self.url.clone(),
                asked: asked.clone(),
                why,
            },
        });
        let found = answer.and_then(|(status, body)| read(asked, status, &body));
        self.metrics.asked(match &found {
            Ok(_) => Asked::Ok,
            Err(error) if error.is_denied() => Asked::Denied,
            Err(error) if error.is_missing() => Asked::Missing,
            Err(error) if error.is_conflict() => Asked::Conflict,
            Err(_) => Asked::Failed,
        });
        found
    }

    async fn answered(
        &self,
        (method, path): (Method, &str),
        media_type: &'static str,
        body: Bytes,
        time: Duration,
    ) -> Result<(StatusCode, Bytes), Unasked> {
        let token = self.file("token")?;
        let unusable = |why: &str| Unasked::Account(self.path("token"), why.to_owned());
        let token = String::from_utf8(token).map_err(|_no_text| unusable("it is no text"))?;
        let bearer = Secret::new(format!("Bearer {}", token.trim()));
        let mut bearer = HeaderValue::from_str(bearer.expose())
            .map_err(|_no_header| unusable("it is no token"))?;
        bearer.set_sensitive(true);
        let upstream = self.link()?;
        let url = Secret::new(format!("{}{path}", self.url));
        let address = Address::parse(&url).map_err(|error| Unasked::Away(error.to_string()))?;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, bearer);
        headers.insert(ACCEPT, HeaderValue::from_static(JSON));
        if !request.body().is_empty() {
            let media_type = HeaderValue::from_static(media_type);
            request.headers_mut().insert(CONTENT_TYPE, media_type);
        }
        let bounds = Bounds {
            time,
            answer: ANSWER,
        };
        let answer = exchange(&upstream, &address, request, bounds).await;
        let answer = answer.map_err(|error| Unasked::Away(why(&error)))?;
        Ok((answer.status, answer.body))
    }

    /// Connections by the authority as it is now.
    fn link(&self) -> Result<Arc<Upstream>, Unasked> {
        let authority = self.file("ca.crt")?;
        let mut link = self.link.lock();
        if let Some(link) = &*link
            && link.authority == authority
        {
            return Ok(Arc::clone(&link.upstream));
        }
        let tls = trusting(&authority).map_err(|why| Unasked::Account(self.path("ca.crt"), why))?;
        let connector = Connector::new(tls, PATIENCE, Some(IDLE), None);
        let patience = Patience {
            first_byte: PATIENCE,
            idle: PATIENCE,
        };
        let upstream = Arc::new(Upstream::new(connector, patience, IDLE));
        *link = Some(Link {
            authority,
            upstream: Arc::clone(&upstream),
        });
        drop(link);
        Ok(upstream)
    }

    fn path(&self, name: &str) -> String {
        self.account.join(name).display().to_string()
    }

    /// A file of the service account: small, and in memory where Kubernetes mounts it.
    fn file(&self, name: &str) -> Result<Vec<u8>, Unasked> {
        let wrong = |why: String| Unasked::Account(self.path(name), why);
        let bytes = fs::read(self.account.join(name)).map_err(|error| wrong(error.to_string()))?;
        if bytes.len() > FILE_BYTES {
            return Err(wrong("it is larger than 1 MiB".to_owned()));
        }
        Ok(bytes)
    }
}

/// Why there is no answer at all.
enum Unasked {
    /// A file of the service account, and what is wrong with it.
    Account(String, String),
    Away(String),
}

/// The client's side of TLS, which trusts these certificates and no others.
fn trusting(pem: &[u8]) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(pem) {
        let root = root.map_err(|error| error.to_string())?;
        roots.add(root).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Without the names of settings that there are not here.
fn why(error: &ExchangeError) -> String {
    let late = |time: &Duration| format!("it takes longer than {} ms", time.as_millis());
    match error {
        ExchangeError::Upstream(UpstreamError::Connect(ConnectError::Timeout(time))) => {
            format!("no connection within {} s", time.as_secs_f64())
        },
        ExchangeError::Upstream(UpstreamError::FirstByte(time) | UpstreamError::Idle(time)) => {
            late(time)
        },
        ExchangeError::Late(time) => late(time),
        other => other.to_string(),
    }
}

/// What an answer says.
fn read(asked: String, status: StatusCode, body: &[u8]) -> Result<Value, ApiError> {
    let value: Option<Value> = serde_json::from_slice(body).ok();
    match value {
        Some(value) if status.is_success() => Ok(value),
        value => {
            let said = value.as_ref().and_then(|value| value.get("message"));
            let words = match said.and_then(Value::as_str) {
                Some(said) => format!(": {}", said.chars().take(500).collect::<String>()),
                None if status.is_success() => ", and what it sends is no JSON".to_owned(),
                None => String::new(),
            };
            Err(ApiError::Status {
                asked,
                status,
                words,
            })
        },
    }
}

/// Whether that can be the name of an object: what a path is made of must lead nowhere else.
pub(super) fn is_name(name: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let begins = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    begins && name.len() <= 253 && name.bytes().all(fits) && !name.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_else() {
        for name in ["web", "kube-root-ca.crt", "a1", "0"] {
            assert!(is_name(name), "{name}");
        }
        let long = "a".repeat(254);
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a%2fb",
            "../secrets",
            "A",
            "a..b",
            "a?b",
            "-a",
            &long,
        ] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn an_answer_is_what_the_server_says_of_it() {
        let asked = || "GET /x".to_owned();
        assert!(read(asked(), StatusCode::OK, b"{}").is_ok());
        let no = br#"{"kind":"Status","message":"configmaps \"x\" not found"}"#;
        let missing = read(asked(), StatusCode::NOT_FOUND, no).unwrap_err();
        assert!(missing.is_missing());
        let said = missing.to_string();
        assert!(
            said.ends_with("404 Not Found: configmaps \"x\" not found"),
            "{said}"
        );
        let conflicts = |asked: &str, status| {
            read(asked.to_owned(), status, b"")
                .unwrap_err()
                .is_conflict()
        };
        assert!(conflicts("PUT /x", StatusCode::CONFLICT));
        assert!(conflicts("PATCH /x", StatusCode::UNPROCESSABLE_ENTITY));
        assert!(!conflicts("PUT /x", StatusCode::UNPROCESSABLE_ENTITY));
        assert!(
            read(asked(), StatusCode::FORBIDDEN, b"no")
                .unwrap_err()
                .is_denied()
        );
        let said = read(asked(), StatusCode::OK, b"<html>")
            .unwrap_err()
            .to_string();
        assert!(said.contains("no JSON"), "{said}");
    }
}

//! A stand-in for the API server of a cluster: objects with versions, over TLS, for whoever shows
//! the service account's token; it can be away, slow, or say no.

use std::{
    collections::BTreeMap, convert::Infallible, fs, io, path::PathBuf, sync::Arc, time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::{ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;

/// How the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// It ends connections without an answer.
    Away,
    /// It takes its time.
    Slow(Duration),
    /// It forbids whatever has this in its method and path.
    Denies(&'static str),
}

pub(crate) struct Cluster {
    pub(crate) url: String,
    account: tempfile::TempDir,
    state: Arc<Mutex<State>>,
    _serving: JoinSet<()>,
}

struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    mood: Mood,
    token: String,
    asked: Vec<String>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let account = tempfile::tempdir().unwrap();
        fs::write(account.path().join("ca.crt"), key.cert.pem()).unwrap();
        let der = PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
        let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], der.into())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            objects: BTreeMap::from([("/version".to_owned(), json!({"major": "1"}))]),
            version: 1,
            mood: Mood::Well,
            token: String::new(),
            asked: Vec::new(),
        }));
        let mut serving = JoinSet::new();
        serving.spawn(serve(
            listener,
            TlsAcceptor::from(Arc::new(tls)),
            Arc::clone(&state),
        ));
        let cluster = Self {
            url,
            account,
            state,
            _serving: serving,
        };
        cluster.give_token("first");
        cluster
    }

    /// The directory of the service account.
    pub(crate) fn account(&self) -> PathBuf {
        self.account.path().to_owned()
    }

    /// From now on this is the account's token, and no other.
    pub(crate) fn give_token(&self, token: &str) {
        fs::write(self.account.path().join("token"), token).unwrap();
        token.clone_into(&mut self.state.lock().token);
    }

    pub(crate) fn is(&self, mood: Mood) {
        self.state.lock().mood = mood;
    }

    /// Puts an object there, whatever was there before.
    pub(crate) fn put(&self, path: &str, object: Value) {
        self.state.lock().put(path, object);
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().objects.get(path).cloned()
    }

    /// Whatever was asked, as methods and paths.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.lock().asked.clone()
    }

    /// A namespace with a label.
    pub(crate) fn namespace(&self, name: &str, inject: &str) {
        let labels = json!({"kubernetes.io/metadata.name": name, "tollgate.dev/inject": inject});
        let object = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels},
        });
        self.put(&format!("/api/v1/namespaces/{name}"), object);
    }

    pub(crate) fn config_map(&self, namespace: &str, name: &str, config: &str) {
        let object = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": namespace},
            "data": {"config.yaml": config},
        });
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}");
        self.put(&path, object);
    }
}

impl State {
    fn put(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn answer(&mut self, head: &http::request::Parts, body: &[u8]) -> (StatusCode, Value) {
        let path = head.uri.path().to_owned();
        let asked = format!("{} {path}", head.method);
        self.asked.push(asked.clone());
        let bearer = format!("Bearer {}", self.token);
        let shown = head.headers.get(header::AUTHORIZATION);
        if shown.and_then(|shown| shown.to_str().ok()) != Some(&bearer) {
            return status(StatusCode::UNAUTHORIZED, "Unauthorized");
        }
        if matches!(self.mood, Mood::Denies(what) if asked.contains(what)) {
            return status(StatusCode::FORBIDDEN, &format!("{asked} is forbidden"));
        }
        let found = self.objects.get(&path).cloned();
        match (&head.method, found) {
            (&Method::GET, Some(object)) => (StatusCode::OK, object),
            (&Method::POST, _) => self.create(&path, body),
            (&Method::PUT, Some(before)) => {
                let object: Value = serde_json::from_slice(body).unwrap();
                let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
                if version(&object) != version(&before) {
                    return status(StatusCode::CONFLICT, "the object has been modified");
                }
                (StatusCode::OK, self.put(&path, object))
            },
            (&Method::PATCH, Some(before)) => {
                let media_type = head.headers.get(header::CONTENT_TYPE).unwrap();
                assert_eq!(media_type, "application/json-patch+json");
                let changes: json_patch::Patch = serde_json::from_slice(body).unwrap();
                let mut object = before;
                match json_patch::patch(&mut object, &changes) {
                    Ok(()) => (StatusCode::OK, self.put(&path, object)),
                    Err(error) => status(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
                }
            },
            _ => status(StatusCode::NOT_FOUND, &format!("{path} not found")),
        }
    }

    fn create(&mut self, path: &str, body: &[u8]) -> (StatusCode, Value) {
        let object: Value = serde_json::from_slice(body).unwrap();
        let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
        if self.objects.contains_key(&path) {
            return status(StatusCode::CONFLICT, &format!("{path} already exists"));
        }
        (StatusCode::CREATED, self.put(&path, object))
    }
}

fn status(code: StatusCode, message: &str) -> (StatusCode, Value) {
    let body = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "code": code.as_u16(),
    });
    (code, body)
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        connections.spawn(async move {
            let Ok(socket) = tls.accept(socket).await else {
                return;
            };
            let service = service_fn(|request| answer(request, Arc::clone(&state)));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
            // How it ends is the client's affair.
            connection.await.ok();
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, io::Error> {
    let mood = state.lock().mood.clone();
    match mood {
        Mood::Away => return Err(io::ErrorKind::ConnectionReset.into()),
        Mood::Slow(time) => tokio::time::sleep(time).await,
        Mood::Well | Mood::Denies(_) => {},
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let (status, object) = state.lock().answer(&head, &body);
    let mut response = Response::new(Full::new(Bytes::from(object.to_string())));
    *response.status_mut() = status;
    Ok::<_, Infallible>(response).map_err(|never| match never {})
}

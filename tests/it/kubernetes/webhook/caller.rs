//! The API server's part in a review: connections that trust what the configuration's `caBundle`
//! vouches for, and questions about pods.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    time_provider::TimeProvider,
};
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tollgate::base::clock::{Clock, TestClock};

/// What time it is for the API server: the same as for the webhook.
#[derive(Clone)]
struct Time(Arc<TestClock>);

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let secs = self.0.wall().as_secs();
        Some(UnixTime::since_unix_epoch(Duration::from_secs(secs)))
    }
}

/// Who calls the webhook.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) address: SocketAddr,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) host: &'static str,
}

/// A connection that is kept.
pub(crate) struct Connection {
    sender: Sender,
    /// The certificate that was shown.
    pub(crate) shown: CertificateDer<'static>,
    _driving: JoinSet<()>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Caller {
    /// A TLS connection, if what is shown is vouched for by `bundle` (PEM).
    pub(crate) async fn tls(
        &self,
        bundle: &[u8],
        protocol: &[u8],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(bundle) {
            roots.add(root.unwrap()).unwrap();
        }
        let time = Arc::new(Time(Arc::clone(&self.clock)));
        let mut tls = ClientConfig::builder_with_details(Arc::new(ring::default_provider()), time)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![protocol.to_vec()];
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(self.host).unwrap();
        TlsConnector::from(Arc::new(tls))
            .connect(name, socket)
            .await
    }

    pub(crate) async fn connect(
        &self,
        bundle: &[u8],
        protocol: &str,
    ) -> std::io::Result<Connection> {
        let socket = self.tls(bundle, protocol.as_bytes()).await?;
        let shown = socket.get_ref().1.peer_certificates().unwrap()[0].clone();
        let mut driving = JoinSet::new();
        let io = TokioIo::new(socket);
        let sender = if protocol == "h2" {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
            driving.spawn(async { connection.await.unwrap_or_default() });
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await.unwrap();
            driving.spawn(async { connection.await.unwrap_or_default() });
            Sender::Http1(sender)
        };
        Ok(Connection {
            sender,
            shown,
            _driving: driving,
        })
    }
}

impl Connection {
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> (Response<()>, Bytes) {
        self.try_send(request).await.unwrap()
    }

    pub(crate) async fn try_send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<(Response<()>, Bytes)> {
        let response: Response<Incoming> = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            },
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            },
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok((Response::from_parts(head, ()), body))
    }

    /// Asks about a pod; the status, and the response of the review, or the error as its status.
    pub(crate) async fn ask(&mut self, review: &Value) -> (StatusCode, Value) {
        let (head, body) = self.send(post(review.to_string())).await;
        let answer: Value = serde_json::from_slice(&body).unwrap();
        if !head.status().is_success() {
            assert_eq!(answer["kind"], "Status", "{answer}");
            assert_eq!(answer["details"]["uid"], review["request"]["uid"]);
            return (head.status(), json!({"allowed": false, "status": answer}));
        }
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1", "{answer}");
        assert_eq!(answer["kind"], "AdmissionReview");
        assert_eq!(answer["response"]["uid"], review["request"]["uid"]);
        (head.status(), answer["response"].clone())
    }
}

/// A request as the API server makes it.
pub(crate) fn post(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    request(
        Method::POST,
        "/mutate?timeout=10s",
        "application/json",
        body,
    )
}

pub(crate) fn request(
    method: Method,
    target: &str,
    media_type: &str,
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(format!("https://hook.tollgate.svc{target}"))
        .header("host", "hook.tollgate.svc")
        .header("accept", "application/json, */*")
        .header("user-agent", "kube-apiserver-admission")
        .header("content-type", media_type)
        .body(Full::new(body.into()))
        .unwrap()
}

/// What the API server asks when a Deployment's pod is to be made in a namespace.
pub(crate) fn review(namespace: &str, pod: &Value) -> Value {
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "9d1e4b3a-7c51-4a0e-9c8f-5a6f0d2f0c11",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": namespace,
            "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "uid": "3f0c6d0a-52f3-4c50-8a5b-1f4c9bd0f7a2",
                "groups": ["system:serviceaccounts", "system:authenticated"],
            },
            "object": pod,
            "oldObject": null,
            "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

/// A pod as a `ReplicaSet` of a Deployment makes it, with so many containers.
pub(crate) fn pod(containers: usize) -> Value {
    let container = |number: usize| {
        json!({
            "name": format!("agent-{number}"),
            "image": "python:3.13-slim",
            "command": ["python", "-m", "agent"],
            "env": [{"name": "OPENAI_API_KEY", "valueFrom": {
                "secretKeyRef": {"name": "openai", "key": "key"},
            }}],
            "ports": [{"containerPort": 8000 + number, "protocol": "TCP"}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
            "volumeMounts": [{
                "name": "kube-api-access-x7k2p",
                "readOnly": true,
                "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
            }],
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": "IfNotPresent",
        })
    };
    json!({
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "generateName": "web-6b7f8d9c5-",
            "creationTimestamp": null,
            "labels": {"app": "web", "pod-template-hash": "6b7f8d9c5"},
            "ownerReferences": [{
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": "web-6b7f8d9c5",
                "uid": "0d7c5d5e-0e38-4b0e-8f39-cf0b7f7a9c3e",
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "volumes": [{"name": "kube-api-access-x7k2p", "projected": {"sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            ], "defaultMode": 420}}],
            "containers": (0..containers).map(container).collect::<Vec<_>>(),
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default",
            "serviceAccount": "default",
            "securityContext": {},
            "schedulerName": "default-scheduler",
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists",
                "effect": "NoExecute", "tolerationSeconds": 300}],
            "priority": 0,
            "enableServiceLinks": true,
            "preemptionPolicy": "PreemptLowerPriority",
        },
        "status": {},
    })
}

/// The patch of an answer.
pub(crate) fn patch(response: &Value) -> json_patch::Patch {
    assert_eq!(response["patchType"], "JSONPatch", "{response}");
    let patch = STANDARD
        .decode(response["patch"].as_str().unwrap())
        .unwrap();
    serde_json::from_slice(&patch).unwrap()
}

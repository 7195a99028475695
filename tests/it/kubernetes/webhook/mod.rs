//! The webhook, over TLS, between a stand-in for the API server that it asks and one that asks it.

mod caller;
mod certificates;
mod cluster;
mod leaving;
mod requests;
mod reviews;
mod trouble;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinSet};
use tollgate::{
    base::clock::{TestClock, Timestamp},
    kubernetes::{
        Defaults,
        webhook::{Options, Place, Source, Terms, Webhook},
    },
};

use self::{
    caller::{Caller, Connection},
    cluster::Cluster,
};

const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/hook";
const SECRET: &str = "/api/v1/namespaces/tollgate/secrets/hook-certificate";

const LIFETIME: Duration = Duration::from_hours(90 * 24);
const SETTLE: Duration = Duration::from_mins(2);

/// A cluster with the configuration of a webhook in it, and a clock for everybody.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) clock: Arc<TestClock>,
}

/// One replica of the webhook.
pub(crate) struct Replica {
    pub(crate) caller: Caller,
    pub(crate) health: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    pub(crate) running: JoinSet<std::io::Result<()>>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let cluster = Cluster::start().await;
        let webhook = |name: &str, service: &str| {
            json!({
                "name": name,
                "clientConfig": {"service": {
                    "name": service, "namespace": "tollgate", "path": "/mutate", "port": 443,
                }},
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
            })
        };
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "hook"},
            "webhooks": [webhook("other.example.com", "other"), webhook("tollgate.dev", "hook")],
        });
        cluster.put(CONFIGURATION, configuration);
        cluster.namespace("shop", "enabled");
        Self {
            cluster,
            clock: Arc::new(TestClock::at(Timestamp::from_secs(1_800_000_000))),
        }
    }

    pub(crate) fn made() -> Source {
        Source::Made(Place {
            namespace: "tollgate".to_owned(),
            service: "hook".to_owned(),
            secret: "hook-certificate".to_owned(),
            configuration: "hook".to_owned(),
            lifetime: LIFETIME,
            settle: SETTLE,
        })
    }

    pub(crate) fn options(&self, certificate: Source) -> Options {
        Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            health: "127.0.0.1:0".parse().unwrap(),
            certificate,
            api: self.cluster.url.clone(),
            account: self.cluster.account(),
            defaults: Defaults::default(),
            terms: Terms {
                fresh: Duration::ZERO,
                missing: Duration::ZERO,
                failed: Duration::ZERO,
                stale: Duration::ZERO,
            },
            look: Duration::from_millis(20),
            drain: Duration::ZERO,
            finish: Duration::from_secs(10),
        }
    }

    /// A replica that serves, but may not be ready.
    pub(crate) fn start(&self, options: Options) -> Replica {
        let clock = Arc::clone(&self.clock);
        let webhook = Webhook::bind(options, Arc::<TestClock>::clone(&clock)).unwrap();
        let caller = Caller {
            address: webhook.address().unwrap(),
            clock,
            host: "hook.tollgate.svc",
        };
        let health = webhook.health_address().unwrap();
        let (stop, stopped) = oneshot::channel();
        let mut running = JoinSet::new();
        running.spawn(webhook.run(async { stopped.await.unwrap_or(()) }));
        Replica {
            caller,
            health,
            stop: Some(stop),
            running,
        }
    }

    /// A replica that is ready, with a certificate of its own.
    pub(crate) async fn ready(&self) -> Replica {
        let replica = self.start(self.options(Self::made()));
        replica.becomes_ready().await;
        replica
    }

    /// What the configuration says vouches for the webhook (PEM).
    pub(crate) fn bundle(&self) -> Vec<u8> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let configuration = self.cluster.get(CONFIGURATION).unwrap();
        let bundle = &configuration["webhooks"][1]["clientConfig"]["caBundle"];
        STANDARD
            .decode(bundle.as_str().unwrap_or_default())
            .unwrap()
    }

    pub(crate) async fn connect(&self, replica: &Replica) -> Connection {
        replica
            .caller
            .connect(&self.bundle(), "http/1.1")
            .await
            .unwrap()
    }

    /// What becomes of a pod in the namespace `shop`.
    pub(crate) async fn ask(&self, replica: &Replica, pod: &Value) -> (u16, Value) {
        let review = caller::review("shop", pod);
        let (status, response) = self.connect(replica).await.ask(&review).await;
        (status.as_u16(), response)
    }
}

impl Replica {
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        get(self.health, path).await.unwrap()
    }

    pub(crate) async fn becomes_ready(&self) {
        until("it is ready", async || self.get("/readyz").await.0 == 200).await;
    }

    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// The value of a line of the metrics.
    pub(crate) async fn metric(&self, line: &str) -> f64 {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200);
        let value = text.lines().find_map(|it| it.strip_prefix(line));
        let value = value.unwrap_or_else(|| panic!("no {line} in {text}"));
        value.trim().parse().unwrap()
    }
}

/// Asks a port without TLS.
pub(crate) async fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut socket = tokio::net::TcpStream::connect(address).await?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    let status = answer[9..12].parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    Ok((status, body.to_owned()))
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    assert!(waited.is_ok(), "not in time: {what}");
}

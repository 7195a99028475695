//! `tollgate webhook`: what the API server of Kubernetes asks about each pod, so that pods get the
//! sidecar.

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anstyle::Style;
use clap::Args;

use super::{Failure, log, run::Signals};
use crate::{
    base::{clock::SystemClock, units::parse_duration},
    config::log::{Level, Log},
    kubernetes::{
        Defaults,
        webhook::{Options, Place, Source, Terms, Webhook, WebhookError},
    },
};

/// How often the certificate is looked at.
const LOOK: Duration = Duration::from_secs(15);

/// How long the API server has known who vouches for a certificate before it is shown.
const SETTLE: Duration = Duration::from_mins(2);

/// How long requests that have begun may take when the webhook leaves.
const FINISH: Duration = Duration::from_secs(15);

/// The arguments of `tollgate webhook`.
#[derive(Debug, Args)]
pub(super) struct Command {
    /// Where reviews are taken: POST /mutate over TLS
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// Where /healthz, /readyz and /metrics are, without TLS
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:4101")]
    health: SocketAddr,
    #[command(flatten)]
    certificate: Certificate,
    #[command(flatten)]
    cluster: Cluster,
    #[command(flatten, next_help_heading = "Pods that do not say otherwise")]
    defaults: Defaults,
    /// How long reviews are still taken once it is told to end
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    drain: Duration,
    /// The least important that is logged
    #[arg(long, value_name = "LEVEL", value_enum, default_value = "info")]
    log_level: Level,
}

/// Where the certificate comes from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Certificate")]
struct Certificate {
    /// A directory with tls.crt and tls.key, which somebody else writes and renews, as cert-manager
    /// does [default: one is made, and kept in a Secret]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["secret", "configuration", "cert_lifetime"])]
    cert_dir: Option<PathBuf>,
    /// The Service by which the API server finds the webhook
    #[arg(long, value_name = "NAME", default_value = "tollgate-webhook")]
    service: String,
    /// The Secret that the certificate is kept in [default: the Service's name with -certificate]
    #[arg(long, value_name = "NAME")]
    secret: Option<String>,
    /// The `MutatingWebhookConfiguration` that is told who vouches for it
    #[arg(long, value_name = "NAME", default_value = "tollgate-webhook")]
    configuration: String,
    /// How long it holds; another is made after two thirds of that
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = parse_duration)]
    cert_lifetime: Duration,
}

/// The cluster.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cluster")]
struct Cluster {
    /// The namespace of the webhook [default: the service account's]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// The API server [default: as Kubernetes tells its pods]
    #[arg(long, value_name = "URL")]
    api: Option<String>,
    /// The directory with the service account's token, ca.crt and namespace
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount"
    )]
    service_account: PathBuf,
    #[arg(long, hide = true, env = "KUBERNETES_SERVICE_HOST")]
    api_host: Option<String>,
    #[arg(
        long,
        hide = true,
        env = "KUBERNETES_SERVICE_PORT",
        default_value = "443"
    )]
    api_port: u16,
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { log_level, .. } = self;
        let options = self.options()?;
        let _log = log::start(Log {
            level: log_level,
            ..Log::default()
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::failed)?;
        let ended = runtime.block_on(serve(options));
        runtime.shutdown_background();
        ended
    }

    fn options(self) -> Result<Options, Failure> {
        let Certificate {
            cert_dir,
            service,
            secret,
            configuration,
            cert_lifetime,
        } = self.certificate;
        // First, for outside of a cluster this says all that is missing there.
        let api = self.cluster.url()?;
        let certificate = match cert_dir {
            Some(dir) => Source::Files(dir),
            // Shorter ones would be over before the API server has been told of the next.
            None if cert_lifetime < SETTLE * 10 => {
                let message = "--cert-lifetime: 20m is the shortest that can be renewed in time";
                return Err(Failure::wrong(message));
            },
            None => Source::Made(Place {
                namespace: self.cluster.namespace()?,
                secret: secret.unwrap_or_else(|| format!("{service}-certificate")),
                service,
                configuration,
                lifetime: cert_lifetime,
                settle: SETTLE,
            }),
        };
        Ok(Options {
            listen: self.listen,
            health: self.health,
            certificate,
            api,
            account: self.cluster.service_account,
            defaults: self.defaults,
            terms: Terms::default(),
            look: LOOK,
            drain: self.drain,
            finish: FINISH,
        })
    }
}

impl Cluster {
    fn namespace(&self) -> Result<String, Failure> {
        if let Some(namespace) = &self.namespace {
            return Ok(namespace.clone());
        }
        let path = self.service_account.join("namespace");
        let read = fs::read_to_string(&path).map_err(|error| {
            Failure::wrong(format!(
                "cannot read the namespace from {}: {error}. Say it by --namespace, or mount the \
                 service account.",
                path.display()
            ))
        })?;
        Ok(read.trim().to_owned())
    }

    fn url(&self) -> Result<String, Failure> {
        if let Some(url) = &self.api {
            if !url.starts_with("https://") {
                let message = format!("--api {url}: expected https://HOST:PORT");
                return Err(Failure::wrong(message));
            }
            return Ok(url.clone());
        }
        let host = self.api_host.as_deref().ok_or_else(|| {
            Failure::wrong(
                "this is no pod of a cluster: KUBERNETES_SERVICE_HOST is not set. The webhook is \
                 what a cluster's API server asks about each pod; deploy/README.md says how it is \
                 installed. To put the sidecar into manifests by yourself: tollgate inject -f FILE. \
                 To run it outside all the same, give --api, --namespace and --service-account.",
            )
        })?;
        let is_v6 = host.parse().is_ok_and(|host: IpAddr| host.is_ipv6());
        let port = self.api_port;
        Ok(if is_v6 {
            format!("https://[{host}]:{port}")
        } else {
            format!("https://{host}:{port}")
        })
    }
}

async fn serve(options: Options) -> Result<(), Failure> {
    // Before it says that it is there, so that whoever reads that can end it.
    let (mut first, mut second) = (Signals::new()?, Signals::new()?);
    let api = options.api.clone();
    let webhook = Webhook::bind(options, Arc::new(SystemClock))?;
    greet(&webhook, &api)?;
    tokio::select! {
        ended = webhook.run(async move { first.next().await }) => Ok(ended?),
        () = async { second.next().await; second.next().await } => {
            tracing::warn!("A second signal: leaving at once");
            Ok(())
        },
    }
}

fn greet(webhook: &Webhook, api: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    let bold = Style::new().bold();
    let lines = [
        (
            "listening",
            format!("https://{}/mutate", webhook.address()?),
        ),
        ("health", format!("http://{}", webhook.health_address()?)),
        ("cluster", api.to_owned()),
    ];
    for (what, is) in lines {
        writeln!(out, "{bold}{what:<10}{bold:#} {is}")?;
    }
    Ok(out.flush()?)
}

impl From<WebhookError> for Failure {
    fn from(error: WebhookError) -> Self {
        Self::failed(error)
    }
}

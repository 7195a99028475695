//! The webhook's certificate: where it comes from, and that it is renewed in time.
//!
//! One that we make ourselves (`made`, `secret`, `bundle`) is kept in a Secret, so that all replicas
//! show the same. Or it is cert-manager's, in files (`files`).

mod bundle;
mod files;
mod made;
mod pair;
mod secret;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use self::{files::Files, pair::Pair, secret::Shared};
use super::{
    api::Api,
    metrics::{Check, Metrics},
};
use crate::base::clock::{Clock, Timestamp};

/// The shortest time between two looks, while something fails.
const SOON: Duration = Duration::from_millis(500);

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// We make it.
    Made(Place),
    /// Somebody else writes `tls.crt` and `tls.key` into this directory, and tells the API server
    /// who vouches for them.
    Files(PathBuf),
}

/// Whose certificate we make, and where it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The namespace of the Service and the Secret.
    pub namespace: String,
    /// The Service by which the API server finds us.
    pub service: String,
    /// The Secret.
    pub secret: String,
    /// The `MutatingWebhookConfiguration` that is told who vouches for it.
    pub configuration: String,
    /// How long a certificate holds; another is made after two thirds of that.
    pub lifetime: Duration,
    /// How long the API server has known who vouches for a certificate before it is shown.
    pub settle: Duration,
}

impl Place {
    /// The names of the Service; the API server asks for the first one.
    fn names(&self) -> [String; 3] {
        let Self {
            namespace, service, ..
        } = self;
        [
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
            format!("{service}.{namespace}"),
        ]
    }
}

/// The certificate that new connections are shown. Those that are open keep theirs.
#[derive(Debug)]
pub(super) struct Shown {
    pair: ArcSwapOption<Pair>,
    metrics: Arc<Metrics>,
}

impl Shown {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            pair: ArcSwapOption::empty(),
            metrics,
        }
    }

    fn show(&self, pair: Pair) {
        let is_new = self
            .pair
            .load()
            .as_ref()
            .is_none_or(|shown| shown.key.cert != pair.key.cert);
        if is_new {
            tracing::info!(ends = %pair.ends, "A certificate is shown from now on");
            self.metrics.shown(pair.ends);
            self.pair.store(Some(Arc::new(pair)));
        }
    }

    /// When the one that is shown ends.
    pub(super) fn ends(&self) -> Option<Timestamp> {
        self.pair.load().as_ref().map(|pair| pair.ends)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pair = self.pair.load();
        pair.as_ref().map(|pair| Arc::clone(&pair.key))
    }
}

/// What was wrong at the last look.
#[derive(Debug)]
pub(super) struct Trouble {
    said: Mutex<Option<String>>,
    was_well: AtomicBool,
}

impl Default for Trouble {
    fn default() -> Self {
        let not_yet = "the certificate was not looked for yet".to_owned();
        Self {
            said: Mutex::new(Some(not_yet)),
            was_well: AtomicBool::new(false),
        }
    }
}

impl Trouble {
    pub(super) fn said(&self) -> Option<String> {
        self.said.lock().clone()
    }

    /// Whether everything was as it should be once.
    pub(super) fn was_well(&self) -> bool {
        self.was_well.load(Relaxed)
    }

    /// Notes and logs what has changed.
    fn note(&self, failed: Option<String>) {
        if failed.is_none() {
            self.was_well.store(true, Relaxed);
        }
        let mut said = self.said.lock();
        if *said != failed {
            if let Some(error) = &failed {
                tracing::error!(%error, "The webhook's certificate cannot be kept as it should be; it is tried again");
            } else {
                tracing::info!("The webhook's certificate is as it should be");
            }
            *said = failed;
        }
    }
}

/// Looks after the certificate.
pub(super) struct Keeper {
    work: Work,
    shown: Arc<Shown>,
    trouble: Arc<Trouble>,
    metrics: Arc<Metrics>,
}

enum Work {
    Made(Box<Shared>),
    Files(Files),
}

impl Keeper {
    pub(super) fn new(
        source: &Source,
        (api, clock): (&Arc<Api>, &Arc<dyn Clock>),
        (shown, trouble): (&Arc<Shown>, &Arc<Trouble>),
        metrics: &Arc<Metrics>,
    ) -> Self {
        let (api, clock) = (Arc::clone(api), Arc::clone(clock));
        let work = match source {
            Source::Made(place) => Work::Made(Box::new(Shared::new(place.clone(), api, clock))),
            Source::Files(dir) => Work::Files(Files::new(dir.clone(), api, clock)),
        };
        Self {
            work,
            shown: Arc::clone(shown),
            trouble: Arc::clone(trouble),
            metrics: Arc::clone(metrics),
        }
    }

    /// Looks again and again. While something fails it looks sooner, and then less and less often.
    #[expect(clippy::infinite_loop, reason = "dropped when the webhook ends")]
    pub(super) async fn keep(mut self, every: Duration) {
        let mut wait = SOON.min(every);
        loop {
            let looked = match &mut self.work {
                Work::Made(shared) => shared.look(&self.shown).await,
                Work::Files(files) => files.look(&self.shown).await,
            };
            let failed = looked.err();
            self.metrics.checked(match failed {
                None => Check::Ok,
                Some(_) => Check::Failed,
            });
            wait = match &failed {
                None => every,
                Some(_) if self.trouble.said().is_none() => SOON.min(every),
                Some(_) => (wait * 2).min(every),
            };
            self.trouble.note(failed);
            // Replicas that start together do not ask together.
            let spread = wait.mul_f64(0.75 + fastrand::f64() / 4.0);
            tokio::time::sleep(spread).await;
        }
    }
}

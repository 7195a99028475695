//! What becomes of a pod: asks what has to be known of its namespace, and has injection decide.

use std::{sync::Arc, time::Duration};

use super::{
    api::is_name,
    known::Known,
    metrics::Outcome,
    review::{Denial, Subject, Verdict},
};
use crate::kubernetes::{Asked, Defaults, Injected, Namespace, Owner, Refusal, Wish};

/// Decides on pods.
pub(super) struct Judge {
    known: Known,
    defaults: Defaults,
}

/// What was decided.
#[derive(Debug)]
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    pub(super) warnings: Vec<String>,
    pub(super) outcome: Outcome,
}

/// What has to be known for a decision cannot be; why.
#[derive(Debug)]
pub(super) struct Unknown(pub(super) String);

impl Judge {
    pub(super) const fn new(known: Known, defaults: Defaults) -> Self {
        Self { known, defaults }
    }

    /// Decides within a time.
    ///
    /// # Errors
    /// What has to be known cannot be in that time: the `failurePolicy` of the configuration decides.
    pub(super) async fn decide(
        &self,
        subject: Subject,
        within: Duration,
    ) -> Result<Judgement, Unknown> {
        let decided = tokio::time::timeout(within, self.judge(subject, within)).await;
        decided.unwrap_or_else(|_elapsed| {
            Err(Unknown(format!(
                "the API server did not tell within {} s what the pod's namespace and ConfigMap are",
                within.as_secs_f64()
            )))
        })
    }

    async fn judge(&self, subject: Subject, within: Duration) -> Result<Judgement, Unknown> {
        Ok(match subject {
            Subject::Nothing(what) => Judgement {
                verdict: Verdict::Refused(Denial::lacks(what)),
                warnings: Vec::new(),
                outcome: Outcome::Refused,
            },
            Subject::Other(what) => {
                let warning = format!(
                    "tollgate: the webhook was asked about {what}, and changes nothing but pods that \
                     are made: its rule should be CREATE of pods (v1)"
                );
                Judgement {
                    warnings: vec![warning],
                    ..Judgement::as_it_is()
                }
            },
            Subject::Pod { namespace, pod } => match self.pod(&namespace, pod, within).await {
                Ok(judgement) => judgement,
                Err(Unfit::Refused(refusal)) => {
                    tracing::info!(namespace, reason = refusal.reason(), %refusal, "A pod is refused");
                    Judgement {
                        verdict: Verdict::Refused(Denial::from(&*refusal)),
                        warnings: Vec::new(),
                        outcome: Outcome::Refused,
                    }
                },
                Err(Unfit::Unknown(why)) => {
                    tracing::error!(namespace, error = %why, "A pod cannot be decided on");
                    return Err(Unknown(why));
                },
            },
        })
    }

    async fn pod(
        &self,
        name: &str,
        pod: serde_json::Value,
        within: Duration,
    ) -> Result<Judgement, Unfit> {
        let unknown = |error: super::api::ApiError| Unfit::Unknown(error.to_string());
        let object = if is_name(name) {
            let found = self.known.namespace(name, within).await;
            found.map_err(unknown)?
        } else {
            None
        };
        let Some(object) = object else {
            let why = format!("there is no namespace {name:.80}, says the API server");
            return Err(Unfit::Unknown(why));
        };
        let namespace = Namespace::of(name, &object);
        let wish = match Wish::of(&pod, &namespace, &self.defaults)? {
            Asked::For(wish) => wish,
            Asked::Not(_unwanted) => return Ok(Judgement::as_it_is()),
        };
        let config_map = match wish.config_map() {
            Some(config_map) if is_name(config_map) => {
                let found = self.known.config_map(name, config_map, within).await;
                found.map_err(unknown)?
            },
            // There can be none of such a name.
            _ => None,
        };
        let owner = Owner::of_pod(&pod);
        let config_map: Option<&serde_json::Value> = config_map.as_ref().map(Arc::as_ref);
        let Injected {
            pod: injected,
            warnings,
        } = wish.inject(pod.clone(), config_map, &owner)?;
        Ok(Judgement {
            verdict: Verdict::Changed(json_patch::diff(&pod, &injected)),
            warnings,
            outcome: Outcome::Injected,
        })
    }
}

/// Why a pod does not get its sidecar.
enum Unfit {
    Refused(Box<Refusal>),
    /// What has to be known cannot be.
    Unknown(String),
}

impl From<Refusal> for Unfit {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl Judgement {
    const fn as_it_is() -> Self {
        Self {
            verdict: Verdict::AsItIs,
            warnings: Vec::new(),
            outcome: Outcome::Unwanted,
        }
    }
}

//! From a pod and a wish to a pod with a sidecar.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    INJECTED, Owner, Refusal, Replicas,
    budgets::{self, Ledger},
    container::Parts,
    pod::{list_in, map_in, name, stays, texts},
    resources::resources,
    settings::{Around, SPANS, Settings},
    variables,
    wish::Wish,
};
use crate::{config::Config, provider::Providers};

/// How many ports are redirected at most.
const MAX_PORTS: usize = 15;
/// How long a pod has to leave that does not say.
const GRACE: u64 = 30;
/// Which container `kubectl logs` and `exec` mean.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// A pod with its sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct Injected {
    /// The pod.
    pub pod: Value,
    /// What may not be as its author thinks, a sentence each.
    pub warnings: Vec<String>,
}

impl Wish {
    /// `pod` with its sidecar. `config_map`: that which [`Wish::config_map`] names, if it is there.
    ///
    /// # Errors
    /// The configuration is not there or wrong, or budgets in it would not hold what they promise.
    pub fn inject(
        &self,
        mut pod: Value,
        config_map: Option<&Value>,
        owner: &Owner,
    ) -> Result<Injected, Refusal> {
        let ledger = Ledger::of(&pod, self.said.ledger_volume.as_deref(), owner)?;
        let grace = pod.pointer("/spec/terminationGracePeriodSeconds");
        let grace = Duration::from_secs(grace.and_then(Value::as_u64).unwrap_or(GRACE));
        let around = Around {
            wish: self,
            owner,
            ledger,
            grace,
        };
        let settings = Settings::read(&around, config_map)?;
        let config = &settings.config;
        budgets::check(config, owner, ledger, &self.said)?;
        let mut warnings = settings.warnings.clone();
        warnings.extend(late(config, grace));
        warnings.extend(self.doubtful(&pod, owner, ledger));
        let redirected = ports(config);
        let parts = Parts {
            wish: self,
            settings: &settings,
            owner,
            resources: resources(&pod, self, config),
            ports: &redirected,
        };
        self.mark(&mut pod)?;
        let spec = pod
            .get_mut("spec")
            .ok_or_else(|| Refusal::Malformed("it has no spec".to_owned()))?;
        list_in(spec, "volumes")?.extend(parts.volumes());
        let (before, after) = parts.init_containers();
        let has_first = spec.get("initContainers").is_some_and(|own| !own.is_null());
        if has_first || !before.is_empty() || !after.is_empty() {
            let first = list_in(spec, "initContainers")?;
            warnings.extend(self.lead_first(first, config)?);
            let own = std::mem::replace(first, before);
            first.extend(own.into_iter().chain(after));
        }
        let containers = list_in(spec, "containers")?;
        for container in containers.iter_mut() {
            warnings.extend(variables::lead(container, self.mode, &config.providers)?);
        }
        if !self.native {
            containers.insert(0, parts.sidecar());
        }
        Ok(Injected { pod, warnings })
    }

    /// Leads the calls of containers that run first to the sidecar, if it is there by then.
    fn lead_first(&self, first: &mut [Value], config: &Config) -> Result<Vec<String>, Refusal> {
        let mut warnings = Vec::new();
        let mut unserved = Vec::new();
        for container in first {
            // One that stays calls later, too.
            if self.native || stays(container) {
                warnings.extend(variables::lead(container, self.mode, &config.providers)?);
            } else {
                unserved.push(name(container).to_owned());
            }
        }
        if !unserved.is_empty() {
            warnings.push(format!(
                "init container {} runs before the sidecar, which is none that stays \
                 (native-sidecar: false): its calls are unmetered",
                unserved.join(", ")
            ));
        }
        Ok(warnings)
    }

    /// Marks the pod as injected into.
    fn mark(&self, pod: &mut Value) -> Result<(), Refusal> {
        let first = pod.pointer("/spec/containers/0");
        let first = first.map(name).unwrap_or_default().to_owned();
        let chosen = texts(pod, "/metadata/annotations").contains_key(DEFAULT_CONTAINER);
        let Some(pod) = pod.as_object_mut() else {
            return Err(Refusal::Malformed("it is no mapping".to_owned()));
        };
        let metadata = pod.entry("metadata").or_insert_with(|| json!({}));
        if metadata.is_null() {
            *metadata = json!({});
        }
        let labels = map_in(metadata, "labels")?;
        labels.insert(INJECTED.to_owned(), json!("true"));
        let annotations = map_in(metadata, "annotations")?;
        let version = env!("CARGO_PKG_VERSION");
        annotations.insert(INJECTED.to_owned(), json!(version));
        if !self.native && !chosen {
            annotations.insert(DEFAULT_CONTAINER.to_owned(), json!(first));
        }
        Ok(())
    }

    /// What may go wrong that need not.
    fn doubtful(&self, pod: &Value, owner: &Owner, ledger: Ledger) -> Vec<String> {
        let mut warnings = Vec::new();
        let Some(volume) = &self.said.ledger_volume else {
            return warnings;
        };
        if ledger == Ledger::Lost {
            warnings.push(format!(
                "volume {volume} goes with the pod, and the ledger with it"
            ));
        } else if owner.replicas == Replicas::Several && owner.kind != "StatefulSet" {
            warnings.push(format!(
                "volume {volume} keeps the ledger of one pod at a time: the sidecar of a second pod \
                 that mounts it does not start"
            ));
        }
        if pod.pointer("/spec/securityContext/fsGroup").is_none() {
            warnings.push(format!(
                "the pod has no securityContext.fsGroup: the sidecar, which is no root, may not be \
                 able to write to volume {volume}"
            ));
        }
        warnings
    }
}

/// Whether calls may be cut because the pod has less time to leave than the sidecar takes.
fn late(config: &Config, grace: Duration) -> Option<String> {
    let shutdown = &config.shutdown;
    let needed = shutdown.delay.saturating_add(shutdown.deadline);
    let needed = needed.saturating_add(SPANS);
    (grace < needed).then(|| {
        format!(
            "terminationGracePeriodSeconds is {}, less than the {} that shutdown.delay, \
             shutdown.deadline and the last spans take: calls may be cut, and those spans lost",
            grace.as_secs(),
            needed.as_secs()
        )
    })
}

/// The ports at which providers are reached by TLS.
fn ports(config: &Config) -> Vec<u16> {
    let mut ports = vec![443];
    let known = Providers::build(&config.providers);
    for provider in known.iter().flat_map(Providers::iter) {
        let base = provider.base.as_ref().filter(|base| base.tls);
        if let Some(base) = base
            && !ports.contains(&base.port)
            && ports.len() < MAX_PORTS
        {
            ports.push(base.port);
        }
    }
    ports
}

//! The sections `limits`, `identity` and `shutdown`: bounds, who calls are for, and the way out.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{
        self, IntoDeserializer as _,
        value::{self, StrDeserializer},
    },
};

use crate::{
    base::units::{self, ByteSize},
    call::{
        labels::{Label, Source},
        workload::{Owner, Workload},
    },
    net::Cidr,
};

/// The bounds of what is held at once. Beyond them calls wait or are refused, and are counted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections from clients; further ones wait to be accepted.
    pub connections: usize,
    /// Calls at once whose requests are there; further ones are answered 503.
    pub in_flight: usize,
    /// How long a client may keep us waiting for the body of its request; then it is answered 408.
    /// Each 500 bytes that come give back a second.
    #[serde(with = "units::duration")]
    pub body_wait: Duration,
    /// A request's head; more is answered 431.
    pub header_bytes: ByteSize,
    /// Header fields of a request; more is answered 431.
    pub headers: usize,
    /// The longest request body that is read whole before it is sent on.
    pub peek: ByteSize,
    /// All request bodies being read whole, together.
    pub peek_total: ByteSize,
    /// Live counters of budgets and rate limits; beyond, new label values share one.
    pub counters: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            in_flight: 4_096,
            body_wait: Duration::from_mins(1),
            header_bytes: ByteSize::kib(64),
            headers: 256,
            peek: ByteSize::mib(4),
            peek_total: ByteSize::mib(64),
            counters: 1_000_000,
        }
    }
}

/// Who calls are for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Identity {
    /// Whom to believe: sources of labels, and addresses.
    pub trusted: Vec<Trusted>,
    /// A file with the keys of which clients must show one.
    pub keys_file: Option<PathBuf>,
    /// Labels of every call that does not say otherwise.
    pub labels: BTreeMap<Label, String>,
    /// The Kubernetes pod that Tollgate runs in; by default what `TOLLGATE_POD` says.
    pub pod: Option<Box<str>>,
    /// Its namespace: `TOLLGATE_NAMESPACE`.
    pub namespace: Option<Box<str>>,
    /// Its service account: `TOLLGATE_SERVICE_ACCOUNT`.
    pub service_account: Option<Box<str>>,
    /// Its UID: `TOLLGATE_POD_UID`.
    pub pod_uid: Option<Box<str>>,
    /// The node: `TOLLGATE_NODE`.
    pub node: Option<Box<str>>,
    /// What made the pod, `Deployment/support`: `TOLLGATE_OWNER`.
    pub owner: Option<Owner>,
}

impl Identity {
    /// Takes from the environment where Tollgate runs, as far as it is not written.
    pub fn located(&mut self, variable: &dyn Fn(&str) -> Option<String>) {
        for (place, name) in [
            (&mut self.pod, "TOLLGATE_POD"),
            (&mut self.namespace, "TOLLGATE_NAMESPACE"),
            (&mut self.service_account, "TOLLGATE_SERVICE_ACCOUNT"),
            (&mut self.pod_uid, "TOLLGATE_POD_UID"),
            (&mut self.node, "TOLLGATE_NODE"),
        ] {
            let said = || variable(name).map(String::into_boxed_str);
            let written = place.take().filter(|text| !text.is_empty());
            *place = written.or_else(said).filter(|text| !text.is_empty());
        }
        if self.owner.is_none() {
            self.owner = variable("TOLLGATE_OWNER").and_then(|owner| Owner::named(&owner));
        }
    }

    /// Where Tollgate runs.
    pub fn workload(&self) -> Workload {
        Workload {
            pod: self.pod.clone(),
            namespace: self.namespace.clone(),
            service_account: self.service_account.clone(),
            pod_uid: self.pod_uid.clone(),
            node: self.node.clone(),
            owner: self.owner.clone(),
        }
    }
}

/// What is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trusted {
    /// Labels from there count for limits. If no source is named, all do, on their word.
    Source(Source),
    /// Whoever calls from there needs no client key, as if they had shown one.
    Addresses(Cidr),
}

impl Identity {
    /// The sources of labels that count for limits. Empty: all.
    pub fn sources(&self) -> Vec<Source> {
        let sources = self.trusted.iter().filter_map(|trusted| match trusted {
            Trusted::Source(source) => Some(*source),
            Trusted::Addresses(_) => None,
        });
        sources.collect()
    }

    /// Where callers need no client key.
    pub fn addresses(&self) -> Vec<Cidr> {
        let addresses = self.trusted.iter().filter_map(|trusted| match trusted {
            Trusted::Source(_) => None,
            Trusted::Addresses(range) => Some(*range),
        });
        addresses.collect()
    }
}

impl<'de> Deserialize<'de> for Trusted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let word: StrDeserializer<'_, value::Error> = text.as_str().into_deserializer();
        let source = Source::deserialize(word).map(Self::Source);
        let addresses = || text.parse().map(Self::Addresses);
        source.or_else(|_no_source| addresses()).map_err(|_neither| {
            de::Error::custom(format!(
                "`{text}` is neither a source of labels (key, header, path, baggage, body, static) \
                 nor a range of addresses like 127.0.0.0/8"
            ))
        })
    }
}

/// How Tollgate leaves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// How long it goes on accepting after it said that it is not ready.
    #[serde(with = "units::duration")]
    pub delay: Duration,
    /// How long calls in flight may take to finish before they are cut.
    #[serde(with = "units::duration")]
    pub deadline: Duration,
    /// It leaves by itself once no client was connected for so long; none: never.
    #[serde(with = "units::optional_duration")]
    pub idle: Option<Duration>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            deadline: Duration::from_secs(30),
            idle: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_runs_is_what_is_written_else_what_the_environment_says() {
        let said = |name: &str| Some(name.to_lowercase());
        let mut identity = Identity {
            pod: Some("web-1".into()),
            namespace: Some("".into()),
            ..Identity::default()
        };
        identity.located(&|name| said(name).filter(|name| !name.ends_with("account")));
        let workload = identity.workload();
        assert_eq!(workload.pod.as_deref(), Some("web-1"));
        assert_eq!(workload.namespace.as_deref(), Some("tollgate_namespace"));
        assert_eq!(workload.service_account, None);
        assert_eq!(workload.owner, None, "that is no owner");
        identity.located(&|_| Some(String::new()));
        assert_eq!(identity.service_account, None);
        identity.located(&|_| Some("Job/nightly".to_owned()));
        let owner = identity.workload().owner.unwrap();
        assert_eq!(owner.to_string(), "Job/nightly");
    }
}

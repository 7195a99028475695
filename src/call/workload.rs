//! Where calls come from, as the cluster knows it.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// Where Tollgate itself runs, and with it whoever calls through it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// The Kubernetes pod's name.
    pub pod: Option<Box<str>>,
    /// Its UID.
    pub pod_uid: Option<Box<str>>,
    /// Its namespace.
    pub namespace: Option<Box<str>>,
    /// Its service account.
    pub service_account: Option<Box<str>>,
    /// The node that it runs on.
    pub node: Option<Box<str>>,
    /// What made it.
    pub owner: Option<Owner>,
}

/// What made a pod: `Deployment/support`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its kind, as Kubernetes writes it.
    pub kind: Box<str>,
    /// Its name.
    pub name: Box<str>,
}

/// Attribute: the service account, for which OpenTelemetry has no name.
pub const SERVICE_ACCOUNT: &str = "tollgate.service_account";

/// Attribute: the owner, where OpenTelemetry has no name for its kind: `Rollout/support`.
pub const OWNER: &str = "tollgate.owner";

/// What the names begin with that OpenTelemetry has for these.
pub const KUBERNETES: &str = "k8s.";

impl Workload {
    /// What is known of it, under OpenTelemetry's names for resources.
    pub fn attributes(&self) -> Vec<(&'static str, Box<str>)> {
        let known = [
            ("k8s.pod.name", &self.pod),
            ("k8s.pod.uid", &self.pod_uid),
            ("k8s.namespace.name", &self.namespace),
            (SERVICE_ACCOUNT, &self.service_account),
            ("k8s.node.name", &self.node),
        ];
        let known = known.into_iter();
        let known = known.filter_map(|(name, value)| Some((name, value.clone()?)));
        let owner = self.owner.iter().map(Owner::attribute);
        known.chain(owner).collect()
    }
}

impl Owner {
    fn attribute(&self) -> (&'static str, Box<str>) {
        let name = match &*self.kind {
            "Deployment" => "k8s.deployment.name",
            "ReplicaSet" => "k8s.replicaset.name",
            "StatefulSet" => "k8s.statefulset.name",
            "DaemonSet" => "k8s.daemonset.name",
            "Job" => "k8s.job.name",
            "CronJob" => "k8s.cronjob.name",
            "ReplicationController" => "k8s.replicationcontroller.name",
            _ => return (OWNER, self.to_string().into_boxed_str()),
        };
        (name, self.name.clone())
    }

    /// Reads `Deployment/support`; none if it is not written so.
    pub fn named(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once('/')?;
        let is_name = |text: &str| !text.is_empty() && !text.contains(['/', ' ']);
        (is_name(kind) && is_name(name)).then(|| Self {
            kind: kind.into(),
            name: name.into(),
        })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl<'de> Deserialize<'de> for Owner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::named(&text).ok_or_else(|| {
            de::Error::custom(format!(
                "`{text}` is no owner of a pod: expected a kind and a name, like Deployment/support"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_has_opentelemetry_s_names() {
        let workload = |owner| Workload {
            pod: Some("support-7d-x".into()),
            pod_uid: Some("0-1".into()),
            namespace: Some("agents".into()),
            service_account: Some("bot".into()),
            node: Some("node-1".into()),
            owner: Owner::named(owner),
        };
        let attributes = workload("Deployment/support").attributes();
        let shown: Vec<String> = attributes
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            shown,
            [
                "k8s.pod.name=support-7d-x",
                "k8s.pod.uid=0-1",
                "k8s.namespace.name=agents",
                "tollgate.service_account=bot",
                "k8s.node.name=node-1",
                "k8s.deployment.name=support",
            ]
        );
        let others = workload("Rollout/support").attributes();
        assert_eq!(others.last(), Some(&(OWNER, "Rollout/support".into())));
        assert_eq!(Workload::default().attributes(), []);
    }

    #[test]
    fn an_owner_is_a_kind_and_a_name() {
        for wrong in ["", "support", "/support", "Deployment/", "a/b/c", "a b/c"] {
            assert_eq!(Owner::named(wrong), None, "{wrong}");
        }
        assert_eq!(Owner::named("Job/x-1").unwrap().to_string(), "Job/x-1");
    }
}

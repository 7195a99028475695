//! Whose pod it is, and whether there can be more than one like it.

use serde_json::Value;

use super::pod::{list, text, texts};

/// Whose pod it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `Deployment`, `Job`; `Pod` for one that nobody owns.
    pub kind: String,
    /// Its name; empty if it is not known yet.
    pub name: String,
    /// How many such pods there can be at once.
    pub replicas: Replicas,
    /// The volumes that it makes for each of its pods and that stay, as far as the pod does not have
    /// them yet.
    pub claims: Vec<String>,
}

/// How many pods there can be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replicas {
    /// One.
    One,
    /// More than one, sooner or later.
    Several,
}

impl Owner {
    /// The owner that a pod itself names.
    pub fn of_pod(pod: &Value) -> Self {
        let owners = pod.pointer("/metadata/ownerReferences");
        let owners = owners.and_then(Value::as_array);
        let controls = |owner: &&Value| owner.get("controller") == Some(&Value::Bool(true));
        let Some(owner) = owners.and_then(|owners| owners.iter().find(controls)) else {
            return Self::bare(pod);
        };
        let (kind, name) = (text(owner, "/kind"), text(owner, "/name"));
        let labels = texts(pod, "/metadata/labels");
        // What a Deployment's ReplicaSet is called: its name and the hash of the pods' template.
        let hash = labels.get("pod-template-hash");
        let deployment = hash
            .filter(|_| kind == "ReplicaSet")
            .and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-'));
        let (kind, name) = deployment.map_or((kind, name), |name| ("Deployment", name));
        Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            replicas: Replicas::Several,
            claims: Vec::new(),
        }
    }

    /// The owner of the pods that `object` describes: itself.
    pub(super) fn of_workload(object: &Value) -> Self {
        let kind = text(object, "/kind");
        let one_at_a_time = |spec: &str| {
            let parallelism = object.pointer(&format!("{spec}/parallelism"));
            parallelism.is_none_or(|count| count.as_u64().is_some_and(|count| count <= 1))
        };
        let one = match kind {
            "Pod" => return Self::bare(object),
            "Job" => one_at_a_time("/spec"),
            "CronJob" => {
                text(object, "/spec/concurrencyPolicy") == "Forbid"
                    && one_at_a_time("/spec/jobTemplate/spec")
            },
            _ => false,
        };
        Self {
            kind: kind.to_owned(),
            name: text(object, "/metadata/name").to_owned(),
            replicas: if one {
                Replicas::One
            } else {
                Replicas::Several
            },
            claims: list(object, "/spec/volumeClaimTemplates")
                .iter()
                .map(|claim| text(claim, "/metadata/name").to_owned())
                .collect(),
        }
    }

    fn bare(pod: &Value) -> Self {
        Self {
            kind: "Pod".to_owned(),
            name: text(pod, "/metadata/name").to_owned(),
            replicas: Replicas::One,
            claims: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_of_a_deployment_is_its_and_a_bare_one_is_its_own() {
        let mut pod = json!({"metadata": {
            "generateName": "web-5d4f-",
            "labels": {"pod-template-hash": "5d4f"},
            "ownerReferences": [
                {"kind": "Other", "name": "x"},
                {"kind": "ReplicaSet", "name": "web-5d4f", "controller": true}
            ]
        }});
        let owner = Owner::of_pod(&pod);
        assert_eq!((&*owner.kind, &*owner.name), ("Deployment", "web"));
        assert_eq!(owner.replicas, Replicas::Several);
        pod["metadata"]["labels"] = json!({});
        assert_eq!(Owner::of_pod(&pod).kind, "ReplicaSet");
        let bare = Owner::of_pod(&json!({"metadata": {"name": "one"}}));
        assert_eq!((&*bare.kind, &*bare.name), ("Pod", "one"));
        assert_eq!(bare.replicas, Replicas::One);
    }

    #[test]
    fn jobs_have_one_pod_at_a_time_unless_they_say_otherwise() {
        let replicas = |object: Value| Owner::of_workload(&object).replicas;
        let job = |parallelism: u64| json!({"kind": "Job", "spec": {"parallelism": parallelism}});
        assert_eq!(replicas(json!({"kind": "Job"})), Replicas::One);
        assert_eq!(replicas(job(1)), Replicas::One);
        assert_eq!(replicas(job(2)), Replicas::Several);
        let cron = |policy: &str| {
            replicas(json!({"kind": "CronJob", "spec": {"concurrencyPolicy": policy}}))
        };
        assert_eq!(cron("Forbid"), Replicas::One);
        assert_eq!(cron("Allow"), Replicas::Several);
        let deployment = json!({"kind": "Deployment", "spec": {"replicas": 1}});
        assert_eq!(replicas(deployment), Replicas::Several);
    }
}

//! The namespace of a pod, as far as injection asks about it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{INJECT, pod::texts};

/// The namespace of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether pods get a sidecar that do not ask for one, where the namespace says nothing: true
    /// where somebody has asked for them, as who runs `tollgate inject` does.
    pub assumed: bool,
}

/// What a label or annotation says about injection.
pub(super) fn switch(value: &str) -> Result<bool, String> {
    match value {
        "enabled" | "true" => Ok(true),
        "disabled" | "false" => Ok(false),
        other => Err(format!(
            "`{other}` is neither enabled (true) nor disabled (false)"
        )),
    }
}

impl Namespace {
    /// The namespace called `name`, of which `object` is what the cluster says.
    pub fn of(name: &str, object: &Value) -> Self {
        Self {
            name: name.to_owned(),
            labels: texts(object, "/metadata/labels"),
            assumed: false,
        }
    }

    /// A namespace of which nothing else is known, by somebody who wants its pods injected.
    pub fn assumed(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            assumed: true,
            ..Self::default()
        }
    }

    /// What it says about injection into its pods: its label, as the webhook's selectors see no
    /// annotations. Nonsense is as if it said nothing: one namespace's mistake is not each of its pods'.
    pub(super) fn says(&self) -> Option<bool> {
        let said = self.labels.get(INJECT);
        said.and_then(|value| switch(value).ok())
    }

    /// The level of pod security that it enforces.
    pub(super) fn security(&self) -> Option<&str> {
        let label = self.labels.get("pod-security.kubernetes.io/enforce");
        label.map(String::as_str)
    }
}

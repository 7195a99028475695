//! Whether a pod is to be injected into, and how: by its annotations, its namespace, and defaults.

use serde_json::Value;

use super::{
    Defaults, INJECT, INJECTED, Mode, Namespace, Refusal, SIDECAR,
    annotations::{Annotations, ConfigMap},
    defaults::redirect_image,
    namespace::switch,
    pod::{self, containers, name, texts},
    unfit,
};

/// What becomes of a pod.
#[derive(Clone, Debug)]
pub enum Asked {
    /// It gets a sidecar.
    For(Box<Wish>),
    /// It stays as it is.
    Not(NotWanted),
}

/// Why a pod stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotWanted {
    /// Nobody asked.
    #[error(
        "neither namespace {0} nor the pod asks for it, with the label tollgate.dev/inject: enabled"
    )]
    Unasked(String),
    /// It is asked to be left alone.
    #[error("the {0} says tollgate.dev/inject: disabled")]
    Disabled(&'static str),
    /// It has the sidecar already.
    #[error("it has the sidecar already")]
    Already,
    /// It mirrors a pod that a node has of its own, which nobody can change.
    #[error("it mirrors a static pod of its node")]
    Mirror,
}

/// How a pod is to be injected into.
#[derive(Clone, Debug)]
pub struct Wish {
    pub(super) said: Annotations,
    pub(super) namespace: Namespace,
    pub(super) mode: Mode,
    pub(super) native: bool,
    pub(super) image: String,
    pub(super) redirect_image: String,
    pub(super) config: Option<ConfigMap>,
    pub(super) defaults: Defaults,
}

impl Wish {
    /// What `pod` in `namespace` asks for.
    ///
    /// # Errors
    /// It asks for what cannot be done safely.
    pub fn of(pod: &Value, namespace: &Namespace, defaults: &Defaults) -> Result<Asked, Refusal> {
        pod::check(pod)?;
        if let Some(why) = unwanted(pod, namespace)? {
            return Ok(Asked::Not(why));
        }
        let said = Annotations::of(pod)?;
        let image = said.image.clone().unwrap_or_else(|| defaults.image.clone());
        let beside = said.redirect_image.clone();
        let beside = beside.or_else(|| defaults.redirect_image.clone());
        let by_default = || {
            let named = defaults.config_map.as_deref().map(ConfigMap::parse);
            let wrong = |problem| Refusal::Configuration(format!("--config-map: {problem}"));
            named.transpose().map_err(wrong)
        };
        let config = match &said.config {
            Some(config) => Some(config.clone()),
            None => by_default()?,
        };
        let wish = Self {
            mode: said.mode.unwrap_or(defaults.mode),
            native: said.native_sidecar.unwrap_or(defaults.native_sidecar),
            redirect_image: beside.unwrap_or_else(|| redirect_image(&image)),
            image,
            config,
            namespace: namespace.clone(),
            defaults: defaults.clone(),
            said,
        };
        unfit::check(pod, &wish)?;
        Ok(Asked::For(Box::new(wish)))
    }

    /// The `ConfigMap`, in the pod's namespace, that [`Wish::inject`] needs to know.
    pub fn config_map(&self) -> Option<&str> {
        self.config.as_ref().map(|config| &*config.name)
    }

    /// The key of the configuration in it, if it is the only one there.
    pub(super) fn config_key(&self) -> &str {
        let named = self
            .config
            .as_ref()
            .and_then(|config| config.key.as_deref());
        named.unwrap_or("config.yaml")
    }
}

/// Why a pod is not to be injected into, if so.
fn unwanted(pod: &Value, namespace: &Namespace) -> Result<Option<NotWanted>, Refusal> {
    let annotations = texts(pod, "/metadata/annotations");
    let labels = texts(pod, "/metadata/labels");
    // The label first, which is what the webhook's selectors go by.
    let said = labels.get(INJECT).or_else(|| annotations.get(INJECT));
    let said = said.map(|value| switch(value.trim())).transpose();
    let of_pod = said.map_err(|problem| Refusal::annotation("inject", problem))?;
    let of_namespace = namespace.says();
    let disabled = match (of_pod, of_namespace) {
        (Some(false), _) => Some(NotWanted::Disabled("pod")),
        (Some(true), _) | (None, Some(true)) => None,
        (None, Some(false)) => Some(NotWanted::Disabled("namespace")),
        (None, None) if namespace.assumed => None,
        (None, None) => Some(NotWanted::Unasked(namespace.name.clone())),
    };
    if disabled.is_some() {
        return Ok(disabled);
    }
    if annotations.contains_key("kubernetes.io/config.mirror") {
        return Ok(Some(NotWanted::Mirror));
    }
    let has_sidecar = containers(pod).any(|container| name(container) == SIDECAR);
    Ok((has_sidecar && annotations.contains_key(INJECTED)).then_some(NotWanted::Already))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(namespace: Option<&str>, pod: Option<&str>) -> String {
        let annotations = pod.map_or_else(|| json!({}), |value| json!({INJECT: value}));
        let labels = namespace.map_or_else(|| json!({}), |value| json!({INJECT: value}));
        let pod = json!({
            "metadata": {"annotations": annotations},
            "spec": {"containers": [{"name": "app"}]}
        });
        let namespace = Namespace::of("team", &json!({"metadata": {"labels": labels}}));
        match Wish::of(&pod, &namespace, &Defaults::default()) {
            Ok(Asked::For(_)) => "yes".to_owned(),
            Ok(Asked::Not(why)) => why.to_string(),
            Err(refusal) => refusal.to_string(),
        }
    }

    #[test]
    fn the_namespace_asks_and_the_pod_has_the_last_word() {
        assert_eq!(asked(Some("enabled"), None), "yes");
        assert_eq!(asked(None, Some("true")), "yes");
        assert_eq!(asked(Some("disabled"), Some("enabled")), "yes");
        for (namespace, pod, expected) in [
            (None, None, "neither namespace team nor the pod"),
            (Some("maybe"), None, "neither namespace team nor the pod"),
            (Some("enabled"), Some("disabled"), "the pod says"),
            (Some("disabled"), None, "the namespace says"),
            (Some("enabled"), Some("maybe"), "`maybe` is neither"),
        ] {
            let said = asked(namespace, pod);
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn mistakes_of_pods_that_nobody_asked_about_are_nobodys() {
        let pod = json!({
            "metadata": {"annotations": {"tollgate.dev/bugdet": "5"}},
            "spec": {"containers": [{"name": "app"}], "hostNetwork": true}
        });
        let unasked = Namespace::of("team", &json!({}));
        let asked = Wish::of(&pod, &unasked, &Defaults::default());
        assert!(matches!(asked, Ok(Asked::Not(NotWanted::Unasked(_)))));
        let asked = Wish::of(&pod, &Namespace::assumed("team"), &Defaults::default());
        assert!(matches!(asked, Err(Refusal::Annotation { .. })));
    }

    #[test]
    fn what_is_no_pod_is_refused() {
        for (pod, expected) in [
            (json!(null), "no spec"),
            (json!({"spec": {}}), "no containers"),
            (json!({"spec": {"containers": {}}}), "are no list"),
            (json!({"spec": {"containers": [{}]}}), "has no name"),
        ] {
            let asked = Wish::of(&pod, &Namespace::assumed("x"), &Defaults::default());
            let said = asked.unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
        }
    }
}

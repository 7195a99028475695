//! Pods into which nothing can be injected safely.

use serde_json::Value;

use super::{
    ADMIN, AUTHORITY, HEALTH, Mode, PROXY, REDIRECT, Refusal, SIDECAR, TRANSPARENT, USER,
    pod::{containers, list, name, text, texts},
    wish::Wish,
};

/// The volumes that we bring.
pub(super) const VOLUMES: [&str; 5] = [
    "tollgate-ca",
    "tollgate-config",
    "tollgate-data",
    "tollgate-secrets",
    "tollgate-trust",
];

/// Whether `wish` can be fulfilled in `pod`.
pub(super) fn check(pod: &Value, wish: &Wish) -> Result<(), Refusal> {
    if pod.pointer("/spec/hostNetwork") == Some(&Value::Bool(true)) {
        return Err(Refusal::HostNetwork);
    }
    windows(pod)?;
    names(pod)?;
    ports(pod)?;
    if wish.mode == Mode::Transparent {
        let level = wish.namespace.security();
        if let Some(level) = level.filter(|level| *level != "privileged") {
            return Err(Refusal::Privilege {
                namespace: wish.namespace.name.clone(),
                level: level.to_owned(),
            });
        }
    }
    if wish.mode.intercepts() {
        users(pod)?;
    }
    Ok(())
}

fn windows(pod: &Value) -> Result<(), Refusal> {
    if text(pod, "/spec/os/name").eq_ignore_ascii_case("windows") {
        return Err(Refusal::Windows("os.name"));
    }
    let selector = texts(pod, "/spec/nodeSelector");
    let windows = ["kubernetes.io/os", "beta.kubernetes.io/os"]
        .iter()
        .any(|label| selector.get(*label).is_some_and(|os| os == "windows"));
    if windows {
        return Err(Refusal::Windows("nodeSelector"));
    }
    Ok(())
}

fn names(pod: &Value) -> Result<(), Refusal> {
    let taken = |what, name: &str| {
        Err(Refusal::Name {
            what,
            name: name.to_owned(),
        })
    };
    for container in containers(pod) {
        let name = name(container);
        if [SIDECAR, AUTHORITY, REDIRECT].contains(&name) {
            return taken("container", name);
        }
        // Such a pod is not valid, but would be with our volumes: the authority's key among them.
        let mounts = list(container, "/volumeMounts").iter();
        let mut mounts = mounts.chain(list(container, "/volumeDevices"));
        if let Some(mount) = mounts.find(|mount| VOLUMES.contains(&self::name(mount))) {
            return taken("a mount of", self::name(mount));
        }
    }
    for name in list(pod, "/spec/volumes").iter().map(name) {
        // Whoever takes out the sidecar and leaves its volumes gets new ones.
        if VOLUMES.contains(&name) {
            return taken("volume", name);
        }
    }
    Ok(())
}

fn ports(pod: &Value) -> Result<(), Refusal> {
    let ours = [PROXY, HEALTH, ADMIN, TRANSPARENT].map(u64::from);
    for container in containers(pod) {
        let ports = list(container, "/ports").iter();
        let mut ports = ports.filter_map(|port| port.get("containerPort")?.as_u64());
        if let Some(port) = ports.find(|port| ours.contains(port)) {
            return Err(Refusal::Port {
                container: name(container).to_owned(),
                port,
            });
        }
    }
    Ok(())
}

fn users(pod: &Value) -> Result<(), Refusal> {
    let user = |of: &Value, pointer: &str| of.pointer(pointer).and_then(Value::as_u64);
    let usual = user(pod, "/spec/securityContext/runAsUser");
    let taken = containers(pod).find(|container| {
        let own = user(container, "/securityContext/runAsUser");
        own.or(usual) == Some(u64::from(USER))
    });
    taken.map_or(Ok(()), |container| {
        Err(Refusal::User(name(container).to_owned()))
    })
}

//! The containers that a pod gets, and their volumes.

use serde_json::{Value, json};

use super::{
    AUTHORITY, HEALTH, Mode, Owner, REDIRECT, SIDECAR, TRANSPARENT, USER,
    settings::{CA_DIR, CA_VOLUME, CONFIG_DIR, DATA_DIR, SECRETS_DIR, Settings, TRUST_DIR},
    wish::Wish,
};
use crate::config::OVERRIDES;

/// The program, by name: images are free where to have it on their path.
const PROGRAM: &str = "tollgate";

/// What all our containers have in common.
pub(super) struct Parts<'a> {
    pub(super) wish: &'a Wish,
    pub(super) settings: &'a Settings,
    pub(super) owner: &'a Owner,
    pub(super) resources: Value,
    /// The ports whose connections are redirected.
    pub(super) ports: &'a [u16],
}

impl Parts<'_> {
    /// The sidecar.
    pub(super) fn sidecar(&self) -> Value {
        let mut mounts = vec![json!({"name": self.data(), "mountPath": DATA_DIR})];
        mounts.extend(self.given());
        if self.wish.mode.intercepts() {
            mounts.push(json!({"name": "tollgate-ca", "mountPath": CA_VOLUME, "readOnly": true}));
        }
        let mut sidecar = self.container(SIDECAR, &self.wish.image, &["run"], &mounts);
        add(&mut sidecar, "workingDir", json!(DATA_DIR));
        add(
            &mut sidecar,
            "ports",
            json!([
                {"name": "tollgate-health", "containerPort": HEALTH, "protocol": "TCP"}
            ]),
        );
        add(&mut sidecar, "startupProbe", probe("/readyz", 1, 60));
        add(&mut sidecar, "livenessProbe", probe("/healthz", 10, 3));
        if self.wish.native {
            add(&mut sidecar, "restartPolicy", json!("Always"));
        } else {
            // The kubelet starts the next container when this is done.
            let wait = json!({"exec": {"command": [PROGRAM, "wait"]}});
            add(&mut sidecar, "lifecycle", json!({"postStart": wait}));
        }
        sidecar
    }

    /// The init container that makes the authority, in memory, and what clients need of it. Anew if
    /// the pod is set up anew: then everything else is, too.
    pub(super) fn authority(&self) -> Value {
        let arguments = [
            "ca",
            "create",
            "--replace",
            "--distrust",
            "--dir",
            CA_DIR,
            "--to",
            TRUST_DIR,
        ];
        let mut mounts = vec![
            json!({"name": "tollgate-ca", "mountPath": CA_VOLUME}),
            json!({"name": "tollgate-trust", "mountPath": TRUST_DIR}),
        ];
        mounts.extend(self.given());
        self.container(AUTHORITY, &self.wish.image, &arguments, &mounts)
    }

    /// The init container that redirects what the pod's containers send.
    pub(super) fn redirect(&self) -> Value {
        let ports: Vec<String> = self.ports.iter().map(ToString::to_string).collect();
        let (user, to, ports) = (USER.to_string(), TRANSPARENT.to_string(), ports.join(","));
        let arguments = [
            "redirect", "apply", "--uid", &user, "--ports", &ports, "--to", &to,
        ];
        json!({
            "name": REDIRECT,
            "image": self.wish.redirect_image,
            "command": [PROGRAM],
            "args": arguments,
            "resources": self.resources,
            "securityContext": {
                "runAsUser": 0,
                "runAsGroup": 0,
                "runAsNonRoot": false,
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "terminationMessagePolicy": "FallbackToLogsOnError",
        })
    }

    fn container(&self, name: &str, image: &str, arguments: &[&str], mounts: &[Value]) -> Value {
        json!({
            "name": name,
            "image": image,
            "command": [PROGRAM],
            "args": arguments,
            "env": self.environment(),
            "resources": self.resources,
            "securityContext": {
                "runAsUser": USER,
                "runAsGroup": USER,
                "runAsNonRoot": true,
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            // A configuration that cannot be used is seen in the pod's own status.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": mounts,
        })
    }

    fn environment(&self) -> Vec<Value> {
        let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
        let mut all = vec![
            field("TOLLGATE_POD", "metadata.name"),
            field("TOLLGATE_POD_UID", "metadata.uid"),
            field("TOLLGATE_NAMESPACE", "metadata.namespace"),
            field("TOLLGATE_SERVICE_ACCOUNT", "spec.serviceAccountName"),
            field("TOLLGATE_NODE", "spec.nodeName"),
        ];
        let Owner { kind, name, .. } = self.owner;
        if !name.is_empty() {
            all.push(json!({"name": "TOLLGATE_OWNER", "value": format!("{kind}/{name}")}));
        }
        if let Some(key) = &self.settings.key {
            let path = format!("{CONFIG_DIR}/{key}");
            all.push(json!({"name": "TOLLGATE_CONFIG", "value": path}));
        }
        all.push(json!({"name": OVERRIDES, "value": self.settings.overrides}));
        all
    }

    /// The volume of the ledger and the store.
    fn data(&self) -> &str {
        let own = self.wish.said.ledger_volume.as_deref();
        own.unwrap_or("tollgate-data")
    }

    /// Where what it is given is mounted.
    fn given(&self) -> Vec<Value> {
        let mut mounts = Vec::new();
        if self.settings.key.is_some() {
            mounts.push(json!({
                "name": "tollgate-config", "mountPath": CONFIG_DIR, "readOnly": true
            }));
        }
        if self.wish.said.secrets.is_some() {
            mounts.push(json!({
                "name": "tollgate-secrets", "mountPath": SECRETS_DIR, "readOnly": true
            }));
        }
        mounts
    }

    /// The volumes that all this needs.
    pub(super) fn volumes(&self) -> Vec<Value> {
        let mut all = Vec::new();
        if self.wish.said.ledger_volume.is_none() {
            all.push(json!({"name": "tollgate-data", "emptyDir": {}}));
        }
        if self.settings.key.is_some()
            && let Some(config) = &self.wish.config
        {
            all.push(json!({"name": "tollgate-config", "configMap": {"name": config.name}}));
        }
        if let Some(secret) = &self.wish.said.secrets {
            all.push(json!({"name": "tollgate-secrets", "secret": {"secretName": secret}}));
        }
        if self.wish.mode.intercepts() {
            // In memory: the key is never on a disk.
            let memory = json!({"medium": "Memory", "sizeLimit": "8Mi"});
            all.push(json!({"name": "tollgate-ca", "emptyDir": memory}));
            all.push(json!({"name": "tollgate-trust", "emptyDir": {"sizeLimit": "8Mi"}}));
        }
        all
    }

    /// The init containers that come before the pod's own, and those that come after.
    pub(super) fn init_containers(&self) -> (Vec<Value>, Vec<Value>) {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        if self.wish.mode.intercepts() {
            before.push(self.authority());
        }
        if self.wish.native {
            before.push(self.sidecar());
        }
        if self.wish.mode == Mode::Transparent {
            // From then on nothing gets out without the sidecar, so it must be there.
            let redirects = if self.wish.native {
                &mut before
            } else {
                &mut after
            };
            redirects.push(self.redirect());
        }
        (before, after)
    }
}

fn probe(path: &str, period: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": path, "port": HEALTH},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    })
}

fn add(container: &mut Value, key: &str, value: Value) {
    if let Some(container) = container.as_object_mut() {
        container.insert(key.to_owned(), value);
    }
}

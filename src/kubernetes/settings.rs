//! The configuration of a pod's sidecar: what its `ConfigMap` says, what injection lays over it, and
//! whether it can be used there.

use std::{
    io,
    path::{Component, Path},
    time::Duration,
};

use serde_json::{Map, Value, json};

use super::{ADMIN, HEALTH, Mode, Owner, PROXY, Refusal, TRANSPARENT, budgets::Ledger, wish::Wish};
use crate::{
    config::{self, Config, Loaded, OVERRIDES, Sources},
    pipeline::ProcessorConfig,
};

/// Where the `ConfigMap` is mounted.
pub(super) const CONFIG_DIR: &str = "/etc/tollgate/config";
/// Where the secret is mounted.
pub(super) const SECRETS_DIR: &str = "/etc/tollgate/secrets";
/// Where the sidecar runs, and writes.
pub(super) const DATA_DIR: &str = "/var/lib/tollgate";
/// Where the volume of the certificate authority is.
pub(super) const CA_VOLUME: &str = "/var/run/tollgate/ca";
/// Where the authority is: in a directory of the sidecar's own, for volumes come with any permissions.
pub(super) const CA_DIR: &str = "/var/run/tollgate/ca/own";
/// Where is what its clients trust it by.
pub(super) const TRUST_DIR: &str = "/var/run/tollgate/trust";

/// The name of the rule that the annotation `tollgate.dev/budget` makes.
pub(super) const BUDGET_RULE: &str = "pod-budget";

/// What a mounted secret is taken to say, which nobody knows here: a line that is good as a value and
/// as a comment.
const UNKNOWN: &str = "# known in the pod";
/// The keys under which a configuration is looked for.
const KEYS: [&str; 2] = ["config.yaml", "tollgate.yaml"];
/// How long a sidecar without the cluster's help goes on taking calls after SIGTERM, at most.
const DELAY: Duration = Duration::from_secs(15);
/// How long the last spans take after `shutdown.deadline`, at most.
pub(super) const SPANS: Duration = Duration::from_secs(6);

/// A configuration that the sidecar can use.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) config: Config,
    /// The key of the `ConfigMap` that it is in.
    pub(super) key: Option<String>,
    /// What is laid over it.
    pub(super) overrides: String,
    pub(super) warnings: Vec<String>,
}

/// What else than the `ConfigMap` says how the sidecar is to be.
pub(super) struct Around<'a> {
    pub(super) wish: &'a Wish,
    pub(super) owner: &'a Owner,
    pub(super) ledger: Ledger,
    /// How long the pod has to leave.
    pub(super) grace: Duration,
}

impl Settings {
    /// Those of the `ConfigMap`, if the wish names one.
    pub(super) fn read(around: &Around<'_>, found: Option<&Value>) -> Result<Self, Refusal> {
        let wish = around.wish;
        let asked = wish.config.as_ref().map(|named| {
            let found = found.ok_or_else(|| Refusal::NoConfigMap {
                name: named.name.clone(),
                namespace: wish.namespace.name.clone(),
                asked: if wish.said.config.is_some() {
                    "annotation tollgate.dev/config"
                } else {
                    "--config-map"
                },
            })?;
            let key = key(&named.name, named.key.as_deref(), found)?;
            Ok((format!("ConfigMap {}, {key}", named.name), key, found))
        });
        let (name, key, found) = match asked.transpose()? {
            Some((name, key, found)) => (name, Some(key), found),
            None => ("built-in defaults".to_owned(), None, &Value::Null),
        };
        let text = key.as_deref().and_then(|key| datum(found, key));
        let mut overrides = overrides(around, None).to_string();
        let read = |overrides: &str| read(&name, text.unwrap_or_default(), overrides, wish, found);
        let mut loaded = read(&overrides)?;
        if let Some(leave) = leave(&loaded.config, around.grace, wish.native) {
            overrides = self::overrides(around, Some(leave)).to_string();
            loaded = read(&overrides)?;
        }
        let Loaded {
            config, warnings, ..
        } = loaded;
        writable(&name, &config)?;
        let warnings = warnings.iter().map(|problem| problem.line(&name)).collect();
        Ok(Self {
            config,
            key,
            overrides,
            warnings,
        })
    }
}

/// What a `ConfigMap` has below `key`.
fn datum<'a>(config_map: &'a Value, key: &str) -> Option<&'a str> {
    config_map.get("data")?.get(key)?.as_str()
}

/// The key with the configuration.
fn key(name: &str, asked: Option<&str>, found: &Value) -> Result<String, Refusal> {
    let data = found.get("data").and_then(Value::as_object);
    let keys: Vec<&str> = data
        .into_iter()
        .flat_map(Map::keys)
        .map(String::as_str)
        .collect();
    let usual = || KEYS.into_iter().find(|key| keys.contains(key));
    let only = || match keys.as_slice() {
        [one] => Some(*one),
        _ => None,
    };
    let key = match asked {
        Some(key) => keys.contains(&key).then_some(key),
        None => usual().or_else(only),
    };
    key.map(str::to_owned).ok_or_else(|| {
        let has = match keys.as_slice() {
            [] => "nothing in its data".to_owned(),
            keys => keys.join(", "),
        };
        let wanted = asked.unwrap_or("config.yaml");
        Refusal::ConfigMap {
            name: name.to_owned(),
            problem: format!(
                "it has no key `{wanted}`, but {has}; say which it is with \
                 tollgate.dev/config: {name}/KEY"
            ),
        }
    })
}

/// Reads the configuration as the sidecar will.
fn read(
    name: &str,
    text: &str,
    overrides: &str,
    wish: &Wish,
    config_map: &Value,
) -> Result<Loaded, Refusal> {
    let variable = |name: &str| match name {
        OVERRIDES => Some(overrides.to_owned()),
        "TOLLGATE_POD"
        | "TOLLGATE_POD_UID"
        | "TOLLGATE_SERVICE_ACCOUNT"
        | "TOLLGATE_NODE"
        | "TOLLGATE_OWNER" => Some(name.to_lowercase()),
        "TOLLGATE_NAMESPACE" => Some(wish.namespace.name.clone()),
        _ => None,
    };
    let has_secret = wish.said.secrets.is_some();
    let file = |path: &Path| {
        if let Ok(key) = path.strip_prefix(CONFIG_DIR) {
            let key = key.to_str().unwrap_or_default();
            let found = datum(config_map, key).map(str::to_owned);
            return found.ok_or_else(|| io::Error::other("the ConfigMap has no such key"));
        }
        let given = has_secret && path.starts_with(SECRETS_DIR)
            || path.starts_with("/var/run/secrets/kubernetes.io/serviceaccount");
        if given {
            return Ok(UNKNOWN.to_owned());
        }
        Err(io::Error::other(format!(
            "the sidecar has no such file; keys of its ConfigMap are in {CONFIG_DIR}, those of the \
             Secret that tollgate.dev/secrets names in {SECRETS_DIR}"
        )))
    };
    let sources = Sources {
        variable: &variable,
        file: &file,
    };
    config::parse(name, text, &sources).map_err(|error| {
        let hint = if error.to_string().contains("is not set") {
            format!(
                "\nThe sidecar has no variables but its own: put the value into a Secret, name that \
                 in tollgate.dev/secrets, and write ${{file:{SECRETS_DIR}/KEY}}"
            )
        } else {
            String::new()
        };
        Refusal::Configuration(format!("{error}{hint}"))
    })
}

/// What is laid over the configuration: where the sidecar is reached and what it has there are
/// injection's affair, and annotations have the last word.
fn overrides(around: &Around<'_>, leave: Option<(Duration, Duration)>) -> Value {
    let Around { wish, ledger, .. } = around;
    let mut listen = json!({
        "proxy": format!("127.0.0.1:{PROXY}"),
        "admin": format!("127.0.0.1:{ADMIN}"),
        "health": format!("0.0.0.0:{HEALTH}"),
    });
    let mut all = Map::new();
    if wish.mode == Mode::Transparent {
        set(
            &mut listen,
            "transparent",
            format!("127.0.0.1:{TRANSPARENT}"),
        );
    }
    let mut intercept = json!({"enabled": wish.mode.intercepts()});
    if wish.mode.intercepts() {
        set(&mut intercept, "ca_dir", CA_DIR);
    }
    all.insert("intercept".to_owned(), intercept);
    if *ledger == Ledger::Lost {
        all.insert("ledger".to_owned(), json!({"scope": "pod"}));
    }
    if wish.said.secrets.is_some() {
        all.insert("tracing".to_owned(), json!({"secrets_dir": SECRETS_DIR}));
    }
    if let Some(level) = &wish.said.log_level {
        all.insert("log".to_owned(), json!({"level": level}));
    }
    if !wish.said.labels.is_empty() {
        all.insert("identity".to_owned(), json!({"labels": wish.said.labels}));
    }
    if let Some(budget) = &wish.said.budget {
        let limit = json!({"usd": budget.usd.to_string()});
        let rule = json!({"name": BUDGET_RULE, "window": budget.window, "limit": limit});
        all.insert("budgets".to_owned(), json!({"rules": [rule]}));
    }
    let mut shutdown = json!({});
    if let Some((delay, deadline)) = leave {
        set(&mut shutdown, "delay", format!("{}s", delay.as_secs()));
        set(
            &mut shutdown,
            "deadline",
            format!("{}s", deadline.as_secs()),
        );
    }
    // Nobody ends a sidecar that is a container like others: a job would never be done.
    let idle = wish.said.quit_when_idle.clone();
    let for_jobs = matches!(&*around.owner.kind, "Job" | "CronJob").then(|| "60s".to_owned());
    if let Some(idle) = idle.or(for_jobs).filter(|_| !wish.native) {
        set(&mut shutdown, "idle", idle);
        set(&mut listen, "quit", true);
    }
    all.insert("listen".to_owned(), listen);
    if shutdown.as_object().is_some_and(|said| !said.is_empty()) {
        all.insert("shutdown".to_owned(), shutdown);
    }
    Value::Object(all)
}

fn set(map: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(map) = map.as_object_mut() {
        map.insert(key.to_owned(), value.into());
    }
}

/// How a sidecar leaves, so that all of it fits into the pod's time, if it is not as configured. One
/// that is not `native` gets SIGTERM when the app does: it goes on taking calls for a while. The other
/// one keeps a deadline that somebody chose.
fn leave(config: &Config, grace: Duration, native: bool) -> Option<(Duration, Duration)> {
    let chosen = config.shutdown.deadline != Config::default().shutdown.deadline;
    if native && chosen {
        return None;
    }
    let configured = config.shutdown.delay;
    let delay = if configured.is_zero() && !native {
        DELAY.min(grace / 2)
    } else {
        configured
    };
    let left = grace.saturating_sub(delay).saturating_sub(SPANS);
    let deadline = config
        .shutdown
        .deadline
        .min(left)
        .max(Duration::from_secs(1));
    let same = (delay, deadline) == (configured, config.shutdown.deadline);
    (!same).then_some((delay, deadline))
}

/// Whether everything that the configuration writes is where the sidecar can write.
fn writable(name: &str, config: &Config) -> Result<(), Refusal> {
    let processors = config.tracing.processors.iter();
    let files = processors.filter_map(|destination| match &destination.config {
        ProcessorConfig::File(file) => Some(("directory of the file processor", &*file.directory)),
        _ => None,
    });
    let own = [
        ("ledger.path", &*config.ledger.path),
        ("store.path", &*config.store.path),
    ];
    let buffering = &config.tracing.buffering;
    let kept = buffering.persist_buffer.then_some((
        "tracing.buffering.buffer_directory",
        &*buffering.buffer_directory,
    ));
    for (what, path) in own.into_iter().chain(files).chain(kept) {
        let up = path.components().any(|part| part == Component::ParentDir);
        let good = !up && (path.is_relative() || path.starts_with(DATA_DIR));
        if !good {
            return Err(Refusal::Configuration(format!(
                "{name}: {what} is {}, where the sidecar cannot write: it can below {DATA_DIR}, \
                 which is also what relative paths begin at",
                path.display()
            )));
        }
    }
    Ok(())
}

//! What a pod's annotations say: read, and checked, all of them.

use std::{collections::BTreeMap, time::Duration};

use super::{INJECT, Mode, PREFIX, Refusal, namespace::switch, pod::texts};
use crate::{
    base::{cpu::Cpu, money::Usd, units},
    config::suggestion,
    policy::Window,
};

/// What a pod's annotations say. What they leave out is as the defaults are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Annotations {
    /// Whether it wants the sidecar.
    pub(super) inject: Option<bool>,
    pub(super) mode: Option<Mode>,
    /// The `ConfigMap`, and the key in it.
    pub(super) config: Option<ConfigMap>,
    pub(super) budget: Option<Budget>,
    /// Whether budgets are meant to hold for each pod alone.
    pub(super) budget_for_each_pod: bool,
    /// Labels of its calls: `agent`, `project`, `environment`.
    pub(super) labels: BTreeMap<&'static str, String>,
    pub(super) image: Option<String>,
    pub(super) redirect_image: Option<String>,
    pub(super) native_sidecar: Option<bool>,
    /// The secret with what the configuration takes from files.
    pub(super) secrets: Option<String>,
    /// The volume of the pod that keeps the ledger.
    pub(super) ledger_volume: Option<String>,
    pub(super) log_level: Option<String>,
    /// After which silence a sidecar leaves that nobody ends.
    pub(super) quit_when_idle: Option<String>,
    pub(super) resources: BTreeMap<&'static str, String>,
}

/// A `ConfigMap`, as an annotation or an option names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConfigMap {
    pub(super) name: String,
    /// The key of the configuration in it.
    pub(super) key: Option<String>,
}

/// So much money in each window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) usd: Usd,
    /// As a configuration writes it.
    pub(super) window: String,
}

/// What annotations there are, without their prefix.
const NAMES: &[&str] = &[
    "agent",
    "budget",
    "budget-scope",
    "config",
    "cpu-limit",
    "cpu-request",
    "environment",
    "image",
    "inject",
    "ledger-volume",
    "log-level",
    "memory-limit",
    "memory-request",
    "mode",
    "native-sidecar",
    "project",
    "quit-when-idle",
    "redirect-image",
    "secrets",
];

/// What is ours and nobody's to write: see [`super::INJECTED`].
const OURS: &str = "injected";

impl Annotations {
    /// What a pod's annotations say, and whether its labels say `tollgate.dev/inject`.
    ///
    /// # Errors
    /// One is unknown, or its value makes no sense.
    pub(super) fn of(pod: &serde_json::Value) -> Result<Self, Refusal> {
        let mut said = Self::default();
        let annotations = pod.pointer("/metadata/annotations");
        let annotations = annotations.and_then(serde_json::Value::as_object);
        for (name, value) in annotations.into_iter().flatten() {
            let Some(name) = name.strip_prefix(PREFIX).filter(|name| *name != OURS) else {
                continue;
            };
            let text = value.as_str();
            let text = text.ok_or_else(|| format!("its value is no text; write \"{value}\""));
            text.and_then(|text| said.take(name, text.trim()))
                .map_err(|problem| Refusal::annotation(name, problem))?;
        }
        if said.inject.is_none()
            && let Some(value) = texts(pod, "/metadata/labels").get(INJECT)
        {
            let inject = switch(value).map_err(|problem| Refusal::annotation("inject", problem))?;
            said.inject = Some(inject);
        }
        Ok(said)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        let known = NAMES.iter().find(|known| **known == name);
        let Some(known) = known else {
            let meant = suggestion(name, NAMES);
            let meant = meant.map_or_else(
                || format!("there are {}", NAMES.join(", ")),
                |meant| format!("did you mean {PREFIX}{meant}?"),
            );
            return Err(format!("there is no such annotation; {meant}"));
        };
        if value.is_empty() {
            return Err("it is empty; leave it out, or say something".to_owned());
        }
        match *known {
            "inject" => self.inject = Some(switch(value)?),
            "mode" => self.mode = Some(mode(value)?),
            "config" => self.config = Some(ConfigMap::parse(value)?),
            "budget" => self.budget = Some(Budget::parse(value)?),
            "budget-scope" => {
                if value != "pod" {
                    return Err(format!(
                        "`{value}` is not in this build: budgets hold for each pod alone, which \
                         `pod` says is meant"
                    ));
                }
                self.budget_for_each_pod = true;
            },
            "image" => self.image = Some(image(value)?),
            "redirect-image" => self.redirect_image = Some(image(value)?),
            "native-sidecar" => self.native_sidecar = Some(switch(value)?),
            "secrets" => self.secrets = Some(object_name(value)?),
            "ledger-volume" => self.ledger_volume = Some(value.to_owned()),
            "log-level" => {
                let levels = ["error", "warn", "info", "debug", "trace"];
                if !levels.contains(&value) {
                    let levels = levels.join(", ");
                    return Err(format!("`{value}` is no level; there are {levels}"));
                }
                self.log_level = Some(value.to_owned());
            },
            "quit-when-idle" => {
                let time = units::parse_duration(value).map_err(|error| error.to_string())?;
                if time == Duration::ZERO {
                    return Err("with 0 it would be gone before it is called".to_owned());
                }
                self.quit_when_idle = Some(value.to_owned());
            },
            name @ ("cpu-limit" | "cpu-request") => {
                self.resources.insert(name, processors(value)?);
            },
            name @ ("memory-limit" | "memory-request") => {
                self.resources.insert(name, memory(value)?);
            },
            label => {
                self.labels.insert(label, label_value(value)?);
            },
        }
        Ok(())
    }
}

fn mode(value: &str) -> Result<Mode, String> {
    let found = Mode::NAMES.iter().find(|(name, _)| *name == value);
    let names = Mode::NAMES.map(|(name, _)| name);
    found.map(|(_, mode)| *mode).ok_or_else(|| {
        let meant = suggestion(value, &names);
        let meant = meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
        format!(
            "`{value}` is no mode; there are {}{meant}",
            names.join(", ")
        )
    })
}

/// An image's name has no spaces; whether it can be pulled is the cluster's to say.
fn image(value: &str) -> Result<String, String> {
    let good = !value.contains(|letter: char| letter.is_whitespace() || letter.is_control());
    good.then(|| value.to_owned())
        .ok_or_else(|| format!("`{value}` is no image's name"))
}

/// As Kubernetes checks the names of its objects.
pub(super) fn object_name(value: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let good = value
        .bytes()
        .all(|byte| plain(byte) || b"-.".contains(&byte))
        && value.bytes().next().is_some_and(plain)
        && value.bytes().last().is_some_and(plain)
        && value.len() <= 253;
    good.then(|| value.to_owned()).ok_or_else(|| {
        format!("`{value}` is no object's name: lower-case letters, digits, - and . make one")
    })
}

/// `$` has a meaning in what Kubernetes puts into the environment, and in configurations.
fn label_value(value: &str) -> Result<String, String> {
    let bad = value.contains('$') || value.contains(char::is_control) || value.len() > 256;
    (!bad).then(|| value.to_owned()).ok_or_else(|| {
        "a label of calls has no `$`, no control characters and at most 256 bytes".to_owned()
    })
}

/// A number of processors as Kubernetes writes it.
pub(super) fn processors(value: &str) -> Result<String, String> {
    let cpu: Cpu = value.parse().map_err(|error| format!("{error}"))?;
    Ok(cpu.to_string())
}

/// A size as Kubernetes writes it, which is one that Tollgate reads as well.
pub(super) fn memory(value: &str) -> Result<String, String> {
    let digits = value.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = value.strip_prefix(digits).unwrap_or_default();
    let good = digits.parse::<u64>().is_ok_and(|amount| amount > 0)
        && ["", "k", "Ki", "M", "Mi", "G", "Gi"].contains(&unit);
    good.then(|| value.to_owned())
        .ok_or_else(|| format!("`{value}` is no size of memory: expected one like 256Mi"))
}

impl ConfigMap {
    /// `NAME` or `NAME/KEY`.
    pub(super) fn parse(value: &str) -> Result<Self, String> {
        let (name, key) = match value.split_once('/') {
            Some((name, key)) => (name, Some(key)),
            None => (value, None),
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if let Some(key) = key {
            // Nor one of the names that mean directories.
            let good = !key.is_empty() && key.bytes().all(is_plain) && !key.starts_with("..");
            if !good || key == "." {
                return Err(format!(
                    "`{key}` is no key of a ConfigMap; write NAME or NAME/KEY"
                ));
            }
        }
        Ok(Self {
            name: object_name(name)?,
            key: key.map(str::to_owned),
        })
    }
}

impl Budget {
    /// `5.00`, which is for a day, or `5.00/month`.
    fn parse(value: &str) -> Result<Self, String> {
        let (amount, window) = value.split_once('/').unwrap_or((value, "day"));
        let usd: Usd = amount.parse().map_err(|_no_amount| {
            format!("`{amount}` is no amount: expected US dollars like 5.00 (a day), or 5.00/month")
        })?;
        if usd <= Usd::ZERO {
            return Err(format!(
                "`{amount}` lets no call pass; say how much may be spent"
            ));
        }
        let _known: Window = window.parse().map_err(|error| format!("{error}"))?;
        Ok(Self {
            usd,
            window: window.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(name: &str, value: &str) -> Result<Annotations, String> {
        let pod = json!({"metadata": {"annotations": {name: value, "other/x": "y"}}});
        Annotations::of(&pod).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn each_is_read() {
        let one = |name: &str, value: &str| said(&format!("{PREFIX}{name}"), value).unwrap();
        assert_eq!(one("inject", "enabled").inject, Some(true));
        assert_eq!(one("mode", "proxy").mode, Some(Mode::Proxy));
        let config = one("config", "team/tollgate.yaml").config.unwrap();
        assert_eq!(
            (&*config.name, config.key.as_deref()),
            ("team", Some("tollgate.yaml"))
        );
        let budget = one("budget", " 5.00/total ").budget.unwrap();
        assert_eq!(
            (budget.usd, &*budget.window),
            (Usd::from_nanos(5_000_000_000), "total")
        );
        assert_eq!(one("budget", "3").budget.unwrap().window, "day");
        assert!(one("budget-scope", "pod").budget_for_each_pod);
        assert_eq!(one("agent", "support").labels["agent"], "support");
        assert_eq!(one("memory-limit", "1Gi").resources["memory-limit"], "1Gi");
        assert_eq!(one("cpu-limit", "0.5").resources["cpu-limit"], "500m");
        assert_eq!(one("injected", "0.1.0"), Annotations::default());
    }

    #[test]
    fn mistakes_are_named_with_what_was_meant() {
        for (name, value, expected) in [
            ("bugdet", "5", "did you mean tollgate.dev/budget?"),
            ("zzz", "5", "there are agent, budget,"),
            ("mode", "transparant", "did you mean transparent?"),
            ("budget", "five", "`five` is no amount"),
            ("budget", "5/fortnight", "`fortnight` is not a window"),
            ("budget", "0", "lets no call pass"),
            ("budget", "-1", "lets no call pass"),
            ("budget-scope", "fleet", "not in this build"),
            ("inject", "maybe", "neither enabled"),
            ("config", "Team", "no object's name"),
            ("config", "team/..", "no key of a ConfigMap"),
            ("config", "", "it is empty"),
            ("agent", "a$(HOME)", "has no `$`"),
            ("cpu-limit", "fast", "no number of processors"),
            ("memory-limit", "1.5Gi", "no size of memory"),
            ("quit-when-idle", "0s", "before it is called"),
            ("log-level", "loud", "there are error, warn"),
            ("image", "a b", "no image's name"),
        ] {
            let error = said(&format!("{PREFIX}{name}"), value).unwrap_err();
            assert!(error.contains(expected), "{name}: {error}");
            assert!(error.starts_with(&format!("annotation tollgate.dev/{name}: ")));
        }
    }

    #[test]
    fn a_number_that_is_not_quoted_is_not_overlooked() {
        let pod = json!({"metadata": {"annotations": {"tollgate.dev/budget": 5}}});
        let error = Annotations::of(&pod).unwrap_err().to_string();
        assert!(
            error.ends_with("its value is no text; write \"5\""),
            "{error}"
        );
    }

    #[test]
    fn a_label_asks_as_an_annotation_does_and_the_annotation_wins() {
        let mut pod = json!({"metadata": {"labels": {INJECT: "false"}}});
        assert_eq!(Annotations::of(&pod).unwrap().inject, Some(false));
        pod["metadata"]["annotations"] = json!({INJECT: "true"});
        assert_eq!(Annotations::of(&pod).unwrap().inject, Some(true));
    }
}

//! The variables that lead a container's calls to the sidecar. What a container sets itself stays; what
//! it excepts from proxies is added to.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use serde_json::{Value, json};

use super::{
    Mode, PROXY, Refusal,
    pod::{list, list_in, name, text},
    settings::TRUST_DIR,
};
use crate::{
    client::{self, Through, Variable},
    provider::{self, Providers},
};

/// Where the API of the cluster is, as a pod's variables say: Kubernetes puts it in.
const CLUSTER: &str = "KUBERNETES_SERVICE_HOST";
/// What stands for the value of a variable that comes from elsewhere.
const ELSEWHERE: &str = "set elsewhere";

/// Sets what leads the calls of `container` to the sidecar. Says what its own variables keep away.
pub(super) fn lead(
    container: &mut Value,
    mode: Mode,
    providers: &provider::Config,
) -> Result<Vec<String>, Refusal> {
    let wanted = wanted(container, mode, providers)?;
    let mut warnings = Vec::new();
    let name = name(container).to_owned();
    let mut missing = Vec::new();
    let (mut own, mut merged): (Vec<Variable>, Vec<Variable>) = (Vec::new(), Vec::new());
    for (variable, value) in wanted {
        match value_of(container, variable) {
            None => own.push((variable, value)),
            Some(theirs) if theirs == value => {},
            Some(theirs) if mode == Mode::Proxy && is_except(variable) => {
                if theirs == ELSEWHERE {
                    warnings.push(excepted_elsewhere(&name, variable));
                } else {
                    // With theirs in it.
                    merged.push((variable, value));
                }
            },
            Some(_) => missing.push(variable),
        }
    }
    warnings.extend(unmetered(&name, mode, &missing));
    if mode == Mode::Proxy {
        warnings.extend(kept_out(container, providers));
    }
    if !list(container, "/envFrom").is_empty() && mode != Mode::Transparent {
        warnings.push(format!(
            "container {name} takes variables by envFrom; those of them that lead calls elsewhere \
             ({}) are replaced by Tollgate's",
            if mode == Mode::Env {
                "base URLs"
            } else {
                "proxies"
            }
        ));
    }
    let environment = list_in(container, "env")?;
    for (variable, value) in merged {
        // In its place: it may name variables that come before it. The last of a name is what counts.
        let mut theirs = environment.iter_mut().rev();
        if let Some(entry) = theirs.find(|entry| self::name(entry) == variable) {
            *entry = json!({"name": variable, "value": value});
        }
    }
    environment.extend(
        own.iter()
            .map(|(name, value)| json!({"name": name, "value": value})),
    );
    if mode.intercepts() {
        let mounts = list_in(container, "volumeMounts")?;
        mounts.push(json!({"name": "tollgate-trust", "mountPath": TRUST_DIR, "readOnly": true}));
    }
    Ok(warnings)
}

/// What the container sets a variable to.
fn value_of(container: &Value, variable: &str) -> Option<String> {
    let entry = list(container, "/env").iter().rev();
    let entry = entry.into_iter().find(|entry| name(entry) == variable)?;
    if entry.get("valueFrom").is_some() {
        return Some(ELSEWHERE.to_owned());
    }
    Some(text(entry, "/value").to_owned())
}

/// All variables that lead calls to the sidecar, with what they would have to say beside the
/// container's own.
fn wanted(
    container: &Value,
    mode: Mode,
    providers: &provider::Config,
) -> Result<Vec<Variable>, Refusal> {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, PROXY));
    let environment = |name: &str| {
        let own = value_of(container, name).filter(|value| value != ELSEWHERE);
        own.or_else(|| (name == CLUSTER).then(|| format!("$({CLUSTER})")))
    };
    let trust = Path::new(TRUST_DIR);
    let wrong = |error: &dyn std::fmt::Display| Refusal::Configuration(error.to_string());
    match mode {
        Mode::Env => {
            // What matters of the container's own is whether it has a key that goes by TLS alone.
            let known =
                |name: &str| value_of(container, name).filter(|_| !client::is_base_url(name));
            let mut all =
                client::base_urls(at, providers, &known).map_err(|error| wrong(&error))?;
            all.extend(client::not_for(at, &environment));
            Ok(all)
        },
        Mode::Proxy => client::intercepted(at, through(providers), trust, &environment)
            .map_err(|error| wrong(&error)),
        Mode::Transparent => client::trust(trust, &environment).map_err(|error| wrong(&error)),
    }
}

/// Whether some provider is reached by plain HTTP.
fn through(config: &provider::Config) -> Through {
    let known = Providers::build(config);
    let plain = known.is_ok_and(|known| {
        config.providers.keys().any(|name| {
            let mut all = known.iter();
            let of = all.find(|provider| *provider.name == **name);
            let base = of.and_then(|provider| provider.base.as_ref());
            base.is_some_and(|base| !base.tls)
        })
    });
    if plain { Through::All } else { Through::Tls }
}

/// Whether a variable says what is reached without a proxy.
fn is_except(name: &str) -> bool {
    name.eq_ignore_ascii_case("NO_PROXY")
}

/// Exceptions of the container's own that keep providers from the proxy.
fn kept_out(container: &Value, config: &provider::Config) -> Option<String> {
    let environment = |name: &str| value_of(container, name).filter(|value| value != ELSEWHERE);
    let known = Providers::build(config).ok()?;
    let hosts = known.iter().flat_map(|provider| provider.hosts.iter());
    // What is on this machine is asked without a proxy anyway.
    let is_here = |host: &str| {
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|host| host.is_loopback())
    };
    let found: BTreeSet<String> = hosts
        .filter(|host| !is_here(host))
        .flat_map(|host| client::keeping_out(host, &environment))
        .collect();
    (!found.is_empty()).then(|| {
        let found: Vec<_> = found.into_iter().collect();
        format!(
            "container {} sets NO_PROXY itself, which keeps providers from the sidecar, by {}: its \
             calls to them are unmetered",
            name(container),
            found.join(", ")
        )
    })
}

/// What it means that a container has its exceptions from where nobody can look.
fn excepted_elsewhere(container: &str, variable: &str) -> String {
    format!(
        "container {container} takes {variable} from elsewhere, which stays: calls to providers that \
         it excepts are unmetered, and calls within the cluster that it does not except go through \
         the sidecar, and may fail"
    )
}

/// What it means that a container sets these itself.
fn unmetered(container: &str, mode: Mode, variables: &[&str]) -> Option<String> {
    let names = |fits: &dyn Fn(&str) -> bool| {
        let names: Vec<&str> = variables
            .iter()
            .copied()
            .filter(|name| fits(name))
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let astray = |name: &str| match mode {
        Mode::Env => client::is_base_url(name),
        _ => name.eq_ignore_ascii_case("HTTPS_PROXY") || name.eq_ignore_ascii_case("HTTP_PROXY"),
    };
    if let Some(names) = names(&astray) {
        return Some(format!(
            "container {container} sets {names} itself, which stays: its calls by that are \
             unmetered; take it away, or have it name http://127.0.0.1:{PROXY}"
        ));
    }
    let rest = names(&|_| true)?;
    Some(match mode {
        Mode::Env => format!(
            "container {container} has a proxy, and {rest} does not except 127.0.0.1: its calls to \
             the sidecar may go there instead"
        ),
        _ => format!(
            "container {container} sets {rest} itself, which stays: what reads that does not trust \
             the sidecar's certificates, and fails or is unmetered"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(mut container: Value, mode: Mode) -> (Value, Vec<String>) {
        let warnings = lead(&mut container, mode, &provider::Config::default()).unwrap();
        (container, warnings)
    }

    fn value(container: &Value, name: &str) -> String {
        value_of(container, name).unwrap_or_default()
    }

    #[test]
    fn base_urls_name_the_sidecar() {
        let (container, warnings) = led(json!({"name": "app"}), Mode::Env);
        assert_eq!(
            value(&container, "OPENAI_BASE_URL"),
            "http://127.0.0.1:4100/v1"
        );
        assert_eq!(value(&container, "HTTPS_PROXY"), "");
        assert_eq!(container.get("volumeMounts"), None);
        assert_eq!(warnings, Vec::<String>::new());
    }

    #[test]
    fn what_the_container_sets_stays_and_is_told() {
        let env = json!([
            {"name": "OPENAI_BASE_URL", "value": "https://gateway.example/v1"},
            {"name": "ANTHROPIC_BASE_URL", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "GOOGLE_GEMINI_BASE_URL", "value": "http://127.0.0.1:4100"}
        ]);
        let (container, warnings) = led(json!({"name": "app", "env": env}), Mode::Env);
        let kept: Vec<_> = container["env"]
            .as_array()
            .unwrap()
            .iter()
            .take(3)
            .collect();
        assert_eq!(json!(kept), env);
        let [warning] = warnings.as_slice() else {
            panic!("{warnings:?}");
        };
        for part in [
            "container app",
            "OPENAI_BASE_URL, ANTHROPIC_BASE_URL itself",
            "unmetered",
        ] {
            assert!(warning.contains(part), "{warning}");
        }
    }

    #[test]
    fn a_proxied_container_trusts_the_authority_and_reaches_its_cluster() {
        let (container, warnings) = led(json!({"name": "app", "env": null}), Mode::Proxy);
        assert_eq!(value(&container, "HTTPS_PROXY"), "http://127.0.0.1:4100");
        assert!(value(&container, "NO_PROXY").contains("$(KUBERNETES_SERVICE_HOST)"));
        assert!(value(&container, "SSL_CERT_FILE").starts_with(TRUST_DIR));
        assert_eq!(container["volumeMounts"][0]["readOnly"], json!(true));
        assert_eq!(warnings, Vec::<String>::new());
        let (container, _) = led(json!({"name": "app"}), Mode::Transparent);
        assert_eq!(value(&container, "HTTPS_PROXY"), "");
        assert!(value(&container, "NODE_EXTRA_CA_CERTS").starts_with(TRUST_DIR));
    }

    #[test]
    fn a_container_with_a_proxy_of_its_own_is_told_of() {
        let env = json!([{"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"}]);
        let (container, warnings) = led(json!({"name": "app", "env": env}), Mode::Proxy);
        assert_eq!(
            value(&container, "HTTPS_PROXY"),
            "http://proxy.example:3128"
        );
        assert!(
            warnings[0].contains("sets HTTPS_PROXY itself"),
            "{warnings:?}"
        );
        let env = json!([
            {"name": "SSL_CERT_FILE", "value": "/own.pem"},
            {"name": "NO_PROXY", "value": "db.example"}
        ]);
        let (_, warnings) = led(json!({"name": "app", "env": env}), Mode::Proxy);
        assert!(
            warnings[0].contains("sets SSL_CERT_FILE itself"),
            "{warnings:?}"
        );
    }

    #[test]
    fn exceptions_of_the_containers_own_are_added_to() {
        let with = |entries: Value| led(json!({"name": "app", "env": entries}), Mode::Proxy);
        let (container, warnings) = with(json!([
            {"name": "NO_PROXY", "value": "corp.internal"}, {"name": "A", "value": "b"}
        ]));
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(container["env"][0]["name"], "NO_PROXY");
        for name in ["NO_PROXY", "no_proxy"] {
            let except = value(&container, name);
            assert!(except.starts_with("corp.internal,localhost,"), "{except}");
            assert!(except.ends_with(".svc,.cluster.local,$(KUBERNETES_SERVICE_HOST)"));
        }
        let (again, _) = with(container["env"].clone());
        assert_eq!(again["env"], container["env"]);
        for keeps in ["*", ".openai.com", "localhost,api.openai.com"] {
            let (_, warnings) = with(json!([{"name": "no_proxy", "value": keeps}]));
            let [warning] = warnings.as_slice() else {
                panic!("{keeps}: {warnings:?}");
            };
            assert!(warning.contains("sets NO_PROXY itself"), "{warning}");
            assert!(warning.contains("unmetered"), "{warning}");
        }
        let elsewhere = json!({"configMapKeyRef": {"name": "c", "key": "k"}});
        let (container, warnings) = with(json!([{"name": "NO_PROXY", "valueFrom": elsewhere}]));
        assert_eq!(container["env"][0]["valueFrom"], elsewhere);
        assert!(
            warnings[0].contains("takes NO_PROXY from elsewhere"),
            "{warnings:?}"
        );
    }

    #[test]
    fn variables_from_elsewhere_are_told_of() {
        let from = json!([{"secretRef": {"name": "keys"}}]);
        let (_, warnings) = led(json!({"name": "app", "envFrom": from}), Mode::Env);
        assert!(warnings[0].contains("by envFrom"), "{warnings:?}");
    }
}

//! The variables by which clients send their calls through a proxy.

use std::{collections::BTreeSet, net::SocketAddr};

use super::{Environment, Variable, java};

/// Where clients find the proxy for TLS. Programs differ in which of them they read.
const HTTPS: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
/// And for plain HTTP.
const HTTP: [&str; 2] = ["HTTP_PROXY", "http_proxy"];
/// And for whatever else.
const ALL: [&str; 2] = ["ALL_PROXY", "all_proxy"];
/// What is reached without a proxy.
const EXCEPT: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// Without which Node reads none of them.
const NODE: &str = "NODE_USE_ENV_PROXY";
/// Where a pod finds the API of its cluster: by address, which no name covers.
const KUBERNETES: &str = "KUBERNETES_SERVICE_HOST";

/// What is never reached through a proxy. Ranges are for those that know them (curl, Go, Ruby,
/// requests); the others (httpx, Node, Java) compare whole addresses. No range of IPv6 is among them:
/// httpx fails at one.
const NEAR: &[&str] = &[
    "localhost",
    "127.0.0.1",
    "127.0.0.0/8",
    "::1",
    "169.254.0.0/16",
    // Metadata and identities: AWS, Google, Azure and most others; in containers; in pods; by IPv6.
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "metadata.google.internal",
    // Azure's agent, and Alibaba.
    "168.63.129.16",
    "100.100.100.200",
    // A cluster's own services.
    ".svc",
    ".cluster.local",
];

/// The same for Java, which has patterns of its own.
const NEAR_JAVA: &[&str] = &["127.*", "[::1]", "169.254.*"];

/// What goes through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    /// TLS alone, as nearly all providers speak it. Plain calls, which are mostly to neighbours, go
    /// their way.
    Tls,
    /// Plain HTTP too: some provider is reached by it.
    All,
}

/// The variables that make a client's process send its calls through the proxy at `at`.
///
/// What `environment` has of exceptions and of Java's options stays. A proxy that it names is
/// replaced: [`Through::Tls`] leaves one for plain HTTP alone. `ALL_PROXY` is never needed, since
/// every client prefers the variable of a scheme, and would bring in protocols that are no HTTP.
pub fn proxy(at: SocketAddr, through: Through, environment: Environment<'_>) -> Vec<Variable> {
    let url = format!("http://{at}");
    let mut all: Vec<Variable> = HTTPS.iter().map(|name| (*name, url.clone())).collect();
    if through == Through::All {
        all.extend(HTTP.iter().map(|name| (*name, url.clone())));
    }
    let exceptions = exceptions(environment);
    let joined = exceptions.join(",");
    all.extend(EXCEPT.iter().map(|name| (*name, joined.clone())));
    all.push((NODE, "1".to_owned()));
    let options = environment(java::OPTIONS).unwrap_or_default();
    all.push((java::OPTIONS, java(&options, at, through, &exceptions)));
    all
}

/// Those of the exceptions that are set which keep `host` from the proxy, a name or a pattern like
/// `*.example.com`.
pub fn keeping_out(host: &str, environment: Environment<'_>) -> Vec<String> {
    let host = host.trim_start_matches("*.");
    let keeps = |exception: &&str| {
        let bare = exception.trim_start_matches("*.").trim_start_matches('.');
        let above = host.strip_suffix(&*bare.to_ascii_lowercase());
        *exception == "*" || above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    };
    let set: Vec<_> = EXCEPT.iter().filter_map(|name| environment(name)).collect();
    let all = set.iter().flat_map(|value| value.split([',', ' ']));
    let all: BTreeSet<_> = all
        .filter(|exception| !exception.is_empty())
        .filter(keeps)
        .collect();
    all.into_iter().map(str::to_owned).collect()
}

/// What is reached without a proxy: theirs, then ours.
fn exceptions(environment: Environment<'_>) -> Vec<String> {
    let theirs = EXCEPT.iter().filter_map(|name| environment(name));
    let theirs: Vec<_> = theirs.collect();
    let theirs = theirs.iter().flat_map(|value| value.split([',', ' ']));
    let cluster = environment(KUBERNETES);
    let all = theirs.chain(NEAR.iter().copied()).chain(cluster.as_deref());
    let mut seen = BTreeSet::new();
    all.map(str::trim)
        .filter(|host| !host.is_empty() && seen.insert(host.to_ascii_lowercase()))
        .map(str::to_owned)
        .collect()
}

/// Java's options with the proxy in them.
fn java(options: &str, at: SocketAddr, through: Through, exceptions: &[String]) -> String {
    const EXCEPT: &str = "http.nonProxyHosts";
    let theirs = java::value(options, EXCEPT).unwrap_or_default();
    let theirs = theirs.split('|').map(str::to_owned);
    let patterns = exceptions.iter().flat_map(|host| patterns(host));
    let near = NEAR_JAVA.iter().map(|host| (*host).to_owned());
    let mut seen = BTreeSet::new();
    let all = theirs.chain(patterns).chain(near);
    let all: Vec<_> = all
        .filter(|host| !host.is_empty() && seen.insert(host.clone()))
        .collect();
    let all = all.join("|");
    let (host, port) = (at.ip().to_string(), at.port().to_string());
    let mut ours = vec![("https.proxyHost", &*host), ("https.proxyPort", &*port)];
    if through == Through::All {
        ours.extend([("http.proxyHost", &*host), ("http.proxyPort", &*port)]);
    }
    ours.push((EXCEPT, &all));
    java::with(options, &ours)
}

/// An exception as Java writes it: `*` at one end stands for anything. It knows no ranges.
fn patterns(host: &str) -> Vec<String> {
    let is_letter = |letter: char| letter.is_alphanumeric() || "-._*$()".contains(letter);
    let below = host.trim_start_matches("*.").trim_start_matches('.');
    if host == "*" {
        vec![host.to_owned()]
    } else if !host.chars().all(is_letter) || below.is_empty() {
        Vec::new()
    } else if below == host && (host.parse::<std::net::Ipv4Addr>().is_ok() || !host.contains('.')) {
        vec![host.to_owned()]
    } else if below == host {
        vec![host.to_owned(), format!("*.{host}")]
    } else {
        vec![format!("*.{below}")]
    }
}

/// Where the environment names an HTTP proxy: the exceptions from it, with the sidecar at `at` among
/// them, for clients that are pointed at it by its address.
pub fn not_for(at: SocketAddr, environment: Environment<'_>) -> Vec<Variable> {
    let mut proxies = HTTP.iter().chain(&ALL);
    if proxies.all(|name| environment(name).is_none()) {
        return Vec::new();
    }
    EXCEPT
        .into_iter()
        .map(|name| {
            let present = environment(name).filter(|value| !value.is_empty());
            let present = present.map(|value| format!("{value},")).unwrap_or_default();
            (name, format!("{present}{}", at.ip()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: &str = "127.0.0.1:4321";

    fn value<'a>(all: &'a [Variable], name: &str) -> Option<&'a str> {
        let found = all.iter().find(|(of, _)| *of == name);
        found.map(|(_, value)| value.as_str())
    }

    fn set(set: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        |name| {
            let found = set.iter().find(|(of, _)| *of == name);
            found.map(|(_, value)| (*value).to_owned())
        }
    }

    #[test]
    fn tls_goes_through_the_proxy_and_plain_http_only_where_it_is_asked_for() {
        let at = AT.parse().unwrap();
        let tls = proxy(at, Through::Tls, &|_| None);
        for name in ["HTTPS_PROXY", "https_proxy"] {
            assert_eq!(value(&tls, name), Some("http://127.0.0.1:4321"));
        }
        assert_eq!(value(&tls, "NODE_USE_ENV_PROXY"), Some("1"));
        assert_eq!(value(&tls, "http_proxy"), None);
        let java = value(&tls, "JAVA_TOOL_OPTIONS").unwrap();
        assert!(java.starts_with("-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=4321 "));
        assert!(java.contains("localhost|127.0.0.1|"), "{java}");
        assert!(java.contains("|*.svc|*.cluster.local|"), "{java}");
        assert!(!java.contains('/') && !java.contains(','), "{java}");
        let all = proxy(at, Through::All, &|_| None);
        assert_eq!(value(&all, "http_proxy"), Some("http://127.0.0.1:4321"));
        let java = value(&all, "JAVA_TOOL_OPTIONS").unwrap();
        assert!(java.contains("-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=4321 "));
    }

    #[test]
    fn exceptions_that_are_there_stay_and_come_first() {
        let environment = set(&[
            ("NO_PROXY", "git.corp, LOCALHOST"),
            ("no_proxy", "git.corp,.lan,10.0.0.0/8"),
            (
                "JAVA_TOOL_OPTIONS",
                "-Xmx1g -Dhttp.nonProxyHosts=*.own|127.*",
            ),
            ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
        ]);
        let all = proxy(AT.parse().unwrap(), Through::Tls, &environment);
        let except = value(&all, "NO_PROXY").unwrap();
        let first = "git.corp,LOCALHOST,.lan,10.0.0.0/8,127.0.0.1,";
        assert!(except.starts_with(first), "{except}");
        assert!(except.ends_with(",10.96.0.1"), "{except}");
        assert_eq!(value(&all, "no_proxy"), Some(except));
        let java = value(&all, "JAVA_TOOL_OPTIONS").unwrap();
        let expected = "-Dhttp.nonProxyHosts=*.own|127.*|git.corp|*.git.corp|LOCALHOST|*.lan|";
        assert!(
            java.starts_with("-Xmx1g ") && java.contains(expected),
            "{java}"
        );
        assert!(java.contains("|10.96.0.1|"), "{java}");
    }

    #[test]
    fn exceptions_that_keep_a_provider_out_are_found() {
        let environment = set(&[("no_proxy", "corp, .OpenAI.com,*"), ("NO_PROXY", "*")]);
        let found = |host| keeping_out(host, &environment);
        assert_eq!(found("api.openai.com"), ["*", ".OpenAI.com"]);
        assert_eq!(found("api.anthropic.com"), ["*"]);
        let environment = set(&[("no_proxy", "azure.com,enai.com")]);
        assert_eq!(
            keeping_out("*.openai.azure.com", &environment),
            ["azure.com"]
        );
        assert!(keeping_out("api.openai.com", &environment).is_empty());
    }

    #[test]
    fn no_range_of_ipv6_and_no_bracket_is_told_to_those_that_fail_at_them() {
        for host in NEAR {
            assert!(!(host.contains(':') && host.contains(['/', '['])), "{host}");
        }
    }

    #[test]
    fn the_sidecar_is_an_exception_from_an_http_proxy() {
        let address = AT.parse().unwrap();
        assert!(not_for(address, &|_| None).is_empty());
        let environment = set(&[
            ("http_proxy", "http://corporate:3128"),
            ("NO_PROXY", "internal"),
        ]);
        assert_eq!(
            not_for(address, &environment),
            [
                ("NO_PROXY", "internal,127.0.0.1".to_owned()),
                ("no_proxy", "127.0.0.1".to_owned()),
            ]
        );
    }
}

//! Variables in which clients look for a provider's address, where they are led through a proxy.

use std::net::IpAddr;

use super::{
    Environment,
    base_urls::{KNOWN, build},
};
use crate::provider::{self, BaseUrl};

/// A variable that names a place whose calls no proxy is asked for, or none that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncovered {
    /// The variable.
    pub name: &'static str,
    /// The place, without its path; what is set, if that is no address.
    pub place: String,
}

/// Makes hosts that variables name hosts of their providers, in `config`: for clients that go there by
/// themselves, through a proxy. What they name is left as it is.
///
/// Returns those that name a place which no such client is led to on its way: one on this machine, by
/// plain HTTP, by an address, or at a port that is not TLS's.
///
/// # Errors
/// The configuration has no such providers.
pub fn cover(
    config: &mut provider::Config,
    environment: Environment<'_>,
) -> Result<Vec<Uncovered>, String> {
    let known = build(config)?;
    let mut uncovered = Vec::new();
    for variable in KNOWN {
        let value = environment(variable.name).filter(|value| !value.trim().is_empty());
        let Some(value) = value else { continue };
        let base = BaseUrl::parse(value.trim());
        let Some(base) = base.as_ref().ok().filter(|base| may_be_covered(base)) else {
            uncovered.push(Uncovered {
                name: variable.name,
                place: place(base.ok()),
            });
            continue;
        };
        if known.at_host(&base.host).is_none() {
            let provider = config.providers.entry(variable.provider.to_owned());
            provider.or_default().hosts.push(base.host.to_string());
        }
    }
    Ok(uncovered)
}

/// Whether clients go there by TLS, at its usual port, and not to this machine.
fn may_be_covered(base: &BaseUrl) -> bool {
    let is_here = *base.host == *"localhost" || base.host.ends_with(".localhost");
    base.tls && base.port == 443 && !is_here && base.host.parse::<IpAddr>().is_err()
}

/// Scheme, host and port, and nothing that may be secret.
fn place(base: Option<BaseUrl>) -> String {
    let Some(base) = base else {
        return "no address".to_owned();
    };
    let scheme = if base.tls { "https" } else { "http" };
    if base.host.contains(':') {
        format!("{scheme}://[{}]:{}", base.host, base.port)
    } else {
        format!("{scheme}://{}:{}", base.host, base.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_variables_name_are_their_providers_where_a_proxy_is_asked_for_them() {
        let set = [
            ("OPENAI_BASE_URL", "https://gw.example/team/v1"),
            ("ANTHROPIC_BASE_URL", "https://api.anthropic.com"),
            ("GROQ_BASE_URL", "http://127.0.0.1:9/groq"),
            ("MISTRAL_BASE_URL", "https://gw.example:8443"),
            ("XAI_BASE_URL", "https://me:sk-hush@gw"),
            ("CO_API_URL", "https://[::1]"),
            ("AZURE_OPENAI_ENDPOINT", "https://acme.openai.azure.com/"),
            ("DEEPSEEK_BASE_URL", " "),
        ];
        let environment = |name: &str| {
            let found = set.iter().find(|(of, _)| *of == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let mut config = provider::Config::default();
        let uncovered = cover(&mut config, &environment).unwrap();
        let uncovered = uncovered.iter().map(|one| (one.name, &*one.place));
        let expected = [
            ("CO_API_URL", "https://[::1]:443"),
            ("GROQ_BASE_URL", "http://127.0.0.1:9"),
            ("MISTRAL_BASE_URL", "https://gw.example:8443"),
            ("XAI_BASE_URL", "no address"),
        ];
        assert_eq!(uncovered.collect::<Vec<_>>(), expected);
        assert_eq!(config.providers.keys().collect::<Vec<_>>(), ["openai"]);
        assert_eq!(config.providers["openai"].hosts, ["gw.example"]);
        assert_eq!(config.providers["openai"].base_url, None);
    }
}

//! The variables in which SDKs look for a provider's address, and what each is set to.

use std::net::SocketAddr;

use super::{Environment, Variable};
use crate::provider::{self, BaseUrl, Providers};

/// A variable that some client reads.
pub(super) struct Known {
    pub(super) name: &'static str,
    /// Whose address it is.
    pub(super) provider: &'static str,
    unset: Unset,
}

/// What becomes of a variable that is not set.
#[derive(Clone, Copy)]
enum Unset {
    /// It is set: the provider's official SDK reads it, and expects this path in it. The dialect's
    /// own paths tell the provider, so that its name need not be in the path.
    Bare(&'static str),
    /// It is set: the same, but only the provider's name in the path tells it.
    Named(&'static str),
    /// It stays so: customers have addresses of their own, or programs disagree about its path.
    Leave,
}

pub(super) const KNOWN: &[Known] = &[
    variable("OPENAI_BASE_URL", "openai", Unset::Bare("/v1")),
    variable("OPENAI_API_BASE", "openai", Unset::Bare("/v1")),
    variable("ANTHROPIC_BASE_URL", "anthropic", Unset::Bare("")),
    variable("ANTHROPIC_API_BASE", "anthropic", Unset::Leave),
    variable("GOOGLE_GEMINI_BASE_URL", "gemini", Unset::Bare("")),
    variable("GEMINI_BASE_URL", "gemini", Unset::Leave),
    variable("GEMINI_API_BASE", "gemini", Unset::Leave),
    variable("GOOGLE_VERTEX_BASE_URL", "vertex", Unset::Leave),
    variable("AZURE_OPENAI_ENDPOINT", "azure", Unset::Leave),
    variable("CO_API_URL", "cohere", Unset::Named("")),
    variable("GROQ_BASE_URL", "groq", Unset::Named("")),
    variable("GROQ_API_BASE", "groq", Unset::Leave),
    variable("CEREBRAS_BASE_URL", "cerebras", Unset::Named("")),
    variable("TOGETHER_BASE_URL", "together", Unset::Named("/v1")),
    variable("MISTRAL_BASE_URL", "mistral", Unset::Leave),
    variable("MISTRAL_API_BASE", "mistral", Unset::Leave),
    variable("DEEPSEEK_BASE_URL", "deepseek", Unset::Leave),
    variable("DEEPSEEK_API_BASE", "deepseek", Unset::Leave),
    variable("OPENROUTER_BASE_URL", "openrouter", Unset::Leave),
    variable("OPENROUTER_API_BASE", "openrouter", Unset::Leave),
    variable("FIREWORKS_BASE_URL", "fireworks", Unset::Leave),
    variable("PERPLEXITY_BASE_URL", "perplexity", Unset::Leave),
    variable("XAI_BASE_URL", "xai", Unset::Leave),
    variable(
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME",
        "bedrock",
        Unset::Bare(""),
    ),
    variable("ANTHROPIC_BEDROCK_BASE_URL", "bedrock", Unset::Bare("")),
];

/// The key that AWS's SDKs send instead of a signature.
const BEARER: &str = "AWS_BEARER_TOKEN_BEDROCK";

const fn variable(name: &'static str, provider: &'static str, unset: Unset) -> Known {
    Known {
        name,
        provider,
        unset,
    }
}

/// Where a variable is to point: a path at the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    name: &'static str,
    path: String,
}

impl Pointer {
    /// The variable and its value, with the proxy at `address`.
    pub fn at(&self, address: SocketAddr) -> Variable {
        (self.name, format!("http://{address}{}", self.path))
    }
}

/// The variables that are to be set where none of them is, with the proxy at `at`. What the
/// configuration says is where calls go.
///
/// `environment`: what the client's process finds set. What is in it is left out, whatever its value:
/// see [`is_base_url`] for what that may mean.
///
/// # Errors
/// The configuration has no such providers.
pub fn base_urls(
    at: SocketAddr,
    config: &provider::Config,
    environment: Environment<'_>,
) -> Result<Vec<Variable>, String> {
    let keys_alone = |name: &str| environment(name).filter(|_| name == BEARER);
    let pointers = point(&mut config.clone(), &keys_alone)?;
    let all = pointers.iter().map(|pointer| pointer.at(at));
    Ok(all
        .filter(|(name, _)| environment(name).is_none())
        .collect())
}

/// Whether a variable is one in which a client looks for a provider's address: calls of a client
/// that finds it set by somebody else may go past Tollgate.
pub fn is_base_url(name: &str) -> bool {
    KNOWN.iter().any(|known| known.name == name)
}

pub(super) fn build(config: &provider::Config) -> Result<Providers, String> {
    Providers::build(config).map_err(|errors| {
        let lines = errors.iter().map(ToString::to_string);
        lines.collect::<Vec<_>>().join("\n")
    })
}

/// What every variable is to point at. One that is set (as `environment` says) makes its value its
/// provider's upstream, in `config`; one that names a known provider's host goes to that provider.
/// Paths stay as they were: what a client appends arrives where it would have.
///
/// # Errors
/// A value is no base URL, or two variables give one provider different upstreams; the variable is
/// named.
pub fn point(
    config: &mut provider::Config,
    environment: Environment<'_>,
) -> Result<Vec<Pointer>, String> {
    let known = build(config)?;
    let mut moved: Vec<(&Known, String)> = Vec::new();
    let mut pointers = Vec::new();
    place_bedrock(config, environment);
    let signs = signs(config);
    let works = |variable: &&Known| variable.works(signs, environment);
    for variable in KNOWN.iter().filter(works) {
        let value = environment(variable.name).filter(|value| !value.trim().is_empty());
        let Some(value) = value else {
            pointers.extend(variable.unset_path().map(|path| Pointer {
                name: variable.name,
                path,
            }));
            continue;
        };
        let value = value.trim().trim_end_matches('/');
        let base =
            BaseUrl::parse(value).map_err(|problem| format!("{}: {problem}", variable.name))?;
        let owner = known.iter().find(|provider| {
            let own = provider.base.as_ref();
            own.is_some_and(|own| own.prefix.is_empty() && is_same_host(own, &base))
        });
        if owner.is_none() {
            let origin = value.strip_suffix(&*base.prefix).unwrap_or(value);
            move_to(variable, origin, &mut moved)?;
        }
        let provider = owner.map_or(variable.provider, |owner| &owner.name);
        pointers.push(Pointer {
            name: variable.name,
            path: variable.path(provider, &base.prefix),
        });
    }
    for (variable, origin) in moved {
        let provider = config.providers.entry(variable.provider.to_owned());
        provider.or_default().base_url = Some(origin);
    }
    Ok(pointers)
}

/// Whether requests to Bedrock are signed again: what its clients sign names the host.
fn signs(config: &provider::Config) -> bool {
    let bedrock = config.providers.get("bedrock");
    bedrock.is_some_and(|bedrock| bedrock.sign.is_some())
}

/// Keys for Bedrock name no region: calls with one go to that of the environment, unless the
/// configuration says where.
fn place_bedrock(config: &mut provider::Config, environment: Environment<'_>) {
    let said = |name| environment(name).filter(|value: &String| !value.trim().is_empty());
    let region = said("AWS_REGION").or_else(|| said("AWS_DEFAULT_REGION"));
    let known = config.providers.get("bedrock");
    let is_placed = known.is_some_and(|bedrock| bedrock.base_url.is_some());
    if let Some(region) = region.filter(|_| has_key(environment) && !is_placed) {
        let base = format!("https://bedrock-runtime.{}.amazonaws.com", region.trim());
        if BaseUrl::parse(&base).is_ok_and(|parsed| parsed.prefix.is_empty()) {
            let provider = config.providers.entry("bedrock".to_owned());
            provider.or_default().base_url = Some(base);
        }
    }
}

/// Whether there is a key for Bedrock.
fn has_key(environment: Environment<'_>) -> bool {
    environment(BEARER).is_some_and(|key| !key.trim().is_empty())
}

impl Known {
    /// Whether its clients work with Tollgate. AWS's own, where they have a key, send it only over
    /// TLS; Anthropic's send it anyhow.
    fn works(&self, signs: bool, environment: Environment<'_>) -> bool {
        let has_key = has_key(environment);
        match self.name {
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME" => signs && !has_key,
            "ANTHROPIC_BEDROCK_BASE_URL" => signs || has_key,
            _ => true,
        }
    }

    fn unset_path(&self) -> Option<String> {
        match self.unset {
            Unset::Bare(path) => Some(path.to_owned()),
            Unset::Named(path) => Some(format!("/{}{path}", self.provider)),
            Unset::Leave => None,
        }
    }

    /// The path at the proxy for what is at `path` of `provider`.
    fn path(&self, provider: &str, path: &str) -> String {
        if provider == self.provider && matches!(self.unset, Unset::Bare(own) if own == path) {
            path.to_owned()
        } else {
            format!("/{provider}{path}")
        }
    }
}

fn is_same_host(one: &BaseUrl, other: &BaseUrl) -> bool {
    (one.tls, &one.host, one.port) == (other.tls, &other.host, other.port)
}

/// Notes that a variable's provider is at `origin`.
fn move_to<'a>(
    variable: &'a Known,
    origin: &str,
    moved: &mut Vec<(&'a Known, String)>,
) -> Result<(), String> {
    let before = moved
        .iter()
        .find(|(other, _)| other.provider == variable.provider);
    match before {
        Some((other, place)) if place != origin => Err(format!(
            "{} and {} name different upstreams for {}: unset one of them",
            other.name, variable.name, variable.provider
        )),
        Some(_) => Ok(()),
        None => {
            moved.push((variable, origin.to_owned()));
            Ok(())
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "127.0.0.1:4321";

    type Values = Vec<(&'static str, String)>;

    /// What the variables are set to, and the configuration, where these are set already.
    fn pointed(set: &[(&str, &str)]) -> Result<(Values, provider::Config), String> {
        let mut config = provider::Config::default();
        let environment = |name: &str| {
            let found = set.iter().find(|(of, _)| *of == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let pointers = point(&mut config, &environment)?;
        let address = PROXY.parse().unwrap();
        let values = pointers.iter().map(|pointer| pointer.at(address));
        Ok((values.collect(), config))
    }

    fn value<'a>(values: &'a [(&str, String)], name: &str) -> Option<&'a str> {
        let found = values.iter().find(|(of, _)| *of == name);
        found.map(|(_, value)| value.as_str())
    }

    #[test]
    fn each_sdk_gets_the_path_that_it_expects() {
        let (values, config) = pointed(&[]).unwrap();
        for (name, expected) in [
            ("OPENAI_BASE_URL", "http://127.0.0.1:4321/v1"),
            ("OPENAI_API_BASE", "http://127.0.0.1:4321/v1"),
            ("ANTHROPIC_BASE_URL", "http://127.0.0.1:4321"),
            ("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:4321"),
            ("GROQ_BASE_URL", "http://127.0.0.1:4321/groq"),
            ("TOGETHER_BASE_URL", "http://127.0.0.1:4321/together/v1"),
            ("CO_API_URL", "http://127.0.0.1:4321/cohere"),
        ] {
            assert_eq!(value(&values, name), Some(expected));
        }
        assert_eq!(value(&values, "AZURE_OPENAI_ENDPOINT"), None);
        assert_eq!(config, provider::Config::default());
    }

    #[test]
    fn what_is_set_already_is_left_out() {
        let address = PROXY.parse().unwrap();
        let config = provider::Config::default();
        let set = |name: &str| (name == "OPENAI_BASE_URL").then(|| "http://gw/v1".to_owned());
        let some = base_urls(address, &config, &set).unwrap();
        let mut all = base_urls(address, &config, &|_| None).unwrap();
        assert!(value(&some, "OPENAI_BASE_URL").is_none());
        all.retain(|(name, _)| *name != "OPENAI_BASE_URL");
        assert_eq!(some, all);
        assert!(is_base_url("DEEPSEEK_BASE_URL") && !is_base_url("PATH"));
    }

    #[test]
    fn bedrocks_clients_are_pointed_only_where_that_works() {
        const AWS: &str = "AWS_ENDPOINT_URL_BEDROCK_RUNTIME";
        const ANTHROPIC: &str = "ANTHROPIC_BEDROCK_BASE_URL";
        let (values, config) = pointed(&[("AWS_REGION", "eu-west-1")]).unwrap();
        assert_eq!(
            (value(&values, AWS), value(&values, ANTHROPIC)),
            (None, None)
        );
        assert_eq!(config, provider::Config::default());
        let bearer = (BEARER, "key");
        let (values, config) = pointed(&[bearer, ("AWS_REGION", "eu-west-1")]).unwrap();
        let here = Some("http://127.0.0.1:4321");
        assert_eq!(
            (value(&values, AWS), value(&values, ANTHROPIC)),
            (None, here)
        );
        let base = config.providers["bedrock"].base_url.as_deref();
        assert_eq!(
            base,
            Some("https://bedrock-runtime.eu-west-1.amazonaws.com")
        );
        let empty = [
            bearer,
            ("AWS_REGION", " "),
            ("AWS_DEFAULT_REGION", "eu-west-1"),
        ];
        assert_eq!(
            pointed(&empty).unwrap().1,
            config,
            "what is empty is not set"
        );
        let empty = [(BEARER, ""), ("AWS_REGION", "eu-west-1")];
        assert_eq!(pointed(&empty).unwrap().1, provider::Config::default());
        let (_, config) = pointed(&[bearer, (ANTHROPIC, "http://gw:1")]).unwrap();
        let base = config.providers["bedrock"].base_url.as_deref();
        assert_eq!(base, Some("http://gw:1"));
        let mut config = provider::Config::default();
        let bedrock = config.providers.entry("bedrock".to_owned());
        bedrock.or_default().sign = Some(provider::Sign {
            env: true,
            ..provider::Sign::default()
        });
        for (key, expected) in [(None, true), (Some("key"), false)] {
            let environment = |name: &str| key.filter(|_| name == BEARER).map(str::to_owned);
            let pointers = point(&mut config.clone(), &environment).unwrap();
            assert_eq!(pointers.iter().any(|to| to.name == AWS), expected);
            assert!(pointers.iter().any(|to| to.name == ANTHROPIC));
        }
    }

    #[test]
    fn a_variable_that_is_set_names_the_upstream_and_keeps_its_path() {
        for (name, set, provider, upstream, expected) in [
            (
                "OPENAI_BASE_URL",
                "http://gw:8080/v1/",
                "openai",
                "http://gw:8080",
                "/v1",
            ),
            (
                "OPENAI_BASE_URL",
                "http://gw/team/v1",
                "openai",
                "http://gw",
                "/openai/team/v1",
            ),
            (
                "OPENAI_BASE_URL",
                "http://gw",
                "openai",
                "http://gw",
                "/openai",
            ),
            (
                "ANTHROPIC_BASE_URL",
                "https://gw:1/",
                "anthropic",
                "https://gw:1",
                "",
            ),
            (
                "ANTHROPIC_BASE_URL",
                "http://[::1]:8/a",
                "anthropic",
                "http://[::1]:8",
                "/anthropic/a",
            ),
            (
                "AZURE_OPENAI_ENDPOINT",
                "https://acme.openai.azure.com/",
                "azure",
                "https://acme.openai.azure.com",
                "/azure",
            ),
            (
                "GROQ_BASE_URL",
                "http://127.0.0.1:9/groq",
                "groq",
                "http://127.0.0.1:9",
                "/groq/groq",
            ),
        ] {
            let (values, config) = pointed(&[(name, set)]).unwrap();
            let expected = format!("http://{PROXY}{expected}");
            assert_eq!(value(&values, name), Some(&*expected), "{set}");
            let changed = &config.providers[provider];
            assert_eq!(changed.base_url.as_deref(), Some(upstream), "{set}");
            assert!(Providers::build(&config).is_ok());
        }
    }

    #[test]
    fn a_variable_that_names_a_known_provider_goes_to_that_one() {
        for (set, expected) in [
            ("https://api.openai.com/v1", "/v1"),
            ("https://openrouter.ai/api/v1", "/openrouter/api/v1"),
            ("https://api.groq.com/openai/v1/", "/groq/openai/v1"),
            ("https://api.deepseek.com", "/deepseek"),
        ] {
            let (values, config) = pointed(&[("OPENAI_BASE_URL", set)]).unwrap();
            let expected = format!("http://{PROXY}{expected}");
            assert_eq!(value(&values, "OPENAI_BASE_URL"), Some(&*expected));
            assert_eq!(config, provider::Config::default(), "{set}");
        }
    }

    #[test]
    fn what_cannot_be_an_upstream_is_named() {
        let error = pointed(&[("OPENAI_BASE_URL", "gw:8080/v1")]).unwrap_err();
        assert!(error.starts_with("OPENAI_BASE_URL: "), "{error}");
        let error = pointed(&[("ANTHROPIC_BASE_URL", "https://me:sk-hush@gw")]).unwrap_err();
        assert!(!error.contains("hush"), "{error}");
        let two = [
            ("OPENAI_BASE_URL", "http://one/v1"),
            ("OPENAI_API_BASE", "http://two/v1"),
        ];
        let error = pointed(&two).unwrap_err();
        assert!(
            error.contains("OPENAI_BASE_URL and OPENAI_API_BASE"),
            "{error}"
        );
        assert!(pointed(&[("OPENAI_BASE_URL", " ")]).is_ok(), "as if unset");
    }
}

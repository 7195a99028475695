//! The providers of a running program: the known ones and those of the configuration.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use http::{HeaderName, Method};

use super::{
    Abandoned, BaseUrl, DIALECTS,
    config::{Config, Price, ProviderConfig, Sign},
    dialect::Dialect,
    known::{FREE, KEY_HEADERS, KNOWN, Known, REPORT_UNASKED},
    openai::OpenAi,
    vertex,
    wire::percent::plain_path,
};
use crate::{
    base::secret::Secret,
    call::facts::{Operation, Spends},
};

/// A host that speaks a dialect.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its name in routes, configuration and spans.
    pub name: Arc<str>,
    /// Where it is; `None` where every customer has an own address and none was given (Azure).
    pub base: Option<BaseUrl>,
    /// Hosts by which intercepted traffic to it is known, in lower case.
    pub hosts: Vec<Box<str>>,
    /// The host of HTTPS that it usually is at, wherever the configuration has it.
    usual_host: Option<Box<str>>,
    /// What it speaks.
    pub dialect: &'static dyn Dialect,
    /// It may speak other dialects on paths that its own does not know.
    polyglot: bool,
    /// It puts usage into every stream, asked or not.
    pub reports_unasked: bool,
    /// Its calls are known to cost nothing.
    pub free: bool,
    /// The most tokens a second that one of its models makes.
    pub max_tokens_per_second: u32,
    /// What it bills of a stream that its reader leaves.
    pub abandoned: Abandoned,
    /// Finds the host in a path, where that tells it and the configuration does not.
    host_in: Option<HostIn>,
    /// It is at the same host in every region, and the configuration names no other place.
    pub is_regional: bool,
    /// How its requests are signed again, if they are.
    pub sign: Option<Sign>,
    /// Tollgate's own key for it, if there is one; what a header can hold.
    pub api_key: Option<Secret>,
    /// The header that the key goes into; `None`: that of the dialect which a request is in.
    pub api_key_header: Option<HeaderName>,
    /// Models by the names that only this customer has for them.
    models: BTreeMap<String, String>,
}

/// Finds the host in a path.
type HostIn = fn(&str) -> Option<String>;

/// A provider's configuration is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct ProviderError {
    /// The path of the key: `providers.azure.base_url`.
    pub key: String,
    /// What is wrong with it and what to do.
    pub problem: String,
}

/// All providers, by name and by host.
#[derive(Clone, Debug)]
pub struct Providers {
    all: Vec<Arc<Provider>>,
}

impl Providers {
    /// The known providers, changed and added to by `config`.
    ///
    /// # Errors
    /// Every mistake in `config`, in the order of its names.
    pub fn build(config: &Config) -> Result<Self, Vec<ProviderError>> {
        let mut errors = Vec::new();
        let mut all: Vec<_> = KNOWN.iter().map(Provider::known).collect();
        for (name, changes) in &config.providers {
            if !all.iter().any(|known| *known.name == **name) {
                all.push(Provider::unknown(name));
            }
            let mut all = all.iter_mut();
            if let Some(provider) = all.find(|known| *known.name == **name) {
                provider.change(changes, &mut errors);
            }
        }
        if errors.is_empty() {
            let all = all.into_iter().map(Arc::new).collect();
            Ok(Self { all })
        } else {
            Err(errors)
        }
    }

    /// The provider of that name.
    pub fn named(&self, name: &str) -> Option<&Arc<Provider>> {
        self.all.iter().find(|provider| *provider.name == *name)
    }

    /// The provider that a host (without port) belongs to.
    pub fn at_host(&self, host: &str) -> Option<&Arc<Provider>> {
        let host = host.to_ascii_lowercase();
        let exact = |provider: &&Arc<Provider>| provider.hosts.iter().any(|known| **known == *host);
        let like =
            |provider: &&Arc<Provider>| provider.hosts.iter().any(|known| matches(known, &host));
        let all = || self.all.iter();
        all().find(exact).or_else(|| all().find(like))
    }

    /// All of them, the known ones first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.all.iter()
    }
}

impl Provider {
    /// The most tokens a second that a model makes, where nothing else is said.
    pub const MAX_TOKENS_PER_SECOND: u32 = 500;

    fn known(known: &Known) -> Self {
        let base = BaseUrl::parse(known.base_url).ok();
        let own = base.iter().map(|base| base.host.clone());
        Self {
            name: Arc::from(known.name),
            usual_host: base
                .as_ref()
                .filter(|base| base.tls)
                .map(|base| base.host.clone()),
            hosts: own
                .chain(known.hosts.iter().map(|host| Box::from(*host)))
                .collect(),
            base,
            dialect: known.dialect,
            reports_unasked: REPORT_UNASKED.contains(&known.name),
            polyglot: true,
            free: FREE.contains(&known.name),
            max_tokens_per_second: Self::MAX_TOKENS_PER_SECOND,
            abandoned: Abandoned::by(known.name, known.dialect),
            host_in: (known.name == "vertex").then_some(vertex::host),
            is_regional: known.name.starts_with("bedrock"),
            sign: None,
            api_key: None,
            api_key_header: KEY_HEADERS
                .iter()
                .find(|(name, _)| *name == known.name)
                .map(|(_, header)| HeaderName::from_static(header)),
            models: BTreeMap::new(),
        }
    }

    /// A provider of which only the name is known: most servers speak `OpenAI`'s dialect.
    fn unknown(name: &str) -> Self {
        let known = Known {
            name: "",
            base_url: "",
            hosts: &[],
            dialect: &OpenAi::Compatible,
        };
        Self {
            name: Arc::from(name),
            ..Self::known(&known)
        }
    }

    fn change(&mut self, changes: &ProviderConfig, errors: &mut Vec<ProviderError>) {
        let mut wrong = |field: &str, problem: String| {
            let key = format!("providers.{}.{field}", self.name);
            errors.push(ProviderError { key, problem });
        };
        match changes.base_url.as_deref().map(BaseUrl::parse) {
            Some(Ok(base)) => {
                self.hosts.push(base.host.clone());
                self.base = Some(base);
                self.host_in = None;
                self.is_regional = false;
            },
            Some(Err(problem)) => wrong("base_url", problem),
            None if self.base.is_none() => wrong(
                "base_url",
                "it is missing: say where the provider is, like https://llm.example.com".to_owned(),
            ),
            None => {},
        }
        if let Some(name) = &changes.dialect {
            if let Some(dialect) = DIALECTS.iter().find(|dialect| dialect.name() == name) {
                self.dialect = *dialect;
                // Whoever writes `http` does not want it read.
                self.polyglot = name != "http";
            } else {
                let names: Vec<_> = DIALECTS.iter().map(|dialect| dialect.name()).collect();
                let problem = format!("unknown dialect `{name}`: one of {}", names.join(", "));
                wrong("dialect", problem);
            }
        }
        match changes.max_tokens_per_second {
            Some(0) => wrong("max_tokens_per_second", "must be at least 1".to_owned()),
            Some(most) => self.max_tokens_per_second = most,
            None => {},
        }
        let known = || Abandoned::by(&self.name, self.dialect);
        self.abandoned = changes.abandoned.unwrap_or_else(known);
        let more = changes.hosts.iter().map(|host| host.to_ascii_lowercase());
        self.hosts.extend(more.map(String::into_boxed_str));
        self.free |= changes.price == Some(Price::Free);
        self.models.clone_from(&changes.models);
        match changes.credential() {
            Ok((key, header)) => {
                self.api_key = key;
                self.api_key_header = header.or_else(|| self.api_key_header.take());
            },
            Err((field, problem)) => wrong(field, problem),
        }
        if let Some(sign) = &changes.sign {
            let ways = [sign.env, sign.profile.is_some(), sign.web_identity];
            if ways.into_iter().filter(|way| *way).count() != 1 {
                let problem = "say where the credentials come from: exactly one of env: true, \
                               profile: NAME, web_identity: true";
                wrong("sign", problem.to_owned());
            }
            self.sign = Some(sign.clone());
        }
    }

    /// What a request is, and in which dialect to read it: many providers serve the endpoints of
    /// others beside their own, and Azure's query says how old a dialect is spoken. However the path
    /// is written: the server may well resolve it, and then it is that endpoint.
    pub fn operation(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
    ) -> (&'static dyn Dialect, &'static Operation) {
        match plain_path(path) {
            Cow::Borrowed(path) => self.operation_at(method, path, query),
            Cow::Owned(plain) => {
                let read = self.operation_at(method, &plain, query);
                if read.1.spends == Spends::Unknown {
                    self.operation_at(method, path, query)
                } else {
                    read
                }
            },
        }
    }

    fn operation_at(
        &self,
        method: &Method,
        path: &str,
        query: Option<&str>,
    ) -> (&'static dyn Dialect, &'static Operation) {
        let speaks_openai = self.dialect.name() == OpenAi::Current.name();
        let dialect = match query {
            Some(query) if speaks_openai && OpenAi::is_early(query) => &OpenAi::Early,
            _ => self.dialect,
        };
        let own = dialect.operation(method, path);
        let known = own.spends != Spends::Unknown || own.name != "http";
        if !self.polyglot || known {
            return (dialect, own);
        }
        DIALECTS
            .iter()
            .map(|dialect| (*dialect, dialect.operation(method, path)))
            .find(|(_, operation)| operation.spends != Spends::Unknown)
            .unwrap_or((dialect, own))
    }

    /// Whether its base URL is at this host, which is in lower case.
    pub fn is_at(&self, host: &str) -> bool {
        self.base.as_ref().is_some_and(|base| *base.host == *host)
    }

    /// Whether it usually is at this host, which is in lower case, wherever the configuration has it.
    pub fn is_usually_at(&self, host: &str) -> bool {
        self.usual_host.as_deref() == Some(host)
    }

    /// The host that a request to this path goes to, if it is not the base URL's.
    pub fn host(&self, path: &str) -> Option<String> {
        self.host_in?(path)
    }

    /// The model behind a name: the name itself, or what the configuration says it stands for.
    pub fn model<'a>(&'a self, name: &'a str) -> &'a str {
        self.models.get(name).map_or(name, String::as_str)
    }

    /// The path, with its query, to ask for at the provider for one that a client asked for.
    pub fn path<'a>(&self, path_and_query: &'a str) -> Cow<'a, str> {
        match &self.base {
            Some(base) => base.path(path_and_query),
            None => Cow::Borrowed(path_and_query),
        }
    }
}

/// Whether `host` is like `pattern`, in which one `*` stands for anything but nothing: in `*.` for
/// any names, else for a part of one.
fn matches(pattern: &str, host: &str) -> bool {
    let parts = pattern.split_once('*');
    parts.is_some_and(|(start, end)| {
        let rest = host.strip_prefix(start);
        let between = rest.and_then(|rest| rest.strip_suffix(end));
        let is_any = start.is_empty() && end.starts_with('.');
        between.is_some_and(|found| !found.is_empty() && (is_any || !found.contains('.')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(yaml: &str) -> Result<Providers, Vec<String>> {
        let config: Config = serde_saphyr::from_str(yaml).unwrap();
        Providers::build(&config).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_known_providers_need_no_configuration() {
        let providers = Providers::build(&Config::default()).unwrap();
        assert_eq!(providers.iter().count(), KNOWN.len());
        let base = providers.named("groq").unwrap().base.clone().unwrap();
        assert_eq!(
            (&*base.host, base.port, base.tls),
            ("api.groq.com", 443, true)
        );
        assert!(providers.named("azure").unwrap().base.is_none());
        assert!(
            KNOWN
                .iter()
                .all(|known| known.base_url.is_empty() || BaseUrl::parse(known.base_url).is_ok())
        );
    }

    #[test]
    fn a_host_tells_its_provider() {
        let providers = Providers::build(&Config::default()).unwrap();
        for (host, name) in [
            ("API.OpenAI.com", "openai"),
            ("eu.api.openai.com", "openai"),
            ("acme.openai.azure.com", "azure"),
            ("acme.services.ai.azure.com", "azure"),
            ("us-east5-aiplatform.googleapis.com", "vertex"),
            ("aiplatform.eu.rep.googleapis.com", "vertex"),
            ("bedrock-runtime.eu-west-1.amazonaws.com", "bedrock"),
        ] {
            assert_eq!(
                providers.at_host(host).map(|found| &*found.name),
                Some(name),
                "{host}"
            );
        }
        for host in [
            "openai.com",
            "api.openai.com.evil.org",
            "bedrock-runtime.a.b.amazonaws.com",
            ".openai.azure.com",
            "",
        ] {
            assert!(providers.at_host(host).is_none(), "{host}");
        }
    }

    #[test]
    fn a_configured_provider_is_added_and_a_known_one_changed() {
        let providers = build(
            "my-vllm: {base_url: 'http://vllm:8000/v1', price: free}\n\
             openai: {base_url: 'https://proxy.example.com/up', max_tokens_per_second: 900}\n\
             azure: {base_url: 'https://acme.openai.azure.com'}",
        )
        .unwrap();
        let own = providers.named("my-vllm").unwrap();
        assert!(own.free);
        assert_eq!(own.dialect.name(), "openai");
        assert_eq!(
            own.path("/v1/chat/completions?a=1"),
            "/v1/chat/completions?a=1"
        );
        assert_eq!(own.path("/chat/completions"), "/v1/chat/completions");
        assert_eq!(own.path("/v10/x"), "/v1/v10/x");
        let openai = providers.named("openai").unwrap();
        assert_eq!(openai.path("/v1/models"), "/up/v1/models");
        assert_eq!(openai.max_tokens_per_second, 900);
        assert_eq!(
            &*providers.at_host("proxy.example.com").unwrap().name,
            "openai"
        );
        assert!(providers.named("azure").unwrap().base.is_some());
    }

    #[test]
    fn an_endpoint_of_another_dialect_is_read_in_that_dialect() {
        let providers = build("opaque: {base_url: 'http://x', dialect: http}").unwrap();
        let read = |provider, path| {
            let (dialect, op) =
                providers
                    .named(provider)
                    .unwrap()
                    .operation(&Method::POST, path, None);
            (dialect.name(), op.name)
        };
        assert_eq!(
            read("deepseek", "/anthropic/v1/messages"),
            ("anthropic", "messages")
        );
        assert_eq!(
            read("gemini", "/v1beta/openai/chat/completions"),
            ("openai", "chat")
        );
        assert_eq!(read("cohere", "/v2/chat"), ("cohere", "chat"));
        assert_eq!(read("watsonx", "/ml/v1/text/chat"), ("openai", "chat"));
        assert_eq!(read("writer", "/v1/chat"), ("openai", "chat"));
        assert_eq!(read("ollama", "/v1/chat/completions"), ("openai", "chat"));
        assert_eq!(
            read("cohere", "/compatibility/v1/chat/completions"),
            ("openai", "chat")
        );
        assert_eq!(read("opaque", "/v1/chat/completions"), ("http", "http"));
        let upload = "/v1/uploads/upload_1/complete";
        assert_eq!(read("openai", upload), ("openai", "http"));
    }

    #[test]
    fn a_location_in_the_path_is_a_host_unless_the_configuration_has_one() {
        let path = "/v1/projects/p/locations/us-east5/publishers/google/models/g:generateContent";
        let host = |yaml: &str, name: &str| build(yaml).unwrap().named(name).unwrap().host(path);
        let found = host("{}", "vertex");
        assert_eq!(found.as_deref(), Some("us-east5-aiplatform.googleapis.com"));
        assert_eq!(host("{}", "gemini"), None);
        assert_eq!(host("vertex: {base_url: 'http://x'}", "vertex"), None);
        let kept = host("vertex: {models: {a: b}}", "vertex");
        assert!(kept.is_some());
    }

    #[test]
    fn a_name_of_the_customer_s_own_stands_for_a_model() {
        let providers = build("azure: {base_url: 'http://x', models: {my-gpt: gpt-4o}}").unwrap();
        let azure = providers.named("azure").unwrap();
        assert_eq!(
            (azure.model("my-gpt"), azure.model("other")),
            ("gpt-4o", "other")
        );
    }

    #[test]
    fn an_early_version_of_azure_is_spoken_to_as_it_understands() {
        let providers = build("azure: {base_url: 'http://x'}").unwrap();
        let azure = providers.named("azure").unwrap();
        let path = "/openai/deployments/d/chat/completions";
        let bounded = |query| {
            let (dialect, op) = azure.operation(&Method::POST, path, Some(query));
            let splice = dialect.bound_output(op, b"{}", 9).unwrap();
            String::from_utf8(splice.apply(b"{}")).unwrap()
        };
        assert_eq!(bounded("api-version=2024-02-01"), r#"{"max_tokens":9}"#);
        let new = bounded("api-version=2024-10-21");
        assert_eq!(new, r#"{"max_completion_tokens":9}"#);
    }

    #[test]
    fn every_mistake_is_named_with_its_key() {
        let errors = build(
            "azure: {price: free}\n\
             mine: {base_url: 'vllm:8000', dialect: latin, max_tokens_per_second: 0, sign: {env: true, profile: x}}\n\
             other: {base_url: 'http://user:secret@host'}",
        )
        .unwrap_err();
        let keys: Vec<_> = errors
            .iter()
            .filter_map(|error| error.split(':').next())
            .collect();
        let expected = [
            "providers.azure.base_url",
            "providers.mine.base_url",
            "providers.mine.dialect",
            "providers.mine.max_tokens_per_second",
            "providers.mine.sign",
            "providers.other.base_url",
        ];
        assert_eq!(keys, expected);
        assert!(errors.iter().all(|error| !error.contains("secret")));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(serde_saphyr::from_str::<Config>("mine: {base_uri: 'http://vllm'}").is_err());
    }
}

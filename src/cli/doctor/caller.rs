//! A call that a rule counts, made up from what the rule matches.

use serde_json::{Value, json};

use crate::{
    base::{clock::Timestamp, glob, money::PerMillion},
    call::workload::Workload,
    config::Config,
    policy::{Match, Patterns, Per},
    pricing::{Pricing, Query, Unit},
    provider::{Provider, Providers},
};

/// What stands for anything.
const ANY: &str = "doctor";

/// The headers of the labels that a call can name, by what rules call them.
const LABELS: [(Per, &str); 6] = [
    (Per::Agent, "x-tollgate-agent"),
    (Per::User, "x-tollgate-user"),
    (Per::Project, "x-tollgate-project"),
    (Per::Environment, "x-tollgate-environment"),
    (Per::Session, "x-tollgate-session"),
    (Per::Workflow, "x-tollgate-workflow"),
];

/// Models to call where a rule says no name, by dialect: those that do not think unseen first.
const MODELS: [(&str, &[&str]); 3] = [
    (
        "openai",
        &["gpt-4o-mini", "gpt-4o", "gpt-4.1", "gpt-5", "o3"],
    ),
    (
        "anthropic",
        &["claude-haiku-4-5", "claude-sonnet-4-5", "claude-opus-4-5"],
    ),
    ("gemini", &["gemini-2.5-flash", "gemini-2.5-pro"]),
];

/// Who calls, and what.
#[derive(Debug)]
pub(super) struct Caller {
    /// Headers with its labels.
    pub(super) labels: Vec<(&'static str, String)>,
    /// Where the Tollgate would run that is called.
    pub(super) workload: Workload,
    /// What a million output tokens of its model cost; none if nobody knows, or if they are free.
    pub(super) price: Option<PerMillion>,
    provider: String,
    dialect: &'static str,
    model: String,
}

/// How a call is made.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// Whole, with at most so many tokens of output.
    Within(u64),
    /// A stream that sets itself no limit, where the dialect allows that.
    Streaming,
}

impl Caller {
    /// A caller whose calls a rule with `matches` and `per` counts. `needs_price`: its model must cost
    /// something.
    ///
    /// # Errors
    /// Nobody can be made up whose calls it counts: why.
    pub(super) fn counted_by(
        (matches, per): (&Match, &[Per]),
        config: &Config,
        pricing: &Pricing,
        at: (Timestamp, bool),
    ) -> Result<Self, String> {
        let mut workload = config.identity.workload();
        let mut named: Vec<(Per, String)> = Vec::new();
        let (mut models, mut providers) = (None, None);
        for (field, patterns) in matches.fields() {
            let value = concrete(patterns);
            match field {
                Per::Model => models = Some(patterns),
                Per::Provider => providers = Some(patterns),
                Per::Key => return Err("it counts the calls of some keys alone".to_owned()),
                Per::Route if fits(Some(patterns), "chat") => {},
                Per::Route => {
                    return Err(format!(
                        "it counts calls to {} alone",
                        patterns.0.join(", ")
                    ));
                },
                Per::Pod => workload.pod = Some(value.into()),
                Per::Namespace => workload.namespace = Some(value.into()),
                Per::ServiceAccount => workload.service_account = Some(value.into()),
                label => named.push((label, value)),
            }
        }
        for field in per {
            let place = match field {
                Per::Pod => &mut workload.pod,
                Per::Namespace => &mut workload.namespace,
                Per::ServiceAccount => &mut workload.service_account,
                _ => continue,
            };
            place.get_or_insert_with(|| ANY.into());
        }
        let mut labels: Vec<(&'static str, String)> = LABELS
            .into_iter()
            .map(|(label, header)| {
                let said = named.iter().find(|(name, _)| *name == label);
                (
                    header,
                    said.map_or_else(|| ANY.to_owned(), |(_, value)| value.clone()),
                )
            })
            .collect();
        let tagged = matches.tags.iter();
        let tagged = tagged.map(|(key, patterns)| tag(key, &concrete(patterns)));
        let counted = per
            .iter()
            .filter_map(|per| per.name().strip_prefix("tags."));
        let counted = counted.filter(|key| !matches.tags.contains_key(*key));
        let tags: Vec<String> = tagged.chain(counted.map(|key| tag(key, ANY))).collect();
        if !tags.is_empty() {
            labels.push(("x-tollgate-tags", tags.join(",")));
        }
        let known =
            Providers::build(&config.providers).map_err(|_errors| "its providers are wrong")?;
        let (at, needs_price) = at;
        let mut found = known
            .iter()
            .filter(|provider| fits(providers, &provider.name))
            .flat_map(|provider| offers(provider, models, config))
            .map(|(provider, model)| (price(pricing, provider, &model, at), provider, model));
        let found = found.find(|(price, ..)| price.is_some() || !needs_price);
        let Some((price, provider, model)) = found else {
            let with = if needs_price {
                " and whose price is known"
            } else {
                ""
            };
            return Err(format!("no model is known whose calls it counts{with}"));
        };
        Ok(Self {
            labels,
            workload,
            price,
            provider: provider.name.to_string(),
            dialect: provider.dialect.name(),
            model,
        })
    }

    /// Path and body of a call.
    pub(super) fn request(&self, way: Way) -> (String, Value) {
        let Self {
            provider, model, ..
        } = self;
        let said = [json!({"role": "user", "content": "Hi"})];
        match (self.dialect, way) {
            ("anthropic", way) => {
                // Without a limit there is no call; this is more than is left.
                let (most, stream) = match way {
                    Way::Within(most) => (most, false),
                    Way::Streaming => (4_096, true),
                };
                let body =
                    json!({"model": model, "messages": said, "max_tokens": most, "stream": stream});
                (format!("/{provider}/v1/messages"), body)
            },
            ("gemini", way) => {
                let contents = json!([{"role": "user", "parts": [{"text": "Hi"}]}]);
                let (verb, config) = match way {
                    Way::Within(most) => ("generateContent", json!({"maxOutputTokens": most})),
                    Way::Streaming => ("streamGenerateContent?alt=sse", json!({})),
                };
                let body = json!({"contents": contents, "generationConfig": config});
                (format!("/{provider}/v1beta/models/{model}:{verb}"), body)
            },
            (_, Way::Within(most)) => {
                let body = json!({"model": model, "messages": said, "max_tokens": most});
                (format!("/{provider}/v1/chat/completions"), body)
            },
            (_, Way::Streaming) => {
                let body = json!({"model": model, "messages": said, "stream": true});
                (format!("/{provider}/v1/chat/completions"), body)
            },
        }
    }
}

/// A text that one of the patterns matches.
fn concrete(patterns: &Patterns) -> String {
    let first = patterns.0.first().map_or(ANY, String::as_str);
    first.replace('*', ANY)
}

/// A tag as the header says it, in which signs that have a meaning there are encoded.
fn tag(key: &str, value: &str) -> String {
    let encoded = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:@".contains(&byte);
        let bytes = text.bytes().map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        });
        bytes.collect::<String>()
    };
    format!("{}={}", encoded(key), encoded(value))
}

/// Whether no patterns are asked for, or one of them matches.
fn fits(patterns: Option<&Patterns>, text: &str) -> bool {
    patterns.is_none_or(|it| it.0.iter().any(|pattern| glob::matches(pattern, text)))
}

/// Models of a provider to call that one of the patterns matches: those that somebody has written down,
/// then well-known ones.
fn offers<'p>(
    provider: &'p Provider,
    patterns: Option<&Patterns>,
    config: &Config,
) -> Vec<(&'p Provider, String)> {
    let dialect = provider.dialect.name();
    let Some((_, known)) = MODELS.iter().find(|(name, _)| *name == dialect) else {
        return Vec::new();
    };
    let known = known.iter().map(|name| (*name).to_owned());
    let of_this = |name: &str| match name.split_once('/') {
        Some((whose, model)) if *whose == *provider.name => model.to_owned(),
        _ => name.to_owned(),
    };
    let written = patterns.into_iter().flat_map(|it| &it.0).cloned();
    let priced = config.pricing.models.keys().map(|name| of_this(name));
    let all = written
        .chain(known)
        .chain(priced)
        .filter(|name| !name.contains('*'));
    let all = all.filter(|name| fits(patterns, name));
    all.map(|name| (provider, name)).collect()
}

/// What a million output tokens cost, if that is known and not nothing.
fn price(pricing: &Pricing, provider: &Provider, model: &str, at: Timestamp) -> Option<PerMillion> {
    let query = Query {
        provider: &provider.name,
        request_model: Some(provider.model(model)),
        at,
        ..Query::default()
    };
    let tariff = pricing.tariff(&query)?;
    let price = tariff.prices().get(Unit::Output)?.base();
    (price.nanos() > 0).then_some(price)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{app, policy::RuleConfig};

    fn caller(rule: &str) -> Result<Caller, String> {
        let config = Config::default();
        let rule: RuleConfig = serde_saphyr::from_str(rule).unwrap();
        let pricing = app::pricing(&config).unwrap();
        let at = Timestamp::from_secs(1_790_000_000);
        Caller::counted_by((&rule.matches, &rule.per), &config, &pricing, (at, true))
    }

    #[test]
    fn a_caller_is_whom_the_rule_counts() {
        let made = caller(
            "{name: r, window: day, limit: {usd: 1}, match: {agent: 'research-*', model: 'claude-*', \
             tags: {team: ['core, web=1', web]}, pod: p-1}, per: [tags.tier, user]}",
        )
        .unwrap();
        let label = |name| {
            made.labels
                .iter()
                .find(|(it, _)| *it == name)
                .unwrap()
                .1
                .clone()
        };
        assert_eq!(label("x-tollgate-agent"), "research-doctor");
        assert_eq!(label("x-tollgate-user"), "doctor");
        assert_eq!(
            label("x-tollgate-tags"),
            "team=core%2C%20web%3D1,tier=doctor"
        );
        assert_eq!(made.workload.pod.as_deref(), Some("p-1"));
        let (path, body) = made.request(Way::Within(7));
        assert_eq!(path, "/anthropic/v1/messages");
        assert_eq!(body["max_tokens"], 7);
        assert!(made.price.is_some());
    }

    #[test]
    fn where_nobody_can_be_made_up_it_says_why() {
        for (rule, word) in [
            (
                "{name: r, window: day, limit: {usd: 1}, match: {key: ci}}",
                "keys",
            ),
            (
                "{name: r, window: day, limit: {usd: 1}, match: {route: embeddings}}",
                "embeddings",
            ),
            (
                "{name: r, window: day, limit: {usd: 1}, match: {provider: nobody}}",
                "price",
            ),
            (
                "{name: r, window: day, limit: {usd: 1}, match: {model: no-such}}",
                "price",
            ),
        ] {
            let why = caller(rule).unwrap_err();
            assert!(why.contains(word), "{rule}: {why}");
        }
    }
}

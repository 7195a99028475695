//! The sections `budgets` and `rate_limits`, as they are written.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Deserializer, de};

use super::{scope::Per, threshold::Thresholds, window::Window};
use crate::base::{money::Usd, units};

/// What calls may cost.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// US dollars a calendar day, all traffic together. `None`: no such limit.
    pub daily: Option<Usd>,
    /// US dollars a calendar month, all traffic together.
    pub monthly: Option<Usd>,
    /// US dollars a calendar day for each user.
    pub per_user: Option<Usd>,
    /// The zone whose calendar the windows follow: `UTC`, `Europe/Berlin`.
    pub timezone: Zone,
    /// At which part of a limit to speak up, and to stop.
    pub thresholds: Thresholds,
    /// How a stream is ended that crosses its limit.
    pub cut: Cut,
    /// Tokens charged beyond what was read of a stream that is cut, left or broken.
    pub cut_margin: u64,
    /// How long a call waits for calls in flight that hold what is left.
    #[serde(with = "units::duration")]
    pub max_wait: Duration,
    /// What becomes of a request that sets no limit on its output.
    pub unbounded: Unbounded,
    /// What becomes of calls that cannot be metered yet.
    pub unmetered: Unmetered,
    /// Whether refusals name amounts.
    pub show_amounts: bool,
    /// The HTTP status of a refusal because a budget is used up: 429, 402 or 403.
    #[serde(deserialize_with = "status")]
    pub status: u16,
    /// What a rule does with a call that lacks a label the rule counts per.
    pub missing: Missing,
    /// Further rules.
    pub rules: Vec<RuleConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            daily: None,
            monthly: None,
            per_user: None,
            timezone: Zone::default(),
            thresholds: Thresholds::default(),
            cut: Cut::Graceful,
            cut_margin: 16,
            max_wait: Duration::from_secs(2),
            unbounded: Unbounded::Cap,
            unmetered: Unmetered::Allow,
            show_amounts: false,
            status: 429,
            missing: Missing::Share,
            rules: Vec::new(),
        }
    }
}

/// One budget rule.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Its name, as refusals have it. Letters, digits, `.`, `_` and `-`; at most 64.
    pub name: Name,
    /// Which calls it counts; all by default.
    #[serde(default, rename = "match")]
    pub matches: Match,
    /// One counter for each distinct value of these; one for all by default.
    #[serde(default)]
    pub per: Vec<Per>,
    /// How long what was spent counts.
    pub window: Window,
    /// How much may be spent in it.
    pub limit: LimitConfig,
    /// Which tokens count.
    #[serde(default)]
    pub count: Count,
    /// What becomes of a call that does not fit.
    #[serde(default)]
    pub on_exhausted: OnExhausted,
    /// Overrides `budgets.missing` for this rule.
    #[serde(default)]
    pub missing: Option<Missing>,
}

/// The limits of a rule; each that is named must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitConfig {
    /// US dollars.
    pub usd: Option<Usd>,
    /// Input and output tokens together.
    pub tokens: Option<u64>,
    /// Input tokens.
    pub input_tokens: Option<u64>,
    /// Output tokens.
    pub output_tokens: Option<u64>,
    /// Calls.
    pub requests: Option<u64>,
}

/// Which tokens count against limits in tokens. What does not count is given back when the bill
/// tells how many there were of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Count {
    /// Input that is read from the provider's cache.
    pub cache_read: bool,
    /// Input that is written to it.
    pub cache_write: bool,
    /// Output that is spent on thinking.
    pub reasoning: bool,
}

impl Default for Count {
    fn default() -> Self {
        Self {
            cache_read: true,
            cache_write: true,
            reasoning: true,
        }
    }
}

/// One entry of `rate_limits`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Its name, as refusals have it.
    pub name: Name,
    /// Which calls it counts; all by default.
    #[serde(default, rename = "match")]
    pub matches: Match,
    /// One counter for each distinct value of these.
    #[serde(default)]
    pub per: Vec<Per>,
    /// Calls a minute, in bursts of at most as many.
    #[serde(default)]
    pub requests_per_minute: Option<u32>,
    /// Input and output tokens in any minute.
    #[serde(default)]
    pub tokens_per_minute: Option<u64>,
    /// Input tokens in any minute.
    #[serde(default)]
    pub input_tokens_per_minute: Option<u64>,
    /// Output tokens in any minute.
    #[serde(default)]
    pub output_tokens_per_minute: Option<u64>,
    /// Which tokens count.
    #[serde(default)]
    pub count: Count,
    /// Calls in flight.
    #[serde(default)]
    pub concurrent: Option<u64>,
    /// How long a call waits in line for room instead of being refused.
    #[serde(default, with = "units::duration")]
    pub max_wait: Duration,
    /// What it does with a call that lacks a label it counts per.
    #[serde(default)]
    pub missing: Missing,
}

/// Which calls a rule counts: every field that is given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// The agent.
    pub agent: Option<Patterns>,
    /// The user.
    pub user: Option<Patterns>,
    /// The project.
    pub project: Option<Patterns>,
    /// The environment.
    pub environment: Option<Patterns>,
    /// The session.
    pub session: Option<Patterns>,
    /// The workflow.
    pub workflow: Option<Patterns>,
    /// The model that the request names.
    pub model: Option<Patterns>,
    /// The provider's name.
    pub provider: Option<Patterns>,
    /// The client key's name, else `sha256:` and 12 digits of a hash of the provider's credential.
    pub key: Option<Patterns>,
    /// The operation: `chat`, `responses`, `embeddings`.
    pub route: Option<Patterns>,
    /// The Kubernetes pod that Tollgate runs in.
    pub pod: Option<Patterns>,
    /// Its namespace.
    pub namespace: Option<Patterns>,
    /// Its service account.
    pub service_account: Option<Patterns>,
    /// Free tags by key.
    pub tags: BTreeMap<String, Patterns>,
}

impl Match {
    /// What is given besides tags.
    pub fn fields(&self) -> impl Iterator<Item = (Per, &Patterns)> {
        let fields = [
            &self.agent,
            &self.user,
            &self.project,
            &self.environment,
            &self.session,
            &self.workflow,
            &self.model,
            &self.provider,
            &self.key,
            &self.route,
            &self.pod,
            &self.namespace,
            &self.service_account,
        ];
        let fields = Per::NAMED.into_iter().zip(fields);
        fields.filter_map(|(per, patterns)| Some((per, patterns.as_ref()?)))
    }
}

/// One pattern or several, any of which may match. `*` stands for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns(pub Vec<String>);

/// What becomes of a call that does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExhausted {
    /// It is refused.
    #[default]
    Block,
    /// Its output limit is lowered to what is left, as long as something is.
    Clamp,
    /// It passes, and what would have happened is recorded.
    Shadow,
}

/// What a rule does with a call that lacks a label the rule counts per.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// Counts all such calls together, as `unknown`.
    #[default]
    Share,
    /// Does not count it.
    Skip,
    /// Refuses it.
    Deny,
}

/// How a stream is ended that crosses its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cut {
    /// With the dialect's own last event, as if the output limit had been reached.
    #[default]
    Graceful,
    /// With the dialect's error event.
    Error,
}

/// What becomes of a request that sets no limit on its output, when its model's maximum does not
/// fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unbounded {
    /// It gets what is left as its limit.
    #[default]
    Cap,
    /// It is refused.
    Refuse,
    /// It passes; the bound is soft.
    Allow,
}

/// What becomes of calls that cannot be metered yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unmetered {
    /// They pass unless a budget is exhausted, and are counted.
    #[default]
    Allow,
    /// They are refused.
    Deny,
}

/// A rule's name: letters, digits, `.`, `_` and `-`, 1 to 64 of them. It stands in headers, paths
/// and metrics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The name, if it is one.
    pub fn new(text: &str) -> Option<Self> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        ((1..=64).contains(&text.len()) && text.bytes().all(good)).then(|| Self(text.to_owned()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A time zone by its IANA name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(pub jiff::tz::TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Self(jiff::tz::TimeZone::UTC)
    }
}

impl Zone {
    /// Its IANA name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if name == "UTC" {
            return Ok(Self::default()); // needs no time zone database
        }
        jiff::tz::TimeZone::get(&name)
            .map(Self)
            .map_err(|_unknown| {
                de::Error::custom(format_args!(
                    "`{name}` is not a time zone: expected an IANA name like UTC or Europe/Berlin"
                ))
            })
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::new(&name).ok_or_else(|| {
            de::Error::custom(format_args!(
                "`{name}` is not a rule's name: expected 1 to 64 letters, digits, `.`, `_`, `-`"
            ))
        })
    }
}

fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let status = u16::deserialize(deserializer)?;
    if [402, 403, 429].contains(&status) {
        Ok(status)
    } else {
        Err(de::Error::custom(format_args!(
            "{status} is not a status for refusals: expected 429, 402 or 403"
        )))
    }
}

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PatternsVisitor)
    }
}

struct PatternsVisitor;

impl<'de> de::Visitor<'de> for PatternsVisitor {
    type Value = Patterns;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pattern like \"research-*\", or a list of them")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Patterns, E> {
        Ok(Patterns(vec![text.to_owned()]))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Patterns, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Patterns, A::Error> {
        let mut patterns = Vec::new();
        while let Some(mut more) = list.next_element::<Self::Value>()? {
            patterns.append(&mut more.0);
        }
        Ok(Patterns(patterns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sections_are_read_as_the_design_writes_them() {
        let config: Config = serde_json::from_str(
            r#"{"daily": 100.00, "per_user": "10.00", "timezone": "Europe/Berlin",
                "thresholds": {"warning": 0.75, "critical": 0.90, "cutoff": 1.0},
                "rules": [{"name": "research-runs",
                           "match": {"agent": "research-*", "environment": ["prod", "staging"]},
                           "per": ["session"], "window": "total", "limit": {"usd": 4.50},
                           "on_exhausted": "clamp"}]}"#,
        )
        .unwrap();
        assert_eq!(config.daily, Some("100".parse().unwrap()));
        assert_eq!(config.timezone.name(), "Europe/Berlin");
        assert_eq!(config.rules[0].window, Window::Total);
        assert_eq!(config.max_wait, Duration::from_secs(2));
        let limits: Vec<RateLimit> = serde_json::from_str(
            r#"[{"name": "per-agent", "match": {}, "per": ["agent", "model"],
                 "requests_per_minute": 600, "tokens_per_minute": 200000, "concurrent": 20,
                 "max_wait": "0s"}]"#,
        )
        .unwrap();
        assert_eq!(limits[0].per, [Per::Agent, Per::Model]);
    }

    #[test]
    fn what_is_not_meant_is_an_error_that_says_what_is() {
        for (text, says) in [
            (r#"{"dayly": 1}"#, "unknown field"),
            (r#"{"timezone": "Mars/Olympus"}"#, "IANA"),
            (r#"{"status": 500}"#, "402"),
            (r#"{"thresholds": {"warning": 1.5}}"#, "between"),
            (
                r#"{"rules": [{"name": "a b", "window": "day", "limit": {}}]}"#,
                "letters",
            ),
            (
                r#"{"rules": [{"name": "a", "window": "fortnight", "limit": {}}]}"#,
                "minute",
            ),
        ] {
            let error = serde_json::from_str::<Config>(text).unwrap_err();
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
    }
}

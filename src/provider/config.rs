//! `providers:` as it stands in the configuration.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Providers by name: added to the known ones, or changing them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Config {
    /// By name, as it stands in routes and on spans.
    pub providers: BTreeMap<String, ProviderConfig>,
}

/// What is said of one provider. What is left out is as it was, or as with any other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderConfig {
    /// Scheme and host, and a prefix if there is one, without the API version; if it does end in
    /// `/v1`, that segment is not repeated.
    pub base_url: Option<String>,
    /// What it speaks: the name of a dialect.
    pub dialect: Option<String>,
    /// More hosts by which intercepted traffic to it is known; `*.` in front stands for any names.
    pub hosts: Vec<String>,
    /// What its calls cost, if that is not in the price book.
    pub price: Option<Price>,
    /// The most tokens a second that one of its models makes: bounds what an unanswered call can
    /// have cost. 500 if nothing is said.
    pub max_tokens_per_second: Option<u32>,
    /// What its models are known by elsewhere: the model behind an Azure deployment, or behind any
    /// other name of the customer's own. Prices and limits are those of that model.
    pub models: BTreeMap<String, String>,
}

/// A price for all calls to a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Price {
    /// Known to be nothing.
    Free,
}

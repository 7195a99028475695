//! `providers:` as it stands in the configuration.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Abandoned;

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
    /// What it bills of a call that its client leaves; what is known of it if nothing is said.
    pub abandoned: Option<Abandoned>,
    /// What its models are known by elsewhere: the model behind an Azure deployment, or behind any
    /// other name of the customer's own. Prices and limits are those of that model.
    pub models: BTreeMap<String, String>,
    /// Requests that are signed for AWS are signed again, with credentials of Tollgate's own. A
    /// client that can reach Tollgate then acts with these.
    pub sign: Option<Sign>,
}

/// Where credentials for AWS come from: exactly one of `env`, `profile` and `web_identity`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sign {
    /// From `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
    pub env: bool,
    /// From this profile in AWS's own files.
    pub profile: Option<String>,
    /// The file with profiles' credentials; `AWS_SHARED_CREDENTIALS_FILE`, else
    /// `~/.aws/credentials`.
    pub file: Option<String>,
    /// From AWS's security token service, for a token that is mounted in a file.
    pub web_identity: bool,
    /// The ARN of the role to take; `AWS_ROLE_ARN`.
    pub role: Option<String>,
    /// The file with the token; `AWS_WEB_IDENTITY_TOKEN_FILE`.
    pub token_file: Option<String>,
    /// Where that service is; `AWS_ENDPOINT_URL_STS`, else that of `AWS_REGION`.
    pub sts: Option<String>,
}

/// A price for all calls to a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Price {
    /// Known to be nothing.
    Free,
}

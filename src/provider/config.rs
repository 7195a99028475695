//! `providers:` as it stands in the configuration.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::Abandoned;
use crate::base::secret::Secret;

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
    /// Tollgate's own key, which is sent in place of the client's: for callers with a client key, or
    /// from a trusted address.
    pub api_key: Option<Secret>,
    /// The header that it is sent in, if not in the usual one; in `authorization` behind `Bearer`.
    pub api_key_header: Option<String>,
    /// Requests that are signed for AWS are signed again, with credentials of Tollgate's own. A
    /// client that can reach Tollgate then acts with these.
    pub sign: Option<Sign>,
}

/// A field, and what is wrong with it.
type Wrong = (&'static str, String);

impl ProviderConfig {
    /// Tollgate's own key, as a header can hold it, and the header that it goes into.
    ///
    /// # Errors
    /// A field, and what is wrong with it. Not what is in it.
    pub(super) fn credential(&self) -> Result<(Option<Secret>, Option<HeaderName>), Wrong> {
        if let Some(key) = self.api_key.as_ref().map(Secret::expose) {
            if key.is_empty() || HeaderValue::from_str(key).is_err() {
                let problem = "it is empty, or has what no header can hold";
                return Err(("api_key", problem.to_owned()));
            }
            if self.sign.is_some() {
                let problem = "a request has either a key or a signature (sign)";
                return Err(("api_key", problem.to_owned()));
            }
        }
        let header = self.api_key_header.as_ref().map(|name| {
            let header = HeaderName::from_bytes(name.as_bytes());
            header.map_err(|_invalid| ("api_key_header", format!("`{name}` is no header's name")))
        });
        Ok((self.api_key.clone(), header.transpose()?))
    }
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

#[cfg(test)]
mod tests {
    use super::{super::Providers, *};

    fn build(yaml: &str) -> Result<Providers, String> {
        let config: Config = serde_saphyr::from_str(yaml).unwrap();
        let errors = |errors: Vec<super::super::ProviderError>| {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            errors.join("\n")
        };
        Providers::build(&config).map_err(errors)
    }

    #[test]
    fn a_key_of_ours_goes_into_the_header_that_the_provider_takes() {
        let providers = build(
            "openai: {api_key: sk-1}\n\
             azure: {base_url: 'https://a.openai.azure.com', api_key: k}\n\
             anthropic: {api_key: t, api_key_header: Authorization}",
        );
        let providers = providers.unwrap();
        let header = |name| {
            let provider = providers.named(name).unwrap();
            let header = provider.api_key_header.as_ref();
            header.map_or_else(|| provider.dialect.key_header(), HeaderName::as_str)
        };
        for (name, expected) in [
            ("openai", "authorization"),
            ("azure", "api-key"),
            ("anthropic", "authorization"),
            ("gemini", "x-goog-api-key"),
            ("vertex", "authorization"),
        ] {
            assert_eq!(header(name), expected, "{name}");
        }
        for (yaml, says) in [
            ("openai: {api_key: ''}", "openai.api_key: it is empty"),
            ("openai: {api_key: \"secret\\n\"}", "no header can hold"),
            (
                "openai: {api_key: k, api_key_header: 'a b'}",
                "`a b` is no header",
            ),
            (
                "bedrock: {api_key: k, sign: {env: true}}",
                "either a key or a signature",
            ),
        ] {
            let problems = build(yaml).unwrap_err();
            assert!(
                problems.contains(says) && !problems.contains("secret"),
                "{problems}"
            );
        }
    }
}

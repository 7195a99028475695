//! Where a bucket is, and whose keys open it.

use super::Config;
use crate::{
    base::secret::Secret,
    net::{
        aws::{Keys, Named, Source, Variable, region_of},
        post::Address,
    },
};

/// What stores of other makers call their region.
const USUAL: &str = "us-east-1";

/// Where objects go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The address of the bucket, without a slash at its end.
    pub(super) base: String,
    /// What all keys begin with, up to its slash; or nothing.
    pub(super) prefix: String,
    pub(super) region: String,
    pub(super) is_aws: bool,
}

impl Place {
    /// As it is configured.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub(super) fn of(config: &Config, variable: Variable<'_>) -> Result<Self, String> {
        let usage = || "url: s3://bucket/prefix, without a slash at either end of it".to_owned();
        let place = config.url.strip_prefix("s3://").ok_or_else(usage)?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if bucket.is_empty() || !bucket.bytes().all(plain) {
            return Err("url: a bucket's name has letters, digits, `-`, `.` and `_`".to_owned());
        }
        let odd = |part: &str| part.is_empty() || part == "." || part == "..";
        if !prefix.is_empty() && prefix.split('/').any(odd) {
            return Err(usage());
        }
        let named = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];
        let endpoint = config.endpoint.as_deref().map(str::to_owned);
        let endpoint = endpoint.or_else(|| named.into_iter().find_map(variable));
        let region = config.region.as_deref().map(str::to_owned);
        let region = match (region.or_else(|| region_of(variable)), &endpoint) {
            (Some(region), _) => region,
            (None, Some(_)) => USUAL.to_owned(),
            (None, None) => return Err("region: set it, or the variable AWS_REGION".to_owned()),
        };
        let is_aws = endpoint.is_none();
        let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        Address::parse(&Secret::new(&*endpoint)).map_err(|error| format!("endpoint: {error}"))?;
        let endpoint = endpoint.trim_end_matches('/');
        // A certificate of AWS holds for names without further dots.
        let usual = !is_aws || bucket.contains('.');
        let base = match endpoint.split_once("://") {
            Some((scheme, host)) if !config.path_style.unwrap_or(usual) => {
                format!("{scheme}://{bucket}.{host}")
            },
            _ => format!("{endpoint}/{bucket}"),
        };
        Address::parse(&Secret::new(&*base)).map_err(|error| format!("endpoint: {error}"))?;
        Ok(Self {
            base,
            prefix: if prefix.is_empty() {
                String::new()
            } else {
                format!("{prefix}/")
            },
            region,
            is_aws,
        })
    }
}

/// Where the keys are: in the configuration, in a profile that it names, in the environment, to be had
/// for a web identity that the environment names, or in the usual profile.
///
/// # Errors
/// There are none to be found, or they are named by half.
pub(super) fn source(
    config: &Config,
    region: &str,
    variable: Variable<'_>,
) -> Result<Source, String> {
    match (&config.access_key_id, &config.secret_access_key) {
        (Some(id), Some(secret)) => {
            return Ok(Source::Given(Keys {
                id: id.to_string(),
                secret: secret.clone(),
                token: config.session_token.clone(),
            }));
        },
        (None, None) => {},
        _ => return Err("access_key_id and secret_access_key go together".to_owned()),
    }
    let said = Named {
        region: Some(region),
        ..Named::default()
    };
    let is_set = |name| variable(name).is_some();
    if let Some(name) = &config.profile {
        Ok(Source::profile(name, None, variable))
    } else if is_set("AWS_ACCESS_KEY_ID") {
        Source::environment(variable)
    } else if is_set("AWS_WEB_IDENTITY_TOKEN_FILE") {
        Source::web_identity(said, variable)
    } else if let Some(name) = variable("AWS_PROFILE") {
        Ok(Source::profile(&name, None, variable))
    } else if is_set("AWS_SHARED_CREDENTIALS_FILE") {
        Ok(Source::profile("default", None, variable))
    } else {
        Err(
            "there are no keys: give access_key_id and secret_access_key, or a profile, or set the \
             variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or those of a web identity"
                .to_owned(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(yaml: &str) -> Config {
        serde_saphyr::from_str(yaml).unwrap()
    }

    fn place(yaml: &str, set: &[(&str, &str)]) -> Result<Place, String> {
        Place::of(&config(yaml), &|name| value(set, name))
    }

    fn value(set: &[(&str, &str)], name: &str) -> Option<String> {
        let found = set.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn a_bucket_is_in_the_host_at_aws_and_in_the_path_elsewhere() {
        let base = |yaml, set| place(yaml, set).map(|place| place.base);
        let there = |text: &str| Ok(text.to_owned());
        let region = [("AWS_DEFAULT_REGION", "eu-west-1")];
        for (yaml, set, expected) in [
            (
                "{url: 's3://audit/llm', region: eu-central-1}",
                &[][..],
                "https://audit.s3.eu-central-1.amazonaws.com",
            ),
            (
                "{url: 's3://audit.example', path_style: null}",
                &region,
                "https://s3.eu-west-1.amazonaws.com/audit.example",
            ),
            (
                "{url: 's3://audit', path_style: true}",
                &region,
                "https://s3.eu-west-1.amazonaws.com/audit",
            ),
            (
                "{url: 's3://audit', endpoint: 'http://minio:9000/'}",
                &[],
                "http://minio:9000/audit",
            ),
            (
                "{url: 's3://audit', endpoint: 'https://objects.example', path_style: false}",
                &[],
                "https://audit.objects.example",
            ),
            (
                "{url: 's3://audit'}",
                &[("AWS_ENDPOINT_URL_S3", "http://localhost:5000")],
                "http://localhost:5000/audit",
            ),
        ] {
            assert_eq!(base(yaml, set), there(expected), "{yaml}");
        }
        let place = place("{url: 's3://a/b/c', region: r}", &[]).unwrap();
        assert_eq!((&*place.prefix, place.is_aws), ("b/c/", true));
    }

    #[test]
    fn what_cannot_be_is_said_with_its_key() {
        for (yaml, word) in [
            ("{}", "url: s3://bucket/prefix"),
            ("{url: 'gs://a'}", "url: s3://bucket/prefix"),
            ("{url: 's3:///a'}", "a bucket's name"),
            ("{url: 's3://a b'}", "a bucket's name"),
            ("{url: 's3://a/b/'}", "without a slash"),
            ("{url: 's3://a/../b'}", "without a slash"),
            ("{url: 's3://a'}", "AWS_REGION"),
            (
                "{url: 's3://a', endpoint: minio}",
                "endpoint: it is no http",
            ),
            (
                "{url: 's3://a', endpoint: 'http://k:s@minio'}",
                "endpoint: there is a user",
            ),
        ] {
            let error = place(yaml, &[]).unwrap_err();
            assert!(error.contains(word), "{yaml}: {error}");
        }
    }

    #[test]
    fn keys_are_where_they_are_said_to_be_and_else_in_the_environment() {
        let found = |yaml: &str, set: &[(&str, &str)]| {
            let config = config(yaml);
            source(&config, "eu-west-1", &|name| value(set, name))
        };
        let environment = [("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "s")];
        let id = |source: Result<Source, String>| match source.unwrap() {
            Source::Given(keys) => keys.id,
            Source::Profile { name, .. } => format!("profile {name}"),
            Source::WebIdentity(identity) => format!("{} at {}", identity.role, identity.service),
        };
        let both = "{access_key_id: C, secret_access_key: s}";
        assert_eq!(id(found(both, &environment)), "C");
        assert_eq!(id(found("{profile: work}", &environment)), "profile work");
        assert_eq!(id(found("{}", &environment)), "E");
        let identity = [
            ("AWS_ROLE_ARN", "role"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"),
        ];
        assert_eq!(
            id(found("{}", &identity)),
            "role at https://sts.eu-west-1.amazonaws.com/"
        );
        assert_eq!(id(found("{}", &[("AWS_PROFILE", "p")])), "profile p");
        let file = [("AWS_SHARED_CREDENTIALS_FILE", "/c")];
        assert_eq!(id(found("{}", &file)), "profile default");
        assert!(found("{}", &[]).unwrap_err().contains("there are no keys"));
        let half = found("{access_key_id: C}", &environment).unwrap_err();
        assert!(half.contains("go together"), "{half}");
        let half = found("{}", &environment[..1]).unwrap_err();
        assert!(half.contains("AWS_SECRET_ACCESS_KEY"), "{half}");
    }
}

//! The credentials that requests are signed again with: found as `providers.X.sign` says, renewed
//! while the program runs.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use super::build::Impossible;
use crate::{
    base::{clock::Timestamp, secret::Secret},
    config::Sources,
    net::{
        aws::{Keyring, Keys, Source, WebIdentity},
        upstream::Upstream,
    },
    provider::{Providers, Sign},
    proxy::Live,
};

/// A variable of the environment.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Every provider's. `before`: the snapshot whose keys are kept where nothing else is asked for.
///
/// # Errors
/// There are none where they are said to be.
pub(super) fn open(
    providers: &Providers,
    before: Option<&Live>,
) -> Result<HashMap<Arc<str>, Arc<Keyring>>, Impossible> {
    let system = Sources::SYSTEM.variable;
    let environment = |name: &str| system(name).filter(|value| !value.is_empty());
    let mut all = HashMap::new();
    for provider in providers.iter() {
        let Some(sign) = &provider.sign else {
            continue;
        };
        let wrong = |problem: String| {
            Impossible::new(format!("providers.{}.sign: {problem}", provider.name))
        };
        let source = source(sign, &environment).map_err(wrong)?;
        let mut known = before.iter().flat_map(|live| live.keyrings());
        let kept =
            known.find(|(name, keyring)| **name == provider.name && *keyring.source() == source);
        let keyring = match kept {
            Some((_, keyring)) => Arc::clone(keyring),
            None => Arc::new(Keyring::open(source).map_err(wrong)?),
        };
        all.insert(Arc::clone(&provider.name), keyring);
    }
    Ok(all)
}

/// Renews what must be, one after the other; what fails is logged, and tried again the next time.
pub(super) async fn renew(live: &Live, now: Timestamp, upstream: &Arc<Upstream>) {
    for (provider, keyring) in live.keyrings() {
        if let Err(error) = keyring.renew(now, upstream).await {
            let provider = &**provider;
            tracing::warn!(provider, %error, "Credentials for signing could not be renewed");
        }
    }
}

fn source(sign: &Sign, environment: Environment<'_>) -> Result<Source, String> {
    let needed = |key: &str, said: Option<&String>, variable: &str| {
        let found = said.cloned().or_else(|| environment(variable));
        found.ok_or_else(|| format!("set {key}, or the variable {variable}"))
    };
    if let Some(name) = &sign.profile {
        let home = || environment("HOME").map(PathBuf::from).unwrap_or_default();
        let file = |said: Option<&String>, variable: &str, usual: &str| {
            let found = said.cloned().or_else(|| environment(variable));
            found.map_or_else(|| home().join(".aws").join(usual), PathBuf::from)
        };
        return Ok(Source::Profile {
            name: name.clone(),
            credentials: file(
                sign.file.as_ref(),
                "AWS_SHARED_CREDENTIALS_FILE",
                "credentials",
            ),
            config: file(None, "AWS_CONFIG_FILE", "config"),
        });
    }
    if sign.web_identity {
        let role = needed("role", sign.role.as_ref(), "AWS_ROLE_ARN")?;
        let token_file = needed(
            "token_file",
            sign.token_file.as_ref(),
            "AWS_WEB_IDENTITY_TOKEN_FILE",
        )?;
        let named = sign.sts.clone();
        let service = if let Some(url) = named.or_else(|| environment("AWS_ENDPOINT_URL_STS")) {
            url
        } else {
            let region = environment("AWS_REGION")
                .or_else(|| environment("AWS_DEFAULT_REGION"))
                .ok_or("set sts, or the variable AWS_REGION")?;
            format!("https://sts.{region}.amazonaws.com")
        };
        return Ok(Source::WebIdentity(WebIdentity {
            role,
            token_file: PathBuf::from(token_file),
            session: environment("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "tollgate".to_owned()),
            service: service
                .parse()
                .map_err(|error| format!("sts: {service} is no URL ({error})"))?,
        }));
    }
    let variable =
        |name| environment(name).ok_or_else(|| format!("the variable {name} is not set"));
    Ok(Source::Given(Keys {
        id: variable("AWS_ACCESS_KEY_ID")?,
        secret: Secret::new(variable("AWS_SECRET_ACCESS_KEY")?),
        token: environment("AWS_SESSION_TOKEN").map(Secret::new),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(yaml: &str, set: &[(&str, &str)]) -> Result<Source, String> {
        let sign: Sign = serde_saphyr::from_str(yaml).unwrap();
        source(&sign, &|name| {
            let found = set.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_fills_in_what_the_configuration_leaves_out() {
        let profile = |credentials: &str| Source::Profile {
            name: "work".to_owned(),
            credentials: PathBuf::from(credentials),
            config: PathBuf::from("/h/.aws/config"),
        };
        let home = ("HOME", "/h");
        assert_eq!(
            found("profile: work", &[home]),
            Ok(profile("/h/.aws/credentials"))
        );
        let named = ("AWS_SHARED_CREDENTIALS_FILE", "/c");
        assert_eq!(found("profile: work", &[home, named]), Ok(profile("/c")));
        assert_eq!(
            found("{profile: work, file: /d}", &[home, named]),
            Ok(profile("/d"))
        );
        let problem = found("env: true", &[("AWS_ACCESS_KEY_ID", "A")]).unwrap_err();
        assert!(problem.contains("AWS_SECRET_ACCESS_KEY"), "{problem}");
        let problem = found("web_identity: true", &[]).unwrap_err();
        assert!(problem.contains("AWS_ROLE_ARN"), "{problem}");
        let set = [
            ("AWS_ROLE_ARN", "r"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"),
            ("AWS_REGION", "eu-west-1"),
        ];
        let Ok(Source::WebIdentity(identity)) = found("web_identity: true", &set) else {
            panic!("no web identity");
        };
        assert_eq!(identity.service.host(), Some("sts.eu-west-1.amazonaws.com"));
    }
}

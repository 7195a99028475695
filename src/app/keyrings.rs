//! The credentials that requests are signed again with: found as `providers.X.sign` says, renewed
//! while the program runs.

use std::{collections::HashMap, sync::Arc};

use super::build::Impossible;
use crate::{
    base::clock::Timestamp,
    config::Sources,
    net::{
        aws::{Keyring, Named, Source, Variable},
        upstream::Upstream,
    },
    provider::{Providers, Sign},
    proxy::Live,
};

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

fn source(sign: &Sign, environment: Variable<'_>) -> Result<Source, String> {
    if let Some(name) = &sign.profile {
        Ok(Source::profile(name, sign.file.as_deref(), environment))
    } else if sign.web_identity {
        let said = Named {
            role: sign.role.as_deref(),
            token_file: sign.token_file.as_deref(),
            sts: sign.sts.as_deref(),
            region: None,
        };
        Source::web_identity(said, environment)
    } else {
        Source::environment(environment)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

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

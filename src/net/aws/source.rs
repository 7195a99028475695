//! Where AWS's own tools look for keys: the environment, a profile, a web identity.

use std::path::PathBuf;

use super::{Keys, Source, WebIdentity};
use crate::base::secret::Secret;

/// The value of a variable of the environment; none if it is empty.
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What is said of a web identity; what is not is in the environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Named<'a> {
    /// The ARN of the role; else `AWS_ROLE_ARN`.
    pub role: Option<&'a str>,
    /// The file that the token is in; else `AWS_WEB_IDENTITY_TOKEN_FILE`.
    pub token_file: Option<&'a str>,
    /// Where the service is; else `AWS_ENDPOINT_URL_STS`, else that of `region`.
    pub sts: Option<&'a str>,
    /// Else `AWS_REGION` or `AWS_DEFAULT_REGION`.
    pub region: Option<&'a str>,
}

impl Source {
    /// The keys in the environment.
    ///
    /// # Errors
    /// They are not there; which variable is not set.
    pub fn environment(variable: Variable<'_>) -> Result<Self, String> {
        let needed = |name| variable(name).ok_or_else(|| format!("the variable {name} is not set"));
        Ok(Self::Given(Keys {
            id: needed("AWS_ACCESS_KEY_ID")?,
            secret: Secret::new(needed("AWS_SECRET_ACCESS_KEY")?),
            token: variable("AWS_SESSION_TOKEN").map(Secret::new),
        }))
    }

    /// A profile in AWS's own files, or with `file` for the one of credentials.
    pub fn profile(name: &str, file: Option<&str>, variable: Variable<'_>) -> Self {
        let home = || variable("HOME").map(PathBuf::from).unwrap_or_default();
        let path = |said: Option<&str>, named: &str, usual: &str| {
            let found = said.map(str::to_owned).or_else(|| variable(named));
            found.map_or_else(|| home().join(".aws").join(usual), PathBuf::from)
        };
        Self::Profile {
            name: name.to_owned(),
            credentials: path(file, "AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            config: path(None, "AWS_CONFIG_FILE", "config"),
        }
    }

    /// A web identity.
    ///
    /// # Errors
    /// What is missing, and where it can be said.
    pub fn web_identity(said: Named<'_>, variable: Variable<'_>) -> Result<Self, String> {
        let needed = |key: &str, said: Option<&str>, named: &str| {
            let found = said.map(str::to_owned).or_else(|| variable(named));
            found.ok_or_else(|| format!("set {key}, or the variable {named}"))
        };
        let role = needed("role", said.role, "AWS_ROLE_ARN")?;
        let token_file = needed("token_file", said.token_file, "AWS_WEB_IDENTITY_TOKEN_FILE")?;
        let named = said.sts.map(str::to_owned);
        let service = if let Some(url) = named.or_else(|| variable("AWS_ENDPOINT_URL_STS")) {
            url
        } else {
            let region = said.region.map(str::to_owned);
            let region = region.or_else(|| region_of(variable));
            let region = region.ok_or("set sts, or the variable AWS_REGION")?;
            format!("https://sts.{region}.amazonaws.com")
        };
        Ok(Self::WebIdentity(WebIdentity {
            role,
            token_file: PathBuf::from(token_file),
            session: variable("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "tollgate".to_owned()),
            service: service
                .parse()
                .map_err(|error| format!("sts: {service} is no URL ({error})"))?,
        }))
    }
}

/// The region that the environment names.
pub fn region_of(variable: Variable<'_>) -> Option<String> {
    variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"))
}

//! Where a provider is: its base URL.

use std::borrow::Cow;

use http::Uri;

/// The version that many base URLs end with, and paths of clients begin with.
const VERSION: &str = "/v1";

/// The address of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// Whether to speak TLS.
    pub tls: bool,
    /// Host without port, in lower case; IPv6 addresses without brackets.
    pub host: Box<str>,
    /// The port, also where it is the scheme's own.
    pub port: u16,
    /// What goes before every path: empty, or begins with a slash and does not end with one.
    pub prefix: Box<str>,
}

impl BaseUrl {
    /// Parses `scheme://host[:port][/prefix]`.
    ///
    /// # Errors
    /// What is wrong, in words for whoever wrote it.
    pub fn parse(url: &str) -> Result<Self, String> {
        let wrong =
            |what: &str| format!("`{url}` {what}, expected one like https://llm.example.com");
        let uri: Uri = url
            .parse()
            .map_err(|error| wrong(&format!("is not a URL ({error})")))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("does not begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("has no host"))?;
        if authority.as_str().contains('@') {
            return Err("must not hold a user name or password".to_owned());
        }
        if uri.query().is_some() {
            return Err(wrong("has a query"));
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong("has no host"));
        }
        Ok(Self {
            tls,
            host: host.to_ascii_lowercase().into_boxed_str(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            prefix: Box::from(uri.path().trim_end_matches('/')),
        })
    }

    /// What stands behind the prefix in a path at this place, if that is below it.
    pub fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(&*self.prefix)?;
        let is_whole = self.prefix.is_empty() || rest.is_empty() || rest.starts_with('/');
        is_whole.then_some(rest)
    }

    /// The path to ask for, as a client that knows no prefix would, for what is at this path here, if
    /// that is below the prefix.
    pub fn asked<'a>(&self, path: &'a str) -> Option<&'a str> {
        self.below(path)?;
        path.strip_prefix(self.prefix.strip_suffix(VERSION).unwrap_or(&self.prefix))
    }

    /// A client's path behind the prefix; a version that ends the prefix is not repeated.
    pub(super) fn path<'a>(&self, path_and_query: &'a str) -> Cow<'a, str> {
        if self.prefix.is_empty() {
            return Cow::Borrowed(path_and_query);
        }
        let rest = path_and_query
            .strip_prefix(VERSION)
            .filter(|_| self.prefix.ends_with(VERSION))
            .filter(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
            .unwrap_or(path_and_query);
        Cow::Owned(format!("{}{rest}", self.prefix))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn base(prefix: &str) -> BaseUrl {
        BaseUrl::parse(&format!("https://gw.corp{prefix}")).unwrap()
    }

    #[test]
    fn a_path_is_below_a_prefix_by_whole_names() {
        for (prefix, path, expected) in [
            ("", "/v1/models", Some("/v1/models")),
            ("", "*", Some("*")),
            ("/team", "/team/v1/models", Some("/v1/models")),
            ("/team", "/team", Some("")),
            ("/team", "/teams/v1/models", None),
            ("/team", "/v1/models", None),
            ("/team/v1", "/team/v1/models", Some("/v1/models")),
            ("/team/v1", "/team/v1/v1/models", Some("/v1/v1/models")),
            ("/team/v1", "/team/v10/models", None),
        ] {
            assert_eq!(base(prefix).asked(path), expected, "{prefix} {path}");
        }
    }

    proptest! {
        #[test]
        fn what_is_asked_for_leads_to_the_path_that_it_was_made_of(
            prefix in "(/v1|/a){0,3}", rest in "(/v1|/a|/v10){0,3}",
        ) {
            let (base, path) = (base(&prefix), format!("{prefix}{rest}"));
            let asked = base.asked(&path).unwrap();
            prop_assert_eq!(base.path(asked), path.as_str());
        }
    }
}

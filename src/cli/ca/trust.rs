//! The variables by which runtimes trust an authority.

use std::path::Path;

use crate::net::authority::{BUNDLE, JAVA, ROOTS};

/// Variables, and the file that each is to name. Those with [`BUNDLE`] replace the system's store,
/// those with [`ROOTS`] add to it.
const VARIABLES: &[(&str, &str)] = &[
    // OpenSSL, and so Python and Ruby; Go; Rust; httpx by itself.
    ("SSL_CERT_FILE", BUNDLE),
    ("REQUESTS_CA_BUNDLE", BUNDLE),
    ("CURL_CA_BUNDLE", BUNDLE),
    ("AWS_CA_BUNDLE", BUNDLE),
    ("GIT_SSL_CAINFO", BUNDLE),
    ("PIP_CERT", BUNDLE),
    ("CARGO_HTTP_CAINFO", BUNDLE),
    ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", BUNDLE),
    ("NODE_EXTRA_CA_CERTS", ROOTS),
    ("DENO_CERT", ROOTS),
];

/// Where every Java looks for options.
const JAVA_OPTIONS: &str = "JAVA_TOOL_OPTIONS";
const JAVA_STORE: &str = "-Djavax.net.ssl.trustStore=";
const JAVA_TYPE: &str = "-Djavax.net.ssl.trustStoreType=";

/// The variables and their values for what clients need in `dir`, an absolute path. What
/// `environment` has of Java's options stays.
///
/// # Errors
/// The path cannot be written into a variable.
pub(in crate::cli) fn variables(
    dir: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<(&'static str, String)>, String> {
    let text = dir.to_str().filter(|dir| !dir.contains(['\n', '"']));
    let dir = text.ok_or_else(|| {
        let dir = dir.display();
        format!("{dir}: no variable can name this directory; use another with --dir")
    })?;
    let files = VARIABLES.iter();
    let mut all: Vec<_> = files
        .map(|(name, file)| (*name, format!("{dir}/{file}")))
        .collect();
    let java = environment(JAVA_OPTIONS).unwrap_or_default();
    all.push((JAVA_OPTIONS, with_store(&java, &format!("{dir}/{JAVA}"))));
    Ok(all)
}

/// Java's options with this store in the place of any other.
fn with_store(options: &str, store: &str) -> String {
    let is_ours = |option: &&str| option.starts_with(JAVA_STORE) || option.starts_with(JAVA_TYPE);
    let others = options.split_whitespace().filter(|option| !is_ours(option));
    let store = if store.contains(' ') {
        format!("\"{JAVA_STORE}{store}\"")
    } else {
        format!("{JAVA_STORE}{store}")
    };
    let kind = format!("{JAVA_TYPE}JKS");
    let all: Vec<_> = others.chain([store.as_str(), kind.as_str()]).collect();
    all.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_replaces_the_systems_store_gets_the_bundle() {
        let all = variables(Path::new("/ca"), &|_| None).unwrap();
        let value = |name: &str| {
            let found = all.iter().find(|(of, _)| *of == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(value("SSL_CERT_FILE"), Some("/ca/bundle.pem"));
        assert_eq!(value("NODE_EXTRA_CA_CERTS"), Some("/ca/ca.pem"));
        assert!(variables(Path::new("/a\"b"), &|_| None).is_err());
    }

    #[test]
    fn javas_other_options_stay() {
        let ours = "-Djavax.net.ssl.trustStore=/ca/trust.jks -Djavax.net.ssl.trustStoreType=JKS";
        assert_eq!(with_store("", "/ca/trust.jks"), ours);
        let with = with_store("-Xmx1g", "/ca/trust.jks");
        assert_eq!(with, format!("-Xmx1g {ours}"));
        assert_eq!(with_store(&with, "/ca/trust.jks"), with, "once");
        let spaced = with_store("", "/a b/trust.jks");
        assert!(spaced.starts_with("\"-Djavax.net.ssl.trustStore=/a b/trust.jks\" "));
    }
}

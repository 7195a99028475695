//! The variables by which runtimes trust an authority.

use std::path::{Path, PathBuf};

use super::{Environment, Variable, java};
use crate::net::authority::{BUNDLE, JAVA, ROOTS};

/// Variables, and the file that each is to name. Those with [`BUNDLE`] replace the system's store,
/// those with [`ROOTS`] add to it.
const FILES: &[(&str, &str)] = &[
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

/// Where Java's store is, and what it is.
const JAVA_STORE: &str = "javax.net.ssl.trustStore";
const JAVA_TYPE: &str = "javax.net.ssl.trustStoreType";

/// No variable can name a directory: there is a quote or a line's end in its path, or it is no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: no variable can name this directory; use another", .0.display())]
pub struct Unnamed(PathBuf);

/// The variables by which runtimes trust the authority whose files are in `dir`, an absolute path.
/// What `environment` has of Java's options stays. A variable that it sets gets the bundle, into which
/// what it named before may have been put: see [`files()`].
///
/// # Errors
/// The path cannot be written into a variable.
pub fn trust(dir: &Path, environment: Environment<'_>) -> Result<Vec<Variable>, Unnamed> {
    let text = dir.to_str().filter(|dir| !dir.contains(['\n', '"']));
    let dir = text.ok_or_else(|| Unnamed(dir.to_owned()))?;
    let files = FILES.iter();
    let mut all: Vec<_> = files
        .map(|(name, file)| {
            let file = format!("{dir}/{file}");
            let is_theirs = |set: &String| !set.is_empty() && *set != file;
            match environment(name).filter(is_theirs) {
                Some(_) => (*name, format!("{dir}/{BUNDLE}")),
                None => (*name, file),
            }
        })
        .collect();
    let java = environment(java::OPTIONS).unwrap_or_default();
    let store = format!("{dir}/{JAVA}");
    let ours = [(JAVA_STORE, &*store), (JAVA_TYPE, "JKS")];
    all.push((java::OPTIONS, java::with(&java, &ours)));
    Ok(all)
}

/// The files of certificates that are set already: what clients trust besides.
pub fn files(environment: Environment<'_>) -> Vec<PathBuf> {
    let all = FILES.iter().filter_map(|(name, _)| environment(name));
    let mut all: Vec<_> = all
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_replaces_the_systems_store_gets_the_bundle() {
        let all = trust(Path::new("/ca"), &|_| None).unwrap();
        let value = |name: &str| {
            let found = all.iter().find(|(of, _)| *of == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(value("SSL_CERT_FILE"), Some("/ca/bundle.pem"));
        assert_eq!(value("NODE_EXTRA_CA_CERTS"), Some("/ca/ca.pem"));
        let java = value("JAVA_TOOL_OPTIONS").unwrap();
        assert!(java.starts_with("-Djavax.net.ssl.trustStore=/ca/trust.jks "));
        assert!(trust(Path::new("/a\"b"), &|_| None).is_err());
    }

    #[test]
    fn what_is_trusted_already_stays_trusted() {
        let set = |name: &str| {
            let all = ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "PIP_CERT"];
            all.contains(&name).then(|| "/corp.pem".to_owned())
        };
        assert_eq!(files(&set), [Path::new("/corp.pem")]);
        let all = trust(Path::new("/ca"), &set).unwrap();
        let bundle = "/ca/bundle.pem".to_owned();
        assert!(all.contains(&("NODE_EXTRA_CA_CERTS", bundle)));
        assert!(files(&|_| Some(String::new())).is_empty());
    }
}

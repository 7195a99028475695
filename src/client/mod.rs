//! What a client's process is told so that its calls come here: variables, by which it finds
//! Tollgate ([`base_urls()`]), takes it for its proxy ([`proxy()`]), and trusts its authority
//! ([`trust()`]).
//!
//! Nothing is read here but what `environment` says is set: for a command it is the system's, for a
//! container what its pod says.

mod base_urls;
mod cover;
mod java;
mod proxy;
mod trust;

use std::{net::SocketAddr, path::Path};

pub use self::{
    base_urls::{Pointer, base_urls, is_base_url, point},
    cover::{Uncovered, cover},
    proxy::{Through, keeping_out, not_for, proxy},
    trust::{Unnamed, files, trust},
};

/// A variable's name, and its value.
pub type Variable = (&'static str, String);

/// What is set already: the value of a variable.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variables of [`proxy()`] and those of [`trust()`]: all that interception needs.
///
/// # Errors
/// The path of `dir` cannot be written into a variable.
pub fn intercepted(
    at: SocketAddr,
    through: Through,
    dir: &Path,
    environment: Environment<'_>,
) -> Result<Vec<Variable>, Unnamed> {
    let mut all = proxy(at, through, environment);
    let told = |name: &str| {
        let found = all.iter().find(|(of, _)| *of == name);
        found.map(|(_, value)| value.clone())
    };
    // Both have a part in Java's options.
    let trust = trust(dir, &|name| told(name).or_else(|| environment(name)))?;
    all.retain(|(name, _)| trust.iter().all(|(other, _)| other != name));
    all.extend(trust);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn javas_options_hold_the_proxy_and_the_store() {
        let at = "127.0.0.1:4321".parse().unwrap();
        let own = |name: &str| (name == "JAVA_TOOL_OPTIONS").then(|| "-Xmx1g".to_owned());
        let all = intercepted(at, Through::Tls, Path::new("/ca"), &own).unwrap();
        let java: Vec<_> = all
            .iter()
            .filter(|(name, _)| *name == java::OPTIONS)
            .collect();
        let [(_, java)] = java.as_slice() else {
            panic!("{java:?}");
        };
        for part in [
            "-Xmx1g ",
            "-Dhttps.proxyHost=127.0.0.1 ",
            "-Djavax.net.ssl.trustStore=/ca/trust.jks ",
        ] {
            assert!(java.contains(part), "{java}");
        }
    }
}

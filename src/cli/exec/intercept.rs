//! `--intercept`: the command's own connections to providers are opened, with an authority that it
//! trusts.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::super::{Failure, ca, scratch};
use crate::{
    base::clock::{Clock as _, SystemClock},
    client::{self, Environment, Through, Variable},
    config::Config,
    net::{
        authority::{Authority, Terms, Trouble},
        reach::Allowed,
        tls,
    },
    provider::{Provider, Providers},
};

/// Networks of one's own, which the command reaches without Tollgate as well: it is on this machine.
const NEIGHBOURS: [&str; 3] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];

/// What a run with an authority has.
pub(super) struct Interception {
    /// What its clients need, and the authority until it is in use.
    place: Place,
    /// Whether the authority was made for this run alone.
    is_own: bool,
    through: Through,
    /// What is not on the way, in words.
    past: Vec<String>,
}

/// A directory that goes with the run.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "A temporary directory stays");
        }
    }
}

impl Interception {
    /// Has `config` take the command's connections. The authority is the configured one, where there
    /// is one, else one that is made for this run.
    ///
    /// # Errors
    /// The authority cannot be made or used, or the configuration has no such providers.
    pub(super) fn prepare(
        config: &mut Config,
        environment: Environment<'_>,
    ) -> Result<Self, Failure> {
        let uncovered =
            client::cover(&mut config.providers, environment).map_err(Failure::Wrong)?;
        let mut past: Vec<_> = uncovered
            .iter()
            .map(|one| {
                let (name, place) = (one.name, &one.place);
                format!(
                    "{name} names {place}, to which no proxy leads: leave --intercept out, or the \
                     variable"
                )
            })
            .collect();
        let providers = Providers::build(&config.providers)
            .map_err(|errors| Failure::wrong(joined(&errors)))?;
        past.extend(kept_out(&providers, environment));
        let through = through(config, &providers);
        let place = Place(scratch::directory("intercept")?);
        let is_own = !Authority::is_in(&config.intercept.ca_dir);
        let roots = roots(environment);
        if is_own {
            let terms = Terms {
                scope: ca::scope(&providers)?,
                ..Terms::default()
            };
            let made = Authority::create(&place.0, &terms, &roots, SystemClock.wall());
            made.map_err(Failure::failed)?;
            config.intercept.ca_dir.clone_from(&place.0);
        } else {
            let dir = &config.intercept.ca_dir;
            let failed = |error: &dyn std::fmt::Display| {
                Failure::failed(format!("intercept.ca_dir: {error}"))
            };
            let authority = Authority::open(dir).map_err(|error| failed(&error))?;
            if let Some(over @ (Trouble::Ended(_) | Trouble::NotYet(_))) =
                authority.trouble(SystemClock.wall())
            {
                return Err(failed(&format!("{}: {over}", dir.display())));
            }
            let written = authority.write_trust(&place.0, &roots);
            written.map_err(Failure::failed)?;
        }
        config.intercept.enabled = true;
        let neighbours = NEIGHBOURS.iter().filter_map(|range| range.parse().ok());
        config
            .intercept
            .allow_private
            .extend(neighbours.collect::<Vec<Allowed>>());
        Ok(Self {
            place,
            is_own,
            through,
            past,
        })
    }

    /// The sidecar has its authority: the key that was made for it is nowhere else from now on.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(super) fn begun(&self) -> Result<(), Failure> {
        if self.is_own {
            Authority::forget(&self.place.0).map_err(Failure::failed)?;
        }
        Ok(())
    }

    /// What the command is told, with the sidecar at `address`.
    ///
    /// # Errors
    /// The path of the temporary directory cannot be written into a variable.
    pub(super) fn variables(
        &self,
        address: SocketAddr,
        environment: Environment<'_>,
    ) -> Result<Vec<Variable>, Failure> {
        client::intercepted(address, self.through, &self.place.0, environment)
            .map_err(Failure::failed)
    }

    /// What is not on the way, in words.
    pub(super) fn past(&self) -> &[String] {
        &self.past
    }
}

fn joined<E: ToString>(errors: &[E]) -> String {
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// What clients trust besides: the system's roots, and the files that variables name.
fn roots(environment: Environment<'_>) -> Vec<CertificateDer<'static>> {
    let read = |path: &PathBuf| {
        let all = CertificateDer::pem_file_iter(path);
        // What cannot be read helps no client either.
        all.into_iter().flatten().filter_map(Result::ok)
    };
    let named = client::files(environment);
    let mut all = tls::system_roots();
    all.extend(named.iter().filter(|path| !is_large(path)).flat_map(read));
    all
}

/// Whether a file is no bundle of certificates, by its size.
fn is_large(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file() || found.len() > 16 << 20)
}

/// Plain calls go through the proxy only where a configured provider takes such, and not on this
/// machine, of which no client asks a proxy.
fn through(config: &Config, providers: &Providers) -> Through {
    let is_plain = |name: &String| {
        let provider = providers.named(name);
        let base = provider.and_then(|provider| provider.base.as_ref());
        base.is_some_and(|base| !base.tls && !is_here(&base.host))
    };
    if config.providers.providers.keys().any(is_plain) {
        Through::All
    } else {
        Through::Tls
    }
}

/// Whether a host is this machine, as far as its name tells.
fn is_here(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Exceptions that keep providers out, and which.
fn kept_out(providers: &Providers, environment: Environment<'_>) -> Option<String> {
    let mut exceptions: Vec<String> = Vec::new();
    let hosts = providers.iter().flat_map(|provider| hosts(provider));
    for host in hosts.filter(|host| !is_here(host)) {
        for exception in client::keeping_out(host, environment) {
            if !exceptions.contains(&exception) {
                exceptions.push(exception);
            }
        }
    }
    (!exceptions.is_empty()).then(|| {
        let all = exceptions.join(", ");
        format!("NO_PROXY keeps providers out, by {all}")
    })
}

fn hosts(provider: &Provider) -> impl Iterator<Item = &str> {
    provider.hosts.iter().map(|host| &**host)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::base::clock::Timestamp;

    fn config(yaml: &str) -> Config {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn the_key_is_gone_once_it_is_in_use_and_all_else_with_the_run() {
        let mut config = Config::default();
        config.intercept.ca_dir = PathBuf::from("/nowhere");
        let made = Interception::prepare(&mut config, &|_| None).unwrap();
        assert!(config.intercept.enabled && made.is_own);
        let dir = config.intercept.ca_dir.clone();
        let permissions = fs::metadata(&dir).unwrap().permissions().mode();
        assert_eq!(permissions & 0o777, 0o700);
        assert!(Authority::is_in(&dir));
        assert!(made.past().is_empty());
        made.begun().unwrap();
        let mut left: Vec<_> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["bundle.pem", "ca.pem", "trust.jks"]);
        drop(made);
        assert!(!dir.exists());
    }

    #[test]
    fn an_authority_that_is_there_is_used_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemClock.wall();
        Authority::create(dir.path(), &Terms::default(), &[], now).unwrap();
        let mut config = Config::default();
        config.intercept.ca_dir = dir.path().to_owned();
        let made = Interception::prepare(&mut config, &|_| None).unwrap();
        assert_eq!(config.intercept.ca_dir, dir.path());
        made.begun().unwrap();
        drop(made);
        assert!(Authority::is_in(dir.path()));
    }

    #[test]
    fn an_authority_that_has_ended_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let past = Timestamp::from_secs(1_500_000_000);
        Authority::create(dir.path(), &Terms::default(), &[], past).unwrap();
        let mut config = Config::default();
        config.intercept.ca_dir = dir.path().to_owned();
        let ended = Interception::prepare(&mut config, &|_| None).err().unwrap();
        let Failure::Failed(said) = ended else {
            panic!("{ended:?}")
        };
        let begins = format!("intercept.ca_dir: {}: ", dir.path().display());
        assert!(
            said.starts_with(&begins) && said.contains("ended at"),
            "{said}"
        );
    }

    #[test]
    fn what_no_proxy_leads_to_is_said() {
        let environment = |name: &str| match name {
            "OPENAI_BASE_URL" => Some("http://localhost:8000/v1".to_owned()),
            "no_proxy" => Some("corp,.anthropic.com".to_owned()),
            _ => None,
        };
        let made = Interception::prepare(&mut Config::default(), &environment).unwrap();
        let said = made.past().join("\n");
        assert!(said.contains("OPENAI_BASE_URL names http://localhost:8000,"));
        assert!(said.contains("NO_PROXY keeps providers out, by .anthropic.com"));
        assert!(!said.contains("corp"), "{said}");
    }

    #[test]
    fn plain_calls_go_through_only_where_a_provider_takes_such() {
        for (yaml, expected) in [
            ("{}", Through::Tls),
            (
                "providers: {mine: {base_url: 'https://a.example'}}",
                Through::Tls,
            ),
            (
                "providers: {mine: {base_url: 'http://127.0.0.1:8'}}",
                Through::Tls,
            ),
            (
                "providers: {mine: {base_url: 'http://vllm:8'}}",
                Through::All,
            ),
        ] {
            let config = config(yaml);
            let providers = Providers::build(&config.providers).unwrap();
            assert_eq!(through(&config, &providers), expected, "{yaml}");
        }
    }
}

//! What a processor may need when it is made.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use prometheus::Registry;

use super::{Delivery, Outlet, Place, Processor, processor::ExecConfig};
use crate::{
    base::{clock::Clock, secret::Secret},
    call::workload::Workload,
    net::{
        config::{Egress, Upstream},
        grpc::Grpc,
        post::{Address, Courier, Tls},
        tls::TlsError,
    },
};

/// What variables of the environment say.
pub type Variables = &'static (dyn Fn(&str) -> Option<String> + Sync);

/// What a processor may need when it is made.
#[derive(Clone)]
pub struct BuildContext {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How the world is reached, where a destination does not say otherwise.
    pub upstream: Upstream,
    /// The ports that we listen on, which an egress proxy must not be.
    pub own_ports: Vec<u16>,
    /// The value of a variable of the environment.
    pub variable: Variables,
    /// The commands that may be started; none: any.
    pub commands: Option<Arc<[ExecConfig]>>,
    /// `tracing.service_name`.
    pub service_name: Box<str>,
    /// `tracing.environment`: of spans that do not say theirs.
    pub environment: Option<Box<str>>,
    /// Where we run.
    pub workload: Workload,
    /// `tracing.secrets_dir`.
    pub secrets_dir: PathBuf,
    /// What `/metrics` shows.
    pub registry: Registry,
    /// How destinations on this machine are delivered to.
    pub local: Delivery,
    /// How destinations elsewhere are delivered to.
    pub remote: Delivery,
}

/// A secret that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum NoSecret {
    /// Its name could lead out of the directory.
    #[error("`{0}` is no name of a secret: letters, digits, `.`, `_` and `-`")]
    Name(String),
    /// It is nowhere.
    #[error("there is no secret `{name}`: neither the file {file} nor the variable {variable}")]
    Missing {
        /// Its name.
        name: String,
        /// The file that was looked for.
        file: String,
        /// The variable that was looked for.
        variable: String,
    },
    /// Its file cannot be read.
    #[error("the secret {file} cannot be read: {source}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
}

impl BuildContext {
    /// With defaults, no variables, and no way through an egress proxy.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            upstream: Upstream {
                proxy: Egress::None,
                ..Upstream::default()
            },
            own_ports: Vec::new(),
            variable: &|_| None,
            commands: None,
            service_name: Box::default(),
            environment: None,
            workload: Workload::default(),
            secrets_dir: PathBuf::new(),
            registry: Registry::new(),
            local: Delivery::LOCAL,
            remote: Delivery::REMOTE,
        }
    }

    /// A processor on this machine, in the registry's words.
    pub fn local(&self, name: &str, processor: impl Processor) -> Outlet {
        Outlet {
            delivery: self.local,
            ..Outlet::local(name, processor)
        }
    }

    /// A processor elsewhere. Change its `delivery` and `filter` where its type has other defaults.
    pub fn remote(&self, name: &str, processor: impl Processor) -> Outlet {
        Outlet {
            delivery: self.remote,
            place: Place::Elsewhere,
            ..Outlet::local(name, processor)
        }
    }

    /// What takes letters to a destination that says `tls` and `proxy` so.
    ///
    /// # Errors
    /// A certificate or key cannot be used.
    pub fn courier(&self, tls: &Tls, proxy: Option<&Egress>) -> Result<Courier, TlsError> {
        let way = (&self.upstream, &*self.own_ports);
        Courier::new(way, tls, proxy, Arc::clone(&self.clock))
    }

    /// What makes gRPC calls to the server at `address`.
    ///
    /// # Errors
    /// A certificate or key cannot be used.
    pub fn grpc(
        &self,
        address: &Address,
        tls: &Tls,
        proxy: Option<&Egress>,
    ) -> Result<Grpc, TlsError> {
        let way = (&self.upstream, &*self.own_ports);
        Grpc::new(way, address, tls, proxy)
    }

    /// What destinations are told of where spans come from; `own` goes before what is known.
    pub(super) fn resource(&self, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let known = self.workload.attributes().into_iter();
        let known = known.map(|(name, value)| (name.to_owned(), value.into_string()));
        let own = own
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()));
        known.chain(own).collect()
    }

    /// The secret of that name (`api_key_secret: NAME`): the file below `secrets_dir`, without the
    /// white space around it, else the variable NAME in capitals, with `_` for `-` and `.`.
    ///
    /// # Errors
    /// It is neither here nor there.
    pub fn secret(&self, name: &str) -> Result<Secret, NoSecret> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
            return Err(NoSecret::Name(name.to_owned()));
        }
        let path = self.secrets_dir.join(name);
        let file = path.display().to_string();
        match std::fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => return Ok(Secret::new(text.trim())),
            Ok(_empty) => {},
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {},
            Err(source) => return Err(NoSecret::Unreadable { file, source }),
        }
        let variable = name.to_ascii_uppercase().replace(['-', '.'], "_");
        let value = (self.variable)(&variable).filter(|value| !value.trim().is_empty());
        value
            .map(|value| Secret::new(value.trim()))
            .ok_or_else(|| NoSecret::Missing {
                name: name.to_owned(),
                file,
                variable,
            })
    }
}

impl fmt::Debug for BuildContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildContext")
            .field("service_name", &self.service_name)
            .field("environment", &self.environment)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SystemClock;

    #[test]
    fn where_it_runs_is_of_the_resource_unless_that_is_written_otherwise() {
        let context = BuildContext {
            workload: Workload {
                pod: Some("p-1".into()),
                node: Some("n-1".into()),
                ..Workload::default()
            },
            ..BuildContext::new(Arc::new(SystemClock))
        };
        let own = BTreeMap::from([("k8s.pod.name", "mine"), ("team", "core")]);
        let own = own
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let resource = context.resource(&own.collect());
        let resource: Vec<_> = resource
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        assert_eq!(
            resource,
            [
                ("k8s.node.name", "n-1"),
                ("k8s.pod.name", "mine"),
                ("team", "core")
            ]
        );
    }

    #[test]
    fn a_secret_is_a_file_else_a_variable() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("openai-api-key"), "from-file\n").unwrap();
        std::fs::write(place.path().join("empty.key"), "\n").unwrap();
        let context = BuildContext {
            secrets_dir: place.path().to_owned(),
            variable: &|name| (name != "NOWHERE").then(|| format!("from {name}")),
            ..BuildContext::new(Arc::new(SystemClock))
        };
        let secret = |name| context.secret(name);
        assert_eq!(secret("openai-api-key").unwrap().expose(), "from-file");
        assert_eq!(secret("other-key").unwrap().expose(), "from OTHER_KEY");
        assert_eq!(secret("empty.key").unwrap().expose(), "from EMPTY_KEY");
        let missing = secret("nowhere").unwrap_err().to_string();
        assert!(missing.contains("variable NOWHERE"), "{missing}");
        for name in ["", "../shadow", "a/b", ".hidden", "a b"] {
            assert!(matches!(secret(name), Err(NoSecret::Name(_))), "{name}");
        }
    }
}

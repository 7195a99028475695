//! Clients that know nothing but a proxy: what is a provider's is opened, metered and limited, all
//! else passes unread as far as it may be reached.

mod attacks;
mod authorities;
mod greetings;
mod loops;
mod opened;
mod others;
mod smuggling;
mod trust;
mod tunnels;

use std::net::SocketAddr;

use rustls::pki_types::CertificateDer;
use tempfile::TempDir;
use tollgate::{
    base::clock::{Clock as _, SystemClock, Timestamp},
    net::authority::{Authority, Terms},
};

use super::{chat, chat_stream, priced};
use crate::support::{
    Sandbox,
    entry::{Entry, Says},
};

/// A host that is a provider's wherever the configuration has it: in sandboxes at the mock.
const OPENAI: &str = "api.openai.com";
const CHAT: &str = "/v1/chat/completions";

fn now() -> Timestamp {
    SystemClock.wall()
}

/// A certificate authority in a directory of its own.
struct Ca {
    directory: TempDir,
    authority: Authority,
}

impl Ca {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let terms = Terms::default();
        let authority = Authority::create(directory.path(), &terms, &[], now()).unwrap();
        Self {
            directory,
            authority,
        }
    }

    fn path(&self, file: &str) -> String {
        self.directory.path().join(file).display().to_string()
    }

    /// What clients trust.
    fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.authority.roots().to_vec()
    }
}

/// A Tollgate that takes any traffic, and what its clients trust.
struct Opening {
    sandbox: Sandbox,
    ca: Ca,
}

impl Opening {
    /// With further keys of the section, and the rest of the configuration.
    fn new(intercept: &str, yaml: &str) -> Self {
        let ca = Ca::new();
        let sandbox = Sandbox::new(&configured(&ca, intercept, yaml));
        Self { sandbox, ca }
    }

    fn addr(&self) -> SocketAddr {
        self.sandbox.addr()
    }

    /// What a client says in TLS that trusts our authority.
    fn says(&self, name: &str, alpn: &[&'static str]) -> Says {
        Says {
            name: name.to_owned(),
            roots: self.ca.roots(),
            alpn: alpn.to_vec(),
        }
    }

    /// A way to `host`, at its usual port, by TLS.
    async fn entry(&self, host: &str, alpn: &[&'static str]) -> Entry {
        let says = self.says(host, alpn);
        Entry::new(self.addr(), &format!("{host}:443"), "", Some(says)).await
    }

    /// The value of a metric that counts, of all whose name and labels begin so.
    fn count(&self, begins: &str) -> u64 {
        let value = self.sandbox.metric(begins).abs();
        format!("{value:.0}").parse().unwrap()
    }

    /// How many connections passed unmetered to this host for this reason.
    fn unmetered(&self, host: &str, reason: &str) -> u64 {
        let begins = "tollgate_unmetered_connections_total";
        self.count(&format!("{begins}{{host=\"{host}\",reason=\"{reason}\"}}"))
    }

    /// How many connections became that.
    fn became(&self, outcome: &str) -> u64 {
        let begins = "tollgate_intercepted_connections_total";
        self.count(&format!("{begins}{{outcome=\"{outcome}\"}}"))
    }
}

fn configured(ca: &Ca, intercept: &str, yaml: &str) -> String {
    let directory = ca.directory.path().display();
    priced(&format!(
        "intercept: {{enabled: true, ca_dir: '{directory}'{intercept}}}\n{yaml}"
    ))
}

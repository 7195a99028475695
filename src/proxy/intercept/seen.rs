//! What was seen of intercepted traffic, above all what passes without being metered: counted by
//! host, and told in the log, so that nobody believes a sum that calls are missing from.

use std::collections::HashSet;

use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

use super::{super::metrics::Names, Unmetered};
use crate::{base::clock::Timestamp, net::tunnel::Passed};

/// The host that hosts of no provider are counted as.
const OTHER: &str = "other";

/// The host that those of providers are counted as when so many have names that there is none left:
/// clients choose them, below a provider's `*.`, and must not make what is unmetered look harmless.
const OTHER_PROVIDERS: &str = "other provider";

/// The most pairs of host and reason that the log tells of.
const MOST_TOLD: usize = 1_024;

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was opened, and is served.
    Opened,
    /// It passes unread.
    Passed,
    /// It was refused.
    Denied,
    /// There was no place left for it.
    Full,
    /// No connection could be made to where it leads.
    Unreachable,
}

impl Outcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Passed => "passed",
            Self::Denied => "denied",
            Self::Full => "full",
            Self::Unreachable => "unreachable",
        }
    }
}

/// Counts, and what the log has told already.
#[derive(Debug)]
pub(super) struct Seen {
    connections: IntCounterVec,
    unmetered: IntCounterVec,
    bytes: IntCounterVec,
    tunnels: IntGauge,
    /// When the authority ends.
    ends: IntGauge,
    authorities: IntCounterVec,
    hosts: Names,
    told: Mutex<HashSet<(Box<str>, Unmetered)>>,
}

impl Seen {
    /// Registers everything.
    ///
    /// # Errors
    /// A name is registered already.
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels)
        };
        let seen = Self {
            connections: counter(
                "tollgate_intercepted_connections_total",
                "Connections that clients asked for to any host, by what became of them.",
                &["outcome"],
            )?,
            unmetered: counter(
                "tollgate_unmetered_connections_total",
                "Connections of which nothing is metered; hosts of no provider are `other`.",
                &["host", "reason"],
            )?,
            bytes: counter(
                "tollgate_tunnel_bytes_total",
                "Bytes that passed unread, in tunnels that have ended: `up` from clients, `down` to them.",
                &["direction"],
            )?,
            tunnels: IntGauge::new("tollgate_tunnels", "Connections that pass unread now.")?,
            ends: IntGauge::new(
                "tollgate_authority_end_time_seconds",
                "When the certificate authority ends, since the Unix epoch.",
            )?,
            authorities: counter(
                "tollgate_authority_files_total",
                "Authorities that were put in force or could not be, after their files had changed.",
                &["event"],
            )?,
            hosts: Names::default(),
            told: Mutex::default(),
        };
        registry.register(Box::new(seen.connections.clone()))?;
        registry.register(Box::new(seen.unmetered.clone()))?;
        registry.register(Box::new(seen.bytes.clone()))?;
        registry.register(Box::new(seen.tunnels.clone()))?;
        registry.register(Box::new(seen.ends.clone()))?;
        registry.register(Box::new(seen.authorities.clone()))?;
        Ok(seen)
    }

    /// Counts what became of a connection.
    pub(super) fn became(&self, outcome: Outcome) {
        self.connections.with_label_values(&[outcome.name()]).inc();
    }

    /// How many there was no place for.
    pub(super) fn turned_away(&self) -> u64 {
        let full = [Outcome::Full.name()];
        self.connections.with_label_values(&full).get()
    }

    /// Counts a connection that passes without being metered, and tells of the first to each
    /// provider's host.
    pub(super) fn unmetered(&self, host: &str, is_providers: bool, why: Unmetered) {
        if self.count(host, is_providers, why) {
            tracing::warn!(
                host,
                reason = why.name(),
                "Traffic to a provider is not metered: what Tollgate says it costs is too little"
            );
        }
    }

    /// Counts a connection that would have been metered and fails, and tells of it in the same way.
    pub(super) fn failed(&self, host: &str, is_providers: bool, why: Unmetered) {
        if self.count(host, is_providers, why) {
            tracing::warn!(
                host,
                reason = why.name(),
                help = why.help(),
                "A connection to a provider failed: {}",
                why.says()
            );
        }
    }

    /// Counts it; whether it is to be told of.
    fn count(&self, host: &str, is_providers: bool, why: Unmetered) -> bool {
        let counted = match is_providers.then(|| self.hosts.bounded(host)) {
            None => OTHER,
            Some(OTHER) => OTHER_PROVIDERS,
            Some(host) => host,
        };
        let labels = [counted, why.name()];
        self.unmetered.with_label_values(&labels).inc();
        is_providers && self.is_news(host, why)
    }

    fn is_news(&self, host: &str, why: Unmetered) -> bool {
        let mut told = self.told.lock();
        told.len() < MOST_TOLD && told.insert((Box::from(host), why))
    }

    /// When the authority that is in force ends.
    pub(super) fn authority_ends(&self, at: Timestamp) {
        self.ends
            .set(i64::try_from(at.as_secs()).unwrap_or(i64::MAX));
    }

    /// Counts what became of an authority's new files.
    pub(super) fn authority(&self, event: &str) {
        self.authorities.with_label_values(&[event]).inc();
    }

    /// One more passes unread, until what is returned is dropped.
    pub(super) fn tunnel(&self) -> Counted {
        self.tunnels.inc();
        Counted(self.tunnels.clone())
    }

    /// Counts what has passed.
    pub(super) fn passed(&self, passed: Passed) {
        self.bytes.with_label_values(&["up"]).inc_by(passed.up);
        self.bytes.with_label_values(&["down"]).inc_by(passed.down);
    }
}

/// A connection that passes unread.
#[derive(Debug)]
pub(super) struct Counted(IntGauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_host_is_never_counted_as_anybody_elses() {
        let seen = Seen::new(&Registry::new()).unwrap();
        for number in 0..1_000 {
            let host = format!("r{number}.openai.azure.com");
            seen.failed(&host, true, Unmetered::Handshake);
        }
        seen.unmetered("api.openai.com", true, Unmetered::Pinned);
        seen.unmetered("www.example.com", false, Unmetered::Other);
        let count = |host, why: Unmetered| {
            let labels = [host, why.name()];
            seen.unmetered.with_label_values(&labels).get()
        };
        assert_eq!(count(OTHER_PROVIDERS, Unmetered::Pinned), 1);
        assert_eq!(count(OTHER_PROVIDERS, Unmetered::Handshake), 800);
        assert_eq!(count(OTHER, Unmetered::Handshake), 0);
        assert_eq!(count(OTHER, Unmetered::Other), 1);
    }
}

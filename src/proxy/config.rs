//! The sections `limits`, `identity` and `shutdown`: bounds, who calls are for, and the way out.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::{
    base::units::{self, ByteSize},
    call::labels::{Label, Source},
};

/// The bounds of what is held at once. Beyond them calls wait or are refused, and are counted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections from clients; further ones wait to be accepted.
    pub connections: usize,
    /// Calls at once whose requests are there; further ones are answered 503.
    pub in_flight: usize,
    /// How long a client may keep us waiting for the body of its request; then it is answered 408.
    /// Each 500 bytes that come give back a second.
    #[serde(with = "units::duration")]
    pub body_wait: Duration,
    /// A request's head; more is answered 431.
    pub header_bytes: ByteSize,
    /// Header fields of a request; more is answered 431.
    pub headers: usize,
    /// The longest request body that is read whole before it is sent on.
    pub peek: ByteSize,
    /// All request bodies being read whole, together.
    pub peek_total: ByteSize,
    /// Live counters of budgets and rate limits; beyond, new label values share one.
    pub counters: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            in_flight: 4_096,
            body_wait: Duration::from_mins(1),
            header_bytes: ByteSize::kib(64),
            headers: 256,
            peek: ByteSize::mib(4),
            peek_total: ByteSize::mib(64),
            counters: 1_000_000,
        }
    }
}

/// Who calls are for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Identity {
    /// The sources of labels that count for limits. Empty: all, on their word.
    pub trusted: Vec<Source>,
    /// A file with the keys that clients must show.
    pub keys_file: Option<PathBuf>,
    /// Labels of every call that does not say otherwise.
    pub labels: BTreeMap<Label, String>,
}

/// How Tollgate leaves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// How long it goes on accepting after it said that it is not ready.
    #[serde(with = "units::duration")]
    pub delay: Duration,
    /// How long calls in flight may take to finish before they are cut.
    #[serde(with = "units::duration")]
    pub deadline: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            deadline: Duration::from_secs(30),
        }
    }
}

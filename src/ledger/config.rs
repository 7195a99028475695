//! The section `ledger`, as it is written.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::base::{secret::Secret, units};

/// How what was reserved and spent is kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The directory of the journal and the books.
    pub path: PathBuf,
    /// Where budgets are shared with other sidecars (`redis://…`); not in this build.
    pub url: Option<Secret>,
    /// What the directory lasts as long as.
    pub scope: Scope,
    /// What admissions survive.
    pub durability: Durability,
    /// What becomes of calls under a budget while the journal cannot be written.
    pub on_ledger_down: OnLedgerDown,
    /// How long a shared ledger may take to answer.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    /// How long entries are kept.
    #[serde(with = "units::duration")]
    pub retention: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: PathBuf::from("./tollgate-data/journal"),
            url: None,
            scope: Scope::Volume,
            durability: Durability::Process,
            on_ledger_down: OnLedgerDown::Block,
            timeout: Duration::from_millis(100),
            retention: Duration::from_hours(400 * 24),
        }
    }
}

/// What the ledger's directory lasts as long as: whoever mounts it knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The volume, which outlives this process and whatever it runs in.
    #[default]
    Volume,
    /// The Kubernetes pod (an `emptyDir`): the next pod's budgets begin anew.
    Pod,
}

/// What admissions survive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The end of the process, however it comes. After a power cut the last 100 ms can be missing.
    #[default]
    Process,
    /// A power cut too: each call waits for a sync, which all that wait share.
    Machine,
}

/// What becomes of calls under a budget while the journal cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLedgerDown {
    /// They are refused.
    #[default]
    Block,
    /// They pass; what they cost is counted until the process ends.
    Allow,
}

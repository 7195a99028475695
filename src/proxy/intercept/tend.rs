//! What is held, and what becomes of the authority while we run: its files are read again when they
//! have changed, and its end is told before it comes.

use std::sync::Arc;

use super::{super::Proxy, Intercept, refusers::Refusers};
use crate::{
    base::clock::Timestamp,
    net::authority::{Authority, Stamp, Trouble},
};

/// What was seen of the authority's files, and told of its end.
#[derive(Debug, Default)]
pub(super) struct Tended {
    /// As they were read last; `None`: not since the start.
    stamp: Option<Stamp>,
    told: Option<Trouble>,
}

/// What is held for interception, the most that may be, and how often there was no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// As metrics name it.
    pub what: &'static str,
    /// So many now.
    pub now: usize,
    /// So many at most.
    pub most: usize,
    /// So many times it was more.
    pub over: u64,
}

impl Proxy {
    /// What interception is done with, if it is.
    pub const fn intercept(&self) -> Option<&Arc<Intercept>> {
        self.intercept.as_ref()
    }
}

impl Intercept {
    /// What it does, and with what, in words.
    pub fn means(&self) -> String {
        self.config.means(Some(self.leaves.authority().about()))
    }

    /// Looks after the authority: to be called now and then.
    pub fn tend(&self, now: Timestamp) {
        let mut tended = self.tended.lock();
        let stamp = Stamp::of(&self.config.ca_dir);
        // Files that are gone change nothing: whoever took the key away wants no other.
        if stamp.is_some() && stamp != tended.stamp {
            tended.stamp = stamp;
            self.read_again();
        }
        let authority = self.leaves.authority();
        self.seen.authority_ends(authority.about().ends);
        let trouble = authority.trouble(now);
        let before = std::mem::replace(&mut tended.told, trouble);
        drop(tended);
        if let Some(trouble) = trouble.filter(|_| trouble != before) {
            tracing::warn!("{trouble}");
        }
    }

    fn read_again(&self) {
        match Authority::open(&self.config.ca_dir) {
            Ok(authority) if authority.is_same(&self.leaves.authority()) => {},
            Ok(authority) => {
                self.leaves.replace(authority);
                // Whoever refused the one before may trust this one.
                self.refusers.forget();
                self.seen.authority("used");
                tracing::info!("The certificate authority was replaced: clients are to trust it");
            },
            Err(error) => {
                self.seen.authority("refused");
                tracing::error!(%error, "The certificate authority has changed and cannot be used; the old one stays");
            },
        }
    }

    /// What is held.
    pub fn held(&self) -> [Held; 4] {
        let (leaves, refusers) = (self.leaves.counts(), self.refusers.counts());
        let lookups = self.connector.lookups();
        let free = self.places.available_permits();
        [
            Held {
                what: "certificates",
                now: leaves.kept,
                most: self.config.leaves,
                over: leaves.evicted,
            },
            Held {
                what: "tunnels",
                now: self.config.tunnels.saturating_sub(free),
                most: self.config.tunnels,
                over: self.seen.turned_away(),
            },
            Held {
                what: "certificate_refusers",
                now: refusers.0,
                most: Refusers::MOST,
                over: refusers.1,
            },
            Held {
                what: "lookups",
                now: lookups.now,
                most: lookups.most,
                over: lookups.turned_away,
            },
        ]
    }

    /// How many certificates were made, and could not be.
    pub fn certificates(&self) -> [(&'static str, u64); 2] {
        let counts = self.leaves.counts();
        [("made", counts.minted), ("refused", counts.refused)]
    }
}

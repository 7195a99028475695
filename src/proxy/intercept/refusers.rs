//! Clients that refused our certificate: which, for which host, and when; and those that took it.

use std::{net::IpAddr, time::Duration};

use parking_lot::Mutex;

use crate::base::{clock::Instant, recent::Recent};

/// How long: then the client may have learned to trust us.
const FOR: Duration = Duration::from_hours(1);

/// Who has refused.
#[derive(Debug, Default)]
pub(super) struct Refusers(Mutex<Remembered>);

/// Since when each has refused, and how many had to be forgotten.
#[derive(Debug)]
struct Remembered {
    since: Recent<Refuser, Instant>,
    forgotten: u64,
    /// Who has made a call.
    accepting: Recent<Refuser>,
}

/// A client, and the host.
type Refuser = (IpAddr, Box<str>);

impl Default for Remembered {
    fn default() -> Self {
        Self {
            since: Recent::new(Refusers::MOST),
            forgotten: 0,
            accepting: Recent::new(Refusers::MOST),
        }
    }
}

impl Refusers {
    /// How many are remembered; the one that came first gives way.
    pub(super) const MOST: usize = 4_096;

    /// A client refuses the certificate for this host.
    pub(super) fn note(&self, peer: IpAddr, host: &str, now: Instant) {
        let mut all = self.0.lock();
        let is_full = all.since.len() >= Self::MOST;
        if all.since.insert((peer, Box::from(host)), now) && is_full {
            all.forgotten += 1;
        }
    }

    /// A client has taken the certificate for this host, and made a call.
    pub(super) fn accepts(&self, peer: IpAddr, host: &str) {
        self.0.lock().accepting.insert((peer, Box::from(host)), ());
    }

    /// Whether it has lately, as far as that is remembered.
    pub(super) fn trusts(&self, peer: IpAddr, host: &str) -> bool {
        self.0.lock().accepting.contains(&(peer, Box::from(host)))
    }

    /// Forgets all of them.
    pub(super) fn forget(&self) {
        let forgotten = self.counts().1;
        *self.0.lock() = Remembered {
            forgotten,
            ..Remembered::default()
        };
    }

    /// How many are remembered, and how many had to be forgotten.
    pub(super) fn counts(&self) -> (usize, u64) {
        let all = self.0.lock();
        (all.since.len(), all.forgotten)
    }

    /// Whether it did so lately.
    pub(super) fn has(&self, peer: IpAddr, host: &str, now: Instant) -> bool {
        let at = self.0.lock().since.get(&(peer, Box::from(host))).copied();
        at.is_some_and(|at| now.saturating_duration_since(at) < FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{Clock as _, SystemClock};

    #[test]
    fn a_client_is_remembered_for_an_hour_and_for_its_host_alone() {
        let (refusers, now) = (Refusers::default(), SystemClock.mono());
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|peer| peer.parse().unwrap());
        refusers.note(one, "a", now);
        assert!(refusers.has(one, "a", now + FOR - Duration::from_secs(1)));
        assert!(!refusers.has(one, "a", now + FOR));
        assert!(!refusers.has(one, "b", now) && !refusers.has(other, "a", now));
        refusers.note(one, "a", now + FOR);
        assert!(refusers.has(one, "a", now + FOR));
        // However many come, so many are kept.
        (0..Refusers::MOST).for_each(|host| refusers.note(other, &host.to_string(), now));
        assert!(!refusers.has(one, "a", now + FOR));
        assert_eq!(refusers.counts(), (Refusers::MOST, 1));
        refusers.forget();
        assert!(!refusers.has(other, "1", now));
    }
}

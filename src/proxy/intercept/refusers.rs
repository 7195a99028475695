//! Clients that refused our certificate: which, for which host, and when.

use std::{net::IpAddr, time::Duration};

use parking_lot::Mutex;

use crate::base::{clock::Instant, recent::Recent};

/// How many are remembered; the one that came first gives way.
const MOST: usize = 4_096;

/// How long: then the client may have learned to trust us.
const FOR: Duration = Duration::from_hours(1);

/// Who has refused.
#[derive(Debug)]
pub(super) struct Refusers(Mutex<Recent<Refuser, Instant>>);

/// A client, and the host.
type Refuser = (IpAddr, Box<str>);

impl Default for Refusers {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(MOST)))
    }
}

impl Refusers {
    /// A client refuses the certificate for this host.
    pub(super) fn note(&self, peer: IpAddr, host: &str, now: Instant) {
        self.0.lock().insert((peer, Box::from(host)), now);
    }

    /// Whether it did so lately.
    pub(super) fn has(&self, peer: IpAddr, host: &str, now: Instant) -> bool {
        let at = self.0.lock().get(&(peer, Box::from(host))).copied();
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
        (0..MOST).for_each(|host| refusers.note(other, &host.to_string(), now));
        assert!(!refusers.has(one, "a", now + FOR));
    }
}

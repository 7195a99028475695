//! The certificates that were made last, so that a host's is not made for each of its connections.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hashbrown::HashMap;
use parking_lot::Mutex;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{Authority, Leaf, LeafError};
use crate::base::clock::{Clock, Timestamp};

/// How long before its end a certificate is made anew.
const MARGIN: Duration = Duration::from_hours(2);

/// How long it is remembered that there is no certificate for a host.
const NONE_FOR: Duration = Duration::from_mins(1);

/// An authority with the certificates that it made last, as many as it may keep.
pub struct Leaves {
    most: usize,
    clock: Arc<dyn Clock>,
    kept: Mutex<Kept>,
    minted: AtomicU64,
    evicted: AtomicU64,
    refused: AtomicU64,
}

/// An authority, its certificates by host, and a count that goes up with each use.
struct Kept {
    authority: Arc<Authority>,
    by_host: HashMap<Box<str>, Entry, foldhash::fast::RandomState>,
    uses: u64,
}

/// A certificate, or why there is none.
struct Entry {
    made: Result<Arc<CertifiedKey>, LeafError>,
    begins: Timestamp,
    /// From then on it is made anew.
    ends: Timestamp,
    used: u64,
}

/// What became of certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// They are kept, or that there can be none is.
    pub kept: usize,
    /// They were made.
    pub minted: u64,
    /// They were dropped to make room for others.
    pub evicted: u64,
    /// They could not be made.
    pub refused: u64,
}

impl Leaves {
    /// Keeps at most so many certificates, but one at least.
    pub fn new(authority: Authority, most: usize, clock: Arc<dyn Clock>) -> Self {
        let kept = Kept {
            authority: Arc::new(authority),
            by_host: HashMap::default(),
            uses: 0,
        };
        Self {
            most: most.max(1),
            clock,
            kept: Mutex::new(kept),
            minted: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// The authority.
    pub fn authority(&self) -> Arc<Authority> {
        Arc::clone(&self.kept.lock().authority)
    }

    /// Takes another authority from now on, and forgets what the one before it has made.
    pub fn replace(&self, authority: Authority) {
        let mut kept = self.kept.lock();
        kept.authority = Arc::new(authority);
        kept.by_host.clear();
    }

    /// What became of certificates so far.
    pub fn counts(&self) -> Counts {
        Counts {
            kept: self.kept.lock().by_host.len(),
            minted: self.minted.load(Relaxed),
            evicted: self.evicted.load(Relaxed),
            refused: self.refused.load(Relaxed),
        }
    }

    /// The certificate for a host, by name or address.
    ///
    /// # Errors
    /// There can be none: see [`Authority::leaf`].
    pub fn get(&self, host: &str) -> Result<Arc<CertifiedKey>, LeafError> {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let now = self.clock.wall();
        let authority = {
            let mut kept = self.kept.lock();
            if let Some(found) = kept.find(&host, now) {
                return found;
            }
            Arc::clone(&kept.authority)
        };
        // Not under the lock: others need not wait. Whoever asks for the same host meanwhile makes
        // one too, and the last one stays.
        let made = authority.leaf(&host, now);
        let counter = if made.is_ok() {
            &self.minted
        } else {
            &self.refused
        };
        counter.fetch_add(1, Relaxed);
        let entry = Entry::new(made, now);
        let made = entry.made.clone();
        let mut kept = self.kept.lock();
        // What was made by an authority that is no more is for this one connection.
        let evicted = Arc::ptr_eq(&kept.authority, &authority)
            && kept.keep(host.into_boxed_str(), entry, self.most);
        drop(kept);
        self.evicted.fetch_add(u64::from(evicted), Relaxed);
        made
    }

    /// The same, if there can be one.
    pub fn of(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        self.get(host).ok()
    }
}

impl Entry {
    fn new(made: Result<Leaf, LeafError>, now: Timestamp) -> Self {
        let (made, begins, ends) = match made {
            Ok(Leaf { key, begins, ends }) => (Ok(key), begins, anew(now, ends)),
            Err(error) => (Err(error), now, now + NONE_FOR),
        };
        Self {
            made,
            begins,
            ends,
            used: 0,
        }
    }
}

/// When a certificate that ends then is made anew: earlier, but never at once, or an authority that
/// is about to end would make one for each connection.
fn anew(now: Timestamp, ends: Timestamp) -> Timestamp {
    (ends - MARGIN).max(now + ends.since(now) / 2)
}

impl Kept {
    fn find(&mut self, host: &str, now: Timestamp) -> Option<Result<Arc<CertifiedKey>, LeafError>> {
        let entry = self.by_host.get_mut(host)?;
        // Before it begins: the clock was set back.
        if now < entry.begins || now >= entry.ends {
            return None;
        }
        self.uses += 1;
        entry.used = self.uses;
        Some(entry.made.clone())
    }

    /// Keeps an entry; says whether another had to go.
    fn keep(&mut self, host: Box<str>, mut entry: Entry, most: usize) -> bool {
        self.uses += 1;
        entry.used = self.uses;
        let is_new = !self.by_host.contains_key(&host);
        // A look at all of them costs less than the certificate that was made just now.
        let oldest = (is_new && self.by_host.len() >= most)
            .then(|| self.by_host.iter().min_by_key(|(_, entry)| entry.used))
            .flatten()
            .map(|(host, _)| host.clone());
        if let Some(oldest) = &oldest {
            self.by_host.remove(oldest);
        }
        self.by_host.insert(host, entry);
        oldest.is_some()
    }
}

/// By the name that a client asks for; none for a client that names none.
impl ResolvesServerCert for Leaves {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.of(hello.server_name()?)
    }
}

impl fmt::Debug for Leaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Leaves");
        shown.field("authority", &self.authority());
        shown
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

//! The keys that requests are signed with: read, kept, renewed off the calls' way.

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

use super::{Keys, WebIdentity, profile};
use crate::{base::clock::Timestamp, net::upstream::Upstream};

/// Where keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// They are these (the environment's).
    Given(Keys),
    /// A profile in AWS's own files; read again every minute or so.
    Profile {
        /// Its name.
        name: String,
        /// `~/.aws/credentials`
        credentials: PathBuf,
        /// `~/.aws/config`
        config: PathBuf,
    },
    /// A web identity; renewed before they expire.
    WebIdentity(WebIdentity),
}

/// The keys of one provider. What calls take never waits for new ones.
#[derive(Debug)]
pub struct Keyring {
    source: Source,
    current: ArcSwapOption<Current>,
    /// Held while new ones are fetched.
    renewing: Mutex<()>,
}

#[derive(Debug)]
struct Current {
    keys: Keys,
    expires: Option<Timestamp>,
}

impl Keyring {
    /// Keys are renewed when they hold no longer than this.
    const AHEAD: Duration = Duration::from_mins(10);

    /// With the keys that can be had without asking anyone.
    ///
    /// # Errors
    /// There are none, in words.
    pub fn open(source: Source) -> Result<Self, String> {
        let keyring = Self {
            source,
            current: ArcSwapOption::empty(),
            renewing: Mutex::new(()),
        };
        if let Some(keys) = keyring.read()? {
            keyring.put(keys, None);
        }
        Ok(keyring)
    }

    /// Where they come from.
    pub const fn source(&self) -> &Source {
        &self.source
    }

    /// Keys that hold at `now`.
    pub fn keys(&self, now: Timestamp) -> Option<Keys> {
        let current = self.current.load();
        let current = current.as_ref()?;
        let holds = current.expires.is_none_or(|expires| now < expires);
        holds.then(|| current.keys.clone())
    }

    /// Renews them if it is time. To be called every minute or so, and never by a call.
    ///
    /// # Errors
    /// There are no new ones, in words; the old ones stay for as long as they hold.
    pub async fn renew(&self, now: Timestamp, upstream: &Arc<Upstream>) -> Result<(), String> {
        let _held = self.renewing.lock().await;
        if let Source::WebIdentity(identity) = &self.source {
            if self.keys(now + Self::AHEAD).is_none() {
                let (keys, expires) = identity.ask(upstream).await?;
                self.put(keys, Some(expires));
            }
        } else if let Some(keys) = self.read()? {
            self.put(keys, None);
        }
        Ok(())
    }

    fn read(&self) -> Result<Option<Keys>, String> {
        match &self.source {
            Source::Given(keys) => Ok(Some(keys.clone())),
            Source::Profile {
                name,
                credentials,
                config,
            } => profile::read(name, credentials, config).map(Some),
            Source::WebIdentity(_) => Ok(None),
        }
    }

    fn put(&self, keys: Keys, expires: Option<Timestamp>) {
        self.current
            .store(Some(Arc::new(Current { keys, expires })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;

    #[test]
    fn keys_that_have_expired_are_not_handed_out() {
        let keys = Keys {
            id: "A".to_owned(),
            secret: Secret::new("s"),
            token: None,
        };
        let keyring = Keyring::open(Source::Given(keys.clone())).unwrap();
        let now = Timestamp::from_secs(100);
        assert_eq!(keyring.keys(now), Some(keys.clone()));
        keyring.put(keys.clone(), Some(Timestamp::from_secs(101)));
        assert_eq!(keyring.keys(now), Some(keys));
        assert_eq!(keyring.keys(Timestamp::from_secs(101)), None);
    }
}

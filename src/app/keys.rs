//! The client keys in force: read again soon after their file was changed.

use std::{sync::Arc, time::Duration};

use super::{App, build::Impossible};
use crate::{
    config::Config,
    identity::{KeysFile, Refreshed},
    proxy::Live,
};

/// How often to look at the file: a revoked key must be of no use within a second.
const LOOK: Duration = Duration::from_millis(250);

/// The file with the keys, if there is one. `before`: the snapshot whose file goes on if it is the
/// same one.
///
/// # Errors
/// It cannot be read as it is.
pub(super) fn open(
    config: &Config,
    before: Option<&Live>,
) -> Result<Option<Arc<KeysFile>>, Impossible> {
    let Some(path) = &config.identity.keys_file else {
        return Ok(None);
    };
    if let Some(same) = before
        .and_then(Live::keys_file)
        .filter(|file| file.path() == path)
    {
        return Ok(Some(Arc::clone(same)));
    }
    let file = KeysFile::open(path);
    let file = file.map_err(|error| Impossible::new(format!("identity.keys_file: {error}")))?;
    Ok(Some(Arc::new(file)))
}

impl App {
    /// Puts the keys of an edited file in force for calls that begin from now on; the old ones stay
    /// if they cannot be used. [`App::keep_house`] has it looked at four times a second.
    pub fn refresh_keys(&self) {
        let live = self.proxy.live();
        let Some(file) = live.keys_file() else {
            return;
        };
        let path = file.path().display();
        match file.refresh() {
            Refreshed::Same => {},
            Refreshed::Changed => {
                let valid = file.keys().valid(self.clock.wall());
                tracing::info!(file = %path, valid, "The client keys were read again");
            },
            Refreshed::Refused(error) => tracing::error!(
                %error, "The edited client keys cannot be used; those from before stay"
            ),
        }
    }

    /// Looks at the file again and again, until it is dropped.
    #[expect(clippy::infinite_loop, reason = "dropped when the program ends")]
    pub(super) async fn watch_keys(&self) {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.refresh_keys();
        }
    }
}

//! The price book in force: read again when its file was edited. What cannot be used is refused, said
//! and counted, and the old book stays.

use std::time::SystemTime;

use parking_lot::Mutex;

use super::{App, build};
use crate::{base::clock::Timestamp, config::Config};

/// What became of price books since the start.
#[derive(Debug)]
pub(super) struct Prices(Mutex<State>);

#[derive(Debug)]
struct State {
    /// When the file that was looked at last had been written.
    written: Option<SystemTime>,
    counts: Counts,
    /// When one was refused that was not followed by a good one, and why.
    refused: Option<(Timestamp, String)>,
}

/// What is counted of price books.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Put in force.
    pub(super) used: u64,
    /// Read, and not fit to be used.
    pub(super) refused: u64,
}

impl Prices {
    /// Of the book that is read next, and in force then: so that no edit is missed.
    pub(super) fn new(config: &Config) -> Self {
        Self(Mutex::new(State {
            written: written(config),
            counts: Counts {
                used: 1,
                refused: 0,
            },
            refused: None,
        }))
    }

    /// Whether the file was written since this was asked last.
    fn were_edited(&self, config: &Config) -> bool {
        let now = written(config);
        std::mem::replace(&mut self.0.lock().written, now) != now
    }

    /// What was counted.
    pub(super) fn counts(&self) -> Counts {
        self.0.lock().counts
    }

    /// When the latest book was refused, and why, if it was.
    pub(super) fn refused(&self) -> Option<(Timestamp, String)> {
        self.0.lock().refused.clone()
    }

    /// The book whose file was written then is in force.
    pub(super) fn read(&self, written: Option<SystemTime>) {
        self.0.lock().written = written;
        self.used();
    }

    /// A book is in force.
    fn used(&self) {
        let mut state = self.0.lock();
        state.counts.used = state.counts.used.saturating_add(1);
        state.refused = None;
    }

    /// One is not fit to be used.
    fn refuse(&self, at: Timestamp, error: String) {
        let mut state = self.0.lock();
        state.counts.refused = state.counts.refused.saturating_add(1);
        state.refused = Some((at, error));
    }
}

impl App {
    /// Puts the prices of an edited price file in force for calls that begin from now on; the old
    /// ones stay if they cannot be used. [`App::keep_house`] has it looked at every minute.
    pub fn refresh_prices(&self) {
        let prices = self.control.prices();
        if !prices.were_edited(&self.config) {
            return;
        }
        let before = self.proxy.live();
        match build::live(&self.config, &self.purse, Some(&before)) {
            Ok(live) => {
                let book = live.pricing().book();
                tracing::info!(book, "The price file was read again");
                self.proxy.reload(live);
                prices.used();
            },
            Err(error) => {
                tracing::error!(%error, "The edited price file cannot be used; the old prices stay");
                prices.refuse(self.clock.wall(), error.to_string());
            },
        }
    }
}

/// When the price file was last written, if there is one.
pub(super) fn written(config: &Config) -> Option<SystemTime> {
    let path = config.pricing.file.as_deref()?;
    let found = std::fs::metadata(path).and_then(|file| file.modified());
    found.ok()
}

//! The price book in force: read again when its file was edited, fetched again when that is due.
//! What cannot be used is refused, said and counted, and the old book stays.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{
    App,
    build::{self, Impossible},
    fetch::fetch,
    shelf::{Fetched, Shelf},
};
use crate::{
    base::{
        clock::{Instant, Timestamp},
        secret::Secret,
        stamp::Stamp,
    },
    config::Config,
    pricing::Book,
};

/// How soon a book that did not come, or cannot be used, is fetched again, unless `pricing.refresh`
/// is sooner.
const AGAIN: Duration = Duration::from_mins(10);

/// What became of price books since the start.
#[derive(Debug)]
pub(super) struct Prices {
    /// Where the book that was fetched is kept; `None` without a data directory of our own.
    shelf: Option<Shelf>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The file as it was when it was looked at last.
    seen: Option<Stamp>,
    /// It could not be read then, for a reason that may pass without a change of the file.
    unread: bool,
    /// The last good book that was fetched.
    fetched: Option<Arc<Fetched>>,
    /// When the server last said that this is its book.
    confirmed: Option<Timestamp>,
    /// When the next one is to be fetched; at once if it is not said.
    due: Option<Instant>,
    counts: Counts,
    trouble: Option<Trouble>,
}

/// Why the book in force is not the latest, in words.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    at: Timestamp,
    what: What,
    why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// It is not fit to be used.
    Refused,
    /// It did not come.
    Failed,
}

/// What is counted of price books.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Put in force.
    pub(super) used: u64,
    /// Asked for, and still the one in force.
    pub(super) unchanged: u64,
    /// Read, and not fit to be used.
    pub(super) refused: u64,
    /// Not there to be fetched.
    pub(super) failed: u64,
}

impl Prices {
    /// Of the book that is read next, and in force then: so that no edit is missed. `is_kept`: the
    /// data directory is ours to write to.
    pub(super) fn new(config: &Config, is_kept: bool) -> Self {
        let shelf = is_kept.then(|| Shelf::of(&config.store.path));
        let url = config.pricing.url.as_ref();
        let fetched = url.zip(shelf.as_ref());
        let fetched = fetched.and_then(|(url, shelf)| shelf.book(url));
        let state = Mutex::new(State {
            seen: seen(config),
            unread: false,
            fetched: fetched.map(Arc::new),
            confirmed: None,
            due: None,
            counts: Counts {
                used: 1,
                ..Counts::default()
            },
            trouble: None,
        });
        Self { shelf, state }
    }

    /// The book that was fetched from where `config` says.
    pub(super) fn fetched(&self, config: &Config) -> Option<Arc<Book>> {
        self.last(config.pricing.url.as_ref()?)
            .map(|fetched| Arc::clone(&fetched.book))
    }

    /// What was counted.
    pub(super) fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// Why the book in force is not the latest, if it is not.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.state.lock().trouble.clone()
    }

    /// When the server last said that the book in force is its own, if it was fetched.
    pub(super) fn confirmed(&self) -> Option<Timestamp> {
        self.state.lock().confirmed
    }

    /// The book whose file was seen so is in force, or the one that was fetched.
    pub(super) fn read(&self, seen: Option<Stamp>, config: &Config) {
        let url = config.pricing.url.as_ref();
        let none_is_here = url.is_none_or(|url| self.last(url).is_none());
        let mut state = self.state.lock();
        (state.seen, state.unread) = (seen, false);
        state.counts.used = state.counts.used.saturating_add(1);
        if none_is_here {
            (state.fetched, state.confirmed, state.due) = (None, None, None);
            state.trouble = None;
        }
    }

    /// Whether the file was changed since this was asked last, or could not be read then.
    fn are_to_be_read(&self, config: &Config) -> bool {
        let now = seen(config);
        let mut state = self.state.lock();
        let was_unread = std::mem::take(&mut state.unread);
        std::mem::replace(&mut state.seen, now) != now || was_unread
    }

    /// The file is to be read at the next look too, though it stays as it is.
    fn could_not_be_read(&self) {
        self.state.lock().unread = true;
    }

    /// The last good book from `url`.
    fn last(&self, url: &Secret) -> Option<Arc<Fetched>> {
        let fetched = self.state.lock().fetched.clone();
        fetched.filter(|fetched| fetched.is_from(url))
    }

    fn is_due(&self, now: Instant) -> bool {
        self.state.lock().due.is_none_or(|due| now >= due)
    }

    fn next_at(&self, due: Instant) {
        self.state.lock().due = Some(due);
    }

    /// A book is in force; `fetched`, if it was.
    fn used(&self, fetched: Option<Fetched>, at: Timestamp) {
        let mut state = self.state.lock();
        state.counts.used = state.counts.used.saturating_add(1);
        state.confirmed = fetched.is_some().then_some(at);
        state.fetched = fetched.map(Arc::new);
        state.trouble = None;
    }

    /// The one in force is still the latest.
    fn unchanged(&self, at: Timestamp) {
        let mut state = self.state.lock();
        state.counts.unchanged = state.counts.unchanged.saturating_add(1);
        state.confirmed = Some(at);
        state.trouble = None;
    }

    /// One came to nothing. Whether that is news.
    fn came_to_nothing(&self, trouble: &Trouble) -> bool {
        let mut state = self.state.lock();
        let count = match trouble.what {
            What::Refused => &mut state.counts.refused,
            What::Failed => &mut state.counts.failed,
        };
        *count = count.saturating_add(1);
        let before = state.trouble.replace(trouble.clone());
        drop(state);
        before.is_none_or(|before| before.why != trouble.why)
    }

    /// Notes for other processes how the latest fetch ended.
    fn note(&self, url: &Secret, trouble: Option<&Trouble>) {
        let noted = match (&self.shelf, trouble) {
            (None, _) => Ok(()),
            (Some(there), Some(trouble)) => there.warn(url, &trouble.to_string()),
            (Some(there), None) => there.all_is_well(),
        };
        if let Err(error) = noted {
            tracing::warn!(%error, "What became of the price book cannot be noted");
        }
    }
}

impl App {
    /// Puts the prices of an edited price file in force for calls that begin from now on; the old
    /// ones stay if they cannot be used. [`App::keep_house`] has it looked at every minute.
    pub fn refresh_prices(&self) {
        let prices = self.control.prices();
        if !prices.are_to_be_read(&self.config) {
            return;
        }
        match self.put_book_in_force(None) {
            Ok(()) => prices.used(None, self.clock.wall()),
            Err(error) => {
                if error.may_pass {
                    prices.could_not_be_read();
                }
                let trouble = Trouble {
                    at: self.clock.wall(),
                    what: What::Refused,
                    why: error.to_string(),
                };
                if prices.came_to_nothing(&trouble) {
                    tracing::error!("{trouble}");
                }
            },
        }
    }

    /// Fetches the price book at `pricing.url`, if that is due, and puts it in force for calls that
    /// begin from then on; the old one stays if it does not come or cannot be used.
    /// [`App::keep_house`] has it looked at every minute.
    pub async fn fetch_due_prices(&self) {
        if self.control.prices().is_due(self.clock.mono()) {
            self.fetch_prices().await;
        }
    }

    /// The same, due or not.
    pub async fn fetch_prices(&self) {
        let Some(url) = &self.config.pricing.url else {
            return;
        };
        let prices = self.control.prices();
        let refresh = self.config.pricing.refresh;
        // Also if nobody waits for the answer, since the configuration is edited meanwhile.
        prices.next_at(self.clock.mono() + AGAIN.min(refresh));
        let came_to = self.obtain(url).await;
        let trouble = came_to.err().map(|(what, why)| Trouble {
            at: self.clock.wall(),
            what,
            why: format!("pricing.url: {why}"),
        });
        if let Some(trouble) = &trouble {
            if prices.came_to_nothing(trouble) {
                tracing::warn!("{trouble}");
            }
        } else {
            // Up to a tenth early, so that a fleet does not ask as one.
            let early = refresh / 10 * fastrand::u32(0..=100) / 100;
            prices.next_at(self.clock.mono() + (refresh.saturating_sub(early)));
        }
        prices.note(url, trouble.as_ref());
    }

    /// Fetches the book and puts it in force, if it is another one.
    async fn obtain(&self, url: &Secret) -> Result<(), (What, String)> {
        let prices = self.control.prices();
        let last = prices.last(url);
        let known = last.as_ref().map(|last| last.version.clone());
        let found = fetch(&self.upstream, url, &known.unwrap_or_default()).await;
        let found = found.map_err(|error| (What::Failed, error.to_string()))?;
        // A server that cannot say that it has no other sends the same again.
        let is_same = |text: &str| last.is_some_and(|last| last.book.is_text(text));
        let Some((text, version)) = found.filter(|(text, _)| !is_same(text)) else {
            prices.unchanged(self.clock.wall());
            return Ok(());
        };
        let refused = |why| (What::Refused, why);
        let good = Fetched::read(&text, url, version).map_err(refused)?;
        self.put_book_in_force(Some(Arc::clone(&good.book)))
            .map_err(|error| refused(error.to_string()))?;
        let kept = prices.shelf.as_ref().map(|shelf| shelf.put(&text, &good));
        if let Some(Err(error)) = kept {
            tracing::warn!(%error, "The price book that was fetched cannot be kept for the next start");
        }
        prices.used(Some(good), self.clock.wall());
        Ok(())
    }

    /// Of the book that was `fetched`, else the one that is configured.
    fn put_book_in_force(&self, fetched: Option<Arc<Book>>) -> Result<(), Impossible> {
        let before = self.proxy.live();
        let live = build::live(&self.config, &self.purse, Some(&before), fetched)?;
        let book = live.pricing().book();
        tracing::info!(book, "Another price book is in force");
        self.proxy.reload(live);
        Ok(())
    }
}

/// `a price book was refused at 2026-11-22 06:25:14 UTC, the one before stays: no such file`.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, what, why } = self;
        let what = match what {
            What::Refused => "was refused",
            What::Failed => "could not be fetched",
        };
        let at = at.to_jiff().strftime("%F %T UTC");
        write!(
            f,
            "a price book {what} at {at}, the one before stays: {why}"
        )
    }
}

/// The price file as it is now, if one is configured.
pub(super) fn seen(config: &Config) -> Option<Stamp> {
    config.pricing.file.as_deref().map(Stamp::of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_could_not_be_read_is_to_be_read_though_it_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("prices.jsonl");
        std::fs::write(&path, "").unwrap();
        let mut config = Config::default();
        config.pricing.file = Some(path);
        let prices = Prices::new(&config, false);
        assert!(!prices.are_to_be_read(&config));
        prices.could_not_be_read();
        let looks = [0; 2].map(|_| prices.are_to_be_read(&config));
        assert_eq!(looks, [true, false]);
        // An edit of the configuration has read it meanwhile.
        prices.could_not_be_read();
        prices.read(seen(&config), &config);
        assert!(!prices.are_to_be_read(&config));
    }
}

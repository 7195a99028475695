//! Keeps so many traces a second: counts them in windows of a second, and sets the share anew after
//! each. It is told the time.

use std::time::Duration;

use super::Choice;
use crate::base::clock::Instant;

/// How long traces are counted before the share is set anew.
const WINDOW: Duration = Duration::from_secs(1);

/// What the load of one window counts against that of all before.
const WEIGHT: f64 = 0.5;

/// Shares are whole ten-thousandths, as far as the bounds let them.
const STEPS: f64 = 10_000.0;

/// A trace that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// Its id says whether it goes.
    Open,
    /// It goes whatever its id says.
    Kept,
}

/// Sets the share.
#[derive(Debug)]
pub(super) struct Controller {
    target: f64,
    least: f64,
    most: f64,
    share: f64,
    /// When the present window began.
    began: Instant,
    /// Traces of the present window.
    open: u32,
    kept: u32,
    /// Traces a second, open ones and kept ones, smoothed; none before the first window's end.
    load: Option<(f64, f64)>,
}

impl Controller {
    /// One for this choice, if it asks for one. It begins with the greatest share.
    pub(super) const fn new(choice: Choice, now: Instant) -> Option<Self> {
        match choice {
            Choice::Share(_) => None,
            Choice::PerSecond {
                target,
                least,
                most,
            } => Some(Self {
                target,
                least,
                most,
                share: most,
                began: now,
                open: 0,
                kept: 0,
                load: None,
            }),
        }
    }

    /// The share that is kept now.
    pub(super) const fn share(&self) -> f64 {
        self.share
    }

    /// Counts a trace, after setting the share if a window is over.
    pub(super) fn count(&mut self, trace: Counted, now: Instant) {
        let elapsed = now.saturating_duration_since(self.began);
        if elapsed >= WINDOW {
            self.adapt(elapsed);
            self.began = now;
        }
        let count = match trace {
            Counted::Open => &mut self.open,
            Counted::Kept => &mut self.kept,
        };
        *count = count.saturating_add(1);
    }

    fn adapt(&mut self, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        let seen = |count: &mut u32| f64::from(std::mem::take(count)) / seconds;
        let (open, kept) = (seen(&mut self.open), seen(&mut self.kept));
        // One that is much longer counts for all that it could have been.
        let old = WEIGHT.powf(seconds);
        let (open, kept) = self.load.map_or((open, kept), |(before, kept_before)| {
            let mix = |before: f64, now: f64| before * old + now * (1.0 - old);
            (mix(before, open), mix(kept_before, kept))
        });
        self.load = Some((open, kept));
        let left = (self.target - kept).max(0.0);
        let share = if open > left { left / open } else { 1.0 };
        let share = (share * STEPS).round() / STEPS;
        self.share = share.clamp(self.least, self.most);
    }
}

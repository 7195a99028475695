//! The amounts of a counter: of one window, or of a rolling one cell by cell.
//!
//! What was reserved for a call goes out again from the cell that it went into; once that cell has
//! left the window, so have its amounts.

use std::time::Duration;

use super::window::Window;
use crate::base::clock::Timestamp;

/// The amounts of a counter.
#[derive(Debug)]
pub(super) enum Balance {
    /// One window, or none.
    Window { spent: i64, reserved: i64 },
    /// A rolling window.
    Rolling(Box<Ring>),
}

impl Balance {
    pub(super) fn spent(&self) -> i64 {
        match self {
            Self::Window { spent, .. } => *spent,
            Self::Rolling(ring) => ring.spent,
        }
    }

    pub(super) fn reserved(&self) -> i64 {
        match self {
            Self::Window { reserved, .. } => *reserved,
            Self::Rolling(ring) => ring.reserved,
        }
    }

    /// What was spent, by cell.
    pub(super) fn by_cell(&self, window: Timestamp) -> Vec<(Timestamp, i64)> {
        match self {
            Self::Window { spent, .. } => vec![(window, *spent)],
            Self::Rolling(ring) => ring.by_cell(),
        }
    }

    /// Lets go of what a rolling window has left behind.
    pub(super) fn advance(&mut self, now: Timestamp) {
        if let Self::Rolling(ring) = self {
            ring.advance(now);
        }
    }

    /// The cell that an amount of now belongs to; `window` for all but rolling windows.
    pub(super) fn cell(&self, window: Timestamp) -> Timestamp {
        match self {
            Self::Window { .. } => window,
            Self::Rolling(ring) => ring.present(),
        }
    }

    /// How long from `now` until `amount` of what was spent has left the window, if ever.
    pub(super) fn leaves_within(&self, amount: i64, now: Timestamp) -> Option<Duration> {
        match self {
            Self::Window { .. } => None,
            Self::Rolling(ring) => ring.leaves_within(amount, now),
        }
    }

    /// Sets `amount` aside in `cell`.
    pub(super) fn reserve(&mut self, cell: Timestamp, amount: i64) {
        self.change(cell, 0, amount);
    }

    /// Turns what was reserved in `cell` into what was spent.
    pub(super) fn settle(&mut self, cell: Timestamp, reserved: i64, spent: i64) {
        self.change(cell, spent, reserved.saturating_neg());
    }

    /// Adds to what was spent; negative for a credit.
    pub(super) fn recall(&mut self, cell: Timestamp, spent: i64) {
        if let Self::Rolling(ring) = self {
            ring.advance(cell);
        }
        self.change(cell, spent, 0);
    }

    fn change(&mut self, cell: Timestamp, by_spent: i64, by_reserved: i64) {
        let (spent, reserved) = match self {
            Self::Window { spent, reserved } => (spent, reserved),
            Self::Rolling(ring) => {
                let Some(part) = ring.part(cell) else {
                    return; // It has left the window, and its amounts with it.
                };
                part.spent = part.spent.saturating_add(by_spent);
                part.reserved = part.reserved.saturating_add(by_reserved);
                (&mut ring.spent, &mut ring.reserved)
            },
        };
        *spent = spent.saturating_add(by_spent);
        *reserved = reserved.saturating_add(by_reserved);
    }
}

const CELLS: usize = 60;

/// A rolling window as 60 aligned cells, the present one included; a cell leaves as a whole.
#[derive(Debug)]
pub(super) struct Ring {
    /// Nanoseconds in a cell.
    width: u64,
    /// The number of the present cell, counted from the epoch. It never goes back: when the clock
    /// does, what is spent goes into the newest cell.
    newest: u64,
    parts: [Part; CELLS],
    /// The sums over `parts`.
    spent: i64,
    reserved: i64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    spent: i64,
    reserved: i64,
}

impl Ring {
    pub(super) fn new(length: Duration) -> Self {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        Self {
            width: (nanos / Window::CELLS).max(1),
            newest: 0,
            parts: [Part::default(); CELLS],
            spent: 0,
            reserved: 0,
        }
    }

    fn present(&self) -> Timestamp {
        Timestamp::from_nanos(self.newest.saturating_mul(self.width))
    }

    /// How long from `now` until the next cell begins, and the oldest one leaves.
    pub(super) fn moves_on(&self, now: Timestamp) -> Duration {
        let next = self.newest.saturating_add(1).saturating_mul(self.width);
        Timestamp::from_nanos(next).since(now)
    }

    fn advance(&mut self, now: Timestamp) {
        let number = now.as_nanos() / self.width;
        let steps = number.saturating_sub(self.newest).min(Window::CELLS);
        for step in 0..steps {
            // The cells between the newest and now, from the latest back: they are the oldest ones.
            let place = usize::try_from((number - step) % Window::CELLS).unwrap_or(0);
            if let Some(part) = self.parts.get_mut(place) {
                self.spent = self.spent.saturating_sub(part.spent);
                self.reserved = self.reserved.saturating_sub(part.reserved);
                *part = Part::default();
            }
        }
        self.newest = self.newest.max(number);
    }

    fn part(&mut self, cell: Timestamp) -> Option<&mut Part> {
        let number = cell.as_nanos() / self.width;
        let age = self.newest.checked_sub(number)?;
        if age >= Window::CELLS {
            return None;
        }
        let place = usize::try_from(number % Window::CELLS).unwrap_or(0);
        self.parts.get_mut(place)
    }

    /// What was spent, by cell, the oldest first; cells with nothing are left out.
    fn by_cell(&self) -> Vec<(Timestamp, i64)> {
        let numbers = (0..Window::CELLS)
            .rev()
            .filter_map(|age| self.newest.checked_sub(age));
        numbers
            .filter_map(|number| {
                let place = usize::try_from(number % Window::CELLS).ok()?;
                let spent = self.parts.get(place)?.spent;
                let cell = Timestamp::from_nanos(number.saturating_mul(self.width));
                (spent != 0).then_some((cell, spent))
            })
            .collect()
    }

    fn leaves_within(&self, amount: i64, now: Timestamp) -> Option<Duration> {
        let mut left = 0_i64;
        for age in (0..Window::CELLS).rev() {
            let Some(number) = self.newest.checked_sub(age) else {
                continue;
            };
            let place = usize::try_from(number % Window::CELLS).unwrap_or(0);
            left = left.saturating_add(self.parts.get(place).map_or(0, |part| part.spent));
            if left >= amount {
                let end = (number + Window::CELLS).saturating_mul(self.width);
                return Some(Timestamp::from_nanos(end).since(now));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn secs(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn rolling() -> Balance {
        Balance::Rolling(Box::new(Ring::new(MINUTE)))
    }

    fn spend(balance: &mut Balance, now: Timestamp, amount: i64) {
        balance.advance(now);
        let cell = balance.cell(Timestamp::default());
        balance.reserve(cell, amount);
        balance.settle(cell, amount, amount);
    }

    #[test]
    fn a_rolling_window_forgets_cell_by_cell() {
        let mut balance = rolling();
        spend(&mut balance, secs(1_000), 5);
        spend(&mut balance, secs(1_030), 7);
        balance.advance(secs(1_059));
        assert_eq!(balance.spent(), 12);
        balance.advance(secs(1_060));
        assert_eq!(balance.spent(), 7);
        balance.advance(secs(5_000));
        assert_eq!(balance.spent(), 0);
    }

    #[test]
    fn a_call_settles_into_the_cell_in_which_it_was_admitted() {
        let mut balance = rolling();
        balance.advance(secs(1_000));
        let cell = balance.cell(Timestamp::default());
        balance.reserve(cell, 10);
        balance.advance(secs(1_050));
        balance.settle(cell, 10, 4);
        assert_eq!((balance.spent(), balance.reserved()), (4, 0));
        balance.advance(secs(1_060));
        assert_eq!(balance.spent(), 0);
    }

    #[test]
    fn a_call_that_outlives_its_cell_changes_nothing_when_it_settles() {
        let mut balance = rolling();
        balance.advance(secs(1_000));
        let cell = balance.cell(Timestamp::default());
        balance.reserve(cell, 10);
        balance.advance(secs(1_060));
        assert_eq!(balance.reserved(), 0);
        balance.settle(cell, 10, 4);
        assert_eq!((balance.spent(), balance.reserved()), (0, 0));
    }

    #[test]
    fn a_clock_that_steps_back_forgets_nothing() {
        let mut balance = rolling();
        spend(&mut balance, secs(1_000), 5);
        spend(&mut balance, secs(500), 7);
        assert_eq!(balance.spent(), 12);
        balance.advance(secs(1_059));
        assert_eq!(balance.spent(), 12);
    }

    #[test]
    fn a_rolling_window_says_when_there_will_be_room() {
        let mut balance = rolling();
        spend(&mut balance, secs(1_000), 5);
        spend(&mut balance, secs(1_030), 7);
        let wait = |amount| balance.leaves_within(amount, secs(1_030));
        assert_eq!(wait(5), Some(Duration::from_secs(30)));
        assert_eq!(wait(6), Some(Duration::from_mins(1)));
        assert_eq!(wait(13), None);
    }
}

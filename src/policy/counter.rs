//! One counter: what a rule has spent and reserved, for one set of values, in one window.
//!
//! The invariant: `spent` and `reserved` change only by `reserve`, `grow`, `settle` and `adjust`,
//! and what was reserved for a call is taken out again exactly once, into the cell it went to.

use std::{sync::Arc, time::Duration};

use super::{
    journal::CounterName,
    purse::{Seen, Standing},
    queue::Line,
    rule::Rule,
    table::Claim,
    threshold::{Crossing, Level},
    window::Window,
};
use crate::base::clock::Timestamp;

/// What a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// Nano-dollars.
    Usd,
    /// Input and output tokens.
    Tokens,
    /// Calls.
    Requests,
    /// Calls in flight: a gauge, of which nothing is ever spent.
    Concurrent,
}

impl Unit {
    /// Its name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Usd => "usd",
            Self::Tokens => "tokens",
            Self::Requests => "requests",
            Self::Concurrent => "concurrent",
        }
    }
}

/// Whether something fits into a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It does.
    Fits,
    /// Not now: calls in flight hold what is left. (Also: others are waiting in front.)
    Busy,
    /// It would not even if every call in flight cost nothing.
    Exhausted,
}

/// A temporary increase of a counter's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raise {
    /// By how much.
    pub amount: i64,
    /// From when on it no longer holds; `None`: as long as the window.
    pub until: Option<Timestamp>,
}

/// What is known of a counter from before it was in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recalled {
    /// What was spent, by cell.
    pub spent: Vec<(Timestamp, i64)>,
    /// Raises of its limit.
    pub raises: Vec<Raise>,
}

/// A counter in the purse's table.
#[derive(Debug)]
pub(super) struct Counter {
    pub(super) rule: Arc<Rule>,
    pub(super) values: Arc<str>,
    pub(super) unit: Unit,
    /// The first instant of its calendar window; zero for the others.
    pub(super) window: Timestamp,
    pub(super) balance: Balance,
    /// What the rule says, as of the last call that it was asked about.
    pub(super) limit: i64,
    pub(super) raises: Vec<Raise>,
    /// Holds that have a part here; while there are any the counter stays in memory.
    pub(super) holds: u32,
    /// When it was last looked at, by the table's own time.
    pub(super) touched: Duration,
    /// Who waits for it.
    pub(super) line: Line,
    /// The highest threshold that was reported, and when.
    reported: (Level, Timestamp),
}

impl Counter {
    pub(super) fn new(claim: &Claim, recalled: &Recalled) -> Self {
        let rule = Arc::clone(&claim.rule);
        let mut balance = match rule.calendar.window() {
            Window::Rolling(length) if claim.unit != Unit::Concurrent => {
                Balance::Rolling(Box::new(Ring::new(length)))
            },
            _ => Balance::Window {
                spent: 0,
                reserved: 0,
            },
        };
        for (cell, spent) in &recalled.spent {
            balance.recall(*cell, *spent);
        }
        let limit = rule.limit(claim.unit);
        // What was crossed before we started was reported then.
        let level = rule.thresholds.level(balance.spent(), limit);
        Self {
            rule,
            values: Arc::clone(&claim.values),
            unit: claim.unit,
            window: claim.window,
            balance,
            limit,
            raises: recalled.raises.clone(),
            holds: 0,
            touched: Duration::ZERO,
            line: Line::default(),
            reported: (level, claim.window),
        }
    }

    /// How it stands, as `verdict` was found.
    pub(super) fn seen(&self, verdict: Verdict, now: Timestamp) -> Seen {
        Seen {
            spent: self.balance.spent(),
            reserved: self.balance.reserved(),
            limit: self.limit(now),
            verdict,
        }
    }

    /// How it stands.
    pub(super) fn standing(&self) -> Standing {
        Standing {
            counter: CounterName {
                identity: Arc::clone(&self.rule.identity),
                values: Arc::clone(&self.values),
                unit: self.unit,
            },
            window: self.window,
            spent: self.balance.spent(),
            reserved: self.balance.reserved(),
            raises: self.raises.clone(),
        }
    }

    /// The limit that holds now, raises and cutoff included.
    pub(super) fn limit(&self, now: Timestamp) -> i64 {
        let raised = self.raised_limit(now);
        self.rule.thresholds.cutoff.of(raised)
    }

    fn raised_limit(&self, now: Timestamp) -> i64 {
        self.raises
            .iter()
            .filter(|raise| raise.until.is_none_or(|until| now < until))
            .fold(self.limit, |limit, raise| {
                limit.saturating_add(raise.amount)
            })
    }

    /// What is neither spent nor reserved; not below zero.
    pub(super) fn free(&self, now: Timestamp) -> i64 {
        let used = self.balance.spent().saturating_add(self.balance.reserved());
        self.limit(now).saturating_sub(used).max(0)
    }

    /// Whether `ask` fits. A call that asks for nothing we can measure still needs one unit to be
    /// free.
    pub(super) fn judge(&self, ask: i64, now: Timestamp) -> Verdict {
        let limit = self.limit(now);
        let spent = self.balance.spent().saturating_add(ask.max(1));
        if spent > limit {
            Verdict::Exhausted
        } else if spent.saturating_add(self.balance.reserved()) > limit {
            Verdict::Busy
        } else {
            Verdict::Fits
        }
    }

    /// The threshold that was crossed since the last time this was asked, if any: the highest one.
    pub(super) fn crossing(&mut self, now: Timestamp) -> Option<Crossing> {
        if !self.rule.is_budget() {
            return None;
        }
        let spent = self.balance.spent();
        let level = self.rule.thresholds.level(spent, self.raised_limit(now));
        let (mut reported, at) = self.reported;
        if let Window::Rolling(length) = self.rule.calendar.window()
            && now.since(at) >= length
        {
            // A rolling window has no end at which to begin anew: one length later is a new one.
            reported = reported.min(level);
        }
        if level <= reported {
            return None;
        }
        self.reported = (level, now);
        Some(Crossing {
            rule: Arc::clone(&self.rule.name),
            values: Arc::clone(&self.values),
            level,
            window: self.window,
        })
    }
}

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
    fn new(length: Duration) -> Self {
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

    /// How long from `now` until `amount` of what was spent has left the window, if ever.
    pub(super) fn leaves_within(&self, amount: i64, now: Timestamp) -> Option<Duration> {
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

    const MINUTE: Duration = Duration::from_secs(60);

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
        let Balance::Rolling(ring) = &balance else {
            panic!("it is a rolling one");
        };
        let wait = |amount| ring.leaves_within(amount, secs(1_030));
        assert_eq!(wait(5), Some(Duration::from_secs(30)));
        assert_eq!(wait(6), Some(Duration::from_secs(60)));
        assert_eq!(wait(13), None);
    }
}

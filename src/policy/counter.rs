//! One counter: what a rule has spent and reserved, for one set of values, in one window.
//!
//! The invariant: `spent` and `reserved` change only by `reserve`, `grow`, `settle` and `adjust`,
//! and what was reserved for a call is taken out again exactly once, into the cell it went to.

use std::{sync::Arc, time::Duration};

use super::{
    balance::{Balance, Ring},
    journal::CounterName,
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
    /// By how much; for a limit in US dollars, in nano-dollars.
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

/// How a counter stood when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What was spent.
    pub spent: i64,
    /// What was reserved.
    pub reserved: i64,
    /// The limit that held.
    pub limit: i64,
    /// Whether the call fitted.
    pub verdict: Verdict,
}

/// A counter as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which one.
    pub counter: CounterName,
    /// What was spent.
    pub spent: i64,
    /// What calls in flight hold.
    pub reserved: i64,
    /// The first instant of the calendar window; of the cell, if only one of a rolling window is
    /// meant; else zero.
    pub window: Timestamp,
    /// Raises of its limit.
    pub raises: Vec<Raise>,
}

impl Seen {
    pub(super) const NOTHING: Self = Self {
        spent: 0,
        reserved: 0,
        limit: 0,
        verdict: Verdict::Fits,
    };
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

    pub(super) fn raised_limit(&self, now: Timestamp) -> i64 {
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

    /// As [`judge`](Self::judge), for a call that holds `held` already: that is not what other calls
    /// in flight hold, so that a call which has used up the limit by itself finds it exhausted.
    pub(super) fn judge_more(&self, held: i64, more: i64, now: Timestamp) -> Verdict {
        match self.judge(more, now) {
            Verdict::Busy => self
                .judge(held.saturating_add(more), now)
                .max(Verdict::Busy),
            verdict => verdict,
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

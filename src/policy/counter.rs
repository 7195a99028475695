//! One counter: what a rule has spent and reserved, for one set of values, in one window.
//!
//! The invariant: `spent` and `reserved` change only by `reserve`, `grow`, `settle` and `adjust`,
//! and what was reserved for a call is taken out again exactly once, into the cell it went to.

use std::{sync::Arc, time::Duration};

use super::{
    balance::{Balance, Ring},
    journal::CounterName,
    queue::{Line, Ticket},
    rule::Rule,
    table::Claim,
    threshold::{Crossing, Level},
    told::Told,
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
    /// Input tokens.
    InputTokens,
    /// Output tokens.
    OutputTokens,
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
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
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
    /// The last threshold that was told of, and when.
    pub told: Option<(Level, Timestamp)>,
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

    /// Whether the counter stood as in `other`, whatever was asked of it.
    pub(super) const fn stands_as(&self, other: &Self) -> bool {
        self.spent == other.spent && self.reserved == other.reserved && self.limit == other.limit
    }
}

/// A counter in the purse's table. There may be a million of them: it is kept small.
#[derive(Debug)]
pub(super) struct Counter {
    /// The latest by which it was asked: its limit is the one that holds.
    pub(super) rule: Arc<Rule>,
    pub(super) values: Arc<str>,
    pub(super) unit: Unit,
    /// The highest threshold that was reported.
    reported: Level,
    /// Holds that have a part here; while there are any the counter stays in memory.
    pub(super) holds: u32,
    /// When it was last looked at, in seconds of the table's own time.
    touched: u32,
    /// The first instant of its calendar window; zero for the others.
    pub(super) window: Timestamp,
    pub(super) balance: Balance,
    /// When `reported` became so; goes on by a nanosecond at least each time, though the clock stands or
    /// steps back, so that of its records the one with the latest time is the last.
    reported_at: Timestamp,
    extras: Option<Box<Extras>>,
}

/// What few counters have.
#[derive(Debug, Default)]
struct Extras {
    raises: Vec<Raise>,
    /// Who waits for it.
    line: Line,
}

impl Counter {
    pub(super) fn new(claim: &Claim, recalled: &Recalled, now: Timestamp) -> Self {
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
        let (reported, reported_at) = recalled.told.unwrap_or((Level::Below, claim.window));
        let mut counter = Self {
            rule,
            values: Arc::clone(&claim.values),
            unit: claim.unit,
            window: claim.window,
            balance,
            reported,
            reported_at,
            holds: 0,
            touched: 0,
            extras: None,
        };
        counter.raise(&recalled.raises);
        if matches!(counter.balance, Balance::Window { .. }) {
            // What was told of and is not reached was brought under the threshold by hand, of which
            // there may be no record: another limit. Of a rolling window amounts may just have left.
            counter.reported = counter.reported.min(counter.level(now));
        }
        counter
    }

    /// Whether it is the one that `claim` names.
    pub(super) fn is_of(&self, claim: &Claim) -> bool {
        self.unit == claim.unit
            && self.window == claim.window
            && self.values == claim.values
            && self.rule.identity == claim.rule.identity
    }

    /// `rule` is what asks now: as edited, maybe, or as it was when a call that waits came.
    /// As [`rearm`](Self::rearm) if its limit or thresholds are others by that.
    pub(super) fn ask_by(&mut self, rule: &Arc<Rule>, now: Timestamp) -> Option<Told> {
        if Arc::ptr_eq(&self.rule, rule) || rule.edition < self.rule.edition {
            return None;
        }
        let before = std::mem::replace(&mut self.rule, Arc::clone(rule));
        let is_same = before.limit(self.unit) == rule.limit(self.unit)
            && before.thresholds == rule.thresholds;
        if is_same { None } else { self.rearm(now) }
    }

    /// Another limit holds, or what was spent was given back: thresholds that are no longer reached are
    /// told of anew once they are. Returns the one that counts as the last that was told of now, if
    /// that is another: it is to be journalled, or the next start does not know.
    pub(super) fn rearm(&mut self, now: Timestamp) -> Option<Told> {
        let level = self.level(now);
        if level >= self.reported {
            return None;
        }
        self.report(level, now);
        Some(Told {
            counter: self.name(),
            window: self.window,
            level,
            at: self.reported_at,
        })
    }

    fn report(&mut self, level: Level, now: Timestamp) {
        self.reported = level;
        self.reported_at = now.max(self.reported_at + Duration::from_nanos(1));
    }

    fn level(&self, now: Timestamp) -> Level {
        let (spent, limit) = (self.balance.spent(), self.raised_limit(now));
        self.rule.thresholds.level(spent, limit)
    }

    /// Adds to its limit.
    pub(super) fn raise(&mut self, raises: &[Raise]) {
        if !raises.is_empty() {
            self.extras.get_or_insert_default().raises.extend(raises);
        }
    }

    fn raises(&self) -> &[Raise] {
        self.extras.as_ref().map_or(&[], |extras| &extras.raises)
    }

    /// Whether somebody waits in front of `ticket`, or of one who has none.
    pub(super) fn is_behind(&self, ticket: Option<Ticket>) -> bool {
        let line = self.extras.as_ref().map(|extras| &extras.line);
        line.is_some_and(|line| line.is_behind(ticket))
    }

    /// Puts `ticket` into the line.
    pub(super) fn join(&mut self, ticket: Ticket) {
        self.extras.get_or_insert_default().line.join(ticket);
    }

    /// Takes `ticket` out of the line.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        if let Some(extras) = &mut self.extras {
            extras.line.leave(ticket);
            self.extras
                .take_if(|extras| extras.line.is_empty() && extras.raises.is_empty());
        }
    }

    /// Who waits longest.
    pub(super) fn first_waiting(&self) -> Option<Ticket> {
        self.extras.as_ref()?.line.first()
    }

    /// Looked at when the table's own time was `elapsed`.
    pub(super) fn touch(&mut self, elapsed: Duration) {
        self.touched = seconds(elapsed);
    }

    /// Whether nobody uses it, or has looked at it for `idle`.
    pub(super) fn is_idle(&self, elapsed: Duration, idle: Duration) -> bool {
        seconds(elapsed).saturating_sub(self.touched) >= seconds(idle)
            && self.holds == 0
            && self.first_waiting().is_none()
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

    fn name(&self) -> CounterName {
        CounterName {
            identity: Arc::clone(&self.rule.identity),
            values: Arc::clone(&self.values),
            unit: self.unit,
        }
    }

    /// How it stands.
    pub(super) fn standing(&self) -> Standing {
        Standing {
            counter: self.name(),
            window: self.window,
            spent: self.balance.spent(),
            reserved: self.balance.reserved(),
            raises: self.raises().to_vec(),
        }
    }

    /// The limit that holds now, raises and cutoff included.
    pub(super) fn limit(&self, now: Timestamp) -> i64 {
        let raised = self.raised_limit(now);
        self.rule.thresholds.cutoff.of(raised)
    }

    pub(super) fn raised_limit(&self, now: Timestamp) -> i64 {
        self.raises()
            .iter()
            .filter(|raise| raise.until.is_none_or(|until| now < until))
            .fold(self.rule.limit(self.unit), |limit, raise| {
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

    /// How long until enough has left a rolling window for `ask` to fit, if it ever will.
    pub(super) fn clears_in(&self, ask: i64, now: Timestamp) -> Option<Duration> {
        let used = self.balance.spent().saturating_add(ask.max(1));
        let needed = used.saturating_sub(self.limit(now));
        self.balance.leaves_within(needed, now)
    }

    /// When a call that there is no room for shall ask again though nothing has settled; `None`: its
    /// rule lets nobody wait so long, or time alone changes nothing. `ticket` is its place in the
    /// lines, if it has waited.
    pub(super) fn clears_soon(
        &self,
        ask: i64,
        ticket: Option<Ticket>,
        now: Timestamp,
    ) -> Option<Duration> {
        /// What calls in flight hold leaves the window too, and wakes nobody.
        const A_SECOND: Duration = Duration::from_secs(1);
        if self.unit == Unit::Concurrent || !self.rule.enforces() {
            return None;
        }
        let most = self.rule.max_wait;
        if self.rule.is_budget() {
            // Whoever stands in front asks first, and wakes the next.
            let is_first = self.judge(ask, now) == Verdict::Busy && !self.is_behind(ticket);
            return self.moves_on(now).filter(|next| is_first && *next <= most);
        }
        match self.judge(ask, now) {
            Verdict::Fits => None,
            Verdict::Busy => (!most.is_zero()).then_some(A_SECOND),
            Verdict::Exhausted => self.clears_in(ask, now).filter(|clears| *clears <= most),
        }
    }

    /// How long until the window ends, or the oldest cell leaves a rolling one.
    fn moves_on(&self, now: Timestamp) -> Option<Duration> {
        match &self.balance {
            Balance::Rolling(ring) => Some(ring.moves_on(now)),
            Balance::Window { .. } => {
                let end = self.rule.calendar.at(self.window).end;
                end.map(|end| end.since(now))
            },
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
        let level = self.level(now);
        let mut reported = self.reported;
        if let Window::Rolling(length) = self.rule.calendar.window()
            && now.since(self.reported_at) >= length
        {
            // A rolling window has no end at which to begin anew: one length later is a new one.
            reported = reported.min(level);
        }
        if level <= reported {
            return None;
        }
        self.report(level, now);
        Some(Crossing {
            rule: Arc::clone(&self.rule.name),
            identity: Arc::clone(&self.rule.identity),
            values: Arc::clone(&self.values),
            unit: self.unit,
            level,
            spent: self.balance.spent(),
            limit: self.raised_limit(now),
            window: self.window,
            at: self.reported_at,
        })
    }
}

/// Whole seconds of the table's own time: 136 years of them.
fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

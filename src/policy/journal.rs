//! What must survive a crash, as the purse says it. Whoever keeps it (a file, a fleet's Redis)
//! implements [`Journal`]; see `ledger/`.

use std::{fmt, ops::RangeInclusive, pin::Pin, sync::Arc};

use super::{
    counter::{Raise, Recalled, Seen, Unit},
    subject::{Charge, Ending, Subject},
    table::Claim,
    told::Told,
};
use crate::base::{clock::Timestamp, id::RequestId};

/// Keeps what was reserved and spent.
pub trait Journal: fmt::Debug + Send + Sync + 'static {
    /// Keeps `entry` before it takes effect: when this returns, the end of the process cannot
    /// lose it. On the calling thread; must be quick.
    ///
    /// # Errors
    /// It could not be kept, and calls shall not pass without (`on_ledger_down: block`).
    fn write(&self, entry: &Entry<'_>) -> Result<Position, JournalDown>;

    /// Takes `entry` in, which may wait to be kept together with others until [`keep`](Self::keep) is
    /// called: before it takes effect.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn begin(&self, entry: &Entry<'_>) -> Result<Position, JournalDown> {
        self.write(entry)
    }

    /// Whether what is at `position` is not kept yet.
    fn waits(&self, _position: Position) -> bool {
        false
    }

    /// Keeps everything up to `position`, as [`write`](Self::write) does.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn keep(&self, _position: Position) -> Result<(), JournalDown> {
        Ok(())
    }

    /// Keeps `entry` soon. If it is lost, its call counts at its reservation.
    fn note(&self, entry: &Entry<'_>);

    /// Whether the journal has to read, to know what a counter held in `cells`. Must be quick.
    fn must_read(&self, counter: &CounterName, cells: &RangeInclusive<Timestamp>) -> bool;

    /// What each of these counters held in these cells, read while the caller waits.
    fn recalling(
        &self,
        asked: Vec<(CounterName, RangeInclusive<Timestamp>)>,
    ) -> Recalling<Vec<Recalled>>;

    /// What a counter held in `cells`, from before it was in memory. On the calling thread, once
    /// for each counter that comes into memory; blocks it where [`must_read`](Self::must_read) says
    /// so.
    ///
    /// # Errors
    /// It cannot be known, and calls shall not pass without.
    fn recall(
        &self,
        counter: &CounterName,
        cells: RangeInclusive<Timestamp>,
    ) -> Result<Recalled, JournalDown>;

    /// Completes when everything up to `position` has survived a power cut, or cannot; `None` if
    /// nobody waits for that (`durability: process`).
    fn durable(&self, position: Position) -> Option<Durable>;

    /// Whether `recall` knows of everything that was settled until now.
    fn caught_up(&self) -> bool;
}

/// See [`Journal::recalling`]: the error is that it cannot be known, and calls shall not pass without.
pub type Recalling<T> = Pin<Box<dyn Future<Output = Result<T, JournalDown>> + Send>>;

/// See [`Journal::durable`]: the error is that it cannot be made to survive.
pub type Durable = Pin<Box<dyn Future<Output = Result<(), JournalDown>> + Send>>;

/// How far the journal has been written; opaque, grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u64);

/// The journal cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger's journal cannot be written")]
pub struct JournalDown;

/// Tells the holds of one call apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldId(pub u64);

impl HoldId {
    pub(super) fn random() -> Self {
        Self(fastrand::u64(..))
    }
}

/// Names a counter, whatever the window.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterName {
    /// The rule's name, `per`, window and zone.
    pub identity: Arc<str>,
    /// Whose it is: `user=42`; empty for a rule that counts all calls together.
    pub values: Arc<str>,
    /// What it counts.
    pub unit: Unit,
}

impl CounterName {
    pub(super) fn of(claim: &Claim) -> Self {
        Self {
            identity: Arc::clone(&claim.rule.identity),
            values: Arc::clone(&claim.values),
            unit: claim.unit,
        }
    }

    /// The rule's name.
    pub fn rule(&self) -> &str {
        super::rule::name_in(&self.identity)
    }
}

/// One entry. Each is complete: what a settlement charges can be told without its admission.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// A call goes ahead; `lines` are what it holds.
    Admitted {
        /// The call.
        subject: &'a Subject<'a>,
        /// Its hold.
        hold: HoldId,
        /// When.
        at: Timestamp,
        /// What is reserved.
        lines: Lines<'a>,
    },
    /// A hold was increased; `lines` are by how much.
    Grown {
        /// The call.
        request_id: RequestId,
        /// Its hold.
        hold: HoldId,
        /// By how much.
        lines: Lines<'a>,
    },
    /// A call is over; `lines` are what it spent.
    Settled {
        /// The call.
        request_id: RequestId,
        /// Its hold.
        hold: HoldId,
        /// When it was admitted.
        admitted: Timestamp,
        /// What it cost.
        charge: Charge,
        /// What is spent.
        lines: Lines<'a>,
        /// How it ended; `None`: it has no span that shows this charge.
        ending: Option<&'a Ending>,
    },
    /// A call was accepted, and its answer will be fetched later: what it holds stays held, also
    /// when the process ends, until it is settled.
    Awaited {
        /// The call.
        request_id: RequestId,
        /// Its hold.
        hold: HoldId,
        /// The provider's name.
        provider: &'a str,
        /// The id under which the answer will be fetched.
        response: &'a str,
    },
    /// A response that can be fetched was billed, and is not billed again. The number stands for
    /// provider and id.
    Billed(u64),
    /// A call was refused; `lines` are what it asked for.
    Refused {
        /// The call.
        subject: &'a Subject<'a>,
        /// When.
        at: Timestamp,
        /// What refused it: `budget.daily`.
        by: &'a str,
        /// What it asked for.
        lines: Lines<'a>,
    },
    /// Somebody changed a counter by hand.
    Adjusted(&'a Adjustment),
    /// Somebody ordered that calls are stopped, or lifted such an order.
    Ordered(&'a Order),
    /// A counter reached a threshold, and that was told.
    Crossed(&'a Told),
}

/// What a call of an earlier run still holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The call.
    pub request_id: RequestId,
    /// Its hold.
    pub hold: HoldId,
    /// When it was admitted.
    pub admitted: Timestamp,
    /// How much of which cell of which counter.
    pub parts: Vec<(CounterName, Timestamp, i64)>,
}

/// A change of counters by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adjustment {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub who: Box<str>,
    /// Which counters, and how.
    pub changes: Vec<Change>,
}

/// An order of somebody's about calls, which changes no counter: a kill, or the end of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub who: Box<str>,
    /// The kill's name.
    pub kill: Box<str>,
    /// What was ordered; `None`: the kill is lifted.
    pub ordered: Option<Ordered>,
}

impl Order {
    /// Whether what it orders is not over by `now`.
    pub fn holds(&self, now: Timestamp) -> bool {
        let until = self.ordered.as_ref().and_then(|ordered| ordered.until);
        until.is_none_or(|until| now < until)
    }
}

/// What an order says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// Which calls, as JSON.
    pub selector: Box<str>,
    /// When it is over by itself.
    pub until: Option<Timestamp>,
    /// Why; may be empty.
    pub reason: Box<str>,
}

/// A change of one cell of a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The counter.
    pub counter: CounterName,
    /// The window, or cell of a rolling one, that is changed.
    pub cell: Timestamp,
    /// Added to what was spent: below zero for a credit.
    pub spent: i64,
    /// A raise of the limit.
    pub raise: Option<Raise>,
}

/// The part of a call in each budget counter.
#[derive(Clone, Copy, Debug)]
pub struct Lines<'a> {
    claims: &'a [Claim],
    amount: fn(&Claim) -> i64,
}

/// The part of a call in one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The rule's identity.
    pub identity: &'a str,
    /// Whose counter.
    pub values: &'a str,
    /// What it counts.
    pub unit: Unit,
    /// The window, or cell of a rolling one, that it belongs to.
    pub cell: Timestamp,
    /// How much: what the entry says.
    pub amount: i64,
    /// How the counter stood at admission.
    pub seen: Seen,
}

impl<'a> Lines<'a> {
    /// What each claim asks for or holds.
    pub(super) fn held(claims: &'a [Claim]) -> Self {
        Self {
            claims,
            amount: Claim::held,
        }
    }

    /// What each claim grows by or has spent.
    pub(super) fn changes(claims: &'a [Claim]) -> Self {
        Self {
            claims,
            amount: |claim| claim.change,
        }
    }

    /// One by one. Counters of rate limits are not kept.
    pub fn iter(&self) -> impl Iterator<Item = Line<'a>> {
        let amount = self.amount;
        let budgets = self.claims.iter().filter(|claim| claim.rule.is_budget());
        budgets.map(move |claim| Line {
            identity: &claim.rule.identity,
            values: &claim.values,
            unit: claim.unit,
            cell: claim.cell,
            amount: amount(claim),
            seen: claim.seen,
        })
    }
}

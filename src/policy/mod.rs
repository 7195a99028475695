//! May this call go ahead, may it go on: rules, counters and the purse. Pure: it is told the time,
//! and what must survive a crash it hands to a [`Journal`].
//!
//! The way of a call: [`Engine::matched`] finds the rules that count it, [`Engine::room`] what is
//! left for it, [`Engine::admit`] sets its amounts aside and gives it a [`Hold`]; the hold grows
//! while the call goes on and settles when it ends. A call that finds a budget busy waits in
//! order:
//!
//! ```ignore
//! let mut matched = engine.matched(&subject, clock.wall())?;
//! if let Some(recalling) = engine.recalling(&mut matched, clock.wall()) {
//!     recalling.await?;
//! }
//! let mut deadline = None;
//! let hold = loop {
//!     let mut refused = match engine.admit(matched, amounts, &subject, clock.wall()) {
//!         Ok(hold) => break hold,
//!         Err(refused) => refused,
//!     };
//!     let Some(wait) = refused.wait() else {
//!         return Err(engine.refuse(*refused, &subject, clock.wall()));
//!     };
//!     let deadline = *deadline.get_or_insert(clock.mono() + wait.longest);
//!     // Also asks again once `wait.again` is over.
//!     if timeout_at(deadline, wait.place).await.is_err() {
//!         return Err(engine.refuse(*refused, &subject, clock.wall()));
//!     }
//!     matched = refused.again()?;
//! };
//! ```

mod adjust;
mod admission;
mod balance;
mod bring;
mod config;
mod counter;
mod engine;
mod hold;
mod index;
mod journal;
mod listing;
mod matcher;
mod purse;
mod queue;
mod rate;
mod refused;
mod rule;
mod scope;
mod slots;
mod subject;
mod table;
mod tally;
mod threshold;
mod told;
mod window;
mod wording;

pub use adjust::AdjustError;
pub use config::{
    Config, Count, Cut, LimitConfig, Match, Missing, Name, OnExhausted, Patterns, RateLimit,
    RuleConfig, Unbounded, Unmetered, Zone,
};
pub use counter::{Raise, Recalled, Seen, Standing, Unit, Verdict};
pub use engine::{Denied, Engine, Matched, Room, RuleError, Wanted};
pub use hold::Hold;
pub use journal::{
    Adjustment, Change, CounterName, Durable, Entry, Held, HoldId, Journal, JournalDown, Line,
    Lines, Order, Ordered, Position, Recalling,
};
pub use listing::{Budget, Reach};
pub use matcher::{Matcher, globs, values_of};
pub use purse::Purse;
pub use queue::Place;
pub use refused::{Refused, Wait};
pub use rule::window_of;
pub use scope::Per;
pub use subject::{Amounts, Charge, Classes, Ending, Subject};
pub use tally::Counts;
pub use threshold::{Crossing, Fraction, Level, Thresholds};
pub use told::Told;
pub use window::Window;
pub use wording::amount_text;

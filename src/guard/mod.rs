//! What a call must pass besides limits: guards. Pure: told the time, and how calls ended.
//!
//! A guard is asked right before the rules are ([`Guards::ask`]). It says nothing, or something: a
//! note on the span, an alert, a delay, a refusal. One that wants to know how the call ended leaves
//! a [`Watch`] with it. To add one: its file, its settings in `config.rs`, its field in [`Guards`]
//! and its line in `Guards::all`.

mod breakers;
mod circuit;
mod config;
mod conversations;
mod kill;
mod loops;
mod model;
mod models;
mod repeats;
mod retries;

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    base::clock::{Instant, Timestamp},
    call::{
        facts::{RequestFacts, Spends},
        labels::Source,
        refusal::Refusal,
    },
    policy::Subject,
};

pub use breakers::{BreakerCounts, Tripped};
pub use config::{
    Breaker, Call, Config, Ladder, Loop, ModelRule, Models, RetryStorm, Session, Slow, Times,
};
pub use conversations::{Conversations, MAX_CONVERSATION_BYTES};
pub use kill::{BY as KILL, InvalidSelector, Kill, Kills, Selector, TooManyKills, in_words};
pub use repeats::MAX_REPEATS;
pub use retries::{BY as RETRY_STORM, MAX_STORMS};

/// The longest that guards keep a call waiting, whatever they say.
pub const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// What looks at calls before they go ahead.
pub trait Guard: fmt::Debug + Send + Sync {
    /// Looks at a call, and says what it has to say of it. A call that is refused by another guard
    /// or by a rule afterwards drops what was left with it, untold.
    fn ask(&self, call: &Asked<'_>, now: Now, answer: &mut Answer);
}

/// What is left with a call that was asked about, to be told how it ended. Dropped untold, the call
/// was never let through.
pub trait Watch: Send + Sync {
    /// The first byte of the answer's body has come, so long after the call was sent, of an answer
    /// with this status. What it says goes on the call's span.
    fn began(&mut self, _status: u16, _waited: Duration, _now: Now) -> Option<Finding> {
        None
    }

    /// The call has ended. What it says goes on the call's span.
    fn ended(self: Box<Self>, how: &Ended, now: Now) -> Option<Finding>;
}

/// The time, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For dates.
    pub wall: Timestamp,
    /// For durations.
    pub mono: Instant,
}

/// The call that is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// What rules are told of it.
    pub subject: &'a Subject<'a>,
    /// What its request says.
    pub request: &'a RequestFacts,
    /// What a call like it costs.
    pub spends: Spends,
    /// The sources of labels that limits believe; empty: all.
    pub trusted: &'a [Source],
    /// What is known of calls like it before it.
    pub again: Again,
}

/// What is known of calls like one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Again {
    /// Which attempt of one logical call it is: 1 for the first.
    pub attempt: u32,
    /// A hash of who asks what, body included; `None` if the body is not held or nobody wants it
    /// ([`Guards::want_conversations`]).
    pub alike: Option<u64>,
}

/// What guards have said of a call, and what they left with it.
#[derive(Default)]
pub struct Answer {
    /// In the order in which they were asked; a refusal is the last.
    pub findings: Vec<Finding>,
    /// To be told how the call ended.
    pub watches: Vec<Box<dyn Watch>>,
}

/// What a guard says of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which guard, as `x-tollgate-blocked-by` has it: `loop.same-tool`.
    pub by: Box<str>,
    /// Why, in a few words without anything that the caller wrote but names.
    pub says: Box<str>,
    /// What is to be done.
    pub action: Action,
}

/// What a guard has done; each more than the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The span says it.
    Tag,
    /// The log says it too, and the span has an event, which alerts are made of.
    Alert,
    /// As an alert, and the call waits so long before it goes on.
    Slow(Duration),
    /// The call does not go on.
    Refuse(Box<Refusal>),
}

impl Action {
    /// The word for it in metrics and on spans.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Tag => "tag",
            Self::Alert => "alert",
            Self::Slow(_) => "slow",
            Self::Refuse(_) => "refuse",
        }
    }
}

/// How a call ended that was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What became of it.
    pub outcome: Outcome,
    /// From when it was sent to the first byte of the answer's body, or to the end if none came.
    pub waited: Duration,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not sent: a rule refused it, or the client left before.
    NotSent,
    /// The provider could not be reached, broke off, or did not answer in time.
    Failed,
    /// The provider answered with this status, and what it said has come.
    Answered(u16),
    /// The client left, or we ended it, before the answer's end.
    Left,
}

impl Answer {
    /// Says something.
    pub fn say(&mut self, by: &str, says: impl Into<Box<str>>, action: Action) {
        self.findings.push(Finding {
            by: Box::from(by),
            says: says.into(),
            action,
        });
    }

    /// Refuses the call in the words of `refusal`, which its span shows too.
    pub fn refuse(&mut self, refusal: Refusal) {
        let (by, says) = (refusal.by.clone(), refusal.message.clone());
        self.say(&by, says, Action::Refuse(Box::new(refusal)));
    }

    /// Leaves something with the call, to be told how it ended.
    pub fn watch(&mut self, watch: impl Watch + 'static) {
        self.watches.push(Box::new(watch));
    }

    fn is_refusal(&self) -> bool {
        let last = self.findings.last();
        last.is_some_and(|finding| matches!(finding.action, Action::Refuse(_)))
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("findings", &self.findings)
            .field("watches", &self.watches.len())
            .finish()
    }
}

/// The guards in force: an immutable snapshot, over states that outlive it.
#[derive(Debug, Default)]
pub struct Guards {
    kills: Arc<Kills>,
    models: models::Access,
    loops: loops::Loops,
    call: Call,
    retries: retries::Retries,
    breakers: breakers::Breakers,
}

impl Guards {
    /// Puts `config` in force. `before`: the guards until now, whose states go on where their
    /// settings are unchanged; kills go on in any case.
    pub fn build(config: &Config, before: Option<&Self>) -> Self {
        Self {
            kills: before
                .map(|before| Arc::clone(&before.kills))
                .unwrap_or_default(),
            models: models::Access::new(&config.models),
            loops: loops::Loops::new(&config.loops, before.map(|before| &before.loops)),
            call: config.call,
            retries: retries::Retries::new(
                config.retry_storm.as_ref(),
                before.map(|before| &before.retries),
            ),
            breakers: breakers::Breakers::build(
                &config.breakers,
                before.map(|before| &before.breakers),
            ),
        }
    }

    /// The kills.
    pub const fn kills(&self) -> &Arc<Kills> {
        &self.kills
    }

    /// What a single call may take at most.
    pub const fn call(&self) -> &Call {
        &self.call
    }

    /// The circuits that are not closed.
    pub fn tripped(&self, now: Instant) -> Vec<Tripped> {
        self.breakers.tripped(now)
    }

    /// What breakers hold.
    pub fn breaker_counts(&self) -> BreakerCounts {
        self.breakers.counts()
    }

    /// Whether one wants to know what conversations have done so far ([`RequestFacts::steps`]), and
    /// which requests are alike.
    pub const fn want_conversations(&self) -> bool {
        !self.loops.is_empty()
    }

    /// For how many values storms of retries are watched for, and how many calls were not watched
    /// since there were too many.
    pub fn storms(&self) -> (usize, u64) {
        self.retries.counts()
    }

    /// How many different requests are counted, and how many were forgotten before their time.
    pub fn repeats(&self) -> (usize, u64) {
        let repeats = self.loops.repeats();
        (repeats.len(), repeats.forgotten())
    }

    /// What is known of conversations that providers keep.
    pub fn conversations(&self) -> &Conversations {
        self.loops.conversations()
    }

    /// Asks whether a conversation turns in circles in which a call goes on that was let in.
    pub fn ask_of_circles(&self, call: &Asked<'_>, now: Now) -> Answer {
        let mut answer = Answer::default();
        self.loops.ask(call, now, &mut answer);
        answer
    }

    /// Whether a call may go on of which nothing can be read any more, though it was let in: its model
    /// must be known and allowed.
    ///
    /// # Errors
    /// It must not.
    pub fn unreadable(&self, call: &Asked<'_>, now: Now) -> Result<(), Refusal> {
        let mut answer = Answer::default();
        self.models.ask(call, now, &mut answer);
        match answer.findings.pop().map(|finding| finding.action) {
            Some(Action::Refuse(refusal)) => Err(*refusal),
            _ => Ok(()),
        }
    }

    /// Each guard, in the order in which they are asked.
    fn all(&self) -> [&dyn Guard; 5] {
        [
            &self.kills,
            &self.models,
            &self.loops,
            &self.retries,
            &self.breakers,
        ]
    }

    /// Asks each guard, until one refuses.
    pub fn ask(&self, call: &Asked<'_>, now: Now) -> Answer {
        let mut answer = Answer::default();
        for guard in self.all() {
            guard.ask(call, now, &mut answer);
            if answer.is_refusal() {
                // Those who were asked before it are not told of a call that never was.
                answer.watches.clear();
                break;
            }
        }
        answer
    }
}

//! The section `guards`, as it is written.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use crate::{
    base::{money::Usd, units},
    policy::{
        Count, Fraction, LimitConfig, Match, Missing, Name, OnExhausted, Patterns, Per, RuleConfig,
        Window,
    },
};

/// What calls must pass besides limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which models may be called.
    pub models: Models,
    /// What a single call may take at most.
    pub call: Call,
    /// What all calls of a session may take at most.
    pub session: Session,
    /// When calls are kept from a provider that fails.
    pub breakers: Vec<Breaker>,
    /// Loops that are noticed, and stopped.
    pub loops: Vec<Loop>,
    /// When retries are refused for a while. `None`: never.
    pub retry_storm: Option<RetryStorm>,
}

/// What a single call may take at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Call {
    /// Output tokens of all its choices.
    pub max_output_tokens: Option<u64>,
    /// Input tokens, at most that its input can have.
    pub max_input_tokens: Option<u64>,
    /// US dollars.
    pub max_usd: Option<Usd>,
    /// What becomes of a call that may take more.
    pub on_exhausted: OnExhausted,
}

impl Call {
    /// Whether it caps nothing.
    pub const fn is_empty(&self) -> bool {
        let tokens = [self.max_output_tokens, self.max_input_tokens];
        matches!(tokens, [None, None]) && self.max_usd.is_none()
    }
}

/// What all calls of a session may take at most: a budget per session, without end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Session {
    /// Calls.
    pub max_calls: Option<u64>,
    /// Output tokens.
    pub max_output_tokens: Option<u64>,
    /// US dollars.
    pub max_usd: Option<Usd>,
    /// What becomes of a call that may take more.
    pub on_exhausted: OnExhausted,
    /// What becomes of a call that names no session; as `budgets.missing` by default.
    pub missing: Option<Missing>,
}

impl Session {
    /// The budget that it stands for; `None`: it limits nothing.
    pub fn rule(&self) -> Option<RuleConfig> {
        let limit = LimitConfig {
            usd: self.max_usd,
            output_tokens: self.max_output_tokens,
            requests: self.max_calls,
            ..LimitConfig::default()
        };
        (limit != LimitConfig::default()).then_some(())?;
        Some(RuleConfig {
            name: Name::new("guards.session")?,
            matches: Match::default(),
            per: vec![Per::Session],
            window: Window::Total,
            limit,
            count: Count::default(),
            on_exhausted: self.on_exhausted,
            missing: self.missing,
        })
    }
}

/// Which models may be called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Models {
    /// Only these, for every call; all by default.
    pub allow: Option<Patterns>,
    /// None of these, for every call.
    pub deny: Option<Patterns>,
    /// Further lists for some calls, which must pass all that are for them.
    pub rules: Vec<ModelRule>,
}

/// Which models some calls may name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelRule {
    /// Which calls it is for; all by default.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Only these; all by default.
    pub allow: Option<Patterns>,
    /// None of these.
    pub deny: Option<Patterns>,
}

/// A circuit breaker.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    /// Its name, as refusals have it.
    pub name: Name,
    /// Which calls it counts; all by default.
    #[serde(default, rename = "match")]
    pub matches: Match,
    /// One circuit for each distinct value of these; one for all by default.
    #[serde(default)]
    pub per: Vec<Per>,
    /// It opens when this part of the calls failed. `None`: failures do not open it.
    #[serde(default)]
    pub errors: Option<Fraction>,
    /// It opens when this part of the calls was slow. `None`: slowness does not open it.
    #[serde(default)]
    pub slow: Option<Slow>,
    /// Of so many calls at least.
    #[serde(default = "minimum")]
    pub minimum: u32,
    /// Calls of that long count.
    #[serde(default = "window", with = "units::duration")]
    pub window: Duration,
    /// How long no call goes, once it has opened.
    #[serde(default = "open", with = "units::duration")]
    pub open: Duration,
    /// How many calls try whether it is over, all of which must go well.
    #[serde(default = "half_open")]
    pub half_open: u32,
}

impl Breaker {
    /// How long calls that try whether it is over are waited for, until others try it too.
    pub(super) fn patience(&self) -> Duration {
        let slow = self.slow.map_or(Duration::ZERO, |slow| slow.over);
        self.open.max(slow)
    }
}

/// When calls are slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slow {
    /// Their answer begins later than this after they were sent.
    #[serde(with = "units::duration")]
    pub over: Duration,
    /// The part of them that opens the breaker.
    pub part: Fraction,
}

const fn minimum() -> u32 {
    20
}

const fn window() -> Duration {
    Duration::from_mins(1)
}

const fn open() -> Duration {
    Duration::from_secs(30)
}

const fn half_open() -> u32 {
    3
}

/// Loops that are noticed, and stopped.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loop {
    /// Its name, as refusals have it.
    pub name: Name,
    /// Which calls it is for; all by default.
    #[serde(default, rename = "match")]
    pub matches: Match,
    /// Tools that may be called again and again: they are not looked at.
    #[serde(default)]
    pub except: Option<Patterns>,
    /// What is done when a tool was called so many times in a row, with the same arguments and the
    /// same result.
    #[serde(default = "Ladder::of_tools")]
    pub same_tool: Ladder,
    /// What is done when up to four such calls came so many times in turn: A, B, A, B.
    #[serde(default = "Ladder::of_tools")]
    pub alternating: Ladder,
    /// What is done when the same request came so many times, retries aside.
    #[serde(default = "Ladder::of_requests")]
    pub same_request: Ladder,
    /// For how long a request counts.
    #[serde(default = "Loop::within", with = "units::duration")]
    pub within: Duration,
    /// How long a call waits that is slowed.
    #[serde(default = "Loop::slow_by", with = "units::duration")]
    pub slow_by: Duration,
}

impl Loop {
    const fn within() -> Duration {
        Duration::from_mins(10)
    }

    const fn slow_by() -> Duration {
        Duration::from_secs(2)
    }
}

/// From how many times on what is done; a rung that is not written is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ladder {
    /// The span says it.
    pub tag: Option<Times>,
    /// The log says it too, and alerts are made of it.
    pub alert: Option<Times>,
    /// The call waits.
    pub slow: Option<Times>,
    /// The call is refused.
    pub refuse: Option<Times>,
}

impl Ladder {
    const fn of_tools() -> Self {
        Self {
            tag: Some(Times(3)),
            alert: Some(Times(4)),
            slow: Some(Times(5)),
            refuse: Some(Times(6)),
        }
    }

    /// The same question asked often is no loop by itself.
    const fn of_requests() -> Self {
        Self {
            tag: Some(Times(5)),
            alert: Some(Times(10)),
            slow: None,
            refuse: None,
        }
    }

    /// The highest number that means anything.
    pub(super) fn top(&self) -> u32 {
        let rungs = [self.tag, self.alert, self.slow, self.refuse];
        rungs
            .into_iter()
            .flatten()
            .map(|times| times.0)
            .max()
            .unwrap_or(0)
    }
}

/// How many times: once is no loop, and of a conversation only the last steps are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times(pub(super) u32);

impl Times {
    const MOST: u32 = 32;
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let times = u32::deserialize(deserializer)?;
        if (2..=Self::MOST).contains(&times) {
            return Ok(Self(times));
        }
        let most = Self::MOST;
        let message = format!("{times} times: expected 2 to {most}, since once is no loop");
        Err(de::Error::custom(message))
    }
}

/// When retries are refused for a while, since there are too many.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryStorm {
    /// Which calls it counts; all by default.
    #[serde(rename = "match")]
    pub matches: Match,
    /// One count for each distinct value of these.
    pub per: Vec<Per>,
    /// It begins when there were more retries than so many for each first attempt.
    pub ratio: u32,
    /// Of so many retries at least.
    pub minimum: u32,
    /// Calls of that long count.
    #[serde(with = "units::duration")]
    pub window: Duration,
    /// How long no retry goes then; twice as long each time that it begins again.
    #[serde(with = "units::duration")]
    pub pause: Duration,
    /// The longest that it becomes.
    #[serde(with = "units::duration")]
    pub longest_pause: Duration,
    /// The most attempts of one call, after which each one waits longer.
    pub attempts: u32,
}

impl Default for RetryStorm {
    fn default() -> Self {
        Self {
            matches: Match::default(),
            per: vec![Per::Provider],
            ratio: 1,
            minimum: 20,
            window: Duration::from_mins(1),
            pause: Duration::from_secs(5),
            longest_pause: Duration::from_mins(2),
            attempts: 10,
        }
    }
}

//! The section `guards`, as it is written.

use std::time::Duration;

use serde::Deserialize;

use crate::{
    base::units,
    policy::{Fraction, Match, Name, Patterns, Per},
};

/// What calls must pass besides limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which models may be called.
    pub models: Models,
    /// When calls are kept from a provider that fails.
    pub breakers: Vec<Breaker>,
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

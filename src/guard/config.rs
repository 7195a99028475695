//! The section `guards`, as it is written.

use serde::Deserialize;

use crate::policy::{Match, Patterns};

/// What calls must pass besides limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which models may be called.
    pub models: Models,
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

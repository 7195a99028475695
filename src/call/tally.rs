//! Calls summed up: what reports are made of.

use serde::{Deserialize, Serialize};

use super::labels::Label;
use crate::base::money::Usd;

/// What calls can be grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dimension {
    /// The agent that called.
    Agent,
    /// The model that was asked for, without regard to the dated version of it that answered;
    /// another one that answered instead of it.
    Model,
    /// The exact model that answered, else the one asked for.
    Version,
    /// The provider that was called.
    Provider,
    /// The user that the call was for.
    User,
    /// The project.
    Project,
    /// The environment.
    Environment,
    /// The conversation or session.
    Session,
    /// The workflow.
    Workflow,
    /// The day on which it began, in UTC: `2026-11-22`.
    Day,
}

impl Dimension {
    /// Every dimension, in the order in which they are listed to the user.
    pub const ALL: [Self; 10] = [
        Self::Agent,
        Self::Model,
        Self::Version,
        Self::Provider,
        Self::User,
        Self::Project,
        Self::Environment,
        Self::Session,
        Self::Workflow,
        Self::Day,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => Label::Agent.name(),
            Self::Model => "model",
            Self::Version => "version",
            Self::Provider => "provider",
            Self::User => Label::User.name(),
            Self::Project => Label::Project.name(),
            Self::Environment => Label::Environment.name(),
            Self::Session => Label::Session.name(),
            Self::Workflow => Label::Workflow.name(),
            Self::Day => "day",
        }
    }
}

/// There is no dimension of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("calls cannot be grouped by `{0}`: expected {names}", names = names())]
pub struct UnknownDimension(String);

fn names() -> String {
    Dimension::ALL.map(Dimension::name).join(", ")
}

impl std::str::FromStr for Dimension {
    type Err = UnknownDimension;

    fn from_str(name: &str) -> Result<Self, UnknownDimension> {
        Self::ALL
            .into_iter()
            .find(|dimension| dimension.name() == name.trim())
            .ok_or_else(|| UnknownDimension(name.trim().to_owned()))
    }
}

/// The calls of one group, summed up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The group's value in each dimension; `None` where its calls have none.
    pub group: Vec<Option<String>>,
    /// The sums.
    pub sums: Sums,
}

/// What a number of calls come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Calls, those included that failed or were refused.
    pub calls: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Calls that we refused.
    pub blocked: u64,
    /// All input tokens that are known of.
    pub input_tokens: u64,
    /// Part of the input: read from a cache.
    pub cache_read_tokens: u64,
    /// Part of the input: written to a cache.
    pub cache_write_tokens: u64,
    /// All output tokens that are known of.
    pub output_tokens: u64,
    /// Part of the output: spent on thinking.
    pub reasoning_tokens: u64,
    /// Calls whose tokens are not what the provider reported.
    pub estimated_calls: u64,
    /// Calls whose cost is not known, which `cost_usd` lacks.
    pub unknown_cost_calls: u64,
    /// What the others cost.
    pub cost_usd: Usd,
    /// Part of the calls: further attempts of one logical call.
    pub retries: u64,
    /// Part of the cost: what these cost.
    pub retry_cost_usd: Usd,
}

impl std::ops::AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        let pairs = [
            (&mut self.calls, other.calls),
            (&mut self.errors, other.errors),
            (&mut self.blocked, other.blocked),
            (&mut self.input_tokens, other.input_tokens),
            (&mut self.cache_read_tokens, other.cache_read_tokens),
            (&mut self.cache_write_tokens, other.cache_write_tokens),
            (&mut self.output_tokens, other.output_tokens),
            (&mut self.reasoning_tokens, other.reasoning_tokens),
            (&mut self.estimated_calls, other.estimated_calls),
            (&mut self.unknown_cost_calls, other.unknown_cost_calls),
            (&mut self.retries, other.retries),
        ];
        for (sum, more) in pairs {
            *sum = sum.saturating_add(more);
        }
        self.cost_usd += other.cost_usd;
        self.retry_cost_usd += other.retry_cost_usd;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dimension_is_known_by_its_name() {
        for dimension in Dimension::ALL {
            assert_eq!(dimension.name().parse(), Ok(dimension));
        }
        let error = "agnet".parse::<Dimension>().unwrap_err().to_string();
        assert!(
            error.contains("`agnet`") && error.contains("agent, model"),
            "{error}"
        );
    }
}

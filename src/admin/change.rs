//! Changes of budgets by hand: their bodies, and what is answered.

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Adjust, State,
    answer::{Answer, Problem, json},
    api,
};
use crate::{
    base::{moment, money::Usd},
    policy::{self, AdjustError},
};

/// The longest name of whoever changes something, in characters.
const LONGEST_NAME: usize = 128;

/// The body of `POST /api/v1/budgets/NAME/raise`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raise {
    /// By how much.
    pub usd: Usd,
    /// Until when, if that is before the end of the window: a time, or a length from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Who raises it, for the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
}

/// The body of `POST /api/v1/budgets/NAME/reset`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    /// Who resets it, for the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
}

/// Adds to the limit of the budget `name`.
pub(super) fn raise(state: &State, name: &str, body: &Bytes) -> Result<(), Problem> {
    let Raise { usd, until, who } = read(body)?;
    if usd <= Usd::ZERO {
        return Err(Problem::bad("`usd` must be above zero"));
    }
    let now = state.clock.wall();
    let until = until.map(|until| moment::ahead(&until, now)).transpose();
    let until = until.map_err(|error| Problem::bad(format!("`until`: {error}")))?;
    if until.is_some_and(|until| until <= now) {
        return Err(Problem::bad("`until` is in the past"));
    }
    let raise = policy::Raise {
        amount: usd.nanos(),
        until,
    };
    adjust(state, name, Adjust::Raise(raise), who)
}

/// Credits the budget `name` with what was spent.
pub(super) fn reset(state: &State, name: &str, body: &Bytes) -> Result<(), Problem> {
    let Reset { who } = read(body)?;
    adjust(state, name, Adjust::Reset, who)
}

pub(super) fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    let body = if body.is_empty() { b"{}" } else { &body[..] };
    serde_json::from_slice(body).map_err(|error| Problem::bad(format!("the body: {error}")))
}

/// Says of a change that is made that it cannot be shown.
pub(super) fn not_shown(why: &Problem) -> Problem {
    let message = format!("the budget was changed, but it cannot be shown now: {why}");
    Problem::new(why.status, message)
}

/// Who makes a change, as the ledger has it.
pub(super) fn named(who: Option<String>) -> String {
    let who = who.unwrap_or_else(|| "admin API".to_owned());
    who.chars()
        .filter(|letter| !letter.is_control())
        .take(LONGEST_NAME)
        .collect()
}

fn adjust(state: &State, name: &str, change: Adjust, who: Option<String>) -> Result<(), Problem> {
    let who = named(who);
    state.program.adjust(name, change, &who).map_err(|error| {
        let status = match error {
            AdjustError::NoSuchRule(..) => StatusCode::NOT_FOUND,
            AdjustError::Whose(..) | AdjustError::NoUsd(_) | AdjustError::TooMuch(_) => {
                StatusCode::BAD_REQUEST
            },
            AdjustError::Down(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(status, error.to_string())
    })?;
    let what = match change {
        Adjust::Raise(_) => "A budget was raised by hand",
        Adjust::Reset => "A budget was reset by hand",
    };
    tracing::info!(budget = name, who, "{what}");
    Ok(())
}

/// The counters of the budget `name` as they are after a change.
pub(super) fn changed(state: &State, name: &str) -> Result<Answer, Problem> {
    let mut rows = api::rows(state)?;
    rows.retain(|row| row.full_name() == name);
    Ok(json(&rows))
}

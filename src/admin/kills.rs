//! The kill switch: what is ordered and lifted, and how it is listed.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    State,
    answer::{Answer, Problem, json},
    change::{named, read},
};
use crate::{
    base::{clock::Timestamp, moment},
    guard::{Kill, Selector},
    policy::Order,
};

/// The longest reason, in characters.
const LONGEST_REASON: usize = 500;

/// How long a kill of single requests holds unless it is said: they never come again.
const REQUESTS: std::time::Duration = std::time::Duration::from_hours(1);

/// The body of `POST /api/v1/kills`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KillRequest {
    /// Which calls: the fields of a rule's `match`, and `request`.
    #[serde(rename = "match")]
    pub matches: Map<String, Value>,
    /// Until when, if it is not to hold until it is lifted: a time, or a length from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why; the clients of the calls are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who orders it, for the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
}

/// The body of `DELETE /api/v1/kills/ID`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiftRequest {
    /// Who lifts it, for the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
}

/// A kill, as it is listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KillRow {
    /// Its name.
    pub id: Box<str>,
    /// Which calls.
    #[serde(rename = "match")]
    pub matches: Map<String, Value>,
    /// When it was ordered.
    #[serde(serialize_with = "super::posted::text")]
    pub at: Timestamp,
    /// By whom.
    pub who: Box<str>,
    /// Why; may be empty.
    pub reason: Box<str>,
    /// When it is over by itself.
    #[serde(serialize_with = "super::posted::optional_text")]
    pub until: Option<Timestamp>,
    /// When it was lifted.
    #[serde(serialize_with = "super::posted::optional_text")]
    pub lifted_at: Option<Timestamp>,
    /// By whom.
    pub lifted_by: Option<Box<str>>,
}

/// Why a kill was not lifted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LiftError {
    /// There is none of that name.
    #[error("there is no kill {0}, or it is over")]
    NoSuchKill(String),
    /// It could not be entered, and would come back with the next start.
    #[error("{0}: the kill still holds; lift it again when that can be entered")]
    Down(#[from] crate::policy::JournalDown),
}

impl KillRow {
    /// Of a kill that holds.
    pub fn new(kill: &Kill) -> Self {
        Self {
            id: kill.id.clone(),
            matches: kill.selector.written().clone(),
            at: kill.at,
            who: kill.who.clone(),
            reason: kill.reason.clone(),
            until: kill.until,
            lifted_at: None,
            lifted_by: None,
        }
    }

    /// Of every kill that `orders` tell of, in the order in which they were ordered.
    pub fn all(orders: &[Order]) -> Vec<Self> {
        let mut rows: Vec<Self> = Vec::new();
        for order in orders {
            if let Some(ordered) = &order.ordered {
                rows.push(Self {
                    id: order.kill.clone(),
                    matches: serde_json::from_str(&ordered.selector).unwrap_or_default(),
                    at: order.at,
                    who: order.who.clone(),
                    reason: ordered.reason.clone(),
                    until: ordered.until,
                    lifted_at: None,
                    lifted_by: None,
                });
            } else if let Some(row) = rows.iter_mut().find(|row| row.id == order.kill) {
                row.lifted_at = Some(order.at);
                row.lifted_by = Some(order.who.clone());
            }
        }
        rows
    }

    /// Whether it holds.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.lifted_at.is_none() && self.until.is_none_or(|until| now < until)
    }
}

/// Stops the calls that `body` means. Does not block: the kill holds, and is to be [entered](enter).
pub(super) fn order(state: &State, body: &Bytes) -> Result<Arc<Kill>, Problem> {
    let KillRequest {
        matches,
        until,
        reason,
        who,
    } = read(body)?;
    let selector = Selector::new(matches);
    let selector = selector.map_err(|error| Problem::bad(format!("`match`: {error}")))?;
    let now = state.clock.wall();
    let until = until.map(|until| moment::ahead(&until, now)).transpose();
    let until = until.map_err(|error| Problem::bad(format!("`until`: {error}")))?;
    if until.is_some_and(|until| until <= now) {
        return Err(Problem::bad("`until` is in the past"));
    }
    let until = until.or_else(|| selector.is_for_requests().then(|| now + REQUESTS));
    let reason: String = reason
        .unwrap_or_default()
        .chars()
        .filter(|letter| !letter.is_control())
        .take(LONGEST_REASON)
        .collect();
    let kill = Arc::new(Kill::new(selector, (now, &named(who)), &reason, until));
    let ordered = state.program.kill(Arc::clone(&kill));
    ordered.map_err(|error| Problem::bad(error.to_string()))?;
    let (id, who, calls) = (&*kill.id, &*kill.who, kill.selector.to_string());
    tracing::warn!(id, who, calls, reason, "Calls are stopped by hand");
    Ok(kill)
}

/// Enters a kill that holds, and answers with it.
pub(super) fn enter(state: &State, kill: &Kill) -> Result<Answer, Problem> {
    let entered = state.program.enter(kill);
    entered.map_err(|error| unavailable(error.to_string()))?;
    Ok(json(&KillRow::new(kill)))
}

/// Says of a kill that was not entered what is the case, and how to lift it.
pub(super) fn not_entered(kill: &Kill, why: &Problem) -> Problem {
    let id = &kill.id;
    tracing::error!(id = &**id, %why, "A kill is not entered: it holds until the next start");
    unavailable(format!(
        "kill {id} holds, but it is not entered, and the next start does not know of it: {why}. \
         Lift it by that name"
    ))
}

/// Lifts the kill `id`, and answers with it.
pub(super) fn lift(state: &State, id: &str, body: &Bytes) -> Result<Answer, Problem> {
    let LiftRequest { who } = read(body)?;
    let who = named(who);
    let lifted = state.program.lift(id, &who);
    let lifted = lifted.map_err(|error| match error {
        LiftError::NoSuchKill(_) => Problem::new(StatusCode::NOT_FOUND, error.to_string()),
        LiftError::Down(_) => unavailable(error.to_string()),
    })?;
    tracing::warn!(id, who, "A kill was lifted by hand");
    let row = KillRow {
        lifted_at: Some(state.clock.wall()),
        lifted_by: Some(who.into_boxed_str()),
        ..KillRow::new(&lifted)
    };
    Ok(json(&row))
}

/// The kills that hold.
pub(super) fn list(state: &State) -> Answer {
    let kills = state.program.kills();
    let rows: Vec<KillRow> = kills.iter().map(|kill| KillRow::new(kill)).collect();
    json(&rows)
}

fn unavailable(message: String) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::JournalDown;

    #[test]
    fn a_kill_that_is_not_entered_is_named_and_one_that_is_listed_can_be_read() {
        let Value::Object(written) = json!({"agent": "a", "tags": {"t": ["x", "y"]}}) else {
            panic!("no object");
        };
        let at = Timestamp::from_secs(1_795_618_800);
        let selector = Selector::new(written).unwrap();
        let kill = Kill::new(selector, (at, "ada"), "it loops", Some(at));
        let said = not_entered(&kill, &unavailable(JournalDown.to_string()));
        assert_eq!(said.status, 503);
        for part in [&*kill.id, "holds", "journal cannot be written"] {
            assert!(said.message.contains(part), "no {part} in {said}");
        }
        let row = KillRow::new(&kill);
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(serde_json::from_str::<KillRow>(&text).unwrap(), row);
    }
}

//! What doctor has found: of what, whether it is well, and what to do if not.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// What is looked at, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Part {
    /// The configuration, and what is on this machine.
    Here,
    /// Where spans go.
    Destinations,
    /// Budgets and rate limits.
    Limits,
}

impl Part {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Here, Self::Destinations, Self::Limits];
}

/// Whether it is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// It works.
    Ok,
    /// It may not be meant so, or nobody can say.
    Unsure,
    /// It does not work.
    Failed,
}

/// What was found of one thing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Finding {
    pub(super) part: Part,
    /// Of what, as the user knows it.
    pub(super) name: String,
    pub(super) verdict: Verdict,
    /// What was seen.
    pub(super) says: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
    /// How long it took.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub(super) took: Duration,
}

impl Finding {
    /// It is well.
    pub(super) fn ok(part: Part, name: &str, says: impl Into<String>) -> Self {
        Self {
            part,
            name: name.to_owned(),
            verdict: Verdict::Ok,
            says: says.into(),
            advice: None,
            took: Duration::ZERO,
        }
    }

    /// Nobody can say; `advice` is what to do about that.
    pub(super) fn unsure(part: Part, name: &str, says: impl Into<String>, advice: &str) -> Self {
        Self {
            verdict: Verdict::Unsure,
            advice: Some(advice.to_owned()),
            ..Self::ok(part, name, says)
        }
    }

    /// It does not work.
    pub(super) fn failed(part: Part, name: &str, says: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Failed,
            ..Self::ok(part, name, says)
        }
    }

    /// With what to do about it.
    pub(super) fn with_advice(mut self, advice: Option<impl Into<String>>) -> Self {
        self.advice = advice.map(Into::into);
        self
    }

    /// With the time that it took.
    pub(super) const fn after(mut self, took: Duration) -> Self {
        self.took = took;
        self
    }
}

fn seconds<S: Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(took.as_secs_f64())
}

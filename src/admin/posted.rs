//! What was entered in the ledger, for accounting: one line an entry and budget counter.

use serde::{Serialize, Serializer};

use super::amount::Amount;
use crate::{
    analysis::report::csv_field,
    base::{
        clock::Timestamp,
        id::{RequestId, SpanId},
    },
    call::{
        labels::{Label, Labels},
        usage::UsageSource,
    },
    ledger::{Call, Post, Record},
    policy::{Adjustment, Change, CounterName},
};

/// What one entry says of one counter. The amounts of a counter sum up to what it has spent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Posted {
    /// When the call was admitted, or the change was made.
    #[serde(serialize_with = "text")]
    pub time: Timestamp,
    /// What it is of.
    pub kind: What,
    /// The call.
    pub request_id: Option<RequestId>,
    /// The span that shows what it was charged.
    pub span_id: Option<SpanId>,
    /// The provider that was asked.
    pub provider: Option<String>,
    /// The model that answered, else the one that was asked for.
    pub model: Option<String>,
    /// Who the call was for.
    pub agent: Option<String>,
    /// As `agent`.
    pub user: Option<String>,
    /// As `agent`.
    pub project: Option<String>,
    /// As `agent`.
    pub environment: Option<String>,
    /// As `agent`.
    pub session: Option<String>,
    /// As `agent`.
    pub workflow: Option<String>,
    /// The budget.
    pub budget: String,
    /// Whose counter: `user=42`.
    #[serde(rename = "for")]
    pub values: Option<String>,
    /// The first instant of the window that it counts in; of the cell, if that is a rolling one;
    /// absent if it has no end.
    #[serde(serialize_with = "optional_text")]
    pub window: Option<Timestamp>,
    /// `usd`, `tokens` or `requests`.
    pub unit: &'static str,
    /// What was spent: below zero for a credit.
    pub amount: Amount,
    /// How that is known.
    pub source: Option<UsageSource>,
    /// The prices that it was charged by, with their version: `genai-prices 0.2.3`.
    pub pricing_version: Option<String>,
    /// By how much the limit was raised.
    pub raise: Option<Amount>,
    /// Until when; absent: as long as the window.
    #[serde(serialize_with = "optional_text")]
    pub raised_until: Option<Timestamp>,
    /// Who changed it.
    pub who: Option<String>,
}

/// What an entry is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A call that was settled.
    Call,
    /// A call whose end is not known, since Tollgate was killed: charged all that it held.
    Crashed,
    /// A change by hand.
    Change,
}

impl Posted {
    /// The names of the fields, in the order of [`csv`](Self::csv); those of the JSON.
    pub const NAMES: [&str; 22] = [
        "time",
        "kind",
        "request_id",
        "span_id",
        "provider",
        "model",
        "agent",
        "user",
        "project",
        "environment",
        "session",
        "workflow",
        "budget",
        "for",
        "window",
        "unit",
        "amount",
        "source",
        "pricing_version",
        "raise",
        "raised_until",
        "who",
    ];

    /// What `records` say, the entry of one call or change at `at`. Nothing of a call that was
    /// refused.
    pub fn of(at: Timestamp, records: &[Record]) -> Vec<Self> {
        let call = records.iter().find_map(|record| match record {
            Record::Admitted { call, .. } => Some(call),
            _ => None,
        });
        let mut held = Vec::new();
        for record in records {
            match record {
                Record::Admitted { lines, .. } | Record::Grown { lines, .. } => {
                    held.extend(lines.iter().map(|line| Self::held(at, line, call)));
                },
                Record::Settled {
                    request_id,
                    charge,
                    lines,
                    ending,
                    ..
                } => {
                    let ending = ending.as_ref();
                    let settled = |line| Self {
                        kind: What::Call,
                        request_id: Some(*request_id),
                        source: Some(charge.source),
                        span_id: ending.map(|ending| ending.span_id),
                        pricing_version: ending
                            .and_then(|ending| ending.prices.as_deref().map(str::to_owned)),
                        ..Self::held(at, line, call)
                    };
                    let answered = ending.and_then(|ending| ending.model.as_deref());
                    let mut settled: Vec<_> = lines.iter().map(settled).collect();
                    for posted in &mut settled {
                        posted.model = answered.map(str::to_owned).or_else(|| posted.model.take());
                    }
                    return settled;
                },
                Record::Adjusted(adjustment) => {
                    let changes = adjustment.changes.iter();
                    return changes
                        .map(|change| Self::changed(adjustment, change))
                        .collect();
                },
                Record::Refused { .. }
                | Record::Ordered(_)
                | Record::Awaited { .. }
                | Record::Billed(_)
                | Record::Crossed(_) => {},
            }
        }
        held
    }

    fn new(kind: What, time: Timestamp, counter: &CounterName, cell: Timestamp) -> Self {
        let values = &counter.values;
        Self {
            time,
            kind,
            request_id: None,
            span_id: None,
            provider: None,
            model: None,
            agent: None,
            user: None,
            project: None,
            environment: None,
            session: None,
            workflow: None,
            budget: counter.rule().to_owned(),
            values: (!values.is_empty()).then(|| values.to_string()),
            window: (cell != Timestamp::default()).then_some(cell),
            unit: counter.unit.name(),
            amount: Amount {
                unit: counter.unit,
                count: 0,
            },
            source: None,
            pricing_version: None,
            raise: None,
            raised_until: None,
            who: None,
        }
    }

    fn held(at: Timestamp, line: &Post, call: Option<&Call>) -> Self {
        let mut posted = Self::new(What::Crashed, at, &line.counter, line.cell);
        posted.amount.count = line.amount;
        posted.source = Some(UsageSource::Ceiling);
        if let Some(call) = call {
            posted.request_id = Some(call.request_id);
            posted.span_id = Some(call.span_id);
            posted.provider = (!call.provider.is_empty()).then(|| call.provider.to_string());
            posted.model = call.model.as_deref().map(str::to_owned);
            posted.label(&call.labels);
        }
        posted
    }

    fn label(&mut self, labels: &Labels) {
        for (label, place) in [
            (Label::Agent, &mut self.agent),
            (Label::User, &mut self.user),
            (Label::Project, &mut self.project),
            (Label::Environment, &mut self.environment),
            (Label::Session, &mut self.session),
            (Label::Workflow, &mut self.workflow),
        ] {
            *place = labels.get(label).map(str::to_owned);
        }
    }

    fn changed(adjustment: &Adjustment, change: &Change) -> Self {
        let mut posted = Self::new(What::Change, adjustment.at, &change.counter, change.cell);
        posted.amount.count = change.spent;
        posted.raise = change.raise.map(|raise| Amount {
            unit: change.counter.unit,
            count: raise.amount,
        });
        posted.raised_until = change.raise.and_then(|raise| raise.until);
        posted.who = Some(adjustment.who.to_string());
        posted
    }

    /// As a line of CSV, without its end.
    pub fn csv(&self) -> String {
        let json = serde_json::to_value(self).unwrap_or_default();
        let fields = Self::NAMES.map(|name| match json.get(name) {
            None | Some(serde_json::Value::Null) => String::new(),
            Some(serde_json::Value::String(text)) => csv_field(Some(text)).into_owned(),
            Some(other) => other.to_string(),
        });
        fields.join(",")
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field")]
pub(super) fn text<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

#[expect(clippy::ref_option, reason = "serde passes the field")]
pub(super) fn optional_text<S: Serializer>(
    at: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.collect_str(at),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::{Raise, Unit};

    #[test]
    fn a_change_says_who_and_what_and_is_the_same_in_both_forms() {
        let change = |spent, raise| Change {
            counter: CounterName {
                identity: Arc::from("per_user per=user window=day zone=UTC"),
                values: Arc::from("user=a,b"),
                unit: Unit::Usd,
            },
            cell: Timestamp::from_secs(1_795_564_800),
            spent,
            raise,
        };
        let raise = Raise {
            amount: 2_500_000_000,
            until: Some(Timestamp::from_secs(1_795_618_800)),
        };
        let records = [Record::Adjusted(Adjustment {
            at: Timestamp::from_secs(1_795_600_000),
            who: Box::from("ada \"the\" admin"),
            changes: vec![change(-1_000_000_000, None), change(0, Some(raise))],
        })];
        let posted = Posted::of(Timestamp::default(), &records);
        let lines: Vec<_> = posted.iter().map(Posted::csv).collect();
        assert_eq!(
            lines,
            [
                "2026-11-25T09:46:40.000000Z,change,,,,,,,,,,,per_user,\"user=a,b\",\
                 2026-11-25T00:00:00.000000Z,usd,-1.000000000,,,,,\"ada \"\"the\"\" admin\"",
                "2026-11-25T09:46:40.000000Z,change,,,,,,,,,,,per_user,\"user=a,b\",\
                 2026-11-25T00:00:00.000000Z,usd,0.000000000,,,2.500000000,\
                 2026-11-25T15:00:00.000000Z,\"ada \"\"the\"\" admin\"",
            ]
        );
        let json = serde_json::to_value(&posted[0]).unwrap();
        let mut names: Vec<_> = json.as_object().unwrap().keys().collect();
        names.sort_unstable();
        let mut expected = Posted::NAMES;
        expected.sort_unstable();
        assert_eq!(names, expected);
    }
}

//! Why a call was let through or not: every counter that was looked at, and what came of it, from
//! the ledger's entries and the call's span.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::amount::Amount;
use crate::{
    base::{clock::Timestamp, id::RequestId, money::Usd},
    call::labels::Label,
    ledger::{Call, Post, Record},
    policy::{Charge, HoldId, Verdict},
};

/// All that is known of the decisions about a call.
#[derive(Clone, Debug, Serialize)]
pub struct Why {
    /// The call.
    pub request_id: RequestId,
    /// What was decided, in order; empty if no budget counts the call.
    pub decisions: Vec<Decision>,
    /// Its span; absent while it is under way.
    pub span: Option<Box<RawValue>>,
}

/// One decision: the call was admitted or refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// When.
    #[serde(serialize_with = "text")]
    pub at: Timestamp,
    /// Whether the call went ahead.
    pub admitted: bool,
    /// What refused it: `budget.daily`.
    pub refused_by: Option<String>,
    /// The provider that was asked for.
    pub provider: Option<String>,
    /// The model that was asked for.
    pub model: Option<String>,
    /// Who it was for.
    pub labels: BTreeMap<&'static str, String>,
    /// The counters that were looked at.
    pub counters: Vec<Counter>,
    /// What it was charged; absent while it is in flight.
    pub charged: Option<Charged>,
    #[serde(skip)]
    hold: Option<HoldId>,
}

/// A counter as it was found, and the call's part in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counter {
    /// The rule.
    pub budget: String,
    /// Whose counter: `user=42`.
    #[serde(rename = "for")]
    pub values: Option<String>,
    /// `usd`, `tokens` or `requests`.
    pub unit: &'static str,
    /// The limit that held.
    pub limit: Option<Amount>,
    /// What was spent before the call.
    pub spent: Option<Amount>,
    /// What other calls held.
    pub reserved: Option<Amount>,
    /// What the call asked for: what was set aside for it, if it was admitted.
    pub asked: Amount,
    /// `fits`, `busy` or `exhausted`.
    pub verdict: Option<&'static str>,
    /// What was set aside later, as the call went on.
    pub grown: Amount,
    /// What the call spent of it; absent while it is in flight.
    pub charged: Option<Amount>,
}

/// What a call was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Charged {
    /// US dollars; absent: unknown, so that what it held was charged.
    pub usd: Option<Usd>,
    /// Tokens; absent as for `usd`.
    pub tokens: Option<u64>,
    /// How that is known: `reported`, `estimated`, `ceiling`, `absent`.
    pub source: crate::call::usage::UsageSource,
}

impl Why {
    /// From what the ledger and the store have of a call; `span` is one line of JSON.
    pub fn new(request_id: RequestId, records: &[Record], span: Option<String>) -> Self {
        let mut decisions: Vec<Decision> = Vec::new();
        for record in records {
            match record {
                Record::Admitted {
                    call,
                    hold,
                    at,
                    lines,
                } => decisions.push(Decision::new(call, *at, lines, Some(*hold), None)),
                Record::Refused {
                    call,
                    at,
                    by,
                    lines,
                } => decisions.push(Decision::new(call, *at, lines, None, Some(by))),
                Record::Grown { hold, lines, .. } => {
                    if let Some(of) = decisions.iter_mut().find(|one| one.hold == Some(*hold)) {
                        of.grow(lines);
                    }
                },
                Record::Settled {
                    hold,
                    charge,
                    lines,
                    ..
                } => {
                    if let Some(of) = decisions.iter_mut().find(|one| one.hold == Some(*hold)) {
                        of.settle(*charge, lines);
                    }
                },
                Record::Adjusted(_)
                | Record::Ordered(_)
                | Record::Awaited { .. }
                | Record::Billed(_)
                | Record::Crossed(_) => {},
            }
        }
        decisions.sort_by_key(|decision| decision.at);
        Self {
            request_id,
            decisions,
            span: span.and_then(|span| RawValue::from_string(span).ok()),
        }
    }
}

impl Decision {
    fn new(
        call: &Call,
        at: Timestamp,
        lines: &[Post],
        hold: Option<HoldId>,
        refused_by: Option<&str>,
    ) -> Self {
        let labels = Label::ALL.into_iter().filter_map(|label| {
            let value = call.labels.get(label)?;
            Some((label.name(), value.to_owned()))
        });
        Self {
            at,
            admitted: hold.is_some(),
            refused_by: refused_by.map(str::to_owned),
            provider: (!call.provider.is_empty()).then(|| call.provider.to_string()),
            model: call.model.as_deref().map(str::to_owned),
            labels: labels.collect(),
            counters: lines.iter().map(Counter::new).collect(),
            charged: None,
            hold,
        }
    }

    fn grow(&mut self, lines: &[Post]) {
        for line in lines {
            for counter in self.counters.iter_mut().filter(|one| one.is(line)) {
                counter.grown.count = counter.grown.count.saturating_add(line.amount);
            }
        }
    }

    fn settle(&mut self, charge: Charge, lines: &[Post]) {
        let Charge {
            usd,
            tokens,
            source,
            ..
        } = charge;
        self.charged = Some(Charged {
            usd,
            tokens,
            source,
        });
        for line in lines {
            for counter in self.counters.iter_mut().filter(|one| one.is(line)) {
                counter.charged = Some(amount(line, line.amount));
            }
        }
    }
}

impl Counter {
    fn new(line: &Post) -> Self {
        let seen = |of: fn(&crate::policy::Seen) -> i64| {
            let seen = line.seen.as_ref();
            seen.map(|seen| amount(line, of(seen)))
        };
        let values = &line.counter.values;
        Self {
            budget: line.counter.rule().to_owned(),
            values: (!values.is_empty()).then(|| values.to_string()),
            unit: line.counter.unit.name(),
            limit: seen(|seen| seen.limit),
            spent: seen(|seen| seen.spent),
            reserved: seen(|seen| seen.reserved),
            asked: amount(line, line.amount),
            verdict: line.seen.map(|seen| match seen.verdict {
                Verdict::Fits => "fits",
                Verdict::Busy => "busy",
                Verdict::Exhausted => "exhausted",
            }),
            grown: amount(line, 0),
            charged: None,
        }
    }

    /// Whether a later entry is about this counter.
    fn is(&self, line: &Post) -> bool {
        self.budget == line.counter.rule()
            && self.values.as_deref().unwrap_or_default() == &*line.counter.values
            && self.unit == line.counter.unit.name()
    }
}

fn amount(line: &Post, count: i64) -> Amount {
    Amount {
        unit: line.counter.unit,
        count,
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field")]
fn text<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

//! Budgets as they are listed: by `tollgate budgets`, the API and the status page.

use serde::Serialize;

use super::amount::Amount;
use crate::{
    base::clock::Timestamp,
    policy::{Budget, Reach},
};

/// One budget in its present window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The rule's name.
    pub name: String,
    /// Whose: `user=42`; absent for a rule that counts all calls together.
    #[serde(rename = "for")]
    pub values: Option<String>,
    /// `usd`, `tokens` or `requests`.
    pub unit: &'static str,
    /// The length of its window, as it is configured.
    pub window: String,
    /// The limit that holds, raises included.
    pub limit: Amount,
    /// What was spent.
    pub spent: Amount,
    /// What calls in flight hold.
    pub reserved: Amount,
    /// What is left.
    pub remaining: Amount,
    /// When the window ends; absent for windows without a common end.
    #[serde(serialize_with = "time")]
    pub resets_at: Option<Timestamp>,
    /// How far it reaches.
    pub reach: Reach,
}

impl Row {
    /// A budget that reaches so far.
    pub fn new(budget: &Budget, reach: Reach) -> Self {
        let amount = |count| Amount {
            unit: budget.unit,
            count,
        };
        Self {
            name: budget.name.to_string(),
            values: (!budget.values.is_empty()).then(|| budget.values.to_string()),
            unit: budget.unit.name(),
            window: budget.window.to_string(),
            limit: amount(budget.limit),
            spent: amount(budget.spent),
            reserved: amount(budget.reserved),
            remaining: amount(budget.remaining),
            resets_at: budget.resets_at,
            reach,
        }
    }

    /// `daily`, or `per_user/user=42`: what `raise` and `reset` know it by.
    pub fn full_name(&self) -> String {
        match &self.values {
            Some(values) => format!("{}/{values}", self.name),
            None => self.name.clone(),
        }
    }

    /// Parts of the limit that are spent and reserved, in thousandths, at most 1,000 together.
    pub fn shares(&self) -> [u16; 2] {
        let limit = i128::from(self.limit.count.max(1));
        let thousandths = |amount: Amount| {
            let share = i128::from(amount.count.max(0)) * 1_000 / limit;
            u16::try_from(share.min(1_000)).unwrap_or(1_000)
        };
        let spent = thousandths(self.spent);
        [spent, thousandths(self.reserved).min(1_000 - spent)]
    }
}

#[expect(clippy::ref_option, reason = "serde passes the field")]
fn time<S: serde::Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.collect_str(at),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::{Unit, Window};

    fn row(limit: i64, spent: i64, reserved: i64) -> Row {
        let budget = Budget {
            name: Arc::from("per_user"),
            values: Arc::from("user=42"),
            unit: Unit::Usd,
            window: Window::Day,
            limit,
            spent,
            reserved,
            remaining: (limit - spent - reserved).max(0),
            resets_at: Some(Timestamp::from_secs(1_795_651_200)),
        };
        Row::new(&budget, Reach::Volume)
    }

    #[test]
    fn a_row_has_decimal_strings_for_money() {
        let json = serde_json::to_value(row(5_000_000_000, 1_250_000_000, 0)).unwrap();
        assert_eq!(json["limit"], "5.000000000");
        assert_eq!(json["remaining"], "3.750000000");
        assert_eq!(json["for"], "user=42");
        assert_eq!(json["resets_at"], "2026-11-26T00:00:00.000000Z");
        assert_eq!(json["reach"], "this volume");
        assert_eq!(row(1, 0, 0).full_name(), "per_user/user=42");
    }

    #[test]
    fn shares_never_exceed_the_whole() {
        assert_eq!(row(4, 1, 1).shares(), [250, 250]);
        assert_eq!(row(4, 3, 3).shares(), [750, 250]);
        assert_eq!(row(4, 9, 1).shares(), [1_000, 0]);
        assert_eq!(row(0, 0, 0).shares(), [0, 0]);
        assert_eq!(row(0, 7, 0).shares(), [1_000, 0]);
    }
}

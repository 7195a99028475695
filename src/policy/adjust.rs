//! Changes of a budget by hand: a raise of its limit, a reset of what was spent. Both are entries
//! of the ledger, with who and when.

use std::sync::Arc;

use super::{
    counter::{Raise, Unit},
    engine::Engine,
    journal::{Adjustment, Change, CounterName, Entry, JournalDown, Order},
    purse::Purse,
    rule::Rule,
    scope::Per,
    table::Claim,
    window::Window,
};
use crate::base::{clock::Timestamp, money::Usd};

/// A budget cannot be changed by hand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdjustError {
    /// There is no such rule.
    #[error("there is no budget named `{0}`; there are: {1}")]
    NoSuchRule(String, String),
    /// The rule has a counter for each value, and it was not said whose is meant.
    #[error("the budget `{0}` counts per {1}: say whose, like {0}/{2}")]
    Whose(String, String, String),
    /// The rule does not count money, so that there is nothing to raise.
    #[error("the budget `{0}` has no limit in US dollars")]
    NoUsd(String),
    /// With the raise the limit would be more than can be counted.
    #[error(
        "the budget `{0}` cannot be raised by that much: with its limit of now that is more than \
         the {max} US dollars which can be counted; nothing was changed",
        max = Usd::MAX.short()
    )]
    TooMuch(String),
    /// It could not be journalled.
    #[error("{0}; nothing was changed")]
    Down(#[from] JournalDown),
}

impl Purse {
    /// Enters an order in the ledger.
    ///
    /// # Errors
    /// It cannot be journalled.
    pub fn enter(&self, order: &Order) -> Result<(), JournalDown> {
        self.journal.write(&Entry::Ordered(order)).map(drop)
    }
}

impl Engine {
    /// Adds to the limit of a budget, in its present window: `raise` says how much, and until when
    /// if that is sooner than the window's end. `name` is the rule's, for one that counts per label
    /// with the values: `per_user/user=42`.
    ///
    /// # Errors
    /// No such budget, or it cannot be journalled; nothing has changed then.
    pub fn raise(
        &self,
        name: &str,
        raise: Raise,
        who: &str,
        now: Timestamp,
    ) -> Result<(), AdjustError> {
        let (rule, values) = self.named(name)?;
        if !rule.limits.iter().any(|(unit, _)| *unit == Unit::Usd) {
            return Err(AdjustError::NoUsd(rule.name.to_string()));
        }
        let mut claim = Claim::on(&rule, Unit::Usd, &values, now);
        // In memory first, or it would be recalled with the raise and then raised again.
        let _spent = self.purse.spent_by_cell(&mut claim, now)?;
        let limit = self.purse.raised_limit(&claim, now);
        if limit.checked_add(raise.amount).is_none() {
            return Err(AdjustError::TooMuch(rule.name.to_string()));
        }
        // A rolling window has no end: one length from now is as long as the present one lasts.
        let end = match rule.calendar.window() {
            Window::Rolling(length) => Some(now + length),
            _ => None,
        };
        let raise = Raise {
            until: match (raise.until, end) {
                (Some(until), Some(end)) => Some(until.min(end)),
                (until, end) => until.or(end),
            },
            ..raise
        };
        let cell = match end {
            Some(_) => now,
            None => claim.window,
        };
        self.purse.journal.write(&Entry::Adjusted(&Adjustment {
            at: now,
            who: Box::from(who),
            changes: vec![Change {
                counter: CounterName::of(&claim),
                cell,
                spent: 0,
                raise: Some(raise),
            }],
        }))?;
        self.purse.adjust(&claim, &[], Some(raise), now);
        Ok(())
    }

    /// Credits a budget with all that was spent in its present window, in every unit. What calls in
    /// flight hold stays held. `name` as for [`Engine::raise`].
    ///
    /// # Errors
    /// No such budget, or it cannot be journalled; nothing has changed then.
    pub fn reset(&self, name: &str, who: &str, now: Timestamp) -> Result<(), AdjustError> {
        let (rule, values) = self.named(name)?;
        let mut credits = Vec::new();
        for (unit, _) in &rule.limits {
            let mut claim = Claim::on(&rule, *unit, &values, now);
            let spent = self.purse.spent_by_cell(&mut claim, now)?;
            credits.push((claim, spent));
        }
        let changes = credits.iter().flat_map(|(claim, spent)| {
            spent.iter().map(|(cell, spent)| Change {
                counter: CounterName::of(claim),
                cell: *cell,
                spent: spent.saturating_neg(),
                raise: None,
            })
        });
        self.purse.journal.write(&Entry::Adjusted(&Adjustment {
            at: now,
            who: Box::from(who),
            changes: changes.collect(),
        }))?;
        for (claim, spent) in &mut credits {
            self.purse.adjust(claim, spent, None, now);
        }
        Ok(())
    }

    /// The budget rule and the values that `name` or `name/user=42` names.
    fn named(&self, name: &str) -> Result<(Arc<Rule>, Arc<str>), AdjustError> {
        let (name, values) = name.split_once('/').unwrap_or((name, ""));
        let mut budgets = self.rules.iter().filter(|rule| rule.is_budget());
        let rule = budgets.clone().find(|rule| *rule.name == *name);
        let rule = rule.ok_or_else(|| {
            let names: Vec<_> = budgets.by_ref().map(|rule| &*rule.name).collect();
            AdjustError::NoSuchRule(name.to_owned(), names.join(", "))
        })?;
        let given: Vec<_> = values.split(';').map(str::trim).collect();
        let ordered: Option<Vec<_>> = rule
            .per
            .iter()
            .map(|field| {
                let prefix = format!("{}=", field.name());
                given
                    .iter()
                    .find(|value| value.starts_with(&prefix))
                    .copied()
            })
            .collect();
        let all = match ordered {
            Some(ordered) if ordered.len() == given.len() || rule.per.is_empty() => ordered,
            _ => {
                let fields: Vec<_> = rule.per.iter().map(Per::name).collect();
                let example: Vec<_> = fields
                    .iter()
                    .map(|field| format!("{field}=VALUE"))
                    .collect();
                return Err(AdjustError::Whose(
                    name.to_owned(),
                    fields.join(", "),
                    example.join(";"),
                ));
            },
        };
        Ok((Arc::clone(rule), Arc::from(all.join(";"))))
    }
}

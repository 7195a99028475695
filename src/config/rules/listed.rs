//! The rules of all sections in one list, whichever way each is written.

use crate::{
    config::Config,
    policy::{self, Count, LimitConfig, Match, OnExhausted, Per, RuleConfig, Unit},
};

/// What a rule limits: an amount, or a pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// What is spent in a window.
    Budgets,
    /// What passes in a minute, or at once.
    Rates,
}

/// A rule of any section, as far as it is checked against others.
pub(super) struct Rule {
    /// Where it says what it is divided by.
    pub(super) path: String,
    pub(super) section: Section,
    pub(super) matches: Match,
    pub(super) per: Vec<Per>,
    pub(super) units: Vec<Unit>,
    pub(super) count: Count,
    /// Whether it stops calls, and does not only watch.
    pub(super) enforces: bool,
}

/// All rules: budgets of one line each, written ones, that of the guard of sessions, rate limits.
pub(super) fn all(config: &Config) -> Vec<Rule> {
    let budget = |path: String, rule: RuleConfig| Rule {
        path,
        section: Section::Budgets,
        units: units(&rule.limit),
        matches: rule.matches,
        per: rule.per,
        count: rule.count,
        enforces: rule.on_exhausted != OnExhausted::Shadow,
    };
    let short = policy::Config {
        rules: Vec::new(),
        ..config.budgets.clone()
    };
    let short = short.written_out().into_iter();
    let short = short.map(|rule| budget(format!("budgets.{}", rule.name.as_str()), rule));
    let written = config.budgets.rules.iter().enumerate();
    let written =
        written.map(|(at, rule)| budget(format!("budgets.rules[{at}].per"), rule.clone()));
    let session = config.guards.session.rule();
    let session = session.map(|rule| budget("guards.session".to_owned(), rule));
    let rates = config.rate_limits.iter().enumerate();
    let rates = rates.map(|(at, rule)| {
        let units = [
            (Unit::Requests, rule.requests_per_minute.is_some()),
            (Unit::Tokens, rule.tokens_per_minute.is_some()),
            (Unit::InputTokens, rule.input_tokens_per_minute.is_some()),
            (Unit::OutputTokens, rule.output_tokens_per_minute.is_some()),
            (Unit::Concurrent, rule.concurrent.is_some()),
        ];
        Rule {
            path: format!("rate_limits[{at}].per"),
            section: Section::Rates,
            matches: rule.matches.clone(),
            per: rule.per.clone(),
            units: said(units),
            count: rule.count,
            enforces: true,
        }
    });
    short.chain(written).chain(session).chain(rates).collect()
}

fn units(limit: &LimitConfig) -> Vec<Unit> {
    said([
        (Unit::Usd, limit.usd.is_some()),
        (Unit::Tokens, limit.tokens.is_some()),
        (Unit::InputTokens, limit.input_tokens.is_some()),
        (Unit::OutputTokens, limit.output_tokens.is_some()),
        (Unit::Requests, limit.requests.is_some()),
    ])
}

fn said<const N: usize>(units: [(Unit, bool); N]) -> Vec<Unit> {
    let said = units.into_iter().filter(|(_, is_said)| *is_said);
    said.map(|(unit, _)| unit).collect()
}

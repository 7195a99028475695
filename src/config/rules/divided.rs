//! Limits that are divided by a label which callers choose. Whoever may choose a label may choose a
//! fresh one for each call, so such a limit alone bounds nobody; one beside it that is not divided so
//! may.

use std::collections::BTreeMap;

use super::listed::{self, Rule, Section};
use crate::{
    config::{Config, problem::Problem},
    policy::{Count, Match, Per, Unit},
};

/// A warning for each rule that bounds nobody though it may look so.
pub(super) fn check(config: &Config) -> Vec<Problem> {
    if !config.identity.sources().is_empty() {
        return Vec::new();
    }
    let rules = listed::all(config);
    let problems = rules.iter().filter_map(|rule| problem(rule, &rules));
    problems.collect()
}

fn problem(rule: &Rule, beside: &[Rule]) -> Option<Problem> {
    let label = rule.per.iter().find(|per| per.is_chosen())?;
    let open = |unit: &&Unit| !beside.iter().any(|other| other.bounds(rule, **unit));
    let open: Vec<_> = rule.units.iter().filter(open).collect();
    if !rule.enforces || open.is_empty() {
        return None;
    }
    let name = label.name();
    let section = match rule.section {
        Section::Budgets => "budget",
        Section::Rates => "rate limit",
    };
    let units: Vec<_> = open.into_iter().map(|unit| unit.name()).collect();
    let units = units.join(", ");
    let message = format!(
        "a limit for each {name} bounds no caller, for callers choose their {name}: a fresh one has \
         a fresh limit"
    );
    Some(Problem::warning(&*rule.path, message).help(format!(
        "say in `identity.trusted` which sources of labels to believe, or add a {section} that is \
         not divided by such a label and limits {units} of the same calls"
    )))
}

impl Rule {
    /// Whether it bounds what all calls that `narrow` counts take together in `unit`. A rate bounds
    /// what passes in a minute and never what is spent in a month; a budget may be spent at any pace.
    fn bounds(&self, narrow: &Self, unit: Unit) -> bool {
        let all_tokens = matches!(unit, Unit::InputTokens | Unit::OutputTokens)
            && self.units.contains(&Unit::Tokens);
        let has_unit = self.units.contains(&unit) || all_tokens;
        let counts = self.count == Count::default() || self.count == narrow.count;
        self.enforces
            && self.section == narrow.section
            && !self.per.iter().any(Per::is_chosen)
            && has_unit
            && counts
            && is_wider(&self.matches, &narrow.matches)
    }
}

/// Whether every call that matches `narrow` matches `wide`, as far as is plain: what `wide` asks for is
/// asked for by `narrow` in the same words.
fn is_wider(wide: &Match, narrow: &Match) -> bool {
    let asked: BTreeMap<_, _> = narrow.fields().collect();
    let mut tags = wide.tags.iter();
    wide.fields()
        .all(|(field, patterns)| asked.get(&field) == Some(&patterns))
        && tags.all(|(key, patterns)| narrow.tags.get(key) == Some(patterns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, parse};

    /// The paths of what is warned of.
    fn warned(yaml: &str) -> Vec<String> {
        let sources = Sources {
            variable: &|_| None,
            file: &|_| Err(std::io::ErrorKind::NotFound.into()),
        };
        let config = parse("t.yaml", yaml, &sources).unwrap().config;
        let problems = check(&config).into_iter();
        problems.map(|problem| problem.path).collect()
    }

    #[test]
    fn a_limit_for_each_label_bounds_nobody_unless_another_does() {
        let session = "name: s, per: [session], window: total";
        let rate = "name: a, per: [agent]";
        for (yaml, expected) in [
            (
                "budgets: {per_user: 1}".to_owned(),
                &["budgets.per_user"][..],
            ),
            ("budgets: {per_user: 1, daily: 9}".to_owned(), &[]),
            // To skip calls without a user leaves callers free to choose one.
            (
                "budgets: {per_user: 1, missing: skip}".to_owned(),
                &["budgets.per_user"],
            ),
            (
                "budgets: {per_user: 1}, identity: {trusted: [key]}".to_owned(),
                &[],
            ),
            (
                "guards: {session: {max_calls: 9, max_usd: 1}}, budgets: {daily: 9}".to_owned(),
                &["guards.session"],
            ),
            // What is in dollars is no bound on calls, and what is for some calls is none on all.
            (
                format!("rate_limits: [{{{rate}, concurrent: 9}}], budgets: {{daily: 9}}"),
                &["rate_limits[0].per"],
            ),
            (
                format!(
                    "budgets: {{rules: [{{{session}, limit: {{usd: 1}}}}, {{name: o, window: day, \
                     limit: {{usd: 1}}, match: {{agent: a}}}}]}}"
                ),
                &["budgets.rules[0].per"],
            ),
            (
                format!(
                    "budgets: {{rules: [{{{session}, limit: {{usd: 1}}, match: {{agent: a, model: \
                     b}}}}, {{name: o, window: day, limit: {{usd: 1}}, match: {{agent: a}}}}]}}"
                ),
                &[],
            ),
            // One that only watches stops nobody, and need not.
            (
                format!(
                    "budgets: {{rules: [{{{session}, limit: {{usd: 1}}}}, {{name: o, window: day, \
                     limit: {{usd: 1}}, on_exhausted: shadow}}]}}"
                ),
                &["budgets.rules[0].per"],
            ),
            (
                format!(
                    "budgets: {{rules: [{{{session}, limit: {{usd: 1}}, on_exhausted: shadow}}]}}"
                ),
                &[],
            ),
            (
                format!(
                    "rate_limits: [{{{rate}, input_tokens_per_minute: 9}}, {{name: b, \
                     tokens_per_minute: 9}}]"
                ),
                &[],
            ),
            (
                format!(
                    "rate_limits: [{{{rate}, tokens_per_minute: 9}}, {{name: b, \
                     tokens_per_minute: 9, count: {{cache_read: false}}}}]"
                ),
                &["rate_limits[0].per"],
            ),
            (
                "rate_limits: [{name: k, per: [key], concurrent: 1}]".to_owned(),
                &[],
            ),
        ] {
            let yaml = format!("{{{yaml}}}");
            assert_eq!(warned(&yaml), expected, "{yaml}");
        }
    }

    #[test]
    fn what_bounds_is_of_the_same_section_and_divided_by_nothing_that_is_chosen() {
        let session = "name: s, per: [session], window: total";
        let rate = "name: a, per: [agent]";
        for (yaml, expected) in [
            // What is divided by a label that nobody chooses bounds as what is not divided does.
            (
                "budgets: {rules: [{name: k, per: [key], window: day, limit: {usd: 5}}, {name: a, \
                 per: [agent, key], window: day, limit: {usd: 1}}]}"
                    .to_owned(),
                &[][..],
            ),
            (
                format!(
                    "rate_limits: [{{name: p, per: [pod], concurrent: 9}}, {{{rate}, concurrent: 1}}]"
                ),
                &[],
            ),
            (
                format!(
                    "rate_limits: [{{name: u, per: [user, pod], concurrent: 9}}, {{{rate}, \
                     concurrent: 1}}]"
                ),
                &["rate_limits[0].per", "rate_limits[1].per"],
            ),
            // A rate lets as much through in a month as it likes, and a budget any pace.
            (
                format!(
                    "budgets: {{rules: [{{{session}, limit: {{tokens: 9}}}}]}}, rate_limits: \
                     [{{name: r, tokens_per_minute: 9}}]"
                ),
                &["budgets.rules[0].per"],
            ),
            (
                format!(
                    "budgets: {{rules: [{{name: b, window: total, limit: {{requests: 9}}}}]}}, \
                     rate_limits: [{{{rate}, requests_per_minute: 9}}]"
                ),
                &["rate_limits[0].per"],
            ),
        ] {
            let yaml = format!("{{{yaml}}}");
            assert_eq!(warned(&yaml), expected, "{yaml}");
        }
    }
}

//! Limits that are divided by a label which callers choose. Whoever may choose a label may choose a
//! fresh one for each call, so such a limit alone bounds nobody; one beside it that is not divided may.

use std::collections::BTreeMap;

use crate::{
    config::{Config, problem::Problem},
    policy::{Count, LimitConfig, Match, Missing, OnExhausted, Per, Unit},
};

/// A rule of any section, as far as it matters here.
struct Rule {
    path: String,
    matches: Match,
    per: Vec<Per>,
    units: Vec<Unit>,
    count: Count,
    /// Whether it stops calls, and does not only watch.
    enforces: bool,
    /// Whether it says itself that calls without the label go past it.
    skips: bool,
}

/// A warning for each rule that bounds nobody though it may look so.
pub(super) fn check(config: &Config) -> Vec<Problem> {
    if !config.identity.sources().is_empty() {
        return Vec::new();
    }
    let rules = all(config);
    let problems = rules.iter().filter_map(|rule| problem(rule, &rules));
    problems.collect()
}

fn problem(rule: &Rule, beside: &[Rule]) -> Option<Problem> {
    let label = rule.per.iter().find(|per| per.is_chosen())?;
    let open = |unit: &&Unit| !beside.iter().any(|other| other.bounds(rule, **unit));
    let open: Vec<_> = rule.units.iter().filter(open).collect();
    if !rule.enforces || rule.skips || open.is_empty() {
        return None;
    }
    let name = label.name();
    let units: Vec<_> = open.into_iter().map(|unit| unit.name()).collect();
    let units = units.join(", ");
    let message = format!(
        "a limit for each {name} bounds no caller, for callers choose their {name}: a fresh one has \
         a fresh limit"
    );
    Some(Problem::warning(&*rule.path, message).help(format!(
        "say in `identity.trusted` which sources of labels to believe, or add a rule without `per` \
         that limits {units} of the same calls"
    )))
}

impl Rule {
    /// Whether it bounds what all calls that `narrow` counts take together in `unit`.
    fn bounds(&self, narrow: &Self, unit: Unit) -> bool {
        let all_tokens = matches!(unit, Unit::InputTokens | Unit::OutputTokens)
            && self.units.contains(&Unit::Tokens);
        let has_unit = self.units.contains(&unit) || all_tokens;
        let counts = self.count == Count::default() || self.count == narrow.count;
        self.enforces
            && self.per.is_empty()
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

/// The rules of all sections, with where each says what it is divided by.
fn all(config: &Config) -> Vec<Rule> {
    let limits = config.limits_in_force();
    let written = config.budgets.rules.len();
    let budgets = limits.written_out();
    // Those of one line each come first, and that of the guard comes last.
    let short = budgets.len() - limits.rules.len();
    let budgets = budgets.into_iter().enumerate().map(|(at, rule)| Rule {
        path: match at.checked_sub(short) {
            None => format!("budgets.{}", rule.name.as_str()),
            Some(at) if at < written => format!("budgets.rules[{at}].per"),
            Some(_) => "guards.session".to_owned(),
        },
        units: units(&rule.limit),
        matches: rule.matches,
        per: rule.per,
        count: rule.count,
        enforces: rule.on_exhausted != OnExhausted::Shadow,
        skips: rule.missing.unwrap_or(limits.missing) == Missing::Skip,
    });
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
            matches: rule.matches.clone(),
            per: rule.per.clone(),
            units: said(units),
            count: rule.count,
            enforces: true,
            skips: rule.missing == Missing::Skip,
        }
    });
    budgets.chain(rates).collect()
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
            ("budgets: {per_user: 1, missing: skip}".to_owned(), &[]),
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
}

//! Checks of budgets, rate limits and the ledger against the rest of the configuration.

mod divided;
mod listed;

use std::{collections::BTreeSet, time::Duration};

use super::{
    Config,
    problem::{Problem, suggestion},
};
use crate::{
    base::{directory, money::Usd},
    policy::{Count, LimitConfig, Match, OnExhausted},
    provider::Providers,
};

/// What is wrong with the rules, errors and warnings.
pub(super) fn check_rules(config: &Config, providers: Option<&Providers>) -> Vec<Problem> {
    let mut problems = Vec::new();
    names(config, &mut problems);
    limits(config, &mut problems);
    problems.extend(divided::check(config));
    if let Some(providers) = providers {
        for (path, matches) in matches(config) {
            unknown_providers(&path, matches, providers, &mut problems);
        }
    }
    ledger(config, &mut problems);
    problems
}

/// Two rules of a section with one name could not be told apart.
fn names(config: &Config, problems: &mut Vec<Problem>) {
    let budgets = &config.budgets;
    let short = [
        ("daily", budgets.daily),
        ("monthly", budgets.monthly),
        ("per_user", budgets.per_user),
    ];
    let short = short.into_iter().filter(|(_, limit)| limit.is_some());
    let mut seen: BTreeSet<&str> = short.map(|(name, _)| name).collect();
    for (index, rule) in budgets.rules.iter().enumerate() {
        if !seen.insert(rule.name.as_str()) {
            problems.push(twice(
                &format!("budgets.rules[{index}].name"),
                rule.name.as_str(),
            ));
        }
    }
    let mut seen = BTreeSet::new();
    for (index, rule) in config.rate_limits.iter().enumerate() {
        if !seen.insert(rule.name.as_str()) {
            problems.push(twice(
                &format!("rate_limits[{index}].name"),
                rule.name.as_str(),
            ));
        }
    }
}

fn twice(path: &str, name: &str) -> Problem {
    Problem::error(path, format!("another rule is named `{name}` too"))
        .help("a name says which counters are a rule's own; give this one another")
}

/// A rule without a limit does nothing, and no budget is below nothing: nobody means that.
fn limits(config: &Config, problems: &mut Vec<Problem>) {
    let budgets = &config.budgets;
    let mut not_negative = |path: String, limit: Option<Usd>| {
        if limit.is_some_and(|limit| limit < Usd::ZERO) {
            problems.push(
                Problem::error(path, "a limit cannot be below zero")
                    .help("0 lets nothing through that costs anything"),
            );
        }
    };
    not_negative("budgets.daily".to_owned(), budgets.daily);
    not_negative("budgets.monthly".to_owned(), budgets.monthly);
    not_negative("budgets.per_user".to_owned(), budgets.per_user);
    for (index, rule) in budgets.rules.iter().enumerate() {
        not_negative(format!("budgets.rules[{index}].limit.usd"), rule.limit.usd);
    }
    for (index, rule) in config.budgets.rules.iter().enumerate() {
        if rule.limit == LimitConfig::default() {
            problems.push(
                Problem::error(format!("budgets.rules[{index}].limit"), "it limits nothing").help(
                    "give it one of usd, tokens, input_tokens, output_tokens, requests, like \
                     {usd: 4.50}",
                ),
            );
        }
    }
    for (index, rule) in config.rate_limits.iter().enumerate() {
        let limits = [
            rule.requests_per_minute.map(u64::from),
            rule.tokens_per_minute,
            rule.input_tokens_per_minute,
            rule.output_tokens_per_minute,
            rule.concurrent,
        ];
        if limits == [None; 5] {
            problems.push(
                Problem::error(format!("rate_limits[{index}]"), "it limits nothing").help(
                    "give it one of requests_per_minute, tokens_per_minute, \
                     input_tokens_per_minute, output_tokens_per_minute, concurrent",
                ),
            );
        }
    }
    beside_the_point(config, problems);
    let thresholds = config.budgets.thresholds;
    if thresholds.warning > thresholds.critical {
        problems.push(Problem::warning(
            "budgets.thresholds.warning",
            "above `critical`, so that it is never seen before it",
        ));
    }
    if thresholds.cutoff < thresholds.critical {
        problems.push(Problem::warning(
            "budgets.thresholds.cutoff",
            "below `critical`, so that calls are stopped before it is reached",
        ));
    }
}

/// The longest that a call can be meant to stand in line.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// Settings that contradict others or that nobody can mean.
fn beside_the_point(config: &Config, problems: &mut Vec<Problem>) {
    let long = |path: String, wait: Duration, problems: &mut Vec<Problem>| {
        if wait > LONGEST_WAIT {
            let message = "no client waits for longer than an hour";
            problems.push(Problem::error(path, message).help("0s refuses at once"));
        }
    };
    long(
        "budgets.max_wait".to_owned(),
        config.budgets.max_wait,
        problems,
    );
    for (index, rule) in config.rate_limits.iter().enumerate() {
        let path = format!("rate_limits[{index}]");
        long(format!("{path}.max_wait"), rule.max_wait, problems);
        if rule.requests_per_minute == Some(0) {
            let message = "a rate of 0 lets no request pass, ever";
            problems.push(
                Problem::error(format!("{path}.requests_per_minute"), message)
                    .help("to stop calls use a budget of 0 requests, or `guards`"),
            );
        }
        let counts = [
            rule.tokens_per_minute,
            rule.input_tokens_per_minute,
            rule.output_tokens_per_minute,
        ];
        idle_count(&path, rule.count, counts == [None; 3], problems);
    }
    for (index, rule) in config.budgets.rules.iter().enumerate() {
        let path = format!("budgets.rules[{index}]");
        let limit = rule.limit;
        let tokens = [limit.tokens, limit.input_tokens, limit.output_tokens];
        idle_count(&path, rule.count, tokens == [None; 3], problems);
        let lowers = limit.usd.is_some() || limit.tokens.is_some() || limit.output_tokens.is_some();
        if rule.on_exhausted == OnExhausted::Clamp && !lowers {
            let message = "a lower output limit saves neither calls nor input: this refuses";
            problems.push(Problem::warning(format!("{path}.on_exhausted"), message));
        }
    }
    for listed::Rule { path, per, .. } in listed::all(config) {
        let mut seen = BTreeSet::new();
        if let Some(twice) = per.iter().find(|per| !seen.insert(*per)) {
            let message = format!("`{}` is there twice", twice.name());
            problems.push(Problem::error(path, message));
        }
    }
    for (path, matches) in matches(config) {
        let tags = matches.tags.iter();
        let tags = tags.map(|(key, patterns)| (format!("tags.{key}"), patterns));
        let fields = matches.fields();
        let fields = fields.map(|(per, patterns)| (per.name().to_owned(), patterns));
        for (field, _) in fields.chain(tags).filter(|(_, one)| one.0.is_empty()) {
            let message = "an empty list matches no call: the rule does nothing";
            problems.push(Problem::error(format!("{path}.{field}"), message));
        }
    }
}

/// What is left out of a count of tokens, where none are counted.
fn idle_count(path: &str, count: Count, no_tokens: bool, problems: &mut Vec<Problem>) {
    if no_tokens && count != Count::default() {
        let message = "the rule counts no tokens, so there is nothing to leave out";
        problems.push(Problem::error(format!("{path}.count"), message));
    }
}

/// Every `match`, with its path.
fn matches(config: &Config) -> Vec<(String, &Match)> {
    let budgets = config.budgets.rules.iter().enumerate();
    let budgets =
        budgets.map(|(index, rule)| (format!("budgets.rules[{index}].match"), &rule.matches));
    let rates = config.rate_limits.iter().enumerate();
    let rates = rates.map(|(index, rule)| (format!("rate_limits[{index}].match"), &rule.matches));
    budgets.chain(rates).collect()
}

/// A rule for a provider that does not exist counts nothing.
fn unknown_providers(
    path: &str,
    matches: &Match,
    providers: &Providers,
    problems: &mut Vec<Problem>,
) {
    let Some(patterns) = &matches.provider else {
        return;
    };
    let names: Vec<&str> = providers.iter().map(|provider| &*provider.name).collect();
    let whole = patterns.0.iter().filter(|pattern| !pattern.contains('*'));
    for name in whole.filter(|name| !names.contains(&name.as_str())) {
        let problem = Problem::warning(
            format!("{path}.provider"),
            format!("there is no provider `{name}`: this matches nothing"),
        );
        problems.push(match suggestion(name, &names) {
            Some(meant) => problem.help(format!("did you mean `{meant}`?")),
            None => problem.help(format!("there are: {}", names.join(", "))),
        });
    }
}

fn ledger(config: &Config, problems: &mut Vec<Problem>) {
    if config.ledger.url.is_some() {
        problems.push(Problem::error(
            "ledger.url",
            "this build does not share budgets between sidecars yet; leave it out",
        ));
    }
    let budgets = &config.budgets;
    let short = [budgets.daily, budgets.monthly, budgets.per_user];
    let session = config.guards.session.rule();
    if budgets.rules.is_empty() && session.is_none() && short.iter().all(Option::is_none) {
        return;
    }
    // A warning only: what is checked here may run elsewhere.
    if let Err(why) = directory::try_write(&config.ledger.path) {
        problems.push(
            Problem::warning(
                "ledger.path",
                format!("budgets could not be kept here: {why}"),
            )
            .help("`tollgate run` stops where it cannot write what budgets rest on"),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Sources, parse};

    /// What is said of a configuration, one line each.
    fn said(yaml: &str) -> Vec<String> {
        let sources = Sources {
            variable: &|_| None,
            file: &|_| Err(std::io::ErrorKind::NotFound.into()),
        };
        match parse("t.yaml", yaml, &sources) {
            Ok(loaded) => {
                let warnings = loaded.warnings.iter();
                warnings.map(|problem| problem.line("t.yaml")).collect()
            },
            Err(error) => error.to_string().lines().map(str::to_owned).collect(),
        }
    }

    #[test]
    fn rules_that_nobody_can_mean_are_found_with_their_place() {
        let budget = |rest: &str| {
            format!(
                "budgets: {{rules: [{{name: a, window: day, limit: {{requests: 1}}, {rest}}}]}}"
            )
        };
        let rate = |rest: &str| format!("rate_limits: [{{name: a, {rest}}}]");
        // The caret stands before the place that is named: a value, or the key of more than one.
        for (yaml, says) in [
            (rate("requests_per_minute: ^0"), "no request"),
            (rate("requests_per_minute: ^-1"), "-1"),
            (rate("requests_per_minute: ^99999999999"), "99999999999"),
            (rate("concurrent: 1, max_wait: ^2h"), "an hour"),
            ("budgets: {max_wait: ^99d}".to_owned(), "an hour"),
            (
                rate("concurrent: 1, ^count: {cache_read: false}"),
                "no tokens",
            ),
            (budget("on_exhausted: ^clamp"), "neither calls"),
            (budget("^count: {reasoning: false}"), "no tokens"),
            (budget("^per: [user, user]"), "twice"),
            (budget("match: {^agent: []}"), "matches no call"),
            (budget("match: {tags: {^a: []}}"), "matches no call"),
            ("budgets: {daily: ^-1}".to_owned(), "below zero"),
            ("budgets: {daily: ^1e30}".to_owned(), "nine decimals"),
            (
                "budgets: {thresholds: {cutoff: ^0.5}}".to_owned(),
                "stopped before",
            ),
        ] {
            let column = yaml.find('^').unwrap() + 1;
            let begins = format!("t.yaml:1:{column}: ");
            let said = said(&yaml.replace('^', ""));
            let found = said
                .iter()
                .any(|line| line.starts_with(&begins) && line.contains(says));
            assert!(found, "{yaml}: no `{begins} … {says}` among {said:#?}");
        }
    }
}

//! Checks of budgets, rate limits and the ledger against the rest of the configuration.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{
    Config,
    problem::{Problem, suggestion},
};
use crate::{
    base::money::Usd,
    policy::{LimitConfig, Match, Per},
    provider::Providers,
};

/// What is wrong with the rules, errors and warnings.
pub(super) fn check_rules(config: &Config, providers: Option<&Providers>) -> Vec<Problem> {
    let mut problems = Vec::new();
    names(config, &mut problems);
    limits(config, &mut problems);
    for (path, per) in pers(config) {
        if let Some(problem) = divides(config, &path, &per) {
            problems.push(problem);
        }
    }
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
    let thresholds = config.budgets.thresholds;
    if thresholds.warning > thresholds.critical {
        problems.push(Problem::warning(
            "budgets.thresholds.warning",
            "above `critical`, so that it is never seen before it",
        ));
    }
}

/// Every list of what a rule counts per, with its path.
fn pers(config: &Config) -> Vec<(String, Vec<Per>)> {
    let user = config.budgets.per_user;
    let user = user.map(|_| ("budgets.per_user".to_owned(), vec![Per::User]));
    let budgets = config.budgets.rules.iter().enumerate();
    let budgets =
        budgets.map(|(index, rule)| (format!("budgets.rules[{index}].per"), rule.per.clone()));
    let rates = config.rate_limits.iter().enumerate();
    let rates = rates.map(|(index, rule)| (format!("rate_limits[{index}].per"), rule.per.clone()));
    let session = config.guards.session.rule();
    let session = session.map(|rule| ("guards.session".to_owned(), rule.per));
    let budgets = user.into_iter().chain(budgets).chain(session);
    budgets.chain(rates).collect()
}

/// Whoever may choose a label may choose a fresh one for each call.
fn divides(config: &Config, path: &str, per: &[Per]) -> Option<Problem> {
    let label = per.iter().find(|per| per.is_chosen())?;
    if !config.identity.sources().is_empty() {
        return None;
    }
    let name = label.name();
    let message = format!(
        "this divides the limit by {name}, but does not bound it: callers choose their {name}"
    );
    Some(Problem::warning(path, message).help(
        "say in `identity.trusted` which sources of labels to believe, or add a rule without `per`",
    ))
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
    if let Err(why) = may_write(&config.ledger.path) {
        problems.push(
            Problem::warning(
                "ledger.path",
                format!("budgets could not be kept here: {why}"),
            )
            .help("`tollgate run` stops where it cannot write what budgets rest on"),
        );
    }
}

/// Whether the directory `path` could be written, or made.
fn may_write(path: &Path) -> Result<(), String> {
    let there = path.ancestors().find(|above| above.exists());
    let there: PathBuf = match there {
        Some(there) if !there.as_os_str().is_empty() => there.to_owned(),
        _ => PathBuf::from("."),
    };
    if !there.is_dir() {
        return Err(format!("{} is not a directory", there.display()));
    }
    // Permissions do not tell everything (users, read-only mounts); trying does.
    let probe = there.join(format!(".tollgate-check-{:016x}", fastrand::u64(..)));
    let tried = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&probe);
    match tried.and_then(|_file| fs::remove_file(&probe)) {
        Ok(()) => Ok(()),
        Err(error) => Err(format!("{}: {error}", there.display())),
    }
}

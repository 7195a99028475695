//! Checks of the section `guards`.

use std::{collections::BTreeSet, time::Duration};

use super::{Config, problem::Problem};
use crate::{
    base::{money::Usd, units::show_duration},
    guard::{LONGEST_WAIT, RETRY_STORM, RetryStorm},
};

/// What is wrong with the guards.
pub(super) fn check_guards(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, rule) in config.guards.models.rules.iter().enumerate() {
        if rule.allow.is_none() && rule.deny.is_none() {
            let path = format!("guards.models.rules[{index}]");
            problems.push(
                Problem::error(path, "it allows and denies nothing")
                    .help("give it one of allow, deny, like {allow: [gpt-4o-mini]}"),
            );
        }
    }
    let caps = [
        ("guards.call.max_usd", config.guards.call.max_usd),
        ("guards.session.max_usd", config.guards.session.max_usd),
    ];
    for (path, _) in caps
        .iter()
        .filter(|(_, usd)| usd.is_some_and(|usd| usd < Usd::ZERO))
    {
        problems.push(Problem::error(*path, "a limit cannot be below zero"));
    }
    if let Some(session) = config.guards.session.rule() {
        let rules = config.budgets.rules.iter().enumerate();
        for (index, _) in rules.filter(|(_, rule)| rule.name == session.name) {
            problems.push(
                Problem::error(
                    format!("budgets.rules[{index}].name"),
                    "the budget of `guards.session` has this name",
                )
                .help("give this one another"),
            );
        }
    }
    problems.extend(config.guards.retry_storm.iter().flat_map(storm));
    problems.extend(loops(config));
    let mut names = BTreeSet::new();
    for (index, breaker) in config.guards.breakers.iter().enumerate() {
        let path = |key: &str| format!("guards.breakers[{index}]{key}");
        if !names.insert(breaker.name.as_str()) {
            let name = breaker.name.as_str();
            let problem = format!("another breaker is named `{name}` too");
            problems.push(Problem::error(path(".name"), problem).help("give this one another"));
        }
        if RETRY_STORM.strip_prefix("breaker.") == Some(breaker.name.as_str()) {
            problems.push(
                Problem::error(path(".name"), "`guards.retry_storm` has this name")
                    .help("give this one another"),
            );
        }
        if breaker.errors.is_none() && breaker.slow.is_none() {
            problems.push(
                Problem::error(path(""), "nothing opens it")
                    .help("give it one of errors, slow, like {errors: 0.5}"),
            );
        }
        for (key, is_zero) in [
            (".minimum", breaker.minimum == 0),
            (".half_open", breaker.half_open == 0),
            (".window", breaker.window < Duration::from_millis(10)),
            (".open", breaker.open.is_zero()),
        ] {
            if is_zero {
                problems.push(Problem::error(path(key), "too small to mean anything"));
            }
        }
    }
    problems
}

fn loops(config: &Config) -> Vec<Problem> {
    let (mut problems, mut names) = (Vec::new(), BTreeSet::new());
    for (index, rule) in config.guards.loops.iter().enumerate() {
        let path = |key: &str| format!("guards.loops[{index}].{key}");
        let name = rule.name.as_str();
        if !names.insert(name) {
            let problem = format!("another loop is named `{name}` too");
            problems.push(Problem::error(path("name"), problem).help("give this one another"));
        }
        if rule.slow_by > LONGEST_WAIT {
            let longest = show_duration(LONGEST_WAIT);
            let problem = format!("no call is kept waiting longer than {longest}");
            problems.push(
                Problem::error(path("slow_by"), problem)
                    .help("lower it, or stop the loop with the rung `refuse`"),
            );
        }
    }
    problems
}

fn storm(storm: &RetryStorm) -> Vec<Problem> {
    let wrong = [
        ("minimum", storm.minimum == 0),
        ("attempts", storm.attempts == 0),
        ("window", storm.window < Duration::from_millis(10)),
        ("pause", storm.pause.is_zero()),
        ("longest_pause", storm.longest_pause < storm.pause),
    ];
    let wrong = wrong.into_iter().filter(|(_, is_wrong)| *is_wrong);
    let problem = |key| {
        let path = format!("guards.retry_storm.{key}");
        Problem::error(path, "too small to mean anything")
    };
    wrong.map(|(key, _)| problem(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_of_sessions_has_its_name_for_itself() {
        let guards = r#"{"session": {"max_calls": 1, "max_usd": -1}, "call": {"max_usd": "-0.5"}}"#;
        let budgets =
            r#"{"rules": [{"name": "guards.session", "window": "day", "limit": {"usd": 1}}]}"#;
        let config = Config {
            guards: serde_json::from_str(guards).unwrap(),
            budgets: serde_json::from_str(budgets).unwrap(),
            ..Config::default()
        };
        let problems = check_guards(&config);
        let paths: Vec<&str> = problems.iter().map(|problem| &*problem.path).collect();
        assert_eq!(
            paths,
            [
                "guards.call.max_usd",
                "guards.session.max_usd",
                "budgets.rules[0].name",
            ]
        );
    }

    #[test]
    fn guards_that_cannot_be_meant_are_errors_at_their_places() {
        let guards = r#"{"models": {"rules": [{"match": {"agent": "a"}}, {"deny": "b"}]},
            "retry_storm": {"minimum": 0, "longest_pause": "1s"},
            "loops": [{"name": "a", "slow_by": "1m"}, {"name": "a", "slow_by": "61s"}],
            "breakers": [{"name": "a", "errors": 0.5}, {"name": "a", "minimum": 0},
                {"name": "b", "errors": 1, "half_open": 0, "window": "1ms", "open": "0s"},
                {"name": "retry-storm", "errors": 1}]}"#;
        let config = Config {
            guards: serde_json::from_str(guards).unwrap(),
            ..Config::default()
        };
        let problems = check_guards(&config);
        let paths: Vec<&str> = problems.iter().map(|problem| &*problem.path).collect();
        assert_eq!(
            paths,
            [
                "guards.models.rules[0]",
                "guards.retry_storm.minimum",
                "guards.retry_storm.longest_pause",
                "guards.loops[1].name",
                "guards.loops[1].slow_by",
                "guards.breakers[1].name",
                "guards.breakers[1]",
                "guards.breakers[1].minimum",
                "guards.breakers[2].half_open",
                "guards.breakers[2].window",
                "guards.breakers[2].open",
                "guards.breakers[3].name",
            ]
        );
    }
}

//! Tests of the whole: the shipped files, and what a mistake anywhere looks like.

mod doors;
mod processors;
mod shipped;

use std::{collections::BTreeSet, fs, io, path::Path};

use proptest::prelude::*;

use super::{
    de::Kind,
    expand::Sources,
    tree::{Id, Key, Node, Scalar, Value},
    *,
};

const SOURCES: Sources<'static> = Sources {
    variable: &|_| None,
    file: &|_| Err(io::Error::from(io::ErrorKind::NotFound)),
};

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(name);
    fs::read_to_string(path).unwrap()
}

/// The text with its examples, the lines that begin with `#` and two spaces, made real. An example
/// stands in for the empty value above it.
fn with_examples(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix('#') {
            Some(example) if example.starts_with("  ") => {
                let key = |line: &str| line.split(':').next().map(str::to_owned);
                if lines.last().is_some_and(|last| key(last) == key(example)) {
                    lines.pop();
                }
                lines.push(example);
            },
            _ => lines.push(line),
        }
    }
    lines.join("\n").replace("rate_limits: []", "rate_limits:")
}

#[test]
fn the_reference_says_what_the_defaults_are() {
    let loaded = parse("config/tollgate.yaml", &shipped("tollgate.yaml"), &SOURCES).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.warnings, []);
}

#[test]
fn the_examples_in_the_reference_are_valid() {
    let text = with_examples(&shipped("tollgate.yaml"));
    let loaded = parse("config/tollgate.yaml", &text, &SOURCES);
    let config = loaded
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
        .config;
    assert_ne!(config, Config::default());
}

/// Puts a key that nobody knows into every mapping, and compares the keys that the errors list with
/// those that are there.
#[test]
fn the_reference_has_every_key() {
    let text = with_examples(&shipped("tollgate.yaml"));
    let (root, _) = tree::parse(&text).unwrap();
    let mut mappings = Vec::new();
    collect_mappings(&root, &mut mappings);
    let mut compared = 0;
    for (id, present) in mappings {
        let mut probed = root.clone();
        insert(&mut probed, id, "zz_unknown");
        let Err(error) = <Config as Deserialize>::deserialize(&probed) else {
            continue; // a mapping with keys of the user's own
        };
        let Kind::UnknownKey(key, known) = error.kind else {
            continue;
        };
        assert_eq!(key, "zz_unknown");
        compared += 1;
        let missing: Vec<&&str> = known
            .iter()
            .filter(|key| !present.contains(**key))
            // A second name of the same thing.
            .filter(|key| !text.contains(&format!("also {key}\n")))
            .collect();
        // Any label and other things can be matched; one example does.
        let is_match = known.contains(&"provider") && known.contains(&"tags");
        // A rule's limit needs one of them.
        let is_limit = known.contains(&"usd") && known.contains(&"requests");
        assert!(
            missing.is_empty() || is_match || is_limit,
            "config/tollgate.yaml lacks {missing:?} beside {present:?}"
        );
    }
    assert!(compared > 15, "only {compared} sections were compared");
}

fn collect_mappings(node: &Node, found: &mut Vec<(Id, BTreeSet<String>)>) {
    match &node.value {
        Value::Scalar(_) => {},
        Value::List(items) => items.iter().for_each(|item| collect_mappings(item, found)),
        Value::Map(entries) => {
            let keys = entries.iter().map(|(key, _)| key.text.clone());
            found.push((node.id, keys.collect()));
            for (_, value) in entries {
                collect_mappings(value, found);
            }
        },
    }
}

fn insert(node: &mut Node, into: Id, key: &str) {
    let (id, place) = (node.id, node.place);
    match &mut node.value {
        Value::Scalar(_) => {},
        Value::List(items) => items.iter_mut().for_each(|item| insert(item, into, key)),
        Value::Map(entries) if id == into => {
            let value = Value::Scalar(Scalar {
                text: "1".to_owned(),
                plain: true,
                written: None,
            });
            let text = key.to_owned();
            entries.push((Key { id, place, text }, Node { id, place, value }));
        },
        Value::Map(entries) => {
            for (_, value) in entries {
                insert(value, into, key);
            }
        },
    }
}

fn problems(text: &str) -> Vec<String> {
    match parse("t.yaml", text, &SOURCES) {
        Ok(loaded) => {
            let lines = loaded.warnings.iter();
            lines.map(|problem| problem.line("t.yaml")).collect()
        },
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
    }
}

fn assert_problem(text: &str, begins: &str, says: &str) {
    let problems = problems(text);
    assert!(
        problems
            .iter()
            .any(|line| line.starts_with(begins) && line.contains(says)),
        "no `{begins}… {says}` among {problems:#?}"
    );
}

#[test]
fn a_provider_that_is_the_proxy_is_an_error() {
    let of = |port, base| {
        problems(&format!(
            "listen: {{proxy: '127.0.0.1:{port}'}}\nproviders: {{mine: {{base_url: '{base}'}}}}"
        ))
    };
    for (port, base) in [
        (4100, "http://localhost:4100/v1"),
        (4100, "http://[::1]:4100"),
        (443, "https://LOCALHOST"),
        (80, "http://127.0.0.1"),
    ] {
        let found = of(port, base);
        assert!(
            found.iter().any(|line| line.contains("is the address of")),
            "{base}: {found:?}"
        );
    }
    for (port, base) in [(80, "https://localhost"), (4100, "http://localhost:4101")] {
        assert_eq!(of(port, base), <[String; 0]>::default(), "{base}");
    }
}

#[test]
fn listeners_that_clash_or_are_open_to_the_world_are_errors() {
    assert_problem(
        "listen:\n  admin: 127.0.0.1:4100\n",
        "t.yaml:2:10: listen.admin: ",
        "`listen.proxy` too",
    );
    assert_problem(
        "listen: {health: 0.0.0.0:3001}",
        "t.yaml:1:18: listen.health: ",
        "`listen.admin` too",
    );
    assert_problem(
        "listen: {proxy: 0.0.0.0:1}",
        "t.yaml:1:17: listen.proxy: ",
        "loopback",
    );
    assert_problem(
        "listen: {admin: '[::]:1'}",
        "t.yaml:1:17: listen.admin: ",
        "token",
    );
    for good in [
        "listen: {proxy: 0.0.0.0:1, allow: [10.0.0.0/8]}",
        "listen: {admin: 0.0.0.0:1, token: abc}",
        "listen: {proxy: 127.0.0.1:0, admin: 127.0.0.1:0}",
        "listen: {health: 0.0.0.0:4101}",
    ] {
        assert_eq!(problems(good), <[String; 0]>::default(), "{good}");
    }
}

#[test]
fn limits_and_timeouts_that_let_nothing_pass_are_errors() {
    assert_problem(
        "limits: {in_flight: 0}",
        "t.yaml:1:21: limits.in_flight: ",
        "no call",
    );
    assert_problem(
        "limits: {peek: 1GiB}",
        "t.yaml:1:1: limits.peek_total: ",
        "less than",
    );
    assert_problem(
        "upstream: {idle_timeout: 0}",
        "t.yaml:1:26: upstream.idle_timeout: ",
        "no call",
    );
    for (key, column) in [
        ("leaves", 21),
        ("tunnels", 22),
        ("idle_timeout", 27),
        ("handshake_timeout", 32),
    ] {
        assert_problem(
            &format!("intercept: {{{key}: 0}}"),
            &format!("t.yaml:1:{column}: intercept.{key}: "),
            "no connection",
        );
    }
    assert_problem(
        "upstream: {idle_timeout: 30s}",
        "t.yaml:1:26: warning: upstream.idle_timeout: ",
        "600 s",
    );
    assert_problem(
        "upstream: {client_cert: /nowhere.pem}",
        "t.yaml:1:25: upstream.client_cert: ",
        "cannot read the file /nowhere.pem",
    );
}

#[test]
fn rules_that_cannot_be_meant_are_errors() {
    let rule = |more: &str| {
        format!("budgets: {{daily: 1, rules: [{{name: daily, window: day, {more}}}]}}")
    };
    let good = "limit: {tokens: 1}";
    assert_problem(
        &rule(good),
        "t.yaml:1:36: budgets.rules[0].name: ",
        "another rule",
    );
    assert_problem(
        &rule("limit: {}"),
        "t.yaml:1:56: budgets.rules[0].limit: ",
        "nothing",
    );
    assert_problem(
        &rule("limi: {}"),
        "t.yaml:1:56: budgets.rules[0].limi: ",
        "`limit`",
    );
    assert_problem(
        "rate_limits: [{name: a}]",
        "t.yaml:1:15: rate_limits[0]: ",
        "nothing",
    );
    let two = "rate_limits: [{name: a, concurrent: 1}, {name: a, concurrent: 2}]";
    assert_problem(two, "t.yaml:1:48: rate_limits[1].name: ", "another rule");
    assert_problem(
        "ledger: {url: 'redis://u:p@h'}",
        "t.yaml:1:15: ledger.url: ",
        "this build",
    );
    assert_problem(
        "budgets: {thresholds: {warning: 0.9, critical: 0.5}}",
        "t.yaml:1:33: warning: budgets.thresholds.warning: ",
        "never seen",
    );
}

#[test]
fn a_provider_that_is_the_proxy_itself_is_an_error() {
    let provider = |url: &str| format!("providers: {{me: {{base_url: '{url}'}}}}");
    for url in [
        "http://127.0.0.1:4100",
        "http://localhost:4100/v1",
        "http://[::1]:4100/me",
    ] {
        let begins = "t.yaml:1:28: providers.me.base_url: ";
        assert_problem(&provider(url), begins, "without end");
    }
    for url in ["http://127.0.0.1:4101", "http://10.0.0.1:4100"] {
        assert_eq!(problems(&provider(url)), Vec::<String>::new());
    }
}

#[test]
fn a_budget_below_zero_is_an_error() {
    for (text, begins) in [
        ("budgets: {daily: -5}", "t.yaml:1:18: budgets.daily: "),
        (
            "budgets: {monthly: -0.01}",
            "t.yaml:1:20: budgets.monthly: ",
        ),
        ("budgets: {per_user: -1}", "t.yaml:1:21: budgets.per_user: "),
        (
            "budgets: {rules: [{name: a, window: day, limit: {usd: -1}}]}",
            "t.yaml:1:55: budgets.rules[0].limit.usd: ",
        ),
    ] {
        assert_problem(text, begins, "below zero");
    }
    assert_eq!(problems("budgets: {daily: 0}"), Vec::<String>::new());
}

#[test]
fn a_list_in_the_place_of_a_mapping_is_an_error() {
    for (text, begins) in [
        ("budgets: [1]", "t.yaml:1:1: budgets: "),
        ("listen: ['127.0.0.1:1']", "t.yaml:1:1: listen: "),
        (
            "budgets: {rules: [{name: a, window: day, limit: [1]}]}",
            "t.yaml:1:42: budgets.rules[0].limit: ",
        ),
    ] {
        assert_problem(text, begins, "expected a mapping, found a list");
    }
}

#[test]
fn a_limit_divided_by_what_callers_choose_is_a_warning() {
    let per_user = "budgets: {per_user: 1}";
    let trusted = "identity: {trusted: [header]}";
    assert_problem(
        per_user,
        "t.yaml:1:21: warning: budgets.per_user: ",
        "bounds no caller",
    );
    assert_eq!(
        problems(&format!("{per_user}\n{trusted}")),
        <[String; 0]>::default()
    );
    let by_agent = "rate_limits: [{name: a, per: [model, agent], concurrent: 1}]";
    assert_problem(
        by_agent,
        "t.yaml:1:25: warning: rate_limits[0].per: ",
        "their agent",
    );
    let by_tag = by_agent.replace("agent", "tags.team");
    assert_problem(&by_tag, "t.yaml:1:25: warning: ", "their tags.team");
    let by_nothing = by_agent.replace("agent", "colour");
    assert_problem(&by_nothing, "t.yaml:1:38: ", "nothing to count per");
    let by_model = by_agent.replace("agent", "key, route, pod");
    assert_eq!(problems(&by_model), <[String; 0]>::default());
    let by_model = by_agent.replace(", agent", "");
    assert_eq!(problems(&by_model), <[String; 0]>::default());
}

#[test]
fn a_rule_for_a_provider_that_is_not_there_is_a_warning() {
    let rule = |name: &str| {
        format!("rate_limits: [{{name: a, match: {{provider: [{name}]}}, concurrent: 1}}]")
    };
    assert_problem(
        &rule("opnai"),
        "t.yaml:1:33: warning: rate_limits[0].match.provider: ",
        "did you mean `openai`?",
    );
    assert_eq!(problems(&rule("openai, 'my-*'")), <[String; 0]>::default());
}

#[test]
fn a_ledger_that_cannot_be_written_is_a_warning_if_budgets_rest_on_it() {
    let ledger = "ledger: {path: Cargo.toml/journal}";
    assert_eq!(problems(ledger), <[String; 0]>::default());
    assert_problem(
        &format!("budgets: {{daily: 1}}\n{ledger}"),
        "t.yaml:2:16: warning: ledger.path: ",
        "Cargo.toml is not a directory",
    );
}

/// What a mounted `ConfigMap` of the tracing guide holds.
#[test]
fn a_file_with_nothing_but_tracing_is_a_configuration() {
    let text = "tracing:\n  service_name: my-agents\n  environment: production\n  processors:\n    - \
                type: console\n      format: json\n";
    let config = parse("config.yaml", text, &SOURCES).unwrap().config;
    assert_eq!(&*config.tracing.service_name, "my-agents");
    assert_eq!(config.limits, Limits::default());
}

#[test]
fn what_is_wrong_in_any_stage_comes_together() {
    let text = "limits: {peek: 5 apples}\nlimits: {}\nlog: {level: \"${NOPE}\", format: ${NOPE}\n";
    assert!(problems(text).len() == 1, "broken YAML hides the rest");
    let text = "limits: {peek: 5 apples}\nlimits: {}\nlog: {level: \"${NOPE}\", fromat: text}\n";
    let problems = problems(text);
    let starts = [
        "t.yaml:1:16: limits.peek: ",
        "t.yaml:2:1: limits: `limits` is given twice",
        "t.yaml:3:14: log.level: the variable NOPE",
        "t.yaml:3:25: log.fromat: unknown key",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}");
    }
}

#[test]
fn sections_of_later_builds_are_accepted_only_empty() {
    assert_problem(
        "intercept: {others: drop}",
        "t.yaml:1:21: intercept.others: ",
        "tunnel",
    );
    assert_problem("guards: {pii: {}}", "t.yaml:1:10: guards.pii: ", "unknown");
    assert_problem(
        "guards: {loops: [{name: a, same_tool: {refuse: 1}}]}",
        "t.yaml:1:48: guards.loops[0].same_tool.refuse: ",
        "expected 2 to 32",
    );
    assert_problem(
        "alerts: {rules: [{}]}",
        "t.yaml:1:18: alerts.rules[0]: ",
        "this build",
    );
}

#[test]
fn a_secret_in_a_wrong_address_is_not_repeated() {
    let sources = Sources {
        variable: &|name| (name == "URL").then(|| "ftp://user:hush@host".to_owned()),
        file: SOURCES.file,
    };
    let text = "providers: {openai: {base_url: \"${URL}\"}}";
    let error = parse("t.yaml", text, &sources).unwrap_err().to_string();
    assert!(
        error.contains("${URL}") && !error.contains("hush"),
        "{error}"
    );
}

#[test]
fn what_needs_a_restart_is_named() {
    let config = |text: &str| parse("t.yaml", text, &SOURCES).unwrap().config;
    let old = Config::default();
    let new = config("listen: {admin: 127.0.0.1:1}\nstore: {path: ./x}\nbudgets: {daily: 1}");
    assert_eq!(old.needs_restart(&new), ["listen", "store"]);
    assert_eq!(old.needs_restart(&old), <[&str; 0]>::default());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_cut_out_every_problem_has_a_place_in_the_file(
        at: prop::sample::Index,
        length in 1_usize..40,
    ) {
        let text: Vec<char> = with_examples(&shipped("tollgate.yaml")).chars().collect();
        let at = at.index(text.len());
        let rest = text.iter().skip(at + length);
        let damaged: String = text.iter().take(at).chain(rest).collect();
        if let Err(LoadError::Invalid(invalid)) = parse("t.yaml", &damaged, &SOURCES) {
            prop_assert!(!invalid.problems.is_empty());
            for problem in &invalid.problems {
                let place = problem.place.expect("a place");
                let line = damaged.lines().nth(place.line - 1).unwrap_or_default();
                prop_assert!(place.column <= line.chars().count() + 1, "{problem:?}");
            }
        }
    }
}

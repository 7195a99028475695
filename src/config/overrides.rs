//! `TOLLGATE_OVERRIDES`: what is set from outside the file, by whoever starts Tollgate. A container
//! that gets somebody else's file says with it where it listens and what it is for.

use super::{
    problem::Problem,
    tree::{self, Node, Value},
};

/// The variable: a YAML mapping. Mappings are merged with the file's, lists added to its, and any
/// other value goes before what the file says.
pub const OVERRIDES: &str = "TOLLGATE_OVERRIDES";

/// Nodes of the overrides are called so and above, and those of files below.
const FIRST_ID: usize = 1 << 30;

/// The line that no file has: here is what does not stand in it.
const NO_LINE: usize = 0;

/// Lays `text` over the file's `root`. With it come the problems that do not keep the rest from being
/// read.
///
/// # Errors
/// The text is no mapping, or not YAML.
pub(super) fn lay(root: &mut Node, text: &str) -> Result<Vec<Problem>, Problem> {
    let (mut over, mut problems) = tree::parse_from(text, FIRST_ID).map_err(named)?;
    if !matches!(over.value, Value::Map(_)) {
        let problem = Problem::error("", "expected a mapping, like {listen: {…}}");
        return Err(named(problem.at(over.place)));
    }
    take_from_file(&mut over);
    merge(root, over);
    for problem in &mut problems {
        problem.place = None;
        problem.message = format!("{OVERRIDES}: {}", problem.message);
    }
    Ok(problems)
}

/// `problem` without a place in the file, and with the name of the variable, if it is about what is set
/// there.
pub(super) fn told(mut problem: Problem) -> Problem {
    if problem.place.is_some_and(|place| place.line == NO_LINE) {
        problem.place = None;
        problem.message = format!("{} ({OVERRIDES} sets it)", problem.message);
    }
    problem
}

/// A problem of the text as a whole, whose place is in the variable.
fn named(problem: Problem) -> Problem {
    let at = problem.place.map(|place| format!(", line {}", place.line));
    let message = format!("{OVERRIDES}{}: {}", at.unwrap_or_default(), problem.message);
    Problem {
        place: None,
        message,
        ..problem
    }
}

/// Nothing of it stands in the file.
fn take_from_file(node: &mut Node) {
    node.place.line = NO_LINE;
    match &mut node.value {
        Value::Scalar(_) => {},
        Value::List(items) => items.iter_mut().for_each(take_from_file),
        Value::Map(entries) => {
            for (key, value) in entries {
                key.place.line = NO_LINE;
                take_from_file(value);
            }
        },
    }
}

fn merge(node: &mut Node, over: Node) {
    match (&mut node.value, over.value) {
        (Value::Map(entries), Value::Map(more)) => {
            for (key, value) in more {
                match entries.iter_mut().find(|(own, _)| own.text == key.text) {
                    Some((_, own)) => merge(own, value),
                    None => entries.push((key, value)),
                }
            }
        },
        (Value::List(items), Value::List(more)) => items.extend(more),
        (_, value) => {
            *node = Node {
                id: over.id,
                place: over.place,
                value,
            };
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::config::{Config, LoadError, Sources, load, parse};

    fn with(file: &str, overrides: &'static str) -> Result<Config, String> {
        let variable = move |name: &str| match name {
            OVERRIDES => Some(overrides.to_owned()),
            "AGENT" => Some("support".to_owned()),
            _ => None,
        };
        let sources = Sources {
            variable: &variable,
            file: &|_| Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        let loaded = parse("t.yaml", file, &sources);
        let loaded = loaded.map_err(|error: LoadError| error.to_string())?;
        assert_eq!(loaded.document.unwrap().text(), file);
        Ok(loaded.config)
    }

    #[test]
    fn mappings_are_merged_lists_added_to_and_other_values_replaced() {
        let file = "listen: {proxy: \"127.0.0.1:9\", health: null}\nshutdown:\nbudgets:\n  daily: 5\n  \
                    rules: [{name: a, window: day, limit: {usd: 1}}]\n";
        let over = "{listen: {health: '0.0.0.0:4101'}, shutdown: {delay: 15s}, budgets: {rules: \
                    [{name: b, window: total, limit: {usd: 2}}]}, identity: {labels: {agent: '${AGENT}'}}}";
        let config = with(file, over).unwrap();
        assert_eq!(config.listen.proxy.port(), 9);
        assert_eq!(config.listen.health.unwrap().port(), 4101);
        assert_eq!(config.shutdown.delay.as_secs(), 15);
        let names = config.budgets.rules.iter().map(|rule| rule.name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["a", "b"]);
        assert!(config.budgets.daily.is_some());
        assert_eq!(config.identity.labels.values().next().unwrap(), "support");
    }

    #[test]
    fn an_empty_variable_changes_nothing() {
        for nothing in ["", " \n", "{}"] {
            assert_eq!(with("", nothing), Ok(Config::default()));
        }
    }

    #[test]
    fn what_is_wrong_names_the_variable_and_no_line_of_the_file() {
        let file = "listen:\n  proxy: \"127.0.0.1:9\"\n";
        let wrong = |over| with(file, over).unwrap_err();
        let unknown = wrong("{listen: {heatlh: null}}");
        let said = "t.yaml: listen.heatlh: unknown key `heatlh` (TOLLGATE_OVERRIDES sets it); did you \
                    mean `health`?";
        assert!(unknown.starts_with(said), "{unknown}");
        assert_eq!(
            wrong("{listen: {admin: '127.0.0.1:9'}}"),
            "t.yaml: listen.admin: 127.0.0.1:9 is the address of `listen.proxy` too \
             (TOLLGATE_OVERRIDES sets it); give each listener a port of its own"
        );
        let all = wrong("[1]");
        assert!(
            all.starts_with("t.yaml: TOLLGATE_OVERRIDES, line 1: expected a mapping"),
            "{all}"
        );
        let broken = wrong("a: b: c");
        assert!(
            broken.starts_with("t.yaml: TOLLGATE_OVERRIDES, line 1: this is not YAML"),
            "{broken}"
        );
        let twice = wrong("{log: {level: info}, log: {level: warn}}");
        assert!(
            twice.contains("TOLLGATE_OVERRIDES: `log` is given twice"),
            "{twice}"
        );
    }

    #[test]
    fn they_hold_without_a_file_too() {
        let sources = Sources {
            variable: &|name| (name == OVERRIDES).then(|| "{log: {level: debug}}".to_owned()),
            file: &|_| Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        let loaded = load(None, &sources).unwrap();
        assert_eq!(loaded.config.log.level, crate::config::log::Level::Debug);
        assert_eq!(loaded.document.unwrap().name(), OVERRIDES);
    }
}

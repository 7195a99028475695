//! Reads a type from the tree and reports every problem at its exact place.

use serde::de::DeserializeOwned;

use super::{
    de::{Error, Kind},
    problem::{Problem, suggestion},
    tree::{Node, Value},
};
use crate::pipeline::Options;

/// The most problems that are reported at once.
const MAX_PROBLEMS: usize = 20;

/// The key that says what kind of thing a mapping is, throughout the configuration.
const TAG: &str = "type";

/// Reads `T`. What is wrong is reported, left out, and the rest read again, so that one look shows
/// everything.
///
/// # Errors
/// The tree is no `T`. At least one problem, at most [`MAX_PROBLEMS`].
pub(super) fn read<T: DeserializeOwned>(root: &Node) -> Result<T, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut rest = root.clone();
    loop {
        let error = match T::deserialize(&rest) {
            Ok(value) if problems.is_empty() => return Ok(value),
            Ok(_) => return Err(problems),
            Err(error) => narrowed::<T>(&rest, error),
        };
        if let Some(retyped) = retyped::<T>(&rest, &error) {
            rest = retyped;
            continue;
        }
        if !follows(root, &rest, &error) {
            problems.push(explained(root, &error));
        }
        let left_out = error.at.is_some_and(|id| rest.remove(id));
        if !left_out || problems.len() >= MAX_PROBLEMS {
            return Err(problems);
        }
    }
}

/// The tree with the scalar that `error` is about taken for text instead of a number, or the other
/// way round, if it may be either and that helps. Only serde's buffers need this: everyone else
/// says which of the two is wanted.
fn retyped<T: DeserializeOwned>(root: &Node, error: &Error) -> Option<Node> {
    let mut retyped = root.clone();
    let node = error.at.and_then(|id| retyped.find_mut(id))?;
    let Value::Scalar(scalar) = &mut node.value else {
        return None;
    };
    if !scalar.may_be_typed() {
        return None;
    }
    scalar.plain = !scalar.plain;
    let helps = match T::deserialize(&retyped) {
        Ok(_) => true,
        Err(other) => narrowed::<T>(&retyped, other).at != error.at,
    };
    helps.then_some(retyped)
}

/// Whether `error` is there only because of what was left out: it is about the whole of something
/// that has lost a part.
fn follows(root: &Node, rest: &Node, error: &Error) -> bool {
    let children = |tree| {
        error
            .at
            .and_then(|id| Node::find(tree, id))
            .map(Node::children)
    };
    children(root) != children(rest)
}

/// `error` at the innermost value that causes it.
///
/// Serde reads some types (tagged and untagged enums) through a buffer that knows no places: their
/// errors come out at the whole value. The culprit is the part without which the error is gone.
fn narrowed<T: DeserializeOwned>(root: &Node, error: Error) -> Error {
    if matches!(error.kind, Kind::MissingKey(_)) {
        return error;
    }
    let first = error.clone();
    let mut error = error;
    while let Some(node) = error.at.and_then(|id| root.find(id)) {
        if error.at != Some(node.id) {
            break; // It is about a key, and cannot be more exact.
        }
        if let (Value::Map(entries), Kind::UnknownKey(unknown, _)) = (&node.value, &error.kind)
            && let Some((key, _)) = entries.iter().find(|(key, _)| key.text == *unknown)
        {
            error.at = Some(key.id);
            return error;
        }
        let mut children = node.children();
        // Without its tag a value is never read further, whatever else is wrong: looked at last.
        children.sort_by_key(|(key, _)| *key == TAG);
        let culprit = children.into_iter().find_map(|(key, child)| {
            let mut without = root.clone();
            without.remove(child);
            let gone = match T::deserialize(&without) {
                Ok(_) => true,
                Err(other) if other.at != first.at => true,
                Err(Error { kind, .. }) => match kind {
                    Kind::MissingKey(missing) => missing == key,
                    kind => kind != first.kind,
                },
            };
            gone.then_some(child)
        });
        let Some(culprit) = culprit else {
            break;
        };
        error.at = Some(culprit);
    }
    error
}

/// The error in words, with its path and place.
fn explained(root: &Node, error: &Error) -> Problem {
    let located = root
        .places()
        .into_iter()
        .find(|located| Some(located.id) == error.at);
    let (path, place) = located.map_or((String::new(), root.place), |located| {
        (located.path, located.place)
    });
    let mut message = error.to_string();
    if let Some(node) = error.at.and_then(|id| root.find(id)) {
        message = node.without_secrets(message);
    }
    let problem = Problem::error(path, message).at(place);
    match &error.kind {
        Kind::Message(_) | Kind::MissingKey(_) => problem,
        Kind::Advised(_, advice) => problem.help(advice),
        Kind::UnknownKey(written, known) => {
            let known = [known, further_keys(&problem.path)].concat();
            with_known(problem, written, &known, "keys")
        },
        Kind::UnknownWord(written, known) => with_known(problem, written, known, "values"),
    }
}

/// Keys that are known at `path` besides those of the type that is read there.
fn further_keys(path: &str) -> &'static [&'static str] {
    let item = path.strip_prefix("tracing.processors[");
    let key = item.and_then(|item| item.split_once("]."));
    match key {
        Some((_, key)) if !key.contains(['.', '[']) => Options::KEYS,
        _ => &[],
    }
}

fn with_known(problem: Problem, written: &str, known: &[&str], what: &str) -> Problem {
    let all = known.join(", ");
    match suggestion(written, known) {
        _ if known.is_empty() => problem,
        Some(meant) => problem.help(format!("did you mean `{meant}`? Possible {what}: {all}")),
        None => problem.help(format!("possible {what}: {all}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::{
        super::{expand, tree},
        *,
    };
    use crate::base::{money::Usd, units::ByteSize};

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Root {
        size: ByteSize,
        count: u16,
        on: bool,
        name: Option<String>,
        usd: Option<Usd>,
        color: Color,
        list: Vec<String>,
        parts: Vec<Part>,
        prices: BTreeMap<String, Price>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Color {
        #[default]
        Red,
        Green,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(tag = "type", rename_all = "lowercase")]
    enum Part {
        File(File),
        Console(Empty),
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        directory: String,
        #[serde(default)]
        batch: u32,
        #[serde(default)]
        deep: BTreeMap<String, u32>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Empty {}

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum Price {
        Usd(Usd),
        Parts { input: Usd },
    }

    fn tree_of(text: &str) -> Node {
        let (mut root, problems) = tree::parse(text).unwrap();
        assert_eq!(problems, []);
        let sources = expand::Sources {
            variable: &|name| match name {
                "N" => Some("7".to_owned()),
                "KEY" => Some("sk-hush\"hush".to_owned()),
                "EMPTY" => Some(String::new()),
                _ => None,
            },
            file: &|_| Err(std::io::ErrorKind::NotFound.into()),
        };
        assert_eq!(expand::expand(&mut root, &sources), []);
        root
    }

    fn ok(text: &str) -> Root {
        read(&tree_of(text)).unwrap()
    }

    fn problems(text: &str) -> Vec<String> {
        let problems = read::<Root>(&tree_of(text)).unwrap_err();
        problems.iter().map(|problem| problem.line("f")).collect()
    }

    #[test]
    fn values_are_what_is_asked_for() {
        let root = ok(
            "size: 4MiB\ncount: 12\non: true\nname: 1.10\nusd: 0.000000001\n\
                       color: green\nlist: [a, 5, true, '']\nprices: {a: 1.5, b: {input: 2}}",
        );
        assert_eq!(root.size, ByteSize::mib(4));
        assert_eq!(root.name.as_deref(), Some("1.10"));
        assert_eq!(root.usd, Some(Usd::from_nanos(1)));
        assert_eq!(root.list, ["a", "5", "true", ""]);
        assert_eq!(root.color, Color::Green);
        assert_eq!(root.prices.len(), 2);
        let exact = ok("usd: 1234567890.123456789").usd;
        assert_eq!(exact, Some(Usd::from_nanos(1_234_567_890_123_456_789)));
        assert_eq!(ok("name: null\nlist:\nprices:\nparts: ~"), Root::default());
    }

    #[test]
    fn variables_take_the_type_that_is_asked_for_quoted_or_not() {
        let root = ok("count: \"${N}\"\nusd: ${N}\nname: ${N}\nlist: [\"${N}\"]");
        assert_eq!(root.count, 7);
        assert_eq!(root.usd, Some(Usd::from_nanos(7_000_000_000)));
        assert_eq!(root.name.as_deref(), Some("7"));
        assert_eq!(root.list, ["7"]);
        assert_eq!(ok("name: \"${EMPTY}\""), Root::default());
    }

    #[test]
    fn within_tagged_values_too_a_variable_or_a_number_is_what_is_asked_for() {
        let parts = |text: &str| match ok(&format!("parts: [{text}]")).parts.remove(0) {
            Part::File(file) => (file.directory, file.batch),
            Part::Console(_) => panic!("not a file"),
        };
        let by_variable = "{type: file, directory: \"${N}\", batch: \"${N}\"}";
        assert_eq!(parts(by_variable), ("7".to_owned(), 7));
        let by_number = "{type: file, directory: 2026, batch: 3}";
        assert_eq!(parts(by_number), ("2026".to_owned(), 3));
        let quoted = "parts: [{type: file, directory: x, batch: '3'}]";
        let said = "f:1:43: parts[0].batch: expected a whole number, found \"3\"";
        assert_eq!(problems(quoted), [said]);
    }

    #[test]
    fn all_problems_come_at_once_each_at_its_place() {
        let text = "cuont: 1\nsize: 4 apples\ncount: 70000\non: yes\ncolor: gren\nlist: {a: 1}\n";
        assert_eq!(
            problems(text),
            [
                "f:1:1: cuont: unknown key `cuont`; did you mean `count`? Possible keys: size, \
                 count, on, name, usd, color, list, parts, prices",
                "f:2:7: size: `4 apples` is not a byte size: expected a number and B, kB, MB, GB, \
                 KiB, MiB or GiB, like 4MiB",
                "f:3:8: count: expected a whole number, found 70000",
                "f:4:5: on: expected true or false, found \"yes\"",
                "f:5:8: color: `gren` is not one of the possible values; did you mean `green`? \
                 Possible values: red, green",
                "f:6:1: list: expected a list, found a mapping; begin each item of a list with `- `",
            ]
        );
    }

    #[test]
    fn problems_within_tagged_values_have_exact_places_too() {
        let text = "parts:\n  - type: console\n  - type: fil\n  - directory: x\n    type: file\n    \
                    dircetory: y\n  - {type: file, directory: x, batch: many}\n  - type: file\n  - \
                    {type: file, directory: x, deep: {a: 1, b: x}}\n";
        assert_eq!(
            problems(text),
            [
                "f:3:11: parts[1].type: `fil` is not one of the possible values; did you mean \
                 `file`? Possible values: file, console",
                "f:6:5: parts[2].dircetory: unknown key `dircetory`; did you mean `directory`? \
                 Possible keys: directory, batch, deep",
                "f:7:39: parts[3].batch: expected a whole number, found \"many\"",
                "f:8:5: parts[4]: `directory` is missing",
                "f:9:48: parts[5].deep.b: expected a whole number, found \"x\"",
            ]
        );
    }

    #[test]
    fn another_shape_is_explained_in_the_words_of_the_file() {
        let text = "parts: [console, {type: file, directory: [x]}, 5, ~]\nlist: a\n";
        let tagged = "expected a mapping with the key `type`, found";
        assert_eq!(
            problems(text),
            [
                &format!("f:1:9: parts[0]: {tagged} \"console\""),
                "f:1:31: parts[1].directory: expected text, found a list",
                &format!("f:1:48: parts[2]: {tagged} 5"),
                &format!("f:1:51: parts[3]: {tagged} nothing"),
                "f:2:7: list: expected a list, found \"a\"; write a list, like [a, b]",
            ]
        );
        let root = problems("5");
        assert!(root[0].contains("possible keys: size, count"), "{root:?}");
    }

    #[test]
    fn what_came_from_a_variable_is_not_repeated() {
        let shown = problems("size: ${KEY}\nparts: [{type: \"${KEY}\"}]\n").join("\n");
        assert!(
            shown.contains("${KEY}") && !shown.contains("hush"),
            "{shown}"
        );
    }

    #[test]
    fn a_document_of_another_shape_is_one_problem() {
        assert_eq!(problems("- a\n").len(), 1);
        assert_eq!(problems("hello").len(), 1);
    }
}

//! Tests of the tree.

use proptest::prelude::*;

use super::*;

fn paths(text: &str) -> Vec<(String, usize, usize)> {
    let mut seen: Vec<_> = parse(text)
        .unwrap()
        .0
        .places()
        .into_iter()
        .map(|Located { path, place, .. }| (path, place.line, place.column))
        .collect();
    seen.dedup();
    seen
}

fn refusal(text: &str) -> Problem {
    parse(text).unwrap_err()
}

#[test]
fn every_value_knows_its_path_and_place() {
    let text = "log: {level: info}\nbudgets:\n  rules:\n    - name: a\n    - b\n\"x.y\": 1\n";
    let at = |path: &str, line, column| (path.to_owned(), line, column);
    assert_eq!(
        paths(text),
        [
            at("", 1, 1),
            at("log", 1, 1),
            at("log.level", 1, 7),
            at("log.level", 1, 14),
            at("budgets", 2, 1),
            at("budgets.rules", 3, 3),
            at("budgets.rules[0]", 4, 7),
            at("budgets.rules[0].name", 4, 7),
            at("budgets.rules[0].name", 4, 13),
            at("budgets.rules[1]", 5, 7),
            at("[\"x.y\"]", 6, 1),
            at("[\"x.y\"]", 6, 8),
        ]
    );
}

#[test]
fn a_key_given_twice_is_a_problem_and_the_first_one_counts() {
    let (root, problems) = parse("a: 1\nb: 2\na: 3\n").unwrap();
    assert_eq!(root.children().len(), 2);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].place.unwrap().line, 3);
    assert!(problems[0].message.contains("line 1"), "{problems:?}");
}

#[test]
fn aliases_are_copied_in_and_bombs_do_not_go_off() {
    let (root, _) = parse("a: &x [1, 2]\nb: *x\n").unwrap();
    assert_eq!(root.size(), 7);
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let below = level - 1;
        let aliases = format!("*a{below}, ").repeat(10);
        bomb = format!("{bomb}a{level}: &a{level} [{aliases}]\n");
    }
    assert!(refusal(&bomb).message.contains("more than 100000"));
    assert!(refusal("a: &a [*a]").message.contains("alias within"));
}

#[test]
fn what_configurations_do_not_need_is_refused() {
    for (text, about) in [
        ("a: !!binary aGk=", "tag"),
        ("a: !custom 1", "tag"),
        ("<<: {a: 1}", "merge"),
        ("? [a]\n: b", "key"),
        ("a: 1\n---\nb: 2", "second document"),
    ] {
        assert!(refusal(text).message.contains(about), "{text}");
    }
    let deep = "[".repeat(200);
    assert!(parse(&deep).is_err());
    assert!(parse("a: !!str 5").is_ok());
}

#[test]
fn broken_yaml_is_located_and_common_causes_are_explained() {
    let problem = refusal("a: {b: ${LIMIT}}\n");
    assert!(problem.help.unwrap().contains("quote"));
    let problem = refusal("a:\n\tb: 1\n");
    assert_eq!(problem.place.unwrap().line, 2);
    assert!(problem.help.unwrap().contains("spaces"));
}

#[test]
fn an_empty_document_is_an_empty_mapping() {
    for text in ["", "# nothing\n", "---\n", "\u{feff}"] {
        let (root, _) = parse(text).unwrap();
        assert!(
            matches!(&root.value, Value::Map(entries) if entries.is_empty()),
            "{text:?} {root:?}"
        );
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[-a: \\[\\]{}&*!|>'\"#%\n\t?,.é]{0,60}") {
        let _either_is_fine = parse(&text).is_ok();
    }
}

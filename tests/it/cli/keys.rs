//! `tollgate keys`: made, listed and revoked; the secret is shown once and kept nowhere.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::Value;

use super::program::Program;

#[test]
fn a_key_is_made_listed_and_revoked() {
    let program = Program::new().with("tollgate.yaml", "identity: {keys_file: ./keys.jsonl}\n");
    let made = program.run(&[
        "keys",
        "create",
        "ci",
        "--label",
        "user=42",
        "--label=project=shop",
        "--tag",
        "team=core",
        "--expires",
        "30d",
    ]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let secret = made.stdout.trim_end();
    assert!(secret.starts_with("tg_") && secret.len() == 52, "{secret}");
    assert!(!made.stderr.contains("tg_") && made.stderr.contains("x-tollgate-key"));
    let file = program.path().join("keys.jsonl");
    assert!(!fs::read_to_string(&file).unwrap().contains(secret));
    let found = fs::metadata(&file).unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o600);

    let again = program.run(&["keys", "create", "ci", "--file", "keys.jsonl"]);
    assert!(
        again.stderr.contains("2 valid keys have this name"),
        "{}",
        again.stderr
    );
    let listed = program.run(&["keys", "list", "--format=json"]).stdout;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["labels"]["user"], "42");
    assert_eq!(listed[0]["tags"]["team"], "core");
    assert_eq!(listed[1]["expires"], Value::Null);
    let id = listed[1]["id"].as_str().unwrap();
    let table = program.run(&["keys", "list"]).stdout;
    assert!(table.contains("user=42 project=shop team=core"), "{table}");

    let revoked = program.run(&["keys", "revoke", id]);
    assert_eq!(revoked.stdout, format!("Revoked ci ({id})\n"));
    let states = |program: &Program| {
        let listed = program.run(&["keys", "list", "--format=json"]).stdout;
        let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
        let states = listed
            .iter()
            .map(|key| key["state"].as_str().unwrap().to_owned());
        states.collect::<Vec<_>>()
    };
    assert_eq!(states(&program), ["valid", "revoked"]);
    assert_eq!(program.run(&["keys", "revoke", "ci"]).code, Some(0));
    assert_eq!(states(&program), ["revoked", "revoked"]);
    let none = program.run(&["keys", "revoke", "ci"]);
    assert_eq!(none.code, Some(1));
    assert!(none.stderr.contains("`ci`"), "{}", none.stderr);
}

#[test]
fn what_is_wrong_with_the_arguments_is_said() {
    let program = Program::new();
    let create = |arguments: &[&str]| {
        let ran = program.run(&[&["keys", "create", "--file=k"], arguments].concat());
        assert_eq!((ran.code, &*ran.stdout), (Some(2), ""), "{}", ran.stderr);
        ran.stderr
    };
    for (arguments, says) in [
        (&["a b"][..], "1 to 64 letters"),
        (&["ci", "--label", "users=4"], "`users` is no label"),
        (
            &["ci", "--label", "user"],
            "expected a name, =, and a value",
        ),
        (&["ci", "--expires", "2020-01-01"], "over already"),
        (&["ci", "--expires", "soon"], "is not a moment"),
    ] {
        let said = create(arguments);
        assert!(said.contains(says), "{says}: {said}");
    }
    let nowhere = program.run(&["keys", "list"]);
    assert_eq!(nowhere.code, Some(2));
    assert!(
        nowhere.stderr.contains("identity.keys_file"),
        "{}",
        nowhere.stderr
    );
    let missing = program.run(&["keys", "list", "--file=k"]);
    assert_eq!(missing.code, Some(1));
    assert!(
        missing.stderr.contains("tollgate keys create"),
        "{}",
        missing.stderr
    );
}

#[test]
fn check_says_who_is_let_in() {
    let yaml = "identity: {keys_file: ./keys.jsonl, trusted: [key, 127.0.0.0/8]}\n\
                providers: {openai: {api_key: sk-hush}}\nlisten: {proxy: '0.0.0.0:4100'}\n";
    let program = Program::new().with("tollgate.yaml", yaml);
    let before = program.run(&["check"]);
    assert!(
        before.stderr.contains("tollgate keys create NAME"),
        "{}",
        before.stderr
    );
    program.run(&["keys", "create", "ci"]);
    let checked = program.run(&["check"]);
    assert_eq!((checked.code, &*checked.stderr), (Some(0), ""));
    let (said, callers) = (
        &checked.stdout,
        "with a key in ./keys.jsonl, or from 127.0.0.0/8",
    );
    assert!(said.contains(callers), "{said}");
    assert!(
        said.contains("openai, with a key of Tollgate's own"),
        "{said}"
    );
    assert!(!said.contains("hush"), "{said}");
    let broken = Program::new()
        .with("tollgate.yaml", yaml)
        .with("keys.jsonl", "\n{}\n");
    let broken = broken.run(&["check"]);
    assert_eq!(broken.code, Some(2));
    assert!(
        broken
            .stderr
            .contains("./keys.jsonl: line 2: missing field"),
        "{}",
        broken.stderr
    );
}

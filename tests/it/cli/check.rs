//! `tollgate check`, and how the command line fails.

use std::process::Stdio;

use super::program::{Program, Ran};

#[test]
fn the_defaults_are_good_and_explained() {
    let ran = Program::new().run(&["check"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(
        ran.stdout.starts_with("ok built-in defaults\n"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("http://127.0.0.1:4100"),
        "{}",
        ran.stdout
    );
    assert_eq!(ran.stderr, "");
}

#[test]
fn the_file_is_found_by_argument_by_variable_and_by_name() {
    let program = Program::new()
        .with("tollgate.yaml", "listen: {proxy: 127.0.0.1:1111}")
        .with("variable.yaml", "listen: {proxy: 127.0.0.1:2222}")
        .with("argument.yaml", "listen: {proxy: 127.0.0.1:3333}");
    let ran = program.run(&["check"]);
    assert!(ran.stdout.contains(":1111"), "{}", ran.stdout);
    let mut command = program.command(&["check"]);
    let ran = Ran::from(
        command
            .env("TOLLGATE_CONFIG", "variable.yaml")
            .output()
            .unwrap(),
    );
    assert!(ran.stdout.contains(":2222"), "{}", ran.stdout);
    let mut command = program.command(&["check", "-c", "argument.yaml"]);
    let ran = Ran::from(
        command
            .env("TOLLGATE_CONFIG", "variable.yaml")
            .output()
            .unwrap(),
    );
    assert!(ran.stdout.contains(":3333"), "{}", ran.stdout);
}

#[test]
fn every_error_is_shown_with_its_line_and_the_code_is_2() {
    let program = Program::new().with(
        "bad.yaml",
        "listen:\n  prxy: 127.0.0.1:4100\nlimits: {in_flight: many}\n",
    );
    let ran = program.run(&["check", "-c", "bad.yaml"]);
    assert_eq!(ran.code, Some(2));
    assert_eq!(ran.stdout, "");
    for part in [
        "error: unknown key `prxy`\n --> bad.yaml:2:3 at listen.prxy\n",
        "2 |   prxy: 127.0.0.1:4100\n  |   ^^^^\n",
        "did you mean `proxy`?",
        "error: expected a whole number, found \"many\"\n --> bad.yaml:3:21 at limits.in_flight\n",
        "2 problems in bad.yaml",
    ] {
        assert!(ran.stderr.contains(part), "{part}\n{}", ran.stderr);
    }
}

#[test]
fn variables_come_from_the_environment_and_are_not_repeated() {
    let text = "limits: {in_flight: \"${SECRET}\"}\nlog: {level: \"${LEVEL:-warn}\"}\n";
    let program = Program::new().with("tollgate.yaml", text);
    let mut command = program.command(&["check"]);
    let ran = Ran::from(command.env("SECRET", "sk-hush").output().unwrap());
    assert_eq!(ran.code, Some(2));
    assert!(!ran.stderr.contains("hush"), "{}", ran.stderr);
    assert!(ran.stderr.contains("found \"${SECRET}\""), "{}", ran.stderr);
    let ran = Ran::from(
        program
            .command(&["check"])
            .env("SECRET", "7")
            .output()
            .unwrap(),
    );
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let ran = program.run(&["check"]);
    assert!(
        ran.stderr.contains("variable SECRET is not set"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let program = Program::new();
    let ran = program.run(&["check", "-c", "nowhere.yaml"]);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr
            .starts_with("error: cannot read the configuration nowhere.yaml: "),
        "{}",
        ran.stderr
    );
}

#[test]
fn warnings_do_not_fail() {
    let program = Program::new().with("tollgate.yaml", "upstream: {idle_timeout: 5s}");
    let ran = program.run(&["check"]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.stderr.starts_with("warning: "), "{}", ran.stderr);
    assert!(
        ran.stdout.starts_with("ok tollgate.yaml\n"),
        "{}",
        ran.stdout
    );
}

#[test]
fn interception_is_tried_as_a_start_would() {
    let program = Program::new().with(
        "tollgate.yaml",
        "intercept: {enabled: true, others: deny, ca_dir: ca}",
    );
    // Not everybody who checks a configuration has its authority.
    let none = program.run(&["check"]);
    assert_eq!(none.code, Some(0), "{}", none.stderr);
    for part in [
        "warning: ca/issuer.pem",
        "tollgate.yaml:1:",
        "tollgate ca create",
        "does not start",
    ] {
        assert!(none.stderr.contains(part), "{part}: {}", none.stderr);
    }
    let line = "  intercept  connections to providers are opened, ";
    let without = format!("{line}without an authority as yet; those to others are refused\n");
    assert!(none.stdout.contains(&without), "{}", none.stdout);

    program.run(&["ca", "create", "--days=60"]);
    let well = program.run(&["check"]);
    assert_eq!((well.code, &*well.stderr), (Some(0), ""));
    let with = format!("{line}by O=Tollgate, CN=Tollgate issuer ");
    assert!(
        well.stdout.contains(&with) && well.stdout.contains(" until 2"),
        "{}",
        well.stdout
    );
    program.run(&["ca", "create", "--replace", "--days=20"]);
    let soon = program.run(&["check"]);
    assert_eq!(soon.code, Some(0), "{}", soon.stderr);
    assert!(
        soon.stderr
            .contains("warning: the certificate authority ends at"),
        "{}",
        soon.stderr
    );

    std::fs::remove_file(program.path().join("ca/ca.pem")).unwrap();
    let [broken, run] = ["check", "run"].map(|command| program.run(&[command]));
    assert_eq!(
        (broken.code, run.code),
        (Some(2), Some(2)),
        "{}",
        run.stderr
    );
    assert!(
        broken.stderr.contains("error: intercept.ca_dir: ca/ca.pem"),
        "{}",
        broken.stderr
    );
    assert!(
        run.stderr
            .contains(broken.stderr.trim_start_matches("error: ").trim()),
        "{}",
        run.stderr
    );

    let empty = program.with("tollgate.yaml", "intercept: {ca_dir: ''}");
    for command in [&["check"][..], &["ca", "create"]] {
        let ran = empty.run(command);
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains("at intercept.ca_dir"), "{}", ran.stderr);
    }
}

#[test]
fn wrong_arguments_have_code_2_and_help_has_0() {
    let program = Program::new();
    let ran = program.run(&["chekc"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("'check'"), "{}", ran.stderr);
    assert_eq!(program.run(&[]).code, Some(2));
    let ran = program.run(&["--help"]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.stdout.contains("check"), "{}", ran.stdout);
    let ran = program.run(&["--version"]);
    assert!(ran.stdout.starts_with("tollgate "), "{}", ran.stdout);
}

#[test]
fn completions_are_printed_and_a_reader_that_leaves_is_no_failure() {
    let program = Program::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = program.run(&["completions", shell]);
        assert_eq!(ran.code, Some(0));
        assert!(ran.stdout.contains("check"), "{shell}");
    }
    let mut command = program.command(&["completions", "bash"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(Stdio::from(writer)).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn a_price_file_that_cannot_be_used_is_wrong_in_its_own_words() {
    let program = Program::new()
        .with("tollgate.yaml", "pricing: {file: prices.jsonl}")
        .with("prices.jsonl", "<html>");
    let ran = program.run(&["check"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stdout);
    let why = "pricing.file: prices.jsonl: line 1 of the price book is wrong";
    assert!(ran.stderr.contains(why), "{}", ran.stderr);
}

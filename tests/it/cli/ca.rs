//! `tollgate ca`: made, shown, trusted, replaced.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use serde_json::Value;

use super::program::{Program, Ran};

fn shown(program: &Program) -> Value {
    let shown = program.run(&["ca", "show", "--format=json"]);
    serde_json::from_str(&shown.stdout).unwrap()
}

fn has(list: &Value, item: &str) -> bool {
    list.as_array().unwrap().iter().any(|found| found == item)
}

#[test]
fn an_authority_is_made_shown_and_replaced() {
    let yaml = "intercept: {ca_dir: ./here}\n\
                providers: {mine: {base_url: 'https://llm.example', dialect: openai}}\n";
    let program = Program::new().with("tollgate.yaml", yaml);
    let none = program.run(&["ca", "show"]);
    assert_eq!(none.code, Some(1));
    assert!(
        none.stderr.contains("tollgate ca create"),
        "{}",
        none.stderr
    );

    let made = program.run(&["ca", "create", "--days=90"]);
    assert_eq!((made.code, &*made.stderr), (Some(0), ""));
    assert!(
        made.stdout.contains("all of amazonaws.com"),
        "{}",
        made.stdout
    );
    let key = program.path().join("here/issuer.pem");
    assert_eq!(
        fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let before = shown(&program);
    for host in ["api.openai.com", "llm.example", "openai.azure.com"] {
        assert!(has(&before["hosts"], host), "{host}: {before}");
    }
    assert!(!has(&before["hosts"], "127.0.0.1"), "{before}");
    assert_eq!(before["trouble"], Value::Null);
    let text = program.run(&["ca", "show"]).stdout;
    assert!(text.contains("may vouch for"), "{text}");

    let again = program.run(&["ca", "create"]);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("--replace"), "{}", again.stderr);
    program.run(&[
        "ca",
        "create",
        "--replace",
        "--host=llm.example",
        "--days=1",
    ]);
    let after = shown(&program);
    assert_eq!(after["hosts"].as_array().unwrap().len(), 1);
    assert_eq!(after["roots"][1], before["roots"][0]);
    assert!(
        after["trouble"].as_str().unwrap().contains("ends at"),
        "{after}"
    );
    program.run(&["ca", "create", "--replace", "--distrust", "--any-host"]);
    let last = shown(&program);
    assert_eq!(last["roots"].as_array().unwrap().len(), 1);
    assert_eq!(last["hosts"].as_array().unwrap().len(), 0);
}

#[test]
fn what_clients_need_is_named_and_has_no_key() {
    let program = Program::new();
    program.run(&["ca", "create"]);
    let lines = program.run(&["ca", "env", "--format=lines"]).stdout;
    let dir = program.path().canonicalize().unwrap();
    let dir = dir.join("tollgate-data/ca");
    for (name, file) in [
        ("SSL_CERT_FILE", "bundle.pem"),
        ("NODE_EXTRA_CA_CERTS", "ca.pem"),
    ] {
        let line = format!("{name}={}", dir.join(file).display());
        assert!(lines.lines().any(|found| found == line), "{line}: {lines}");
    }
    let shell = program.run(&["ca", "env"]).stdout;
    assert!(shell.contains("export AWS_CA_BUNDLE='"), "{shell}");

    let to = program.run(&["ca", "install", "--to=trust"]);
    assert_eq!(to.code, Some(0), "{}", to.stderr);
    let files = fs::read_dir(program.path().join("trust")).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    for file in files {
        let bytes = fs::read(&file).unwrap();
        assert!(
            !String::from_utf8_lossy(&bytes).contains("PRIVATE"),
            "{file:?}"
        );
    }
    let there = program
        .run(&["ca", "env", "--dir=trust", "--format=lines"])
        .stdout;
    assert!(there.contains("/trust/trust.jks"), "{there}");
    // A bundle that is the system's store already does not grow.
    let bundle = dir.join("bundle.pem");
    let before = fs::read(&bundle).unwrap();
    let mut again = program.command(&["ca", "env"]);
    assert!(
        again
            .env("SSL_CERT_FILE", &bundle)
            .output()
            .unwrap()
            .status
            .success()
    );
    assert_eq!(fs::read(&bundle).unwrap(), before);
}

#[test]
fn what_it_may_vouch_for_is_said_in_words() {
    for (host, says) in [
        (
            "llm.example",
            "It may vouch for llm.example and what is below it.",
        ),
        ("10.0.0.7", "It may vouch for 10.0.0.7."),
    ] {
        let program = Program::new();
        let made = program.run(&["ca", "create", &format!("--host={host}")]);
        assert!(made.stdout.contains(says), "{}", made.stdout);
        assert!(made.stdout.contains("install --to"), "{}", made.stdout);
        assert_eq!(shown(&program)["hosts"], serde_json::json!([host]));
    }
}

#[test]
fn nothing_is_made_where_clients_could_not_be_given_it() {
    let program = Program::new().with("file", "");
    let ran = program.run(&["ca", "create", "--to=file/below"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    assert!(ran.stderr.contains("file/below"), "{}", ran.stderr);
    assert!(!program.path().join("tollgate-data").exists());
    let ran = program.run(&["ca", "create", "--to=trust"]);
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    for file in ["ca.pem", "bundle.pem", "trust.jks"] {
        assert!(ran.stdout.contains(file), "{}", ran.stdout);
        let there = fs::metadata(program.path().join("trust").join(file)).unwrap();
        assert_eq!(there.permissions().mode() & 0o777, 0o644, "{file}");
    }
}

#[test]
fn where_there_is_an_authority_already_nothing_else_is_made() {
    let program = Program::new();
    program.run(&["ca", "create"]);
    let again = program.run(&["ca", "create", "--to=trust"]);
    assert_eq!(again.code, Some(1), "{}", again.stdout);
    assert!(again.stderr.contains("--replace"), "{}", again.stderr);
    assert!(!program.path().join("trust").exists());
}

#[test]
fn everyone_may_enter_the_directories_that_are_made_for_clients() {
    let program = Program::new();
    program.run(&["ca", "create"]);
    let mut shell = Command::new("sh");
    let script = "umask 077; exec \"$0\" ca install --to 'um/my dir'";
    shell.args(["-c", script, env!("CARGO_BIN_EXE_tollgate")]);
    let ran = shell.current_dir(program.path()).env_clear().output();
    let ran = Ran::from(ran.unwrap());
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    for made in ["um", "um/my dir"] {
        let mode = fs::metadata(program.path().join(made)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o755, "{made}");
    }
    // What is there already is left as it is.
    let shut = fs::Permissions::from_mode(0o700);
    fs::set_permissions(program.path().join("um"), shut).unwrap();
    assert!(
        ran.stdout.contains("ca env --dir 'um/my dir'"),
        "{}",
        ran.stdout
    );
    let again = program.run(&["ca", "install", "--to=um/b"]);
    assert!(
        again.stdout.contains("ca env --dir um/b\n"),
        "{}",
        again.stdout
    );
    let there = fs::metadata(program.path().join("um")).unwrap();
    assert_eq!(there.permissions().mode() & 0o777, 0o700);
}

#[test]
fn what_is_no_host_is_said() {
    let program = Program::new();
    for arguments in [
        &["--host=https://x.example"][..],
        &["--host=*.com"],
        &["--host=a.example", "--any-host"],
        &["--days=0"],
        &["--distrust"],
    ] {
        let ran = program.run(&[&["ca", "create"], arguments].concat());
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.stderr);
    }
    assert!(!program.path().join("tollgate-data").exists());
}

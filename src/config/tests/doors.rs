//! Who is let in, and what of it nobody can have meant.

use super::{assert_problem, problems};

#[test]
fn doors_that_nobody_can_pass_are_told() {
    let ours = "providers: {openai: {api_key: k}}";
    let begins = "t.yaml:1:31: providers.openai.api_key: ";
    assert_problem(ours, begins, "nobody is known");
    let by_address = format!("{ours}\nidentity: {{trusted: [127.0.0.0/8]}}");
    assert_eq!(problems(&by_address), <[String; 0]>::default());
    assert_problem(
        "identity: {keys_file: /nowhere}",
        "t.yaml:1:23: warning: identity.keys_file: ",
        "cannot read the file /nowhere",
    );
    assert_problem(
        "identity: {trusted: [key]}",
        "t.yaml:1:12: warning: identity.trusted: ",
        "no call has labels from a `key`",
    );
    assert_problem(
        "identity: {trusted: [head]}",
        "t.yaml:1:22: identity.trusted[0]: ",
        "`head` is neither a source",
    );
    let of_keys = |trusted: &str| format!("identity: {{keys_file: /k, trusted: {trusted}}}");
    let begins = "t.yaml:1:27: warning: identity.trusted: ";
    assert_problem(&of_keys("[header, '::1']"), begins, "do not count");
    for trusted in ["[]", "['::1']", "[header, key]"] {
        let problems = problems(&of_keys(trusted));
        let is_told = problems.iter().any(|line| line.contains("trusted"));
        assert!(!is_told, "{trusted}: {problems:#?}");
    }
    // Addresses alone say nothing of labels.
    assert_problem(
        "budgets: {per_user: 1}\nidentity: {trusted: ['::1']}",
        "t.yaml:1:21: warning: budgets.per_user: ",
        "bounds no caller",
    );
}

#[test]
fn redirected_connections_come_from_here_or_from_whom_is_allowed_and_are_intercepted() {
    assert_problem(
        "listen: {transparent: 0.0.0.0:1}\nintercept: {enabled: true}",
        "t.yaml:1:23: listen.transparent: ",
        "loopback",
    );
    assert_problem(
        "listen: {transparent: 127.0.0.1:1}",
        "t.yaml:1:23: listen.transparent: ",
        "interception is off",
    );
    let good =
        "listen: {transparent: 0.0.0.0:4143, allow: [10.0.0.0/8]}\nintercept: {enabled: true}";
    assert_eq!(problems(good), <[String; 0]>::default());
}

#[test]
fn an_end_that_comes_at_once_or_never_is_told() {
    assert_problem(
        "shutdown: {idle: 0s}",
        "t.yaml:1:18: shutdown.idle: ",
        "before any client comes",
    );
    assert_problem(
        "listen: {quit: true}",
        "t.yaml:1:16: warning: listen.quit: ",
        "nothing takes POST /quit",
    );
}

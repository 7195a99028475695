//! Who it says it is: other keys, other users, other words to the proxy. Elsewhere the admin's
//! key knew no budget (trailofbits/buttercup#550), the first calls of unknown users passed together
//! (litellm#40095), and a user was whoever the caller said.

use super::*;

/// One call of [`chat`] a user, and a little more.
const PER_USER: &str = "budgets: {per_user: 0.0012, max_wait: 0s}";

/// How many calls pass of these, each with its headers, one after another.
async fn passing(sandbox: &Sandbox, calls: impl IntoIterator<Item = Vec<(&str, String)>>) -> usize {
    let mut passed = 0;
    for headers in calls {
        let mut all = vec![
            ("x-mock", "input=0;output=100"),
            ("content-type", "application/json"),
        ];
        all.extend(headers.iter().map(|(name, value)| (*name, value.as_str())));
        let answer = send(sandbox, CHAT, &all, chat().to_string()).await;
        passed += usize::from(answer.status == 200);
        sandbox.settled().await;
    }
    passed
}

#[tokio::test]
async fn another_key_is_not_another_budget() {
    let sandbox = Sandbox::new(&priced("budgets: {daily: 0.0012, max_wait: 0s}"));
    let keys = ["sk-one", "sk-two", "sk-admin", "sk-master-1234"];
    let calls = keys.map(|key| vec![("authorization", format!("Bearer {key}"))]);
    assert_eq!(passing(&sandbox, calls).await, 1);
    let others = [
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "openai-organization",
        "openai-project",
    ];
    let calls = others.map(|name| vec![(name, "x".to_owned())]);
    assert_eq!(passing(&sandbox, calls).await, 0);
}

#[tokio::test]
async fn words_to_the_proxy_open_no_budget_that_is_used_up() {
    let sandbox = broke("").await;
    for (name, value) in [
        ("x-tollgate-bypass", "1"),
        ("x-tollgate-admin", "true"),
        ("x-tollgate-budget", "none"),
        ("x-tollgate-request-id", "00000000000000000000000000000000"),
        ("x-tollgate-decision", "admitted"),
        ("x-litellm-key", "master"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-stainless-retry-count", "5"),
        ("idempotency-key", "same"),
    ] {
        let calls = [vec![(name, value.to_owned())]];
        assert_eq!(passing(&sandbox, calls).await, 0, "{name}");
    }
    assert_eq!(sandbox.mock.count(), 1);
}

#[tokio::test]
async fn callers_without_a_name_share_one_budget() {
    let sandbox = Sandbox::new(&priced(PER_USER));
    let calls = ["", " ", "  "].map(|name| vec![("x-tollgate-user", name.to_owned())]);
    assert_eq!(passing(&sandbox, calls).await, 1);
    assert_eq!(passing(&sandbox, [vec![], vec![]]).await, 0);
    // And the name of those without one is no way to a second.
    let calls = [vec![("x-tollgate-user", "unknown".to_owned())]];
    assert_eq!(passing(&sandbox, calls).await, 0);
}

/// Where labels are taken from is said: whoever says something else is counted as who he is.
#[tokio::test]
async fn a_caller_cannot_say_to_be_another_where_nobody_trusts_him() {
    let rules = "budgets: {max_wait: 0s, rules: [\
                 {name: pod, match: {user: pod-7}, window: total, limit: {usd: 0.0012}}]}";
    let identity = "identity: {trusted: [static], labels: {user: pod-7}}";
    let sandbox = Sandbox::new(&priced(&format!("{identity}\n{rules}")));
    assert_eq!(passing(&sandbox, [vec![]]).await, 1);
    let others = [
        vec![("x-tollgate-user", "pod-8".to_owned())],
        vec![("x-tollgate-user", "unknown".to_owned())],
        vec![("baggage", "user.id=pod-8".to_owned())],
        vec![
            ("x-tollgate-user", "a".to_owned()),
            ("x-tollgate-user", "b".to_owned()),
        ],
    ];
    assert_eq!(passing(&sandbox, others).await, 0);
    for target in [
        "/~user=pod-8/v1/chat/completions",
        "/~user=/v1/chat/completions",
    ] {
        assert!(is_refused(&sandbox.post(target, &chat()).await), "{target}");
    }
    let body = chat_with(json!({"user": "pod-8", "safety_identifier": "pod-9",
        "metadata": {"user_id": "pod-10"}}));
    assert!(is_refused(&sandbox.post(CHAT, &body).await));
    assert_eq!(sandbox.mock.count(), 1);
}

/// Tags as well: of the path, say, and not of the headers.
#[tokio::test]
async fn a_tag_of_a_source_that_is_not_trusted_hides_none_that_is() {
    let rules = "budgets: {max_wait: 0s, rules: [\
                 {name: red, match: {tags: {team: red}}, window: total, limit: {usd: 0.0012}}]}";
    let sandbox = Sandbox::new(&priced(&format!("identity: {{trusted: [path]}}\n{rules}")));
    sandbox.mock.next_with("input=0;output=120").unwrap();
    let target = "/~team=red/v1/chat/completions";
    assert_eq!(sandbox.post(target, &chat()).await.status, 200);
    sandbox.settled().await;
    let crowd: Vec<_> = (0..40).map(|number| format!("t{number}=x")).collect();
    for tags in ["team=blue".to_owned(), crowd.join(",")] {
        let headers = [("x-tollgate-tags", tags.as_str())];
        let answer = sandbox.post_with(target, &headers, &chat()).await;
        assert!(is_refused(&answer), "{tags}: {answer:?}");
    }
    // And he who only says so is not counted for it.
    let before = sandbox.budget("red").spent;
    let headers = [("x-tollgate-tags", "team=red")];
    assert_eq!(sandbox.post_with(CHAT, &headers, &chat()).await.status, 200);
    assert_eq!(sandbox.spent("red").await, before);
}

/// A name for each call makes as many budgets, but the wider one counts them all; and of the names
/// there is an end.
#[tokio::test]
async fn a_name_for_each_call_ends_at_the_wider_budget_and_at_the_bound_of_counters() {
    let sandbox = Sandbox::new(&priced(
        "limits: {counters: 4}\nbudgets: {per_user: 0.0012, max_wait: 0s}",
    ));
    let calls = (0..12).map(|number| vec![("x-tollgate-user", format!("u{number}"))]);
    let passed = passing(&sandbox, calls).await;
    assert!(
        (4..=5).contains(&passed),
        "{passed}: all further ones share a counter"
    );

    let sandbox = Sandbox::new(&priced(
        "budgets: {per_user: 1, daily: 0.0032, max_wait: 0s}",
    ));
    let calls = (0..12).map(|number| vec![("x-tollgate-user", format!("u{number}"))]);
    assert_eq!(passing(&sandbox, calls).await, 3);
}

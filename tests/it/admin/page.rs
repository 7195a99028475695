//! The status page.

use super::{LIMITED, chat, get, stored};
use crate::support::{Sandbox, sandbox::configuration};

#[tokio::test]
async fn the_page_shows_what_goes_on_and_runs_nothing() {
    let sandbox = Sandbox::new(LIMITED);
    chat(&sandbox, "<script>alert(1)</script>", "42", 10).await;
    chat(&sandbox, "helper", "\"><img src=x>", 10).await;
    stored(&sandbox, 2).await;
    let answer = get(&sandbox, "/?refresh=5").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("content-security-policy")
            .starts_with("default-src 'none'")
    );
    let page = answer.text();
    assert!(
        !page.contains("<script") && !page.contains("<img"),
        "{page}"
    );
    for part in [
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "per_user/user=42",
        "per_user/user=&quot;&gt;&lt;img src%3Dx&gt;",
        "of $1.00 a day",
        "gpt-4o-2024-08-06",
        "http-equiv=refresh content=5",
        "class='state good'>ready",
        "store",
    ] {
        assert!(page.contains(part), "no {part} in {page}");
    }
}

#[tokio::test]
async fn a_refused_edit_of_the_configuration_is_shown_until_a_good_one_comes() {
    let mut sandbox = Sandbox::new("");
    sandbox.app.configured_by("tollgate.yaml");
    let metric = "tollgate_config_refused";
    let page = get(&sandbox, "/").await;
    assert!(
        page.text().contains("tollgate.yaml, in force since 20"),
        "{}",
        page.text()
    );
    assert!(!page.text().contains("refused at"), "{}", page.text());
    assert!(sandbox.metric(metric).abs() < f64::EPSILON);

    sandbox
        .app
        .refuse(&"tollgate.yaml:3:5: limits.peek: <nothing>");
    let page = get(&sandbox, "/").await;
    let says = "the one before stays: tollgate.yaml:3:5: limits.peek: &lt;nothing&gt;";
    assert!(page.text().contains(says), "{}", page.text());
    assert!(page.text().contains("class='state good'>ready"));
    assert!((sandbox.metric(metric) - 1.0).abs() < f64::EPSILON);

    let config = configuration("", sandbox.directory.path(), &sandbox.mock.url());
    sandbox.app.reload(config).await.unwrap();
    let page = get(&sandbox, "/").await;
    assert!(!page.text().contains("refused at"), "{}", page.text());
    assert!(sandbox.metric(metric).abs() < f64::EPSILON);
}

#[tokio::test]
async fn without_any_calls_and_budgets_it_says_so() {
    let sandbox = Sandbox::new("");
    let answer = get(&sandbox, "/").await;
    for part in ["No budgets", "No calls yet", "No calls today"] {
        assert!(
            answer.text().contains(part),
            "no {part} in {}",
            answer.text()
        );
    }
    assert_eq!(get(&sandbox, "/?refresh=often").await.status, 400);
}

//! The status page.

use super::{LIMITED, chat, get, stored};
use crate::support::Sandbox;

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

//! A price book that changes while calls go on.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    time::{Duration, SystemTime},
};

use serde_json::json;

use crate::support::{Sandbox, client, sandbox::configuration};

/// A book of one model, written at a moment of its own, so that no two of a test are the same.
fn write(path: &Path, input: &str, moment: u64) {
    let text = format!(
        r#"{{"book":"own","version":"{moment}","licence":"none"}}
{{"provider":"openai"}}
{{"id":"gpt-4o","match":{{"starts_with":"gpt-4o"}},"prices":[{{"usd":{{"input":"{input}","output":"0"}}}}]}}
"#
    );
    let mut file = File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let written = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000 + moment);
    file.set_modified(written).unwrap();
}

/// What a token of input costs, in nano-dollars, and which book says so.
pub(super) async fn price(sandbox: &Sandbox) -> (i64, String) {
    let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]});
    let answer = sandbox.post("/openai/v1/chat/completions", &body).await;
    let span = sandbox.span(&answer).await;
    let tokens = span.get("gen_ai.usage.input_tokens").as_i64().unwrap();
    let version = span.get("tollgate.pricing.version").as_str().unwrap();
    (span.nanos("tollgate.cost.usd") / tokens, version.to_owned())
}

pub(super) async fn page(sandbox: &Sandbox) -> String {
    let admin = sandbox.app.admin_address();
    let answer = client::call(admin, http::Method::GET, "/", &[], "").await;
    answer.text().to_owned()
}

#[tokio::test]
async fn an_edited_price_file_is_read_again_and_a_wrong_one_is_refused_in_its_own_words() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("prices.jsonl");
    write(&path, "1", 1);
    let yaml = format!("pricing: {{file: {}}}", path.display());
    let mut sandbox = Sandbox::new(&yaml);
    let costs = |nanos, version: &str| (nanos, format!("own {version}"));
    assert_eq!(price(&sandbox).await, costs(1_000, "1"));

    write(&path, "3", 2);
    assert_eq!(
        price(&sandbox).await,
        costs(1_000, "1"),
        "nobody has looked"
    );
    sandbox.app.refresh_prices();
    assert_eq!(price(&sandbox).await, costs(3_000, "2"));

    // Meant per token.
    write(&path, "0.000003", 3);
    sandbox.app.refresh_prices();
    sandbox.app.refresh_prices();
    assert_eq!(price(&sandbox).await, costs(3_000, "2"));
    let shown = page(&sandbox).await;
    assert!(shown.contains("a price book was refused at 20"), "{shown}");
    assert!(
        shown.contains("openai: gpt-4o: `input` is below"),
        "{shown}"
    );
    let count = |sandbox: &Sandbox, event: &str| {
        sandbox.metric(&format!("tollgate_price_books_total{{event=\"{event}\"}}"))
    };
    assert!((count(&sandbox, "refused") - 1.0).abs() < f64::EPSILON);

    write(&path, "4", 4);
    sandbox.app.refresh_prices();
    assert_eq!(price(&sandbox).await, costs(4_000, "4"));
    let shown = page(&sandbox).await;
    assert!(
        !shown.contains("was refused") && shown.contains("own 4"),
        "{shown}"
    );
    assert!((count(&sandbox, "used") - 3.0).abs() < f64::EPSILON);

    // An edit of the configuration reads it too, and what it has read is not read again.
    write(&path, "5", 5);
    let config = configuration(&yaml, sandbox.directory.path(), &sandbox.mock.url());
    sandbox.app.reload(config).await.unwrap();
    sandbox.app.refresh_prices();
    assert_eq!(price(&sandbox).await, costs(5_000, "5"));
    assert!((count(&sandbox, "used") - 4.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_price_file_that_cannot_be_read_for_a_while_is_read_when_it_can() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("prices.jsonl");
    write(&path, "1", 1);
    let sandbox = Sandbox::new(&format!("pricing: {{file: {}}}", path.display()));
    let costs = |nanos, version: &str| (nanos, format!("own {version}"));

    // It is gone, and comes back as it was; a directory has its name, and is one no more.
    let aside = files.path().join("aside");
    fs::rename(&path, &aside).unwrap();
    sandbox.app.refresh_prices();
    assert!(page(&sandbox).await.contains("No such file"));
    assert_eq!(price(&sandbox).await, costs(1_000, "1"));
    fs::rename(&aside, &path).unwrap();
    sandbox.app.refresh_prices();
    assert!(!page(&sandbox).await.contains("was refused"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    sandbox.app.refresh_prices();
    sandbox.app.refresh_prices();
    let refused = "tollgate_price_books_total{event=\"refused\"}";
    // What may pass without a change of the file is tried each time.
    assert!((sandbox.metric(refused) - 3.0).abs() < f64::EPSILON);
    fs::remove_dir(&path).unwrap();
    write(&path, "3", 2);
    sandbox.app.refresh_prices();
    assert_eq!(price(&sandbox).await, costs(3_000, "2"));

    // Another file takes its name that says it is as old: `cp -p` and image layers do so.
    write(&aside, "4", 2);
    fs::rename(&aside, &path).unwrap();
    sandbox.app.refresh_prices();
    assert_eq!(price(&sandbox).await, costs(4_000, "2"));
    assert!(!page(&sandbox).await.contains("was refused"));
}

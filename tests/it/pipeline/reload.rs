//! An edited configuration while a destination is in trouble.

use serde_json::json;

use super::sink::{Does, Sink, TAKES};
use crate::support::{
    Sandbox, client,
    sandbox::{configuration, until},
};

#[tokio::test]
async fn counts_go_on_over_an_edit_and_what_is_on_disk_goes_to_the_new_address() {
    let down = Sink::start(&[], Does::Answers(503, None)).await;
    let sink = Sink::start(&[], TAKES).await;
    let yaml = |url: &str| {
        let plain = "{type: file, directory: HERE}";
        let hook = format!("{{type: webhook, name: hook, url: '{url}/x'}}");
        format!("tracing: {{processors: [{plain}, {hook}]}}")
    };
    let files = tempfile::tempdir().unwrap();
    let yaml = |url: &str| yaml(url).replace("HERE", &files.path().display().to_string());
    let mut sandbox = Sandbox::new(&yaml(&down.url));
    let body = json!({"model": "gpt-4o", "messages": []});
    for _ in 0..3 {
        let answer = sandbox.post("/v1/chat/completions", &body).await;
        assert!(answer.status.is_success());
    }
    let count = |sandbox: &Sandbox, name: &str, labels: &str| {
        sandbox.metric(&format!("tollgate_spans_{name}{{{labels}}}")) as i64
    };
    let hook = "processor=\"hook\"";
    until("the spans on disk", || {
        count(&sandbox, "buffered", hook) == 3
    })
    .await;
    for (url, delivered) in [(&sink.url, 3), (&down.url, 3)] {
        let place = sandbox.directory.path().to_owned();
        let config = configuration(&yaml(url), &place, &sandbox.mock.url());
        sandbox.app.reload(config).await.unwrap();
        let labels = format!("outcome=\"delivered\",{hook}");
        until("the spans to arrive", || {
            count(&sandbox, "total", &labels) == delivered
        })
        .await;
        assert_eq!(count(&sandbox, "buffered", hook), 0);
        let came = ["offered_total", "found_total"].map(|name| count(&sandbox, name, hook));
        assert_eq!(came, [3, 0]);
    }
    assert_eq!(sink.seen().len(), 3);
    // One whose lines were not edited was not touched.
    assert_eq!(count(&sandbox, "offered_total", "processor=\"file\""), 3);
    sandbox.stop().await;
}

#[tokio::test]
async fn new_limits_do_not_wait_for_a_destination_that_hangs() {
    let sink = Sink::start(&[], Does::Hangs).await;
    let webhook = format!("{{type: webhook, url: '{}/x', batch_size: 1}}", sink.url);
    let before = format!("budgets: {{daily: 100}}\ntracing: {{processors: [{webhook}]}}");
    let mut sandbox = Sandbox::new(&before);
    let (path, body) = (
        "/v1/chat/completions",
        json!({"model": "gpt-4o", "messages": [], "max_tokens": 10}),
    );
    assert!(sandbox.post(path, &body).await.status.is_success());
    until("the span on its way", || !sink.seen().is_empty()).await;
    let (addr, place) = (sandbox.addr(), sandbox.directory.path().to_owned());
    let after = configuration(
        "budgets: {daily: 0.000001}\ntracing: {processors: []}",
        &place,
        &sandbox.mock.url(),
    );
    let refused = async { while client::post(addr, path, &[], &body).await.status != 429 {} };
    tokio::select! {
        biased;
        _reloaded = sandbox.app.reload(after) => panic!("the limit waited for the destination"),
        () = refused => {},
    }
    sandbox.stop().await;
}

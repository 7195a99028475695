//! An edited configuration while a destination is in trouble.

use serde_json::json;

use super::sink::{Does, Sink};
use crate::support::{
    Sandbox, client,
    sandbox::{configuration, until},
};

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

//! Anthropic's message batches. A batch is answered at once, each request in it as if it had come by
//! itself with the batch's settings; looks find it running for a while.

use std::fmt::Write;

use serde_json::Value;

use super::{
    batches::polls,
    conversation::list_at,
    endpoint::{Answering, Order},
    json::{Members, object},
    objects::Object,
    problem::{Dialect, Problem},
    reply::Payload,
};

/// When every batch was made, and when it expires: the mock writes no dates.
const MADE: &str = "2026-01-01T00:00:00Z";
const EXPIRES: &str = "2026-01-02T00:00:00Z";

/// Makes a batch of the requests in the body.
pub(super) fn make(order: &mut Order<'_>, answering: &Answering<'_>) -> Result<Payload, Problem> {
    let requests = list_at(order.body, "requests");
    if requests.is_empty() {
        return Err(Problem::invalid("requests: Field required"));
    }
    let mut results = String::new();
    let (mut succeeded, mut errored) = (0_u32, 0_u32);
    for request in requests {
        let params = request.get("params").unwrap_or(&Value::Null);
        let result = match answering("/v1/messages", params, order.ids) {
            Ok(payload) => {
                succeeded += 1;
                object! {"type": "succeeded", "message": payload.into_json()}
            },
            Err(problem) => {
                errored += 1;
                let error = problem.body(Dialect::Anthropic, "");
                object! {"type": "errored", "error": error}
            },
        };
        let line = object! {"custom_id": request.get("custom_id"), "result": result};
        let _infallible = writeln!(results, "{}", line.get());
    }
    let id = order.ids.make("msgbatch_01", 22);
    let batch = |status: &str, cancelled: bool| {
        let ended = status == "ended";
        let (succeeded, errored) = match (ended, cancelled) {
            (true, false) => (succeeded, errored),
            _ => (0, 0),
        };
        let all = requests.len();
        let counts = object! {
            "processing": if ended { 0 } else { all },
            "succeeded": succeeded,
            "errored": errored,
            "canceled": if cancelled { all } else { 0 },
            "expired": 0,
        };
        let url = format!("{}/v1/messages/batches/{id}/results", order.origin);
        Members::new()
            .with("id", &id)
            .with("type", &"message_batch")
            .with("processing_status", &status)
            .with("request_counts", &counts)
            .with("ended_at", &ended.then_some(MADE))
            .with("created_at", &MADE)
            .with("expires_at", &EXPIRES)
            .with("archived_at", &())
            .with("cancel_initiated_at", &cancelled.then_some(MADE))
            .with("results_url", &ended.then_some(url))
            .close()
    };
    let object = Object {
        running: batch("in_progress", false),
        done: batch("ended", false),
        cancelled: batch("ended", true),
        polls: polls(order.behaviour),
        content: results.into(),
        content_type: "application/x-jsonl",
    };
    let made = object.running.clone();
    order.objects.put(id, object);
    Ok(Payload::json(&made))
}

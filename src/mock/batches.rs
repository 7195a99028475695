//! OpenAI's files and batches. A batch is answered at once, each request in its file as if it had
//! come by itself with the batch's settings; looks find it running for a while.

use std::fmt::Write;

use bytes::Bytes;
use serde_json::Value;

use super::{
    behaviour::Behaviour,
    conversation::str_at,
    endpoint::{Answering, Order},
    json::{Json, Members, object},
    objects::Object,
    problem::{Dialect, Problem},
    reply::Payload,
};

/// Stores a file.
pub(super) fn upload(order: &mut Order<'_>) -> Result<Payload, Problem> {
    let name = order.required("file")?.to_owned();
    let purpose = order.required("purpose")?.to_owned();
    let (_, file) = store(order, &name, &purpose, order.file.clone());
    Ok(Payload::json(&file))
}

/// The file's id, and what is said of it.
fn store(order: &mut Order<'_>, name: &str, purpose: &str, content: Bytes) -> (String, Json) {
    let id = order.ids.make("file-", 24);
    let file = object! {
        "object": "file",
        "id": id,
        "purpose": purpose,
        "filename": name,
        "bytes": content.len(),
        "created_at": order.now,
        "expires_at": (),
        "status": "processed",
        "status_details": (),
    };
    let kept = Object::settled(&file, content, "application/octet-stream");
    order.objects.put(id.clone(), kept);
    (id, file)
}

/// How many looks find what was made still running.
pub(super) fn polls(behaviour: &Behaviour) -> u32 {
    behaviour.answer.polls.unwrap_or(1)
}

/// Makes a batch of the requests in a file.
pub(super) fn make(order: &mut Order<'_>, answering: &Answering<'_>) -> Result<Payload, Problem> {
    let input = order.required("input_file_id")?.to_owned();
    order.required("endpoint")?;
    let Some(file) = order.objects.content(&input) else {
        let message = format!("Invalid 'input_file_id': no file {input}.");
        return Err(Problem::invalid(message).param("input_file_id"));
    };
    let (mut answers, mut count) = (String::new(), 0_u32);
    for line in file.split(|byte| *byte == b'\n') {
        let Ok(line) = serde_json::from_slice::<Value>(line) else {
            continue;
        };
        let _infallible = writeln!(answers, "{}", answer(order, &line, answering).get());
        count += 1;
    }
    let (output, _) = store(order, "batch_output.jsonl", "batch_output", answers.into());
    let id = order.ids.make("batch_", 24);
    let batch = |status: &str| {
        let done = status == "completed";
        let counts = object! {
            "total": count, "completed": if done { count } else { 0 }, "failed": 0,
        };
        Members::new()
            .with("id", &id)
            .with("object", &"batch")
            .with("endpoint", &order.body.get("endpoint"))
            .with("errors", &())
            .with("input_file_id", &input)
            .with("completion_window", &"24h")
            .with("status", &status)
            .with("output_file_id", &done.then_some(&output))
            .with("error_file_id", &())
            .with("created_at", &order.now)
            .with("completed_at", &done.then_some(order.now))
            .with("request_counts", &counts)
            .with("metadata", &order.body.get("metadata"))
            .close()
    };
    let object = Object {
        running: batch("in_progress"),
        done: batch("completed"),
        cancelled: batch("cancelled"),
        polls: polls(order.behaviour),
        content: Bytes::new(),
        content_type: "application/octet-stream",
    };
    let made = batch("validating");
    order.objects.put(id, object);
    Ok(Payload::json(&made))
}

/// A line of the output: the answer to a line of the input.
fn answer(order: &mut Order<'_>, line: &Value, answering: &Answering<'_>) -> Json {
    let body = line.get("body").unwrap_or(&Value::Null);
    let answered = answering(str_at(line, "url"), body, order.ids);
    let (status, body) = match answered {
        Ok(payload) => (200, payload.into_json()),
        Err(problem) => (problem.status.as_u16(), problem.body(Dialect::OpenAi, "")),
    };
    let request_id = order.ids.hex("", 32);
    object! {
        "id": order.ids.make("batch_req_", 24),
        "custom_id": line.get("custom_id"),
        "response": object! {"status_code": status, "request_id": request_id, "body": body},
        "error": (),
    }
}

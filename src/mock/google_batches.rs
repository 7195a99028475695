//! Gemini's batches. A batch is answered at once, each request in it as if it had come by itself with
//! the batch's settings; looks find it running for a while.

use std::fmt::Write;

use bytes::Bytes;
use serde_json::Value;

use super::{
    batches::polls,
    conversation::{list_at, str_at},
    endpoint::{Answering, Order},
    json::{Json, Members, object},
    objects::Object,
    problem::{Dialect, Problem},
    reply::Payload,
};

/// When every batch was made: the mock writes no dates.
const MADE: &str = "2026-01-01T00:00:00Z";

/// Makes a batch of the requests in the body, or in the file that it names.
pub(super) fn make(order: &mut Order<'_>, answering: &Answering<'_>) -> Result<Payload, Problem> {
    let batch = order.body.get("batch").unwrap_or(&Value::Null);
    let name = str_at(batch, "displayName").to_owned();
    let input = field(batch, "inputConfig", "input_config").unwrap_or(&Value::Null);
    let file = field(input, "fileName", "file_name").and_then(Value::as_str);
    let id = order.ids.make("", 24);
    let (output, count) = if let Some(file) = file {
        let file = file.strip_prefix("files/").unwrap_or(file).to_owned();
        from_file(order, &file, &id, answering)?
    } else {
        let requests = input.get("requests").unwrap_or(&Value::Null);
        from_list(order, list_at(requests, "requests"), answering)?
    };
    let batch = |state: &str, output: Option<&Json>| {
        let stats = object! {"requestCount": count.to_string()};
        let mut metadata = Members::new()
            .with(
                "@type",
                &"type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
            )
            .with("model", &format!("models/{}", order.model))
            .with("displayName", &name)
            .with("createTime", &MADE)
            .with("batchStats", &stats)
            .with("state", &state)
            .with("name", &format!("batches/{id}"));
        if let Some(output) = output {
            metadata.put("output", output);
        }
        let mut operation = Members::new()
            .with("name", &format!("batches/{id}"))
            .with("metadata", &metadata.close());
        if let Some(output) = output {
            operation.put("done", &true);
            operation.put("response", output);
        }
        operation.close()
    };
    let object = Object {
        running: batch("BATCH_STATE_RUNNING", None),
        done: batch("BATCH_STATE_SUCCEEDED", Some(&output)),
        cancelled: batch("BATCH_STATE_CANCELLED", None),
        polls: polls(order.behaviour),
        content: Bytes::new(),
        content_type: "application/octet-stream",
    };
    let made = batch("BATCH_STATE_PENDING", None);
    order.objects.put(id, object);
    Ok(Payload::json(&made))
}

/// The value under either spelling of a name.
fn field<'a>(value: &'a Value, name: &str, other: &str) -> Option<&'a Value> {
    value.get(name).or_else(|| value.get(other))
}

/// The output of requests that are in the body, and how many there were.
fn from_list(
    order: &mut Order<'_>,
    requests: &[Value],
    answering: &Answering<'_>,
) -> Result<(Json, usize), Problem> {
    if requests.is_empty() {
        return Err(Problem::invalid("The batch has no requests."));
    }
    let answers: Vec<_> = requests
        .iter()
        .map(|request| {
            let members = answer(order, request, answering);
            members.with("metadata", &request.get("metadata")).close()
        })
        .collect();
    let list = object! {"inlinedResponses": answers};
    Ok((object! {"inlinedResponses": list}, requests.len()))
}

/// The output of requests that are in a file, one a line: it is a file, too.
fn from_file(
    order: &mut Order<'_>,
    file: &str,
    id: &str,
    answering: &Answering<'_>,
) -> Result<(Json, usize), Problem> {
    let Some(input) = order.objects.content(file) else {
        return Err(Problem::invalid(format!("There is no file {file}.")));
    };
    let (mut answers, mut count) = (String::new(), 0);
    for line in input.split(|byte| *byte == b'\n') {
        let Ok(request) = serde_json::from_slice::<Value>(line) else {
            continue;
        };
        let members = answer(order, &request, answering);
        let line = members.with("key", &request.get("key")).close();
        let _infallible = writeln!(answers, "{}", line.get());
        count += 1;
    }
    let name = format!("batch-{id}");
    let described = object! {"name": format!("files/{name}"), "mimeType": "application/json"};
    let kept = Object::settled(&described, answers.into(), "application/json");
    order.objects.put(name.clone(), kept);
    Ok((object! {"responsesFile": format!("files/{name}")}, count))
}

fn answer(order: &mut Order<'_>, request: &Value, answering: &Answering<'_>) -> Members {
    let path = format!("/v1beta/models/{}:generateContent", order.model);
    let body = request.get("request").unwrap_or(&Value::Null);
    match answering(&path, body, order.ids) {
        Ok(payload) => Members::new().with("response", &payload.into_json()),
        Err(problem) => {
            let error: Value =
                serde_json::from_str(problem.body(Dialect::Gemini, "").get()).unwrap_or_default();
            Members::new().with("error", &error.get("error"))
        },
    }
}

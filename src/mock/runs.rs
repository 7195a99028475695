//! Runs of OpenAI's assistants: made and looked at, or followed as a stream. The mock knows no
//! threads: what a run was asked stands in its own request.

use bytes::Bytes;
use serde_json::Value;

use super::{
    answer::{Ask, dated, failing},
    batches::polls,
    behaviour::Newline,
    conversation::{Conversation, Turn, list_at, str_at, text_of},
    images::error,
    json::{Json, Members, object},
    objects::{Object, Objects},
    problem::Problem,
    reply::{Payload, named_event},
    script::Finish,
};

/// What an assistant runs on if the run does not say.
const MODEL: &str = "gpt-4o";

/// Reads a request.
pub(super) fn read(body: &Value) -> Result<Conversation, Problem> {
    if body.get("assistant_id").and_then(Value::as_str).is_none() {
        let problem = Problem::invalid("Missing required parameter: 'assistant_id'.");
        return Err(problem
            .param("assistant_id")
            .code("missing_required_parameter"));
    }
    let mut asked = Conversation {
        model: body
            .get("model")
            .and_then(Value::as_str)
            .unwrap_or(MODEL)
            .to_owned(),
        max_tokens: body.get("max_completion_tokens").and_then(Value::as_u64),
        answers: 1,
        stream: body.get("stream").and_then(Value::as_bool) == Some(true),
        ..Conversation::default()
    };
    asked.add_system(str_at(body, "instructions"));
    let thread = body.get("thread").unwrap_or(&Value::Null);
    for message in [
        list_at(thread, "messages"),
        list_at(body, "additional_messages"),
    ]
    .concat()
    {
        asked.turns.push(Turn::User(text_of(&message)));
    }
    Ok(asked)
}

/// Writes the answer, and stores the run.
pub(super) fn write(ask: &mut Ask<'_>, path: &str, body: &Value, objects: &Objects) -> Payload {
    let id = ask.ids.make("run_", 24);
    let thread = path
        .rsplit_once("/threads/")
        .and_then(|(_, rest)| rest.split_once("/runs"))
        .map_or_else(
            || ask.ids.make("thread_", 24),
            |(thread, _)| thread.to_owned(),
        );
    let message = ask.ids.make("msg_", 24);
    let ended = match ask.said.finish {
        Finish::Length => "incomplete",
        Finish::Stop | Finish::Calls => "completed",
    };
    let run = |status: &str| run(ask, &id, &thread, body, status);
    let object = Object {
        running: run("in_progress"),
        done: run(ended),
        cancelled: run("cancelled"),
        polls: polls(ask.behaviour),
        content: Bytes::new(),
        content_type: "application/json",
    };
    let queued = run("queued");
    let answer = if ask.asked.stream {
        let mut events = vec![
            named_event("thread.run.created", &queued),
            named_event("thread.run.queued", &queued),
            named_event("thread.run.in_progress", &object.running),
        ];
        for piece in &ask.said.pieces {
            let text = object! {"value": piece, "annotations": [(); 0]};
            let part = object! {"index": 0, "type": "text", "text": text};
            let delta = object! {"content": [part]};
            let event = object! {"id": message, "object": "thread.message.delta", "delta": delta};
            events.push(named_event("thread.message.delta", &event));
        }
        events.push(named_event(&format!("thread.run.{ended}"), &object.done));
        events.push(Bytes::from_static(b"event: done\ndata: [DONE]\n\n"));
        let events = failing(events, ask.behaviour, |problem| {
            named_event("error", &error(problem))
        });
        Payload::Events(events, Newline::Lf)
    } else {
        Payload::json(&queued)
    };
    objects.put(id.clone(), object);
    answer
}

fn run(ask: &Ask<'_>, id: &str, thread: &str, body: &Value, status: &str) -> Json {
    let usage = ask
        .counts()
        .filter(|_| matches!(status, "completed" | "incomplete"));
    let usage = usage.map(|counts| {
        object! {
            "prompt_tokens": counts.input,
            "completion_tokens": counts.output,
            "total_tokens": counts.input.saturating_add(counts.output),
            "prompt_token_details": object! {"cached_tokens": counts.cached},
        }
    });
    let reason = (status == "incomplete").then(|| object! {"reason": "max_completion_tokens"});
    Members::new()
        .with("id", &id)
        .with("object", &"thread.run")
        .with("created_at", &ask.now)
        .with("assistant_id", &body.get("assistant_id"))
        .with("thread_id", &thread)
        .with("status", &status)
        .with("model", &dated(&ask.asked.model))
        .with("incomplete_details", &reason)
        .with("last_error", &())
        .with("required_action", &())
        .with("max_completion_tokens", &body.get("max_completion_tokens"))
        .with("metadata", &object! {})
        .with("tools", &[(); 0])
        .with("usage", &usage)
        .close()
}

//! Legacy text completions, OpenAI's and Anthropic's: a prompt goes on.

use serde_json::Value;

use super::{
    answer::{Ask, dated, failing},
    behaviour::Newline,
    conversation::{Conversation, Turn, text_of},
    json::{Json, Members, object},
    problem::{Dialect, Problem},
    reply::{Payload, event, named_event},
    script::Finish,
};

/// Reads a request whose output limit is `limit`.
pub(super) fn read(body: &Value, limit: &str) -> Result<Conversation, Problem> {
    let text = |key: &str| {
        let missing = || Problem::invalid(format!("{key}: Field required"));
        body.get(key).map(text_of).ok_or_else(missing)
    };
    Ok(Conversation {
        model: text("model")?,
        turns: vec![Turn::User(text("prompt")?)],
        max_tokens: body.get(limit).and_then(Value::as_u64),
        answers: 1,
        stream: body.get("stream").and_then(Value::as_bool) == Some(true),
        ..Conversation::default()
    })
}

/// Writes OpenAI's answer. `usage_asked`: the request has `stream_options.include_usage`.
pub(super) fn write(ask: &mut Ask<'_>, usage_asked: bool) -> Payload {
    let id = ask.ids.make("cmpl-", 29);
    let finish = ask.finish(match ask.said.finish {
        Finish::Length => "length",
        Finish::Stop | Finish::Calls => "stop",
    });
    let usage = ask.counts().map(|counts| {
        object! {
            "prompt_tokens": counts.input,
            "completion_tokens": counts.output,
            "total_tokens": counts.input.saturating_add(counts.output),
        }
    });
    let completion = |choices: &[Json], usage: Option<&Json>| {
        let mut members = Members::new()
            .with("id", &id)
            .with("object", &"text_completion")
            .with("created", &ask.now)
            .with("model", &ask.asked.model)
            .with("choices", &choices);
        if let Some(usage) = usage {
            members.put("usage", usage);
        }
        members.close()
    };
    let choice = |text: &str, finish: Option<&str>| {
        object! {"text": text, "index": 0, "logprobs": (), "finish_reason": finish}
    };
    if !ask.asked.stream {
        let choice = choice(&ask.said.text(), Some(finish));
        return Payload::json(&completion(&[choice], usage.as_ref()));
    }
    let chunk = |choices: &[Json], usage| event(completion(choices, usage).get());
    let pieces = ask.said.pieces.iter();
    let mut events: Vec<_> = pieces
        .map(|piece| chunk(&[choice(piece, None)], None))
        .collect();
    events.push(chunk(&[choice("", Some(finish))], None));
    if let Some(usage) = usage.filter(|_| usage_asked) {
        events.push(chunk(&[], Some(&usage)));
    }
    events.push(event("[DONE]"));
    let events = failing(events, ask.behaviour, |problem| {
        event(problem.body(Dialect::OpenAi, "").get())
    });
    Payload::Events(events, Newline::Lf)
}

/// Writes Anthropic's answer, which has no usage.
pub(super) fn write_complete(ask: &mut Ask<'_>) -> Payload {
    let id = ask.ids.make("compl_01", 22);
    let reason = ask.finish(match ask.said.finish {
        Finish::Length => "max_tokens",
        Finish::Stop | Finish::Calls => "stop_sequence",
    });
    let completion = |text: &str, reason: Option<&str>| {
        object! {
            "type": "completion",
            "id": id,
            "completion": text,
            "stop_reason": reason,
            "stop": (),
            "model": dated(&ask.asked.model),
        }
    };
    if !ask.asked.stream {
        return Payload::json(&completion(&ask.said.text(), Some(reason)));
    }
    let pieces = ask.said.pieces.iter();
    let mut events: Vec<_> = pieces
        .map(|piece| named_event("completion", &completion(piece, None)))
        .collect();
    events.push(named_event("completion", &completion("", Some(reason))));
    let events = failing(events, ask.behaviour, |problem| {
        named_event("error", &problem.body(Dialect::Anthropic, ""))
    });
    Payload::Events(events, Newline::Lf)
}

//! OpenAI's Responses in a socket: a request is a message, and the events of its stream are the
//! messages that answer it.

use serde_json::Value;

use super::{Desk, Dialogue, outbox::Outbox};
use crate::mock::{
    conversation::str_at,
    json::{Json, object},
    problem::{Dialect, Problem},
    responses,
};

pub(super) struct Responses;

impl Dialogue for Responses {
    fn hear(&mut self, message: &Value, desk: &mut Desk, out: &mut Outbox) {
        if let Err(problem) = respond(message, desk, out) {
            let told = problem.body(Dialect::OpenAi, "");
            let told: Value = serde_json::from_str(told.get()).unwrap_or_default();
            out.say(&object! {
                "type": "error",
                "status": problem.status.as_u16(),
                "error": told.get("error"),
            });
        }
    }
}

fn respond(message: &Value, desk: &mut Desk, out: &mut Outbox) -> Result<(), Problem> {
    let kind = str_at(message, "type");
    if kind != "response.create" {
        let problem = Problem::invalid(format!("Invalid value: '{kind}'."));
        return Err(problem.param("type").code("invalid_value"));
    }
    let mut body = message.clone();
    if let Some(model) = body.get_mut("model") {
        *model = desk.model(model.as_str().unwrap_or_default()).into();
    }
    let mut asked = responses::read(&body, &desk.state.stores)?;
    asked.stream = true;
    let state = std::sync::Arc::clone(&desk.state);
    let (events, behaviour) = desk.answer(&asked, |ask| {
        // A socket knows its responses, stored or not.
        responses::events(ask, &body, &state.stores)
    })?;
    let messages: Vec<Json> = events
        .iter()
        .filter_map(|event| {
            let text = std::str::from_utf8(event).ok()?;
            serde_json::from_str(text.split_once("data: ")?.1).ok()
        })
        .collect();
    out.respond(&messages, &behaviour);
    Ok(())
}

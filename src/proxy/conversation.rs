//! Conversations that the provider keeps: a request that continues one brings only what is new, so
//! that what was done before is remembered from one answer to the next request, for loop guards.

use super::exchange::Exchange;
use crate::{
    call::{
        facts::{Continued, ResponseFacts},
        steps::Steps,
    },
    provider,
};

/// Reads what was done in the conversation that the request carries in its body, after what is known
/// of the one that it continues, or of its socket's.
pub(super) fn read(exchange: &mut Exchange, body: &[u8]) {
    if !exchange.live.guards.want_conversations() {
        return;
    }
    let own = std::mem::take(&mut exchange.request.steps);
    let before = match &exchange.request.continues {
        Some(continued) => recall(exchange, continued.id()),
        None => own,
    };
    exchange.request.steps = provider::steps(body, before);
}

/// Keeps what was done in a conversation, now that an answer has been added to it.
pub(super) fn keep(exchange: &mut Exchange, facts: &mut ResponseFacts) {
    let (Some(called), Some(id)) = (facts.steps.take(), facts.id.as_deref()) else {
        return;
    };
    let mut steps = std::mem::take(&mut exchange.request.steps);
    if exchange.request.response_id.is_some() {
        // It was made before: what it was asked with is known since then, and so may be the answer.
        steps = recall(exchange, id);
        steps.add_new(called);
    } else {
        for step in called.iter() {
            steps.push(step.clone());
        }
    }
    let conversations = exchange.live.guards.conversations();
    let now = exchange.proxy.clock.mono();
    let before = match &exchange.request.continues {
        Some(Continued::Response(before)) => Some(name(exchange, before)),
        Some(Continued::Conversation(conversation)) => {
            conversations.keep(name(exchange, conversation), None, steps.clone(), now);
            None
        },
        None => None,
    };
    conversations.keep(name(exchange, id), before, steps, now);
}

fn recall(exchange: &Exchange, id: &str) -> Steps {
    let conversations = exchange.live.guards.conversations();
    conversations.recall(name(exchange, id), exchange.proxy.clock.mono())
}

/// What a conversation is known by. Ids are the provider's; another caller's are nobody's business.
fn name<'a>(exchange: &'a Exchange, id: &'a str) -> (&'a str, Option<&'a str>, &'a str) {
    let key = exchange.caller.name();
    let caller = key.or(exchange.credential.as_deref());
    (&exchange.route.to.provider.name, caller, id)
}

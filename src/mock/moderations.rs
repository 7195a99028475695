//! OpenAI's moderations: nothing is ever wrong.

use serde_json::Value;

use super::{
    endpoint::Order,
    json::{Json, Members, object},
    reply::Payload,
};

const CATEGORIES: &[&str] = &[
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];

/// Answers a request: a result for each text.
pub(super) fn write(order: &mut Order<'_>) -> Payload {
    let count = match order.body.get("input") {
        Some(Value::Array(inputs)) if inputs.iter().all(Value::is_string) => inputs.len(),
        _ => 1,
    };
    let model = match order.model {
        "" => "omni-moderation-latest",
        model => model,
    };
    Payload::json(&object! {
        "id": order.ids.make("modr-", 32),
        "model": model,
        "results": vec![result(); count],
    })
}

fn result() -> Json {
    let (mut flags, mut scores, mut kinds) = (Members::new(), Members::new(), Members::new());
    for category in CATEGORIES {
        flags.put(category, &false);
        scores.put(category, &0.0001);
        kinds.put(category, &["text"]);
    }
    object! {
        "flagged": false,
        "categories": flags.close(),
        "category_scores": scores.close(),
        "category_applied_input_types": kinds.close(),
    }
}

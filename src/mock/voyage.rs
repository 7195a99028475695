//! Voyage's embeddings and rankings, which count nothing but a total.

use serde_json::Value;

use super::{
    behaviour::Counts,
    conversation::{list_at, str_at, text_of, tokens},
    embeddings,
    json::{Json, Members, object},
    problem::Problem,
};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Embed,
    Rerank,
}

/// Whether Voyage serves the model: Cohere's rankings are by `rerank-v3.5` and the like.
pub(super) fn serves(model: &str) -> bool {
    let version = model.strip_prefix("rerank-");
    model.starts_with("voyage-")
        || version.is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()))
}

/// The answer to a request.
pub(super) fn write(body: &Value, verb: Verb, wanted: Counts) -> Result<Json, Problem> {
    let inputs = match verb {
        Verb::Rerank => {
            let query = body.get("query").cloned();
            list_at(body, "documents")
                .iter()
                .cloned()
                .chain(query)
                .collect()
        },
        Verb::Embed => embeddings::inputs(body)?,
    };
    let data: Vec<_> = match verb {
        Verb::Rerank => (0..list_at(body, "documents").len())
            .map(|index| object! {"relevance_score": 0.5, "index": index})
            .collect(),
        Verb::Embed => embeddings::data(body, &inputs),
    };
    let mut members = Members::new()
        .with("object", &"list")
        .with("data", &data)
        .with("model", &str_at(body, "model"));
    if !wanted.absent {
        let counted = |input: &Value| tokens(text_of(input).len());
        let total = wanted
            .input
            .unwrap_or_else(|| inputs.iter().map(counted).sum());
        members.put("usage", &object! {"total_tokens": total});
    }
    Ok(members.close())
}

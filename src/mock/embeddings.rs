//! OpenAI's embeddings. A text's vector follows from the text, so equal texts are equal.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    answer::by_mistral,
    behaviour::Counts,
    conversation::{str_at, text_of, tokens},
    json::{Json, Members, object, text, value},
    problem::Problem,
};

/// The answer to a request: vectors of the asked length, as numbers or base64.
pub(super) fn write(body: &Value, wanted: Counts) -> Result<Json, Problem> {
    let Some(model) = body.get("model").and_then(Value::as_str) else {
        return Err(Problem::invalid("you must provide a model parameter"));
    };
    let inputs = inputs(body)?;
    let mut members = Members::new();
    if by_mistral(model) {
        members.put("id", &"embd-mock");
    }
    members.put("object", &"list");
    members.put("data", &data(body, &inputs));
    members.put("model", &model);
    if !wanted.absent {
        let total = wanted
            .input
            .unwrap_or_else(|| inputs.iter().map(counted).sum());
        members.put(
            "usage",
            &object! {"prompt_tokens": total, "total_tokens": total},
        );
    }
    Ok(members.close())
}

/// What is to be embedded: texts, or lists of tokens.
pub(super) fn inputs(body: &Value) -> Result<Vec<Value>, Problem> {
    match body.get("input") {
        Some(Value::Array(inputs)) if !inputs.iter().all(Value::is_number) => Ok(inputs.clone()),
        Some(input) => Ok(vec![input.clone()]),
        None => {
            let problem = Problem::invalid("Missing required parameter: 'input'.");
            Err(problem.param("input").code("missing_required_parameter"))
        },
    }
}

/// Tokens of an input: its own number of them if it is a list of tokens.
fn counted(input: &Value) -> u64 {
    match input {
        Value::Array(tokens) => u64::try_from(tokens.len()).unwrap_or(u64::MAX),
        other => tokens(text_of(other).len()),
    }
}

/// The vectors of these inputs.
pub(super) fn data(body: &Value, inputs: &[Value]) -> Vec<Json> {
    let dimensions = body
        .get("dimensions")
        .and_then(Value::as_u64)
        .unwrap_or(1536);
    let dimensions = usize::try_from(dimensions).unwrap_or(usize::MAX).min(4096);
    let base64 = str_at(body, "encoding_format") == "base64";
    let embedding = |input: &Value| {
        let numbers = vector(input, dimensions);
        if base64 {
            let bytes: Vec<u8> = numbers
                .iter()
                .flat_map(|number| number.to_le_bytes())
                .collect();
            value(&STANDARD.encode(bytes))
        } else {
            value(&numbers)
        }
    };
    let datum = |(index, input)| {
        object! {"object": "embedding", "index": index, "embedding": embedding(input)}
    };
    inputs.iter().enumerate().map(datum).collect()
}

/// Numbers that follow from a text.
pub(super) fn vector(input: &Value, dimensions: usize) -> Vec<f32> {
    let seed = u64::from(crc32fast::hash(text(input).as_bytes()));
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.f32() - 0.5)
        .take(dimensions)
        .collect()
}

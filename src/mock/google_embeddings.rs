//! Google's embeddings, in the three forms that they have, and Imagen's images.

use serde_json::Value;

use super::{
    behaviour::Counts,
    conversation::{list_at, text_of, tokens},
    embeddings::vector,
    json::{Json, Members, object},
    problem::Problem,
};

/// How embeddings are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `:embedContent`
    One,
    /// `:batchEmbedContents`
    Batch,
    /// `:predict`, which images share.
    Predict,
}

const DIMENSIONS: usize = 768;
/// A picture of one pixel.
const PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+M8AAAMBAQDJ/pLvAAAAAElFTkSuQmCC";

/// The answer to a request.
pub(super) fn write(
    body: &Value,
    form: Form,
    model: &str,
    wanted: Counts,
) -> Result<Json, Problem> {
    let inputs: Vec<Value> = match form {
        Form::One => body.get("content").map(content).into_iter().collect(),
        Form::Batch => list_at(body, "requests")
            .iter()
            .filter_map(|request| request.get("content").map(content))
            .collect(),
        Form::Predict if model.starts_with("imag") => return Ok(images(body)),
        Form::Predict => list_at(body, "instances")
            .iter()
            .filter_map(|instance| instance.get("content").cloned())
            .collect(),
    };
    if inputs.is_empty() {
        return Err(Problem::invalid("There is nothing to embed."));
    }
    let counted = |input: &Value| tokens(text_of(input).len());
    let total = wanted
        .input
        .unwrap_or_else(|| inputs.iter().map(counted).sum());
    let values = |input: &Value| object! {"values": vector(input, DIMENSIONS)};
    let mut members = Members::new();
    match form {
        Form::One => members.put("embedding", &inputs.first().map(values)),
        Form::Batch => members.put("embeddings", &inputs.iter().map(values).collect::<Vec<_>>()),
        Form::Predict => {
            // All that is to be counted is said of the first.
            let counts = std::iter::once(total).chain(std::iter::repeat(0));
            let predictions: Vec<_> = inputs
                .iter()
                .zip(counts)
                .map(|(input, count)| prediction(input, (!wanted.absent).then_some(count)))
                .collect();
            members.put("predictions", &predictions);
        },
    }
    if form != Form::Predict && !wanted.absent {
        members.put("usageMetadata", &object! {"promptTokenCount": total});
    }
    Ok(members.close())
}

fn prediction(input: &Value, count: Option<u64>) -> Json {
    let mut members = Members::new();
    if let Some(count) = count {
        let statistics = object! {"truncated": false, "token_count": count};
        members.put("statistics", &statistics);
    }
    let embedding = members.with("values", &vector(input, DIMENSIONS)).close();
    object! {"embeddings": embedding}
}

/// The text of a content's parts.
fn content(content: &Value) -> Value {
    let parts = list_at(content, "parts").iter().map(text_of);
    Value::from(parts.collect::<String>())
}

fn images(body: &Value) -> Json {
    let count = body.pointer("/parameters/sampleCount");
    let count = count.and_then(Value::as_u64).unwrap_or(4).min(8);
    let image = object! {"mimeType": "image/png", "bytesBase64Encoded": PIXEL};
    let images: Vec<_> = (0..count).map(|_| image.clone()).collect();
    object! {"predictions": images}
}

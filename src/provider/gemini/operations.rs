//! The endpoints of Google's Gemini API, and of Vertex AI, by the end of their paths.

use http::Method;

use crate::{
    call::{
        facts::{Operation, Spends},
        outcome::Kind,
    },
    provider::{dialect::other_than_post, wire::percent},
};

/// An answer in one piece.
pub(super) const GENERATE: Operation = Operation {
    name: "generateContent",
    gen_ai: Some("generate_content"),
    kind: Kind::Llm,
    spends: Spends::Tokens,
};
/// An answer as a stream.
pub(super) const STREAM: Operation = Operation {
    name: "streamGenerateContent",
    ..GENERATE
};
/// A turn of the model in a Live socket.
pub(super) const LIVE_TURN: Operation = Operation {
    name: "live.turn",
    gen_ai: Some("realtime"),
    ..GENERATE
};
/// An embedding, or several.
pub(super) const EMBED: Operation = Operation {
    name: "embedContent",
    gen_ai: Some("embeddings"),
    kind: Kind::Embedding,
    spends: Spends::Tokens,
};
/// Embeddings by the models of Vertex AI that only have `:predict`.
pub(super) const PREDICT: Operation = Operation {
    name: "predict",
    ..EMBED
};
/// Imagen's images.
pub(super) const IMAGES: Operation = Operation {
    name: "images.predict",
    ..GENERATE
};
/// Content is stored to be read by later calls: it is billed by the hour, which no answer says.
const CACHE: Operation = Operation {
    name: "cachedContents",
    ..Operation::OTHER
};
/// A batch is made: it spends when its results are there.
const BATCH: Operation = Operation {
    name: "batchGenerateContent",
    ..Operation::OTHER
};
/// A batch is looked at: its results may be in it.
pub(super) const BATCH_RESULTS: Operation = Operation {
    name: "batches.get",
    spends: Spends::Lines,
    ..Operation::READ
};
/// The content of a file: the results of a batch, or anything else.
pub(super) const DOWNLOAD: Operation = Operation {
    name: "files.download",
    spends: Spends::Lines,
    ..Operation::READ
};
const COUNT_TOKENS: Operation = Operation {
    name: "countTokens",
    ..Operation::READ
};

/// What a request to `path` is.
pub(super) fn of(method: &Method, path: &str) -> &'static Operation {
    if *method == Method::GET && stored_id(path).is_some() {
        return match split(path) {
            Some(_) => &DOWNLOAD,
            None => &BATCH_RESULTS,
        };
    }
    if *method != Method::POST {
        return other_than_post(method);
    }
    match split(path) {
        Some((_, "generateContent")) => &GENERATE,
        Some((_, "streamGenerateContent")) => &STREAM,
        Some((_, "embedContent" | "batchEmbedContents")) => &EMBED,
        Some((_, "countTokens" | "computeTokens")) => &COUNT_TOKENS,
        Some((_, "batchGenerateContent")) => &BATCH,
        Some((_, "cancel")) if parent(path).is_some_and(is_job) => &Operation::READ,
        Some((model, "predict")) if model.contains("embed") || model.contains("gecko") => &PREDICT,
        Some((model, "predict")) if model.starts_with("imag") => &IMAGES,
        None if path.ends_with("/cachedContents") => &CACHE,
        None if path.ends_with("/files") || path.ends_with("/fileSearchStores") => &Operation::READ,
        _ => &Operation::OTHER,
    }
}

/// The id in the path of a batch, or of a file whose content is asked for.
pub(super) fn stored_id(path: &str) -> Option<&str> {
    let mut segments = path.trim_end_matches('/').rsplit('/');
    let (last, parent) = (segments.next()?, segments.next()?);
    let id = match (parent, last.split_once(':')) {
        ("batches", None) => last,
        ("files", Some((id, "download"))) => id,
        _ => return None,
    };
    (!id.is_empty()).then_some(id)
}

/// The model in a path: what only models do names one wherever it lies; anything else that is done
/// (`:cancel`, `:importFile`) does so if what it is done to lies where models do.
pub(super) fn model(op: &Operation, path: &str) -> Option<Box<str>> {
    let (model, _) = split(path)?;
    let is_one = op.gen_ai.is_some() || parent(path).is_some_and(holds_models);
    is_one.then(|| percent::name(model)).flatten()
}

/// Whether what lies there is called as a model.
fn holds_models(parent: &str) -> bool {
    let places = ["models", "tunedModels", "dynamic", "endpoints"];
    places.iter().any(|name| parent.eq_ignore_ascii_case(name))
}

/// Whether what lies there is work that goes on behind the answer, which can be cancelled.
fn is_job(parent: &str) -> bool {
    ["batches", "batchPredictionJobs", "tuningJobs", "operations"].contains(&parent)
}

/// The segment before the last.
fn parent(path: &str) -> Option<&str> {
    path.trim_end_matches('/').rsplit('/').nth(1)
}

/// The model and the method that a path ends in: `gemini-2.5-flash:generateContent`.
fn split(path: &str) -> Option<(&str, &str)> {
    path.trim_end_matches('/')
        .rsplit('/')
        .next()?
        .rsplit_once(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_batches_are_known_by_what_they_are_stored_in() {
        for (method, path, name, id) in [
            (Method::GET, "/v1beta/batches/b1", "batches.get", Some("b1")),
            (
                Method::GET,
                "/download/v1beta/files/batch-b1:download",
                "files.download",
                Some("batch-b1"),
            ),
            (Method::GET, "/v1beta/files/f1", "http", None),
            (Method::GET, "/v1beta/batches", "http", None),
            (Method::POST, "/v1beta/batches/b1:cancel", "http", None),
            (Method::POST, "/v1beta/batches/b1:cancel/", "http", None),
        ] {
            assert_eq!(of(&method, path).name, name, "{path}");
            let op = of(&method, path);
            assert_eq!((stored_id(path), model(op, path)), (id, None), "{path}");
            assert_ne!(op.spends, Spends::Unknown, "{path}");
        }
    }

    #[test]
    fn only_what_lies_where_models_do_or_does_what_they_do_is_a_model() {
        let vertex = "/v1/projects/p/locations/l";
        for (path, found, spends) in [
            (
                "/v1beta/fileSearchStores/s:importFile",
                None,
                Spends::Unknown,
            ),
            ("/v1beta/files:register", None, Spends::Unknown),
            ("{vertex}/reasoningEngines/1:query", None, Spends::Unknown),
            (
                "{vertex}/batchPredictionJobs/1:cancel",
                None,
                Spends::Nothing,
            ),
            ("{vertex}/tuningJobs/1:cancel", None, Spends::Nothing),
            (
                "/v1beta/models/g/operations/1:cancel",
                None,
                Spends::Nothing,
            ),
            // No job: it may be anything.
            (
                "/batches/v1/chat/completions/1:cancel",
                None,
                Spends::Unknown,
            ),
            ("/v1beta/models/g:cancel", Some("g"), Spends::Unknown),
            (
                "/v1beta/tunedModels/t:generateContent",
                Some("t"),
                Spends::Tokens,
            ),
            (
                "/v1beta/tunedModels/t:batchGenerateContent",
                Some("t"),
                Spends::Unknown,
            ),
            (
                "/v1beta/dynamic/d:generateContent",
                Some("d"),
                Spends::Tokens,
            ),
            ("/v1beta/Models/g:countTokens", Some("g"), Spends::Nothing),
            (
                "{vertex}/endpoints/1:rawPredict",
                Some("1"),
                Spends::Unknown,
            ),
            (
                "{vertex}/endpoints/1:generateContent",
                Some("1"),
                Spends::Tokens,
            ),
            ("/gateway/g:generateContent", Some("g"), Spends::Tokens),
        ] {
            let path = path.replace("{vertex}", vertex);
            let op = of(&Method::POST, &path);
            assert_eq!(model(op, &path).as_deref(), found, "{path}");
            assert_eq!(op.spends, spends, "{path}");
        }
    }

    #[test]
    fn an_operation_and_its_model_are_known_by_the_end_of_the_path() {
        for (path, name, found) in [
            (
                "/v1beta/models/gemini-2.5-flash:generateContent",
                "generateContent",
                Some("gemini-2.5-flash"),
            ),
            (
                "/v1beta/models/gemini-x:streamGenerateContent",
                "streamGenerateContent",
                Some("gemini-x"),
            ),
            (
                "/v1beta1/projects/p/locations/l/publishers/google/models/gemini-x:generateContent",
                "generateContent",
                Some("gemini-x"),
            ),
            (
                "/v1beta/models/e:batchEmbedContents",
                "embedContent",
                Some("e"),
            ),
            ("/v1beta/models/g:countTokens", "countTokens", Some("g")),
            ("/v1beta/models/g:predict", "http", Some("g")),
            (
                "/v1/projects/p/locations/l/publishers/google/models/text-embedding-005:predict",
                "predict",
                Some("text-embedding-005"),
            ),
            (
                "/v1beta/models/imagen-4.0-generate-001:predict",
                "images.predict",
                Some("imagen-4.0-generate-001"),
            ),
            (
                "/v1beta/models/a%40b:generateContent",
                "generateContent",
                Some("a@b"),
            ),
            (
                "/v1beta/models/g:batchGenerateContent",
                "batchGenerateContent",
                Some("g"),
            ),
            ("/v1beta/cachedContents", "cachedContents", None),
            ("/v1beta/fileSearchStores", "http", None),
            ("/upload/v1beta/files", "http", None),
        ] {
            let op = of(&Method::POST, path);
            assert_eq!(op.name, name, "{path}");
            assert_eq!(model(op, path).as_deref(), found, "{path}");
        }
        assert_eq!(
            of(&Method::POST, "/v1beta/cachedContents").spends,
            Spends::Unknown
        );
        assert_eq!(of(&Method::GET, "/v1beta/models").spends, Spends::Nothing);
    }
}

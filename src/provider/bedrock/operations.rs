//! The endpoints of Bedrock's runtime, `/model/{model}/{verb}`, and the model in the path.

use http::Method;

use crate::{
    call::{
        facts::{Operation, Spends},
        outcome::Kind,
    },
    provider::wire::percent,
};

/// An answer in one piece, in the form that is the same for all models.
pub(super) const CONVERSE: Operation = Operation {
    name: "converse",
    gen_ai: Some("chat"),
    kind: Kind::Llm,
    spends: Spends::Tokens,
};
/// The same as a stream.
pub(super) const CONVERSE_STREAM: Operation = Operation {
    name: "converse_stream",
    ..CONVERSE
};
/// An answer in one piece, in the vendor's own form.
pub(super) const INVOKE: Operation = Operation {
    name: "invoke",
    ..CONVERSE
};
/// The same as a stream.
pub(super) const INVOKE_STREAM: Operation = Operation {
    name: "invoke_stream",
    ..CONVERSE
};
/// Embeddings, in the vendor's own form.
pub(super) const EMBED: Operation = Operation {
    name: "embed",
    gen_ai: Some("embeddings"),
    kind: Kind::Embedding,
    spends: Spends::Tokens,
};
/// Counting tokens without spending any.
const COUNT_TOKENS: Operation = Operation {
    name: "count_tokens",
    ..Operation::READ
};

/// What a request to `path` is.
pub(super) fn of(method: &Method, path: &str) -> &'static Operation {
    if *method != Method::POST {
        return if method.is_safe() {
            &Operation::READ
        } else {
            &Operation::OTHER
        };
    }
    match split(path) {
        Some((_, "converse")) => &CONVERSE,
        Some((_, "converse-stream")) => &CONVERSE_STREAM,
        // A name of one's own (an ARN) may hide an embedder: what it makes shows in the answer.
        Some((model, "invoke")) if model.contains("embed") => &EMBED,
        Some((_, "invoke")) => &INVOKE,
        Some((_, "invoke-with-response-stream")) => &INVOKE_STREAM,
        Some((_, "count-tokens")) => &COUNT_TOKENS,
        _ => &Operation::OTHER,
    }
}

/// The model in a path, decoded: a name, or the ARN of a model, a profile or a prompt.
pub(super) fn model(path: &str) -> Option<Box<str>> {
    let (model, _) = split(path)?;
    percent::name(model)
}

/// The model and the verb. Slashes within an ARN may or may not be encoded.
fn split(path: &str) -> Option<(&str, &str)> {
    let (_, rest) = path.split_once("/model/")?;
    rest.trim_end_matches('/').rsplit_once('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_and_its_model_are_in_the_path() {
        const PROFILE: &str =
            "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/x1";
        for (path, name, found) in [
            (
                "/model/us.anthropic.claude-sonnet-4-v1%3A0/converse",
                "converse",
                Some("us.anthropic.claude-sonnet-4-v1:0"),
            ),
            (
                "/model/a.b-v1:0/converse-stream",
                "converse_stream",
                Some("a.b-v1:0"),
            ),
            (
                "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Aapplication-inference-profile%2Fx1/invoke",
                "invoke",
                Some(PROFILE),
            ),
            (
                "/model/arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/x1/invoke",
                "invoke",
                Some(PROFILE),
            ),
            (
                "/model/amazon.titan-embed-text-v2%3a0/invoke",
                "embed",
                Some("amazon.titan-embed-text-v2:0"),
            ),
            (
                "/model/m/invoke-with-response-stream",
                "invoke_stream",
                Some("m"),
            ),
            ("/model/m%zz%/count-tokens", "count_tokens", Some("m%zz%")),
            ("/model//invoke", "invoke", None),
            ("/guardrail/g/version/1/apply", "http", None),
        ] {
            assert_eq!(of(&Method::POST, path).name, name, "{path}");
            assert_eq!(model(path).as_deref(), found, "{path}");
        }
        assert_eq!(of(&Method::POST, "/async-invoke").spends, Spends::Unknown);
        assert_eq!(of(&Method::GET, "/async-invoke").spends, Spends::Nothing);
        assert_eq!(
            model(&format!("/model/{}/invoke", "é".repeat(400)))
                .unwrap()
                .len(),
            512
        );
    }
}

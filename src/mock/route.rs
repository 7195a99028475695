//! Which operation a path names. Only the path's end is looked at, so that every prefix works:
//! `/openai/v1/chat/completions`, `/api/v1/chat/completions`, Azure's deployments.

use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::{
    bedrock::{self, Verb},
    cohere,
    endpoint::Endpoint,
    gemini::Manner,
    google_embeddings::Form,
    ollama,
    problem::Dialect,
    socket::Kind,
    stored::Deed,
    voyage, watsonx, writer,
};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Chat,
    Completions,
    Responses,
    ResponsesCount,
    Compact,
    Run,
    /// What is done with the stored response of this id.
    Stored(Deed, String),
    Embeddings,
    Messages,
    MessagesCount,
    Complete,
    /// What is no conversation.
    Beside(Endpoint),
    /// The model is in the path, settings included.
    Generate(Manner),
    GenerateCount,
    /// The model is in the path, settings included.
    Bedrock(Verb),
    Cohere(cohere::Verb),
    Ollama(ollama::Verb),
    Watsonx(watsonx::Verb),
    AlephAlpha,
    Voyage(voyage::Verb),
    /// Writer's completions.
    Writer,
    /// Embeddings, or images; the model is in the path.
    Embed(Form),
    Models(Dialect),
    /// A handshake that is to be answered with 101.
    Socket(Kind),
    Echo,
}

impl Operation {
    pub(super) fn of(method: &Method, target: &str, headers: &HeaderMap) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if let Some(kind) = Kind::of(method, path, headers) {
            return Self::Socket(kind);
        }
        if let Some((deed, id)) = Deed::of(method, path) {
            return Self::Stored(deed, id.to_owned());
        }
        if let Some(endpoint) = Endpoint::of(method, path) {
            return Self::Beside(endpoint);
        }
        if *method == Method::POST {
            return Self::of_post(path, query);
        }
        if *method == Method::GET && path.ends_with("/models") {
            return Self::Models(if headers.contains_key("anthropic-version") {
                Dialect::Anthropic
            } else if path.ends_with("/v1beta/models") || headers.contains_key("x-goog-api-key") {
                Dialect::Gemini
            } else {
                Dialect::OpenAi
            });
        }
        Self::Echo
    }

    fn of_post(path: &str, query: &str) -> Self {
        const ENDS: &[(&str, Operation)] = &[
            ("/chat/completions", Operation::Chat),
            ("/completions", Operation::Completions),
            ("/responses", Operation::Responses),
            ("/responses/input_tokens", Operation::ResponsesCount),
            ("/responses/compact", Operation::Compact),
            ("/runs", Operation::Run),
            ("/embeddings", Operation::Embeddings),
            ("/v1/messages", Operation::Messages),
            ("/v1/messages/count_tokens", Operation::MessagesCount),
            ("/v1/complete", Operation::Complete),
            ("/complete", Operation::AlephAlpha),
            // watsonx.ai; Databricks.
            ("/text/chat", Operation::Chat),
            ("/text/chat_stream", Operation::Chat),
            ("/invocations", Operation::Chat),
            (":generateContent", Operation::Generate(Manner::Whole)),
            (":countTokens", Operation::GenerateCount),
            (":embedContent", Operation::Embed(Form::One)),
            (":batchEmbedContents", Operation::Embed(Form::Batch)),
            (":predict", Operation::Embed(Form::Predict)),
            ("/count-tokens:rawPredict", Operation::MessagesCount),
            (":rawPredict", Operation::Messages),
            (":streamRawPredict", Operation::Messages),
        ];
        if path.ends_with(":streamGenerateContent") {
            let events = query.split('&').any(|pair| pair == "alt=sse");
            return Self::Generate(if events {
                Manner::Events
            } else {
                Manner::Array
            });
        }
        if let Some(verb) = Verb::of(path) {
            return Self::Bedrock(verb);
        }
        if let Some(verb) = cohere::Verb::of(path) {
            return Self::Cohere(verb);
        }
        if let Some(verb) = ollama::Verb::of(path) {
            return Self::Ollama(verb);
        }
        if let Some(verb) = watsonx::Verb::of(path) {
            return Self::Watsonx(verb);
        }
        let found = ENDS.iter().find(|(end, _)| path.ends_with(end));
        found.map_or(Self::Echo, |(_, operation)| operation.clone())
    }

    /// The operation, as the body tells it where two hosts have the same path. Into the body is put
    /// what some hosts have elsewhere: the model, and that a stream with usage is wanted.
    pub(super) fn settled(self, path: &str, model: &str, body: &mut Value) -> Self {
        // Anthropic's models on Vertex AI; Databricks' and watsonx.ai's chat.
        let is_elsewhere = path.ends_with("awPredict") || self == Self::Chat;
        if let Some(body) = body.as_object_mut()
            && is_elsewhere
            && !model.is_empty()
        {
            body.entry("model").or_insert_with(|| model.into());
            if path.ends_with("/chat_stream") {
                body.insert("stream".to_owned(), true.into());
                let options = json!({"include_usage": true});
                body.insert("stream_options".to_owned(), options);
            }
        }
        match self {
            Self::Cohere(cohere::Verb::ChatV1) if body.get("messages").is_some() => Self::Chat,
            Self::Completions if writer::serves(model) => Self::Writer,
            Self::Embeddings if voyage::serves(model) => Self::Voyage(voyage::Verb::Embed),
            Self::Cohere(cohere::Verb::Rerank) if voyage::serves(model) => {
                Self::Voyage(voyage::Verb::Rerank)
            },
            told => told,
        }
    }

    /// Whether a batch can have requests for it.
    pub(super) const fn can_be_in_batch(&self) -> bool {
        match self {
            Self::Beside(endpoint) => endpoint.can_be_in_batch(),
            Self::Chat
            | Self::Completions
            | Self::Responses
            | Self::Embeddings
            | Self::Generate(Manner::Whole)
            | Self::Messages => true,
            _ => false,
        }
    }

    /// Whose errors are spoken.
    pub(super) const fn dialect(&self) -> Dialect {
        match self {
            Self::Models(dialect) => *dialect,
            Self::Socket(kind) => kind.dialect(),
            Self::Beside(endpoint) => endpoint.dialect(),
            Self::Messages | Self::MessagesCount | Self::Complete => Dialect::Anthropic,
            Self::Generate(_) | Self::GenerateCount | Self::Embed(_) => Dialect::Gemini,
            Self::Bedrock(_) => Dialect::Bedrock,
            Self::Cohere(_) => Dialect::Cohere,
            Self::Ollama(_) => Dialect::Ollama,
            Self::Watsonx(_) => Dialect::Watsonx,
            Self::AlephAlpha => Dialect::AlephAlpha,
            Self::Voyage(_) => Dialect::Voyage,
            Self::Chat
            | Self::Completions
            | Self::Responses
            | Self::ResponsesCount
            | Self::Compact
            | Self::Run
            | Self::Stored(..)
            | Self::Embeddings
            | Self::Writer
            | Self::Echo => Dialect::OpenAi,
        }
    }
}

/// The model in a body, watsonx.ai's included.
pub(super) fn model_of(body: &mut Value) -> Option<&mut Value> {
    let body = body.as_object_mut()?;
    let mut names = ["model", "model_id"].into_iter();
    let name = names.find(|name| body.contains_key(*name))?;
    body.get_mut(name)
}

/// The model in a path like `/v1beta/models/{model}:generateContent`, `/model/{model}/converse` or
/// `/serving-endpoints/{model}/invocations`; empty if there is none.
pub(super) fn model_in(path: &str) -> String {
    if let Some(model) = bedrock::model_in(path) {
        return model;
    }
    let mut segments = path.rsplit('/');
    let last = segments.next().unwrap_or_default();
    if last == "invocations" {
        return segments.next().unwrap_or_default().to_owned();
    }
    let model = last.rsplit_once(':').map_or("", |(model, _)| model);
    // Clients may encode what separates settings.
    model.replace("%3B", ";").replace("%3D", "=")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &Method, target: &str) -> Operation {
        Operation::of(method, target, &HeaderMap::new())
    }

    #[test]
    fn the_end_of_a_path_names_the_operation() {
        let post = |target| of(&Method::POST, target);
        assert_eq!(post("/openai/v1/chat/completions"), Operation::Chat);
        assert_eq!(
            post("/openai/deployments/x/chat/completions?api-version=1"),
            Operation::Chat
        );
        assert_eq!(post("/v1/responses"), Operation::Responses);
        assert_eq!(
            post("/v1/responses/input_tokens"),
            Operation::ResponsesCount
        );
        let sse = "/v1beta/models/m:streamGenerateContent?alt=sse";
        assert_eq!(post(sse), Operation::Generate(Manner::Events));
        let claude = "/v1/projects/p/locations/l/publishers/anthropic/models/c:streamRawPredict";
        assert_eq!(post(claude), Operation::Messages);
        assert_eq!(post("/v1/files"), Operation::Beside(Endpoint::Upload));
        assert_eq!(post("/v1/vector_stores"), Operation::Echo);
        assert_eq!(post("/v2/chat"), Operation::Cohere(cohere::Verb::Chat));
        assert_eq!(post("/api/chat"), Operation::Ollama(ollama::Verb::Chat));
        let stored = |deed| Operation::Stored(deed, "resp_1".into());
        assert_eq!(post("/v1/responses/resp_1/cancel"), stored(Deed::Cancel));
        assert_eq!(
            of(&Method::GET, "/v1/responses/resp_1?a"),
            stored(Deed::Retrieve)
        );
        assert_eq!(
            of(&Method::GET, "/v1/responses/resp_1/input_items"),
            Operation::Echo
        );
    }

    #[test]
    fn a_models_settings_can_be_in_the_path() {
        assert_eq!(
            model_in("/v1beta/models/g%3Bstatus%3D429:countTokens"),
            "g;status=429"
        );
    }
}

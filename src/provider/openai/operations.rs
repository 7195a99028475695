//! The endpoints of `OpenAI`'s API, by the end of their paths.

use http::Method;

use crate::{
    call::{
        facts::{Operation, Spends},
        outcome::Kind,
    },
    provider::{vertex, wire::percent},
};

/// Chat completions.
pub(super) const CHAT: Operation = generation("chat", "chat");
/// Legacy text completions.
pub(super) const COMPLETIONS: Operation = generation("completions", "text_completion");
/// Chat completions of a model on Vertex AI whose publisher has them: they report usage unasked.
const RAW_PREDICT: Operation = generation("rawPredict", "chat");
/// A model's answer through the Responses API.
pub(super) const RESPONSES: Operation = generation("responses", "chat");
/// Compaction of a conversation: the answer names no model.
pub(super) const COMPACT: Operation = generation("responses.compact", "chat");
/// A stored response that is read, as a poll or as a stream.
pub(super) const RETRIEVE: Operation = Operation {
    spends: Spends::Once,
    ..generation("responses.retrieve", "chat")
};
/// A background response that is cancelled; the answer is the response, and its end.
pub(super) const CANCEL: Operation = Operation {
    spends: Spends::Once,
    ..free("responses.cancel")
};
/// Counting tokens without spending any.
pub(super) const INPUT_TOKENS: Operation = Operation {
    kind: Kind::Llm,
    ..free("responses.input_tokens")
};
/// Embeddings.
pub(super) const EMBEDDINGS: Operation = Operation {
    kind: Kind::Embedding,
    ..generation("embeddings", "embeddings")
};
/// Moderations cost nothing.
const MODERATIONS: Operation = Operation {
    kind: Kind::Llm,
    ..free("moderations")
};
/// What goes between two texts (Mistral): asked as a completion is, answered as chat is.
pub(super) const FIM: Operation = generation("fim", "text_completion");
/// Documents in the order in which they answer a question (Voyage, Together, Jina, vLLM).
pub(super) const RERANK: Operation = Operation {
    gen_ai: None,
    ..generation("rerank", "")
};
/// Images made from text.
pub(super) const IMAGES: Operation = generation("images.generations", "generate_content");
/// Images made from images: changed, or varied.
pub(super) const IMAGE_EDITS: Operation = generation("images.edits", "generate_content");
/// Text read aloud.
pub(super) const SPEECH: Operation = generation("audio.speech", "generate_content");
/// Audio written down, in its own language or in English.
pub(super) const TRANSCRIPTIONS: Operation = generation("audio.transcriptions", "generate_content");
/// A run of an assistant, which goes on whether or not anyone waits for it.
pub(super) const RUNS: Operation = generation("runs", "invoke_agent");
/// A run that is looked at, cancelled, or given what its tools returned.
pub(super) const RUN: Operation = Operation {
    spends: Spends::Once,
    ..generation("runs.retrieve", "invoke_agent")
};
/// The content of a file: the results of a batch, or anything else.
pub(super) const FILE_CONTENT: Operation = Operation {
    spends: Spends::Lines,
    ..free("files.content")
};
/// A batch is made: it spends when its results are there.
const BATCHES: Operation = Operation {
    name: "batches",
    ..Operation::OTHER
};
/// A response in a Realtime socket.
pub(super) const REALTIME_RESPONSE: Operation = generation("realtime.response", "realtime");
/// A socket of the Realtime or the Responses API.
const SOCKET: Operation = Operation {
    spends: Spends::Inside,
    ..free("realtime")
};

const fn generation(name: &'static str, gen_ai: &'static str) -> Operation {
    Operation {
        name,
        gen_ai: Some(gen_ai),
        kind: Kind::Llm,
        spends: Spends::Tokens,
    }
}

const fn free(name: &'static str) -> Operation {
    Operation {
        name,
        ..Operation::READ
    }
}

/// What a request to `path` is. Some servers, Azure's among them, do not tell capitals.
pub(super) fn of(method: &Method, path: &str) -> &'static Operation {
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return in_small_letters(method, path, &path.to_ascii_lowercase());
    }
    in_small_letters(method, path, path)
}

fn in_small_letters(method: &Method, written: &str, path: &str) -> &'static Operation {
    let mut segments = path.trim_end_matches('/').rsplit('/');
    let mut segment = || segments.next().unwrap_or_default();
    let (last, before, first) = (segment(), segment(), segment());
    let in_assistants = |name| matches!(name, "threads" | "assistants");
    if *method == Method::POST {
        let raw = vertex::raw(written);
        if raw.is_some_and(|raw| matches!(raw.publisher, "mistralai" | "ai21")) {
            return &RAW_PREDICT;
        }
        return match (first, before, last) {
            ("threads", _, "runs") | (_, "threads", "runs") => &RUNS,
            ("runs", _, "submit_tool_outputs" | "cancel") => &RUN,
            (_, parent, name) if in_assistants(parent) || in_assistants(name) => &Operation::READ,
            (_, "chat" | "agents", "completions")
            // Writer; watsonx.ai; Databricks; Snowflake.
            | (_, "v1", "chat")
            | (_, "text", "chat" | "chat_stream")
            | ("serving-endpoints", _, "invocations")
            | (_, "cortex", "inference:complete") => &CHAT,
            (_, "fim", "completions") => &FIM,
            (_, _, "completions") => &COMPLETIONS,
            (_, _, "responses") => &RESPONSES,
            (_, "responses", "compact") => &COMPACT,
            (_, "responses", "input_tokens") => &INPUT_TOKENS,
            ("responses", _, "cancel") => &CANCEL,
            (_, _, "embeddings") => &EMBEDDINGS,
            (_, _, "rerank") => &RERANK,
            (_, _, "moderations") => &MODERATIONS,
            (_, "images", "generations") => &IMAGES,
            (_, "images", "edits" | "variations") => &IMAGE_EDITS,
            (_, "audio", "speech") => &SPEECH,
            (_, "audio", "transcriptions" | "translations") => &TRANSCRIPTIONS,
            (_, _, "batches") => &BATCHES,
            ("threads", _, "messages")
            | ("batches", _, "cancel")
            | ("uploads", _, "parts" | "complete" | "cancel")
            | (_, _, "files" | "uploads" | "vector_stores" | "conversations")
            | (_, "traces", "ingest") => &Operation::READ,
            _ => &Operation::OTHER,
        };
    }
    match (before, last) {
        (_, "realtime" | "responses") if *method == Method::GET => &SOCKET,
        ("responses", _) if *method == Method::GET => &RETRIEVE,
        ("runs", _) if *method == Method::GET => &RUN,
        (_, "content") if *method == Method::GET && first == "files" => &FILE_CONTENT,
        _ if [Method::GET, Method::HEAD, Method::OPTIONS, Method::DELETE].contains(method) => {
            &Operation::READ
        },
        _ => &Operation::OTHER,
    }
}

/// Whether the path says that the answer is a stream.
pub(super) fn is_stream(path: &str) -> bool {
    let last = path.trim_end_matches('/').rsplit('/').next();
    last.is_some_and(|name| name.eq_ignore_ascii_case("chat_stream"))
}

/// Whether a conversation is made.
pub(super) fn is_conversation(method: &Method, path: &str) -> bool {
    let last = path.trim_end_matches('/').rsplit('/').next();
    *method == Method::POST && last.is_some_and(|name| name.eq_ignore_ascii_case("conversations"))
}

/// The fields that bound an operation's output, the one to be put in first. Others of the kind
/// bound nothing: a server that does not know them ignores them.
pub(super) fn output_limits(op: &Operation) -> &'static [&'static str] {
    match op.name {
        "chat" => &["max_completion_tokens", "max_tokens"],
        "completions" | "rawPredict" | "fim" => &["max_tokens"],
        "responses" => &["max_output_tokens"],
        "runs" => &["max_completion_tokens"],
        _ => &[],
    }
}

/// The id in the path of what is stored: a response, a run, or a file of results.
pub(super) fn stored_id<'a>(op: &Operation, path: &'a str) -> Option<&'a str> {
    let parent = match op.name {
        "responses.retrieve" | "responses.cancel" => "responses",
        "runs.retrieve" => "runs",
        "files.content" => "files",
        _ => return None,
    };
    let mut segments = path.trim_end_matches('/').split('/');
    segments.find(|segment| segment.eq_ignore_ascii_case(parent))?;
    segments.next().filter(|id| !id.is_empty())
}

/// The name of a deployment in the path: Azure's, or a serving endpoint of Databricks'.
pub(super) fn deployment(path: &str) -> Option<Box<str>> {
    let mut segments = path.split('/');
    let is = |segment: &str, name: &str| segment.eq_ignore_ascii_case(name);
    let parent =
        segments.find(|segment| is(segment, "deployments") || is(segment, "serving-endpoints"))?;
    let name = percent::name(segments.next()?)?;
    // Databricks has an endpoint in the path only where it is invoked; else the body names it.
    let is_named =
        is(parent, "deployments") || segments.next().is_some_and(|verb| is(verb, "invocations"));
    is_named.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_known_by_the_end_of_its_path() {
        for (method, path, name) in [
            (Method::POST, "/v1/chat/completions", "chat"),
            (Method::POST, "/openai/v1/chat/completions", "chat"),
            (Method::POST, "/api/v1/chat/completions/", "chat"),
            (Method::POST, "/chat/completions", "chat"),
            (
                Method::POST,
                "/openai/deployments/my-gpt/chat/completions",
                "chat",
            ),
            (Method::GET, "/v1/chat/completions/chatcmpl-1", "http"),
            (
                Method::POST,
                "/openai/Deployments/My-GPT/Chat/Completions",
                "chat",
            ),
            (Method::POST, "/v1/completions", "completions"),
            (Method::POST, "/v1/fim/completions", "fim"),
            (Method::POST, "/v1/agents/completions", "chat"),
            (Method::POST, "/v1/chat", "chat"),
            (Method::POST, "/ml/v1/text/chat_stream", "chat"),
            (Method::POST, "/serving-endpoints/llama/invocations", "chat"),
            (Method::POST, "/v1/rerank", "rerank"),
            (Method::POST, "/v1/responses", "responses"),
            (Method::POST, "/v1/responses/compact", "responses.compact"),
            (
                Method::POST,
                "/v1/responses/input_tokens",
                "responses.input_tokens",
            ),
            (Method::GET, "/v1/responses/resp_1", "responses.retrieve"),
            (
                Method::POST,
                "/v1/responses/resp_1/cancel",
                "responses.cancel",
            ),
            (Method::GET, "/v1/responses/resp_1/input_items", "http"),
            (Method::DELETE, "/v1/responses/resp_1", "http"),
            (Method::POST, "/v1/embeddings", "embeddings"),
            (Method::GET, "/v1/models", "http"),
            (Method::GET, "/v1/realtime", "realtime"),
            (Method::POST, "/v1/images/generations", "images.generations"),
            (Method::POST, "/v1/images/variations", "images.edits"),
            (Method::POST, "/v1/audio/speech", "audio.speech"),
            (
                Method::POST,
                "/v1/audio/translations",
                "audio.transcriptions",
            ),
            (Method::POST, "/v1/threads/thread_1/runs", "runs"),
            (Method::POST, "/v1/threads/runs", "runs"),
            (Method::GET, "/v1/threads/thread_1/runs", "http"),
            (Method::GET, "/v1/threads/t/runs/run_1", "runs.retrieve"),
            (Method::GET, "/v1/threads/t/runs/run_1/steps", "http"),
            (
                Method::POST,
                "/v1/threads/t/runs/run_1/submit_tool_outputs",
                "runs.retrieve",
            ),
            (Method::POST, "/v1/threads/t/messages", "http"),
            (Method::POST, "/v1/batches", "batches"),
            (Method::POST, "/v1/batches/batch_1/cancel", "http"),
            (Method::GET, "/v1/files/file-1/content", "files.content"),
            (Method::POST, "/v1/uploads/upload_1/complete", "http"),
            (Method::GET, "/v1/files/file-1", "http"),
            (Method::POST, "", "http"),
        ] {
            assert_eq!(of(&method, path).name, name, "{method} {path}");
        }
    }

    #[test]
    fn what_is_not_known_may_cost_something_unless_it_only_reads() {
        assert_eq!(of(&Method::POST, "/v1/batches").spends, Spends::Unknown);
        assert_eq!(of(&Method::GET, "/v1/files/f").spends, Spends::Nothing);
        assert_eq!(of(&Method::POST, "/v1/files").spends, Spends::Nothing);
        for free in [
            "/v1/assistants",
            "/v1/threads/thread_1",
            "/v1/threads",
            "/v1/uploads",
            "/v1/uploads/upload_1/parts",
            "/v1/uploads/upload_1/complete",
            "/v1/uploads/upload_1/cancel",
        ] {
            assert_eq!(of(&Method::POST, free).spends, Spends::Nothing, "{free}");
        }
        assert_eq!(of(&Method::GET, "/v1/responses/r").spends, Spends::Once);
    }

    #[test]
    fn ids_and_deployments_are_read_from_the_path() {
        for (op, path, id) in [
            (&CANCEL, "/v1/responses/resp_1/cancel", Some("resp_1")),
            (&RUN, "/v1/threads/t/runs/run_1", Some("run_1")),
            (&FILE_CONTENT, "/v1/files/file-1/content", Some("file-1")),
            (
                &FILE_CONTENT,
                "/openai/Files/File-1/content",
                Some("File-1"),
            ),
            (&RESPONSES, "/v1/responses", None),
        ] {
            assert_eq!(stored_id(op, path), id, "{path}");
        }
        assert!(is_stream("/ml/v1/Text/Chat_Stream/") && !is_stream("/ml/v1/text/chat"));
        assert_eq!(
            deployment("/openai/deployments/my-gpt/embeddings").as_deref(),
            Some("my-gpt")
        );
        let long = format!("/openai/deployments/{}/embeddings", "m".repeat(9_000));
        assert_eq!(deployment(&long).unwrap().len(), 512);
        assert_eq!(deployment("/v1/embeddings"), None);
    }
}

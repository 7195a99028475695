//! What is no model's answer: lists of models, the echo of every other path, and the mock's own
//! record of requests.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method};

use super::{
    json::{Json, object, value},
    problem::Dialect,
    recorder::{End, Received},
};
use crate::base::id::hex_text;

const OPENAI: &[&str] = &[
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4.1",
    "gpt-5",
    "text-embedding-3-small",
];
const ANTHROPIC: &[&str] = &["claude-sonnet-4-5-20250929", "claude-haiku-4-5-20251001"];
const GEMINI: &[&str] = &["gemini-2.5-flash", "gemini-2.5-pro"];

/// The list of models, as each dialect has it.
pub(super) fn models(dialect: Dialect, now: u64) -> Json {
    let each = |names: &[&'static str], model: &dyn Fn(&'static str) -> Json| {
        names.iter().map(|name| model(name)).collect::<Vec<_>>()
    };
    match dialect {
        // Bedrock's runtime has none, and of the others it is not asked.
        Dialect::OpenAi
        | Dialect::Bedrock
        | Dialect::Cohere
        | Dialect::Ollama
        | Dialect::Watsonx
        | Dialect::AlephAlpha
        | Dialect::Voyage => {
            let models = each(OPENAI, &|name| {
                object! {"id": name, "object": "model", "created": now, "owned_by": "mock"}
            });
            object! {"object": "list", "data": models}
        },
        Dialect::Anthropic => {
            let models = each(ANTHROPIC, &|name| {
                object! {
                    "type": "model",
                    "id": name,
                    "display_name": name,
                    "created_at": "2025-09-29T00:00:00Z",
                }
            });
            object! {
                "data": models,
                "has_more": false,
                "first_id": ANTHROPIC.first(),
                "last_id": ANTHROPIC.last(),
            }
        },
        Dialect::Gemini => {
            let models = each(GEMINI, &|name| {
                object! {
                    "name": format!("models/{name}"),
                    "displayName": name,
                    "inputTokenLimit": 1_048_576,
                    "outputTokenLimit": 65_536,
                    "supportedGenerationMethods": ["generateContent", "countTokens"],
                }
            });
            object! {"models": models}
        },
    }
}

/// What was received, so that a test can see whether anything was changed on the way.
pub(super) fn echo(method: &Method, target: &str, headers: &HeaderMap, body: &Bytes) -> Json {
    object! {
        "method": method.as_str(),
        "target": target,
        "headers": pairs(headers),
        "body_bytes": body.len(),
        "body_sha256": sha256(body),
    }
}

/// The record at `/__mock/requests`.
pub(super) fn record(count: u64, dropped: u64, requests: &[Received]) -> Json {
    let request = |request: &Received| {
        object! {
            "number": request.number,
            "connection": request.connection,
            "method": request.method.as_str(),
            "target": request.target,
            "version": format!("{:?}", request.version),
            "headers": pairs(&request.headers),
            "body": String::from_utf8_lossy(&request.body),
            "body_base64": STANDARD.encode(&request.body),
            "body_sha256": sha256(&request.body),
            "whole": request.whole,
            "status": request.status.map(|status| status.as_u16()),
            "sent": request.sent,
            "end": match request.end {
                End::Open => "open",
                End::Complete => "complete",
                End::Broken => "broken",
                End::Left => "left",
            },
        }
    };
    let requests: Vec<_> = requests.iter().map(request).collect();
    object! {"count": count, "dropped": dropped, "requests": requests}
}

/// Lower-case hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    hex_text(digest.as_ref())
}

fn pairs(headers: &HeaderMap) -> Vec<Json> {
    let pair = |(name, bytes): (&http::HeaderName, &http::HeaderValue)| {
        value(&[name.as_str(), &String::from_utf8_lossy(bytes.as_bytes())])
    };
    headers.iter().map(pair).collect()
}

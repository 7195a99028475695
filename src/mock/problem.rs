//! Errors, each in the form of the dialect that was spoken.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{
    behaviour::Behaviour,
    json::{Json, object},
    reply::{Payload, Reply},
};

/// Whose wire format is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    OpenAi,
    Anthropic,
    Gemini,
    Bedrock,
    Cohere,
    Ollama,
    Watsonx,
    AlephAlpha,
    Voyage,
}

/// Why a request gets no answer.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    /// `code` for OpenAI, `type` for Anthropic, the exception for Bedrock, nothing for Gemini;
    /// absent: the status's own.
    pub(super) code: Option<String>,
    pub(super) param: Option<&'static str>,
    pub(super) message: String,
    /// Sent with it.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            code: None,
            param: None,
            message: message.into(),
            headers: Vec::new(),
        }
    }

    /// The request is wrong: 400.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    #[must_use]
    pub(super) fn code(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }

    #[must_use]
    pub(super) const fn param(mut self, param: &'static str) -> Self {
        self.param = Some(param);
        self
    }

    /// The failure that the settings ask for, with the headers that come with it.
    pub(super) fn asked_for(status: StatusCode, behaviour: &Behaviour) -> Self {
        let mut problem = Self::new(status, message(status, behaviour.code.as_deref()));
        problem.code.clone_from(&behaviour.code);
        if let Some(after) = &behaviour.retry_after
            && let Ok(value) = HeaderValue::from_str(after)
        {
            problem.headers.push((http::header::RETRY_AFTER, value));
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            const SPENT: HeaderValue = HeaderValue::from_static("0");
            for name in [
                "x-ratelimit-remaining-requests",
                "anthropic-ratelimit-requests-remaining",
            ] {
                problem.headers.push((HeaderName::from_static(name), SPENT));
            }
        }
        problem
    }

    /// The error object as the dialect has it in a body.
    pub(super) fn body(&self, dialect: Dialect, request_id: &str) -> Json {
        let status = self.status.as_u16();
        let message = &self.message;
        match dialect {
            Dialect::OpenAi => {
                let (kind, code) = self.openai_kind();
                object! {"error": object! {
                    "message": message, "type": kind, "param": self.param, "code": code,
                }}
            },
            Dialect::Anthropic => object! {
                "type": "error",
                "error": object! {"type": self.anthropic_kind(), "message": message},
                "request_id": request_id,
            },
            Dialect::Gemini => object! {"error": object! {
                "code": status, "message": message, "status": gemini_status(status),
            }},
            Dialect::Bedrock => object! {"message": message},
            Dialect::Cohere => object! {"id": request_id, "message": message},
            Dialect::Ollama => object! {"error": message},
            Dialect::Watsonx => {
                let code = self.code.as_deref().unwrap_or("invalid_request_entity");
                object! {
                    "errors": [object! {"code": code, "message": message}],
                    "trace": request_id,
                    "status_code": status,
                }
            },
            Dialect::AlephAlpha => {
                let code = self.code.as_deref().unwrap_or("VALIDATION_ERROR");
                object! {"error": message, "code": code}
            },
            Dialect::Voyage => object! {"detail": message},
        }
    }

    /// The whole answer.
    pub(super) fn reply(self, dialect: Dialect, request_id: &str) -> Reply {
        let body = self.body(dialect, request_id);
        let mut headers: HeaderMap = self.headers.iter().cloned().collect();
        if dialect == Dialect::Bedrock
            && let Ok(kind) = HeaderValue::from_str(self.bedrock_kind())
        {
            headers.insert("x-amzn-errortype", kind);
        }
        Reply {
            status: self.status,
            headers,
            payload: Payload::json(&body),
        }
    }

    fn bedrock_kind(&self) -> &str {
        let usual = match self.status.as_u16() {
            403 => "AccessDeniedException",
            404 => "ResourceNotFoundException",
            408 => "ModelTimeoutException",
            424 => "ModelErrorException",
            429 => "ThrottlingException",
            503 => "ServiceUnavailableException",
            500.. => "InternalServerException",
            _ => "ValidationException",
        };
        self.code.as_deref().unwrap_or(usual)
    }

    fn openai_kind(&self) -> (&str, Option<&str>) {
        let code = self.code.as_deref();
        let (kind, usual) = match self.status.as_u16() {
            401 => ("invalid_request_error", Some("invalid_api_key")),
            429 if code == Some("insufficient_quota") => ("insufficient_quota", None),
            429 => ("requests", Some("rate_limit_exceeded")),
            500.. => ("server_error", None),
            _ => ("invalid_request_error", None),
        };
        (kind, code.or(usual))
    }

    pub(super) fn anthropic_kind(&self) -> &str {
        let usual = match self.status.as_u16() {
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            504 => "timeout_error",
            529 => "overloaded_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        };
        self.code.as_deref().unwrap_or(usual)
    }
}

const fn gemini_status(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    }
}

fn message(status: StatusCode, code: Option<&str>) -> String {
    match (status.as_u16(), code) {
        (429, Some("insufficient_quota")) => {
            "You exceeded your current quota, please check your plan and billing details.".into()
        },
        (429, _) => "Rate limit reached (asked for by the test).".into(),
        (529, _) => "Overloaded".into(),
        (number, _) => format!(
            "The mock was asked to fail with {number} {}.",
            status.canonical_reason().unwrap_or_default()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_problem_has_each_dialects_form() {
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "slow down");
        assert_eq!(
            problem.body(Dialect::OpenAi, "r").get(),
            r#"{"error":{"message":"slow down","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#
        );
        assert_eq!(
            problem.body(Dialect::Anthropic, "r").get(),
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow down"},"request_id":"r"}"#
        );
        assert_eq!(
            problem.body(Dialect::Gemini, "r").get(),
            r#"{"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED"}}"#
        );
    }

    #[test]
    fn a_spent_quota_is_told_apart_from_a_rate_limit() {
        let behaviour: Behaviour = "code=insufficient_quota;retry-after=7".parse().unwrap();
        let problem = Problem::asked_for(StatusCode::TOO_MANY_REQUESTS, &behaviour);
        let body = problem.body(Dialect::OpenAi, "r");
        assert!(
            body.get().contains(r#""type":"insufficient_quota""#),
            "{body}"
        );
        assert!(
            problem
                .headers
                .iter()
                .any(|(name, value)| name == "retry-after" && value == "7")
        );
    }
}

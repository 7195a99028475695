//! What is said of a span that did not end well.

use crate::call::{outcome::Status, span::Span};

/// What went wrong, in a word and in a few.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Failure {
    /// `error.type`: of few values.
    pub(in super::super) kind: String,
    /// For people.
    pub(in super::super) message: String,
}

impl Failure {
    /// None if the span ended well.
    pub(in super::super) fn of(span: &Span) -> Option<Self> {
        let known = span.error_type.as_deref();
        let rule = span.blocked_by.as_deref();
        let (kind, message) = match span.status {
            Status::Ok => return None,
            Status::Error => {
                let kind = known.unwrap_or("_OTHER");
                let message = match span.http_status {
                    Some(status) => format!("{kind} (status {status})"),
                    None => kind.to_owned(),
                };
                (kind, message)
            },
            Status::Blocked => {
                let kind = match rule.and_then(|rule| rule.split('.').next()) {
                    Some("budget" | "busy") => "budget_exceeded",
                    Some("rate") => "rate_limited",
                    _ => "blocked",
                };
                let message = format!("blocked by {}", rule.unwrap_or("a rule"));
                (known.unwrap_or(kind), message)
            },
            Status::Cancelled => {
                let kind = known.unwrap_or("client_disconnected");
                (kind, "the client left".to_owned())
            },
        };
        Some(Self {
            kind: kind.to_owned(),
            message,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::call, *};

    #[test]
    fn every_end_but_a_good_one_has_a_word() {
        let failure = |status, error: Option<&str>, rule: Option<&str>| {
            let span = Span {
                status,
                error_type: error.map(Box::from),
                blocked_by: rule.map(Box::from),
                ..call()
            };
            Failure::of(&span).map(|failure| (failure.kind, failure.message))
        };
        let is = |kind: &str, message: &str| Some((kind.to_owned(), message.to_owned()));
        assert_eq!(failure(Status::Ok, None, None), None);
        let error = failure(Status::Error, Some("overloaded_error"), None);
        assert_eq!(
            error,
            is("overloaded_error", "overloaded_error (status 200)")
        );
        let budget = failure(Status::Blocked, None, Some("budget.daily"));
        assert_eq!(budget, is("budget_exceeded", "blocked by budget.daily"));
        let rate = failure(Status::Blocked, None, Some("rate.per-agent"));
        assert_eq!(rate, is("rate_limited", "blocked by rate.per-agent"));
        let kill = failure(Status::Blocked, None, Some("kill"));
        assert_eq!(kill, is("blocked", "blocked by kill"));
        let left = failure(Status::Cancelled, None, None);
        assert_eq!(left, is("client_disconnected", "the client left"));
    }
}

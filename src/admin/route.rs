//! What is asked for: the paths, and the methods that they take.

use http::{Method, StatusCode};

use super::{Face, answer::Problem};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Healthz,
    Readyz,
    Metrics,
}

impl Route {
    /// What is asked for.
    ///
    /// # Errors
    /// The listener has no such path, or the path takes another method.
    pub(super) fn of(face: Face, method: &Method, path: &str) -> Result<Self, Problem> {
        let route = match path {
            "/healthz" => Self::Healthz,
            "/readyz" => Self::Readyz,
            "/metrics" => Self::Metrics,
            _ => return Err(nothing_at(face, path)),
        };
        if method != Method::GET && method != Method::HEAD {
            return Err(Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("{path} does not take {method}: use GET"),
            ));
        }
        Ok(route)
    }
}

fn nothing_at(face: Face, path: &str) -> Problem {
    let there_is = match face {
        Face::Admin | Face::Health => "/healthz, /readyz, /metrics",
    };
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("there is nothing at {path}; there is {there_is}"),
    )
}

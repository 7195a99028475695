//! What is asked for: the paths, and the methods that they take.

use http::{Method, StatusCode};

use super::{Face, answer::Problem, query::decode};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The status page.
    Page,
    Healthz,
    Readyz,
    Metrics,
    /// The end.
    Quit,
    Spans,
    /// The spans of the trace of that id.
    Trace(String),
    Report,
    Budgets,
    /// The span of the request of that id.
    Request(String),
    /// Why that request was let through or not.
    Why(String),
    /// More for the budget of that name.
    Raise(String),
    /// A fresh start for the budget of that name.
    Reset(String),
    /// The kills that hold.
    Kills,
    /// Another one.
    Kill,
    /// The end of that one.
    Lift(String),
}

/// What there is, for whoever asks for something else.
const PROBES: &str = "/healthz, /readyz, /metrics and, for POST, /quit";
const ALL: &str = "/, /healthz, /readyz, /metrics and, below /api/v1: spans, traces/ID, report, \
                   budgets, budgets/NAME/raise, budgets/NAME/reset, kills, kills/ID, requests/ID, \
                   requests/ID/why";

impl Route {
    /// What is asked for.
    ///
    /// # Errors
    /// The listener has no such path, or the path takes another method.
    pub(super) fn of(face: Face, method: &Method, path: &str) -> Result<Self, Problem> {
        let route = match (path, face) {
            ("/healthz", _) => Self::Healthz,
            ("/readyz", _) => Self::Readyz,
            ("/metrics", _) => Self::Metrics,
            ("/quit", Face::Health) => Self::Quit,
            ("/", Face::Admin) => Self::Page,
            (path, Face::Admin) => match path.strip_prefix("/api/v1/") {
                Some(path) => Self::api(path)?,
                None => None,
            }
            .ok_or_else(|| nothing_at(path, ALL))?,
            (path, Face::Health) => return Err(nothing_at(path, PROBES)),
        };
        let reads = method == Method::GET || method == Method::HEAD;
        match route {
            Self::Raise(_) | Self::Reset(_) | Self::Quit if method == Method::POST => Ok(route),
            Self::Raise(_) | Self::Reset(_) | Self::Quit => Err(other_method(path, method, "POST")),
            Self::Kills if method == Method::POST => Ok(Self::Kill),
            Self::Kills if !reads => Err(other_method(path, method, "GET or POST")),
            Self::Lift(_) if method == Method::DELETE => Ok(route),
            Self::Lift(_) => Err(other_method(path, method, "DELETE")),
            _ if reads => Ok(route),
            _ => Err(other_method(path, method, "GET")),
        }
    }

    fn api(path: &str) -> Result<Option<Self>, Problem> {
        let budget = path.strip_prefix("budgets/");
        if let Some(name) = budget.and_then(|rest| rest.strip_suffix("/raise")) {
            return Ok(Some(Self::Raise(decode(name)?)));
        }
        if let Some(name) = budget.and_then(|rest| rest.strip_suffix("/reset")) {
            return Ok(Some(Self::Reset(decode(name)?)));
        }
        let parts: Vec<&str> = path.split('/').collect();
        Ok(match parts.as_slice() {
            ["spans"] => Some(Self::Spans),
            ["report"] => Some(Self::Report),
            ["budgets"] => Some(Self::Budgets),
            ["kills"] => Some(Self::Kills),
            ["kills", id] => Some(Self::Lift(decode(id)?)),
            ["traces", id] => Some(Self::Trace(decode(id)?)),
            ["requests", id] => Some(Self::Request(decode(id)?)),
            ["requests", id, "why"] => Some(Self::Why(decode(id)?)),
            _ => None,
        })
    }
}

fn nothing_at(path: &str, there_is: &str) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("there is nothing at {path}; there is {there_is}"),
    )
}

fn other_method(path: &str, method: &Method, instead: &str) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{path} does not take {method}: use {instead}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(face: Face, method: &Method, path: &str) -> Result<Route, u16> {
        Route::of(face, method, path).map_err(|problem| problem.status.as_u16())
    }

    #[test]
    fn every_path_is_found_with_its_method() {
        let get = |path| route(Face::Admin, &Method::GET, path);
        let post = |path| route(Face::Admin, &Method::POST, path);
        let text = str::to_owned;
        assert_eq!(get("/"), Ok(Route::Page));
        assert_eq!(get("/api/v1/traces/ab"), Ok(Route::Trace(text("ab"))));
        assert_eq!(get("/api/v1/requests/ab/why"), Ok(Route::Why(text("ab"))));
        assert_eq!(
            post("/api/v1/budgets/per_user%2Fuser=a%20b/raise"),
            Ok(Route::Raise(text("per_user/user=a b")))
        );
        assert_eq!(
            post("/api/v1/budgets/per_user/user=42/reset"),
            Ok(Route::Reset(text("per_user/user=42")))
        );
        assert_eq!(get("/api/v1/kills"), Ok(Route::Kills));
        assert_eq!(post("/api/v1/kills"), Ok(Route::Kill));
        let lift = route(Face::Admin, &Method::DELETE, "/api/v1/kills/0a");
        assert_eq!(lift, Ok(Route::Lift(text("0a"))));
        for path in ["/api/v1/kills/0a", "/api/v1/kills"] {
            assert_eq!(route(Face::Admin, &Method::PUT, path), Err(405));
        }
        assert_eq!(get("/api/v1/budgets/daily/raise"), Err(405));
        assert_eq!(post("/api/v1/budgets"), Err(405));
        assert_eq!(post("/healthz"), Err(405));
        for path in [
            "",
            "/api",
            "/api/v1/",
            "/api/v1/nope",
            "/api/v1/traces",
            "//",
        ] {
            assert_eq!(get(path), Err(404), "{path}");
        }
        assert_eq!(get("/api/v1/traces/%zz"), Err(400));
    }

    #[test]
    fn the_health_listener_has_probes_and_metrics_alone() {
        let get = |path| route(Face::Health, &Method::GET, path);
        assert_eq!(get("/readyz"), Ok(Route::Readyz));
        assert_eq!(route(Face::Health, &Method::POST, "/quit"), Ok(Route::Quit));
        assert_eq!(get("/quit"), Err(405));
        assert_eq!(route(Face::Admin, &Method::POST, "/quit"), Err(404));
        for path in ["/", "/api/v1/spans", "/api/v1/budgets/daily/raise"] {
            assert_eq!(get(path), Err(404), "{path}");
        }
    }
}

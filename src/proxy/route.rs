//! Which provider a request is for, which operation it is, and the target it is sent to.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, HeaderName, Version, request::Parts, uri::PathAndQuery};

use super::{
    intercept::Opened,
    live::{Destination, Live},
};
use crate::{
    call::{
        facts::Operation,
        refusal::{Reason, Refusal},
    },
    provider::{
        Dialect,
        wire::percent::{leads_astray, plain_path},
    },
};

/// Where a request goes.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) to: Arc<Destination>,
    /// The dialect to read it in: a provider may serve the endpoints of others beside its own.
    pub(super) dialect: &'static dyn Dialect,
    pub(super) operation: &'static Operation,
    /// Path and query as the provider gets them.
    pub(super) target: PathAndQuery,
    /// The path that the operation was recognised by, where it is written in another way.
    plain: Option<Box<str>>,
    /// The identity in the path: what stood between `/~` and the next slash.
    pub(super) segment: Option<Box<str>>,
}

impl Route {
    /// The path to read: as the provider understands it, however it is written.
    pub(super) fn path(&self) -> &str {
        self.plain.as_deref().unwrap_or_else(|| self.target.path())
    }
}

/// Finds the route: an absolute target, a provider's name, or the marks of one dialect, in the
/// order of the table in docs/routes.md.
///
/// # Errors
/// No route has that path, or its provider is not configured; the refusal says which there are.
pub(super) fn route(live: &Live, head: &Parts) -> Result<Route, Refusal> {
    let (segment, path) = identity(head.uri.path());
    let (to, rest) = destination(live, head, path)?;
    let query = head.uri.query();
    let (dialect, operation) = to.provider.operation(&head.method, rest, query);
    let target = to.target(rest, query)?;
    if leads_astray(to.below(target.path())) {
        // It could lead out of a base URL's path, to what is another provider there.
        let message = "The request's path leads above its root, or has `..` beside a name \
                       with an encoded slash or a backslash: send it without `..`.";
        return Err(Refusal::new(Reason::BadRequest, "", message));
    }
    let plain = match plain_path(target.path()) {
        Cow::Owned(plain) if dialect.operation(&head.method, &plain) == operation => Some(plain),
        _ => None,
    };
    Ok(Route {
        dialect,
        operation,
        plain: plain.map(String::into_boxed_str),
        target,
        to,
        segment: segment.map(Box::from),
    })
}

/// Takes `/~agent=a;user=u` off the front of a path; some clients encode the tilde.
pub(super) fn identity(path: &str) -> (Option<&str>, &str) {
    let marks = ["/~", "/%7E", "/%7e"];
    let Some(rest) = marks.iter().find_map(|mark| path.strip_prefix(mark)) else {
        return (None, path);
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (segment, rest) = rest.split_at(end);
    (Some(segment), rest)
}

fn destination<'a>(
    live: &Live,
    head: &Parts,
    path: &'a str,
) -> Result<(Arc<Destination>, &'a str), Refusal> {
    if let Some(opened) = head.extensions.get::<Arc<Opened>>() {
        opened.agrees(head)?;
        let to = live.opened(&opened.at, path);
        return to.ok_or_else(|| foreign(opened.at.host()));
    }
    // In HTTP/2 every target has an authority; in HTTP/1 it is a forward proxy's (RFC 9112, 3.2.2).
    if let Some(host) = head.uri.host().filter(|_| head.version < Version::HTTP_2) {
        let known = live.by_host(host, head.uri.port_u16(), path);
        return known.ok_or_else(|| foreign(host));
    }
    let query = head.uri.query();
    let azure = path.starts_with("/openai/deployments/")
        || (path.starts_with("/openai/")
            && query.is_some_and(|query| has_key(query, "api-version")));
    if azure {
        return live.named("azure", path).map(|to| (to, path));
    }
    if let Some((name, rest)) = named(path)
        && live.knows(name)
    {
        return live.named(name, rest).map(|to| (to, rest));
    }
    match marked(path, &head.headers) {
        Some(name) => live.named(name, path).map(|to| (to, path)),
        None => Err(nowhere(live, path)),
    }
}

/// `/groq/openai/v1/models` is `groq` and `/openai/v1/models`.
fn named(path: &str) -> Option<(&str, &str)> {
    let inner = path.strip_prefix('/')?;
    let end = inner.find('/').unwrap_or(inner.len());
    let (name, rest) = inner.split_at(end);
    Some((name, if rest.is_empty() { "/" } else { rest }))
}

const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const GOOGLE_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// The provider whose dialect a bare path or a header gives away.
fn marked(path: &str, headers: &HeaderMap) -> Option<&'static str> {
    let under = |prefixes: &[&str]| prefixes.iter().any(|prefix| path.starts_with(prefix));
    let is = |base: &str| {
        path.strip_prefix(base)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let verb_on_model = path
        .strip_prefix("/v1/models/")
        .is_some_and(|rest| rest.contains(':'));
    let vertex = [
        "/v1/projects/",
        "/v1beta1/projects/",
        "/v1/publishers/",
        "/v1beta1/publishers/",
        "/ws/google.cloud.",
    ];
    if under(&vertex) {
        // Whatever the headers: models of Anthropic and keys of Google are known here, too.
        Some("vertex")
    } else if headers.contains_key(ANTHROPIC_VERSION) || is("/v1/messages") || is("/v1/complete") {
        Some("anthropic")
    } else if under(&["/v1beta/", "/upload/v1beta/", "/ws/google.ai."])
        || verb_on_model
        || headers.contains_key(GOOGLE_KEY)
    {
        Some("gemini")
    } else if under(&["/model/"]) {
        Some("bedrock")
    } else if is("/api/chat") || is("/api/generate") || under(&["/api/embed"]) {
        Some("ollama")
    } else if is("/v2/chat") || is("/v2/embed") || is("/v2/rerank") {
        Some("cohere")
    } else {
        under(&["/v1/"]).then_some("openai")
    }
}

fn has_key(query: &str, key: &str) -> bool {
    query
        .split('&')
        .any(|pair| pair.split('=').next() == Some(key))
}

fn foreign(host: &str) -> Refusal {
    Refusal::new(
        Reason::NotFound,
        "",
        format!(
            "Tollgate does not forward to {host}: it is no host of a known provider. Add it under \
             `providers:` with its base_url."
        ),
    )
}

fn nowhere(live: &Live, path: &str) -> Refusal {
    let mut shown: String = path.chars().take(100).collect();
    if shown.len() < path.len() {
        shown.push('…');
    }
    Refusal::new(
        Reason::NotFound,
        "",
        format!(
            "Tollgate has no route for {shown}. Routes: /v1/… (OpenAI), /v1/messages (Anthropic), \
             /v1beta/… (Gemini), and /{{provider}}/… for {}.",
            live.names().collect::<Vec<_>>().join(", ")
        ),
    )
}

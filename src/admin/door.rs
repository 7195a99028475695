//! Who may come in. A page in somebody's browser must not be able to read or change anything here,
//! neither by a name that it had resolve to this machine (`Host`) nor by a form (`content-type`,
//! `Origin`); and from beyond this machine nobody may without the token.

use std::net::IpAddr;

use http::{
    HeaderMap, Method, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN},
    request::Parts,
    uri::Authority,
};

use super::answer::Problem;
use crate::base::secret::Secret;

/// What the door of a listener asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Door<'a> {
    /// Names that it answers to, besides loopback.
    pub(super) hosts: &'a [String],
    /// The token that everybody has to show; `None`: nobody has to.
    pub(super) token: Token<'a>,
}

/// Whether a token is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Token<'a> {
    /// The listener is on loopback: no.
    NotAsked,
    /// It is beyond loopback: this one. `None`: none is set, so that nobody has it.
    Asked(Option<&'a Secret>),
}

impl Door<'_> {
    /// Lets a request in, or not.
    ///
    /// # Errors
    /// It is not for this listener, comes without the token, or wants to change something in a way
    /// that a foreign page could.
    pub(super) fn admit(&self, request: &Parts) -> Result<(), Problem> {
        let host = host(request)?;
        let name = host.host();
        if !is_loopback(name) && !self.hosts.iter().any(|known| is_same(known, &host)) {
            return Err(Problem::new(
                StatusCode::MISDIRECTED_REQUEST,
                format!("this listener does not answer to `{name}`: add it to `listen.hosts`"),
            ));
        }
        if let Token::Asked(token) = self.token
            && !has_token(&request.headers, token)
        {
            return Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "this listener is beyond loopback: send `authorization: Bearer` with the value of \
                 `listen.token`",
            ));
        }
        if request.method == Method::GET || request.method == Method::HEAD {
            return Ok(());
        }
        if !is_json(&request.headers) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "what changes something needs `content-type: application/json`",
            ));
        }
        own_origin(&request.headers, &host)
    }
}

/// The host that is meant, which must be named once and be one.
fn host(request: &Parts) -> Result<Authority, Problem> {
    let mut named = request.headers.get_all(HOST).iter();
    let in_header = match (named.next(), named.next()) {
        (Some(host), None) => Authority::try_from(host.as_bytes()).ok(),
        _ => None,
    };
    let host = in_header.ok_or_else(|| Problem::bad("the request needs exactly one valid Host"))?;
    match request.uri.authority() {
        Some(other) if *other != host => Err(Problem::bad(
            "the request names two hosts: Host and target differ",
        )),
        _ => Ok(host),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Whether an entry of `listen.hosts` means `host`; without a port it means any.
fn is_same(known: &str, host: &Authority) -> bool {
    known.eq_ignore_ascii_case(host.host()) || known.eq_ignore_ascii_case(host.as_str())
}

fn has_token(headers: &HeaderMap, token: Option<&Secret>) -> bool {
    let shown = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.as_bytes().split_at_checked(BEARER.len()))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(BEARER.as_bytes()));
    match (token, shown) {
        (Some(token), Some((_, shown))) => token.is(shown),
        _ => false,
    }
}

const BEARER: &str = "Bearer ";

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    media_type
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json"))
}

/// A browser says which page a change comes from: it must be one of ours.
fn own_origin(headers: &HeaderMap, host: &Authority) -> Result<(), Problem> {
    let ours = |origin: &str| {
        let authority = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_str()))
    };
    let foreign = headers
        .get_all(ORIGIN)
        .iter()
        .any(|origin| !origin.to_str().is_ok_and(ours));
    if foreign {
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "the change comes from a page of another origin",
        ))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn status(door: Door<'_>, method: &str, headers: &[(&str, &str)]) -> u16 {
        let admitted = door.admit(&parts(method, headers));
        admitted.map_or_else(|problem| problem.status.as_u16(), |()| 200)
    }

    const LOCAL: Door<'static> = Door {
        hosts: &[],
        token: Token::NotAsked,
    };

    #[test]
    fn only_loopback_and_listed_hosts_are_answered() {
        for host in [
            "localhost",
            "localhost:3001",
            "127.0.0.1:1",
            "127.8.8.8",
            "[::1]:3001",
        ] {
            assert_eq!(status(LOCAL, "GET", &[("host", host)]), 200, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "10.0.0.1",
            "127.0.0.1.evil.example",
        ] {
            assert_eq!(status(LOCAL, "GET", &[("host", host)]), 421, "{host}");
        }
        for headers in [
            &[][..],
            &[("host", "localhost"), ("host", "localhost")],
            &[("host", "a b")],
        ] {
            assert_eq!(status(LOCAL, "GET", headers), 400, "{headers:?}");
        }
        let hosts = ["admin.example".to_owned(), "other.example:3001".to_owned()];
        let door = Door {
            hosts: &hosts,
            ..LOCAL
        };
        assert_eq!(status(door, "GET", &[("host", "Admin.example:3001")]), 200);
        assert_eq!(status(door, "GET", &[("host", "other.example:3001")]), 200);
        assert_eq!(status(door, "GET", &[("host", "other.example:80")]), 421);
    }

    #[test]
    fn two_hosts_are_one_too_many() {
        let mut request = parts("GET", &[("host", "localhost:1")]);
        request.uri = "http://evil.example/".parse().unwrap();
        assert_eq!(LOCAL.admit(&request).unwrap_err().status, 400);
        request.uri = "http://localhost:1/".parse().unwrap();
        assert_eq!(LOCAL.admit(&request), Ok(()));
    }

    #[test]
    fn a_change_is_json_and_comes_from_no_other_page() {
        let json = ("content-type", "application/json; charset=utf-8");
        let host = ("host", "localhost:3001");
        let cases = [
            (&[host, json][..], 200),
            (&[host], 415),
            (&[host, ("content-type", "text/plain")], 415),
            (&[host, json, ("origin", "http://localhost:3001")], 200),
            (&[host, json, ("origin", "http://localhost:3000")], 403),
            (&[host, json, ("origin", "null")], 403),
            (&[host, json, ("origin", "https://evil.example")], 403),
        ];
        for (headers, expected) in cases {
            assert_eq!(status(LOCAL, "POST", headers), expected, "{headers:?}");
        }
        assert_eq!(
            status(LOCAL, "GET", &[host, ("origin", "https://evil.example")]),
            200
        );
    }

    #[test]
    fn beyond_loopback_nothing_is_answered_without_the_token() {
        let token = Secret::new("open sesame");
        let door = Door {
            hosts: &[],
            token: Token::Asked(Some(&token)),
        };
        let host = ("host", "localhost");
        let with = |value| status(door, "GET", &[host, ("authorization", value)]);
        assert_eq!(with("Bearer open sesame"), 200);
        assert_eq!(with("bearer open sesame"), 200);
        for value in [
            "Bearer",
            "Bearer open",
            "open sesame",
            "Basic open sesame",
            "Bearer open sesame ",
        ] {
            assert_eq!(with(value), 401, "{value}");
        }
        assert_eq!(status(door, "GET", &[host]), 401);
        let unset = Door {
            token: Token::Asked(None),
            ..door
        };
        assert_eq!(
            status(unset, "GET", &[host, ("authorization", "Bearer ")]),
            401
        );
    }
}

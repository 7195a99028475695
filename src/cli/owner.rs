//! The admin API of the sidecar that owns a data directory: what changes something goes through it.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http::{
    Method, Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use super::Failure;
use crate::{admin::LONGEST_WAIT, config::Config, ledger};

/// How long the sidecar may take: longer than it lets a change wait, so that it is heard what became
/// of that.
const PATIENCE: Duration = LONGEST_WAIT.saturating_add(Duration::from_secs(5));

/// The longest answer that is read, in bytes.
const ANSWER: usize = 16 << 20;

/// An error, as the API gives it.
#[derive(Deserialize)]
struct Refused {
    error: Reason,
}

#[derive(Deserialize)]
struct Reason {
    message: String,
}

/// Posts `body` to `path` of the sidecar that owns the data directory of `config`, and gives what it
/// answers.
///
/// # Errors
/// Nobody runs there, or it refuses.
pub(super) fn post(config: &Config, path: &str, body: &impl Serialize) -> Result<Bytes, Failure> {
    change(config, Method::POST, path, body)
}

/// The same, with DELETE.
///
/// # Errors
/// As [`post`].
pub(super) fn delete(config: &Config, path: &str, body: &impl Serialize) -> Result<Bytes, Failure> {
    change(config, Method::DELETE, path, body)
}

/// Gets `path` of the sidecar that owns the data directory of `config`; `None`: nobody runs there.
///
/// # Errors
/// It does not answer, or refuses.
pub(super) fn get(config: &Config, path: &str) -> Result<Option<Bytes>, Failure> {
    let owner = ledger::Owner::of(&config.store.path);
    let answer = owner.map(|owner| exchange(config, owner, (Method::GET, path), Vec::new()));
    answer.transpose()
}

fn change(
    config: &Config,
    method: Method,
    path: &str,
    body: &impl Serialize,
) -> Result<Bytes, Failure> {
    let directory = config.store.path.display();
    let Some(owner) = ledger::Owner::of(&config.store.path) else {
        return Err(Failure::failed(format!(
            "no sidecar runs on {directory}, and changes go through the running one: start it with \
             `tollgate run`"
        )));
    };
    let body = serde_json::to_vec(body).map_err(Failure::failed)?;
    exchange(config, owner, (method, path), body)
}

fn exchange(
    config: &Config,
    (pid, address): (u32, String),
    asked: (Method, &str),
    body: Vec<u8>,
) -> Result<Bytes, Failure> {
    let address: SocketAddr = address.parse().map_err(|_invalid| {
        Failure::failed(format!(
            "the sidecar with pid {pid} has not said yet where it answers: try again"
        ))
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let asked = ask(config, reachable(address), asked, body);
    let answered = runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await });
    let unreachable = |error: &dyn std::fmt::Display| {
        Failure::failed(format!(
            "the sidecar with pid {pid} does not answer at http://{address}: {error}"
        ))
    };
    let (status, answer) = match answered {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(unreachable(&error)),
        Err(elapsed) => return Err(unreachable(&elapsed)),
    };
    if status.is_success() {
        return Ok(answer);
    }
    let message = match serde_json::from_slice::<Refused>(&answer) {
        Ok(refused) => refused.error.message,
        Err(_) => format!("the sidecar answers {status}"),
    };
    // What was asked for is wrong, or it failed.
    if matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND) {
        Err(Failure::wrong(message))
    } else {
        Err(Failure::failed(message))
    }
}

/// Asks the listener at `address`, as who has the token of `config`.
///
/// # Errors
/// It cannot be reached, or what it says is no answer.
pub(super) async fn ask(
    config: &Config,
    address: SocketAddr,
    (method, path): (Method, &str),
    body: Vec<u8>,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let socket = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        // It answers to loopback, whatever its address is.
        .header(HOST, format!("localhost:{}", address.port()))
        .header(CONTENT_TYPE, "application/json");
    if let Some(token) = &config.listen.token {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
    }
    let request = request.body(Full::new(Bytes::from(body)))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER).collect().await?;
        Ok((head.status, body.to_bytes()))
    };
    tokio::select! {
        answer = answer => answer,
        ended = connection => Err(ended.err().map_or_else(
            || "it closed the connection".into(),
            Into::into,
        )),
    }
}

/// An address that can be connected to: everywhere means here.
pub(super) const fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// A text as one segment of a path.
pub(super) fn segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ok = write!(segment, "%{byte:02X}");
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_is_one_segment() {
        assert_eq!(segment("daily"), "daily");
        assert_eq!(segment("per_user/user=ä b"), "per_user%2Fuser%3D%C3%A4%20b");
    }

    #[test]
    fn everywhere_is_reached_here() {
        let reached = |address: &str| reachable(address.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:3001"), "127.0.0.1:3001");
        assert_eq!(reached("[::]:3001"), "[::1]:3001");
        assert_eq!(reached("10.0.0.5:3001"), "10.0.0.5:3001");
    }
}

//! What one section cannot know: whether the whole makes sense.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use super::{Config, expand::Sources, guards::check_guards, problem::Problem, rules::check_rules};
use crate::{
    call::labels::Source,
    identity::Keys,
    pipeline::{
        Content,
        processor::{ConsoleConfig, ProcessorConfig},
    },
    provider::{BaseUrl, Providers},
};

/// What is wrong with `config`, errors and warnings.
pub(super) fn check(config: &Config, sources: &Sources<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    listeners(config, &mut problems);
    ends(config, &mut problems);
    upstream(config, &mut problems);
    intercept(config, &mut problems);
    not_yet(config, &mut problems);
    files(config, sources, &mut problems);
    limits(config, &mut problems);
    content(config, &mut problems);
    let providers = Providers::build(&config.providers)
        .map_err(|errors| {
            let errors = errors.into_iter();
            problems.extend(errors.map(|error| Problem::error(error.key, error.problem)));
        })
        .ok();
    loops(config, &mut problems);
    doors(config, sources, &mut problems);
    problems.append(&mut check_rules(config, providers.as_ref()));
    problems.append(&mut check_guards(config));
    problems
}

/// Ports clash; listeners that strangers can reach are protected.
fn listeners(config: &Config, problems: &mut Vec<Problem>) {
    let listen = &config.listen;
    let all = [
        ("listen.proxy", Some(listen.proxy)),
        ("listen.admin", Some(listen.admin)),
        ("listen.health", listen.health),
        ("listen.transparent", listen.transparent),
    ];
    let all: Vec<(&str, SocketAddr)> = all
        .into_iter()
        .filter_map(|(path, address)| Some((path, address?)))
        .collect();
    for (index, (path, address)) in all.iter().enumerate() {
        let other = all
            .iter()
            .take(index)
            .find(|(_, other)| clash(*address, *other));
        if let Some((other, _)) = other {
            problems.push(
                Problem::error(*path, format!("{address} is the address of `{other}` too"))
                    .help("give each listener a port of its own"),
            );
        }
    }
    let asks_for_keys = config.identity.keys_file.is_some();
    let entries = [
        ("listen.proxy", Some(listen.proxy)),
        ("listen.transparent", listen.transparent),
    ];
    for (path, address) in entries {
        let Some(address) = address.filter(|address| !address.ip().is_loopback()) else {
            continue;
        };
        if asks_for_keys || !listen.allow.is_empty() {
            continue;
        }
        problems.push(
            Problem::error(
                path,
                format!("{address} is beyond loopback: anyone could spend your keys"),
            )
            .help(
                "say who may use it with `listen.allow: [10.0.0.0/8]`, ask for client keys with \
                 `identity.keys_file`, or listen on 127.0.0.1",
            ),
        );
    }
    if listen.transparent.is_some() && !config.intercept.enabled {
        problems.push(
            Problem::error(
                "listen.transparent",
                "connections that are redirected cannot be read: interception is off",
            )
            .help("set `intercept.enabled: true`, and make an authority: `tollgate ca create`"),
        );
    }
    if !listen.admin.ip().is_loopback() && listen.token.is_none() {
        problems.push(
            Problem::error(
                "listen.admin",
                format!("{} is beyond loopback and has no token", listen.admin),
            )
            .help(
                "set `listen.token: ${file:/run/secrets/tollgate-token}`, or listen on 127.0.0.1 \
                 and use `listen.health` for probes and metrics",
            ),
        );
    }
    if listen
        .token
        .as_ref()
        .is_some_and(|token| token.expose().is_empty())
    {
        problems.push(Problem::error("listen.token", "the token is empty"));
    }
}

/// An end that comes at once, or never.
fn ends(config: &Config, problems: &mut Vec<Problem>) {
    if config.shutdown.idle.is_some_and(|idle| idle.is_zero()) {
        let problem = Problem::error("shutdown.idle", "it would leave before any client comes");
        problems.push(problem.help("say how long no client may be there: 1m; or null: it stays"));
    }
    if config.listen.quit && config.listen.health.is_none() {
        let problem = Problem::warning("listen.quit", "nothing takes POST /quit");
        problems.push(problem.help("`listen.health` does: 127.0.0.1:4101"));
    }
}

/// Whether both cannot be bound at once.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (any || one.ip() == other.ip())
}

/// A provider that is this proxy: one request would become as many calls as there is room for.
fn loops(config: &Config, problems: &mut Vec<Problem>) {
    let proxy = config.listen.proxy;
    let everyday = proxy.ip().is_loopback() || proxy.ip().is_unspecified();
    let loopback = [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
    ];
    let is_proxy = |base: BaseUrl| {
        let here = match base.host.parse::<IpAddr>() {
            Ok(ip) => ip == proxy.ip() || (everyday && loopback.contains(&ip)),
            Err(_) => everyday && &*base.host == "localhost",
        };
        here && base.port == proxy.port()
    };
    for (name, provider) in &config.providers.providers {
        let base = provider.base_url.as_deref().map(BaseUrl::parse);
        if base.is_some_and(|base| base.is_ok_and(is_proxy)) {
            problems.push(
                Problem::error(
                    format!("providers.{name}.base_url"),
                    "is the address of `listen.proxy`: calls would come back without end",
                )
                .help("name where the provider itself listens"),
            );
        }
    }
}

/// Who is let in, and who may spend with keys of Tollgate's own.
fn doors(config: &Config, sources: &Sources<'_>, problems: &mut Vec<Problem>) {
    let identity = &config.identity;
    let sources_trusted = identity.sources();
    match &identity.keys_file {
        None if sources_trusted.contains(&Source::Key) => problems.push(
            Problem::warning("identity.trusted", "no call has labels from a `key`")
                .help("name the file with the keys: `identity.keys_file`"),
        ),
        None => {},
        Some(path) => match (sources.file)(path) {
            Ok(text) => problems.extend(Keys::parse(&text).err().map(|problem| {
                let message = format!("{}: {problem}", path.display());
                Problem::error("identity.keys_file", message)
            })),
            // A warning only: this very configuration says where the first key is to go.
            Err(error) => problems.push(
                Problem::warning(
                    "identity.keys_file",
                    format!("cannot read the file {}: {error}", path.display()),
                )
                .help(
                    "`tollgate keys create NAME` makes it; `tollgate run` does not start without",
                ),
            ),
        },
    }
    let trusts_others = !sources_trusted.is_empty() && !sources_trusted.contains(&Source::Key);
    if identity.keys_file.is_some() && trusts_others {
        problems.push(
            Problem::warning(
                "identity.trusted",
                "the labels of client keys do not count for limits, and those from the sources \
                 named here win over them",
            )
            .help("add `key`, or leave the labels of keys to spans"),
        );
    }
    if identity.keys_file.is_some() || !identity.addresses().is_empty() {
        return;
    }
    for (name, provider) in &config.providers.providers {
        if provider.api_key.is_some() {
            problems.push(
                Problem::error(
                    format!("providers.{name}.api_key"),
                    "it is sent for known callers only, and nobody is known",
                )
                .help(
                    "ask for client keys with `identity.keys_file`, or name addresses that need \
                     none: `identity.trusted: [127.0.0.0/8]`",
                ),
            );
        }
    }
}

/// The shortest wait for an answer that cuts nobody short who waits as the SDKs do.
const SDK_PATIENCE: Duration = Duration::from_mins(10);

fn upstream(config: &Config, problems: &mut Vec<Problem>) {
    let upstream = &config.upstream;
    for (path, timeout) in [
        ("upstream.connect_timeout", upstream.connect_timeout),
        ("upstream.first_byte_timeout", upstream.first_byte_timeout),
        ("upstream.idle_timeout", upstream.idle_timeout),
    ] {
        if timeout.is_zero() {
            problems.push(Problem::error(path, "no call can be that fast"));
        } else if timeout < SDK_PATIENCE && path != "upstream.connect_timeout" {
            problems.push(Problem::warning(
                path,
                "shorter than the 600 s that clients wait: slow answers will be cut off",
            ));
        }
    }
    match (&upstream.client_cert, &upstream.client_key) {
        (Some(_), None) => problems.push(Problem::error(
            "upstream.client_cert",
            "a certificate without its key; set `upstream.client_key`",
        )),
        (None, Some(_)) => problems.push(Problem::error(
            "upstream.client_key",
            "a key without its certificate; set `upstream.client_cert`",
        )),
        _ => {},
    }
}

fn intercept(config: &Config, problems: &mut Vec<Problem>) {
    let intercept = &config.intercept;
    for (path, is_zero) in [
        ("intercept.leaves", intercept.leaves == 0),
        ("intercept.tunnels", intercept.tunnels == 0),
        ("intercept.idle_timeout", intercept.idle_timeout.is_zero()),
        (
            "intercept.handshake_timeout",
            intercept.handshake_timeout.is_zero(),
        ),
    ] {
        if is_zero {
            problems.push(Problem::error(path, "with 0 no connection could pass"));
        }
    }
}

fn limits(config: &Config, problems: &mut Vec<Problem>) {
    let limits = &config.limits;
    for (path, value) in [
        ("limits.connections", limits.connections),
        ("limits.in_flight", limits.in_flight),
        ("limits.header_bytes", limits.header_bytes.as_usize()),
        ("limits.headers", limits.headers),
        ("limits.counters", limits.counters),
    ] {
        if value == 0 {
            problems.push(Problem::error(path, "with 0 no call could pass"));
        }
    }
    if limits.peek_total < limits.peek {
        problems.push(
            Problem::error(
                "limits.peek_total",
                format!("less than `limits.peek`, which is {}", limits.peek),
            )
            .help("it bounds all request bodies together, `peek` each one"),
        );
    }
}

/// No destination gets more of what was said than spans may hold; and whoever asks to see it, sees it.
fn content(config: &Config, problems: &mut Vec<Problem>) {
    let most = config.tracing.content;
    for (place, destination) in config.tracing.processors.iter().enumerate() {
        let path = format!("tracing.processors[{place}]");
        if destination.options.content.is_some_and(|it| it > most) {
            let message = format!("more than `tracing.content`, which is {}", most.name());
            let help = "raise that, and give the others a `content` of their own";
            problems.push(Problem::error(format!("{path}.content"), message).help(help));
        }
        let shows = |console: &ConsoleConfig| console.include_payloads;
        if most == Content::None
            && matches!(&destination.config, ProcessorConfig::Console(console) if shows(console))
        {
            let message = "there is nothing to show, since `tracing.content` is none";
            let help = "set it to `redacted` or `full`";
            let path = format!("{path}.include_payloads");
            problems.push(Problem::warning(path, message).help(help));
        }
    }
}

/// What can be written down already and does nothing yet would only look as if it did.
fn not_yet(config: &Config, problems: &mut Vec<Problem>) {
    if config.upstream.http2 {
        problems.push(
            Problem::error("upstream.http2", "this build speaks HTTP/1.1 to providers")
                .help("leave it at `false`"),
        );
    }
}

/// Files that are named are there; what a directory is for has one.
fn files(config: &Config, sources: &Sources<'_>, problems: &mut Vec<Problem>) {
    if config.intercept.ca_dir.as_os_str().is_empty() {
        let problem = Problem::error("intercept.ca_dir", "it is empty");
        problems.push(problem.help("name a directory: ./tollgate-data/ca, or leave it out"));
    }
    let upstream = &config.upstream;
    for (path, file) in [
        ("upstream.ca_file", &upstream.ca_file),
        ("upstream.client_cert", &upstream.client_cert),
        ("upstream.client_key", &upstream.client_key),
        ("pricing.file", &config.pricing.file),
    ] {
        let Some(file) = file else {
            continue;
        };
        if let Err(error) = (sources.file)(file) {
            let message = format!("cannot read the file {}: {error}", file.display());
            problems.push(Problem::error(path, message));
        }
    }
}

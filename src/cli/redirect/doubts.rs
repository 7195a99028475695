//! What whoever applies the rules may not expect. The rules apply all the same: Tollgate may start
//! later, with another configuration than the one at hand.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::rules::Rules;
use crate::config::Config;

/// What is doubtful about rules that are in force, where something listens at these addresses with
/// their port, if that can be told; `read` is a configuration, and its name.
pub(super) fn about(
    rules: &Rules,
    read: Option<(&str, &Config)>,
    listening: Option<&[IpAddr]>,
) -> Vec<String> {
    let mut doubts = Vec::new();
    if let Some((file, config)) = read {
        doubts.extend(of_port(rules, file, config));
        doubts.extend(of_mark(rules, file, config));
        doubts.extend(of_address(rules, file, config));
    }
    // Whoever is told that it cannot listen there need not be told that it does not yet.
    let is_told = !doubts.is_empty();
    doubts.extend(listening.and_then(|found| of_listener(rules, found, is_told)));
    doubts
}

fn of_port(rules: &Rules, file: &str, config: &Config) -> Option<String> {
    let to = rules.to;
    match config.listen.transparent {
        Some(at) if at.port() == to => None,
        Some(at) => Some(format!(
            "--to {to}: `listen.transparent` in {file} is {at}, where the rules do not lead. Leave --to \
             out, or set `listen.transparent: {}`",
            SocketAddr::new(at.ip(), to)
        )),
        None => Some(format!(
            "--to {to}: {file} has no `listen.transparent`, so that Tollgate does not listen there with \
             it. Set `listen.transparent: 127.0.0.1:{to}` and `intercept.enabled: true`"
        )),
    }
}

/// A user is told apart, whatever the mark.
fn of_mark(rules: &Rules, file: &str, config: &Config) -> Option<String> {
    let (mark, None) = (rules.except_marked?, &rules.except) else {
        return None;
    };
    let says = match config.upstream.mark {
        Some(other) if other == mark => return None,
        Some(other) => format!("is {other}"),
        None => "is not set".to_owned(),
    };
    Some(format!(
        "--mark {mark}: `upstream.mark` in {file} {says}, so that Tollgate's own connections would be \
         led back to it, and all calls fail. Set `upstream.mark: {mark}`"
    ))
}

fn of_address(rules: &Rules, file: &str, config: &Config) -> Option<String> {
    let (at, to) = (config.listen.transparent?, rules.to);
    if at.ip().is_loopback() && !rules.from.is_empty() {
        let from: Vec<_> = rules
            .from
            .iter()
            .map(|name| format!("--from {name}"))
            .collect();
        return Some(format!(
            "{}: `listen.transparent` in {file} is {at}, which what comes in by an interface cannot \
             reach, so that it fails. Set `listen.transparent: 0.0.0.0:{to}`, and `listen.allow` to the \
             networks that may use it",
            from.join(" ")
        ));
    }
    let is_reached = at.ip().is_loopback() || at.ip().is_unspecified();
    (rules.redirects_output() && !is_reached).then(|| {
        format!(
            "`listen.transparent` in {file} is {at}: what programs on this machine send is led to \
             127.0.0.1:{to}, and fails. Set `listen.transparent: 0.0.0.0:{to}`, with `listen.allow`, or \
             127.0.0.1:{to}"
        )
    })
}

fn of_listener(rules: &Rules, found: &[IpAddr], is_told: bool) -> Option<String> {
    let hears = |far: bool| {
        let mut found = found.iter();
        found.any(|ip| ip.is_unspecified() || ip.is_loopback() != far)
    };
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, rules.to));
    let at = if rules.redirects_output() && !hears(false) {
        here.to_string()
    } else if !rules.from.is_empty() && !hears(true) && (found.is_empty() || !is_told) {
        format!("port {} for what comes in from other machines", rules.to)
    } else {
        return None;
    };
    Some(format!(
        "nothing listens at {at} yet: until something does, every connection that is redirected fails. \
         Start Tollgate, or take the rules away: tollgate redirect remove"
    ))
}

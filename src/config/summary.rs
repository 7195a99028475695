//! A configuration in a few lines: what Tollgate understood.

use std::fmt::Write as _;

use super::Config;
use crate::{
    base::{money::Usd, units::show_duration},
    net::config::Listen,
    pipeline::{Content, Destination, ProcessorConfig},
    policy::{
        Count, LimitConfig, Match, OnExhausted, Patterns, Per, RateLimit, Reach, RuleConfig, Window,
    },
};

impl Config {
    /// What it means, as subjects and what is said of them; a subject may come several times.
    pub fn summary(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        self.listeners(&mut lines);
        self.doors(&mut lines);
        self.named_providers(&mut lines);
        self.limits_on_calls(&mut lines);
        let processors: Vec<String> = self.tracing.processors.iter().map(processor).collect();
        let processors = match processors.as_slice() {
            [] => "nowhere but the store".to_owned(),
            some => some.join(", "),
        };
        lines.push(("spans", processors));
        if self.tracing.content != Content::None {
            let content = format!("{}, on spans and in the store", self.tracing.content.name());
            lines.push(("content", content));
        }
        let (path, kept) = (self.store.path.display(), self.store.retention);
        lines.push(("store", format!("{path}, kept for {}", show_duration(kept))));
        lines
    }

    fn listeners(&self, lines: &mut Vec<(&'static str, String)>) {
        let listen = &self.listen;
        let mut proxy: Vec<String> = Listen::with_counterpart(listen.proxy)
            .map(|address| format!("http://{address}"))
            .collect();
        if !listen.allow.is_empty() {
            let allow: Vec<String> = listen.allow.iter().map(ToString::to_string).collect();
            proxy.push(format!("for {}", allow.join(", ")));
        }
        lines.push(("proxy", proxy.join(" ")));
        lines.push(("admin", format!("http://{}", listen.admin)));
        if let Some(health) = listen.health {
            lines.push(("health", format!("http://{health}")));
        }
        if let Some(transparent) = listen.transparent {
            lines.push((
                "transparent",
                format!("redirected connections at {transparent}"),
            ));
        }
    }

    /// Who is let in.
    fn doors(&self, lines: &mut Vec<(&'static str, String)>) {
        let identity = &self.identity;
        let addresses = identity.addresses();
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let from = addresses.join(", ");
        let callers = match (&identity.keys_file, addresses.is_empty()) {
            (None, true) => return,
            (None, false) => format!("anyone; known are those from {from}"),
            (Some(file), true) => format!("with a key in {}", file.display()),
            (Some(file), false) => format!("with a key in {}, or from {from}", file.display()),
        };
        lines.push(("callers", callers));
    }

    fn named_providers(&self, lines: &mut Vec<(&'static str, String)>) {
        for (name, provider) in &self.providers.providers {
            let mut line = name.clone();
            if let Some(url) = &provider.base_url {
                let _ok = write!(line, " at {url}");
            }
            if provider.api_key.is_some() {
                line.push_str(", with a key of Tollgate's own");
            }
            lines.push(("provider", line));
        }
    }

    fn limits_on_calls(&self, lines: &mut Vec<(&'static str, String)>) {
        let budgets = &self.budgets;
        let reach = self.ledger.reach().name();
        let before = lines.len();
        for (name, limit, window, per) in [
            ("daily", budgets.daily, Window::Day, None),
            ("monthly", budgets.monthly, Window::Month, None),
            ("per_user", budgets.per_user, Window::Day, Some(Per::User)),
        ] {
            let Some(usd) = limit else {
                continue;
            };
            let limit = LimitConfig {
                usd: Some(usd),
                ..LimitConfig::default()
            };
            let limit = amounts(&limit, window);
            let per = each(per.as_slice());
            lines.push(("budget", format!("{name}: {limit}{per} ({reach})")));
        }
        let session = self.guards.session.rule();
        let rules = budgets.rules.iter().chain(&session);
        lines.extend(rules.map(|rule| ("budget", budget(rule, reach))));
        let rates = self.rate_limits.iter();
        lines.extend(rates.map(|rule| ("rate limit", rate(rule))));
        if lines.len() == before {
            lines.push(("limits", "none: calls are metered and pass".to_owned()));
        }
    }
}

fn budget(rule: &RuleConfig, reach: &str) -> String {
    let consequence = match rule.on_exhausted {
        OnExhausted::Block => "",
        OnExhausted::Clamp => ", then clamped",
        OnExhausted::Shadow => ", only watched",
    };
    format!(
        "{}: {}{}{}{}{consequence} ({reach})",
        rule.name.as_str(),
        amounts(&rule.limit, rule.window),
        without(rule.count),
        each(&rule.per),
        matching(&rule.matches),
    )
}

fn rate(rule: &RateLimit) -> String {
    let limits = [
        rule.requests_per_minute
            .map(|count| format!("{count} requests a minute")),
        rule.tokens_per_minute
            .map(|count| format!("{count} tokens a minute")),
        rule.input_tokens_per_minute
            .map(|count| format!("{count} input tokens a minute")),
        rule.output_tokens_per_minute
            .map(|count| format!("{count} output tokens a minute")),
        rule.concurrent.map(|count| format!("{count} at once")),
    ];
    let limits: Vec<String> = limits.into_iter().flatten().collect();
    format!(
        "{}: {}{}{}{} ({})",
        rule.name.as_str(),
        limits.join(", "),
        without(rule.count),
        each(&rule.per),
        matching(&rule.matches),
        Reach::Process.name(),
    )
}

/// `$4.50 and 1000 tokens a day`.
fn amounts(limit: &LimitConfig, window: Window) -> String {
    let usd = |usd: Usd| usd.short().to_string();
    let limits = [
        limit.usd.map(usd),
        limit.tokens.map(|count| format!("{count} tokens")),
        limit
            .input_tokens
            .map(|count| format!("{count} input tokens")),
        limit
            .output_tokens
            .map(|count| format!("{count} output tokens")),
        limit.requests.map(|count| format!("{count} requests")),
    ];
    let limits: Vec<String> = limits.into_iter().flatten().collect();
    let limits = limits.join(" and ");
    match window {
        Window::Total => format!("{limits} in total"),
        Window::Rolling(length) => format!("{limits} in any {}", show_duration(length)),
        calendar => format!("{limits} a {calendar}"),
    }
}

/// ` (cache_read not counted)`.
fn without(count: Count) -> String {
    let classes = [
        ("cache_read", count.cache_read),
        ("cache_write", count.cache_write),
        ("reasoning", count.reasoning),
    ];
    let classes = classes.into_iter().filter(|(_, counts)| !counts);
    let classes: Vec<&str> = classes.map(|(name, _)| name).collect();
    match classes.as_slice() {
        [] => String::new(),
        classes => format!(" ({} not counted)", classes.join(", ")),
    }
}

/// ` for each user and model`.
fn each(per: &[Per]) -> String {
    let names: Vec<&str> = per.iter().map(Per::name).collect();
    match names.as_slice() {
        [] => String::new(),
        names => format!(" for each {}", names.join(" and ")),
    }
}

/// ` where agent is research-*, environment is prod or staging`.
fn matching(matches: &Match) -> String {
    let is = |name: &str, patterns: &Patterns| format!("{name} is {}", patterns.0.join(" or "));
    let fields = matches.fields();
    let fields = fields.map(|(field, patterns)| is(field.name(), patterns));
    let tags = matches.tags.iter().map(|(key, patterns)| is(key, patterns));
    let all: Vec<String> = fields.chain(tags).collect();
    match all.as_slice() {
        [] => String::new(),
        all => format!(" where {}", all.join(", ")),
    }
}

fn processor(destination: &Destination) -> String {
    if let ProcessorConfig::File(file) = &destination.config {
        return format!("file {}", file.directory.display());
    }
    let name = destination.options.name.as_ref();
    name.map_or_else(|| destination.config.name(), |name| name.as_str())
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{Sources, parse};

    fn said(yaml: &str, about: &str) -> Vec<String> {
        let sources = Sources {
            variable: &|_| None,
            file: &|_| Err(std::io::ErrorKind::NotFound.into()),
        };
        let config = parse("t.yaml", yaml, &sources).unwrap().config;
        let lines = config.summary().into_iter();
        lines
            .filter(|(subject, _)| *subject == about)
            .map(|(_, line)| line)
            .collect()
    }

    #[test]
    fn rules_are_said_in_words_with_how_far_they_reach() {
        let yaml = "budgets:\n  daily: 100\n  per_user: 2.5\n  rules:\n    - {name: research, match: \
                    {agent: research-*, environment: [prod, staging], tags: {team: a}}, per: \
                    [session, model], window: 6h, limit: {usd: 4.50, tokens: 1000}, \
                    on_exhausted: clamp}\n";
        assert_eq!(
            said(yaml, "budget"),
            [
                "daily: $100.00 a day (this volume)",
                "per_user: $2.50 a day for each user (this volume)",
                "research: $4.50 and 1000 tokens in any 6h for each session and model where agent \
                 is research-*, environment is prod or staging, team is a, then clamped (this \
                 volume)",
            ]
        );
        let yaml = "rate_limits: [{name: r, requests_per_minute: 60, concurrent: 2}]";
        assert_eq!(
            said(yaml, "rate limit"),
            ["r: 60 requests a minute, 2 at once (this process)"]
        );
        assert_eq!(said("{}", "limits"), ["none: calls are metered and pass"]);
    }
}

//! A rule as it is used: everything resolved. Its identity says which counters are its own.

use std::{sync::Arc, time::Duration};

use jiff::tz::TimeZone;

use super::{
    config::{
        Config, Count, LimitConfig, Match, Missing, Name, OnExhausted, RateLimit, RuleConfig,
    },
    counter::Unit,
    matcher::Matcher,
    rate::Requests,
    scope::Per,
    threshold::{Fraction, Thresholds},
    window::{Calendar, Window},
};
use crate::base::{clock::Timestamp, money::Usd};

/// A rule of `budgets` or `rate_limits`.
#[derive(Debug)]
pub(super) struct Rule {
    /// Its name.
    pub(super) name: Arc<str>,
    /// `budget` or `rate`.
    pub(super) kind: RuleKind,
    /// How many times rules were put in force before it: a later one overrules those of its identity.
    pub(super) edition: u64,
    /// Name, `per`, window and zone: a counter belongs to the rule of its identity, so that an
    /// edit of anything else keeps what was spent.
    pub(super) identity: Arc<str>,
    pub(super) matcher: Matcher,
    pub(super) per: Vec<Per>,
    pub(super) calendar: Calendar,
    /// What may be spent, in the order in which units are asked.
    pub(super) limits: Vec<(Unit, i64)>,
    /// Which tokens count.
    pub(super) count: Count,
    pub(super) on_exhausted: OnExhausted,
    pub(super) missing: Missing,
    pub(super) thresholds: Thresholds,
    pub(super) max_wait: Duration,
    /// The values of its only counter, if it counts all calls together.
    pub(super) no_values: Arc<str>,
    /// Requests a minute, which are not counted but spaced.
    pub(super) requests: Option<Arc<Requests>>,
}

/// Which section a rule is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RuleKind {
    /// `budgets`: counted in calendar time, journalled.
    Budget,
    /// `rate_limits`: forgotten with the process.
    Rate,
}

impl Rule {
    /// A rule of `budgets`.
    pub(super) fn budget(rule: &RuleConfig, config: &Config, edition: u64) -> Self {
        let zone = config.timezone.0.clone();
        Self {
            name: Arc::from(rule.name.as_str()),
            kind: RuleKind::Budget,
            edition,
            identity: identity(
                rule.name.as_str(),
                &rule.per,
                rule.window,
                config.timezone.name(),
            ),
            matcher: Matcher::new(&rule.matches),
            per: rule.per.clone(),
            calendar: Calendar::new(rule.window, zone),
            limits: limits(&rule.limit),
            count: rule.count,
            on_exhausted: rule.on_exhausted,
            missing: rule.missing.unwrap_or(config.missing),
            thresholds: config.thresholds,
            max_wait: config.max_wait,
            no_values: Arc::from(""),
            requests: None,
        }
    }

    /// A rule of `rate_limits`; `requests` is its limiter, if it has one.
    pub(super) fn rate(rule: &RateLimit, requests: Option<Arc<Requests>>, edition: u64) -> Self {
        // Who waits for a request waits in the line of a gauge, which need not bound anything.
        let waits = requests.is_some() && !rule.max_wait.is_zero();
        let concurrent = rule.concurrent.or_else(|| waits.then_some(u64::MAX));
        let limits = [
            (Unit::Tokens, rule.tokens_per_minute),
            (Unit::InputTokens, rule.input_tokens_per_minute),
            (Unit::OutputTokens, rule.output_tokens_per_minute),
            (Unit::Concurrent, concurrent),
        ];
        Self {
            name: Arc::from(rule.name.as_str()),
            kind: RuleKind::Rate,
            edition,
            identity: rate_identity(rule),
            matcher: Matcher::new(&rule.matches),
            per: rule.per.clone(),
            calendar: Calendar::new(Window::Rolling(Duration::from_mins(1)), TimeZone::UTC),
            limits: limits
                .into_iter()
                .filter_map(|(unit, limit)| Some((unit, saturated(limit?))))
                .collect(),
            count: rule.count,
            on_exhausted: OnExhausted::Block,
            missing: rule.missing,
            thresholds: Thresholds {
                cutoff: Fraction::ONE,
                ..Thresholds::default()
            },
            max_wait: rule.max_wait,
            no_values: Arc::from(""),
            requests,
        }
    }

    /// Stands in for a budget rule that is no longer there: it counts what calls still hold under its
    /// identity, so that their bills are entered there, and limits nothing.
    pub(super) fn gone(identity: &Arc<str>) -> Self {
        let units = [
            Unit::Usd,
            Unit::Tokens,
            Unit::InputTokens,
            Unit::OutputTokens,
            Unit::Requests,
        ];
        Self {
            name: Arc::from(name_in(identity)),
            kind: RuleKind::Budget,
            edition: 0,
            identity: Arc::clone(identity),
            matcher: Matcher::new(&Match::default()),
            per: Vec::new(),
            calendar: calendar_of(identity)
                .unwrap_or_else(|| Calendar::new(Window::Total, TimeZone::UTC)),
            limits: units.map(|unit| (unit, i64::MAX)).into(),
            count: Count::default(),
            on_exhausted: OnExhausted::Shadow,
            missing: Missing::default(),
            thresholds: Thresholds::default(),
            max_wait: Duration::ZERO,
            no_values: Arc::from(""),
            requests: None,
        }
    }

    pub(super) const fn is_budget(&self) -> bool {
        matches!(self.kind, RuleKind::Budget)
    }

    /// Whether it stops calls, and does not only watch.
    pub(super) fn enforces(&self) -> bool {
        self.on_exhausted != OnExhausted::Shadow
    }

    /// The first instant of the calendar window that `now` is in; zero for rolling windows, windows
    /// without end and gauges. It names the counter.
    pub(super) fn window_of(&self, unit: Unit, now: Timestamp) -> Timestamp {
        match self.calendar.window() {
            Window::Total | Window::Rolling(_) => Timestamp::default(),
            _ if unit == Unit::Concurrent => Timestamp::default(),
            _ => self.calendar.at(now).start,
        }
    }

    /// The written limit in `unit`; zero if the rule has none.
    pub(super) fn limit(&self, unit: Unit) -> i64 {
        self.limits
            .iter()
            .find(|(found, _)| *found == unit)
            .map_or(0, |(_, limit)| *limit)
    }
}

/// The identity of an entry of `rate_limits`; it has its own prefix, since names are unique only
/// within their section.
pub(super) fn rate_identity(rule: &RateLimit) -> Arc<str> {
    let minute = Window::Rolling(Duration::from_mins(1));
    Arc::from(format!(
        "rate {}",
        identity(rule.name.as_str(), &rule.per, minute, "UTC")
    ))
}

fn identity(name: &str, per: &[Per], window: Window, zone: &str) -> Arc<str> {
    let per: Vec<_> = per.iter().map(Per::name).collect();
    Arc::from(format!(
        "{name} per={} window={window} zone={zone}",
        per.join(",")
    ))
}

/// The window and zone in an identity; `None`: it is no identity of ours.
fn calendar_of(identity: &str) -> Option<Calendar> {
    let (_, rest) = identity.split_once(" window=")?;
    let (window, zone) = rest.split_once(" zone=")?;
    Some(Calendar::new(
        window.parse().ok()?,
        TimeZone::get(zone).ok()?,
    ))
}

/// The window in an identity, and its first instant that counts at `now`: cells from before can no
/// longer be asked for, unless the clock steps back. `None`: it is no identity of ours.
pub fn window_of(identity: &str, now: Timestamp) -> Option<(Window, Timestamp)> {
    let calendar = calendar_of(identity)?;
    Some((calendar.window(), calendar.at(now).start))
}

/// The rule's name within an identity.
pub(super) fn name_in(identity: &str) -> &str {
    identity.split(' ').next().unwrap_or(identity)
}

fn limits(limit: &LimitConfig) -> Vec<(Unit, i64)> {
    [
        (Unit::Usd, limit.usd.map(Usd::nanos)),
        (Unit::Tokens, limit.tokens.map(saturated)),
        (Unit::InputTokens, limit.input_tokens.map(saturated)),
        (Unit::OutputTokens, limit.output_tokens.map(saturated)),
        (Unit::Requests, limit.requests.map(saturated)),
    ]
    .into_iter()
    .filter_map(|(unit, limit)| Some((unit, limit?)))
    .collect()
}

pub(super) fn saturated(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Config {
    /// The rules that `daily`, `monthly` and `per_user` stand for, then the written ones.
    pub fn written_out(&self) -> Vec<RuleConfig> {
        let short = |name: &str, usd: Option<Usd>, per: &[Per], window| {
            Some(RuleConfig {
                name: Name::new(name)?,
                matches: Match::default(),
                per: per.to_vec(),
                window,
                limit: LimitConfig {
                    usd: Some(usd?),
                    ..LimitConfig::default()
                },
                count: Count::default(),
                on_exhausted: OnExhausted::Block,
                missing: None,
            })
        };
        [
            short("daily", self.daily, &[], Window::Day),
            short("monthly", self.monthly, &[], Window::Month),
            short("per_user", self.per_user, &[Per::User], Window::Day),
        ]
        .into_iter()
        .flatten()
        .chain(self.rules.iter().cloned())
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_for_a_rule_counts_in_its_window() {
        let now = Timestamp::from_secs(1_795_348_800);
        for (window, zone) in [
            (Window::Day, "Europe/Berlin"),
            (Window::Month, "UTC"),
            (Window::Total, "UTC"),
        ] {
            let identity = identity("b", &[], window, zone);
            let calendar = Calendar::new(window, TimeZone::get(zone).unwrap());
            let start = match window {
                Window::Total => Timestamp::default(),
                _ => calendar.at(now).start,
            };
            assert_eq!(Rule::gone(&identity).window_of(Unit::Usd, now), start);
        }
    }
}

//! Refusals, as the person reads them who sees the client's exception.

use std::time::Duration;

use super::{
    counter::{Seen, Unit, Verdict},
    journal::JournalDown,
    matcher::UNKNOWN,
    purse::Purse,
    rule::{Rule, RuleKind},
    scope::Per,
    table::Claim,
    window::Window,
};
use crate::{
    base::{clock::Timestamp, money::Usd},
    call::{
        line::{push_grouped, push_number},
        refusal::{Rate, Reason, Refusal},
    },
};

/// How refusals are worded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wording {
    /// Whether they name amounts.
    pub(super) show_amounts: bool,
}

/// When trying again may help, where calls in flight are in the way and nobody knows when they end.
const SOON: Duration = Duration::from_secs(1);

impl Wording {
    /// The claim numbered `by` does not fit.
    pub(super) fn blocked(
        self,
        purse: &Purse,
        claims: &[Claim],
        by: usize,
        now: Timestamp,
    ) -> Refusal {
        let Some(claim) = claims.get(by) else {
            return busy();
        };
        match (claim.rule.kind, claim.seen.verdict) {
            (RuleKind::Budget, Verdict::Exhausted) => self.exhausted(purse, claim, now),
            (RuleKind::Budget, _) => self.busy(claim),
            (RuleKind::Rate, Verdict::Exhausted) => self.rate(claim, purse.clears_in(claim)),
            (RuleKind::Rate, _) => self.rate(claim, Some(SOON)),
        }
    }

    fn exhausted(self, purse: &Purse, claim: &Claim, now: Timestamp) -> Refusal {
        let name = &claim.rule.name;
        let resets_at = match claim.rule.calendar.window() {
            Window::Rolling(_) => purse.clears_in(claim).map(|wait| now + wait),
            _ => claim.rule.calendar.at(claim.window).end,
        };
        let used_up = claim.seen.spent >= claim.seen.limit;
        let state = if used_up {
            "is used up"
        } else {
            "has less left than this call may cost; a smaller output limit may fit"
        };
        let resets = resets_at.map_or_else(String::new, |at| format!(" It resets at {at}."));
        let message = format!(
            "Tollgate: the budget `{name}`{} {state}.{resets}{}",
            whose(claim),
            self.details(claim)
        );
        Refusal {
            resets_at,
            ..Refusal::new(Reason::Exhausted, format!("budget.{name}"), message)
        }
    }

    fn busy(self, claim: &Claim) -> Refusal {
        let name = &claim.rule.name;
        let message = format!(
            "Tollgate: calls in flight hold what is left of the budget `{name}`{}. Try again \
             soon.{}",
            whose(claim),
            self.details(claim)
        );
        Refusal {
            retry_after: Some(SOON),
            ..Refusal::new(Reason::Busy, format!("busy.{name}"), message)
        }
    }

    /// `clears_in` is `None` if the call alone is more than the limit.
    fn rate(self, claim: &Claim, clears_in: Option<Duration>) -> Refusal {
        let name = &claim.rule.name;
        let by = format!("rate.{name}");
        let what = match claim.unit {
            Unit::Concurrent => "more calls in flight",
            Unit::InputTokens => "more input tokens a minute",
            Unit::OutputTokens => "more output tokens a minute",
            _ => "more tokens a minute",
        };
        let (whose, details) = (whose(claim), self.details(claim));
        let message = if clears_in.is_some() {
            format!(
                "Tollgate: {what} than the rate limit `{name}`{whose} allows. Try again \
                 later.{details}"
            )
        } else {
            format!(
                "Tollgate: this call alone may take {what} than the rate limit `{name}` allows. \
                 Lower its output limit or shorten its input.{details}"
            )
        };
        match clears_in {
            Some(wait) => Refusal {
                retry_after: Some(wait),
                rate: Some(stand(claim, 0)),
                ..Refusal::new(Reason::Rate, by, message)
            },
            None => Refusal::new(Reason::Denied, by, message),
        }
    }

    /// Amounts, if they may be shown, and labels that are missing: since the call shares its
    /// counter with all that lack them.
    fn details(self, claim: &Claim) -> String {
        let shown = |amount| amount_text(claim.unit, amount);
        let amounts = self.show_amounts.then(|| {
            format!(
                " Limit {}, spent {}, held by calls in flight {}, this call {}.",
                shown(claim.seen.limit),
                shown(claim.seen.spent),
                shown(claim.seen.reserved),
                shown(claim.held()),
            )
        });
        let lacks = |field: &&Per| {
            let unknown = format!("{}={UNKNOWN}", field.name());
            claim.values.split(';').any(|value| value == unknown)
        };
        let missing = claim
            .rule
            .per
            .iter()
            .filter(lacks)
            .map(|field| format!(" The call names no {}. {}", field.name(), field.remedy()));
        amounts.into_iter().chain(missing).collect()
    }
}

/// Requests come faster than `per_minute`; in `wait` there is room for one.
pub(super) fn too_fast(rule: &Rule, values: &str, per_minute: u32, wait: Duration) -> Refusal {
    let name = &rule.name;
    let whose = if values.is_empty() {
        String::new()
    } else {
        format!(" for {values}")
    };
    let message = format!(
        "Tollgate: more requests a minute than the rate limit `{name}`{whose} allows. Try \
         again later."
    );
    Refusal {
        retry_after: Some(wait),
        rate: Some(Rate {
            unit: Unit::Requests.name(),
            limit: u64::from(per_minute),
            remaining: 0,
        }),
        ..Refusal::new(Reason::Rate, format!("rate.{name}"), message)
    }
}

/// The call lacks a label without which the rule lets nothing pass.
pub(super) fn missing(rule: &Rule, lacking: &Per) -> Refusal {
    let (name, label, remedy) = (&rule.name, lacking.name(), lacking.remedy());
    let section = match rule.kind {
        RuleKind::Budget => "budget",
        RuleKind::Rate => "rate",
    };
    let message = format!(
        "Tollgate: the rule `{name}` counts per {label}, and this call names none. {remedy}"
    );
    Refusal::new(Reason::Denied, format!("{section}.{name}"), message)
}

/// The journal cannot be written.
pub(super) fn down(down: JournalDown) -> Refusal {
    let message = format!("Tollgate: {down}, so no call under a budget may pass. See its log.");
    Refusal::new(Reason::Ledger, "ledger", message)
}

/// An amount with its unit.
pub fn amount_text(unit: Unit, amount: i64) -> String {
    let mut text = String::new();
    push_amount(unit, amount, &mut text);
    text
}

fn push_amount(unit: Unit, amount: i64, text: &mut String) {
    let counted = match unit {
        Unit::Usd => {
            text.push_str(&Usd::from_nanos(amount).short().to_string());
            return;
        },
        Unit::Tokens => " tokens",
        Unit::InputTokens => " input tokens",
        Unit::OutputTokens => " output tokens",
        Unit::Requests | Unit::Concurrent => " calls",
    };
    match u64::try_from(amount) {
        Ok(count) => push_grouped(count, text),
        Err(_negative) => text.push_str(&amount.to_string()),
    }
    text.push_str(counted);
}

/// Calls in flight are in the way, whichever.
pub(super) fn busy() -> Refusal {
    Refusal::new(Reason::Busy, "busy", "Tollgate: too many calls in flight.")
}

/// How the rate limit stood that a claim met, less what was `taken` of it then.
pub(super) fn stand(claim: &Claim, taken: i64) -> Rate {
    let Seen {
        spent,
        reserved,
        limit,
        ..
    } = claim.seen;
    let used = spent.saturating_add(reserved).saturating_add(taken);
    let remaining = limit.saturating_sub(used);
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    Rate {
        unit: match claim.unit {
            Unit::InputTokens => "input-tokens",
            Unit::OutputTokens => "output-tokens",
            unit => unit.name(),
        },
        limit: count(limit),
        remaining: count(remaining),
    }
}

fn whose(claim: &Claim) -> String {
    if claim.values.is_empty() {
        String::new()
    } else {
        format!(" for {}", claim.values)
    }
}
/// Counters of rate limits as they were found: `rate.slow/agent=a: limit 100 tokens, spent 90 tokens,
/// held 0 tokens, asked 20 tokens: exhausted`.
pub(super) fn rates(claims: &[Claim]) -> impl Iterator<Item = Box<str>> {
    // A gauge without a bound is only there to wait at.
    let is_rate = |claim: &&Claim| !claim.rule.is_budget() && claim.seen.limit < i64::MAX;
    let rates = claims.iter().filter(is_rate);
    rates.map(|claim| {
        let seen = &claim.seen;
        let mut text = counted(&claim.rule, &claim.values);
        for (what, amount) in [
            (": limit ", seen.limit),
            (", spent ", seen.spent),
            (", held ", seen.reserved),
            (", asked ", claim.held()),
        ] {
            text.push_str(what);
            push_amount(claim.unit, amount, &mut text);
        }
        text.push_str(match seen.verdict {
            Verdict::Fits => ": fits",
            Verdict::Busy => ": busy",
            Verdict::Exhausted => ": exhausted",
        });
        text.into_boxed_str()
    })
}

/// A limit of requests a minute, as it was found.
pub(super) fn spaced(rule: &Rule, values: &str, verdict: &str) -> Box<str> {
    let limit = rule.requests.as_ref().map_or(0, |one| one.per_minute());
    let mut text = counted(rule, values);
    text.push_str(": limit ");
    push_number(limit.into(), 1, &mut text);
    text.push_str(" requests a minute: ");
    text.push_str(verdict);
    text.into_boxed_str()
}

/// A rate limit and whose counter of it, with room for how it stands: every call is told of all that
/// count it, so that it is put together without a format's detours.
fn counted(rule: &Rule, values: &str) -> String {
    let mut text = String::with_capacity(160);
    text.push_str("rate.");
    text.push_str(&rule.name);
    if !values.is_empty() {
        text.push('/');
        text.push_str(values);
    }
    text
}

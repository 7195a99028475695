//! Asks the guards about a call right before the rules are asked, does what they say, and tells them
//! how it ended.

use std::time::Duration;

use super::{admit, exchange::Exchange, kill};
use crate::{
    call::{
        facts::ResponseFacts,
        outcome::{Decision, End},
        refusal::{Reason, Refusal},
        span::{Event, GUARDS, Value},
    },
    guard::{Action, Asked, Ended, Finding, LONGEST_WAIT, Now, Outcome, Watch},
    policy::Subject,
};

/// What guards have said of a call, and what they left with it to be told how it ends.
#[derive(Default)]
pub(super) struct Guarded {
    watches: Vec<Box<dyn Watch>>,
    /// For the span: which guard, what it did, and why.
    said: Vec<Box<str>>,
}

/// Asks each guard about the call, and keeps it waiting if one says so. Nothing is held for it yet.
///
/// # Errors
/// One refuses.
pub(super) async fn ask(exchange: &mut Exchange) -> Result<(), Refusal> {
    let subject = admit::subject(exchange);
    let guards = &exchange.live.guards;
    let answer = guards.ask(&asked(exchange, &subject), now(exchange));
    // The exchange owns them from here on, so that a client who leaves now gives them back.
    exchange.guarded.watches = answer.watches;
    let wait = heed(exchange, answer.findings)?;
    if wait.is_zero() {
        return Ok(());
    }
    let began = exchange.proxy.clock.mono();
    let slept = tokio::time::sleep(wait);
    kill::unless(&exchange.proxy, &admit::subject(exchange), slept).await?;
    let woke = exchange.proxy.clock.mono();
    exchange.waited += woke.saturating_duration_since(began);
    Ok(())
}

/// Asks whether its conversation turns in circles, of a call that was let in and goes on with what the
/// client's tools have found. Returns how long that must wait.
///
/// # Errors
/// It turns in circles.
pub(super) fn goes_on(exchange: &mut Exchange) -> Result<Duration, Refusal> {
    let subject = admit::subject(exchange);
    let guards = &exchange.live.guards;
    let answer = guards.ask_of_circles(&asked(exchange, &subject), now(exchange));
    heed(exchange, answer.findings)
}

/// Notes what guards say. Returns how long the call must wait.
fn heed(exchange: &mut Exchange, findings: Vec<Finding>) -> Result<Duration, Refusal> {
    let mut wait = Duration::ZERO;
    for finding in findings {
        note(exchange, &finding);
        match finding.action {
            Action::Tag | Action::Alert => {},
            Action::Slow(longer) => wait = wait.max(longer.min(LONGEST_WAIT)),
            Action::Refuse(refusal) => return Err(*refusal),
        }
    }
    Ok(wait)
}

/// A socket turns out to be one that cannot be read.
///
/// # Errors
/// Its model must be seen.
pub(super) fn unreadable(exchange: &Exchange) -> Result<(), Refusal> {
    let subject = admit::subject(exchange);
    let guards = &exchange.live.guards;
    guards.unreadable(&asked(exchange, &subject), now(exchange))
}

fn asked<'a>(exchange: &'a Exchange, subject: &'a Subject<'a>) -> Asked<'a> {
    Asked {
        subject,
        request: &exchange.request,
        spends: exchange.route.operation.spends,
        trusted: &exchange.live.trusted,
        again: exchange.again,
    }
}

/// Tells those who wait for it how the call ended.
pub(super) fn tell(exchange: &mut Exchange, end: End, facts: &ResponseFacts) {
    let watches = std::mem::take(&mut exchange.guarded.watches);
    if !watches.is_empty() {
        let (how, now) = (ended(exchange, end, facts), now(exchange));
        for watch in watches {
            if let Some(finding) = watch.ended(&how, now) {
                note(exchange, &finding);
            }
        }
    }
    let said = std::mem::take(&mut exchange.guarded.said);
    if !said.is_empty() {
        exchange.attributes.push((GUARDS, Value::Texts(said)));
    }
}

/// Tells those who wait for it that the answer begins.
pub(super) fn begins(exchange: &mut Exchange) {
    if exchange.guarded.watches.is_empty() {
        return;
    }
    let now = now(exchange);
    let sent = exchange.sent.unwrap_or(exchange.began);
    let waited = now.mono.saturating_duration_since(sent);
    // A response in a socket has no status.
    let status = exchange.http_status.unwrap_or(200);
    let mut watches = std::mem::take(&mut exchange.guarded.watches);
    for watch in &mut watches {
        if let Some(finding) = watch.began(status, waited, now) {
            note(exchange, &finding);
        }
    }
    exchange.guarded.watches = watches;
}

/// What a guard says goes on the span, and where it is an alert, into the log and among the span's
/// events as well.
fn note(exchange: &mut Exchange, finding: &Finding) {
    let Finding { by, says, action } = finding;
    exchange.proxy.metrics.guard(by, action.name());
    if matches!(action, Action::Alert | Action::Slow(_)) {
        let (request_id, guard) = (exchange.request_id, &**by);
        tracing::warn!(%request_id, guard, "A guard gives an alert: {says}");
        exchange.events.push(Event {
            name: format!("guard.{by}").into(),
            time: exchange.proxy.clock.wall(),
        });
    }
    let said = format!("{by}: {}: {says}", action.name());
    exchange.guarded.said.push(said.into_boxed_str());
}

fn now(exchange: &Exchange) -> Now {
    let clock = &exchange.proxy.clock;
    Now {
        wall: clock.wall(),
        mono: clock.mono(),
    }
}

/// How the call ended, as far as it tells something of its provider.
fn ended(exchange: &Exchange, end: End, facts: &ResponseFacts) -> Ended {
    let reason = exchange.refusal.as_ref().map(|refusal| refusal.reason);
    let outcome = match (reason, exchange.sent, end) {
        (Some(Reason::BadGateway | Reason::Timeout), ..) => Outcome::Failed,
        (_, None, _) => Outcome::NotSent,
        _ if matches!(exchange.decision, Decision::Refused | Decision::Cut) => Outcome::Left,
        (.., End::Client | End::Cut) => Outcome::Left,
        (.., End::Upstream) => Outcome::Failed,
        (.., End::Complete | End::Crashed) => match exchange.http_status {
            // It broke off in its own words: what was said with the status holds no more.
            Some(200..=299) if facts.error.is_some() => Outcome::Failed,
            Some(status) => Outcome::Answered(status),
            // A response in a socket.
            None => Outcome::Answered(200),
        },
    };
    let since_sent = exchange.sent.map_or(Duration::ZERO, |sent| {
        let first = exchange.first_chunk.map(|first| exchange.began + first);
        let until = first.unwrap_or_else(|| exchange.proxy.clock.mono());
        until.saturating_duration_since(sent)
    });
    Ended {
        outcome,
        waited: since_sent,
    }
}

//! A call asks its rules, and waits for its turn where others under way hold what it asks for; and
//! then until what it holds is kept.

use std::{future::poll_fn, task::Poll, time::Duration};

use super::{admit, exchange::Exchange, kill};
use crate::{
    call::refusal::{Reason, Refusal},
    policy::{Denied, Engine, Hold, Matched, Wanted},
};

/// Asks for what `size` says, each time anew, and waits in order for a budget that is only busy; gives
/// what else `size` said at last, and how long it waited. `rates` are the counters of rate limits that
/// were looked at, in words.
///
/// # Errors
/// A rule or `size` refuses, it waited in vain, or it was stopped meanwhile.
pub(super) async fn ask_in_turn<T>(
    exchange: &Exchange,
    engine: &Engine,
    mut matched: Matched,
    size: impl Fn(&mut Matched) -> Result<(Wanted, T), Refusal>,
    rates: &mut Vec<Box<str>>,
) -> Result<(Hold, T, Duration), Refusal> {
    let subject = admit::subject(exchange);
    let clock = &exchange.proxy.clock;
    let began = clock.mono();
    let mut all = Duration::ZERO;
    let mut is_over = false;
    loop {
        let (asked, as_what) = size(&mut matched)?;
        let mut refused = match engine.admit_sized(matched, asked, &subject, clock.wall()) {
            Ok(hold) => {
                *rates = hold.rates();
                return Ok((hold, as_what, all));
            },
            Err(Denied::Outdated(again)) => {
                matched = again;
                kill::unless(&exchange.proxy, &subject, others_first()).await?;
                continue;
            },
            Err(Denied::Refused(refused)) => refused,
        };
        let waited = match refused.wait() {
            // Where its time ends as a window does, it has not asked in the new one.
            Some(wait) if !is_over => {
                let end = began + wait.longest;
                let again = wait.again.map(|again| (clock.mono() + again).min(end));
                let waiting = tokio::time::timeout_at(again.unwrap_or(end), wait.place);
                let woken = kill::unless(&exchange.proxy, &subject, waiting).await?;
                is_over = woken.is_err() && clock.mono() >= end;
                true
            },
            _ => false,
        };
        if !waited {
            *rates = refused.rates();
            let (refusal, crossings) = engine.refuse(*refused, &subject, clock.wall());
            exchange.proxy.crossed(&crossings);
            return Err(refusal);
        }
        all = clock.mono().saturating_duration_since(began);
        matched = match refused.again() {
            Some(matched) => matched,
            None => engine.matched(&subject, clock.wall())?,
        };
    }
}

/// Sees to it that the end of the process cannot lose what the call holds, nor a power cut where it
/// shall not. Before the first byte goes to the provider.
///
/// # Errors
/// The ledger cannot be written.
pub(super) async fn keep(hold: &Hold) -> Result<(), Refusal> {
    if hold.waits() {
        // Those that are let in meanwhile are kept with it.
        others_first().await;
    }
    let mut kept = hold.keep();
    if let (Ok(()), Some(durable)) = (kept, hold.durable()) {
        kept = durable.await;
    }
    kept.map_err(|_down| {
        let message = "Tollgate's ledger cannot be written; this call was not sent. See the log.";
        Refusal::new(Reason::Ledger, "ledger", message)
    })
}

/// Lets every other call go first that can get on now, once.
async fn others_first() {
    let mut went = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut went, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

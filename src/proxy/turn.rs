//! A call asks its rules, and waits for its turn where others under way hold what it asks for.

use std::time::Duration;

use super::{admit, exchange::Exchange, kill};
use crate::{
    call::refusal::Refusal,
    policy::{Amounts, Engine, Hold, Matched},
};

/// Asks, and waits in order for a budget that is only busy; says how long. `rates` are the counters
/// of rate limits that were looked at, in words.
///
/// # Errors
/// A rule refuses, it waited in vain, or it was stopped meanwhile.
pub(super) async fn ask_in_turn(
    exchange: &Exchange,
    engine: &Engine,
    mut matched: Matched,
    amounts: Amounts,
    rates: &mut Vec<Box<str>>,
) -> Result<(Hold, Duration), Refusal> {
    let subject = admit::subject(exchange);
    let clock = &exchange.proxy.clock;
    let began = clock.mono();
    let mut all = Duration::ZERO;
    loop {
        let mut refused = match engine.admit(matched, amounts, &subject, clock.wall()) {
            Ok(hold) => {
                *rates = hold.rates();
                return Ok((hold, all));
            },
            Err(refused) => refused,
        };
        let waited = match refused.wait() {
            Some(wait) => {
                let end = began + wait.longest;
                let again = wait.again.map(|again| (clock.mono() + again).min(end));
                let waiting = tokio::time::timeout_at(again.unwrap_or(end), wait.place);
                let woken = kill::unless(&exchange.proxy, &subject, waiting).await?;
                woken.is_ok() || clock.mono() < end
            },
            None => false,
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

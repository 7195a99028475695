//! A call asks its rules, and waits for its turn where others under way hold what it asks for.

use std::time::Duration;

use super::{admit, exchange::Exchange, kill};
use crate::{
    call::refusal::Refusal,
    policy::{Amounts, Engine, Hold, Matched},
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
    size: impl Fn(&mut Matched) -> Result<(Amounts, T), Refusal>,
    rates: &mut Vec<Box<str>>,
) -> Result<(Hold, T, Duration), Refusal> {
    let subject = admit::subject(exchange);
    let clock = &exchange.proxy.clock;
    let began = clock.mono();
    let mut all = Duration::ZERO;
    loop {
        let (amounts, sized) = size(&mut matched)?;
        let mut refused = match engine.admit(matched, amounts, &subject, clock.wall()) {
            Ok(hold) => {
                *rates = hold.rates();
                return Ok((hold, sized, all));
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

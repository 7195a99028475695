//! Stops a socket that people order to be stopped: itself, or anything in it.

use super::turns::Turns;
use crate::{
    call::refusal::Refusal,
    proxy::{exchange::Exchange, kill},
};

/// Why the socket is to be closed, if a kill is for it or for one of its responses. They all end
/// with it, and their spans say so.
pub(super) fn stops(exchange: &Exchange, turns: &mut Turns) -> Option<Refusal> {
    let own = kill::stops(exchange);
    let why = own.or_else(|| open(turns).find_map(|turn| kill::stops(turn)))?;
    for turn in open(turns) {
        turn.killed(why.clone());
    }
    Some(why)
}

/// The responses that are awaited or under way.
fn open(turns: &mut Turns) -> impl Iterator<Item = &mut Exchange> {
    let all = turns.waiting.iter_mut().chain(&mut turns.open);
    let under_way = all.filter(|turn| !turn.facts.complete);
    under_way.filter_map(|turn| turn.exchange.as_deref_mut())
}

//! What a single call may take at most, whatever budgets have left: `guards.call`.
//!
//! A cap works as a limit does that nobody else has spent anything of: an output limit above it is
//! refused or lowered, a request without one is given one, a stream is cut at it.

use super::reserve::Worth;
use crate::{
    call::refusal::{Reason, Refusal},
    guard::Call,
    policy::{Amounts, OnExhausted, Room},
};

/// The caps of a call that is under way.
#[derive(Debug)]
pub(super) struct Cap {
    /// Output tokens of all choices, to which the caps come.
    pub(super) output: u64,
    by: &'static str,
}

impl Cap {
    /// What `caps` come to for a call that is worth so much; `None`: they leave its output alone.
    pub(super) fn of(caps: &Call, worth: &Worth) -> Option<Self> {
        if !stops(caps) {
            return None;
        }
        let amounts = |usd, output| Amounts {
            usd,
            output,
            ..Amounts::default()
        };
        let by_output = worth.affordable(amounts(None, caps.max_output_tokens));
        let by_usd = worth.affordable(amounts(caps.max_usd, None));
        let (output, by) = if by_usd < by_output {
            (by_usd, USD)
        } else {
            (by_output, OUTPUT)
        };
        (output < u64::MAX).then_some(Self { output, by })
    }

    /// Why a call is cut that has come to it.
    pub(super) fn refusal(&self) -> Refusal {
        refusal(self.by)
    }
}

const OUTPUT: &str = "max_output_tokens";
const INPUT: &str = "max_input_tokens";
const USD: &str = "max_usd";

/// Whether they stop calls, and do not only watch.
pub(super) fn stops(caps: &Call) -> bool {
    !caps.is_empty() && caps.on_exhausted != OnExhausted::Shadow
}

/// The caps that a call which is worth so much and asks for `whole` is over; `None`: it is within them,
/// or they only watch.
pub(super) fn over(caps: &Call, whole: Amounts, worth: &Worth) -> Option<Cap> {
    exceeded(caps, whole)?;
    Cap::of(caps, worth)
}

/// What is left for a call that asks for `whole`, with the caps besides what budgets have left.
pub(super) fn within(caps: &Call, whole: Amounts, room: Room) -> Room {
    if !stops(caps) {
        return room;
    }
    let fits = exceeded(caps, whole).is_none();
    let may_lower = fits || caps.on_exhausted == OnExhausted::Clamp;
    let least = |one: Option<u64>, cap: Option<u64>| match (one, cap) {
        (Some(one), Some(cap)) => Some(one.min(cap)),
        (one, cap) => one.or(cap),
    };
    Room {
        fits: room.fits && fits,
        may_clamp: (room.fits || room.may_clamp) && may_lower,
        left: Amounts {
            usd: match (room.left.usd, caps.max_usd) {
                (Some(left), Some(cap)) => Some(left.min(cap)),
                (left, cap) => left.or(cap),
            },
            output: least(room.left.output, caps.max_output_tokens),
            ..room.left
        },
    }
}

/// Whether a call that asks for `amounts` in the end, with `input` tokens at most, stays within the
/// caps; `Some`: what a cap that only watches would have stopped it by.
///
/// # Errors
/// It does not.
pub(super) fn check(
    caps: &Call,
    amounts: Amounts,
    input: u64,
) -> Result<Option<Box<str>>, Refusal> {
    let over_input = caps.max_input_tokens.is_some_and(|most| input > most);
    let over = over_input.then_some(INPUT);
    let Some(by) = over.or_else(|| exceeded(caps, amounts)) else {
        return Ok(None);
    };
    if caps.on_exhausted == OnExhausted::Shadow {
        return Ok(Some(format!("call.{by}").into_boxed_str()));
    }
    Err(refusal(by))
}

/// The cap that so much output or money is above.
fn exceeded(caps: &Call, amounts: Amounts) -> Option<&'static str> {
    let output = |most| amounts.output.is_some_and(|output| output > most);
    let usd = |most| amounts.usd.is_some_and(|usd| usd > most);
    if caps.max_output_tokens.is_some_and(output) {
        Some(OUTPUT)
    } else if caps.max_usd.is_some_and(usd) {
        Some(USD)
    } else {
        None
    }
}

fn refusal(by: &'static str) -> Refusal {
    let advice = match by {
        INPUT => "Shorten its input.",
        _ => "Lower its output limit, or shorten its input.",
    };
    let message = format!(
        "Tollgate: this call alone may take more than guards.call.{by} allows a call. {advice}"
    );
    Refusal::new(Reason::Denied, format!("call.{by}"), message)
}

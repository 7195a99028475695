//! What a single call may take at most (`guards.call`), moved by a call that asks for more.

use http::StatusCode;

use super::{
    caller::Way,
    limits::{Move, Seen, words},
    trial::{Limit, Trial, Trouble},
};
use crate::{
    base::money::{PerMillion, Usd},
    call::outcome::Decision,
    guard::Call,
    policy::{OnExhausted, Unit},
};

/// What it is called.
const NAME: &str = "guards.call";

/// Every cap on calls.
pub(super) fn caps(call: Call) -> Vec<Move> {
    let none = Call {
        on_exhausted: call.on_exhausted,
        ..Call::default()
    };
    let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let Call {
        max_output_tokens,
        max_input_tokens,
        max_usd,
        ..
    } = call;
    let units = [
        (
            Unit::OutputTokens,
            max_output_tokens.map(whole),
            Call {
                max_output_tokens,
                ..none
            },
        ),
        (
            Unit::InputTokens,
            max_input_tokens.map(whole),
            Call {
                max_input_tokens,
                ..none
            },
        ),
        (Unit::Usd, max_usd.map(Usd::nanos), Call { max_usd, ..none }),
    ];
    let moves = units.into_iter().filter_map(|(unit, most, call)| {
        Some(Move {
            name: NAME.to_owned(),
            unit,
            most: most?,
            limit: Limit::Call(call),
        })
    });
    moves.collect()
}

/// The name that refusals have.
pub(super) fn blocks_as(unit: Unit) -> String {
    let cap = match unit {
        Unit::Usd => "max_usd",
        Unit::InputTokens => "max_input_tokens",
        _ => "max_output_tokens",
    };
    format!("call.{cap}")
}

impl Move {
    /// Asks for more than one call may take.
    pub(super) async fn exceed(
        &self,
        trial: &Trial,
        on_exhausted: OnExhausted,
    ) -> Result<Seen, Trouble> {
        let most = u64::try_from(self.most).unwrap_or(0);
        let output = match self.unit {
            Unit::OutputTokens => most.saturating_add(1),
            Unit::Usd => {
                let price = trial.caller().price.map_or(1, PerMillion::nanos);
                let price = u128::try_from(price).unwrap_or(1).max(1);
                let tokens = u128::from(most).saturating_mul(1_000_000) / price;
                u64::try_from(tokens).unwrap_or(u64::MAX).saturating_add(1)
            },
            _ => {
                return Ok(Seen::TooFar(
                    "not moved, it depends on what is asked".to_owned(),
                ));
            },
        };
        let beyond = trial.call(Way::Within(output), "output=1").await?;
        // Its span has come.
        trial.standing().await;
        let passed = |as_it_should: Decision, how: &str| {
            let decided = trial.saw(|decision, _| decision == as_it_should);
            (decided && beyond.status == StatusCode::OK).then(|| how.to_owned())
        };
        let held = match on_exhausted {
            OnExhausted::Block => {
                let status = beyond.status.as_u16();
                self.refused(&beyond)
                    .then(|| format!("a call that asks for more is refused with {status}"))
            },
            OnExhausted::Clamp => {
                passed(Decision::Clamped, "a call that asks for more gets no more")
            },
            OnExhausted::Shadow => passed(
                Decision::Shadow,
                "only watched: a call that asks for more passes",
            ),
        };
        Ok(held.map_or_else(
            || Seen::Failed(format!("a call that asks for more got {}", words(&beyond))),
            Seen::Held,
        ))
    }
}

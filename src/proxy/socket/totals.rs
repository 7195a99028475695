//! What the responses of a socket came to, for its own span.

use crate::{
    base::money::Usd,
    call::{span::Value, usage::Usage},
};

/// What the responses of a socket came to, for its own span.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    responses: u64,
    /// Those that were not admitted; among the responses are only those that had begun.
    pub(super) refused: u64,
    input: u64,
    output: u64,
    cost: Usd,
}

impl Totals {
    /// Adds one that has ended; `None`: it had ended before.
    pub(super) fn add(&mut self, ended: Option<&(Usage, Option<Usd>)>) {
        let Some((usage, cost)) = ended else {
            return;
        };
        self.responses += 1;
        self.input = self.input.saturating_add(usage.input.unwrap_or(0));
        self.output = self.output.saturating_add(usage.output.unwrap_or(0));
        self.cost += cost.unwrap_or_default();
    }

    /// As the span has them, under names that no report adds up.
    pub(super) fn attributes(&self) -> Vec<(&'static str, Value)> {
        let cost = self.cost.to_string().into_boxed_str();
        vec![
            ("tollgate.socket.responses", Value::Int(self.responses)),
            ("tollgate.socket.refused", Value::Int(self.refused)),
            ("tollgate.socket.input_tokens", Value::Int(self.input)),
            ("tollgate.socket.output_tokens", Value::Int(self.output)),
            ("tollgate.socket.cost_usd", Value::Text(cost)),
        ]
    }
}

//! Probes and metrics.

use http::StatusCode;
use prometheus::TextEncoder;

use super::{
    State,
    answer::{Answer, Problem, text, typed},
};

/// `/healthz`: the process is up.
pub(super) fn healthz() -> Answer {
    text("ok\n")
}

/// `/readyz`: whether calls should be sent here; if not, why, one reason a line.
pub(super) fn readyz(state: &State) -> Answer {
    let troubles = state.program.troubles();
    if troubles.is_empty() {
        return text("ok\n");
    }
    let mut answer = text(format!("{}\n", troubles.join("\n")));
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    answer
}

/// `/metrics`, in Prometheus' text format.
pub(super) fn metrics(state: &State) -> Result<Answer, Problem> {
    let families = state.registry.gather();
    let text = TextEncoder::new()
        .encode_to_string(&families)
        .map_err(|error| {
            let message = format!("the metrics cannot be written: {error}");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, message)
        })?;
    Ok(typed("text/plain; version=0.0.4; charset=utf-8", text))
}

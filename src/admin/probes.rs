//! Probes and metrics, and the end.

use http::{HeaderMap, StatusCode, header::ORIGIN};
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

/// `/quit`: has it leave. `is_here`: the question comes from this machine.
pub(super) fn quit(state: &State, is_here: bool, headers: &HeaderMap) -> Result<Answer, Problem> {
    let why_not = if !state.quit {
        "Tollgate does not end so: `listen.quit: true` allows it"
    } else if !is_here {
        "only who is on the same machine, or in the same pod, may end Tollgate"
    } else if headers.contains_key(ORIGIN) {
        "a page in a browser may not end Tollgate"
    } else {
        state.program.quit();
        let mut answer = text("leaving\n");
        *answer.status_mut() = StatusCode::ACCEPTED;
        return Ok(answer);
    };
    Err(Problem::new(StatusCode::FORBIDDEN, why_not))
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

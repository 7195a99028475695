//! Spans of calls that were in flight when the last run was killed. Each has the id that it was
//! admitted with, so that a destination that has it already can tell.

use std::{sync::Arc, time::Duration};

use crate::{
    call::{
        outcome::{Decision, End, Status},
        span::Span,
        usage::{Usage, UsageSource},
    },
    ledger::Crashed,
};

/// The operations that spans of ours are named after.
const OPERATIONS: [&str; 4] = ["chat", "embeddings", "generate_content", "text_completion"];

/// The span of a call that never came to its end.
pub(super) fn span(crashed: Crashed) -> Span {
    let Crashed { call, charged, .. } = crashed;
    let operation = call
        .operation
        .and_then(|name| OPERATIONS.into_iter().find(|known| **known == *name));
    Span {
        trace_id: call.trace_id,
        span_id: call.span_id,
        parent_span_id: call.parent_span_id,
        request_id: call.request_id,
        kind: call.kind,
        operation,
        start: call.start,
        // When it ended is not known.
        duration: Duration::ZERO,
        first_chunk: None,
        status: Status::Error,
        end: End::Crashed,
        provider: call.provider,
        request_model: call.model,
        response_model: None,
        response_id: None,
        finish_reasons: Vec::new(),
        tool_calls: Vec::new(),
        stream: false,
        labels: call.labels,
        usage: Usage::NONE,
        usage_source: UsageSource::Ceiling,
        cost: charged.usd,
        decision: Decision::Admitted,
        blocked_by: None,
        http_status: None,
        method: Box::from("POST"),
        server_address: Arc::from(""),
        path: Box::from(""),
        error_type: Some(Box::from("tollgate_killed")),
        edits: Vec::new(),
        partial: None,
        events: Vec::new(),
        attributes: Vec::new(),
    }
}

//! The call that is asked about, and what it asks for.

use std::{sync::Arc, time::Duration};

use super::counter::Unit;
use crate::{
    base::{
        clock::Timestamp,
        id::{RequestId, SpanId, TraceId},
        money::Usd,
    },
    call::{
        labels::Labels,
        outcome::{End, Kind, Status},
        usage::{Usage, UsageSource},
    },
};

/// The call that is asked about. It is journalled, so that its span can be written even if we are
/// killed before it ends.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The call's name for the client.
    pub request_id: RequestId,
    /// The span that it will become.
    pub span_id: SpanId,
    /// That span's trace.
    pub trace_id: TraceId,
    /// The span above it.
    pub parent_span_id: Option<SpanId>,
    /// When its head had arrived.
    pub start: Timestamp,
    /// The kind of its span.
    pub kind: Kind,
    /// `gen_ai.operation.name`, where there is one.
    pub operation: Option<&'a str>,
    /// The provider's name.
    pub provider: &'a str,
    /// The model asked for.
    pub model: Option<&'a str>,
    /// Who it is for.
    pub labels: &'a Labels,
}

/// The most that a call, or its next step, can cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// US dollars. `None`: it cannot cost any, so no limit in dollars stops it. Zero, in contrast,
    /// is "cannot be metered": it is stopped by a limit that is used up.
    pub usd: Option<Usd>,
    /// Input and output tokens together; `None` and zero as for `usd`.
    pub tokens: Option<u64>,
}

impl Amounts {
    /// Lowers what is said of `unit` to `amount`, if that is less. Units of no amount are left out.
    pub(super) fn lower(&mut self, unit: Unit, amount: i64) {
        match unit {
            Unit::Usd => {
                let amount = Usd::from_nanos(amount);
                self.usd = Some(self.usd.map_or(amount, |usd| usd.min(amount)));
            },
            Unit::Tokens => {
                let amount = u64::try_from(amount).unwrap_or(0);
                self.tokens = Some(self.tokens.map_or(amount, |tokens| tokens.min(amount)));
            },
            Unit::Requests | Unit::Concurrent => {},
        }
    }

    /// So much money and so many tokens.
    pub const fn of(usd: Usd, tokens: u64) -> Self {
        Self {
            usd: Some(usd),
            tokens: Some(tokens),
        }
    }
}

/// What a call did cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// US dollars; `None` is unknown: then the reservation is charged.
    pub usd: Option<Usd>,
    /// Input and output tokens together; `None` is unknown: then the reservation is charged.
    pub tokens: Option<u64>,
    /// How that is known.
    pub source: UsageSource,
}

/// How a call ended, as far as its span says it and its charge does not. It is journalled, so that
/// the span can be written even if we are killed between the call's end and that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The span that shows the charge: the call's own, or that of the call which fetched its answer.
    pub span_id: SpanId,
    /// How it went.
    pub status: Status,
    /// Who ended it.
    pub end: End,
    /// From its start to its end.
    pub duration: Duration,
    /// The HTTP status that the client got, if it got one.
    pub http_status: Option<u16>,
    /// The model that answered.
    pub model: Option<Arc<str>>,
    /// Its tokens: input, cache read and write, output, reasoning. Other parts are not journalled.
    pub usage: Usage,
    /// What the span says that it cost; `None` is unknown.
    pub cost: Option<Usd>,
    /// The prices of that, with their version: `genai-prices 0.2.3`; `None`: no price was asked.
    pub prices: Option<Box<str>>,
}

//! The call that is asked about, and what it asks for.

use std::{sync::Arc, time::Duration};

use super::{config::Count, counter::Unit, rule::saturated};
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
        workload::Workload,
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
    /// The provider's own name for it, where that may be another. Not journalled.
    pub known_as: Option<&'a str>,
    /// It may be for any model, whatever `model` says, since what names it cannot be read. Not
    /// journalled.
    pub hides_model: bool,
    /// The operation, as rules name it: `chat`, `responses`.
    pub route: &'a str,
    /// The name of the client's key, else a hash of the credential that the provider gets.
    pub key: Option<&'a str>,
    /// Where we run.
    pub workload: Option<&'a Workload>,
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
    /// Input tokens.
    pub input: Option<u64>,
    /// Output tokens.
    pub output: Option<u64>,
}

impl Amounts {
    /// Lowers what is said of `unit` to `amount`, if that is less. Units of no amount are left out.
    pub(super) fn lower(&mut self, unit: Unit, amount: i64) {
        match unit {
            Unit::Usd => {
                let amount = Usd::from_nanos(amount);
                self.usd = Some(self.usd.map_or(amount, |usd| usd.min(amount)));
            },
            Unit::Tokens => least(&mut self.tokens, amount),
            Unit::InputTokens => least(&mut self.input, amount),
            Unit::OutputTokens => least(&mut self.output, amount),
            Unit::Requests | Unit::Concurrent => {},
        }
    }

    /// What it says of `unit`; `None` for units of no amount.
    pub(super) fn of_unit(&self, unit: Unit) -> Option<i64> {
        match unit {
            Unit::Usd => self.usd.map(Usd::nanos),
            Unit::Tokens => self.tokens.map(saturated),
            Unit::InputTokens => self.input.map(saturated),
            Unit::OutputTokens => self.output.map(saturated),
            Unit::Requests | Unit::Concurrent => None,
        }
    }

    /// So much money and so many tokens, all of which may be input or output.
    pub const fn of(usd: Usd, tokens: u64) -> Self {
        Self {
            usd: Some(usd),
            ..Self::of_tokens(tokens)
        }
    }

    /// So many tokens, all of which may be input or output.
    pub const fn of_tokens(tokens: u64) -> Self {
        Self {
            usd: None,
            tokens: Some(tokens),
            input: Some(tokens),
            output: Some(tokens),
        }
    }

    /// These and `more`, of what these say something of.
    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        let sum = |one: Option<u64>, more: Option<u64>| {
            one.map(|one| one.saturating_add(more.unwrap_or_default()))
        };
        Self {
            usd: self.usd.map(|usd| usd + more.usd.unwrap_or_default()),
            tokens: sum(self.tokens, more.tokens),
            input: sum(self.input, more.input),
            output: sum(self.output, more.output),
        }
    }

    /// By how much these are above `present`, of what these say something of.
    #[must_use]
    pub fn beyond(self, present: Self) -> Self {
        let rest = |one: Option<u64>, present: Option<u64>| {
            one.map(|one| one.saturating_sub(present.unwrap_or_default()))
        };
        let usd = |usd: Usd| (usd - present.usd.unwrap_or_default()).max(Usd::ZERO);
        Self {
            usd: self.usd.map(usd),
            tokens: rest(self.tokens, present.tokens),
            input: rest(self.input, present.input),
            output: rest(self.output, present.output),
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
    /// Input tokens; `None` as above. Not journalled by itself.
    pub input: Option<u64>,
    /// Output tokens; `None` as above. Not journalled by itself.
    pub output: Option<u64>,
    /// Those among them that some rules do not count. Not journalled by itself.
    pub classes: Classes,
    /// How that is known.
    pub source: UsageSource,
}

/// Tokens that rules may leave out of their count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// Input read from the provider's cache.
    pub cache_read: u64,
    /// Input written to it.
    pub cache_write: u64,
    /// Output spent on thinking.
    pub reasoning: u64,
}

impl Charge {
    /// What a rule that counts like `count` is charged in `unit`; `None` is unknown.
    pub(super) fn of_unit(&self, unit: Unit, count: Count) -> Option<i64> {
        let Classes {
            cache_read,
            cache_write,
            reasoning,
        } = self.classes;
        let left_out = |counts: bool, tokens: u64| if counts { 0 } else { tokens };
        let input = left_out(count.cache_read, cache_read)
            .saturating_add(left_out(count.cache_write, cache_write));
        let output = left_out(count.reasoning, reasoning);
        let but = |tokens: Option<u64>, left_out: u64| {
            tokens.map(|tokens| saturated(tokens.saturating_sub(left_out)))
        };
        match unit {
            Unit::Usd => self.usd.map(Usd::nanos),
            Unit::Tokens => but(self.tokens, input.saturating_add(output)),
            Unit::InputTokens => but(self.input, input),
            Unit::OutputTokens => but(self.output, output),
            Unit::Requests | Unit::Concurrent => None,
        }
    }

    /// So much money and so many tokens in and out.
    pub const fn of(usd: Option<Usd>, input: u64, output: u64, source: UsageSource) -> Self {
        Self {
            usd,
            tokens: Some(input.saturating_add(output)),
            input: Some(input),
            output: Some(output),
            classes: Classes {
                cache_read: 0,
                cache_write: 0,
                reasoning: 0,
            },
            source,
        }
    }

    /// All that is held, since what it cost will never be known.
    pub const fn in_full(held: Amounts) -> Self {
        let Amounts {
            usd,
            tokens,
            input,
            output,
        } = held;
        Self {
            usd,
            tokens,
            input,
            output,
            ..Self::of(None, 0, 0, UsageSource::Ceiling)
        }
    }
}

fn least(tokens: &mut Option<u64>, amount: i64) {
    let amount = u64::try_from(amount).unwrap_or(0);
    *tokens = Some(tokens.map_or(amount, |tokens| tokens.min(amount)));
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

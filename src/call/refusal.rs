//! Why a call was refused, or why we could not serve it. Policy makes refusals, dialects word them
//! in the provider's own JSON, `proxy/reply.rs` gives them their status and headers.

use std::{borrow::Cow, time::Duration};

use crate::base::clock::Timestamp;

/// A refusal or a failure of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What sort it is; decides status and headers.
    pub reason: Reason,
    /// What refused, as `x-tollgate-blocked-by` has it: `budget.daily`, `rate.per-agent`,
    /// `overload`. Empty where nothing refused but something failed.
    pub by: Cow<'static, str>,
    /// One sentence or two for the person who reads the client's exception: what, where and what to
    /// do. Names the rule; amounts only if `show_amounts`.
    pub message: String,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
    /// When the budget's window ends; `None` for a window without end.
    pub resets_at: Option<Timestamp>,
    /// How the rate limit stands that refused, if it was one that clears (in `retry_after`).
    pub rate: Option<Rate>,
}

/// How a rate limit stands, for the headers in which providers tell that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What it limits, as headers name it: `requests`, `tokens`, `input-tokens`,
    /// `output-tokens` (all a minute), `concurrent`.
    pub unit: &'static str,
    /// How many there may be.
    pub limit: u64,
    /// How many more there may be now.
    pub remaining: u64,
}

/// The sorts of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A budget is used up: retrying before it resets cannot help. 429 that SDKs do not retry
    /// (or 402, 403: `budgets.status`).
    Exhausted,
    /// Calls in flight hold what is left: trying again soon may help. 429.
    Busy,
    /// A rate limit that clears by itself. 429.
    Rate,
    /// A rule says no to calls like this one. 403.
    Denied,
    /// Whoever calls shows no client key that lets them, or none that gets them the provider's. 401.
    Unauthorized,
    /// The request cannot be read or is not one we can route. 400.
    BadRequest,
    /// No route has that path. 404.
    NotFound,
    /// The request is for another host than its connection. 421.
    Misdirected,
    /// The client did not send its request in time. 408.
    TooSlow,
    /// The request's headers are over the limit. 431.
    HeadersTooLarge,
    /// The provider could not be reached or broke off before it answered. 502.
    BadGateway,
    /// Tollgate is full or is shutting down. 503.
    Overload,
    /// The journal cannot be written and `on_ledger_down` is `block`. 503.
    Ledger,
    /// The provider did not answer in time. 504.
    Timeout,
}

impl Reason {
    /// The HTTP status that goes with it, unless configuration or dialect says otherwise.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Denied => 403,
            Self::NotFound => 404,
            Self::TooSlow => 408,
            Self::Exhausted | Self::Busy | Self::Rate => 429,
            Self::Misdirected => 421,
            Self::HeadersTooLarge => 431,
            Self::BadGateway => 502,
            Self::Overload | Self::Ledger => 503,
            Self::Timeout => 504,
        }
    }

    /// Whether a rule of ours refused the call (a span with status `blocked`), rather than that it
    /// failed.
    pub const fn is_block(self) -> bool {
        matches!(
            self,
            Self::Exhausted
                | Self::Busy
                | Self::Rate
                | Self::Denied
                | Self::Unauthorized
                | Self::Overload
                | Self::Ledger
        )
    }
}

impl Refusal {
    /// A refusal with nothing but a reason, a name and a message.
    pub fn new(
        reason: Reason,
        by: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            reason,
            by: by.into(),
            message: message.into(),
            retry_after: None,
            resets_at: None,
            rate: None,
        }
    }
}

//! Which traces go to a destination: a share of all, chosen by their ids, so that every replica
//! chooses the same; and whatever somebody will look for: calls that were refused, failed, slow or
//! costly, and the first of a model or tool.

use std::{collections::HashSet, hash::BuildHasher as _, time::Duration};

use foldhash::quality::RandomState;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, Unexpected},
};

use self::controller::{Controller, Counted};
use crate::{
    base::{clock::Instant, id::TraceId, money::Usd, units::duration},
    call::{
        outcome::{Kind, Status},
        span::{SAMPLED, SAMPLING_RATE, Span, Value},
    },
};

mod controller;
#[cfg(test)]
mod tests;

/// How many values the random part of a trace id has: its last 56 bits (W3C Trace Context, level 2).
const ALL: u64 = 1 << 56;

/// The most names of models and tools that are remembered; later ones are nothing special.
const MOST_NAMES: usize = 10_000;

/// The most traces a second that can be aimed at.
const MOST_TRACES: f64 = 1e9;

/// `tracing.sampling` — which traces go to destinations elsewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// How traces are chosen.
    pub choice: Choice,
    /// Calls that take as long are kept, with their traces; none: however long they take.
    pub slow: Option<Duration>,
    /// Calls that cost as much are kept, with their traces; none: whatever they cost.
    pub costly: Option<Usd>,
    /// How long spans of a trace that was not chosen wait for one that is kept.
    pub decision_wait: Duration,
    /// Whether a trace that the client chose, or left out, is chosen or left out here.
    pub follow_client: bool,
}

/// `tracing.sampling.strategy` — how traces are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice {
    /// This share of them, from 0 to 1.
    Share(f64),
    /// So many a second, as far as the share stays between the two.
    PerSecond {
        /// Traces a second.
        target: f64,
        /// The least share.
        least: f64,
        /// The greatest share.
        most: f64,
    },
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            choice: Choice::Share(1.0),
            slow: None,
            costly: None,
            decision_wait: Self::WAIT,
            follow_client: true,
        }
    }
}

impl Sampling {
    /// How long spans wait for another of their trace, where nothing else is said.
    pub const WAIT: Duration = Duration::from_secs(30);

    /// This share of all traces, and otherwise as another says.
    pub const fn share(share: Share, other: &Self) -> Self {
        Self {
            choice: Choice::Share(share.0),
            ..*other
        }
    }

    /// Whether anything is left out.
    pub fn leaves_out(&self) -> bool {
        match self.choice {
            Choice::Share(share) => share < 1.0,
            Choice::PerSecond { .. } => true,
        }
    }
}

/// A share in the configuration: a number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = f64::deserialize(deserializer)?;
        if (0.0..=1.0).contains(&share) {
            Ok(Self(share))
        } else {
            let found = Unexpected::Float(share);
            Err(D::Error::invalid_value(found, &"a share from 0 to 1"))
        }
    }
}

/// The section as it is written.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Told {
    strategy: Option<Strategy>,
    #[serde(alias = "sampling_rate")]
    rate: Option<Share>,
    target_rate: Option<f64>,
    min_sample_rate: Option<Share>,
    max_sample_rate: Option<Share>,
    slow_ms: Option<u64>,
    costly_usd: Option<Usd>,
    #[serde(with = "duration")]
    decision_wait: Duration,
    follow_client: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Strategy {
    Probabilistic,
    Adaptive,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            strategy: None,
            rate: None,
            target_rate: None,
            min_sample_rate: None,
            max_sample_rate: None,
            slow_ms: None,
            costly_usd: None,
            decision_wait: Sampling::WAIT,
            follow_client: true,
        }
    }
}

impl Told {
    fn choice(&self) -> Result<Choice, &'static str> {
        let bounds = self.min_sample_rate.or(self.max_sample_rate);
        let is_adaptive = self.target_rate.is_some() || bounds.is_some();
        match self.strategy {
            Some(Strategy::Adaptive) if self.rate.is_some() => {
                Err("rate: that is for strategy probabilistic; adaptive aims at target_rate")
            },
            None if is_adaptive && self.rate.is_some() => {
                Err("give rate, or target_rate and its bounds, but not both")
            },
            Some(Strategy::Probabilistic) if is_adaptive => Err(
                "target_rate, min_sample_rate and max_sample_rate are for strategy adaptive; \
                 probabilistic has a rate",
            ),
            Some(Strategy::Adaptive) | None if is_adaptive || self.strategy.is_some() => {
                let target = self.target_rate.unwrap_or(1_000.0);
                if !(target > 0.0 && target <= MOST_TRACES) {
                    return Err("target_rate: expected traces a second, more than none");
                }
                let least = self.min_sample_rate.unwrap_or(Share(0.01)).0;
                let most = self.max_sample_rate.unwrap_or(Share(1.0)).0;
                if least > most {
                    return Err("min_sample_rate is more than max_sample_rate");
                }
                Ok(Choice::PerSecond {
                    target,
                    least,
                    most,
                })
            },
            _ => Ok(Choice::Share(self.rate.unwrap_or(Share(1.0)).0)),
        }
    }
}

impl<'de> Deserialize<'de> for Sampling {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let told = Told::deserialize(deserializer)?;
        Ok(Self {
            choice: told.choice().map_err(D::Error::custom)?,
            slow: told.slow_ms.map(Duration::from_millis),
            costly: told.costly_usd,
            decision_wait: told.decision_wait,
            follow_client: told.follow_client,
        })
    }
}

/// What becomes of a span's trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// It goes; of traces like it this share does.
    Goes { share: f64, by: By },
    /// It goes only if another of its spans says so.
    Waits,
}

/// What a trace goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// A span, which must be remembered for the others.
    Span,
    /// Its id, of which the same might not be said for each of its spans: shares change, and a client may
    /// leave one of them out.
    IdNow,
    /// Its id, whatever its other spans are.
    Id,
}

/// Chooses the traces of one destination.
#[derive(Debug)]
pub(super) struct Sampler {
    rules: Sampling,
    controller: Option<Controller>,
    names: HashSet<u64>,
    hasher: RandomState,
}

impl Sampler {
    /// Chooses by these rules from `now` on.
    pub(super) fn new(rules: Sampling, now: Instant) -> Self {
        Self {
            rules,
            controller: Controller::new(rules.choice, now),
            names: HashSet::new(),
            hasher: RandomState::default(),
        }
    }

    /// What becomes of the trace of this span, which `is_known` if it waits for a verdict already.
    pub(super) fn judge(&mut self, span: &Span, is_known: bool, now: Instant) -> Verdict {
        if self.keeps(span) {
            self.count(Counted::Kept, now);
            return Verdict::Goes {
                share: 1.0,
                by: By::Span,
            };
        }
        if self.theirs(span) == Some(false) {
            return Verdict::Waits;
        }
        if !is_known {
            self.count(Counted::Open, now);
        }
        let share = match (&self.controller, self.rules.choice) {
            (Some(controller), _) => controller.share(),
            (None, Choice::Share(share)) => share,
            (None, Choice::PerSecond { most, .. }) => most,
        };
        if random_part(span.trace_id) >= threshold(share) {
            let by = if self.controller.is_some() || self.rules.follow_client {
                By::IdNow
            } else {
                By::Id
            };
            Verdict::Goes { share, by }
        } else {
            Verdict::Waits
        }
    }

    /// Whether the span takes its trace along, whatever its id. The names in it are noted.
    pub(super) fn keeps(&mut self, span: &Span) -> bool {
        let is_first = self.is_first(span);
        is_first || is_wanted(&self.rules, span) || self.theirs(span) == Some(true)
    }

    /// What the client said that is followed.
    fn theirs(&self, span: &Span) -> Option<bool> {
        let follows = self.rules.follow_client;
        follows.then(|| clients_verdict(span)).flatten()
    }

    fn count(&mut self, trace: Counted, now: Instant) {
        if let Some(controller) = &mut self.controller {
            controller.count(trace, now);
        }
    }

    /// Whether it names a model or a tool that no span named before.
    fn is_first(&mut self, span: &Span) -> bool {
        let model = span.model().map(|model| (0_u8, model));
        let tools = span.tool_calls.iter().map(|tool| (1, &*tool.name));
        let reported = span.reported.as_deref();
        let ran = reported.filter(|_| span.kind == Kind::Tool);
        let ran = ran.map(|reported| (1, &*reported.name));
        let mut first = false;
        for name in model.into_iter().chain(tools).chain(ran) {
            if self.names.len() < MOST_NAMES {
                first |= self.names.insert(self.hasher.hash_one(name));
            }
        }
        first
    }
}

/// Whether somebody will look for it.
fn is_wanted(rules: &Sampling, span: &Span) -> bool {
    let costly = rules.costly.zip(span.cost);
    matches!(span.status, Status::Error | Status::Blocked)
        || span.blocked_by.is_some()
        || rules.slow.is_some_and(|slow| span.duration >= slow)
        || costly.is_some_and(|(limit, cost)| cost >= limit)
}

/// Whether the client that began the trace keeps it, if it said so.
fn clients_verdict(span: &Span) -> Option<bool> {
    let mut attributes = span.attributes.iter();
    attributes.find_map(|(name, value)| match value {
        Value::Bool(sampled) if *name == SAMPLED => Some(*sampled),
        _ => None,
    })
}

/// The last 56 bits of the id.
fn random_part(trace: TraceId) -> u64 {
    u64::try_from(u128::from_be_bytes(trace.bytes()) % u128::from(ALL)).unwrap_or_default()
}

/// Ids whose random part is less are left out, as OpenTelemetry has it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of 2^56 is positive and fits, and 53 bits are precise enough"
)]
fn threshold(share: f64) -> u64 {
    let left_out = (1.0 - share.clamp(0.0, 1.0)) * ALL as f64;
    (left_out as u64).min(ALL)
}

/// The share of traces that was kept, as OpenTelemetry writes it in `tracestate`: the least random
/// part of an id that is kept, without the zeros at its end.
pub(super) fn trace_state(share: f64) -> Option<String> {
    let threshold = threshold(share);
    let digits = format!("{threshold:014x}");
    let digits = match digits.trim_end_matches('0') {
        "" => "0",
        digits => digits,
    };
    (threshold < ALL).then(|| format!("ot=th:{digits}"))
}

/// The share of traces like this one that is kept, if its span says so.
pub(super) fn share_of(span: &Span) -> Option<f64> {
    let mut attributes = span.attributes.iter().rev();
    attributes.find_map(|(name, value)| match value {
        Value::Float(share) if *name == SAMPLING_RATE => Some(*share),
        _ => None,
    })
}

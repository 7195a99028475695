//! Every configured limit, moved on calls to a mock: is it counted, is a stream cut at it, is a call
//! beyond it refused?

use std::time::Duration;

use http::StatusCode;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    caller::{Caller, Way},
    caps,
    finding::{Finding, Part},
    trial::{Answer, Limit, Trial, Trouble},
};
use crate::{
    app,
    base::{
        clock::{Clock as _, SystemClock},
        money::Usd,
        units::show_duration,
    },
    call::outcome::{Decision, End},
    config::Config,
    policy::{
        LimitConfig, Match, OnExhausted, Per, RateLimit, RuleConfig, Unit, Window, amount_text,
    },
    pricing::Pricing,
};

/// The most calls that are made to reach one limit.
const MOST_CALLS: u64 = 1_000;
/// The most calls at once.
const MOST_AT_ONCE: u64 = 200;
/// How long calls may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is left of a budget for a stream that is to be cut, in tokens.
const REST: u64 = 300;
/// The most calls after the stream, until one is refused.
const MOST_AFTER: u32 = 20;

/// One limit: whose, in which unit, and how much.
pub(super) struct Move {
    pub(super) name: String,
    pub(super) unit: Unit,
    /// Nano-dollars, tokens or calls.
    pub(super) most: i64,
    /// Its rule, with no other unit.
    pub(super) limit: Limit,
}

/// What was seen.
pub(super) enum Seen {
    Held(String),
    Failed(String),
    /// The limit is further away than is gone.
    TooFar(String),
}

/// Moves all of them.
pub(super) fn move_all(config: &Config) -> Vec<Finding> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let priced = app::pricing(config).map_err(|error| error.to_string());
    let ready = priced.and_then(|it| Ok((it, runtime.map_err(|error| error.to_string())?)));
    let (pricing, runtime) = match ready {
        Ok(ready) => ready,
        Err(error) => return vec![Finding::failed(Part::Limits, "all", error)],
    };
    let caps = caps::caps(config.guards.call);
    let moves = budgets(config).into_iter().chain(rates(config)).chain(caps);
    let found = moves.map(|moved| {
        let begun = SystemClock.mono();
        let found = runtime.block_on(moved.make(config, &pricing));
        found.after(SystemClock.mono().duration_since(begun))
    });
    found.collect()
}

/// Every limit of every budget.
fn budgets(config: &Config) -> Vec<Move> {
    let rules = config.limits_in_force().written_out();
    rules.iter().flat_map(each_unit).collect()
}

fn each_unit(rule: &RuleConfig) -> Vec<Move> {
    let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let LimitConfig {
        usd,
        tokens,
        input_tokens,
        output_tokens,
        requests,
    } = rule.limit;
    let none = LimitConfig::default();
    let units = [
        (Unit::Usd, usd.map(Usd::nanos), LimitConfig { usd, ..none }),
        (
            Unit::Tokens,
            tokens.map(whole),
            LimitConfig { tokens, ..none },
        ),
        (
            Unit::InputTokens,
            input_tokens.map(whole),
            LimitConfig {
                input_tokens,
                ..none
            },
        ),
        (
            Unit::OutputTokens,
            output_tokens.map(whole),
            LimitConfig {
                output_tokens,
                ..none
            },
        ),
        (
            Unit::Requests,
            requests.map(whole),
            LimitConfig { requests, ..none },
        ),
    ];
    let units = units.into_iter().filter_map(|(unit, most, limit)| {
        let rule = RuleConfig {
            limit,
            ..rule.clone()
        };
        Some(Move {
            name: rule.name.as_str().to_owned(),
            unit,
            most: most?,
            limit: Limit::Budget(rule),
        })
    });
    units.collect()
}

/// Every limit of every rate.
fn rates(config: &Config) -> Vec<Move> {
    let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let each = |rate: &RateLimit| {
        let only = |unit: Unit| RateLimit {
            requests_per_minute: rate.requests_per_minute.filter(|_| unit == Unit::Requests),
            tokens_per_minute: rate.tokens_per_minute.filter(|_| unit == Unit::Tokens),
            input_tokens_per_minute: rate
                .input_tokens_per_minute
                .filter(|_| unit == Unit::InputTokens),
            output_tokens_per_minute: rate
                .output_tokens_per_minute
                .filter(|_| unit == Unit::OutputTokens),
            concurrent: rate.concurrent.filter(|_| unit == Unit::Concurrent),
            ..rate.clone()
        };
        let units = [
            (Unit::Requests, rate.requests_per_minute.map(i64::from)),
            (Unit::Tokens, rate.tokens_per_minute.map(whole)),
            (Unit::InputTokens, rate.input_tokens_per_minute.map(whole)),
            (Unit::OutputTokens, rate.output_tokens_per_minute.map(whole)),
            (Unit::Concurrent, rate.concurrent.map(whole)),
        ];
        let name = rate.name.as_str().to_owned();
        let moves = units.into_iter().filter_map(move |(unit, most)| {
            Some(Move {
                name: name.clone(),
                unit,
                most: most?,
                limit: Limit::Rate(only(unit)),
            })
        });
        moves.collect::<Vec<_>>()
    };
    config.rate_limits.iter().flat_map(each).collect()
}

impl Move {
    /// Moves it, and says what was seen.
    async fn make(self, config: &Config, pricing: &Pricing) -> Finding {
        let limit = self.said();
        let (all, each): (Match, &[Per]) = (Match::default(), &[]);
        let (matches, per) = match &self.limit {
            Limit::Budget(rule) => (&rule.matches, &*rule.per),
            Limit::Rate(rate) => (&rate.matches, &*rate.per),
            Limit::Call(_) => (&all, each),
        };
        let at = (SystemClock.wall(), self.unit == Unit::Usd);
        let caller = || Caller::counted_by((matches, per), config, pricing, at);
        let mut seen = Ok(Seen::TooFar(String::new()));
        // Once more if it failed: its window may have ended meanwhile.
        for _ in 0..2 {
            let caller = match caller() {
                Ok(caller) => caller,
                Err(why) => {
                    let help = "try it with a call that it counts";
                    let says = format!("{limit}: not moved, {why}");
                    return Finding::unsure(Part::Limits, &self.name, says, help);
                },
            };
            seen = self.tried(config, caller).await;
            if matches!(seen, Ok(Seen::Held(_) | Seen::TooFar(_))) {
                break;
            }
        }
        match seen {
            Ok(Seen::Held(how)) => Finding::ok(Part::Limits, &self.name, format!("{limit}: {how}")),
            Ok(Seen::Failed(how)) => {
                Finding::failed(Part::Limits, &self.name, format!("{limit}: {how}"))
                    .with_advice(Some("please report this, with the rule as it is written"))
            },
            Err(error) => {
                let says = format!("{limit}: could not be tried: {error}");
                let help = "it says nothing of the limit: mend what it names, and try again";
                Finding::failed(Part::Limits, &self.name, says).with_advice(Some(help))
            },
            Ok(Seen::TooFar(how)) => {
                let help = "a limit of this size is tried with the same code as any other";
                Finding::unsure(Part::Limits, &self.name, format!("{limit}: {how}"), help)
            },
        }
    }

    async fn tried(&self, config: &Config, caller: Caller) -> Result<Seen, Trouble> {
        let trial = Trial::start(config, self.limit.clone(), caller)?;
        let seen = match &self.limit {
            Limit::Budget(rule) => self.spend(&trial, rule.on_exhausted).await,
            Limit::Rate(_) => self.hurry(&trial).await,
            Limit::Call(call) => self.exceed(&trial, call.on_exhausted).await,
        };
        trial.end().await;
        seen
    }

    /// `$100.00 a day`, `600 requests a minute`.
    fn said(&self) -> String {
        let amount = amount_text(self.unit, self.most);
        match &self.limit {
            Limit::Budget(rule) => match rule.window {
                Window::Total => format!("{amount} in total"),
                Window::Rolling(length) => {
                    format!("{amount} in any {}", show_duration(length))
                },
                Window::Hour => format!("{amount} an hour"),
                calendar => format!("{amount} a {calendar}"),
            },
            Limit::Rate(_) if self.unit == Unit::Concurrent => {
                format!("{} calls at once", self.most)
            },
            Limit::Rate(_) => format!("{amount} a minute"),
            Limit::Call(_) => format!("{amount} a call"),
        }
    }

    /// The name that refusals have.
    fn blocks_as(&self) -> String {
        match &self.limit {
            Limit::Budget(_) => format!("budget.{}", self.name),
            Limit::Rate(_) => format!("rate.{}", self.name),
            Limit::Call(_) => caps::blocks_as(self.unit),
        }
    }

    /// Whether it was refused, and by this limit.
    pub(super) fn refused(&self, answer: &Answer) -> bool {
        !answer.status.is_success() && answer.blocked_by.as_deref() == Some(&*self.blocks_as())
    }

    /// Spends a budget: nearly all of it, then a stream across the limit, then calls beyond it.
    async fn spend(&self, trial: &Trial, on_exhausted: OnExhausted) -> Result<Seen, Trouble> {
        if self.unit == Unit::Requests {
            return self.count(trial, on_exhausted).await;
        }
        let first = trial.call(Way::Within(1), "input=1;output=1").await?;
        if self.refused(&first) {
            return Ok(Seen::Held(format!(
                "nothing fits, refused at once with {}",
                code(&first)
            )));
        }
        if first.status != StatusCode::OK {
            return Ok(Seen::Failed(format!(
                "the first call got {}",
                words(&first)
            )));
        }
        let Some(begun) = trial.standing().await.filter(|it| it.spent > 0) else {
            return Ok(Seen::Failed("a call was not counted".to_owned()));
        };
        if let Some(usage) = self.nearly(trial.caller(), begun.remaining) {
            trial.call(Way::Within(1), &usage).await?;
        }
        if self.unit != Unit::InputTokens {
            trial.call(Way::Streaming, "events=4000").await?;
        }
        let mut last = first;
        for _ in 0..MOST_AFTER {
            last = trial.call(Way::Within(REST), "input=64;output=64").await?;
            if last.status != StatusCode::OK {
                break;
            }
        }
        let ended = trial.standing().await.unwrap_or(begun);
        if on_exhausted == OnExhausted::Shadow {
            let watched = trial.saw(|decision, _| decision == Decision::Shadow);
            return Ok(if watched && last.status == StatusCode::OK {
                Seen::Held("counted and only watched: calls beyond it pass".to_owned())
            } else {
                Seen::Failed(format!(
                    "it should only be watched; a call beyond it got {}",
                    words(&last)
                ))
            });
        }
        let how = if trial.saw(|_, end| end == End::Cut) {
            "counted, a stream cut at it, then refused"
        } else if trial.saw(|decision, _| matches!(decision, Decision::Capped | Decision::Clamped))
        {
            "counted, output held to what was left, then refused"
        } else {
            "counted, then refused"
        };
        Ok(if !self.refused(&last) {
            Seen::Failed(format!("a call beyond it got {}", words(&last)))
        } else if ended.spent > ended.limit {
            let spent = amount_text(self.unit, ended.spent);
            Seen::Failed(format!("{spent} were spent before it held"))
        } else {
            Seen::Held(format!("{how} with {}", code(&last)))
        })
    }

    /// The usage that leaves so much of `left` that a stream can begin; none if less is left already.
    fn nearly(&self, caller: &Caller, left: i64) -> Option<String> {
        let left = u64::try_from(left).ok()?;
        let output = match self.unit {
            Unit::Usd => {
                let price = u128::try_from(caller.price?.nanos()).ok()?;
                let tokens = u128::from(left).saturating_mul(1_000_000) / price.max(1);
                u64::try_from(tokens).unwrap_or(u64::MAX / 2)
            },
            Unit::InputTokens => return Some(format!("input={left};output=1")),
            _ => left,
        };
        let output = output.checked_sub(REST + REST / 2)?;
        (output > 0).then(|| format!("input=1;output={output}"))
    }

    /// Calls until it is refused.
    async fn count(&self, trial: &Trial, on_exhausted: OnExhausted) -> Result<Seen, Trouble> {
        let most = u64::try_from(self.most).unwrap_or(0);
        if most >= MOST_CALLS {
            let first = trial.call(Way::Within(1), "input=1;output=1").await?;
            return Ok(if first.status == StatusCode::OK {
                Seen::TooFar(format!(
                    "not reached: no more than {MOST_CALLS} calls are made here"
                ))
            } else {
                Seen::Failed(format!("the first call got {}", words(&first)))
            });
        }
        // Of a rate, more come free meanwhile.
        for passed in 0..=most.saturating_mul(2).saturating_add(10) {
            let answer = trial.call(Way::Within(1), "input=1;output=1").await?;
            if self.refused(&answer) {
                let held = format!("{passed} passed, then refused with {}", code(&answer));
                return Ok(if passed < most {
                    Seen::Failed(held)
                } else {
                    Seen::Held(held)
                });
            }
            if answer.status != StatusCode::OK {
                return Ok(Seen::Failed(format!("a call got {}", words(&answer))));
            }
        }
        Ok(if on_exhausted == OnExhausted::Shadow {
            Seen::Held("counted and only watched: calls beyond it pass".to_owned())
        } else {
            Seen::Failed("calls beyond it passed".to_owned())
        })
    }

    /// Comes to a rate limit.
    async fn hurry(&self, trial: &Trial) -> Result<Seen, Trouble> {
        match self.unit {
            Unit::Requests => return self.count(trial, OnExhausted::Block).await,
            Unit::Concurrent => return self.crowd(trial).await,
            _ => {},
        }
        let usage = match self.unit {
            Unit::InputTokens => format!("input={};output=1", self.most),
            _ => format!("input=1;output={}", self.most),
        };
        let first = trial.call(Way::Within(1), &usage).await?;
        if self.refused(&first) {
            return Ok(Seen::Held(format!(
                "nothing fits, refused at once with {}",
                code(&first)
            )));
        }
        let next = trial.call(Way::Within(1), "input=1;output=1").await?;
        Ok(if self.refused(&next) {
            Seen::Held(format!("counted, then refused with {}", code(&next)))
        } else {
            Seen::Failed(format!("a call beyond it got {}", words(&next)))
        })
    }

    /// Makes as many calls at once as there may be, and one more.
    async fn crowd(&self, trial: &Trial) -> Result<Seen, Trouble> {
        let most = u64::try_from(self.most).unwrap_or(0);
        if most > MOST_AT_ONCE {
            let says =
                format!("not reached: no more than {MOST_AT_ONCE} calls at once are made here");
            return Ok(Seen::TooFar(says));
        }
        let mut calls = JoinSet::new();
        for _ in 0..=most {
            calls.spawn(trial.calling(Way::Within(1), "delay=1m")?);
        }
        // All but one wait for the mock.
        let first = timeout(PATIENCE, calls.join_next()).await;
        let first = match first {
            Ok(Some(first)) => first??,
            Ok(None) | Err(_) => return Ok(Seen::Failed("one more passed".to_owned())),
        };
        let others = usize::try_from(most).unwrap_or(usize::MAX);
        let settled = async {
            while trial.app.holdings().in_flight != others {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let settled = timeout(PATIENCE, settled).await.is_ok();
        let how = format!("{most} at once, one more refused with {}", code(&first));
        Ok(if self.refused(&first) && settled {
            Seen::Held(how)
        } else {
            Seen::Failed(format!(
                "of one call more than that the first to end got {}",
                words(&first)
            ))
        })
    }
}

/// The status of what was refused as it should be.
fn code(answer: &Answer) -> u16 {
    answer.status.as_u16()
}

/// `429 budget.daily`.
pub(super) fn words(answer: &Answer) -> String {
    let status = answer.status.as_u16();
    match &answer.blocked_by {
        Some(by) => format!("{status} {by}"),
        None => status.to_string(),
    }
}

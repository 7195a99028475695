//! May the call go ahead, and with what set aside? Decide, journal, and only then send.
//!
//! | the request | is reserved | and kept within it by |
//! |---|---|---|
//! | has an output limit | limit × choices | the provider |
//! | has none; a stream that a cut stops; no thinking unseen | a step, then the next | our cut |
//! | has none; anything else, while budgets cover the model's maximum | that | the provider |
//! | the same, when they do not | what is left, by `budgets.unbounded` | the provider |

use bytes::Bytes;

use super::{
    cap::{self, Cap},
    exchange::{Exchange, known_as},
    guard,
    reserve::{LEAST, STEP, Worth},
    turn::{self, ask_in_turn},
};
use crate::{
    base::{clock::Instant, money::Usd},
    call::{
        facts::{InputSize, Spends},
        outcome::{Decision, Kind},
        refusal::{Reason, Refusal},
        span::{OUTPUT_LIMIT, RATE_LIMITS, Value},
    },
    policy::{Amounts, Matched, Subject, Unbounded, Unmetered, Wanted},
    pricing::{Context, InputBound, Limits, Query, Rate, UnknownModel},
    provider::{Abandoned, Splice},
};

/// What is asked for where a call is only to be stopped by a limit that is used up.
const USED_UP: Amounts = Amounts::of(Usd::ZERO, 0);

/// What is asked for.
struct Ask {
    amounts: Amounts,
    /// Output tokens of all choices.
    output: Option<u64>,
    in_steps: bool,
    /// The most output that the model can make.
    most: u64,
    /// The edit that makes the provider keep to it.
    edit: Option<(Splice, Decision)>,
    /// The output limit that it sets, in tokens.
    lowered_to: Option<u64>,
    /// Only part of what the call can cost: `unbounded: allow`.
    soft: bool,
    /// Less than the call shall be let in with: it is there to be waited for.
    only_waits: bool,
    /// The cap of a single call that only watches, and would have stopped it.
    shadowed: Option<Box<str>>,
}

impl Ask {
    const fn of(amounts: Amounts) -> Self {
        Self {
            amounts,
            output: None,
            in_steps: false,
            most: 0,
            edit: None,
            lowered_to: None,
            soft: false,
            only_waits: false,
            shadowed: None,
        }
    }
}

/// Asks the guards, and then every rule that matches the call. Returns the edit that the request must
/// be sent with, if it was given an output limit. `body` is the request's, where it can be edited.
///
/// # Errors
/// A guard or a rule refuses, or the ledger cannot be written.
pub(super) async fn admit(
    exchange: &mut Exchange,
    body: Option<&Bytes>,
) -> Result<Option<Splice>, Refusal> {
    guard::ask(exchange).await?;
    let live = std::sync::Arc::clone(&exchange.live);
    let now = exchange.proxy.clock.wall();
    let mut matched = live.engine.matched(&subject(exchange), now)?;
    let spends = exchange.route.operation.spends;
    if spends == Spends::Unknown {
        unmetered(exchange, &matched)?;
    }
    let is_counted = !matched.is_empty();
    let is_capped = spends == Spends::Tokens && !live.guards.call().is_empty();
    if !is_counted && !is_capped {
        return Ok(None);
    }
    if let Some(recalling) = live.engine.recalling(&mut matched, now) {
        recalling.await?;
    }
    let limits = (spends == Spends::Tokens).then(|| live.pricing.limits(&query(exchange)));
    if let Some(limits) = &limits {
        exchange.reservation.worth = worth(exchange, &matched, limits)?;
        exchange.reservation.margin = live.cut_margin;
        exchange.reservation.cap = Cap::of(live.guards.call(), &exchange.reservation.worth);
    }
    let mut rates = Vec::new();
    let size = |matched: &mut Matched| {
        let ask = size(exchange, matched, limits.as_ref(), body)?;
        let wanted = Wanted {
            amounts: ask.amounts,
            only_waits: ask.only_waits,
        };
        Ok((wanted, ask))
    };
    let asked = ask_in_turn(exchange, &live.engine, matched, size, &mut rates).await;
    if !rates.is_empty() {
        let rates = Value::Texts(rates);
        exchange.attributes.push((RATE_LIMITS, rates));
    }
    let (hold, ask, waited) = asked?;
    exchange.waited += waited;
    let shadowed = ask.shadowed.into_iter();
    let shadowed = shadowed.chain(hold.shadowed().map(Box::from)).collect();
    note_shadows(exchange, shadowed);
    if spends == Spends::Inside {
        // What is in it asks for itself, and may be all that a rule lets be under way.
        hold.release();
        return Ok(None);
    }
    // The exchange owns it from here on, so that a client who leaves now gives it all back.
    exchange.reservation.hold = is_counted.then_some(hold);
    exchange.reservation.output = ask.output;
    exchange.reservation.in_steps = ask.in_steps;
    exchange.reservation.most = ask.most;
    exchange.reservation.soft = ask.soft;
    if let Some(hold) = &exchange.reservation.hold {
        turn::keep(hold).await?;
    }
    if ask.soft {
        exchange
            .attributes
            .push(("tollgate.bound", Value::Text("soft".into())));
    }
    Ok(ask.edit.map(|(splice, decision)| {
        exchange.decision = decision;
        exchange.edits.push("request.output_limit");
        if let Some(limit) = ask.lowered_to {
            exchange.lowered_to = Some(limit);
            exchange.attributes.push((OUTPUT_LIMIT, Value::Int(limit)));
        }
        splice
    }))
}

/// A call under way is added to, so that its input is `input` by now: sets that aside.
///
/// # Errors
/// It does not fit; the call has what it had.
pub(super) fn widen(exchange: &mut Exchange, input: InputSize) -> Result<(), Refusal> {
    let before = std::mem::replace(&mut exchange.request.input, input);
    let limits = exchange.live.pricing.limits(&query(exchange));
    let (bound, _) = read_by(exchange, &limits);
    let now = exchange.proxy.clock.wall();
    let widened = exchange.reservation.widen(bound, now);
    if widened.is_err() {
        exchange.request.input = before;
    }
    widened
}

/// A response is refused that its provider has begun by itself: it is charged all that would have been
/// set aside for it, in every budget that counts it, whatever is left there.
pub(super) fn overrun(exchange: &mut Exchange) {
    let live = std::sync::Arc::clone(&exchange.live);
    let now = exchange.proxy.clock.wall();
    // Without a label that a rule insists on nobody can say whom it counts for.
    let Ok(matched) = live.engine.matched(&subject(exchange), now) else {
        return;
    };
    if matched.is_empty() || exchange.reservation.hold.is_some() {
        return;
    }
    let limits = live.pricing.limits(&query(exchange));
    // Without a price its tokens are counted.
    exchange.reservation.worth = worth(exchange, &matched, &limits).unwrap_or_else(|_no_price| {
        let (input, output) = read_by(exchange, &limits);
        Worth {
            input,
            output,
            ..Worth::default()
        }
    });
    let amounts = whole(exchange, &limits).amounts;
    match live.engine.enter(matched, &subject(exchange), now) {
        Ok(hold) => {
            exchange.reservation.hold = Some(hold);
            exchange.reservation.overrun = Some(amounts);
        },
        Err(error) => {
            let request_id = exchange.request_id;
            tracing::warn!(%request_id, %error, "A response is in no budget that was not let in");
        },
    }
}

/// Why a call that was let in would not be now: a budget is used up, whatever is still under way.
pub(super) fn exhausted(exchange: &Exchange) -> Option<Refusal> {
    let live = exchange.proxy.live.load();
    let (engine, now) = (&live.engine, exchange.proxy.clock.wall());
    let subject = subject(exchange);
    let mut matched = engine.matched(&subject, now).ok()?;
    if !matched.has_budget() || engine.room(&mut matched, USED_UP, now).ok()?.fits {
        return None;
    }
    match engine.admit(matched, USED_UP, &subject, now) {
        Ok(hold) => {
            hold.release();
            None
        },
        Err(refused) if refused.refusal().reason == Reason::Exhausted => {
            let (refusal, crossings) = engine.refuse(*refused, &subject, now);
            exchange.proxy.crossed(&crossings);
            Some(refusal)
        },
        Err(_) => None,
    }
}

/// A socket turns out to be one that cannot be read: it passes unless budgets forbid it.
///
/// # Errors
/// They do.
pub(super) fn unreadable(exchange: &Exchange) -> Result<(), Refusal> {
    guard::unreadable(exchange)?;
    let now = exchange.proxy.clock.wall();
    let matched = exchange.live.engine.matched(&subject(exchange), now)?;
    unmetered(exchange, &matched)
}

/// Borrows no more of the call than it has to.
macro_rules! subject {
    ($exchange:ident) => {
        Subject {
            request_id: $exchange.request_id,
            span_id: $exchange.trace.span_id,
            trace_id: $exchange.trace.trace_id,
            parent_span_id: $exchange.trace.parent,
            start: $exchange.start,
            kind: $exchange.route.operation.kind,
            operation: $exchange.route.operation.gen_ai,
            provider: &$exchange.route.to.provider.name,
            model: $exchange.request.answering(),
            known_as: known_as(&$exchange.route, &$exchange.request),
            hides_model: $exchange.request.hides_model,
            route: $exchange.route.operation.name,
            key: $exchange.caller.name().or($exchange.credential.as_deref()),
            workload: Some(&$exchange.live.workload),
            labels: &$exchange.labels,
        }
    };
}

/// What rules and guards are told of the call.
pub(super) fn subject(exchange: &Exchange) -> Subject<'_> {
    subject!(exchange)
}

/// The same, and where to note that the call is sent.
pub(super) fn sending(exchange: &mut Exchange) -> (&mut Option<Instant>, Subject<'_>) {
    (&mut exchange.sent, subject!(exchange))
}

/// What cannot be metered passes, counted, unless budgets forbid it.
fn unmetered(exchange: &Exchange, matched: &Matched) -> Result<(), Refusal> {
    exchange
        .proxy
        .metrics
        .unmetered(exchange.route.operation.name);
    if matched.has_budget() && exchange.live.unmetered == Unmetered::Deny {
        let message = format!(
            "Tollgate cannot meter {} {} yet, and budgets.unmetered is deny.",
            exchange.method,
            exchange.route.target.path()
        );
        return Err(Refusal::new(Reason::Denied, "unmetered", message));
    }
    Ok(())
}

/// What the price and the limits of the call depend on.
fn query(exchange: &Exchange) -> Query<'_> {
    let request = &exchange.request;
    Query {
        provider: &exchange.route.to.provider.name,
        path: exchange.route.target.path(),
        response_model: None,
        request_model: exchange.asked_model(),
        at: exchange.start,
        context: Context {
            service_tier: request.service_tier.as_deref(),
            region: request.region.as_deref(),
            ..Context::default()
        },
    }
}

/// The prices and the input that the call cannot exceed.
fn worth(exchange: &Exchange, matched: &Matched, limits: &Limits) -> Result<Worth, Refusal> {
    let (request, pricing) = (&exchange.request, &exchange.live.pricing);
    let query = query(exchange);
    let (input, output) = read_by(exchange, limits);
    let caps = exchange.live.guards.call();
    if !matched.counts_usd() && caps.max_usd.is_none() {
        return Ok(Worth {
            input,
            output,
            ..Worth::default()
        });
    }
    let tariff = pricing.highest(&query);
    // What only watches can do without.
    let needs_price = matched.needs_price() || cap::stops(caps) && caps.max_usd.is_some();
    let stand_in = match (&tariff, pricing.unknown_model()) {
        (None, UnknownModel::Deny) if needs_price => {
            let message = match request.answering() {
                Some(model) => format!(
                    "Tollgate knows no price for the model {model} of {}, and a limit in dollars \
                     counts this call. Add it under `pricing:`, or set pricing.unknown_model.",
                    query.provider
                ),
                None => {
                    "This call names no model, so Tollgate knows no price for it, and a limit in \
                         dollars counts it. Name the model in the request, or set \
                         pricing.unknown_model."
                        .to_owned()
                },
            };
            return Err(Refusal::new(Reason::Denied, "model.unknown_price", message));
        },
        (_, UnknownModel::Ceiling) => Some(std::sync::Arc::clone(pricing.unknown_tariff())),
        _ => None,
    };
    Ok(Worth {
        tariff: tariff.or_else(|| stand_in.clone()),
        stand_in,
        input,
        output,
    })
}

/// The most tokens that the input has, and what the output that is read has in tokens.
fn read_by(exchange: &Exchange, limits: &Limits) -> (InputBound, Rate) {
    let request = &exchange.request;
    // Only what our own cut can make up for is bounded by what was learned, instead of by bytes.
    if goes_in_steps(exchange, limits) {
        let rates = exchange.rates();
        let input = InputBound::learned(request, limits, None, &rates.input);
        (input, rates.output)
    } else {
        (InputBound::of(request, limits, None), Rate::UNKNOWN)
    }
}

/// Whether nothing but our cut bounds the output, which is then set aside step by step.
fn goes_in_steps(exchange: &Exchange, limits: &Limits) -> bool {
    let request = &exchange.request;
    // What goes on without us, or is billed as if it did, is not bounded by a cut.
    let is_stopped = exchange.route.to.provider.abandoned == Abandoned::UntilThen;
    let may_be_cut = request.stream && !request.background && is_stopped;
    request.output_limit.is_none() && may_be_cut && !limits.thinks_unseen
}

/// What covers all that the call can cost, or the first step of it.
fn whole(exchange: &Exchange, limits: &Limits) -> Ask {
    let request = &exchange.request;
    let in_steps = goes_in_steps(exchange, limits);
    let each = request.output_limit.unwrap_or(limits.output);
    let most = each.saturating_mul(request.choices());
    let output = if in_steps {
        STEP.saturating_mul(request.choices())
    } else {
        most
    };
    Ask {
        output: Some(output),
        in_steps,
        most,
        ..Ask::of(exchange.reservation.worth.of(output))
    }
}

/// What the call asks for, by what is left now; `limits` are those of a call that makes tokens.
fn size(
    exchange: &Exchange,
    matched: &mut Matched,
    limits: Option<&Limits>,
    body: Option<&Bytes>,
) -> Result<Ask, Refusal> {
    let Some(limits) = limits else {
        return Ok(Ask::of(match exchange.route.operation.spends {
            // Stopped by a limit that is used up, else free to go.
            Spends::Unknown | Spends::Inside => USED_UP,
            _ => Amounts::default(),
        }));
    };
    let mut ask = tokens(exchange, matched, limits, body)?;
    let caps = exchange.live.guards.call();
    if !caps.is_empty() {
        let rates = exchange.rates();
        let input = InputBound::learned(&exchange.request, limits, None, &rates.input);
        ask.shadowed = cap::check(caps, ask.amounts, input.tokens())?;
    }
    Ok(ask)
}

/// What a call that makes tokens asks for.
fn tokens(
    exchange: &Exchange,
    matched: &mut Matched,
    limits: &Limits,
    body: Option<&Bytes>,
) -> Result<Ask, Refusal> {
    let (request, live) = (&exchange.request, &exchange.live);
    let worth = &exchange.reservation.worth;
    let now = exchange.proxy.clock.wall();
    let choices = request.choices();
    let ask = |output: u64| Ask {
        output: Some(output),
        ..Ask::of(worth.of(output))
    };
    if exchange.route.operation.kind == Kind::Embedding {
        return Ok(ask(0));
    }
    let whole = whole(exchange, limits);
    let (in_steps, most) = (whole.in_steps, whole.most);
    let room = live.engine.room(matched, whole.amounts, now)?;
    // What bounds a request without a limit is the caps, where budgets buy what these allow.
    let over = cap::over(live.guards.call(), whole.amounts, worth);
    let by_cap = over
        .as_ref()
        .is_some_and(|cap| cap.output <= worth.affordable(room.left));
    let room = cap::within(live.guards.call(), whole.amounts, room);
    let left = worth.affordable(room.left);
    // Where enough is left, nothing refuses that a lower limit would make fit.
    if room.fits || (!in_steps && left >= most) {
        return Ok(whole);
    }
    if in_steps {
        return Ok(Ask {
            in_steps,
            most,
            ..ask(left.min(whole.output.unwrap_or(most)).max(LEAST))
        });
    }
    let bounded = request.output_limit.is_some();
    let lowered = if bounded || room.may_clamp {
        Decision::Clamped
    } else {
        Decision::Capped
    };
    let may_lower = room.may_clamp || (!bounded && (by_cap || live.unbounded == Unbounded::Cap));
    let lower = |each: u64| {
        let (dialect, operation) = (exchange.route.dialect, exchange.route.operation);
        let splice = dialect.bound_output(operation, body?, each)?;
        Some(Ask {
            edit: Some((splice, lowered)),
            lowered_to: Some(each),
            ..ask(each.saturating_mul(choices))
        })
    };
    let each = left / choices;
    if may_lower
        && each >= LEAST
        && let Some(ask) = lower(each)
    {
        return Ok(ask);
    }
    if !bounded && live.unbounded == Unbounded::Allow && over.is_none() {
        return Ok(Ask {
            soft: true,
            only_waits: left < LEAST,
            ..ask(left.max(LEAST).min(most))
        });
    }
    // Not even the least is left. If calls in flight hold it, this one waits for them, and is sized
    // again.
    let may_wait = may_lower && most > LEAST.saturating_mul(choices);
    let least = may_wait.then(|| lower(LEAST)).flatten();
    Ok(least.map_or(whole, |least| Ask {
        only_waits: true,
        ..least
    }))
}

/// Rules in shadow mode stop nothing; the span says which would have.
fn note_shadows(exchange: &mut Exchange, shadowed: Vec<Box<str>>) {
    if !shadowed.is_empty() {
        exchange.decision = Decision::Shadow;
        exchange
            .attributes
            .push(("tollgate.shadow", Value::Texts(shadowed)));
    }
}

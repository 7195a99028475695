//! What a call is charged, by how it ended and what was seen of it. See the table in docs/limits.md.

use std::{sync::Arc, time::Duration};

use super::exchange::Exchange;
use crate::{
    base::money::Usd,
    call::{
        facts::{ResponseFacts, Spends},
        outcome::{Decision, End},
        usage::{Usage, UsageSource},
    },
    policy::{Amounts, Charge, Classes},
    pricing::{Context, Counted, Guess, InputBound, Limits, Query, Rates, Tariff, guess},
    provider::Abandoned,
};

/// What a call is charged, and what its span says of that.
pub(super) struct Account {
    pub(super) usage: Usage,
    pub(super) source: UsageSource,
    /// `None`: unknown.
    pub(super) cost: Option<Usd>,
    pub(super) charge: Charge,
    /// How many tokens more it can have had, where they are estimated.
    pub(super) error_bound: Option<u64>,
}

impl Account {
    const fn nothing() -> Self {
        let charge = Charge::of(Some(Usd::ZERO), 0, 0, UsageSource::Absent);
        Self {
            usage: Usage::NONE,
            source: UsageSource::Absent,
            cost: Some(Usd::ZERO),
            charge,
            error_bound: None,
        }
    }

    /// All that was set aside, since nobody will see what it cost.
    pub(super) const fn in_full(held: Amounts) -> Self {
        Self {
            source: UsageSource::Ceiling,
            cost: held.usd,
            charge: Charge::in_full(held),
            ..Self::nothing()
        }
    }

    /// It may have cost something that cannot be known.
    const fn unknown() -> Self {
        Self {
            cost: None,
            ..Self::nothing()
        }
    }
}

/// The charge for what `usage` says.
pub(super) fn charge(usd: Option<Usd>, usage: &Usage, source: UsageSource) -> Charge {
    let count = |tokens: Option<u64>| tokens.unwrap_or(0);
    Charge {
        tokens: Some(usage.total()),
        classes: Classes {
            cache_read: count(usage.cache_read),
            cache_write: count(usage.cache_write),
            reasoning: count(usage.reasoning),
        },
        ..Charge::of(usd, count(usage.input), count(usage.output), source)
    }
}

impl Exchange {
    /// What a stream that is cut now will be charged; its last events say so.
    pub(super) fn usage_of_cut(&self, facts: &ResponseFacts) -> Usage {
        self.broken_off(facts, self.live.cut_margin).likely
    }

    /// What the call is charged, now that it has ended.
    pub(super) fn account(&self, end: End, facts: &ResponseFacts) -> Account {
        let refused_or_unsent = self.sent.is_none();
        // The provider's word: our own status, where it gave no answer or we refused its answer,
        // says nothing of its bill.
        let is_theirs = self.answered && self.decision != Decision::Refused;
        let failed = is_theirs && self.http_status.is_some_and(|status| status >= 400);
        match self.route.operation.spends {
            _ if refused_or_unsent => Account::nothing(),
            Spends::Nothing | Spends::Inside => Account::nothing(),
            Spends::Unknown | Spends::Lines if failed => Account::nothing(),
            Spends::Unknown => Account::unknown(),
            Spends::Once if !self.bills_stored(facts) => Account::nothing(),
            Spends::Lines => self.close_results(end),
            Spends::Tokens | Spends::Once => self.metered(end, facts, failed),
        }
    }

    fn metered(&self, end: End, facts: &ResponseFacts, failed: bool) -> Account {
        // The usage of a stream is final at its last event; what could not be read may hide that.
        let hidden = facts.unread && self.request.stream && !facts.complete;
        let reported = facts.usage.is_reported() && !hidden;
        if reported && (end == End::Complete || failed) {
            let usage = self.with_pieces(&facts.usage);
            return self.priced(facts, &usage, UsageSource::Reported);
        }
        if failed {
            return Account::nothing();
        }
        // What was not read is not nothing: its output is as unknown as that of no answer.
        if !self.answered || (facts.unread && !reported) {
            return self.unanswered(end, facts.unread);
        }
        match end {
            _ if self.goes_on(facts) => Account::unknown(),
            End::Complete if facts.error.is_some() => {
                self.guessed(facts, &self.broken_off(facts, 0))
            },
            // It came whole, and said nothing of usage.
            End::Complete => self.guessed(facts, &self.guess(facts)),
            // What is no stream was made whole before any of it was sent.
            _ if !self.request.stream && !reported => self.unanswered(end, false),
            End::Cut | End::Client | End::Upstream | End::Crashed => {
                self.guessed(facts, &self.broken_off(facts, self.live.cut_margin))
            },
        }
    }

    /// Estimated: what is likely on the span, the most that it can be against budgets.
    fn guessed(&self, facts: &ResponseFacts, guess: &Guess) -> Account {
        let mut account = self.priced(facts, &guess.likely, UsageSource::Estimated);
        let most = self
            .priced(facts, &guess.most, UsageSource::Estimated)
            .charge;
        let (held, likely) = (self.reservation.held(), account.charge);
        account.charge.usd = self.reservation.within(most.usd, likely.usd, held.usd);
        let tokens = |most, likely, held| self.reservation.within(most, likely, held);
        account.charge.tokens = tokens(most.tokens, likely.tokens, held.tokens);
        account.charge.input = tokens(most.input, likely.input, held.input);
        account.charge.output = tokens(most.output, likely.output, held.output);
        account.error_bound = Some(guess.error_bound());
        account
    }

    /// What was seen of a stream that did not come to its end: usage as far as it was reported,
    /// what we counted where it was not, and a margin for what was on its way.
    fn broken_off(&self, facts: &ResponseFacts, margin: u64) -> Guess {
        let mut guess = self.guess(facts);
        // What was read is not all that was made.
        let made = if self.is_billed_in_full() {
            self.most_output()
        } else if self.limits().thinks_unseen {
            self.made_by_now().min(self.most_output())
        } else {
            0
        };
        guess.most.output = guess.most.output.max(Some(made));
        for usage in [&mut guess.likely, &mut guess.most] {
            let counted = usage.output.unwrap_or(0).saturating_add(margin);
            usage.update(&facts.usage);
            // Counts in the middle of a stream are stubs, or of the part that is over.
            usage.output = Some(facts.usage.output.unwrap_or(0).max(counted));
        }
        guess
    }

    /// What was read, in tokens, and what the request alone says of the rest.
    fn guess(&self, facts: &ResponseFacts) -> Guess {
        let (limits, rates) = (self.limits(), self.rates());
        let mut guess = guess(&self.request, &limits, &rates, facts.output_bytes);
        if let Some(unsaid) = self.request.unsaid {
            guess.likely.update(&unsaid.likely);
            guess.most.update(&unsaid.most);
        }
        guess
    }

    /// What is known of the tokens of the model asked for.
    pub(super) fn rates(&self) -> Rates {
        let provider = &self.route.to.provider.name;
        let model = self.request.answering();
        model.map_or_else(Rates::default, |model| {
            self.proxy.estimator.rates(provider, model)
        })
    }

    /// Learns from what the provider reported how many tokens its texts have.
    pub(super) fn learn(&self, end: End, account: &Account, facts: &ResponseFacts) {
        let (request, usage) = (&self.request, &facts.usage);
        let all_seen = !facts.unread && self.partial.is_none() && facts.error.is_none();
        let reported = account.source == UsageSource::Reported && end == End::Complete && all_seen;
        let Some(model) = request.answering().filter(|_| reported) else {
            return;
        };
        if self.route.operation.spends != Spends::Tokens {
            return;
        }
        let no_tools = facts.server_tools.is_empty();
        let input = (no_tools && request.is_text_alone()).then_some(usage.input);
        // Thoughts are counted and, if at all, seen in part.
        let thought = match usage.reasoning {
            Some(reasoning) => reasoning > 0,
            None => self.limits().thinks_unseen,
        };
        let media = [usage.output_audio, usage.output_image, usage.output_video];
        let text_alone = no_tools && media.iter().all(|tokens| tokens.unwrap_or(0) == 0);
        let output = (!thought && text_alone).then_some(usage.output);
        let counted = Counted {
            input: input
                .flatten()
                .map(|tokens| (request.input.text_bytes, tokens)),
            output: output.flatten().map(|tokens| (facts.output_bytes, tokens)),
        };
        let provider = &self.route.to.provider.name;
        self.proxy.estimator.learn(provider, model, counted);
    }

    /// The request was sent, and no answer came, or not the whole of it, or none that we can read:
    /// its input, and what the model can have made in that time.
    fn unanswered(&self, end: End, unread: bool) -> Account {
        // Steps are kept by a cut, and what cannot be read is not cut: it may have passed them.
        let unkept = unread && self.reservation.is_in_steps();
        let made = self.made_by_now();
        let (input, most) = match self.reservation.most_output() {
            Some(_) if unkept => (self.reservation.input_tokens(), self.bounds().1),
            Some(most) => (self.reservation.input_tokens(), most),
            // No budget asked for a bound.
            None => self.bounds(),
        };
        // Some is made whether or not anyone waits.
        let goes_on = end != End::Complete && self.is_billed_in_full();
        let made = if self.request.background || goes_on {
            most
        } else {
            made.min(most)
        };
        let usage = Usage::text(input, made);
        let held = self.reservation.held();
        let facts = ResponseFacts::default();
        let mut account = self.priced(&facts, &usage, UsageSource::Ceiling);
        if unkept {
            return account;
        }
        if let (Some(usd), Some(held)) = (&mut account.charge.usd, held.usd) {
            *usd = (*usd).min(held);
            account.cost = Some(*usd);
        }
        let charge = &mut account.charge;
        for (tokens, held) in [
            (&mut charge.tokens, held.tokens),
            (&mut charge.input, held.input),
            (&mut charge.output, held.output),
        ] {
            if let (Some(tokens), Some(held)) = (tokens, held) {
                *tokens = (*tokens).min(held);
            }
        }
        account
    }

    /// Whether the provider goes on, and bills all of it, although nobody reads any more.
    fn is_billed_in_full(&self) -> bool {
        self.route.to.provider.abandoned == Abandoned::InFull
    }

    /// The most output that the model can have made since the request was sent.
    fn made_by_now(&self) -> u64 {
        let time = self.sent.map_or(Duration::ZERO, |sent| {
            self.proxy.clock.mono().saturating_duration_since(sent)
        });
        let speed = u64::from(self.route.to.provider.max_tokens_per_second);
        u64::try_from(time.as_micros())
            .unwrap_or(u64::MAX)
            .saturating_mul(speed)
            .div_ceil(1_000_000)
    }

    /// The most output that it was let make.
    fn most_output(&self) -> u64 {
        let most = self.reservation.most_output();
        most.unwrap_or_else(|| self.bounds().1)
    }

    fn limits(&self) -> Limits {
        let nothing = ResponseFacts::default();
        self.live.pricing.limits(&self.query(&nothing))
    }

    /// The most input and output tokens that the request can have.
    fn bounds(&self) -> (u64, u64) {
        let limits = self.limits();
        let input = InputBound::of(&self.request, &limits, None).tokens();
        let each = self.request.output_limit.unwrap_or(limits.output);
        (input, each.saturating_mul(self.request.choices()))
    }

    fn priced(&self, facts: &ResponseFacts, usage: &Usage, source: UsageSource) -> Account {
        let rounds = match source {
            UsageSource::Reported => &*facts.rounds,
            _ => &[],
        };
        let cost = self.live.pricing.cost(&self.query(facts), usage, rounds);
        // Without a price budgets are charged what stands for it, or the reservation.
        let usd = cost.or_else(|| self.reservation.stand_in()?.bill(usage).ok());
        Account {
            usage: *usage,
            source,
            cost,
            charge: charge(usd, usage, source),
            error_bound: None,
        }
    }

    pub(super) fn tariff(&self, facts: &ResponseFacts) -> Option<Arc<Tariff>> {
        self.live.pricing.tariff(&self.query(facts))
    }

    fn query<'a>(&'a self, facts: &'a ResponseFacts) -> Query<'a> {
        Query {
            provider: &self.route.to.provider.name,
            path: self.route.target.path(),
            response_model: facts.model.as_deref(),
            request_model: self.asked_model(),
            at: self.start,
            context: Context {
                service_tier: facts.service_tier.as_deref(),
                speed: facts.speed.as_deref(),
                region: facts.region.as_deref(),
                ..Context::default()
            },
        }
    }

    /// Whether this read of a stored response is the one that is billed.
    fn bills_stored(&self, facts: &ResponseFacts) -> bool {
        let id = facts.id.as_deref().or(self.request.response_id.as_deref());
        let done = facts.usage.is_reported() && !facts.pending;
        done && id.is_some_and(|id| self.proxy.later.bill_once(&self.route.to.provider.name, id))
    }

    /// Whether the work goes on elsewhere: the answer will be fetched by its id.
    pub(super) fn goes_on(&self, facts: &ResponseFacts) -> bool {
        let accepted = self.http_status.is_some_and(|status| status < 400);
        self.request.background && facts.pending && accepted && facts.id.is_some()
    }
}

//! The end of a call: what it is charged, and the span that it becomes. See the table in the
//! README of what each ending charges.

use std::{sync::Arc, time::Duration};

use super::{exchange::Exchange, later::Later, observe::Observer, reserve};
use crate::{
    base::money::Usd,
    call::{
        facts::{ResponseFacts, Spends},
        outcome::{Decision, End, Status},
        refusal::Reason,
        span::{BUDGET_REMAINING, Event, Span, Value},
        usage::{Usage, UsageSource},
    },
    policy::{Charge, Ending, Hold},
    pricing::{Context, InputBound, Query, Tariff, likely_tokens, likely_usage},
};

/// What a call is charged, and what its span says of that.
struct Account {
    usage: Usage,
    source: UsageSource,
    /// `None`: unknown.
    cost: Option<Usd>,
    charge: Charge,
}

impl Account {
    const fn nothing() -> Self {
        let charge = Charge {
            usd: Some(Usd::ZERO),
            tokens: Some(0),
            source: UsageSource::Absent,
        };
        Self {
            usage: Usage::NONE,
            source: UsageSource::Absent,
            cost: Some(Usd::ZERO),
            charge,
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

impl Exchange {
    /// Ends the call: settles what it holds, and offers its span. Does nothing the second time.
    pub(super) fn finish(&mut self, end: End, mut facts: ResponseFacts) {
        if !self.first_end() {
            return;
        }
        self.note_shyness(&facts);
        let account = self.account(end, &facts);
        let ending = Ending {
            span_id: self.trace.span_id,
            status: self.status(end, &facts),
            end,
            duration: self.elapsed(),
            http_status: self.http_status,
            model: facts.model.take().map(Arc::from),
            usage: account.usage,
            cost: account.cost,
        };
        self.settle(&account.charge, &ending, &facts);
        let span = self.span(ending, account.source, &mut facts);
        self.proxy.metrics.record(&span);
        self.proxy.pipeline.offer(span);
    }

    /// Ends the call with what was observed of its response.
    pub(super) fn finish_with(&mut self, end: End, observer: &mut Observer) {
        // Clients may leave, and providers break off, once the last event was sent.
        let end = match end {
            End::Client | End::Upstream if observer.facts.complete => End::Complete,
            end => end,
        };
        self.partial = self.partial.or(observer.partial);
        if observer.left_usage {
            self.edits.push("response.usage_event");
        }
        self.finish(end, std::mem::take(&mut observer.facts));
    }

    /// What a stream that is cut now will be charged; its last events say so.
    pub(super) fn usage_of_cut(&self, facts: &ResponseFacts) -> Usage {
        self.broken_off(facts, self.live.cut_margin)
    }

    /// A provider that refuses to be asked for usage is not asked again until the next start.
    fn note_shyness(&self, facts: &ResponseFacts) {
        let message = facts
            .error
            .as_ref()
            .and_then(|error| error.message.as_deref());
        let names_it =
            |message: &str| message.contains("stream_options") || message.contains("include_usage");
        let provider = &self.route.to.provider.name;
        if self.may_be_shy
            && message.is_some_and(names_it)
            && self.proxy.shy.insert(Arc::clone(provider))
        {
            tracing::warn!(
                provider = &**provider,
                "The provider refuses stream_options.include_usage; it is not asked again, and the \
                 usage of its streams is estimated"
            );
        }
    }

    fn account(&self, end: End, facts: &ResponseFacts) -> Account {
        let refused_or_unsent = self.sent.is_none();
        // The provider's word: our own status, where it gave no answer, says nothing of its bill.
        let failed = self.answered && self.http_status.is_some_and(|status| status >= 400);
        match self.route.operation.spends {
            _ if refused_or_unsent => Account::nothing(),
            Spends::Nothing => Account::nothing(),
            Spends::Unknown if failed => Account::nothing(),
            Spends::Unknown => Account::unknown(),
            Spends::Once if !self.bills_stored(facts) => Account::nothing(),
            Spends::Tokens | Spends::Once => self.metered(end, facts, failed),
        }
    }

    fn metered(&self, end: End, facts: &ResponseFacts, failed: bool) -> Account {
        // The usage of a stream is final at its last event; what could not be read may hide that.
        let hidden = facts.unread && self.request.stream && !facts.complete;
        let reported = facts.usage.is_reported() && !hidden;
        if reported && (end == End::Complete || failed) {
            return self.priced(facts, &facts.usage, UsageSource::Reported);
        }
        if failed {
            return Account::nothing();
        }
        // What was not read is not nothing: its output is as unknown as that of no answer.
        if !self.answered || (facts.unread && !reported) {
            return self.unanswered(facts.unread);
        }
        match end {
            _ if self.goes_on(facts) => Account::unknown(),
            End::Complete if facts.error.is_some() => {
                self.priced(facts, &self.broken_off(facts, 0), UsageSource::Estimated)
            },
            End::Complete => self.unreported(facts),
            // What is no stream was made whole before any of it was sent.
            _ if !self.request.stream && !reported => self.unanswered(false),
            End::Cut | End::Client | End::Upstream | End::Crashed => {
                let usage = self.broken_off(facts, self.live.cut_margin);
                self.priced(facts, &usage, UsageSource::Estimated)
            },
        }
    }

    /// The answer came whole, and said nothing of usage: the estimate on the span, its upper bound
    /// against budgets.
    fn unreported(&self, facts: &ResponseFacts) -> Account {
        let usage = likely_usage(&self.request, None, facts.output_bytes.bytes);
        let mut account = self.priced(facts, &usage, UsageSource::Estimated);
        let input = self
            .reservation
            .input_tokens()
            .max(usage.input.unwrap_or(0));
        let most = Usage::text(input, facts.output_bytes.bytes);
        account.charge = self.priced(facts, &most, UsageSource::Estimated).charge;
        account
    }

    /// What was seen of a stream that did not come to its end: usage as far as it was reported,
    /// what we counted where it was not.
    fn broken_off(&self, facts: &ResponseFacts, margin: u64) -> Usage {
        let counted = likely_tokens(facts.output_bytes.bytes).saturating_add(margin);
        let mut usage = likely_usage(&self.request, None, facts.output_bytes.bytes);
        usage.update(&facts.usage);
        // Counts in the middle of a stream are stubs, or of the part that is over.
        usage.output = Some(facts.usage.output.unwrap_or(0).max(counted));
        usage
    }

    /// The request was sent, and no answer came, or not the whole of it, or none that we can read:
    /// its input, and what the model can have made in that time.
    fn unanswered(&self, unread: bool) -> Account {
        // Steps are kept by a cut, and what cannot be read is not cut: it may have passed them.
        let unkept = unread && self.reservation.is_in_steps();
        let time = self.sent.map_or(Duration::ZERO, |sent| {
            self.proxy.clock.mono().saturating_duration_since(sent)
        });
        let speed = u64::from(self.route.to.provider.max_tokens_per_second);
        let made = u64::try_from(time.as_micros())
            .unwrap_or(u64::MAX)
            .saturating_mul(speed)
            .div_ceil(1_000_000);
        let (input, most) = match self.reservation.most_output() {
            Some(_) if unkept => (self.reservation.input_tokens(), self.bounds().1),
            Some(most) => (self.reservation.input_tokens(), most),
            // No budget asked for a bound.
            None => self.bounds(),
        };
        // What was to be made later is made whether or not anyone waits.
        let made = if self.request.background {
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
        if let (Some(tokens), Some(held)) = (&mut account.charge.tokens, held.tokens) {
            *tokens = (*tokens).min(held);
        }
        account
    }

    /// The most input and output tokens that the request can have.
    fn bounds(&self) -> (u64, u64) {
        let limits = self
            .live
            .pricing
            .limits(&self.query(&ResponseFacts::default()));
        let input = InputBound::of(&self.request, &limits, None).tokens();
        let each = self.request.output_limit.unwrap_or(limits.output);
        (input, each.saturating_mul(self.request.choices()))
    }

    fn priced(&self, facts: &ResponseFacts, usage: &Usage, source: UsageSource) -> Account {
        let tariff = self.tariff(facts);
        let cost = tariff.and_then(|tariff| tariff.bill(usage).ok());
        // Without a price budgets are charged what stands for it, or the reservation.
        let usd = cost.or_else(|| self.reservation.stand_in()?.bill(usage).ok());
        Account {
            usage: *usage,
            source,
            cost,
            charge: Charge {
                usd,
                tokens: Some(usage.total()),
                source,
            },
        }
    }

    fn tariff(&self, facts: &ResponseFacts) -> Option<Arc<Tariff>> {
        self.live.pricing.tariff(&self.query(facts))
    }

    fn query<'a>(&'a self, facts: &'a ResponseFacts) -> Query<'a> {
        Query {
            provider: &self.route.to.provider.name,
            path: self.route.target.path(),
            response_model: facts.model.as_deref(),
            request_model: self.request.model.as_deref(),
            at: self.start,
            context: Context {
                service_tier: facts.service_tier.as_deref(),
                speed: facts.speed.as_deref(),
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
    fn goes_on(&self, facts: &ResponseFacts) -> bool {
        let accepted = self.http_status.is_some_and(|status| status < 400);
        self.request.background && facts.pending && accepted && facts.id.is_some()
    }

    fn settle(&mut self, charge: &Charge, ending: &Ending, facts: &ResponseFacts) {
        self.note_remaining(charge);
        let crossings = match (self.reservation.take(), self.earlier(facts)) {
            (Some(hold), None) if self.goes_on(facts) => {
                let provider = &self.route.to.provider.name;
                self.proxy.later.keep(provider, facts.id.as_deref(), hold);
                Vec::new()
            },
            (own, Some(mut earlier)) => {
                if let Some(own) = own {
                    own.release();
                }
                earlier.ends(ending.clone());
                earlier.settle(*charge)
            },
            (Some(mut own), None) if self.sent.is_none() => {
                own.ends(ending.clone());
                own.release();
                Vec::new()
            },
            (Some(mut own), None) => {
                own.ends(ending.clone());
                own.settle(*charge)
            },
            (None, None) => Vec::new(),
        };
        for crossing in &crossings {
            reserve::log(crossing);
            let name = format!("budget.{}", crossing.level.name());
            self.events.push(Event {
                name: name.into(),
                time: self.proxy.clock.wall(),
            });
        }
    }

    /// What was kept for the response whose end this call shows: that is settled then, and not what
    /// the call itself holds. An answer that is billed now is not billed again when it is fetched.
    fn earlier(&self, facts: &ResponseFacts) -> Option<Hold> {
        let (later, provider) = (&self.proxy.later, &self.route.to.provider.name);
        let id = facts.id.as_deref()?;
        match self.route.operation.spends {
            Spends::Once if !facts.pending => later.take(provider, id),
            Spends::Tokens if !self.goes_on(facts) && Later::may_be_fetched(id) => {
                later.bill_once(provider, id);
                None
            },
            _ => None,
        }
    }

    fn note_remaining(&mut self, charge: &Charge) {
        let now = self.proxy.clock.wall();
        if let Some(remaining) = self.reservation.remaining_after(charge.usd, now) {
            let text = Value::Text(remaining.to_string().into_boxed_str());
            self.attributes.push((BUDGET_REMAINING, text));
        }
    }

    fn span(
        &mut self,
        ending: Ending,
        usage_source: UsageSource,
        facts: &mut ResponseFacts,
    ) -> Span {
        let operation = self.route.operation;
        let blocked_by = self
            .refusal
            .as_ref()
            .map(|refusal| &refusal.by)
            .filter(|by| !by.is_empty());
        let mut attributes = std::mem::take(&mut self.attributes);
        let mut put = |name, value: Option<Value>| {
            attributes.extend(value.map(|value| (name, value)));
        };
        put(
            "gen_ai.request.max_tokens",
            self.request.output_limit.map(Value::Int),
        );
        put(
            "gen_ai.request.temperature",
            self.request.temperature.map(Value::Float),
        );
        put("gen_ai.request.top_p", self.request.top_p.map(Value::Float));
        put(
            "gen_ai.response.stop_detail",
            facts.stop_detail.take().map(Value::Text),
        );
        put(
            "tollgate.service_tier",
            facts.service_tier.take().map(Value::Text),
        );
        put(
            "tollgate.cost.reported_usd",
            facts.reported_cost.take().map(Value::Text),
        );
        let server_tools = std::mem::take(&mut facts.server_tools);
        put(
            "tollgate.server_tools",
            (!server_tools.is_empty()).then_some(Value::Texts(server_tools)),
        );
        Span {
            trace_id: self.trace.trace_id,
            span_id: ending.span_id,
            parent_span_id: self.trace.parent,
            request_id: self.request_id,
            kind: operation.kind,
            operation: operation.gen_ai,
            start: self.start,
            duration: ending.duration,
            first_chunk: self.first_chunk,
            status: ending.status,
            end: ending.end,
            provider: Arc::clone(&self.route.to.provider.name),
            request_model: self.request.model.take().map(Arc::from),
            response_model: ending.model,
            response_id: facts.id.take(),
            finish_reasons: std::mem::take(&mut facts.finish_reasons),
            tool_calls: std::mem::take(&mut facts.tool_calls),
            stream: self.request.stream,
            labels: std::mem::take(&mut self.labels),
            usage: ending.usage,
            usage_source,
            cost: ending.cost,
            decision: self.decision,
            blocked_by: blocked_by.map(|by| Box::from(&**by)),
            http_status: ending.http_status,
            method: Box::from(self.method.as_str()),
            server_address: Arc::clone(&self.route.to.server_address),
            path: Box::from(self.route.target.path()),
            error_type: self.error_type(ending.status, facts),
            edits: std::mem::take(&mut self.edits),
            partial: self.partial,
            events: std::mem::take(&mut self.events),
            attributes,
        }
    }

    fn status(&self, end: End, facts: &ResponseFacts) -> Status {
        let failed = self.http_status.is_some_and(|status| status >= 400);
        match end {
            End::Client => Status::Cancelled,
            _ if matches!(self.decision, Decision::Refused | Decision::Cut) => Status::Blocked,
            // A cut that no limit made: we leave.
            End::Upstream | End::Crashed | End::Cut => Status::Error,
            _ if failed || facts.error.is_some() || self.error_type.is_some() => Status::Error,
            End::Complete => Status::Ok,
        }
    }

    /// `error.type`: the provider's type or code, our own word, or the status.
    fn error_type(&self, status: Status, facts: &mut ResponseFacts) -> Option<Box<str>> {
        match status {
            Status::Error => {},
            Status::Cancelled => return self.error_type.map(Box::from),
            Status::Ok | Status::Blocked => return None,
        }
        let theirs = facts
            .error
            .take()
            .and_then(|error| error.kind.or(error.code));
        let ours = || match self.refusal.as_ref().map(|refusal| refusal.reason) {
            Some(Reason::Timeout) => Some("timeout"),
            Some(Reason::BadGateway) => Some("upstream_unreachable"),
            Some(Reason::TooSlow) => Some("request_timeout"),
            Some(_) => Some("_OTHER"),
            None => self.error_type,
        };
        theirs
            .or_else(|| ours().map(Box::from))
            .or_else(|| {
                self.http_status
                    .map(|status| status.to_string().into_boxed_str())
            })
            .or_else(|| Some(Box::from("_OTHER")))
    }
}

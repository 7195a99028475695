//! The end of a call: it is settled, and becomes a span.

use std::sync::Arc;

use super::{
    account::Account, conversation, exchange::Exchange, guard, later::Later, observe::Observer,
    said::Said,
};
use crate::{
    base::money::Usd,
    call::{
        facts::{ResponseFacts, Round, Spends},
        outcome::{Decision, End, Status},
        refusal::Reason,
        span::{
            BUDGET_CHARGED, BUDGET_REMAINING, DEPLOYMENT, Event, PRICING_VERSION, ROUNDS, SAMPLED,
            Span, Value,
        },
        usage::{Usage, UsageSource},
    },
    policy::{Charge, Ending, Hold},
};

impl Exchange {
    /// Ends the call: settles what it holds, and offers its span. Does nothing the second time.
    pub(super) fn finish(&mut self, end: End, facts: ResponseFacts) {
        self.finish_and_tell(end, facts);
    }

    /// The same; returns what it used and cost, the first time.
    pub(super) fn finish_and_tell(
        &mut self,
        end: End,
        mut facts: ResponseFacts,
    ) -> Option<(Usage, Option<Usd>)> {
        if !self.first_end() {
            return None;
        }
        guard::tell(self, end, &facts);
        conversation::keep(self, &mut facts);
        self.note_shyness(&facts);
        let mut account = self.account(end, &facts);
        let is_unkept = self.is_unkept(&facts);
        if is_unkept {
            account = Account::in_full(self.reservation.held());
        } else if let Some(all) = self.reservation.overrun
            && account.source != UsageSource::Reported
        {
            account = Account::in_full(all);
        }
        self.learn(end, &account, &facts);
        self.note_estimate(&account);
        self.note_results(&mut facts);
        let searches = account.usage.web_searches.is_some();
        if (searches || !facts.server_tools.is_empty()) && account.cost.is_some() {
            let tariff = self.tariff(&facts);
            self.note_fees(tariff.as_deref(), &account.usage, &facts);
        }
        let prices = self.note_pricing(&account, &facts);
        let ending = Ending {
            span_id: self.trace.span_id,
            status: self.status(end, &facts),
            end,
            duration: self.elapsed(),
            http_status: self.http_status,
            model: facts.model.take().map(Arc::from),
            usage: account.usage,
            cost: account.cost,
            prices,
        };
        self.end_attempt(ending.status, ending.duration);
        self.settle(&account.charge, &ending, &facts, is_unkept);
        self.tell_if_refused();
        let span = self.span(ending, account.source, &mut facts);
        let told = (span.usage, span.cost);
        self.proxy.metrics.record(&span);
        let said = self.said.take().map(Said::captured);
        self.proxy.pipeline.offer_with(span, said);
        Some(told)
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
        if let (Some(said), Some(kept)) = (&mut self.said, observer.kept.take()) {
            said.answered(*kept);
        }
        self.finish(end, std::mem::take(&mut observer.facts));
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

    fn settle(&mut self, charge: &Charge, ending: &Ending, facts: &ResponseFacts, is_unkept: bool) {
        self.note_remaining(charge);
        let earlier = self.earlier(charge, facts, is_unkept);
        let goes_on = self.goes_on(facts) && !is_unkept;
        let awaited = facts.id.as_deref().filter(|_| goes_on);
        let crossings = match (self.reservation.take(), earlier, awaited) {
            (Some(hold), None, Some(id)) => {
                self.proxy
                    .later
                    .keep(&self.route.to.provider.name, id, hold)
            },
            (own, Some(mut earlier), _) => {
                if let Some(own) = own {
                    own.release();
                }
                earlier.ends(ending.clone());
                earlier.settle(*charge)
            },
            (Some(mut own), None, None) if self.sent.is_none() => {
                own.ends(ending.clone());
                own.release();
                Vec::new()
            },
            (Some(mut own), None, None) => {
                own.ends(ending.clone());
                own.settle(*charge)
            },
            (None, None, _) => Vec::new(),
        };
        self.proxy.crossed(&crossings);
        for crossing in &crossings {
            let name = format!("budget.{}", crossing.level.name());
            self.events.push(Event {
                name: name.into(),
                time: self.proxy.clock.wall(),
            });
        }
    }

    /// Whether what the call holds is charged now, though its answer is made later: there is no room
    /// to keep it. To be asked once, as that is counted.
    fn is_unkept(&self, facts: &ResponseFacts) -> bool {
        let is_held = self.reservation.hold.is_some() && self.sent.is_some();
        is_held && self.goes_on(facts) && !self.proxy.later.has_room()
    }

    /// What was kept for the response whose end this call shows: that is settled then, and not what
    /// the call itself holds. An answer that is billed now is not billed again when it is fetched.
    fn earlier(&self, charge: &Charge, facts: &ResponseFacts, is_unkept: bool) -> Option<Hold> {
        let (later, provider) = (&self.proxy.later, &self.route.to.provider.name);
        let id = facts.id.as_deref()?;
        match self.route.operation.spends {
            Spends::Once if ends_it(charge, facts) => later.take(provider, id),
            Spends::Tokens if (!self.goes_on(facts) || is_unkept) && Later::may_be_fetched(id) => {
                later.bill_once(provider, id);
                None
            },
            _ => None,
        }
    }

    /// How far an estimate can be off, and what budgets are charged because of that.
    fn note_estimate(&mut self, account: &Account) {
        if let Some(tokens) = account.error_bound {
            let name = "tollgate.usage.error_bound";
            self.attributes.push((name, Value::Int(tokens)));
        }
        let in_dollars = self.reservation.held().usd.is_some();
        let charged = account.charge.usd.filter(|_| in_dollars);
        if let (Some(cost), Some(charged)) = (account.cost, charged)
            && cost != charged
        {
            let text = Value::Text(charged.to_string().into_boxed_str());
            self.attributes.push((BUDGET_CHARGED, text));
        }
    }

    /// What the price depended on besides models and counts, so that it can be worked out again.
    /// Returns the version of the prices.
    fn note_pricing(&mut self, account: &Account, facts: &ResponseFacts) -> Option<Box<str>> {
        let request = &self.request;
        let deployment = request.deployment.clone();
        let deployment = deployment.filter(|it| request.model.as_ref() != Some(it));
        let mut put = |name, value: Option<Value>| {
            self.attributes.extend(value.map(|value| (name, value)));
        };
        put(DEPLOYMENT, deployment.map(Value::Text));
        put("tollgate.speed", facts.speed.clone().map(Value::Text));
        put("tollgate.region", facts.region.clone().map(Value::Text));
        let rounds = facts.rounds.iter().map(Round::to_string);
        let rounds: Vec<Box<str>> = rounds.map(String::into_boxed_str).collect();
        put(ROUNDS, (!rounds.is_empty()).then_some(Value::Texts(rounds)));
        let is_billed = account.usage.is_reported() && account.cost.is_some();
        let tariff = is_billed.then(|| self.tariff(facts)).flatten();
        let by: Option<Box<str>> = tariff.map(|tariff| Box::from(tariff.version()));
        let said = by.clone().map(|by| (PRICING_VERSION, Value::Text(by)));
        self.attributes.extend(said);
        by
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
        put(SAMPLED, self.trace.sampled.map(Value::Bool));
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
            reported: None,
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

/// Whether a read of a stored response settles what is held for it. One that shows usage which
/// another read was billed does not, if it comes in first: the bill belongs to what is held.
fn ends_it(charge: &Charge, facts: &ResponseFacts) -> bool {
    let billed_elsewhere = facts.usage.is_reported() && charge.source == UsageSource::Absent;
    !facts.pending && !billed_elsewhere
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_reads_that_cross_the_one_that_bills_settles_what_is_held() {
        let done = ResponseFacts {
            usage: Usage::text(30, 40),
            ..ResponseFacts::default()
        };
        let usd = Some(Usd::from_nanos(475_000));
        let bill = Charge::of(usd, 30, 40, UsageSource::Reported);
        let again = Charge::of(Some(Usd::ZERO), 0, 0, UsageSource::Absent);
        assert!(ends_it(&bill, &done));
        assert!(!ends_it(&again, &done));
        // Cancelled, failed: nothing is billed, and nobody else will.
        assert!(ends_it(&again, &ResponseFacts::default()));
        let pending = ResponseFacts {
            pending: true,
            ..ResponseFacts::default()
        };
        assert!(!ends_it(&again, &pending));
    }
}

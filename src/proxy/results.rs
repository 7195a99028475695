//! Results of batches, read as a file of answers, one a line: each is priced at the batch rate, and
//! billed once however often the file is read.

use std::sync::Arc;

use http::StatusCode;

use super::{
    account::{Account, charge},
    exchange::Exchange,
    later::{File, Later},
};
use crate::{
    base::money::Usd,
    call::{
        facts::ResponseFacts,
        outcome::End,
        span::Value,
        usage::{Usage, UsageSource},
    },
    pricing::{Context, Query, UnknownModel},
};

/// What was read of a file of results.
#[derive(Debug, Default)]
pub(super) struct Results {
    /// The file, where its lines can be told apart from those that were billed before.
    file: Option<File>,
    /// Lines that were read.
    lines: u64,
    /// Answers that say what they used, billed with this call or before.
    metered: u64,
    /// Answers that do not: whoever asked for them left that out.
    unmetered: u64,
    /// Answers that are billed with this call.
    billed: u64,
    /// Those of them that have no price.
    unpriced: u64,
    usage: Usage,
    /// What those cost that have a price.
    cost: Usd,
    /// What budgets are charged.
    charge: Usd,
    /// The model of all of them; `None` once they differ.
    model: Option<Box<str>>,
}

impl Results {
    /// Of a file whose lines are read from its first one on.
    pub(super) fn of(file: Option<File>) -> Self {
        Self {
            file,
            ..Self::default()
        }
    }

    /// Tokens, how they are known, and the cost.
    fn account(&self) -> Account {
        let source = match self.billed {
            0 => UsageSource::Absent,
            _ => UsageSource::Reported,
        };
        let charge = charge(Some(self.charge), &self.usage, source);
        let cost = (self.unpriced == 0 && self.unmetered == 0).then_some(self.cost);
        Account {
            usage: self.usage,
            source,
            cost,
            charge,
            error_bound: None,
        }
    }
}

impl Exchange {
    /// The answer is a file of results. Of a part of a file (status 206) nobody knows which lines it
    /// has: they are billed each time.
    pub(super) fn begin_results(&mut self, status: StatusCode) {
        let id = self.request.response_id.as_deref();
        let id = id.filter(|_| status != StatusCode::PARTIAL_CONTENT);
        let provider = &self.route.to.provider.name;
        self.results = Results::of(id.map(|id| Later::open(provider, id)));
    }

    /// The file has passed, to its end or not. Tokens, how they are known, the cost and the charge.
    pub(super) fn close_results(&self, end: End) -> Account {
        let mut account = self.results.account();
        if self.partial.is_some() {
            // What was not read may have cost something; it is billed when it is read.
            account.cost = None;
        } else if let (End::Complete, Some(file)) = (end, self.results.file)
            && self.results.metered > 0
            && self.results.unmetered == 0
        {
            // A batch that is looked at while it runs has no answers yet, and what was left out of
            // them is billed when it is read.
            self.proxy.later.close(file);
        }
        account
    }

    /// What the span says of it: the model, if it is one, and how many answers there were.
    pub(super) fn note_results(&mut self, facts: &mut ResponseFacts) {
        let results = &mut self.results;
        facts.model = facts.model.take().or_else(|| results.model.take());
        for (name, count) in [
            ("tollgate.batch.answers", results.billed),
            ("tollgate.batch.unpriced", results.unpriced),
            ("tollgate.batch.unmetered", results.unmetered),
        ] {
            if count > 0 {
                self.attributes.push((name, Value::Int(count)));
            }
        }
    }

    /// Takes in a line's answer.
    pub(super) fn read_result(&mut self, facts: &ResponseFacts) {
        let line = self.results.lines;
        self.results.lines += 1;
        if !is_metered(facts) {
            self.results.unmetered += u64::from(is_answer(facts));
            return;
        }
        self.results.metered += 1;
        let file = self.results.file;
        if file.is_some_and(|file| !self.proxy.later.is_first_read(file, line)) {
            return;
        }
        let pricing = &self.live.pricing;
        let query = Query {
            provider: &self.route.to.provider.name,
            path: self.route.target.path(),
            response_model: facts.model.as_deref(),
            request_model: None,
            at: self.start,
            context: Context {
                service_tier: facts.service_tier.as_deref(),
                speed: facts.speed.as_deref(),
                region: facts.region.as_deref(),
                batch: true,
            },
        };
        let cost = pricing.cost(&query, &facts.usage, &facts.rounds);
        let stand_in = (pricing.unknown_model() == UnknownModel::Ceiling)
            .then(|| Arc::clone(pricing.unknown_tariff()));
        let charge = cost.or_else(|| stand_in?.bill(&facts.usage).ok());
        let results = &mut self.results;
        results.usage.add(&facts.usage);
        results.cost += cost.unwrap_or_default();
        results.charge += charge.unwrap_or_default();
        results.unpriced += u64::from(cost.is_none());
        if results.billed == 0 {
            results.model.clone_from(&facts.model);
        } else if results.model != facts.model {
            results.model = None;
        }
        results.billed += 1;
    }
}

/// Whether it says what it used. What was generated takes output, so that a count of the input alone
/// is not the whole bill.
const fn is_metered(facts: &ResponseFacts) -> bool {
    let lacks_output = facts.output_bytes.bytes > 0 && facts.usage.output.is_none();
    facts.usage.is_reported() && !lacks_output
}

/// Whether a line has something of an answer, and not only an error or the request.
const fn is_answer(facts: &ResponseFacts) -> bool {
    let is_named = facts.id.is_some() || facts.model.is_some();
    is_named || facts.output_bytes.bytes > 0 || !facts.finish_reasons.is_empty()
}

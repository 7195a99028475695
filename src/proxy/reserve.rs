//! What is set aside for one call, and how its output is kept within that.

use std::sync::Arc;

use super::cap::Cap;
use crate::{
    base::{clock::Timestamp, money::Usd},
    call::{facts::ResponseFacts, refusal::Refusal},
    policy::{Amounts, Hold},
    pricing::{InputBound, Rate, Tariff},
};

/// Output tokens that are set aside at a time for a stream that nothing else bounds.
pub(super) const STEP: u64 = 1_000;

/// The least output that a call is let begin with, in tokens.
pub(super) const LEAST: u64 = 64;

/// When less than this is left of a step, the next one is taken.
const AHEAD: u64 = 256;

/// What a call has set aside.
#[derive(Debug, Default)]
pub(super) struct Reservation {
    pub(super) hold: Option<Hold>,
    pub(super) worth: Worth,
    /// Output tokens of all choices together; `None` where nothing was estimated.
    pub(super) output: Option<u64>,
    /// The output is bounded by us, step by step, and not by the provider.
    pub(super) in_steps: bool,
    /// The most output that the model can make of the call, of all choices together.
    pub(super) most: u64,
    /// Output tokens that the provider may make and bill beyond what was read, before it notices
    /// that we left.
    pub(super) margin: u64,
    /// The call can cost more than is set aside, and is let go on all the same.
    pub(super) soft: bool,
    /// Where it is cut, whatever budgets have left.
    pub(super) cap: Option<Cap>,
    /// What is charged of a call that was refused after its provider had begun it, unless that says
    /// what it is.
    pub(super) overrun: Option<Amounts>,
}

/// What a call's tokens are worth at most.
#[derive(Clone, Debug, Default)]
pub(super) struct Worth {
    /// Prices that the call cannot exceed; `None`: it has no price, or needs none.
    pub(super) tariff: Option<Arc<Tariff>>,
    /// What budgets are charged by if the call turns out to have no price.
    pub(super) stand_in: Option<Arc<Tariff>>,
    pub(super) input: InputBound,
    /// What the output that was read has in tokens.
    pub(super) output: Rate,
}

impl Worth {
    /// What the input and so many output tokens can cost.
    pub(super) fn of(&self, output: u64) -> Amounts {
        let input = self.input.tokens();
        Amounts {
            usd: self
                .tariff
                .as_ref()
                .map(|tariff| tariff.worst(&self.input, output)),
            tokens: Some(input.saturating_add(output)),
            input: Some(input),
            output: Some(output),
        }
    }

    /// How many output tokens `left` buys besides the input.
    pub(super) fn affordable(&self, left: Amounts) -> u64 {
        let by_usd = match (&self.tariff, left.usd) {
            (Some(tariff), Some(usd)) => tariff.affordable_output(&self.input, usd),
            _ => u64::MAX,
        };
        let by_tokens = left.tokens.map_or(u64::MAX, |tokens| {
            tokens.saturating_sub(self.input.tokens())
        });
        by_usd.min(by_tokens).min(left.output.unwrap_or(u64::MAX))
    }
}

impl Reservation {
    /// What it holds.
    pub(super) fn held(&self) -> Amounts {
        self.hold.as_ref().map(Hold::held).unwrap_or_default()
    }

    /// What the tightest counter has left once the call is charged `charge` (what it holds, if that
    /// is unknown); `None` where no counter is in dollars.
    pub(super) fn remaining_after(&self, charge: Option<Usd>, now: Timestamp) -> Option<Usd> {
        let hold = self.hold.as_ref()?;
        let (left, taken) = (hold.left(now).usd?, hold.held().usd?);
        Some(left + taken - charge.unwrap_or(taken))
    }

    /// The most input tokens that the request can have; zero where nothing was estimated.
    pub(super) const fn input_tokens(&self) -> u64 {
        self.worth.input.tokens()
    }

    /// The most output tokens of all choices together; `None` where nothing was estimated.
    pub(super) const fn most_output(&self) -> Option<u64> {
        self.output
    }

    /// Whether more is set aside as the stream goes on, and our cut keeps it within that.
    pub(super) const fn is_in_steps(&self) -> bool {
        self.in_steps
    }

    /// What of a charge that is only estimated, `most`, counts against a limit: at most what is held,
    /// which the provider or our cut has kept it to, unless even what it likely is, is more.
    pub(super) fn within<T: Ord>(
        &self,
        most: Option<T>,
        likely: Option<T>,
        held: Option<T>,
    ) -> Option<T> {
        match held {
            Some(held) if !self.soft => most.map(|most| match likely {
                Some(likely) => most.min(held.max(likely)),
                None => most.min(held),
            }),
            _ => most,
        }
    }

    /// The prices that stand in for unknown ones.
    pub(super) fn stand_in(&self) -> Option<&Tariff> {
        self.worth.stand_in.as_deref()
    }

    /// Hands the hold over, to be settled.
    pub(super) const fn take(&mut self) -> Option<Hold> {
        self.hold.take()
    }

    /// The request has become longer: sets aside what its input is worth now.
    ///
    /// # Errors
    /// So much does not fit.
    pub(super) fn widen(&mut self, input: InputBound, now: Timestamp) -> Result<(), Refusal> {
        let before = std::mem::replace(&mut self.worth.input, input);
        let (Some(hold), Some(output)) = (&mut self.hold, self.output) else {
            return Ok(());
        };
        raise(hold, &self.worth, output, now).inspect_err(|_| self.worth.input = before)
    }

    /// Sets aside the most that the call can cost: its stream cannot be read, so that nothing could
    /// tell when the next step is due.
    ///
    /// # Errors
    /// So much does not fit.
    pub(super) fn take_all(&mut self, now: Timestamp) -> Result<(), Refusal> {
        if let (true, Some(cap)) = (self.in_steps, &self.cap)
            && self.most > cap.output
        {
            return Err(cap.refusal());
        }
        if let (true, Some(hold)) = (self.in_steps, &mut self.hold) {
            raise(hold, &self.worth, self.most, now)?;
            self.output = Some(self.most);
            self.in_steps = false;
        }
        Ok(())
    }

    /// Sets more aside when what was read comes near to what is held. What was read counts as the
    /// most tokens that it can have by [`Rate`], and the margin, so that a stream that is cut is
    /// charged no more than it held. Once something was not read, all is set aside.
    ///
    /// # Errors
    /// More was read than is held, and no more can be had.
    pub(super) fn keep_up(&mut self, facts: &ResponseFacts, now: Timestamp) -> Result<(), Refusal> {
        if facts.unread {
            return self.take_all(now);
        }
        if !self.in_steps {
            return Ok(());
        }
        let read = self.worth.output.estimate(facts.output_bytes).most;
        let read = read
            .max(facts.usage.output.unwrap_or(0))
            .saturating_add(self.margin);
        if let Some(cap) = &self.cap
            && read > cap.output
        {
            return Err(cap.refusal());
        }
        let (Some(reserved), Some(hold)) = (self.output, &mut self.hold) else {
            return Ok(());
        };
        if read.saturating_add(AHEAD) <= reserved {
            return Ok(());
        }
        let wanted = read.max(reserved).saturating_add(STEP);
        match raise(hold, &self.worth, wanted, now) {
            Ok(()) => {
                self.output = Some(wanted);
                return Ok(());
            },
            // What is held is still enough.
            Err(_) if read <= reserved => return Ok(()),
            Err(_) => {},
        }
        // A whole step does not fit; what is left may, if it is worth going on for.
        let free = hold.left(now);
        let now_held = hold.held();
        let left = free.plus(now_held);
        let affordable = self.worth.affordable(left).min(wanted);
        let wanted = affordable.max(read.saturating_add(LEAST));
        raise(hold, &self.worth, wanted, now)?;
        self.output = Some(wanted);
        Ok(())
    }
}

/// Holds what `output` tokens are worth, in place of what is held.
fn raise(hold: &mut Hold, worth: &Worth, output: u64, now: Timestamp) -> Result<(), Refusal> {
    let more = worth.of(output).beyond(hold.held());
    hold.grow(more, now)
}

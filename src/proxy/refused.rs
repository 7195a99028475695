//! Tells of refused calls in the log: of each rule the first of a minute, then how many more there
//! were. A storm of refusals floods nothing; each of them has its span.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;

use super::{Proxy, authenticate::IDENTITY, exchange::Exchange};
use crate::{
    base::{clock::Instant, id::RequestId},
    call::{
        labels::{Label, Labels},
        outcome::Decision,
        refusal::Refusal,
    },
};

/// How long a rule is only counted after it was told of.
const EVERY: Duration = Duration::from_mins(1);
/// The most rules that are told apart: more than anybody writes. Edits may give them ever new names.
const MOST: usize = 1_024;
/// Whatever is beyond.
const OTHERS: &str = "other";

/// What was told of, and what was left out since.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<BTreeMap<Box<str>, Told>>);

#[derive(Debug)]
struct Told {
    at: Instant,
    left_out: u64,
}

impl Refusals {
    /// Counts a refusal by this rule. Whether it is to be told of: with so many that were left out
    /// before it.
    fn note(&self, by: &str, now: Instant) -> Option<u64> {
        note(&mut self.0.lock(), by, now)
    }

    /// Lets go of the rules whose last line is over, by when it was written: those of which some were
    /// left out since, and how many.
    fn take(&self, is_over: impl Fn(Instant) -> bool) -> Vec<(Box<str>, u64)> {
        let mut rules = self.0.lock();
        let over: Vec<_> = rules.extract_if(.., |_, told| is_over(told.at)).collect();
        drop(rules);
        let counts = over.into_iter().map(|(by, told)| (by, told.left_out));
        counts.filter(|(_, left_out)| *left_out > 0).collect()
    }
}

fn note(rules: &mut BTreeMap<Box<str>, Told>, by: &str, now: Instant) -> Option<u64> {
    let is_known = rules.len() < MOST || rules.contains_key(by);
    let by = if is_known { by } else { OTHERS };
    let Some(told) = rules.get_mut(by) else {
        let at = now;
        rules.insert(Box::from(by), Told { at, left_out: 0 });
        return Some(0);
    };
    if now.saturating_duration_since(told.at) < EVERY {
        told.left_out = told.left_out.saturating_add(1);
        return None;
    }
    told.at = now;
    Some(std::mem::take(&mut told.left_out))
}

impl Exchange {
    /// Tells of the call if it was refused, or its stream cut.
    pub(super) fn tell_if_refused(&self) {
        let what = match self.decision {
            Decision::Refused => "A call was refused",
            Decision::Cut => "A call was cut off",
            _ => return,
        };
        if let Some(refusal) = &self.refusal {
            let (id, labels) = (self.request_id, Some(&self.labels));
            self.proxy.tell_refused(what, refusal, id, labels);
        }
    }
}

impl Proxy {
    /// Tells of a refusal, unless its rule was told of within this minute. Strangers are told of where
    /// they are turned away.
    pub(super) fn tell_refused(
        &self,
        what: &'static str,
        Refusal { by, message, .. }: &Refusal,
        request_id: RequestId,
        labels: Option<&Labels>,
    ) {
        // Where nothing refused, something failed: that is told elsewhere.
        if by.is_empty() || by == IDENTITY {
            return;
        }
        if let Some(left_out) = self.refusals.note(by, self.clock.mono()) {
            let label = |label| labels.and_then(|labels| labels.get(label));
            let (agent, session) = (label(Label::Agent), label(Label::Session));
            let left_out = (left_out > 0).then_some(left_out);
            // Of a connection nothing else is known: no span tells of it.
            let why = labels.is_none().then_some(message);
            tracing::warn!(%request_id, %by, why, agent, session, left_out, "{what}");
        }
    }

    /// Tells how many refusals were left out of the log of each rule that has not been told of for a
    /// minute.
    pub(super) fn tell_left_out(&self) {
        let now = self.clock.mono();
        self.tell_counts(|at| now.saturating_duration_since(at) >= EVERY);
    }

    /// The same of all rules: to be called when the last call has ended.
    pub fn tell_all_left_out(&self) {
        self.tell_counts(|_| true);
    }

    fn tell_counts(&self, is_over: impl Fn(Instant) -> bool) {
        for (by, count) in self.refusals.take(is_over) {
            tracing::warn!(%by, count, "More calls were refused or cut off than the log tells of");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{Clock as _, SystemClock};

    #[tokio::test(start_paused = true)]
    async fn of_each_rule_the_first_of_a_minute_is_told_and_then_a_count() {
        let (refusals, begin) = (Refusals::default(), SystemClock.mono());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let over = |seconds| {
            let now = at(seconds);
            refusals.take(move |told| now.saturating_duration_since(told) >= EVERY)
        };
        let noted = [0, 1, 59].map(|seconds| refusals.note("budget.a", at(seconds)));
        assert_eq!(noted, [Some(0), None, None]);
        assert_eq!(refusals.note("rate.b", at(30)), Some(0));
        assert_eq!(over(59), []);
        // In time for the next of them, or when the minute is over though none comes.
        assert_eq!(refusals.note("budget.a", at(60)), Some(2));
        assert_eq!(refusals.note("budget.a", at(61)), None);
        assert_eq!(over(90), []);
        assert_eq!(over(120), [(Box::from("budget.a"), 1)]);
        assert_eq!(refusals.note("budget.a", at(121)), Some(0));
        assert_eq!(refusals.note("rate.b", at(121)), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn rules_without_end_are_told_of_as_one() {
        let (refusals, now) = (Refusals::default(), SystemClock.mono());
        let told = (0..MOST + 50).filter(|rule| refusals.note(&rule.to_string(), now).is_some());
        assert_eq!(told.count(), MOST + 1);
        assert_eq!(refusals.take(|_| true), [(Box::from(OTHERS), 49)]);
    }
}

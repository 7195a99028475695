//! Circuit breakers: `guards.breakers`. Each has a circuit for each distinct value of what it counts
//! per; a provider that fails or answers late is left alone for a while.
//!
//! | the call | counts as |
//! |---|---|
//! | the provider cannot be reached, breaks off, does not answer in time | failed |
//! | status 429, or 500 and above | failed |
//! | an answer's first byte comes later than `slow.over`, or the client has left by then | slow |
//! | any other answer | well |
//! | refused or stopped by Tollgate; the client left before | nothing |

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{
    Action, Answer, Asked, Ended, Finding, Guard, Now, Outcome, Watch,
    circuit::{Changed, Circuit, PARTS, State, Told, Went},
    config::Breaker as Rule,
};
use crate::{
    base::clock::Instant,
    call::refusal::{Reason, Refusal},
    policy::{Matcher, values_of},
};

/// The breakers in force.
#[derive(Debug, Default)]
pub(super) struct Breakers(Vec<Arc<Breaker>>);

#[derive(Debug)]
struct Breaker {
    rule: Rule,
    matcher: Matcher,
    circuits: Mutex<Circuits>,
}

/// Circuits by the values that they are for.
#[derive(Debug, Default)]
struct Circuits {
    /// When the first call was asked about: the time of circuits begins there.
    origin: Option<Instant>,
    /// At most [`MOST`]; further calls are not watched, and counted.
    by_values: HashMap<Arc<str>, Circuit>,
    unwatched: u64,
    /// When room was last looked for: that takes long, and is not done for each call.
    swept: Option<Duration>,
}

/// The most circuits of one breaker.
const MOST: usize = 10_000;

/// How a circuit stands that is not closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tripped {
    /// The breaker.
    pub name: Box<str>,
    /// Whose circuit: `provider=openai`; empty for one that counts all calls together.
    pub values: Arc<str>,
    /// For how long no call goes; `None`: some try it.
    pub open_for: Option<Duration>,
}

/// What breakers hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerCounts {
    /// Circuits.
    pub circuits: usize,
    /// The most of them.
    pub most: usize,
    /// Calls that were not watched, since there are too many.
    pub unwatched: u64,
}

impl Breakers {
    pub(super) fn build(rules: &[Rule], before: Option<&Self>) -> Self {
        let kept = |rule: &Rule| {
            let mut before = before?.0.iter();
            before.find(|breaker| breaker.rule == *rule).cloned()
        };
        let new = |rule: &Rule| {
            Arc::new(Breaker {
                matcher: Matcher::new(&rule.matches),
                circuits: Mutex::default(),
                rule: rule.clone(),
            })
        };
        let all = rules.iter();
        Self(
            all.map(|rule| kept(rule).unwrap_or_else(|| new(rule)))
                .collect(),
        )
    }

    /// The circuits that are not closed.
    pub(super) fn tripped(&self, now: Instant) -> Vec<Tripped> {
        let mut tripped = Vec::new();
        for breaker in &self.0 {
            let circuits = breaker.circuits.lock();
            let elapsed = circuits.elapsed(now);
            for (values, circuit) in &circuits.by_values {
                let open_for = match circuit.state {
                    State::Closed => continue,
                    State::Open(until) if elapsed < until => Some(until.saturating_sub(elapsed)),
                    State::Open(_) | State::HalfOpen { .. } => None,
                };
                tripped.push(Tripped {
                    name: Box::from(breaker.rule.name.as_str()),
                    values: Arc::clone(values),
                    open_for,
                });
            }
        }
        tripped.sort_by(|one, other| (&one.name, &one.values).cmp(&(&other.name, &other.values)));
        tripped
    }

    pub(super) fn counts(&self) -> BreakerCounts {
        let mut counts = BreakerCounts::default();
        for breaker in &self.0 {
            let circuits = breaker.circuits.lock();
            counts.circuits += circuits.by_values.len();
            counts.most += MOST;
            counts.unwatched += circuits.unwatched;
        }
        counts
    }
}

impl Guard for Breakers {
    fn ask(&self, call: &Asked<'_>, now: Now, answer: &mut Answer) {
        for breaker in &self.0 {
            if !breaker.matcher.matches(call.subject, call.trusted) {
                continue;
            }
            let values = values_of(&breaker.rule.per, call.subject, call.trusted);
            let Some((told, changed)) = breaker.ask(&values, now.mono) else {
                continue;
            };
            if let Some(changed) = changed {
                answer.findings.push(breaker.finding(&values, changed));
            }
            match told {
                Told::Goes(era) => answer.watch(Call {
                    breaker: Arc::clone(breaker),
                    values,
                    era,
                    is_told: false,
                    began_well: false,
                }),
                Told::Waits(wait) => return answer.refuse(breaker.refusal(&values, wait)),
            }
        }
    }
}

impl Breaker {
    fn by(&self) -> String {
        format!("breaker.{}", self.rule.name.as_str())
    }

    fn ask(&self, values: &Arc<str>, now: Instant) -> Option<(Told, Option<Changed>)> {
        self.circuits.lock().ask(values, &self.rule, now)
    }

    /// Has the circuit of `values` do something, if it is still there.
    fn tell<T>(
        &self,
        values: &str,
        now: Instant,
        tell: impl FnOnce(&mut Circuit, Duration) -> Option<T>,
    ) -> Option<T> {
        self.circuits.lock().tell(values, now, tell)
    }

    fn refusal(&self, values: &str, wait: Duration) -> Refusal {
        let message = format!(
            "Tollgate: too many of the last calls{} failed or were slow, so that none goes for a \
             while (breaker `{}`). Try again later.",
            whose(values),
            self.rule.name.as_str()
        );
        Refusal {
            retry_after: Some(wait),
            ..Refusal::new(Reason::Overload, self.by(), message)
        }
    }

    fn finding(&self, values: &str, changed: Changed) -> Finding {
        let whose = whose(values);
        let says = match changed {
            Changed::Opened { calls, wrong, slow } => format!(
                "opened{whose}: of the last {calls} calls {wrong} failed and {slow} were slow"
            ),
            Changed::OpenedAgain => format!("opened again{whose}: a call that tried it failed"),
            Changed::HalfOpened => format!("half-open{whose}: some calls try it"),
            Changed::Closed => format!("closed{whose}: the calls that tried it went well"),
        };
        Finding {
            by: self.by().into_boxed_str(),
            says: says.into_boxed_str(),
            action: Action::Alert,
        }
    }

    fn is_slow(&self, waited: Duration) -> bool {
        self.rule.slow.is_some_and(|slow| waited > slow.over)
    }
}

/// ` of provider=openai`.
fn whose(values: &str) -> String {
    if values.is_empty() {
        String::new()
    } else {
        format!(" of {values}")
    }
}

impl Circuits {
    fn ask(
        &mut self,
        values: &Arc<str>,
        rule: &Rule,
        now: Instant,
    ) -> Option<(Told, Option<Changed>)> {
        let origin = *self.origin.get_or_insert(now);
        let elapsed = now.saturating_duration_since(origin);
        Some(self.open(values, rule, elapsed)?.ask(rule, elapsed))
    }

    fn tell<T>(
        &mut self,
        values: &str,
        now: Instant,
        tell: impl FnOnce(&mut Circuit, Duration) -> Option<T>,
    ) -> Option<T> {
        let elapsed = self.elapsed(now);
        tell(self.by_values.get_mut(values)?, elapsed)
    }

    fn elapsed(&self, now: Instant) -> Duration {
        let since = |origin| now.saturating_duration_since(origin);
        self.origin.map_or(Duration::ZERO, since)
    }

    /// The circuit of `values`; `None`: there is no room for another.
    fn open(&mut self, values: &Arc<str>, rule: &Rule, now: Duration) -> Option<&mut Circuit> {
        if !self.by_values.contains_key(values) {
            let is_old = |at| now.saturating_sub(at) >= rule.window / PARTS;
            if self.by_values.len() >= MOST && self.swept.is_none_or(is_old) {
                self.swept = Some(now);
                // What is closed and was not touched for a window knows of nothing any more.
                self.by_values.retain(|_, circuit| {
                    circuit.state != State::Closed
                        || now.saturating_sub(circuit.touched) <= rule.window
                });
            }
            if self.by_values.len() >= MOST {
                self.unwatched += 1;
                return None;
            }
            self.by_values.insert(Arc::clone(values), Circuit::new());
        }
        self.by_values.get_mut(values)
    }
}

/// A call that a breaker let go.
struct Call {
    breaker: Arc<Breaker>,
    values: Arc<str>,
    era: u64,
    is_told: bool,
    began_well: bool,
}

impl Call {
    fn went(&mut self, went: Went, now: Now) -> Option<Finding> {
        self.is_told = true;
        let (rule, era) = (&self.breaker.rule, self.era);
        let changed = self.breaker.tell(&self.values, now.mono, |circuit, now| {
            circuit.went(rule, era, went, now)
        });
        changed.map(|changed| self.breaker.finding(&self.values, changed))
    }
}

impl Watch for Call {
    fn began(&mut self, status: u16, waited: Duration, now: Now) -> Option<Finding> {
        let went = if is_wrong(status) {
            Went::Wrong
        } else if self.breaker.is_slow(waited) {
            Went::Slowly
        } else {
            Went::Well
        };
        self.began_well = went == Went::Well;
        self.went(went, now)
    }

    fn ended(mut self: Box<Self>, how: &Ended, now: Now) -> Option<Finding> {
        if self.is_told {
            if !(self.began_well && how.outcome == Outcome::Failed) {
                return None;
            }
            let (rule, era) = (&self.breaker.rule, self.era);
            let changed = self.breaker.tell(&self.values, now.mono, |circuit, now| {
                circuit.broke_off(rule, era, now)
            });
            return changed.map(|changed| self.breaker.finding(&self.values, changed));
        }
        let is_slow = self.breaker.is_slow(how.waited);
        let went = match how.outcome {
            Outcome::Failed => Went::Wrong,
            Outcome::Answered(status) if is_wrong(status) => Went::Wrong,
            Outcome::Answered(_) | Outcome::Left if is_slow => Went::Slowly,
            Outcome::Answered(_) => Went::Well,
            // Dropped, it is given back.
            Outcome::Left | Outcome::NotSent => return None,
        };
        self.went(went, now)
    }
}

impl Drop for Call {
    /// It says nothing of the circuit, which another call may try.
    fn drop(&mut self) {
        if !self.is_told {
            let mut circuits = self.breaker.circuits.lock();
            if let Some(circuit) = circuits.by_values.get_mut(&self.values) {
                circuit.give_back(self.era);
            }
        }
    }
}

/// Whether the provider says that it cannot serve now. What it says of the request is not its fault.
const fn is_wrong(status: u16) -> bool {
    status == 429 || status >= 500
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{Clock as _, SystemClock};

    #[test]
    fn a_full_table_is_not_looked_through_for_each_call() {
        let rule: Rule = serde_json::from_str(r#"{"name": "a", "errors": 0.5}"#).unwrap();
        let (mut circuits, part) = (Circuits::default(), rule.window / PARTS);
        let origin = SystemClock.mono();
        let mut ask = |number: usize, after| {
            let values = Arc::from(number.to_string());
            circuits.ask(&values, &rule, origin + after).is_some()
        };
        assert!(ask(0, Duration::ZERO));
        for number in 1..MOST {
            assert!(ask(number, part));
        }
        let (one, two, late) = (MOST, MOST + 1, rule.window + part / 2);
        assert!(ask(one, late), "the first knows of nothing any more");
        assert!(!ask(two, late + part * 3 / 4), "it was just looked");
        assert!(ask(two, late + part));
    }
}

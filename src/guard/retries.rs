//! Storms of retries: `guards.retry_storm`. What fails is sent again, by every client at once, and so
//! a provider that is in trouble gets several times its load. Where retries outnumber first attempts,
//! retries are refused for a while, longer each time; first attempts pass, and tell whether it is
//! over. One logical call, too, has only so many attempts.
//!
//! What does not go to the provider in the end, whoever refused it, counts neither as one nor as the
//! other.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    Action, Answer, Asked, Ended, Finding, Guard, Now, Outcome, Watch, config::RetryStorm as Rule,
};
use crate::{
    base::{clock::Instant, units::show_duration},
    call::{
        facts::Spends,
        refusal::{Reason, Refusal},
    },
    policy::{Matcher, values_of},
};

/// What refused, as `x-tollgate-blocked-by` has it.
pub const BY: &str = "breaker.retry-storm";

/// The most storms that are watched for; further calls are not, and are counted.
pub const MAX_STORMS: usize = 10_000;

/// In how many parts the calls of a window are counted.
const PARTS: u32 = 10;

/// What is watched for, if anything is.
#[derive(Debug, Default)]
pub(super) struct Retries(Option<Arc<Watched>>);

#[derive(Debug)]
struct Watched {
    rule: Rule,
    matcher: Matcher,
    places: Mutex<Places>,
}

/// Where a storm may be, by the values that it is counted per.
#[derive(Debug, Default)]
struct Places {
    by_values: HashMap<Arc<str>, Place>,
    unwatched: u64,
    /// When room was last looked for: that takes long, and is not done for each call.
    swept: Option<Instant>,
}

/// The calls of one of them.
#[derive(Debug, Default)]
struct Place {
    parts: VecDeque<Part>,
    /// When retries go again, or went again.
    until: Option<Instant>,
    /// How long that pause was.
    pause: Duration,
    /// How many retries it has refused.
    refused: u32,
}

/// The calls of a part of the window.
#[derive(Debug)]
struct Part {
    began: Instant,
    first: u32,
    further: u32,
}

/// What becomes of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// It goes, and was counted in the part that began then.
    Goes(Instant),
    /// It does not, for so long; the pause has just begun if `begins`.
    Waits { wait: Duration, begins: bool },
}

impl Retries {
    /// `before`: what is known goes on where the settings are the same.
    pub(super) fn new(rule: Option<&Rule>, before: Option<&Self>) -> Self {
        let before = before.and_then(|before| before.0.as_ref());
        Self(rule.map(|rule| {
            let kept = before.filter(|before| before.rule == *rule);
            kept.map_or_else(
                || {
                    Arc::new(Watched {
                        matcher: Matcher::new(&rule.matches),
                        places: Mutex::default(),
                        rule: rule.clone(),
                    })
                },
                Arc::clone,
            )
        }))
    }

    /// How many places are watched, and how many calls were not since there were too many.
    pub(super) fn counts(&self) -> (usize, u64) {
        self.0.as_ref().map_or((0, 0), |watched| {
            let places = watched.places.lock();
            (places.by_values.len(), places.unwatched)
        })
    }
}

impl Guard for Retries {
    fn ask(&self, call: &Asked<'_>, now: Now, answer: &mut Answer) {
        let Some(watched) = &self.0 else {
            return;
        };
        let (rule, attempt) = (&watched.rule, call.again.attempt);
        let matches = watched.matcher.matches(call.subject, call.trusted);
        // What is asked for nothing is mostly asked often, and would hide a storm.
        if !matches || call.spends == Spends::Nothing {
            return;
        }
        if let Some(over) = attempt.checked_sub(rule.attempts).filter(|over| *over > 0) {
            let longer = 2_u32.saturating_pow(over - 1);
            let wait = rule.pause.saturating_mul(longer).min(rule.longest_pause);
            let message = format!(
                "Tollgate: this is attempt {attempt} of one call (guards.retry_storm), so that it \
                 waits. Find out why the ones before it failed."
            );
            return answer.refuse(refusal(message, wait));
        }
        let values = values_of(&rule.per, call.subject, call.trusted);
        let told = watched
            .places
            .lock()
            .ask(&values, rule, attempt > 1, now.mono);
        let whose = if values.is_empty() {
            String::new()
        } else {
            format!(" for {values}")
        };
        match told {
            None => {},
            Some(Told::Goes(part)) => answer.watch(Counted {
                watched: Arc::clone(watched),
                values,
                part,
                is_further: attempt > 1,
                is_sent: false,
            }),
            Some(Told::Waits { wait, begins }) => {
                if begins {
                    let pause = show_duration(wait);
                    let says = format!("retries{whose} outnumber first attempts: none for {pause}");
                    answer.say(BY, says, Action::Alert);
                }
                let message = format!(
                    "Tollgate: too many of the last calls{whose} are retries, so that retries wait \
                     (guards.retry_storm). Try again later."
                );
                answer.refuse(refusal(message, wait));
            },
        }
    }
}

fn refusal(message: String, wait: Duration) -> Refusal {
    Refusal {
        retry_after: Some(wait),
        ..Refusal::new(Reason::Overload, BY, message)
    }
}

impl Places {
    /// An attempt is asked about; `None`: it is not watched.
    fn ask(
        &mut self,
        values: &Arc<str>,
        rule: &Rule,
        is_further: bool,
        now: Instant,
    ) -> Option<Told> {
        if !self.by_values.contains_key(values) {
            let is_old = |at| now.saturating_duration_since(at) >= rule.window / PARTS;
            if self.by_values.len() >= MAX_STORMS && self.swept.is_none_or(is_old) {
                self.swept = Some(now);
                self.by_values.retain(|_, place| !place.is_over(rule, now));
            }
            if self.by_values.len() >= MAX_STORMS {
                self.unwatched += 1;
                return None;
            }
            self.by_values.insert(Arc::clone(values), Place::default());
        }
        let place = self.by_values.get_mut(values)?;
        Some(place.ask(rule, is_further, now))
    }
}

impl Place {
    fn ask(&mut self, rule: &Rule, is_further: bool, now: Instant) -> Told {
        if is_further {
            if let Some(until) = self.until.filter(|until| now < *until) {
                let wait = self.spread(until.saturating_duration_since(now));
                return Told::Waits {
                    wait,
                    begins: false,
                };
            }
            let (first, further) = self.counts(rule, now);
            let most = u64::from(rule.ratio) * first;
            if further + 1 >= u64::from(rule.minimum) && further + 1 > most {
                return Told::Waits {
                    wait: self.begin_pause(rule, now),
                    begins: true,
                };
            }
        }
        Told::Goes(self.count(rule, is_further, now))
    }

    /// Retries wait from now on: twice as long as the last time, if that was lately.
    fn begin_pause(&mut self, rule: &Rule, now: Instant) -> Duration {
        let is_lately = |until: Instant| now.saturating_duration_since(until) < rule.window;
        self.pause = if self.until.is_some_and(is_lately) {
            self.pause.saturating_mul(2).min(rule.longest_pause)
        } else {
            rule.pause
        };
        self.until = Some(now + self.pause);
        self.refused = 0;
        // What comes after it is judged by itself.
        self.parts.clear();
        self.pause
    }

    /// Those who are refused are not told all the same time, at which they would all come.
    fn spread(&mut self, wait: Duration) -> Duration {
        self.refused = self.refused.wrapping_add(1);
        wait + self.pause * (self.refused % 8) / 8
    }

    fn counts(&self, rule: &Rule, now: Instant) -> (u64, u64) {
        let is_in = |part: &&Part| now.saturating_duration_since(part.began) < rule.window;
        let parts = self.parts.iter().filter(is_in);
        parts.fold((0, 0), |(first, further), part| {
            (
                first + u64::from(part.first),
                further + u64::from(part.further),
            )
        })
    }

    /// Returns when the part began in which it is counted.
    fn count(&mut self, rule: &Rule, is_further: bool, now: Instant) -> Instant {
        let age = |part: &Part| now.saturating_duration_since(part.began);
        while self
            .parts
            .front()
            .is_some_and(|part| age(part) >= rule.window)
        {
            self.parts.pop_front();
        }
        let is_over = |part: &Part| age(part) >= rule.window / PARTS;
        if self.parts.back().is_none_or(is_over) {
            self.parts.push_back(Part {
                began: now,
                first: 0,
                further: 0,
            });
        }
        let Some(part) = self.parts.back_mut() else {
            return now;
        };
        let count = part.of(is_further);
        *count = count.saturating_add(1);
        part.began
    }

    /// A call did not go after all.
    fn take_back(&mut self, part: Instant, is_further: bool) {
        if let Some(part) = self.parts.iter_mut().find(|one| one.began == part) {
            let count = part.of(is_further);
            *count = count.saturating_sub(1);
        }
    }

    /// Whether nothing that is known of it matters any more.
    fn is_over(&self, rule: &Rule, now: Instant) -> bool {
        let is_past = |at: Instant| now.saturating_duration_since(at) >= rule.window;
        let last = self.parts.back().map(|part| part.began);
        last.is_none_or(is_past) && self.until.is_none_or(is_past)
    }
}

impl Part {
    const fn of(&mut self, is_further: bool) -> &mut u32 {
        if is_further {
            &mut self.further
        } else {
            &mut self.first
        }
    }
}

/// A call that was counted.
struct Counted {
    watched: Arc<Watched>,
    values: Arc<str>,
    part: Instant,
    is_further: bool,
    is_sent: bool,
}

impl Watch for Counted {
    fn ended(mut self: Box<Self>, how: &Ended, _now: Now) -> Option<Finding> {
        self.is_sent = how.outcome != Outcome::NotSent;
        None
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.is_sent {
            return;
        }
        let mut places = self.watched.places.lock();
        if let Some(place) = places.by_values.get_mut(&self.values) {
            place.take_back(self.part, self.is_further);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{Clock as _, SystemClock};

    const SECOND: Duration = Duration::from_secs(1);

    fn rule() -> Rule {
        Rule {
            minimum: 5,
            longest_pause: SECOND * 15,
            ..Rule::default()
        }
    }

    fn goes(told: Told) -> bool {
        matches!(told, Told::Goes(_))
    }

    #[test]
    fn retries_that_outnumber_first_attempts_wait_and_first_attempts_pass() {
        let (rule, mut place, now) = (rule(), Place::default(), SystemClock.mono());
        for _ in 0..5 {
            assert!(goes(place.ask(&rule, false, now)));
            assert!(goes(place.ask(&rule, true, now)));
        }
        let begins = true;
        let wait = rule.pause;
        assert_eq!(place.ask(&rule, true, now), Told::Waits { wait, begins });
        let later = now + SECOND;
        assert!(goes(place.ask(&rule, false, later)));
        let Told::Waits { wait, begins } = place.ask(&rule, true, later) else {
            panic!("it goes");
        };
        assert!(!begins && wait + SECOND >= rule.pause && wait < rule.pause * 2);
        // Once the pause is over they go again.
        assert!(goes(place.ask(&rule, true, now + rule.pause)));
    }

    #[test]
    fn a_few_retries_are_no_storm_nor_are_those_of_another_time() {
        let (rule, mut place, mut now) = (rule(), Place::default(), SystemClock.mono());
        for _ in 0..10 {
            for _ in 0..4 {
                assert!(goes(place.ask(&rule, true, now)));
            }
            now += rule.window;
        }
        assert!(place.parts.len() <= 2);
    }

    #[test]
    fn each_pause_is_longer_until_it_is_calm() {
        let (rule, mut place, mut now) = (rule(), Place::default(), SystemClock.mono());
        let mut storm = |now: &mut Instant, after| {
            *now += after;
            loop {
                if let Told::Waits { wait, begins } = place.ask(&rule, true, *now) {
                    assert!(begins);
                    *now += wait;
                    return wait.as_secs();
                }
            }
        };
        let pauses = [0; 4].map(|_| storm(&mut now, SECOND));
        assert_eq!(pauses, [5, 10, 15, 15]);
        assert_eq!(storm(&mut now, rule.window), 5);
    }

    #[test]
    fn what_did_not_go_does_not_count() {
        let (rule, mut place, now) = (rule(), Place::default(), SystemClock.mono());
        for _ in 0..20 {
            let Told::Goes(part) = place.ask(&rule, true, now) else {
                panic!("it waits");
            };
            place.take_back(part, true);
        }
        assert_eq!(place.counts(&rule, now), (0, 0));
    }

    #[test]
    fn no_more_places_are_watched_than_there_is_room_for() {
        let (rule, mut places, now) = (rule(), Places::default(), SystemClock.mono());
        let mut ask = |number: usize, now| {
            let values = Arc::from(number.to_string());
            let told = places.ask(&values, &rule, false, now);
            (told.is_some(), places.unwatched)
        };
        for number in 0..MAX_STORMS {
            assert!(ask(number, now).0);
        }
        assert_eq!(ask(MAX_STORMS, now), (false, 1));
        assert_eq!(ask(MAX_STORMS, now + rule.window), (true, 1));
    }

    #[test]
    fn a_full_table_is_not_looked_through_for_each_call() {
        let (rule, mut places, start) = (rule(), Places::default(), SystemClock.mono());
        let part = rule.window / PARTS;
        let mut ask = |number: usize, after| {
            let values = Arc::from(number.to_string());
            places.ask(&values, &rule, false, start + after).is_some()
        };
        assert!(ask(0, Duration::ZERO));
        for number in 1..MAX_STORMS {
            assert!(ask(number, part / 2));
        }
        let (one, two) = (MAX_STORMS, MAX_STORMS + 1);
        assert!(ask(one, rule.window), "the first is over");
        assert!(!ask(two, rule.window + part / 2), "it was just looked");
        assert!(ask(two, rule.window + part));
    }
}

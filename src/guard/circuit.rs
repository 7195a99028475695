//! One circuit: closed until too many of the last calls failed or were slow, then open for a while,
//! then half-open, which lets a few calls try whether it is over.

use std::{collections::VecDeque, time::Duration};

use super::config::Breaker;

/// A window is counted in so many parts, each of which leaves it as a whole.
pub(super) const PARTS: u32 = 10;

/// How a call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Went {
    Well,
    Wrong,
    /// Well, but its answer began late.
    Slowly,
}

/// The circuit's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Closed,
    /// Until then, as the time since the breaker's first call.
    Open(Duration),
    /// So many calls try it since then, and so many of them went well.
    HalfOpen {
        since: Duration,
        trying: u32,
        well: u32,
    },
}

/// Calls of one part of the window.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    number: u128,
    calls: u64,
    wrong: u64,
    slow: u64,
}

/// What a call is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It may go, and is told of in this state of the circuit.
    Goes(u64),
    /// It may not; in so long it may try again.
    Waits(Duration),
}

/// A change of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// So many calls were counted; so many failed, so many were slow.
    Opened {
        calls: u64,
        wrong: u64,
        slow: u64,
    },
    /// A call that tried it failed or was slow.
    OpenedAgain,
    HalfOpened,
    Closed,
}

/// One circuit.
#[derive(Debug)]
pub(super) struct Circuit {
    pub(super) state: State,
    /// Grows with each change: what is told of a call from before says nothing any more.
    era: u64,
    parts: VecDeque<Part>,
    /// When it was last asked or told.
    pub(super) touched: Duration,
}

impl Circuit {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Closed,
            era: 0,
            parts: VecDeque::new(),
            touched: Duration::ZERO,
        }
    }

    /// Whether a call may go at `now`.
    pub(super) fn ask(&mut self, rule: &Breaker, now: Duration) -> (Told, Option<Changed>) {
        self.touched = now;
        let mut changed = None;
        if let State::Open(until) = self.state {
            if now < until {
                return (Told::Waits(until.saturating_sub(now)), None);
            }
            self.half_open(now);
            changed = Some(Changed::HalfOpened);
        }
        if let State::HalfOpen {
            since,
            trying,
            well,
        } = self.state
            && trying + well >= rule.half_open
        {
            // Those that try it may hang for long: nobody waits for them without end.
            if now.saturating_sub(since) < rule.patience() {
                return (Told::Waits(Duration::from_secs(1)), changed);
            }
            self.half_open(now);
        }
        if let State::HalfOpen { trying, .. } = &mut self.state {
            *trying += 1;
        }
        (Told::Goes(self.era), changed)
    }

    /// Tells how a call went that was let go in `era`.
    pub(super) fn went(
        &mut self,
        rule: &Breaker,
        era: u64,
        went: Went,
        now: Duration,
    ) -> Option<Changed> {
        self.touched = now;
        if era != self.era {
            return None;
        }
        match &mut self.state {
            State::Closed => self.count(rule, went, 1, now),
            State::Open(_) => None,
            State::HalfOpen { .. } if went != Went::Well => {
                self.change(State::Open(now + rule.open));
                Some(Changed::OpenedAgain)
            },
            State::HalfOpen { trying, well, .. } => {
                *trying = trying.saturating_sub(1);
                *well += 1;
                (*well >= rule.half_open).then(|| {
                    self.change(State::Closed);
                    Changed::Closed
                })
            },
        }
    }

    /// A call that was told of as begun well has broken off.
    pub(super) fn broke_off(&mut self, rule: &Breaker, era: u64, now: Duration) -> Option<Changed> {
        let is_counted = era == self.era && self.state == State::Closed;
        is_counted
            .then(|| self.count(rule, Went::Wrong, 0, now))
            .flatten()
    }

    /// A call that was let go in `era` says nothing of the circuit.
    pub(super) fn give_back(&mut self, era: u64) {
        if era == self.era
            && let State::HalfOpen { trying, .. } = &mut self.state
        {
            *trying = trying.saturating_sub(1);
        }
    }

    fn count(&mut self, rule: &Breaker, went: Went, calls: u64, now: Duration) -> Option<Changed> {
        let width = (rule.window / PARTS).as_nanos().max(1);
        let number = now.as_nanos() / width;
        let oldest = (number + 1).saturating_sub(u128::from(PARTS));
        while self.parts.front().is_some_and(|part| part.number < oldest) {
            self.parts.pop_front();
        }
        if self.parts.back().is_none_or(|part| part.number != number) {
            let part = Part {
                number,
                ..Part::default()
            };
            self.parts.push_back(part);
        }
        let part = self.parts.back_mut()?;
        part.calls += calls;
        part.wrong += u64::from(went == Went::Wrong);
        part.slow += u64::from(went == Went::Slowly);
        let sum = |of: fn(&Part) -> u64| self.parts.iter().map(of).sum::<u64>();
        let calls = sum(|part| part.calls);
        let (wrong, slow) = (sum(|part| part.wrong), sum(|part| part.slow));
        let is_enough = calls >= u64::from(rule.minimum);
        let is_wrong = rule
            .errors
            .is_some_and(|part| part.is_reached(wrong, calls));
        let is_slow = rule
            .slow
            .is_some_and(|limit| limit.part.is_reached(slow, calls));
        (is_enough && (is_wrong || is_slow)).then(|| {
            self.change(State::Open(now + rule.open));
            Changed::Opened { calls, wrong, slow }
        })
    }

    fn half_open(&mut self, since: Duration) {
        self.change(State::HalfOpen {
            since,
            trying: 0,
            well: 0,
        });
    }

    fn change(&mut self, state: State) {
        self.state = state;
        self.era += 1;
        self.parts.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(text: &str) -> Breaker {
        serde_json::from_str(text).unwrap()
    }

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn it_opens_at_its_part_of_enough_calls_and_closes_when_those_that_try_it_went_well() {
        let rule = rule(
            r#"{"name": "b", "errors": 0.5, "minimum": 4, "window": "10s", "open": "5s",
                "half_open": 2}"#,
        );
        let mut circuit = Circuit::new();
        for went in [Went::Wrong, Went::Well, Went::Wrong] {
            assert_eq!(circuit.went(&rule, 0, went, at(0)), None);
        }
        let opened = circuit.went(&rule, 0, Went::Well, at(10));
        let counted = Changed::Opened {
            calls: 4,
            wrong: 2,
            slow: 0,
        };
        assert_eq!(opened, Some(counted));
        let (told, _) = circuit.ask(&rule, at(2_010));
        assert_eq!(told, Told::Waits(at(3_000)));
        // A call from before says nothing any more.
        assert_eq!(circuit.went(&rule, 0, Went::Well, at(2_020)), None);
        let (told, changed) = circuit.ask(&rule, at(5_010));
        assert_eq!((told, changed), (Told::Goes(2), Some(Changed::HalfOpened)));
        assert_eq!(circuit.ask(&rule, at(5_020)).0, Told::Goes(2));
        assert_eq!(circuit.ask(&rule, at(5_030)).0, Told::Waits(at(1_000)));
        circuit.give_back(2);
        assert_eq!(circuit.ask(&rule, at(5_040)).0, Told::Goes(2));
        assert_eq!(circuit.went(&rule, 2, Went::Well, at(5_050)), None);
        let closed = circuit.went(&rule, 2, Went::Well, at(5_060));
        assert_eq!(closed, Some(Changed::Closed));
        assert_eq!(circuit.ask(&rule, at(5_070)).0, Told::Goes(3));
    }

    #[test]
    fn slowness_opens_it_too_and_one_that_tries_it_and_is_slow_opens_it_again() {
        let rule = rule(
            r#"{"name": "b", "slow": {"over": "30s", "part": 1}, "minimum": 2, "window": "10s",
                "open": "5s", "half_open": 1}"#,
        );
        let mut circuit = Circuit::new();
        assert_eq!(circuit.went(&rule, 0, Went::Slowly, at(0)), None);
        // What has left the window does not count.
        assert_eq!(circuit.went(&rule, 0, Went::Slowly, at(11_000)), None);
        assert!(circuit.went(&rule, 0, Went::Slowly, at(11_000)).is_some());
        assert_eq!(circuit.ask(&rule, at(16_000)).0, Told::Goes(2));
        let again = circuit.went(&rule, 2, Went::Slowly, at(17_000));
        assert_eq!(again, Some(Changed::OpenedAgain));
        assert_eq!(circuit.state, State::Open(at(22_000)));
    }

    /// The same from its definition: everything that happened is kept, and looked at each time.
    #[derive(Default)]
    struct Model {
        /// When the present state began to hold, with its events since.
        events: Vec<(u64, Went, u64)>,
        open_until: Option<u64>,
        /// Since when, how many try it, how many went well.
        half_open: Option<(u64, u32, u32)>,
        era: u64,
    }

    impl Model {
        fn ask(&mut self, rule: &Breaker, now: u64) -> Option<u64> {
            if self.open_until.is_some_and(|until| now < until) {
                return None;
            }
            if self.open_until.take().is_some() {
                self.half_open = Some((now, 0, 0));
                self.era += 1;
            }
            if let Some((since, trying, well)) = &mut self.half_open {
                if *trying + *well == rule.half_open {
                    // It opens for two seconds, and what is slow is so after one.
                    if now - *since < 2_000 {
                        return None;
                    }
                    (*since, *trying, *well) = (now, 0, 0);
                    self.era += 1;
                }
                *trying += 1;
            }
            Some(self.era)
        }

        fn went(&mut self, rule: &Breaker, era: u64, (went, calls): (Went, u64), now: u64) {
            if era != self.era || self.open_until.is_some() {
                return;
            }
            let opens = match &mut self.half_open {
                Some(_) if calls == 0 => false,
                Some((_, trying, well)) if went == Went::Well => {
                    (*trying, *well) = (*trying - 1, *well + 1);
                    if *well == rule.half_open {
                        self.half_open = None;
                        self.era += 1;
                    }
                    false
                },
                Some(_) => true,
                None => {
                    self.events.push((now, went, calls));
                    let width = u64::try_from((rule.window / PARTS).as_millis()).unwrap();
                    let inside =
                        |(at, ..): &&(u64, Went, u64)| at / width + u64::from(PARTS) > now / width;
                    let inside: Vec<_> = self.events.iter().filter(inside).collect();
                    let calls: u64 = inside.iter().map(|(.., calls)| calls).sum();
                    let of = |which| inside.iter().filter(|(_, went, _)| *went == which).count();
                    // Thresholds of the rule below.
                    let is_wrong = 2 * of(Went::Wrong) as u64 >= calls;
                    let is_slow = 4 * of(Went::Slowly) as u64 >= 3 * calls;
                    calls >= 5 && (is_wrong || is_slow)
                },
            };
            if opens {
                self.half_open = None;
                self.events.clear();
                self.open_until = Some(now + 2_000);
                self.era += 1;
            }
        }
    }

    proptest! {
        #[test]
        fn it_does_what_its_definition_says(
            steps in prop::collection::vec((0_u64..700, 0_usize..6, 0_usize..8), 0..300),
        ) {
            let rule = rule(
                r#"{"name": "b", "errors": 0.5, "slow": {"over": "1s", "part": 0.75}, "minimum": 5,
                    "window": "5s", "open": "2s", "half_open": 3}"#,
            );
            let (mut circuit, mut model, mut now) = (Circuit::new(), Model::default(), 0);
            // Calls under way, and those of which it was said that they began well.
            let (mut going, mut begun): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
            for (passes, does, which) in steps {
                now += passes;
                let take = |from: &mut Vec<u64>| {
                    (!from.is_empty()).then(|| from.remove(which % from.len()))
                };
                match does {
                    0 | 1 => {
                        let (told, _) = circuit.ask(&rule, at(now));
                        let goes = match told {
                            Told::Goes(era) => Some(era),
                            Told::Waits(_) => None,
                        };
                        prop_assert_eq!(goes, model.ask(&rule, now));
                        going.extend(goes);
                    },
                    2 => if let Some(era) = take(&mut going) {
                        circuit.give_back(era);
                        if let Some((_, trying, _)) = &mut model.half_open && era == model.era {
                            *trying -= 1;
                        }
                    },
                    3 => if let Some(era) = take(&mut begun) {
                        circuit.broke_off(&rule, era, at(now));
                        model.went(&rule, era, (Went::Wrong, 0), now);
                    },
                    _ => if let Some(era) = take(&mut going) {
                        let went = [Went::Well, Went::Wrong, Went::Slowly][which % 3];
                        circuit.went(&rule, era, went, at(now));
                        model.went(&rule, era, (went, 1), now);
                        if went == Went::Well {
                            begun.push(era);
                        }
                    },
                }
                let state = match (model.open_until, model.half_open) {
                    (Some(until), _) => State::Open(at(until)),
                    (None, Some((since, trying, well))) => {
                        State::HalfOpen { since: at(since), trying, well }
                    },
                    (None, None) => State::Closed,
                };
                prop_assert_eq!(circuit.state, state);
                prop_assert!(circuit.parts.len() <= PARTS as usize);
            }
        }
    }
}

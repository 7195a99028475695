//! Many callers of one budget, each of which looks at what is left, chooses what to ask for, asks,
//! and waits: in any order of these steps, with others' in between.

use std::{
    pin::pin,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    task::{Context, Wake, Waker},
};

use proptest::prelude::*;
use serde_json::json;
use tollgate::{
    call::refusal::Reason,
    policy::{Denied, Matched, Wanted},
};

use super::*;

/// In tokens, as are all amounts here.
const LIMIT: i64 = 100;

/// The least that a call whose size can be lowered is let in with.
const LEAST: i64 = 5;

#[derive(Clone, Debug)]
enum Step {
    /// A call arrives that takes so much, or less if it `bends`.
    Arrive { whole: i64, bends: bool },
    /// One of those that can get on does.
    GoOn(usize),
    /// One of those in flight ends, at so many percent of what it holds.
    End(usize, i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let arrive = (1..70_i64, any::<bool>()).prop_map(|(whole, bends)| Step::Arrive {
        whole,
        // What is smaller is not lowered.
        bends: bends && whole > LEAST,
    });
    let step = prop_oneof![
        2 => arrive,
        5 => any::<usize>().prop_map(Step::GoOn),
        2 => (any::<usize>(), prop_oneof![Just(0), Just(10), Just(100)])
            .prop_map(|(call, percent)| Step::End(call, percent)),
    ];
    prop::collection::vec(step, 1..80)
}

#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// What a caller does next.
enum Next {
    /// It looks at what is left.
    Look(Matched),
    /// It asks for so much.
    Ask(Matched, Wanted),
    /// It waits in the line.
    Wait(Box<Refused>),
}

struct Caller {
    whole: i64,
    bends: bool,
    bell: Arc<Bell>,
    /// When it came into the line, counted in steps.
    since: Option<usize>,
}

impl Caller {
    /// The least that it can be let in with.
    fn least(&self) -> i64 {
        if self.bends { LEAST } else { self.whole }
    }
}

fn can_go_on((caller, next): &(Caller, Next)) -> bool {
    !matches!(next, Next::Wait(_)) || caller.bell.0.load(Relaxed)
}

fn tokens(count: i64) -> Amounts {
    Amounts::of(usd("0"), count.unsigned_abs())
}

struct World {
    engine: Engine,
    callers: Vec<(Caller, Next)>,
    in_flight: Vec<Hold>,
    now: usize,
    let_in: usize,
    exhausted: usize,
}

impl World {
    fn new() -> Self {
        Self {
            engine: engine(json!({"rules": [
                {"name": "r", "window": "total", "limit": {"tokens": LIMIT}}]})),
            callers: Vec::new(),
            in_flight: Vec::new(),
            now: 0,
            let_in: 0,
            exhausted: 0,
        }
    }

    fn take(&mut self, step: &Step) {
        self.now += 1;
        match *step {
            Step::Arrive { whole, bends } => {
                let nobody = Labels::default();
                let matched = self.engine.matched(&subject(&nobody), NOW).unwrap();
                let caller = Caller {
                    whole,
                    bends,
                    bell: Arc::default(),
                    since: None,
                };
                self.callers.push((caller, Next::Look(matched)));
            },
            Step::GoOn(number) => {
                let able: Vec<_> = (0..self.callers.len())
                    .filter(|number| can_go_on(&self.callers[*number]))
                    .collect();
                if !able.is_empty() {
                    let (caller, next) = self.callers.remove(able[number % able.len()]);
                    self.go_on(caller, next);
                }
            },
            Step::End(number, percent) => {
                if !self.in_flight.is_empty() {
                    let hold = self.in_flight.remove(number % self.in_flight.len());
                    let most = hold.held().tokens.unwrap();
                    hold.settle(charge("0", most * percent.unsigned_abs() / 100));
                }
            },
        }
        self.holds();
    }

    fn go_on(&mut self, caller: Caller, next: Next) {
        match next {
            Next::Look(mut matched) => {
                let room = self.engine.room(&mut matched, tokens(caller.whole), NOW);
                let room = room.unwrap();
                let left = i64::try_from(room.left.tokens.unwrap()).unwrap();
                let (ask, only_waits) = if room.fits || !caller.bends {
                    (caller.whole, false)
                } else {
                    (left.max(LEAST), left < LEAST)
                };
                let wanted = Wanted {
                    amounts: tokens(ask),
                    only_waits,
                };
                self.callers.push((caller, Next::Ask(matched, wanted)));
            },
            Next::Ask(matched, wanted) => self.ask(caller, matched, wanted),
            Next::Wait(refused) => {
                let matched = refused.again().unwrap();
                self.callers.push((caller, Next::Look(matched)));
            },
        }
    }

    fn ask(&mut self, mut caller: Caller, matched: Matched, wanted: Wanted) {
        let nobody = Labels::default();
        let subject = subject(&nobody);
        let (spent, _) = stands(&self.engine, "", NOW);
        let mut refused = match self.engine.admit_sized(matched, wanted, &subject, NOW) {
            Ok(hold) => {
                assert!(!wanted.only_waits, "let in with less than it shall have");
                for (other, _) in &self.callers {
                    let in_front = other
                        .since
                        .is_some_and(|its| caller.since.is_none_or(|own| its < own));
                    assert!(!in_front, "it overtook one that came at {:?}", other.since);
                }
                self.let_in += 1;
                return self.in_flight.push(hold);
            },
            Err(Denied::Outdated(matched)) => {
                return self.callers.push((caller, Next::Look(matched)));
            },
            Err(Denied::Refused(refused)) => refused,
        };
        let reason = refused.refusal().reason;
        if let Some(wait) = refused.wait() {
            assert_eq!(reason, Reason::Busy);
            caller.since.get_or_insert(self.now);
            let waker = Waker::from(Arc::clone(&caller.bell));
            let waiting = pin!(wait.place).poll(&mut Context::from_waker(&waker));
            caller.bell.0.store(waiting.is_ready(), Relaxed);
            return self.callers.push((caller, Next::Wait(refused)));
        }
        assert_eq!(reason, Reason::Exhausted, "{:?}", refused.refusal());
        let least = caller.least();
        assert!(
            spent + least > LIMIT,
            "told exhausted at {spent}, though {least} would do"
        );
        self.exhausted += 1;
        let _told = self.engine.refuse(*refused, &subject, NOW);
    }

    /// What holds at all times.
    fn holds(&self) {
        let (spent, reserved) = stands(&self.engine, "", NOW);
        assert!(spent + reserved <= LIMIT, "{spent} + {reserved}");
        // Whoever is first in line has been woken if there is room for it.
        let waiting = self.callers.iter().filter(|(one, _)| one.since.is_some());
        if let Some(first) = waiting.min_by_key(|(one, _)| one.since) {
            let fits = spent + reserved + first.0.least() <= LIMIT;
            assert!(!fits || can_go_on(first), "it sleeps though there is room");
        }
    }

    /// Lets everything come to its end: whoever can get on does, then whoever is in flight ends.
    fn drain(&mut self) {
        loop {
            while self.callers.iter().any(can_go_on) {
                self.take(&Step::GoOn(0));
            }
            if self.in_flight.is_empty() {
                break;
            }
            self.take(&Step::End(0, 10));
        }
        assert!(self.callers.is_empty(), "somebody waits for ever");
        assert_eq!(self.engine.purse().counts().waiting, 0);
    }
}

proptest! {
    #[test]
    fn nobody_waits_for_ever_is_turned_away_in_vain_or_overtaken(steps in steps()) {
        let mut world = World::new();
        let mut arrived = 0;
        for step in &steps {
            arrived += usize::from(matches!(step, Step::Arrive { .. }));
            world.take(step);
        }
        world.drain();
        prop_assert_eq!(world.let_in + world.exhausted, arrived);
    }
}

#[test]
fn whoever_is_always_too_late_takes_a_place_in_the_line() {
    let engine = engine(json!({"rules": [
        {"name": "r", "window": "total", "limit": {"tokens": LIMIT}}]}));
    let nobody = Labels::default();
    let subject = subject(&nobody);
    let matched = || engine.matched(&subject, NOW).unwrap();
    let mut in_flight = vec![engine.admit(matched(), tokens(60), &subject, NOW).unwrap()];
    let mut slow = matched();
    let refused = (0..100).find_map(|_| {
        let room = engine.room(&mut slow, tokens(60), NOW).unwrap();
        let wanted = Wanted {
            amounts: tokens(i64::try_from(room.left.tokens.unwrap()).unwrap()),
            only_waits: false,
        };
        // Meanwhile somebody takes of it.
        in_flight.push(engine.admit(matched(), tokens(1), &subject, NOW).unwrap());
        match engine.admit_sized(
            std::mem::replace(&mut slow, matched()),
            wanted,
            &subject,
            NOW,
        ) {
            Ok(_) => panic!("there was no room"),
            Err(Denied::Outdated(again)) => {
                slow = again;
                None
            },
            Err(Denied::Refused(refused)) => Some(refused),
        }
    });
    let mut refused = refused.unwrap();
    assert_eq!(refused.refusal().reason, Reason::Busy);
    assert!(refused.wait().is_some());
    let others = engine.admit(matched(), tokens(1), &subject, NOW);
    assert_eq!(
        others.unwrap_err().refusal().reason,
        Reason::Busy,
        "it is behind"
    );
}

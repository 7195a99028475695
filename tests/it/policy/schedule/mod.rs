//! Random schedules of calls under every kind of rule, against a model that adds up slowly: with
//! changes by hand, a clock that steps both ways, calls that are stopped, and the process killed
//! between any two steps. (What of a killed process's last settlements is lost, and what is held for
//! answers to come, is tested beside the ledger.)

mod model;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;
use serde_json::{Map, json};
use tempfile::TempDir;
use tollgate::{
    base::clock::{Clock as _, TestClock},
    call::labels::Label,
    guard::{Kill, Kills, Selector},
    ledger::{self, Ledger},
    policy::Raise,
};

use self::model::{BEGIN, Cost, Limit, Model, budgets, rates};
use super::*;
use crate::ledger::crash;

#[derive(Clone, Debug)]
enum Step {
    Admit(u8, Cost),
    Grow(usize, u64),
    Settle(usize, Cost),
    Release(usize),
    Drop(usize),
    Wait(u64),
    /// The clock steps back.
    Back(u64),
    /// A rule by number, whose, by how much, and for how many seconds.
    Raise(usize, u8, i64, Option<u64>),
    Reset(usize, u8),
    /// The calls of a session are stopped by hand.
    Stop(u8),
    Lift(u8),
    /// The process is killed, and started again.
    Kill,
}

/// Rules with a limit in dollars, and those that can be reset besides.
const RULES: [&str; 6] = ["day", "hour", "run", "watch", "minute", "eye"];
const IN_USD: usize = 4;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let cost = || (0..20_i64, 0..60_u64, 0..40_u64);
    let times = || prop_oneof![0..3_u64, 20..70_u64, 600..4_000_u64, 40_000..90_000_u64];
    let step = prop_oneof![
        12 => (0..2_u8, cost()).prop_map(|(session, cost)| Step::Admit(session, cost)),
        4 => (any::<usize>(), 1..30_u64).prop_map(|(call, more)| Step::Grow(call, more)),
        8 => (any::<usize>(), cost()).prop_map(|(call, cost)| Step::Settle(call, cost)),
        2 => any::<usize>().prop_map(Step::Release),
        2 => any::<usize>().prop_map(Step::Drop),
        4 => times().prop_map(Step::Wait),
        2 => times().prop_map(Step::Back),
        2 => (0..IN_USD, 0..2_u8, 1..20_i64, prop::option::of(1..5_000_u64))
            .prop_map(|(rule, session, amount, until)| Step::Raise(rule, session, amount, until)),
        2 => (0..RULES.len(), 0..2_u8).prop_map(|(rule, session)| Step::Reset(rule, session)),
        1 => (0..2_u8).prop_map(Step::Stop),
        1 => (0..2_u8).prop_map(Step::Lift),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..40)
}

/// A call in flight.
struct Call {
    hold: Hold,
    session: u8,
    cost: Cost,
    /// The number of its first part.
    first: usize,
    /// Until when the request that it took can be given back.
    until: u64,
}

struct World {
    calls: Vec<Call>,
    engine: Engine,
    ledger: Ledger,
    dir: TempDir,
    clock: Arc<TestClock>,
    kills: Kills,
    model: Model,
    /// Kills that hold, by session.
    stopped: BTreeMap<u8, Box<str>>,
    /// Calls that were in flight at any kill.
    crashed: usize,
    /// Numbers changes by hand, which are told apart by what they say.
    changes: usize,
}

/// A process over the ledger in `dir`.
fn start(dir: &TempDir, clock: &Arc<TestClock>) -> (Ledger, ledger::Recovery, Engine) {
    let config = ledger::Config {
        path: dir.path().join("journal"),
        ..ledger::Config::default()
    };
    let own: Arc<TestClock> = Arc::clone(clock);
    let (ledger, recovery) = Ledger::open(&config, own).unwrap();
    let purse = Purse::new(ledger.journal(), 1_000);
    let rates = super::rates(rates());
    let engine = Engine::build(&config_of_budgets(), &rates, &[], &purse, None).unwrap();
    engine.recall_totals(clock.wall()).unwrap();
    (ledger, recovery, engine)
}

fn config_of_budgets() -> Config {
    config(budgets())
}

/// The name by which a rule is changed.
fn full(rule: &str, session: u8) -> String {
    match rule {
        "run" | "minute" | "eye" => format!("{rule}/session=s{session}"),
        _ => rule.to_owned(),
    }
}

impl World {
    fn new() -> Self {
        let (dir, clock) = (TempDir::new().unwrap(), Arc::new(TestClock::at(NOW)));
        let (ledger, _, engine) = start(&dir, &clock);
        Self {
            dir,
            clock,
            ledger,
            engine,
            kills: Kills::default(),
            model: Model::new(),
            calls: Vec::new(),
            stopped: BTreeMap::new(),
            crashed: 0,
            changes: 0,
        }
    }

    fn time(&self) -> Timestamp {
        self.clock.wall()
    }

    fn set(&mut self, now: u64) {
        self.model.set(now);
        self.clock.set(Timestamp::from_secs(now));
    }

    fn admit(&mut self, session: u8, mut cost: Cost) {
        let now = self.time();
        let labels = labels(&[(Label::Session, &format!("s{session}"))]);
        let subject = subject(&labels);
        let stopped = self.kills.stops(&subject, now).is_some();
        assert_eq!(stopped, self.stopped.contains_key(&session));
        if stopped {
            return; // Nobody is asked then.
        }
        self.model.open(Some(session));
        let mut matched = self.engine.matched(&subject, now).unwrap();
        let room = self.engine.room(&mut matched, asked(cost), now).unwrap();
        let model = &self.model;
        let stops = |limits: &mut Vec<usize>| limits.retain(|limit| model.limits[*limit].stops());
        let mut lacking = model.lacking(session, cost);
        stops(&mut lacking);
        assert_eq!(room.fits, lacking.is_empty(), "{cost:?}");
        let clamps = |limit: &usize| model.limits[*limit].may_clamp();
        assert_eq!(room.may_clamp, !room.fits && lacking.iter().all(clamps));
        let left = |unit| model.left(session, unit);
        let (usd, output) = (left("usd"), left("output_tokens").unsigned_abs());
        let (tokens, input) = (left("tokens"), left("input_tokens"));
        assert_eq!(room.left.usd, Some(Usd::from_nanos(usd)));
        assert_eq!(room.left.tokens, Some(tokens.unsigned_abs()));
        assert_eq!(room.left.input, Some(input.unsigned_abs()));
        assert_eq!(room.left.output, Some(output));
        if room.may_clamp {
            let most = tokens.unsigned_abs().saturating_sub(cost.1).min(output);
            let clamped = (cost.0.min(usd), cost.1, cost.2.min(most));
            if clamped.0 > 0 && clamped.2 > 0 {
                let mut lacking = model.lacking(session, clamped);
                stops(&mut lacking);
                assert!(lacking.is_empty(), "what is left is enough for {clamped:?}");
                cost = clamped;
            }
        }
        let lacking = model.lacking(session, cost);
        let (stop, watch): (Vec<_>, Vec<_>) = lacking
            .into_iter()
            .map(|limit| &model.limits[limit])
            .partition(|limit| limit.stops());
        let shadowed: BTreeSet<_> = watch.into_iter().map(|limit| limit.rule).collect();
        let fits = stop.is_empty();
        let request = fits.then(|| self.model.take_request(session)).flatten();
        let asked = self.engine.admit(matched, asked(cost), &subject, now);
        assert_eq!(asked.is_ok(), request.is_some(), "{cost:?}");
        match asked {
            Ok(hold) => {
                assert_eq!(hold.keep(), Ok(()));
                assert_eq!(hold.shadowed().collect::<BTreeSet<_>>(), shadowed);
                let first = self.model.hold(session, cost);
                self.calls.push(Call {
                    hold,
                    session,
                    cost,
                    first,
                    until: request.unwrap(),
                });
            },
            Err(refused) => drop(self.engine.refuse(*refused, &subject, now)),
        }
    }

    /// More output, and a nano-dollar for each token.
    fn grow(&mut self, call: usize, more: u64) {
        let Some(call) = call.checked_rem(self.calls.len()) else {
            return;
        };
        let cost = (i64::try_from(more).unwrap(), 0, more);
        let (now, call) = (self.time(), &mut self.calls[call]);
        let expected = self.model.may_grow(call.first, cost);
        assert_eq!(call.hold.grow(asked(cost), now).is_ok(), expected);
        for limit in (0..self.model.limits.len()).filter(|_| expected) {
            let by = self.model.limits[limit].grows_by(cost);
            self.model.parts[call.first + limit].reserved += by;
        }
    }

    /// Ends a call; what it held is charged by `charged`.
    fn end(&mut self, call: usize, end: impl Fn(Hold), charged: impl Fn(&Limit, i64) -> i64) {
        let call = self.calls.remove(call);
        end(call.hold);
        let parts = &mut self.model.parts[call.first..];
        for (limit, part) in self.model.limits.iter().zip(parts) {
            let reserved = std::mem::take(&mut part.reserved);
            part.spent = match limit.unit {
                "concurrent" => 0,
                _ => charged(limit, reserved),
            };
        }
    }

    fn settle(&mut self, call: usize, cost: Cost) {
        let end = |hold: Hold| drop(hold.settle(billed(cost)));
        self.end(call, end, |limit, _| (limit.of)(cost));
    }

    fn release(&mut self, call: usize) {
        let (session, until) = (self.calls[call].session, self.calls[call].until);
        self.model.give_request_back(session, until);
        self.end(call, Hold::release, |_, _| 0);
    }

    fn pick(&self, call: usize) -> Option<usize> {
        call.checked_rem(self.calls.len())
    }

    fn who(&mut self) -> String {
        self.changes += 1;
        format!("test {}", self.changes)
    }

    fn raise(&mut self, rule: &str, session: u8, amount: i64, length: Option<u64>) {
        let until = length.map(|length| self.model.now + length);
        let raise = Raise {
            amount,
            until: until.map(Timestamp::from_secs),
        };
        let (name, who) = (full(rule, session), self.who());
        self.model.open_rule(rule, session);
        self.engine.raise(&name, raise, &who, self.time()).unwrap();
        self.model.raise(rule, session, amount, until);
    }

    fn reset(&mut self, rule: &str, session: u8) {
        let (name, who) = (full(rule, session), self.who());
        self.model.open_rule(rule, session);
        self.engine.reset(&name, &who, self.time()).unwrap();
        self.model.reset(rule, session);
    }

    /// Calls of the session under way are cut, and cost half of what they asked for.
    fn stop(&mut self, session: u8) {
        let now = self.time();
        let mut calls = Map::new();
        calls.insert("session".to_owned(), json!(format!("s{session}")));
        let who = self.who();
        let kill = Kill::new(Selector::new(calls).unwrap(), (now, &who), "", None);
        if self.stopped.contains_key(&session) {
            return;
        }
        self.engine.purse().enter(&kill.order()).unwrap();
        self.stopped.insert(session, kill.id.clone());
        self.kills.add(Arc::new(kill), now).unwrap();
        let is_cut = |call: &Call| call.session == session;
        while let Some(call) = self.calls.iter().position(is_cut) {
            let (usd, input, output) = self.calls[call].cost;
            self.settle(call, (usd / 2, input, output / 2));
        }
    }

    fn lift(&mut self, session: u8) {
        let Some(id) = self.stopped.remove(&session) else {
            return;
        };
        let (now, who, purse) = (self.time(), self.who(), self.engine.purse());
        let lifted = self.kills.lift(&id, now, |kill| {
            purse.enter(&tollgate::policy::Order {
                at: now,
                who: who.into_boxed_str(),
                kill: kill.id.clone(),
                ordered: None,
            })
        });
        assert_eq!(lifted.unwrap().unwrap().id, id);
    }

    fn kill(&mut self) {
        self.ledger.writing_down()();
        let dir = TempDir::new().unwrap();
        crash(self.dir.path(), dir.path());
        let (ledger, recovery, engine) = start(&dir, &self.clock);
        self.crashed += self.calls.len();
        assert_eq!(recovery.crashed.len(), self.crashed);
        assert_eq!(recovery.torn, 0);
        let kills: BTreeSet<_> = recovery.kills.iter().map(|order| &order.kill).collect();
        assert_eq!(kills, self.stopped.values().collect());
        self.kills = Kills::default();
        for order in &recovery.kills {
            let kill = Kill::ordered(order).unwrap();
            self.kills.add(Arc::new(kill), self.time()).unwrap();
        }
        self.calls.clear();
        self.engine = engine;
        self.ledger = ledger;
        self.dir = dir;
        self.model.restart();
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Admit(session, cost) => self.admit(session, cost),
            Step::Grow(call, more) => self.grow(call, more),
            Step::Settle(call, cost) => {
                if let Some(call) = self.pick(call) {
                    self.settle(call, cost);
                }
            },
            Step::Release(call) => {
                if let Some(call) = self.pick(call) {
                    self.release(call);
                }
            },
            Step::Drop(call) => {
                if let Some(call) = self.pick(call) {
                    self.end(call, drop, |_, held| held);
                }
            },
            Step::Wait(seconds) => self.set(self.model.now + seconds),
            Step::Back(seconds) => self.set((self.model.now - seconds).max(BEGIN - 200_000)),
            Step::Raise(rule, session, amount, length) => {
                self.raise(RULES[rule], session, amount, length);
            },
            Step::Reset(rule, session) => self.reset(RULES[rule], session),
            Step::Stop(session) => self.stop(session),
            Step::Lift(session) => self.lift(session),
            Step::Kill => self.kill(),
        }
    }

    /// Every budget that is listed is as the model has it.
    fn check(&self, step: &Step) {
        let (now, model) = (self.time(), &self.model);
        // A clock that steps back leads to windows which no call has touched since the start.
        self.engine.recall_totals(now).unwrap();
        let listed = self
            .engine
            .budgets(&self.engine.purse().standings(now), &[], now);
        let common = |limit: &&Limit| limit.is_kept() && !limit.is_per_session();
        let common = model.limits.iter().filter(common).count();
        assert!(listed.len() >= common, "{listed:?}");
        for budget in listed {
            let is_it =
                |limit: &Limit| *limit.rule == *budget.name && limit.unit == budget.unit.name();
            let limit = model.limits.iter().position(is_it).unwrap();
            let whose = budget
                .values
                .strip_prefix("session=s")
                .map(|session| session.parse().unwrap());
            let window = model.window(limit);
            let (spent, reserved) = model.sums(limit, whose, window);
            let most = model.most(limit, whose, window);
            assert_eq!(
                (budget.spent, budget.reserved, budget.limit),
                (spent, reserved, most),
                "{} {} {} after {step:?}",
                budget.name,
                budget.values,
                budget.unit.name()
            );
            // limit = spent + reserved + free - overrun
            assert_eq!(budget.remaining, (most - spent - reserved).max(0));
        }
    }
}

fn asked((usd, input, output): Cost) -> Amounts {
    Amounts {
        usd: Some(Usd::from_nanos(usd)),
        tokens: Some(input + output),
        input: Some(input),
        output: Some(output),
    }
}

fn billed((usd, input, output): Cost) -> Charge {
    let usd = Some(Usd::from_nanos(usd));
    Charge::of(usd, input, output, UsageSource::Reported)
}

proptest! {
    #![proptest_config(ProptestConfig {
        // Each case starts the ledger several times.
        cases: ProptestConfig::default().cases / 4,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_kind_of_rule_holds_and_nothing_is_lost_whatever_the_order(steps in steps()) {
        go(&steps);
    }
}

/// The ledger recalls of a rolling window what is in it at the start.
#[test]
fn a_raise_that_had_left_its_window_at_the_start_does_not_come_back_with_the_clock() {
    let window = 60 * 60;
    for wait in [window - 1, window, window + 60, 40_000] {
        let raise = Step::Raise(1, 0, 1, None);
        go(&[raise, Step::Wait(wait), Step::Kill, Step::Back(wait)]);
    }
}

fn go(steps: &[Step]) {
    let mut world = World::new();
    for step in steps {
        world.take(step);
        world.check(step);
    }
    while !world.calls.is_empty() {
        let step = Step::Drop(0);
        world.take(&step);
        world.check(&step);
    }
    // The books, made anew from the files, say the same and prove it.
    world.take(&Step::Kill);
    world.check(&Step::Kill);
    crate::ledger::view(world.dir.path()).verify().unwrap();
}

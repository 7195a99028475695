//! Random schedules of calls under every kind of rule, against a model that adds up slowly.
//! (What a killed process leaves behind is tested beside the ledger.)

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use tollgate::{call::labels::Label, policy::Raise};

use super::*;

/// US dollars (in nano-dollars), input and output tokens.
type Cost = (i64, u64, u64);

#[derive(Clone, Debug)]
enum Step {
    Admit(u8, Cost),
    Grow(usize, u64),
    Settle(usize, Cost),
    Release(usize),
    Drop(usize),
    Wait(u64),
    Raise(i64),
    Reset,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let cost = || (0..20_i64, 0..60_u64, 0..40_u64);
    let step = prop_oneof![
        6 => (0..2_u8, cost()).prop_map(|(session, cost)| Step::Admit(session, cost)),
        2 => (any::<usize>(), 1..30_u64).prop_map(|(call, more)| Step::Grow(call, more)),
        4 => (any::<usize>(), cost()).prop_map(|(call, cost)| Step::Settle(call, cost)),
        1 => any::<usize>().prop_map(Step::Release),
        1 => any::<usize>().prop_map(Step::Drop),
        2 => prop_oneof![0..3_u64, 20..70_u64, 600..4_000_u64, 40_000..90_000_u64]
            .prop_map(Step::Wait),
        1 => (1..20_i64).prop_map(Step::Raise),
        1 => Just(Step::Reset),
    ];
    prop::collection::vec(step, 1..40)
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Day,
    Total,
    /// The length of a cell in seconds.
    Rolling(u64),
    Gauge,
}

/// One limit: what it counts of a cost, how long, how much, and whether it stops calls.
struct Limit {
    rule: &'static str,
    unit: &'static str,
    kind: Kind,
    most: i64,
    stops: bool,
    of: fn(Cost) -> i64,
}

const fn limit(
    rule: &'static str,
    unit: &'static str,
    kind: Kind,
    most: i64,
    of: fn(Cost) -> i64,
) -> Limit {
    Limit {
        rule,
        unit,
        kind,
        most,
        stops: true,
        of,
    }
}

fn usd((usd, ..): Cost) -> i64 {
    usd
}
fn tokens((_, input, output): Cost) -> i64 {
    i64::try_from(input + output).unwrap()
}
fn input((_, input, _): Cost) -> i64 {
    i64::try_from(input).unwrap()
}
fn output((.., output): Cost) -> i64 {
    i64::try_from(output).unwrap()
}
fn one(_: Cost) -> i64 {
    1
}

fn limits() -> Vec<Limit> {
    let mut limits = vec![
        limit("day", "usd", Kind::Day, 60, usd),
        limit("day", "tokens", Kind::Day, 500, tokens),
        limit("day", "input_tokens", Kind::Day, 300, input),
        limit("day", "output_tokens", Kind::Day, 250, output),
        limit("day", "requests", Kind::Day, 12, one),
        limit("hour", "tokens", Kind::Rolling(60), 350, tokens),
        limit("run", "usd", Kind::Total, 45, usd),
        limit("watch", "usd", Kind::Day, 5, usd),
        limit("rate", "tokens", Kind::Rolling(1), 220, tokens),
        limit("rate", "output_tokens", Kind::Rolling(1), 120, output),
        limit("rate", "concurrent", Kind::Gauge, 4, one),
    ];
    limits[7].stops = false;
    limits
}

/// What a call has in one counter: of a limit, for a session where that counts, in a window.
struct Part {
    limit: usize,
    session: Option<u8>,
    window: u64,
    cell: u64,
    spent: i64,
    reserved: i64,
}

struct World {
    engine: Engine,
    limits: Vec<Limit>,
    parts: Vec<Part>,
    raises: Vec<(u64, i64)>,
    /// Holds with the numbers of their first parts.
    calls: Vec<(Hold, usize)>,
    now: u64,
}

const BEGIN: u64 = NOW.as_secs();

impl World {
    fn new() -> Self {
        let purse = Purse::new(Arc::new(Memory), 1_000);
        let budgets = config(json!({"max_wait": 0, "rules": [
            {"name": "day", "window": "day", "limit": {"usd": "0.000000060", "tokens": 500,
                "input_tokens": 300, "output_tokens": 250, "requests": 12}},
            {"name": "hour", "window": "1h", "limit": {"tokens": 350}, "on_exhausted": "clamp"},
            {"name": "run", "window": "total", "per": ["session"],
                "limit": {"usd": "0.000000045"}},
            {"name": "watch", "window": "day", "limit": {"usd": "0.000000005"},
                "on_exhausted": "shadow"}]}));
        let rates = rates(json!([{"name": "rate", "tokens_per_minute": 220,
            "output_tokens_per_minute": 120, "concurrent": 4}]));
        let engine = Engine::build(&budgets, &rates, &[], &purse, None).unwrap();
        engine.purse().standings(NOW);
        Self {
            engine,
            limits: limits(),
            parts: Vec::new(),
            raises: Vec::new(),
            calls: Vec::new(),
            now: BEGIN,
        }
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_secs(self.now)
    }

    fn cell(&self, limit: usize) -> u64 {
        match self.limits[limit].kind {
            Kind::Rolling(1) => self.now - BEGIN,
            Kind::Rolling(width) => self.now / width,
            _ => 0,
        }
    }

    fn window(&self, limit: usize) -> u64 {
        match self.limits[limit].kind {
            Kind::Day => self.now / 86_400,
            _ => 0,
        }
    }

    fn session(&self, limit: usize, session: u8) -> Option<u8> {
        (self.limits[limit].rule == "run").then_some(session)
    }

    /// (spent, reserved) of a counter.
    fn sums(&self, limit: usize, session: Option<u8>, window: u64) -> (i64, i64) {
        let now = self.cell(limit);
        let own = self.parts.iter().filter(|part| {
            part.limit == limit
                && part.session == session
                && part.window == window
                && now - part.cell < 60
        });
        own.fold((0, 0), |(spent, reserved), part| {
            (spent + part.spent, reserved + part.reserved)
        })
    }

    fn most(&self, limit: usize, window: u64) -> i64 {
        let is_raised = |raised: u64| limit == 0 && raised == window;
        let raises = self.raises.iter().filter(|(raised, _)| is_raised(*raised));
        self.limits[limit].most + raises.map(|(_, amount)| amount).sum::<i64>()
    }

    fn fits(&self, limit: usize, session: Option<u8>, window: u64, ask: i64) -> bool {
        let (spent, reserved) = self.sums(limit, session, window);
        let most = self.most(limit, window);
        !self.limits[limit].stops || spent + reserved + ask.max(1) <= most
    }

    fn admit(&mut self, session: u8, cost: Cost) {
        let expected = (0..self.limits.len()).all(|limit| {
            let (own, window) = (self.session(limit, session), self.window(limit));
            self.fits(limit, own, window, (self.limits[limit].of)(cost))
        });
        let labels = labels(&[(Label::Session, &format!("s{session}"))]);
        let subject = subject(&labels);
        let matched = self.engine.matched(&subject, self.time()).unwrap();
        let asked = self
            .engine
            .admit(matched, asked(cost), &subject, self.time());
        assert_eq!(asked.is_ok(), expected, "{cost:?}");
        let Ok(hold) = asked else {
            return;
        };
        self.calls.push((hold, self.parts.len()));
        for limit in 0..self.limits.len() {
            self.parts.push(Part {
                limit,
                session: self.session(limit, session),
                window: self.window(limit),
                cell: self.cell(limit),
                spent: 0,
                reserved: (self.limits[limit].of)(cost),
            });
        }
    }

    /// More output, and a nano-dollar for each token.
    fn grow(&mut self, call: usize, more: u64) {
        let Some(call) = call.checked_rem(self.calls.len()) else {
            return;
        };
        let cost = (i64::try_from(more).unwrap(), 0, more);
        let first = self.calls[call].1;
        let by = |limit: usize| match self.limits[limit].unit {
            "requests" | "concurrent" => 0,
            _ => (self.limits[limit].of)(cost),
        };
        let expected = (0..self.limits.len()).all(|limit| {
            let part = &self.parts[first + limit];
            by(limit) == 0 || self.fits(limit, part.session, part.window, by(limit))
        });
        let by: Vec<i64> = (0..self.limits.len()).map(by).collect();
        let now = self.time();
        let grown = self.calls[call].0.grow(asked(cost), now).is_ok();
        assert_eq!(grown, expected);
        for (limit, by) in by.into_iter().enumerate().filter(|_| grown) {
            self.parts[first + limit].reserved += by;
        }
    }

    /// Ends a call; what it held is charged by `charged`.
    fn end(&mut self, call: usize, end: impl Fn(Hold), charged: impl Fn(&Limit, i64) -> i64) {
        let Some(call) = call.checked_rem(self.calls.len()) else {
            return;
        };
        let (hold, first) = self.calls.remove(call);
        end(hold);
        for (limit, part) in self.limits.iter().zip(&mut self.parts[first..]) {
            let reserved = std::mem::take(&mut part.reserved);
            part.spent = match limit.kind {
                Kind::Gauge => 0,
                _ => charged(limit, reserved),
            };
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Admit(session, cost) => self.admit(session, cost),
            Step::Grow(call, more) => self.grow(call, more),
            Step::Settle(call, cost) => {
                let end = |hold: Hold| drop(hold.settle(billed(cost)));
                self.end(call, end, |limit, _| (limit.of)(cost));
            },
            Step::Release(call) => self.end(call, Hold::release, |_, _| 0),
            Step::Drop(call) => self.end(call, drop, |_, held| held),
            Step::Wait(seconds) => self.now += seconds,
            Step::Raise(amount) => {
                let raise = Raise {
                    amount,
                    until: None,
                };
                self.engine
                    .raise("day", raise, "test", self.time())
                    .unwrap();
                self.raises.push((self.window(0), amount));
            },
            Step::Reset => {
                self.engine.reset("day", "test", self.time()).unwrap();
                let today = self.window(0);
                let is_todays = |part: &&mut Part| part.limit < 5 && part.window == today;
                self.parts
                    .iter_mut()
                    .filter(is_todays)
                    .for_each(|part| part.spent = 0);
            },
        }
    }

    /// Every budget that is listed is as the model has it.
    fn check(&self, step: &Step) {
        let now = self.time();
        let listed = self
            .engine
            .budgets(&self.engine.purse().standings(now), &[], now);
        assert!(listed.len() >= 7, "{listed:?}");
        for budget in listed {
            let is_it =
                |limit: &Limit| *limit.rule == *budget.name && limit.unit == budget.unit.name();
            let limit = self.limits.iter().position(is_it).unwrap();
            let session = budget
                .values
                .strip_prefix("session=s")
                .map(|s| s.parse().unwrap());
            let (spent, reserved) = self.sums(limit, session, self.window(limit));
            let most = self.most(limit, self.window(limit));
            assert_eq!(
                (budget.spent, budget.reserved, budget.limit),
                (spent, reserved, most),
                "{} {} after {step:?}",
                budget.name,
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
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_kind_of_rule_holds_and_nothing_is_lost_whatever_the_order(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            world.check(step);
        }
        while !world.calls.is_empty() {
            let step = Step::Drop(0);
            world.take(&step);
            world.check(&step);
        }
        world.engine.tidy(world.time() + Duration::from_hours(2));
    }
}

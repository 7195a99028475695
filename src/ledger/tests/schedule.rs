//! Random schedules of calls, with the process killed between any two steps.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Admit(i64),
    Grow(usize, i64),
    Settle(usize, i64),
    /// Its answer will be fetched later.
    Await(usize),
    Drop(usize),
    Release(usize),
    Flush,
    Rotate,
    Checkpoint,
    Remove,
    /// The process is killed here, and started again.
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..40_i64).prop_map(Step::Admit),
        2 => (any::<usize>(), 1..20_i64).prop_map(|(call, by)| Step::Grow(call, by)),
        3 => (any::<usize>(), 0..50_i64).prop_map(|(call, cost)| Step::Settle(call, cost)),
        2 => any::<usize>().prop_map(Step::Await),
        1 => any::<usize>().prop_map(Step::Drop),
        1 => any::<usize>().prop_map(Step::Release),
        1 => Just(Step::Flush),
        1 => Just(Step::Rotate),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Remove),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..24)
}

/// What a call holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    amount: i64,
    /// It goes on holding it when the process is killed.
    awaited: bool,
}

/// The truth: what was spent, what is held, and how much of it would survive.
#[derive(Default)]
struct Model {
    spent: i64,
    /// Held by calls in flight, in the order of the rig's.
    held: Vec<Held>,
    /// Settled at so much, but only noted. Lost, such a call counts at what it held.
    noted: Vec<(Held, i64)>,
}

impl Model {
    fn held(&self) -> i64 {
        self.held.iter().map(|held| held.amount).sum()
    }

    fn used(&self) -> i64 {
        self.spent + self.held()
    }

    fn settled(&mut self, held: Held, charged: i64) {
        self.spent += charged;
        self.noted.push((held, charged));
        if charged > held.amount {
            self.noted.clear(); // Such a one is written at once, and with it all before it.
        }
    }

    /// Calls in flight as a start would find them, if the process is killed now.
    fn open(&self) -> Vec<Held> {
        let lost = self.noted.iter().map(|(held, _)| held);
        self.held.iter().chain(lost).copied().collect()
    }

    /// What a start finds as (spent, reserved), if the process is killed now.
    fn after_kill(&self) -> (i64, i64) {
        let undone: i64 = self.noted.iter().map(|(_, charged)| charged).sum();
        let sum = |awaited| {
            let open = self.open().into_iter();
            let of = open.filter(|held| held.awaited == awaited);
            of.map(|held| held.amount).sum::<i64>()
        };
        (self.spent - undone + sum(false), sum(true))
    }
}

/// The rig, its calls in flight, and what is true of them.
struct World {
    rig: Rig,
    calls: Vec<Hold>,
    model: Model,
}

impl World {
    /// Takes a call out of those in flight: its hold, and how much that is.
    fn pick(&mut self, call: usize) -> Option<(Hold, Held)> {
        let call = call.checked_rem(self.calls.len())?;
        Some((self.calls.remove(call), self.model.held.remove(call)))
    }

    fn admit(&mut self, tokens: i64) {
        let hold = self.rig.admit(tokens);
        assert_eq!(hold.is_some(), self.model.used() + tokens <= LIMIT);
        if let Some(hold) = hold {
            self.put(hold, tokens, false);
            self.model.noted.clear();
        }
    }

    fn put(&mut self, hold: Hold, amount: i64, awaited: bool) {
        self.calls.push(hold);
        self.model.held.push(Held { amount, awaited });
    }

    fn grow(&mut self, number: usize, by: i64) {
        let Some((mut call, held)) = self.pick(number) else {
            return;
        };
        if held.awaited {
            return self.put(call, held.amount, true); // It is over but for its answer.
        }
        let grown = call.grow(asked(by), NOW).is_ok();
        assert_eq!(grown, self.model.used() + held.amount + by <= LIMIT);
        if grown {
            self.model.noted.clear();
        }
        self.put(call, held.amount + if grown { by } else { 0 }, false);
    }

    fn await_one(&mut self, number: usize) {
        if let Some((mut call, held)) = self.pick(number) {
            if !held.awaited {
                call.await_response("openai", "resp_1");
                self.model.noted.clear();
            }
            self.put(call, held.amount, true);
        }
    }

    fn kill(&mut self) {
        let (spent, reserved) = self.model.after_kill();
        let open = self.model.open();
        let (mut rig, recovery) = rig(self.rig.files());
        let crashed = open.iter().filter(|held| !held.awaited).count();
        assert_eq!(recovery.crashed.len(), crashed);
        assert_eq!(recovery.awaited.len(), open.len() - crashed);
        assert_eq!(recovery.torn, 0);
        rig.keeper.reported().store(true, Relaxed);
        rig.keeper.remove();
        let calls = std::mem::take(&mut rig.awaited);
        let amount = |call: &Hold| i64::try_from(call.held().tokens.unwrap()).unwrap();
        let held = calls.iter().map(|call| Held {
            amount: amount(call),
            awaited: true,
        });
        let model = Model {
            spent,
            held: held.collect(),
            noted: Vec::new(),
        };
        assert_eq!(model.held(), reserved);
        *self = Self { rig, calls, model };
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Admit(tokens) => self.admit(tokens),
            Step::Grow(call, by) => self.grow(call, by),
            Step::Settle(call, tokens) => {
                if let Some((hold, was)) = self.pick(call) {
                    hold.settle(cost(tokens));
                    self.model.settled(was, tokens);
                }
            },
            Step::Await(call) => self.await_one(call),
            Step::Drop(call) => {
                if let Some((hold, was)) = self.pick(call) {
                    if was.awaited {
                        hold.charge_in_full();
                    } else {
                        drop(hold);
                    }
                    self.model.settled(was, was.amount);
                }
            },
            Step::Release(call) => {
                if let Some((hold, was)) = self.pick(call) {
                    hold.release();
                    self.model.settled(was, 0);
                }
            },
            Step::Flush => self.flush(u64::MAX),
            Step::Rotate => self.flush(0),
            Step::Checkpoint => {
                self.rig.post(u64::MAX);
                self.model.noted.clear();
            },
            Step::Remove => self.rig.keeper.remove(),
            Step::Kill => self.kill(),
        }
    }

    fn flush(&mut self, longest: u64) {
        self.rig.journal.flush(longest);
        self.model.noted.clear();
    }

    fn check(&self, step: Step) {
        for standing in self.rig.engine.purse().standings(NOW) {
            let stands = (standing.spent, standing.reserved);
            let (spent, held) = (self.model.spent, self.model.held());
            assert_eq!(stands, (spent, held), "after {step:?}");
        }
        let files = self.rig.files();
        self.check_view(files.path(), step);
        let (killed, _) = rig(files);
        assert_eq!(
            killed.stands(),
            self.model.after_kill(),
            "killed after {step:?}"
        );
    }

    /// What others read in the files: until a start settles them, all open calls hold.
    fn check_view(&self, files: &Path, step: Step) {
        let standings = View::open(files).unwrap().standings(NOW).unwrap();
        let undone: i64 = self.model.noted.iter().map(|(_, charged)| charged).sum();
        let held: i64 = self.model.open().iter().map(|held| held.amount).sum();
        for standing in standings {
            let stands = (standing.spent, standing.reserved);
            assert_eq!(
                stands,
                (self.model.spent - undone, held),
                "seen after {step:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_kill_between_any_two_steps_charges_what_was_spent_or_held_and_keeps_what_is_awaited(steps in steps()) {
        let mut world = World {
            rig: rig(TempDir::new().unwrap()).0,
            calls: Vec::new(),
            model: Model::default(),
        };
        for step in steps {
            world.take(step);
            world.check(step);
        }
        let (spent, held) = (world.model.spent, world.model.held());
        while !world.calls.is_empty() {
            world.take(Step::Drop(0));
        }
        world.take(Step::Checkpoint);
        let (again, recovery) = rig(world.rig.files());
        assert_eq!(again.stands(), (spent + held, 0));
        assert!(recovery.awaited.is_empty() && recovery.crashed.is_empty());
        View::open(world.rig.dir.path()).unwrap().verify().unwrap();
    }
}

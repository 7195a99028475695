//! Random schedules of calls, with the process killed between any two steps.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Admit(i64),
    Grow(usize, i64),
    Settle(usize, i64),
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

/// The truth: what was spent, what is held, and how much of it would survive.
#[derive(Default)]
struct Model {
    spent: i64,
    /// Held by calls in flight, in the order of the rig's.
    held: Vec<i64>,
    /// Settled, but only noted: (held, charged). Lost, such a call counts at what it held.
    noted: Vec<(i64, i64)>,
}

impl Model {
    fn used(&self) -> i64 {
        self.spent + self.held.iter().sum::<i64>()
    }

    fn settled(&mut self, held: i64, charged: i64) {
        self.spent += charged;
        self.noted.push((held, charged));
        if charged > held {
            self.noted.clear(); // Such a one is written at once, and with it all before it.
        }
    }

    /// What a start finds as spent, if the process is killed now.
    fn after_kill(&self) -> i64 {
        let lost: i64 = self
            .noted
            .iter()
            .map(|(held, charged)| held - charged)
            .sum();
        self.used() + lost
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
    fn pick(&mut self, call: usize) -> Option<(Hold, i64)> {
        let call = call.checked_rem(self.calls.len())?;
        Some((self.calls.remove(call), self.model.held.remove(call)))
    }

    fn admit(&mut self, tokens: i64) {
        let hold = self.rig.admit(tokens);
        assert_eq!(hold.is_some(), self.model.used() + tokens <= LIMIT);
        if let Some(hold) = hold {
            self.calls.push(hold);
            self.model.held.push(tokens);
            self.model.noted.clear();
        }
    }

    fn grow(&mut self, number: usize, by: i64) {
        let Some((mut call, held)) = self.pick(number) else {
            return;
        };
        let grown = call.grow(asked(by), NOW).is_ok();
        assert_eq!(grown, self.model.used() + held + by <= LIMIT);
        if grown {
            self.model.noted.clear();
        }
        self.calls.push(call);
        self.model.held.push(if grown { held + by } else { held });
    }

    fn kill(&mut self) {
        let spent = self.model.after_kill();
        let in_flight = self.calls.len() + self.model.noted.len();
        let (mut rig, recovery) = rig(self.rig.files());
        assert_eq!(recovery.crashed.len(), in_flight);
        assert_eq!(recovery.damaged, 0);
        rig.keeper.reported().store(true, Relaxed);
        rig.keeper.remove();
        *self = Self {
            rig,
            calls: Vec::new(),
            model: Model {
                spent,
                ..Model::default()
            },
        };
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
            Step::Drop(call) => {
                if let Some((hold, was)) = self.pick(call) {
                    drop(hold);
                    self.model.settled(was, was);
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
                let mark = self.rig.journal.flush(u64::MAX);
                self.rig.keeper.checkpoint(&mark);
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
        let held: i64 = self.model.held.iter().sum();
        for standing in self.rig.engine.purse().standings() {
            let stands = (standing.spent, standing.reserved);
            assert_eq!(stands, (self.model.spent, held), "after {step:?}");
        }
        let (killed, _) = rig(self.rig.files());
        let found = killed.stands();
        assert_eq!(found, (self.model.after_kill(), 0), "killed after {step:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_kill_between_any_two_steps_charges_what_was_spent_and_what_was_held(steps in steps()) {
        let mut world = World {
            rig: rig(TempDir::new().unwrap()).0,
            calls: Vec::new(),
            model: Model::default(),
        };
        for step in steps {
            world.take(step);
            world.check(step);
        }
        world.calls.clear();
        world.take(Step::Checkpoint);
        View::open(world.rig.dir.path()).unwrap().verify().unwrap();
    }
}

//! Thresholds are told of once a window, though the process is killed between any two steps.

use super::*;
use crate::policy::{Crossing, Level, Told};

fn levels(crossings: &[Crossing]) -> Vec<Level> {
    crossings.iter().map(|crossing| crossing.level).collect()
}

/// What a start tells of that finds what `rig` leaves behind when it is killed now; and the start.
fn killed(rig: &Rig) -> (Rig, Vec<Level>) {
    killed_under(rig, LIMIT)
}

/// As [`killed`], where the start finds another limit.
fn killed_under(rig: &Rig, limit: i64) -> (Rig, Vec<Level>) {
    let (next, recovery) = rig_of(rig.files(), limit);
    let charged: Vec<_> = recovery.charged.into_iter().collect();
    let untold = next.engine.untold(&charged, NOW).unwrap();
    for crossing in &untold {
        next.engine.purse().told(crossing);
    }
    (next, levels(&untold))
}

/// Its books, beside the keeper.
fn books(rig: &Rig) -> Books {
    Books::open(&books_in(rig.dir.path())).unwrap()
}

/// Each of the rig's three rules.
fn three(level: Level) -> Vec<Level> {
    vec![level; 3]
}

#[test]
fn a_crossing_is_told_once_wherever_the_process_is_killed() {
    // Whether the keeper moves the journal into the books before each step, or never does.
    for posts in [false, true] {
        let fresh = || rig(TempDir::new().unwrap()).0;
        let step = |rig: &mut Rig| {
            if posts {
                rig.post(0);
            }
        };
        let once = |rig: &Rig, level| {
            let (next, told) = killed(rig);
            assert_eq!(told, three(level), "{posts}");
            // It is told, and a further kill changes nothing.
            let (mut next, told) = killed(&next);
            assert_eq!(told, [], "{posts}");
            step(&mut next);
            let (next, told) = killed(&next);
            assert_eq!(told, [], "{posts}");
            // The next threshold is another.
            let crossings = next.admit(95 - next.stands().0).unwrap().charge_in_full();
            assert_eq!(levels(&crossings), three(Level::Critical), "{posts}");
        };
        // In flight: a start charges what it held.
        let mut rig = fresh();
        let hold = rig.admit(80).unwrap();
        step(&mut rig);
        once(&rig, Level::Warning);
        // Settled, the settlement lost, or written, and nobody told.
        let crossings = hold.settle(cost(78));
        assert_eq!(levels(&crossings), three(Level::Warning));
        once(&rig, Level::Warning);
        rig.journal.flush(u64::MAX);
        once(&rig, Level::Warning);
        // Told, and written so.
        let crossings: Vec<Crossing> = crossings;
        for crossing in &crossings {
            rig.engine.purse().told(crossing);
        }
        for _step in 0..3 {
            let (next, told) = killed(&rig);
            assert_eq!(told, [], "{posts}");
            assert_eq!(next.stands().0, 78);
            let crossings = next.admit(1).unwrap().charge_in_full();
            assert_eq!(levels(&crossings), [], "{posts}");
            rig.post(0);
        }
        // A reset and what is spent after it cross nothing that was told.
        let (next, _) = killed(&rig);
        next.engine.reset("day", "ada", NOW).unwrap();
        let (next, told) = killed(&next);
        assert_eq!(told, []);
        next.admit(20).unwrap().release();
        assert_eq!(books(&rig).verify().unwrap().entries, 1);
    }
}

#[test]
fn what_a_reset_brings_under_a_threshold_is_told_anew_also_after_a_restart() {
    for posts in [false, true] {
        for resets in [false, true] {
            let (mut rig, _) = rig(TempDir::new().unwrap());
            let crossings = rig.admit(80).unwrap().charge_in_full();
            assert_eq!(levels(&crossings), three(Level::Warning));
            for crossing in &crossings {
                rig.engine.purse().told(crossing);
            }
            for rule in ["day", "six", "all"] {
                if resets {
                    rig.engine.reset(rule, "ada", NOW).unwrap();
                }
            }
            if posts {
                rig.post(0);
            }
            let (next, told) = killed(&rig);
            assert_eq!(told, []);
            let again = if resets {
                let crossings = next.admit(80).unwrap().charge_in_full();
                // Nobody is told before it is killed.
                assert_eq!(levels(&crossings), three(Level::Warning));
                three(Level::Warning)
            } else {
                assert_eq!(levels(&next.admit(1).unwrap().charge_in_full()), []);
                Vec::new()
            };
            let (_, told) = killed(&next);
            assert_eq!(told, again, "{posts} {resets}");
        }
    }
}

/// The rig's rules with another limit, over the same counters.
fn edited(rig: &Rig, limit: i64) -> Engine {
    let rules = rules(limit);
    let before = Some(&rig.engine);
    Engine::build(&rules, &[], &[], rig.engine.purse(), before).unwrap()
}

#[test]
fn what_another_limit_brings_under_a_threshold_is_told_anew_also_after_a_restart() {
    for (posts, asks) in [(false, false), (false, true), (true, false), (true, true)] {
        let (mut rig, _) = rig(TempDir::new().unwrap());
        for crossing in rig.admit(80).unwrap().charge_in_full() {
            rig.engine.purse().told(&crossing);
        }
        // Whether a call is asked for under the other limit before the process is killed.
        if asks {
            rig.engine = edited(&rig, 200);
            assert_eq!(rig.stands(), (80, 0));
        }
        if posts {
            rig.post(0);
        }
        let (next, told) = killed_under(&rig, 200);
        assert_eq!(told, []);
        let mut crossings = next.admit(69).unwrap().charge_in_full();
        assert_eq!(levels(&crossings), []);
        crossings = next.admit(1).unwrap().charge_in_full();
        // What is under its threshold without that may be so since amounts have left the window.
        let rolling = crossings.iter().any(|crossing| &*crossing.rule == "six");
        assert_eq!(rolling, asks, "{posts}");
        crossings.retain(|crossing| &*crossing.rule != "six");
        assert_eq!(levels(&crossings), [Level::Warning; 2], "{posts} {asks}");
    }
}

#[test]
fn what_was_told_of_last_is_kept_also_where_the_clock_has_stepped_back() {
    let earlier = NOW - std::time::Duration::from_secs(10);
    for resets in [false, true] {
        let (mut rig, _) = rig(TempDir::new().unwrap());
        let tell = |crossings: &[Crossing], level| {
            assert_eq!(levels(crossings), three(level));
            for crossing in crossings {
                rig.engine.purse().told(crossing);
            }
        };
        tell(&rig.admit(80).unwrap().charge_in_full(), Level::Warning);
        let hold = rig.admit(15).unwrap();
        // What settles now does so in the past.
        rig.engine.purse().standings(earlier);
        if resets {
            hold.release();
            for rule in ["day", "six", "all"] {
                rig.engine.reset(rule, "ada", earlier).unwrap();
            }
        } else {
            tell(&hold.charge_in_full(), Level::Critical);
        }
        rig.post(0);
        let (next, told) = killed(&rig);
        assert_eq!(told, []);
        let again = if resets {
            three(Level::Warning)
        } else {
            Vec::new()
        };
        let spent = if resets { 80 } else { 1 };
        let crossings = next.admit(spent).unwrap().charge_in_full();
        assert_eq!(levels(&crossings), again, "{resets}");
    }
}

#[test]
fn of_what_was_told_in_one_instant_the_last_is_the_latest() {
    let (rig, _) = rig(TempDir::new().unwrap());
    let first = rig.admit(80).unwrap().charge_in_full();
    let second = rig.admit(15).unwrap().charge_in_full();
    assert_eq!(levels(&second), three(Level::Critical));
    for (first, second) in first.iter().zip(&second) {
        assert_eq!(first.rule, second.rule);
        assert!(first.at < second.at, "{first:?} {second:?}");
    }
    // Whoever tells of them may be late with the first.
    for crossing in second.iter().chain(&first) {
        rig.engine.purse().told(crossing);
    }
    let mut rig = rig;
    rig.post(0);
    let (next, told) = killed(&rig);
    assert_eq!(told, []);
    assert_eq!(levels(&next.admit(1).unwrap().charge_in_full()), []);
}

#[test]
fn a_record_that_comes_late_does_not_replace_a_later_one() {
    let rig = rig(TempDir::new().unwrap()).0;
    let books = books(&rig);
    let told = |level, at| Told {
        counter: CounterName {
            identity: "day".into(),
            values: "ada".into(),
            unit: Unit::Usd,
        },
        window: NOW,
        level,
        at,
    };
    let later = NOW + std::time::Duration::from_secs(1);
    for one in [
        told(Level::Warning, NOW),
        told(Level::Critical, later),
        told(Level::Warning, NOW),
    ] {
        super::super::told::take(&books.db, &one).unwrap();
    }
    let kept = super::super::told::recall(&books.db, 1, NOW).unwrap();
    assert_eq!(kept, Some((Level::Critical, later)));
}

#[test]
fn counters_that_have_nothing_to_tell_stay_out_of_memory() {
    let rig = rig(TempDir::new().unwrap()).0;
    drop(rig.admit(10));
    let (next, told) = killed(&rig);
    assert_eq!(told, []);
    assert_eq!(next.stands().0, 10);
    let (next, _) = killed(&rig);
    assert_eq!(next.engine.purse().counts().counters, 0);
}

#[test]
fn what_was_moved_into_the_books_untold_is_told_by_the_next_call() {
    let mut rig = rig(TempDir::new().unwrap()).0;
    // Nobody is told of what a call crossed that was dropped.
    drop(rig.admit(80));
    rig.post(0);
    rig.keeper.remove();
    let (next, told) = killed(&rig);
    let settled = next.admit(1).unwrap().charge_in_full();
    let told: Vec<Level> = told.into_iter().chain(levels(&settled)).collect();
    assert_eq!(told, three(Level::Warning));
}

#[test]
fn it_is_told_anew_in_a_new_window_and_forgotten_with_old_ones() {
    let mut rig = rig(TempDir::new().unwrap()).0;
    let crossings = rig.admit(80).unwrap().charge_in_full();
    for crossing in &crossings {
        rig.engine.purse().told(crossing);
    }
    rig.post(0);
    let count = |rig: &Rig| -> i64 {
        let count = books(rig)
            .db
            .query_row("SELECT count(*) FROM told", (), |row| row.get(0));
        count.unwrap()
    };
    assert_eq!(count(&rig), 3);
    let charged: Vec<_> = crossings
        .iter()
        .map(|crossing| {
            let (identity, values) = (Arc::clone(&crossing.identity), Arc::clone(&crossing.values));
            let unit = crossing.unit;
            (
                CounterName {
                    identity,
                    values,
                    unit,
                },
                crossing.window,
            )
        })
        .collect();
    let tomorrow = NOW + std::time::Duration::from_hours(24);
    let untold = rig.engine.untold(&charged, tomorrow).unwrap();
    assert_eq!(levels(&untold), [], "its window is over");
    books(&rig).prune(tomorrow).unwrap();
    assert_eq!(count(&rig), 3, "a month may still go on");
    let later = NOW + std::time::Duration::from_hours(24 * 33);
    books(&rig).prune(later).unwrap();
    assert_eq!(count(&rig), 2, "only calendar windows end");
}

//! A journal that cannot be written.

use std::time::Duration;

use super::{
    super::journal::{FileJournal, NOTED},
    *,
};
use crate::{
    base::clock::SystemClock,
    policy::{Adjustment, Entry, JournalDown},
};

fn journal(dir: &Path, on_down: OnLedgerDown) -> FileJournal {
    let config = Config {
        path: dir.to_owned(),
        on_ledger_down: on_down,
        ..Config::default()
    };
    let books = Books::open(&dir.join("books.sqlite")).unwrap();
    let clock = Arc::new(TestClock::at(Timestamp::from_secs(1)));
    let known = known::Known::nothing(10);
    let clock: Arc<dyn Clock> = clock;
    let past = Past::new(books, known, Arc::clone(&clock), &config);
    FileJournal::create(1, past, clock, &config).unwrap()
}

fn entry(who: &str) -> Adjustment {
    Adjustment {
        at: Timestamp::from_secs(1),
        who: Box::from(who),
        changes: Vec::new(),
    }
}

/// Who is named in the entries of segment `number`.
fn names(dir: &Path, number: u64) -> Vec<String> {
    let bytes = segment::read(dir, number, 0, None).unwrap();
    let mut frames = Frames::of(&bytes);
    let names = frames
        .by_ref()
        .map(|payload| match record::decode(payload) {
            Some(Record::Adjusted(adjustment)) => adjustment.who.into_string(),
            other => panic!("{other:?}"),
        });
    let names = names.collect();
    assert_eq!(frames.damaged, 0);
    names
}

#[test]
fn what_is_noted_goes_with_the_next_write_and_in_order() {
    let dir = TempDir::new().unwrap();
    let journal = journal(dir.path(), OnLedgerDown::Block);
    journal.note(&Entry::Adjusted(&entry("noted")));
    assert!(names(dir.path(), 1).is_empty());
    let first = journal.write(&Entry::Adjusted(&entry("written"))).unwrap();
    journal.note(&Entry::Adjusted(&entry("later")));
    assert_eq!(names(dir.path(), 1), ["noted", "written"]);
    let mark = journal.flush(0);
    assert_eq!((mark.number, mark.length), (2, 0));
    assert!(mark.position > first.0);
    assert_eq!(names(dir.path(), 1), ["noted", "written", "later"]);
    assert!(journal.write(&Entry::Adjusted(&entry("more"))).unwrap() > first);
    assert_eq!(names(dir.path(), 2), ["more"]);
}

#[test]
fn a_journal_that_cannot_be_written_refuses_and_goes_on_in_a_new_segment() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("journal");
    fs::create_dir(&dir).unwrap();
    let journal = journal(&dir, OnLedgerDown::Block);
    journal.note(&Entry::Adjusted(&entry("noted")));
    journal.fill_the_disk();
    let moved = parent.path().join("gone");
    fs::rename(&dir, &moved).unwrap();
    for _ in 0..3 {
        let refused = journal.write(&Entry::Adjusted(&entry("lost")));
        assert_eq!(refused, Err(JournalDown));
    }
    assert_eq!(journal.tallies.down.load(Relaxed), 3);
    fs::rename(&moved, &dir).unwrap();
    journal.write(&Entry::Adjusted(&entry("kept"))).unwrap();
    assert_eq!(names(&dir, 2), ["noted", "kept"]);
}

#[test]
fn that_it_can_be_written_again_is_found_without_a_call() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("journal");
    fs::create_dir(&dir).unwrap();
    let journal = journal(&dir, OnLedgerDown::Block);
    assert!(!journal.is_failing());
    journal.fill_the_disk();
    let moved = parent.path().join("gone");
    fs::rename(&dir, &moved).unwrap();
    let refused = journal.write(&Entry::Adjusted(&entry("lost")));
    assert_eq!(refused, Err(JournalDown));
    journal.try_out();
    assert!(journal.is_failing(), "nothing has changed");
    fs::rename(&moved, &dir).unwrap();
    journal.try_out();
    assert!(!journal.is_failing());
    assert_eq!(journal.tallies.down.load(Relaxed), 1);
    // Nothing is left of the attempt.
    journal.write(&Entry::Adjusted(&entry("after"))).unwrap();
    assert_eq!(names(&dir, 2), ["after"]);
}

#[test]
fn whoever_asks_is_told_so_within_a_second() {
    let dir = TempDir::new().unwrap();
    let config = Config {
        path: dir.path().to_owned(),
        ..Config::default()
    };
    let (ledger, _) = Ledger::open(&config, Arc::new(SystemClock)).unwrap();
    ledger.journal.fill_the_disk();
    let refused = ledger.journal.write(&Entry::Adjusted(&entry("lost")));
    assert_eq!(refused, Err(JournalDown));
    let began = SystemClock.mono();
    while ledger.counts().failing {
        std::thread::yield_now();
        let waited = SystemClock.mono().duration_since(began);
        assert!(waited < Duration::from_secs(10), "it is never found");
    }
    assert_eq!(ledger.counts().down, 1);
}

#[test]
fn where_calls_shall_pass_without_they_do_and_it_is_counted() {
    let dir = TempDir::new().unwrap();
    let journal = journal(dir.path(), OnLedgerDown::Allow);
    journal.fill_the_disk();
    journal.write(&Entry::Adjusted(&entry("lost"))).unwrap();
    assert_eq!(journal.tallies.down.load(Relaxed), 1);
    journal.write(&Entry::Adjusted(&entry("kept"))).unwrap();
    assert_eq!(names(dir.path(), 2), ["kept"]);
}

#[test]
fn what_is_noted_while_nothing_can_be_written_is_bounded_and_counted() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("journal");
    fs::create_dir(&dir).unwrap();
    let journal = journal(&dir, OnLedgerDown::Block);
    journal.fill_the_disk();
    fs::remove_dir_all(&dir).unwrap();
    let long = entry(&"x".repeat(100_000));
    for _ in 0..20 {
        journal.note(&Entry::Adjusted(&long));
        journal.flush(u64::MAX);
    }
    assert!(journal.noted() < NOTED + 200_000);
    assert_eq!(journal.tallies.lost.load(Relaxed), 9);
    assert!(!journal.caught_up());
}

#[test]
fn a_storm_of_refusals_is_noted_in_part() {
    let dir = TempDir::new().unwrap();
    let journal = journal(dir.path(), OnLedgerDown::Block);
    let noted = |second, asked| {
        let at = Timestamp::from_secs(second);
        (0..asked).filter(|_| journal.may_note_refusal(at)).count()
    };
    assert_eq!(noted(5, 70_000), 200);
    assert_eq!(noted(6, 150), 150);
    assert_eq!(noted(4, 300), 200);
}

#[test]
fn calls_under_way_on_a_full_disk_are_settled_once_there_is_room_and_else_charged_what_they_held() {
    for has_room_again in [true, false] {
        let rig = rig(TempDir::new().unwrap()).0;
        let (one, other) = (rig.admit(30).unwrap(), rig.admit(20).unwrap());
        rig.journal.fill_the_disk();
        let gone = rig.dir.path().with_extension("gone");
        fs::rename(rig.dir.path(), &gone).unwrap();
        assert!(rig.admit(1).is_none(), "it is not sent");
        one.settle(cost(12));
        assert_eq!(rig.stands(), (12, 20));
        fs::rename(&gone, rig.dir.path()).unwrap();
        let in_flight = if has_room_again {
            other.settle(cost(5));
            rig.admit(1).unwrap().settle(cost(1));
            None
        } else {
            Some(other)
        };
        let (next, _) = super::rig(rig.files());
        let expected = if has_room_again { 12 + 5 + 1 } else { 30 + 20 };
        assert_eq!(next.stands(), (expected, 0));
        drop(in_flight);
    }
}

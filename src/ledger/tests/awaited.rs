//! Calls whose answers are fetched later, and responses that are billed once.

use super::*;
use crate::policy::Entry;

fn checkpoint(rig: &mut Rig) -> Vec<u64> {
    rig.post(0);
    rig.keeper.remove();
    segment::list(rig.dir.path()).unwrap()
}

fn why(rig: &Rig, call: RequestId) -> Vec<&'static str> {
    let records = View::open(rig.dir.path()).unwrap().why(call).unwrap();
    let name = |record: &Record| match record {
        Record::Admitted { .. } => "admitted",
        Record::Grown { .. } => "grown",
        Record::Awaited { .. } => "awaited",
        Record::Settled { .. } => "settled",
        other => panic!("{other:?}"),
    };
    records.iter().map(name).collect()
}

#[test]
fn an_awaited_call_needs_no_segment_and_keeps_its_whole_story() {
    let (mut rig, _) = rig(TempDir::new().unwrap());
    let mut hold = rig.admit(30).unwrap();
    hold.grow(asked(5), NOW).unwrap();
    assert_eq!(checkpoint(&mut rig), [1, 2]);
    let first = fs::read(segment::path(rig.dir.path(), 1)).unwrap();
    hold.await_response("openai", "resp_1");
    assert_eq!(checkpoint(&mut rig), [3]);
    drop(hold);
    assert_eq!(rig.stands(), (0, 35), "dropped, it stays held");
    rig.journal.flush(u64::MAX);

    // A segment that could not be removed does not bring the call back as a crashed one.
    let files = rig.files();
    fs::write(segment::path(files.path(), 1), first).unwrap();
    let (mut rig, recovery) = self::rig(files);
    assert!(recovery.crashed.is_empty());
    let [awaited] = &recovery.awaited[..] else {
        panic!("{recovery:?}");
    };
    assert_eq!(
        (&*awaited.provider, &*awaited.response),
        ("openai", "resp_1")
    );
    assert_eq!(rig.stands(), (0, 35));
    let call = awaited.held.request_id;
    assert_eq!(why(&rig, call), ["admitted", "grown", "awaited"]);

    rig.awaited.remove(0).settle(cost(4));
    rig.journal.flush(u64::MAX);
    let story = ["admitted", "grown", "awaited", "settled"];
    assert_eq!(why(&rig, call), story, "from journal and books");
    checkpoint(&mut rig);
    assert_eq!(why(&rig, call), story, "from the books");
    let (mut rig, recovery) = self::rig(rig.files());
    assert!(recovery.awaited.is_empty());
    assert_eq!(rig.stands(), (4, 0));
    checkpoint(&mut rig);
    View::open(rig.dir.path()).unwrap().verify().unwrap();
}

#[test]
fn segments_that_are_read_again_do_not_bring_back_what_is_over() {
    let (rig, _) = rig(TempDir::new().unwrap());
    let crashed = rig.admit(1).unwrap();
    let mut hold = rig.admit(30).unwrap();
    hold.await_response("openai", "resp_1");
    // As long as the crashed call was not reported, every start reads the same segments again.
    let (mut rig, recovery) = self::rig(rig.files());
    drop((crashed, hold));
    assert_eq!((recovery.crashed.len(), recovery.awaited.len()), (1, 1));
    rig.awaited.remove(0).settle(cost(4));
    rig.journal.flush(u64::MAX);
    for _again in 0..2 {
        let (again, recovery) = self::rig(rig.files());
        assert_eq!((recovery.crashed.len(), recovery.awaited.len()), (1, 0));
        assert_eq!(again.stands(), (5, 0));
        again.journal.flush(u64::MAX);
        rig = again;
    }
    View::open(rig.dir.path()).unwrap().verify().unwrap();
}

#[test]
fn a_call_whose_rules_are_gone_is_settled_all_the_same() {
    let (rig, _) = rig(TempDir::new().unwrap());
    rig.admit(30).unwrap().await_response("openai", "resp_1");
    let files = rig.files();
    let clock = Arc::new(TestClock::at(NOW));
    let (journal, _keeper, recovery) = assemble(&config(files.path()), clock).unwrap();
    let kept: Arc<dyn Journal> = Arc::<FileJournal>::clone(&journal);
    let purse = Purse::new(kept, 1_000);
    let engine = Engine::build(&policy::Config::default(), &[], &[], &purse, None).unwrap();
    let hold = engine.restore(&recovery.awaited[0].held, NOW).unwrap();
    hold.settle(cost(4));
    journal.flush(u64::MAX);
    let (rig, recovery) = self::rig(files);
    assert!(recovery.awaited.is_empty());
    assert_eq!(rig.stands(), (4, 0));
}

#[test]
fn what_was_billed_is_found_again_the_newest_only() {
    let (mut rig, _) = rig(TempDir::new().unwrap());
    for response in [u64::MAX, 2, 1, 2] {
        rig.journal.note(&Entry::Billed(response));
    }
    checkpoint(&mut rig);
    let (mut rig, recovery) = self::rig(rig.files());
    assert_eq!(recovery.billed, [u64::MAX, 2, 1]);
    let many = u64::try_from(MAX_BILLED).unwrap();
    let items: Vec<_> = (10..10 + many - 1).map(Item::Billed).collect();
    let mut books = Books::open(&books_in(rig.dir.path())).unwrap();
    books.post(&items, NOW).unwrap();
    drop(books);
    checkpoint(&mut rig);
    let (_, recovery) = self::rig(rig.files());
    assert_eq!(recovery.billed.len(), MAX_BILLED);
    assert_eq!(recovery.billed[..2], [1, 10]);
}

#[test]
fn a_segment_stays_as_long_as_the_books_cannot_take_what_is_in_it() {
    let (mut rig, _) = rig(TempDir::new().unwrap());
    rig.admit(30).unwrap().settle(cost(4));
    let db = rusqlite::Connection::open(books_in(rig.dir.path())).unwrap();
    db.execute_batch("ALTER TABLE entries RENAME TO away")
        .unwrap();
    assert_eq!(checkpoint(&mut rig), [1, 2]);
    assert_eq!(checkpoint(&mut rig), [1, 2]);
    db.execute_batch("ALTER TABLE away RENAME TO entries")
        .unwrap();
    assert_eq!(checkpoint(&mut rig), [2]);
    let (again, _) = self::rig(rig.files());
    assert_eq!(again.stands(), (4, 0));
}

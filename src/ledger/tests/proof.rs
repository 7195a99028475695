//! What the books prove, and what is removed when.

use super::{damage::journal, *};

#[test]
fn segments_go_once_all_that_is_in_them_is_in_the_books() {
    let (mut rig, _) = rig(TempDir::new().unwrap());
    let mut long = rig.admit(10).unwrap();
    let turn = |rig: &mut Rig| {
        rig.post(0);
        rig.keeper.remove();
        segment::list(rig.dir.path()).unwrap()
    };
    assert_eq!(turn(&mut rig), [1, 2]);
    rig.admit(10).unwrap().settle(cost(5));
    assert_eq!(
        turn(&mut rig),
        [1, 3],
        "the long call was admitted in the first"
    );
    long.grow(asked(1), NOW).unwrap();
    assert_eq!(turn(&mut rig), [1, 3, 4], "and grew in the third");
    let (killed, recovery) = self::rig(rig.files());
    assert_eq!(killed.stands(), (16, 0));
    assert_eq!(recovery.crashed[0].charged.tokens, Some(11));
    long.settle(cost(2));
    assert_eq!(turn(&mut rig), [5]);
    assert!(rig.journal.caught_up());
    let (killed, recovery) = self::rig(rig.files());
    assert_eq!((killed.stands(), recovery.crashed.len()), ((7, 0), 0));
}

#[test]
fn changed_books_do_not_prove() {
    let spoilt = |sql: &str| {
        let (mut rig, _) = rig(TempDir::new().unwrap());
        for tokens in [3, 4, 5] {
            rig.admit(10).unwrap().settle(cost(tokens));
            rig.post(u64::MAX);
        }
        let db = rusqlite::Connection::open(books_in(rig.dir.path())).unwrap();
        assert!(db.execute(sql, ()).unwrap() > 0, "{sql}");
        let verified = View::open(rig.dir.path()).unwrap().verify();
        verified.map_err(|error| error.to_string())
    };
    assert_eq!(spoilt("UPDATE batches SET at = 0").unwrap().entries, 3);
    for (sql, says) in [
        (
            "UPDATE totals SET spent = spent - 1 WHERE cell = 0",
            "sum up to",
        ),
        ("DELETE FROM totals WHERE cell = 0", "sum up to"),
        ("DELETE FROM entries WHERE seq = 2", "batch 2"),
        ("UPDATE entries SET at = at + 1 WHERE seq = 1", "batch 1"),
        (
            "UPDATE batches SET hash = zeroblob(32) WHERE batch = 3",
            "batch 3",
        ),
        ("DELETE FROM batches WHERE batch = 2", "batch 3"),
        (
            "INSERT INTO entries SELECT 4, 4, zeroblob(16), 7, at, body FROM entries WHERE seq = 3",
            "batch 4",
        ),
    ] {
        let error = spoilt(sql).unwrap_err();
        assert!(error.contains(says), "{sql}: {error}");
    }
}

/// The ids of all calls that an export would list.
fn listed(view: &View) -> Result<Vec<RequestId>, BooksError> {
    let mut all = Vec::new();
    let end = Timestamp::from_nanos(u64::MAX);
    view.entries(Timestamp::default(), end, |_, records| {
        all.extend(records.into_iter().find_map(|record| match record {
            Record::Admitted { call, .. } => Some(call.request_id),
            _ => None,
        }));
        true
    })?;
    Ok(all)
}

#[test]
fn what_moves_into_the_books_while_they_are_listed_is_listed_once() {
    let (mut rig, _) = rig(TempDir::new().unwrap());
    let turn = |rig: &mut Rig| {
        rig.admit(10).unwrap().settle(cost(3));
        rig.journal.flush(u64::MAX);
    };
    turn(&mut rig);
    rig.post(u64::MAX);
    turn(&mut rig);
    let view = View::open(rig.dir.path()).unwrap();
    rig.post(u64::MAX);
    let listed = listed(&view).unwrap();
    assert_eq!(listed.len(), 2, "{listed:?}");
}

#[test]
fn a_backlog_moves_into_the_books_piece_by_piece() {
    let (mut rig, _) = rig(TempDir::new().unwrap());
    let path = segment::path(rig.dir.path(), 1);
    let mut calls = 0;
    while fs::metadata(&path).unwrap().len() < 5 << 20 {
        calls += 1;
        rig.admit(10).unwrap().settle(cost(i64::from(calls < 10)));
    }
    assert_eq!(rig.post(0), 3, "pieces of 2 MiB");
    let damaged = rig.journal.tallies.damaged.load(Relaxed);
    assert_eq!(damaged, 0, "frames lie across the borders");
    assert_eq!(rig.stands(), (9, 0));
    let verified = View::open(rig.dir.path()).unwrap().verify().unwrap();
    assert_eq!(verified.entries, calls);
}

#[test]
fn an_entry_that_cannot_be_read_is_not_left_out_in_silence() {
    let (mut rig, _) = rig(TempDir::new().unwrap());
    rig.admit(10).unwrap().settle(cost(3));
    rig.post(u64::MAX);
    let db = rusqlite::Connection::open(books_in(rig.dir.path())).unwrap();
    db.execute("UPDATE entries SET body = x'00'", ()).unwrap();
    let error = listed(&View::open(rig.dir.path()).unwrap()).unwrap_err();
    assert!(matches!(error, BooksError::Entry(1)), "{error}");
}

#[test]
fn old_entries_go_and_the_totals_and_the_chain_stay_provable() {
    let dir = TempDir::new().unwrap();
    let mut books = Books::open(&books_in(dir.path())).unwrap();
    let (_, records) = journal();
    let mut reader = Reader::default();
    let later = NOW + std::time::Duration::from_hours(1);
    for (number, record) in records.iter().enumerate() {
        if let Some(item) = reader.take(record, 1) {
            let at = if number < 6 { NOW } else { later };
            books.post(&[item], at).unwrap();
        }
    }
    let before = books.verify().unwrap();
    let standings = books.standings(Timestamp::default()).unwrap();
    for oldest in [NOW, later, later + std::time::Duration::from_hours(1)] {
        books.prune(oldest).unwrap();
        books.prune(oldest).unwrap();
        let after = books.verify().unwrap();
        assert_eq!(after.head, before.head, "from {oldest}");
        assert_eq!(books.standings(Timestamp::default()).unwrap(), standings);
    }
    assert_eq!(books.verify().unwrap().entries, 0);
    reader.take(&records[0], 1);
    let Some(Item::Over(mut posting)) = reader.take(records.last().unwrap(), 1) else {
        panic!("a settlement ends a call");
    };
    posting.key = (RequestId::new(NOW), policy::HoldId(1));
    books.post(&[Item::Over(posting)], later).unwrap();
    assert_eq!(books.verify().unwrap().entries, 1);
}

#[test]
fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = TempDir::new().unwrap();
    let path: PathBuf = parent.path().join("data/journal");
    let clock = Arc::new(TestClock::at(NOW));
    let _parts = assemble(&config(&path), clock).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&parent.path().join("data")), 0o700);
    for file in fs::read_dir(&path).unwrap() {
        let file = file.unwrap().path();
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

//! What a restart finds: after a good end, and after a bad one.

use std::fs;

use serde_json::json;
use tollgate::{
    call::labels::{Label, Labels},
    ledger::Record,
    policy::{Engine, Level, Raise, Verdict},
};

use super::*;
use crate::policy::{amounts, ask, charge, labels, stands, subject, usd};

#[test]
fn what_was_spent_is_found_again_and_counts_on() {
    let dir = tempfile::tempdir().unwrap();
    let rules = json!({"daily": 10, "max_wait": 0, "rules": [
        {"name": "six", "window": "6h", "limit": {"usd": 8}},
        {"name": "runs", "window": "total", "per": ["session"], "limit": {"usd": 7}}]});
    let call = labels(&[(Label::Session, "s;1")]);
    for spent in 0..4 {
        let (ledger, recovery) = open(dir.path());
        assert!(recovery.crashed.is_empty() && recovery.torn == 0);
        let engine = engine_over(rules.clone(), ledger.journal());
        let hold = ask(&engine, &call, "2", NOW).unwrap();
        assert_eq!(
            stands(&engine, "session=s%3B1", NOW),
            (spent * 1_500_000_000, 2_000_000_000)
        );
        hold.settle(charge("1.5", 10));
    }
    let (ledger, _) = open(dir.path());
    let engine = engine_over(rules, ledger.journal());
    let refused = ask(&engine, &call, "1.1", NOW).unwrap_err();
    assert_eq!(refused.refusal().by, "budget.runs");
    let refused = ask(&engine, &Labels::default(), "2.1", NOW).unwrap_err();
    assert_eq!(refused.refusal().by, "budget.six");
    let verified = view(dir.path()).verify().unwrap();
    assert_eq!((verified.entries, verified.batches), (4, 4));
    assert_eq!(verified.head, view(dir.path()).head().unwrap());
}

#[test]
fn a_call_in_flight_at_the_crash_is_charged_all_that_it_held_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let rules = json!({"per_user": 10, "max_wait": 0});
    let call = labels(&[(Label::User, "42"), (Label::Agent, "support")]);
    let (ledger, _) = open(dir.path());
    let engine = engine_over(rules.clone(), ledger.journal());
    let subject = subject(&call);
    let matched = engine.matched(&subject, NOW).unwrap();
    let mut hold = engine
        .admit(matched, amounts("2", 700), &subject, NOW)
        .unwrap();
    hold.grow(amounts("1", 300), NOW).unwrap();
    // What a killed process leaves behind is what is in its files.
    crash(dir.path(), copy.path());
    hold.settle(charge("0.5", 10));
    drop(ledger);

    for _again in 0..3 {
        // Until they are said to be reported, each start reports them, and charges them once.
        let (ledger, recovery) = open(copy.path());
        let [crashed] = &recovery.crashed[..] else {
            panic!("one call was in flight: {recovery:?}");
        };
        assert_eq!(crashed.call.span_id, subject.span_id);
        assert_eq!(crashed.call.labels.get(Label::Agent), Some("support"));
        assert_eq!(crashed.call.model.as_deref(), Some("gpt-4o"));
        assert_eq!(crashed.charged.usd, Some(usd("3")));
        let engine = engine_over(rules.clone(), ledger.journal());
        assert!(ask(&engine, &call, "7.1", NOW).is_err());
        ask(&engine, &call, "7", NOW).unwrap().release();
    }
    let (ledger, _) = open(copy.path());
    ledger.crashed_calls_were_reported();
    drop(ledger);
    let (_ledger, recovery) = open(copy.path());
    assert!(recovery.crashed.is_empty());
    view(copy.path()).verify().unwrap();
    view(dir.path()).verify().unwrap();
}

#[test]
fn why_tells_every_counter_that_was_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = open(dir.path());
    let rules = json!({"daily": 3, "per_user": 2, "max_wait": 0});
    let engine = engine_over(rules, ledger.journal());
    let call = labels(&[(Label::User, "42")]);
    let admitted = subject(&call);
    let matched = engine.matched(&admitted, NOW).unwrap();
    let hold = engine
        .admit(matched, amounts("2", 7), &admitted, NOW)
        .unwrap();
    hold.keep().unwrap();
    let refused = subject(&call);
    let matched = engine.matched(&refused, NOW).unwrap();
    let no = engine
        .admit(matched, amounts("0.5", 7), &refused, NOW)
        .unwrap_err();
    let (refusal, _) = engine.refuse(*no, &refused, NOW);
    assert_eq!(refusal.by, "busy.per_user");
    hold.settle(charge("1", 7));

    let in_flight = view(dir.path()).why(admitted.request_id).unwrap();
    drop(ledger);
    let records = view(dir.path()).why(admitted.request_id).unwrap();
    assert_eq!(records[0], in_flight[0]);
    let Record::Admitted { lines, .. } = &records[0] else {
        panic!("{records:?}");
    };
    let rules: Vec<_> = lines.iter().map(|line| line.counter.rule()).collect();
    assert_eq!(rules, ["daily", "per_user"]);
    assert_eq!(lines[1].seen.unwrap().limit, usd("2").nanos());
    let Record::Settled { charge, .. } = &records[1] else {
        panic!("{records:?}");
    };
    assert_eq!(charge.usd, Some(usd("1")));

    let records = view(dir.path()).why(refused.request_id).unwrap();
    let [Record::Refused { by, lines, .. }] = &records[..] else {
        panic!("{records:?}");
    };
    assert_eq!(&**by, "busy.per_user");
    assert_eq!(lines[0].seen.unwrap().verdict, Verdict::Fits);
    assert_eq!(lines[1].seen.unwrap().verdict, Verdict::Busy);
}

#[test]
fn damaged_books_refuse_to_start_and_what_the_message_says_helps() {
    let dir = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let rules = json!({"daily": 10, "max_wait": 0});
    let nobody = Labels::default();
    let (ledger, _) = open(dir.path());
    let engine = engine_over(rules.clone(), ledger.journal());
    ask(&engine, &nobody, "2", NOW)
        .unwrap()
        .settle(charge("2", 1));
    drop((engine, ledger));
    crash(dir.path(), copy.path());
    let books = dir.path().join("journal/books.sqlite");
    let sound = fs::read(&books).unwrap();
    let damaged = vec![0x55; sound.len()];
    fs::write(&books, &damaged).unwrap();

    let config = Config {
        path: dir.path().join("journal"),
        ..Config::default()
    };
    let clock = || Arc::new(TestClock::at(NOW));
    let error = Ledger::open(&config, clock()).unwrap_err().to_string();
    assert!(error.contains("books.sqlite"), "{error}");
    assert!(error.contains("sound copy"), "{error}");
    assert_eq!(fs::read(&books).unwrap(), damaged, "nothing was touched");

    // A sound copy has all of it; without one, counting begins anew.
    let left = |dir: &Path| {
        let (ledger, _) = open(dir);
        let engine = engine_over(rules.clone(), ledger.journal());
        let hold = ask(&engine, &nobody, "1", NOW).unwrap();
        hold.release();
        stands(&engine, "", NOW).0
    };
    let away = dir.path().join("away");
    fs::create_dir(&away).unwrap();
    for file in fs::read_dir(dir.path().join("journal")).unwrap() {
        let file = file.unwrap();
        if file
            .file_name()
            .to_str()
            .unwrap()
            .starts_with("books.sqlite")
        {
            fs::rename(file.path(), away.join(file.file_name())).unwrap();
        }
    }
    assert_eq!(left(copy.path()), 2_000_000_000);
    fs::write(&books, &sound).unwrap();
    assert_eq!(left(dir.path()), 2_000_000_000);
    fs::remove_file(&books).unwrap();
    assert_eq!(left(dir.path()), 0);
}

/// Copies what is on disk at this moment.
pub(crate) fn crash(from: &Path, to: &Path) {
    let to = to.join("journal");
    fs::create_dir_all(&to).unwrap();
    // The books first: what is moved into them meanwhile is then found in the journal.
    let mut files: Vec<_> = fs::read_dir(from.join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort_by_key(|path| path.extension().is_some_and(|name| name == "log"));
    for file in files {
        fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

#[test]
fn a_damaged_journal_is_refused_and_nothing_of_it_is_lost_by_doing_as_the_error_says() {
    let dir = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let nobody = Labels::default();
    let rules = json!({"daily": 10, "max_wait": 0});
    let (ledger, _) = open(dir.path());
    let engine = engine_over(rules.clone(), ledger.journal());
    let holds: Vec<_> = (0..3)
        .map(|_| ask(&engine, &nobody, "1", NOW).unwrap())
        .collect();
    let (journal, segment) = (
        copy.path().join("journal"),
        copy.path().join("journal/000000000001.log"),
    );
    crash(dir.path(), copy.path());
    drop((holds, engine, ledger));
    let sound = fs::read(&segment).unwrap();
    let mut damaged = sound.clone();
    let place = sound.len() / 2;
    damaged[place] ^= 0x55;
    fs::write(&segment, &damaged).unwrap();

    let config = Config {
        path: journal.clone(),
        ..Config::default()
    };
    let start = || Ledger::open(&config, Arc::new(TestClock::at(NOW)));
    let error = start().unwrap_err().to_string();
    assert!(error.contains("000000000001.log"), "{error}");
    assert!(error.contains("tollgate ledger repair"), "{error}");
    assert_eq!(fs::read(&segment).unwrap(), damaged, "nothing was touched");
    let unproved = view(copy.path()).verify().unwrap_err();
    assert_eq!(unproved.to_string(), error);

    // A sound copy has all three calls, the repaired file the two that can be read.
    let spent = || {
        let (ledger, recovery) = start().unwrap();
        let engine = engine_over(rules.clone(), ledger.journal());
        ask(&engine, &nobody, "1", NOW).unwrap().release();
        (stands(&engine, "", NOW).0, recovery.crashed.len())
    };
    let repaired = repair(&journal, NOW).unwrap();
    let [one] = &repaired[..] else {
        panic!("{repaired:?}")
    };
    assert_eq!((one.kept, &one.damage.file), (2, &segment));
    let from = format!("byte {} ", one.damage.offset);
    assert!(error.contains(&from), "{error}");
    assert_eq!(fs::read(&one.aside).unwrap(), damaged, "kept as it was");
    assert!(repair(&journal, NOW).unwrap().is_empty());
    let repaired = fs::read(&segment).unwrap();
    assert_eq!(spent(), (2_000_000_000, 2));
    assert!(one.aside.exists());
    view(copy.path()).verify().unwrap();
    assert!(!segment.exists() || fs::read(&segment).unwrap() == repaired);

    for file in fs::read_dir(&journal).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    fs::write(&segment, &sound).unwrap();
    assert_eq!(spent(), (3_000_000_000, 3));
}

#[test]
fn a_raise_before_a_restart_does_not_swallow_what_is_crossed_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let run = || {
        let (ledger, _) = open(dir.path());
        let engine = engine_over(json!({"daily": 10}), ledger.journal());
        (ledger, engine)
    };
    let nobody = Labels::default();
    let spend = |engine: &Engine, dollars: &str| -> Vec<Level> {
        let hold = ask(engine, &nobody, dollars, NOW).unwrap();
        let crossings = hold.settle(charge(dollars, 1));
        for crossing in &crossings {
            engine.purse().told(crossing);
        }
        crossings.iter().map(|crossing| crossing.level).collect()
    };
    let (ledger, engine) = run();
    let raise = Raise {
        amount: 10_000_000_000,
        until: None,
    };
    engine.raise("daily", raise, "test", NOW).unwrap();
    assert_eq!(spend(&engine, "12"), []);
    drop((engine, ledger));
    let (ledger, engine) = run();
    assert_eq!(spend(&engine, "3"), [Level::Warning]);
    drop((engine, ledger));
    let (_ledger, engine) = run();
    assert_eq!(spend(&engine, "0.1"), []);
}

//! The calls of the last run that ended, as a start finds them.

use super::{record::decode, *};
use crate::{
    call::{
        outcome::{End, Status},
        usage::Usage,
    },
    policy::Ending,
};

pub(super) fn ending(number: u8) -> Ending {
    Ending {
        span_id: SpanId::from_bytes([number; 8]),
        status: Status::Cancelled,
        end: End::Client,
        duration: std::time::Duration::from_micros(812_400),
        http_status: Some(200),
        model: Some(Arc::from("gpt-4o-2024-08-06")),
        usage: Usage {
            cache_read: Some(100),
            reasoning: Some(0),
            ..Usage::text(120, 45)
        },
        cost: (number > 1).then_some(Usd::from_nanos(625_000)),
        prices: (number > 2).then(|| Box::from("genai-prices 0.2.3")),
    }
}

/// The calls that are found in books, the last one first, as far as `count`.
fn found(journal: &FileJournal, count: usize) -> Vec<Ending> {
    let mut found = Vec::new();
    let books = journal.past.books.lock();
    books
        .ended(|ended| {
            assert_eq!(ended.charge.source, UsageSource::Reported);
            found.push(ended.ending);
            found.len() < count
        })
        .unwrap();
    drop(books);
    found
}

#[test]
fn calls_that_ended_are_found_until_they_were_compared_and_those_without_a_span_are_not() {
    let (rig, _) = rig(TempDir::new().unwrap());
    for number in 1..=3 {
        let mut hold = rig.admit(10).unwrap();
        hold.ends(ending(number));
        hold.settle(cost(4));
        rig.admit(1).unwrap().settle(cost(1));
    }
    let _in_flight = rig.admit(5).unwrap();
    rig.journal.flush(u64::MAX);
    let (after, _) = self::rig(rig.files());
    let expected = [3, 2, 1].map(ending);
    assert_eq!(found(&after.journal, 9), expected);
    assert_eq!(found(&after.journal, 2), expected[..2]);

    let newest = after.journal.past.books.lock().newest().unwrap();
    // Not compared, since that start was killed too.
    let (again, _) = self::rig(after.files());
    assert_eq!(found(&again.journal, 9), expected);
    again.journal.past.books.lock().compared(newest).unwrap();
    let mut hold = again.admit(1).unwrap();
    hold.ends(ending(9));
    hold.settle(cost(1));
    again.journal.flush(u64::MAX);
    let (last, _) = self::rig(again.files());
    assert_eq!(found(&last.journal, 9), [ending(9)]);
}

#[test]
fn records_from_before_endings_were_journalled_are_still_read() {
    let (rig, _) = rig(TempDir::new().unwrap());
    rig.admit(10).unwrap().settle(cost(4));
    let mut hold = rig.admit(10).unwrap();
    hold.ends(ending(2));
    hold.settle(cost(4));
    rig.journal.flush(u64::MAX);
    let bytes = segment::read(rig.dir.path(), 1, 0, None).unwrap();
    let settled: Vec<_> = Frames::of(&bytes)
        .filter(|payload| matches!(decode(payload), Some(Record::Settled { .. })))
        .collect();
    let [before, now] = settled[..] else {
        panic!("two calls were settled");
    };
    assert!(matches!(
        decode(before),
        Some(Record::Settled { ending: None, .. })
    ));
    assert!(now.len() - before.len() < 64, "{}", now.len());
    // The last byte says that there are no prices: earlier versions did not.
    let earlier = now.len() - 1;
    for cut in before.len() + 1..earlier {
        assert_eq!(decode(&now[..cut]), None, "an ending that is cut is none");
    }
    assert_eq!(decode(&now[..earlier]), decode(now));
}

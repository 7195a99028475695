//! Journals cut and corrupted at every byte.

use std::collections::HashMap;

use super::{
    posting::Total,
    record::{Glance, decode, glance},
    *,
};

/// The bytes of a journal with every kind of call in it, and its records.
pub(super) fn journal() -> (Vec<u8>, Vec<Vec<u8>>) {
    let (rig, _) = rig(TempDir::new().unwrap());
    let mut one = rig.admit(10).unwrap();
    let two = rig.admit(20).unwrap();
    one.grow(asked(5), NOW).unwrap();
    let three = rig.admit(30).unwrap();
    two.settle(cost(7));
    one.settle(cost(12));
    let four = rig.admit(3).unwrap();
    four.settle(cost(9));
    rig.journal.flush(u64::MAX);
    let bytes = segment::read(rig.dir.path(), 1, 0, None).unwrap();
    let records = Frames::of(&bytes).map(<[u8]>::to_vec).collect();
    drop(three);
    (bytes, records)
}

/// What a start finds as spent by rule `day` in these records, whatever else is in the bytes.
fn spent_in(payloads: impl Iterator<Item = Vec<u8>>) -> i64 {
    let mut reader = Reader::default();
    let day = |totals: &[Total]| {
        let day = totals
            .iter()
            .find(|(counter, _, _)| counter.rule() == "day");
        day.map_or(0, |(_, _, amount)| *amount)
    };
    let mut spent = 0;
    for payload in payloads {
        if let Some(Item::Over(posting)) = reader.take(&payload, 1) {
            spent += day(&posting.totals);
        }
    }
    let open = reader.open.iter();
    spent
        + open
            .map(|(key, open)| day(&open.at_ceiling(*key).totals))
            .sum::<i64>()
}

/// What it must be: a settled call's bill, whatever else is lost; else what is left of its hold.
fn expected(records: &[Vec<u8>]) -> i64 {
    let mut held: HashMap<RequestId, i64> = HashMap::new();
    let mut bills: HashMap<RequestId, i64> = HashMap::new();
    for record in records {
        match decode(record).unwrap() {
            Record::Admitted { call, lines, .. } => {
                *held.entry(call.request_id).or_default() += lines[0].amount;
            },
            Record::Grown {
                request_id, lines, ..
            } => *held.entry(request_id).or_default() += lines[0].amount,
            Record::Settled {
                request_id, lines, ..
            } => {
                bills.insert(request_id, lines[0].amount);
            },
            other => panic!("{other:?}"),
        }
    }
    held.retain(|call, _| !bills.contains_key(call));
    held.values().sum::<i64>() + bills.values().sum::<i64>()
}

#[test]
fn admissions_share_a_write_and_none_goes_on_before_it_is_kept() {
    let (rig, _) = rig(TempDir::new().unwrap());
    let [one, two] = [10, 20].map(|tokens| rig.begin(tokens).unwrap());
    assert!(one.waits() && two.waits());
    let (_, recovery) = self::rig(rig.files());
    assert_eq!(recovery.crashed.len(), 0);
    assert_eq!(two.keep(), Ok(()));
    assert!(!one.waits() && !two.waits());
    let (killed, recovery) = self::rig(rig.files());
    assert_eq!(recovery.crashed.len(), 2);
    assert_eq!(killed.stands(), (30, 0));
}

#[test]
fn a_journal_cut_at_any_byte_counts_what_is_whole() {
    let (bytes, records) = journal();
    assert_eq!(records.len(), 8);
    let mut ends = vec![0];
    for record in &records {
        ends.push(ends[ends.len() - 1] + 9 + record.len());
    }
    assert_eq!(*ends.last().unwrap(), bytes.len());
    for cut in 0..=bytes.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        let found = spent_in(Frames::of(&bytes[..cut]).map(<[u8]>::to_vec));
        assert_eq!(found, expected(&records[..whole]), "cut at {cut}");
    }
    assert_eq!(expected(&records), 30 + 7 + 12 + 9);
}

#[test]
fn a_journal_corrupted_at_any_byte_loses_one_record_at_most() {
    let (bytes, records) = journal();
    let mut end = 0;
    for (number, record) in records.iter().enumerate() {
        let mut left = records.clone();
        left.remove(number);
        for place in end..end + 9 + record.len() {
            for wrong in [0x01, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[place] ^= wrong;
                let found = spent_in(Frames::of(&bytes).map(<[u8]>::to_vec));
                assert_eq!(found, expected(&left), "byte {place} of record {number}");
            }
        }
        end += 9 + record.len();
    }
}

#[test]
fn a_start_over_a_torn_journal_goes_on_in_a_new_segment() {
    let (bytes, records) = journal();
    let mut end = 0;
    for (number, record) in records.iter().enumerate() {
        for cut in [end, end + 1, end + 8 + record.len()] {
            let dir = TempDir::new().unwrap();
            fs::write(segment::path(dir.path(), 7), &bytes[..cut]).unwrap();
            let (mut rig, recovery) = rig(dir);
            assert_eq!(recovery.torn, u64::try_from(cut - end).unwrap());
            assert_eq!(rig.stands(), (expected(&records[..number]), 0));
            rig.admit(1).unwrap().settle(cost(1));
            rig.keeper.reported().store(true, Relaxed);
            assert_eq!(rig.journal.flush(u64::MAX).number, 8);
            rig.post(u64::MAX);
            rig.keeper.remove();
            assert_eq!(segment::list(rig.dir.path()).unwrap(), [8]);
            let (again, _) = self::rig(rig.files());
            assert_eq!(again.stands(), (expected(&records[..number]) + 1, 0));
        }
        end += 9 + record.len();
    }
}

#[test]
fn a_glance_takes_for_a_record_what_reading_it_whole_does() {
    let (_, mut records) = journal();
    let (rig, _) = rig(TempDir::new().unwrap());
    let mut hold = rig.admit(1).unwrap();
    hold.ends(ended::ending(1));
    hold.settle(cost(1));
    rig.journal.flush(u64::MAX);
    let bytes = segment::read(rig.dir.path(), 1, 0, None).unwrap();
    records.extend(Frames::of(&bytes).map(<[u8]>::to_vec));
    let agree = |bytes: &[u8]| match glance(bytes) {
        Some(Glance::Other) => {},
        seen => assert_eq!(seen.is_some(), decode(bytes).is_some(), "{bytes:?}"),
    };
    for record in &records {
        assert!(!matches!(glance(record), None | Some(Glance::Other)));
        for at in 0..record.len() {
            agree(&record[..at]);
            for flip in [0x01, 0x7f, 0x80, 0xff] {
                let mut damaged = record.clone();
                damaged[at] ^= flip;
                agree(&damaged);
            }
        }
    }
}

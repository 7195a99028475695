//! Tests of the spool: a model, kills at every byte, damage at every byte, quotas, a full disk.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt as _};

use proptest::prelude::*;

use super::{super::testing::record, *};

const PLENTY: u64 = 1 << 30;

fn open(dir: &Path) -> Spool {
    Spool::open(dir, PLENTY).unwrap()
}

fn append(spool: &mut Spool, spans: std::ops::Range<u64>) -> Vec<Place> {
    let records: Vec<_> = spans.map(record).collect();
    let (places, result) = spool.append(&records);
    result.unwrap();
    places
}

/// The number that [`record`] was made with.
fn number(record: &Record) -> u64 {
    u64::from_be_bytes(record.span.span_id.bytes())
}

/// Takes out all that is left, so many at once.
fn drain(spool: &mut Spool, most: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        let batch = spool.oldest(most, 1 << 20).unwrap();
        if batch.is_empty() {
            return numbers;
        }
        numbers.extend(batch.iter().map(|(record, _)| number(record)));
        let places: Vec<_> = batch.into_iter().map(|(_, place)| place).collect();
        let (struck, noted) = spool.done(&places);
        noted.unwrap();
        assert_eq!(struck, count(places.len()));
    }
}

/// Takes out one batch.
fn take(spool: &mut Spool, most: usize) -> Vec<u64> {
    let batch = spool.oldest(most, 1 << 20).unwrap();
    let places: Vec<_> = batch.iter().map(|(_, place)| *place).collect();
    spool.done(&places).1.unwrap();
    batch.iter().map(|(record, _)| number(record)).collect()
}

/// The files of a spool.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let read = files.map(|path| (path.clone(), fs::read(path).unwrap()));
    read.collect()
}

/// A spool with these files.
fn with(files: &BTreeMap<PathBuf, Vec<u8>>) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        fs::write(place.path().join(path.file_name().unwrap()), bytes).unwrap();
    }
    place
}

#[test]
fn spans_come_back_in_order_as_they_were_across_processes() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("a/b");
    let mut spool = open(&dir);
    let records: Vec<_> = (1..8).map(record).collect();
    spool.append(&records).1.unwrap();
    assert_eq!(take(&mut spool, 3), [1, 2, 3]);
    drop(spool);
    let mut spool = open(&dir);
    assert_eq!(spool.len(), 4);
    append(&mut spool, 8..10);
    let batch = spool.oldest(1, 1 << 20).unwrap();
    assert_eq!(batch[0].0.line, records[3].line);
    assert_eq!(drain(&mut spool, 2), [4, 5, 6, 7, 8, 9]);
    assert_eq!((spool.len(), spool.news()), (0, News::default()));
    drop(spool);
    assert_eq!(segment::list(&dir, KIND).unwrap(), [0_u64; 0]);
    assert_eq!(open(&dir).len(), 0);
}

#[test]
fn a_span_may_be_struck_out_behind_the_oldest() {
    // In one segment, and each in its own.
    for quota in [1 << 20, 8 * 600] {
        let place = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(place.path(), quota).unwrap();
        append(&mut spool, 1..7);
        let mut first = None;
        for behind in [2, 3, 4] {
            let batch = spool.oldest(2, 1 << 20).unwrap();
            let [(oldest, at), (other, place)] = batch.try_into().unwrap();
            assert_eq!((number(&oldest), number(&other)), (1, behind));
            assert_eq!(spool.pass(at, place).0, 1);
            first = Some(at);
        }
        assert_eq!(spool.len(), 3);
        drop(spool);
        // Nobody knows of it after a restart, until the oldest is done.
        let mut spool = Spool::open(place.path(), quota).unwrap();
        assert_eq!(spool.len(), 6);
        let batch = spool.oldest(2, 1 << 20).unwrap();
        let [(_, at), (_, second)] = batch.try_into().unwrap();
        assert_eq!((spool.pass(at, second).0, Some(at)), (1, first));
        assert_eq!(spool.done(&[at]).0, 1);
        assert_eq!((spool.len(), spool.has(second)), (4, false));
        drop(spool);
        let mut spool = Spool::open(place.path(), quota).unwrap();
        assert_eq!(drain(&mut spool, 3), [3, 4, 5, 6]);
        assert_eq!(spool.news(), News::default());
    }
}

#[test]
fn what_was_passed_does_not_come_again_when_the_oldest_falls_to_the_quota() {
    let place = tempfile::tempdir().unwrap();
    // Eight segments of four spans.
    let quota = 32 * count(segment::length(&record(1).line));
    let mut spool = Spool::open(place.path(), quota).unwrap();
    append(&mut spool, 1..33);
    assert_eq!(take(&mut spool, 3), [1, 2, 3]);
    let two = |spool: &mut Spool| {
        let batch = spool.oldest(2, 1 << 20).unwrap();
        let [(one, at), (other, place)] = batch.try_into().unwrap();
        ([number(&one), number(&other)], at, place)
    };
    for behind in [5, 6] {
        let (numbers, at, place) = two(&mut spool);
        assert_eq!((numbers, spool.pass(at, place).0), ([4, behind], 1));
    }
    append(&mut spool, 33..34);
    assert_eq!((spool.news().lost, spool.len()), (1, 27));
    for behind in [8, 9] {
        let (numbers, at, place) = two(&mut spool);
        assert_eq!((numbers, spool.pass(at, place).0), ([7, behind], 1));
    }
    assert_eq!(spool.len(), 25);
    let left: Vec<_> = [7].into_iter().chain(10..34).collect();
    assert_eq!(drain(&mut spool, 5), left);
    assert_eq!((spool.len(), spool.news()), (0, News::default()));
}

#[test]
fn a_segment_that_cannot_be_read_for_a_while_is_not_passed_over() {
    let place = tempfile::tempdir().unwrap();
    for first in [1, 4, 7] {
        append(&mut open(place.path()), first..first + 3);
    }
    let mut spool = open(place.path());
    let numbers = segment::list(place.path(), KIND).unwrap();
    assert_eq!(numbers.len(), 3);
    let middle = segment::path(place.path(), numbers[1], KIND);
    let elsewhere = place.path().join("elsewhere");
    fs::rename(&middle, &elsewhere).unwrap();
    assert_eq!(take(&mut spool, 9), [1, 2, 3]);
    assert!(spool.oldest(9, 1 << 20).is_err());
    fs::rename(&elsewhere, &middle).unwrap();
    assert_eq!(drain(&mut spool, 9), [4, 5, 6, 7, 8, 9]);
}

#[test]
fn nobody_else_can_read_it_and_it_has_one_owner() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("x");
    let mut spool = open(&dir);
    append(&mut spool, 1..2);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for path in files(&dir).keys() {
        assert_eq!(mode(path), 0o600, "{path:?}");
    }
    assert!(matches!(Spool::open(&dir, PLENTY), Err(SpoolError::Owned)));
    drop(spool);
    assert_eq!(open(&dir).len(), 1);
}

#[test]
fn the_oldest_go_when_the_quota_is_full_and_are_counted() {
    let place = tempfile::tempdir().unwrap();
    let length = count(segment::length(&record(1).line));
    let quota = 40 * length;
    let mut spool = Spool::open(place.path(), quota).unwrap();
    for first in (1..=200).step_by(20) {
        append(&mut spool, first..first + 20);
        assert!(spool.bytes() <= quota);
    }
    let lost = spool.news().lost;
    let left = drain(&mut spool, 7);
    assert!(left.len() >= 32, "{}", left.len());
    assert_eq!(lost + count(left.len()), 200);
    assert_eq!(left, (lost + 1..=200).collect::<Vec<_>>());

    let mut spool = Spool::open(&place.path().join("tiny"), length - 1).unwrap();
    append(&mut spool, 1..4);
    assert_eq!((spool.len(), spool.news().lost), (0, 3));
}

#[test]
fn what_was_thrown_away_while_it_was_in_hand_is_not_struck_out_twice() {
    let place = tempfile::tempdir().unwrap();
    let length = count(segment::length(&record(1).line));
    let mut spool = Spool::open(place.path(), 8 * length).unwrap();
    append(&mut spool, 1..9);
    let places: Vec<_> = spool
        .oldest(2, 1 << 20)
        .unwrap()
        .into_iter()
        .map(|it| it.1)
        .collect();
    append(&mut spool, 9..10);
    assert_eq!(spool.news().lost, 1);
    let (struck, noted) = spool.done(&places);
    noted.unwrap();
    assert_eq!(struck + 1 + spool.len(), 9);
}

#[test]
fn a_cut_at_any_byte_loses_only_what_stands_behind_it() {
    let place = tempfile::tempdir().unwrap();
    let mut spool = open(place.path());
    append(&mut spool, 1..6);
    assert_eq!(take(&mut spool, 2), [1, 2]);
    drop(spool);
    let whole = files(place.path());
    let path = segment::path(place.path(), 1, KIND);
    let length = whole[&path].len();
    let line = length / 5;
    for cut in 0..=length {
        let mut files = whole.clone();
        files.get_mut(&path).unwrap().truncate(cut);
        let place = with(&files);
        let mut spool = open(place.path());
        let news = spool.news();
        let expected: Vec<u64> = (3..=count(cut / line)).collect();
        assert_eq!(spool.len(), count(expected.len()));
        assert_eq!((news.lost, news.damaged), (0, 0));
        assert_eq!(
            news.torn,
            u64::from(cut > 2 * line && cut % line > 0),
            "{cut}"
        );
        append(&mut spool, 10..12);
        let all = expected.into_iter().chain([10, 11]);
        assert_eq!(drain(&mut spool, 3), all.collect::<Vec<_>>(), "{cut}");
        drop(spool);
        assert_eq!(open(place.path()).news().torn, 0);
    }
}

#[test]
fn a_wrong_byte_anywhere_is_noticed_and_costs_two_spans_at_most() {
    let place = tempfile::tempdir().unwrap();
    let mut spool = open(place.path());
    append(&mut spool, 1..4);
    assert_eq!(take(&mut spool, 1), [1]);
    drop(spool);
    let whole = files(place.path());
    for (path, bytes) in &whole {
        let name = path.file_name().unwrap().to_str().unwrap();
        for at in 0..bytes.len() {
            // Some become line ends.
            let end = (at % 7 == 0).then_some(bytes[at] ^ b'\n');
            for wrong in [1].into_iter().chain(end.filter(|end| *end != 0)) {
                let mut files = whole.clone();
                files.get_mut(path).unwrap()[at] ^= wrong;
                let place = with(&files);
                let mut spool = open(place.path());
                let read = drain(&mut spool, 2);
                let news = spool.news();
                let told = news.damaged + news.torn;
                match name {
                    "owner" => assert_eq!(read, [2, 3]),
                    "cursor" => {
                        assert_eq!(read, [1, 2, 3], "{at}");
                        assert_eq!(told, 1);
                    },
                    // What was delivered is not looked at again.
                    _ if at < bytes.len() / 3 => assert_eq!(read, [2, 3], "{at}"),
                    _ => {
                        assert!(read.len() < 2 && told > 0, "{at}: {read:?} {news:?}");
                        let kept = segment::list(place.path(), BAD).unwrap().len();
                        assert_eq!(count(kept), news.damaged, "{at}");
                    },
                }
                drop(spool);
                assert_eq!(open(place.path()).len(), 0);
            }
        }
    }
}

#[test]
fn damage_while_it_runs_is_noticed_when_it_is_read() {
    let place = tempfile::tempdir().unwrap();
    let mut spool = open(place.path());
    append(&mut spool, 1..6);
    let path = segment::path(place.path(), 1, KIND);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(drain(&mut spool, 10), [1, 2, 4, 5]);
    assert_eq!((spool.news().damaged, spool.len()), (1, 0));
    assert_eq!(segment::list(place.path(), BAD).unwrap(), [1]);
    fs::remove_file(segment::path(place.path(), 1, BAD)).unwrap();

    append(&mut spool, 6..8);
    fs::remove_file(segment::path(place.path(), 2, KIND)).unwrap();
    assert!(spool.oldest(1, 1).is_err());
}

#[test]
fn a_kill_between_noting_and_deleting_repeats_nothing() {
    let place = tempfile::tempdir().unwrap();
    let mut spool = open(place.path());
    append(&mut spool, 1..3);
    let before = files(place.path());
    let path = segment::path(place.path(), 1, KIND);
    assert_eq!(take(&mut spool, 2), [1, 2]);
    drop(spool);
    // The cursor of after, the segment of before.
    fs::write(&path, &before[&path]).unwrap();
    let mut spool = open(place.path());
    assert_eq!(
        (drain(&mut spool, 9), spool.news()),
        (vec![], News::default())
    );
    append(&mut spool, 3..4);
    drop(spool);
    // The cursor of before: one batch comes again.
    let place = with(&before);
    assert_eq!(drain(&mut open(place.path()), 9), [1, 2]);
}

#[test]
fn a_disk_that_takes_nothing_is_an_error_and_what_was_there_stays() {
    let place = tempfile::tempdir().unwrap();
    let mut spool = open(place.path());
    append(&mut spool, 1..4);
    let path = segment::path(place.path(), 1, KIND);
    let writable = spool.tail.replace(File::open(&path).unwrap());
    let (places, result) = spool.append(&[record(4)]);
    assert!(places.is_empty() && result.is_err());
    assert_eq!(spool.len(), 3);
    // Writing goes on as soon as it can; half a line may be there.
    spool.tail = writable;
    spool.tail.as_mut().unwrap().write_all(b"0000").unwrap();
    spool.tail = None;
    append(&mut spool, 4..6);
    assert_eq!(drain(&mut spool, 2), [1, 2, 3, 4, 5]);
    assert_eq!(spool.news().lost, 0);
}

/// What is done with a spool.
#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Take(usize),
    Kill,
    /// A batch was read, delivered, and the process killed before that was noted.
    KillInHand(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_u64..30).prop_map(Step::Append),
        4 => (1_usize..20).prop_map(Step::Take),
        1 => Just(Step::Kill),
        1 => (1_usize..20).prop_map(Step::KillInHand),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_does_what_a_list_does_whenever_it_is_killed(steps in steps(), spans in 3_u64..60) {
        let place = tempfile::tempdir().unwrap();
        let length = count(segment::length(&record(1).line));
        // Small segments, and room for all.
        let quota = 10_000 * length;
        let mut spool = Spool::open(place.path(), quota).unwrap();
        let (mut model, mut next) = (VecDeque::new(), 1);
        for step in steps {
            // Some segments are full.
            if next % spans == 0 {
                spool.tail = None;
            }
            match step {
                Step::Append(more) => {
                    append(&mut spool, next..next + more);
                    model.extend(next..next + more);
                    next += more;
                },
                Step::Take(most) => {
                    let taken = take(&mut spool, most);
                    prop_assert_eq!(taken.is_empty(), model.is_empty());
                    for number in taken {
                        prop_assert_eq!(model.pop_front(), Some(number));
                    }
                },
                Step::Kill => {
                    drop(spool);
                    spool = Spool::open(place.path(), quota).unwrap();
                },
                Step::KillInHand(most) => {
                    let read = spool.oldest(most, 1 << 20).unwrap();
                    let read: Vec<_> = read.iter().map(|(record, _)| number(record)).collect();
                    prop_assert_eq!(&read, &model.iter().take(read.len()).copied().collect::<Vec<_>>());
                    drop(spool);
                    spool = Spool::open(place.path(), quota).unwrap();
                },
            }
            prop_assert_eq!(spool.len(), count(model.len()));
        }
        prop_assert_eq!(drain(&mut spool, 5), Vec::from(model));
        prop_assert_eq!(spool.news(), News::default());
    }
}

#[test]
fn a_batch_goes_on_in_the_next_segment_and_past_what_is_damaged() {
    let place = tempfile::tempdir().unwrap();
    for from in [1, 4, 7] {
        // Each run begins a segment.
        append(&mut open(place.path()), from..from + 3);
    }
    let path = segment::path(place.path(), 2, KIND);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("span_id", "spam_id", 1)).unwrap();
    let mut spool = open(place.path());
    let mut oldest = |most, bytes| -> (Vec<u64>, Vec<Place>) {
        let batch = spool.oldest(most, bytes).unwrap();
        let batch = batch.iter().map(|(record, place)| (number(record), *place));
        batch.unzip()
    };
    assert_eq!(oldest(3, 1 << 20).0, [1, 2, 3]);
    assert_eq!(oldest(9, record(1).line.len() * 2).0, [1, 2]);
    let (numbers, places) = oldest(9, 1 << 20);
    assert_eq!(numbers, [1, 2, 3, 5, 6, 7, 8, 9]);
    let (struck, noted) = spool.done(&places);
    noted.unwrap();
    assert_eq!((struck, spool.len(), spool.news().damaged), (8, 0, 1));
}

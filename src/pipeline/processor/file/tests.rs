//! Tests of the file processor as a whole.

use std::{
    fs,
    io::Read as _,
    path::Path,
    time::{Duration, Instant},
};

use super::*;
use crate::{base::clock::TestClock, call::span::tests::example};

const NOON: Timestamp = Timestamp::from_secs(1_795_348_800);

fn processor(config: Config) -> (File, Arc<TestClock>) {
    let clock = Arc::new(TestClock::at(NOON));
    let shared: Arc<dyn Clock> = Arc::<TestClock>::clone(&clock);
    (File::new(config, shared), clock)
}

fn batch() -> [Arc<Record>; 2] {
    [(); 2].map(|()| Arc::new(Record::new(example())))
}

fn two_lines() -> String {
    let line = example().to_json();
    format!("{line}\n{line}\n")
}

fn names_in(directory: &Path) -> Vec<String> {
    names::list(directory).unwrap()
}

/// Ticks until the compressing thread is done with everything.
fn settle(file: &mut File) {
    #[expect(
        clippy::disallowed_methods,
        reason = "bounds the wait for another thread"
    )]
    let began = Instant::now();
    loop {
        let _upkeep = file.upkeep();
        if file.archive.is_idle() {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "it never ends");
        std::thread::yield_now();
    }
}

#[test]
fn a_new_day_begins_a_new_file_and_a_step_back_does_not() {
    let place = tempfile::tempdir().unwrap();
    let (mut file, clock) = processor(Config {
        directory: place.path().to_owned(),
        ..Config::default()
    });
    file.write(&batch()).unwrap();
    clock.advance(Duration::from_hours(12));
    file.write(&batch()).unwrap();
    clock.set(NOON);
    file.write(&batch()).unwrap();
    let names = ["spans-2026-11-22.0001.jsonl", "spans-2026-11-23.0001.jsonl"];
    assert_eq!(names_in(place.path()), names);
    let read = |name| fs::read_to_string(place.path().join(name)).unwrap();
    assert_eq!(read(names[0]), two_lines());
    assert_eq!(read(names[1]), two_lines().repeat(2));
}

#[test]
fn ended_files_are_compressed_and_read_back_whole() {
    for (kind, extension) in [(Compression::Gzip, "gz"), (Compression::Zstd, "zst")] {
        let place = tempfile::tempdir().unwrap();
        let (mut file, clock) = processor(Config {
            directory: place.path().to_owned(),
            rotation: Rotation::Hourly,
            compression: kind,
            ..Config::default()
        });
        file.write(&batch()).unwrap();
        clock.advance(Duration::from_hours(1));
        // Nothing is written any more: the tick alone ends the file.
        settle(&mut file);
        let name = format!("spans-2026-11-22T12.0001.jsonl.{extension}");
        assert_eq!(names_in(place.path()), [&*name]);
        let packed = fs::read(place.path().join(&name)).unwrap();
        let mut text = String::new();
        let read = match kind {
            Compression::Gzip => flate2::read::GzDecoder::new(&*packed).read_to_string(&mut text),
            _ => zstd::Decoder::new(&*packed)
                .unwrap()
                .read_to_string(&mut text),
        };
        read.unwrap();
        assert_eq!(text, two_lines());
    }
}

#[test]
fn the_oldest_files_beyond_the_number_are_deleted() {
    let place = tempfile::tempdir().unwrap();
    let (mut file, _clock) = processor(Config {
        directory: place.path().to_owned(),
        rotation: Rotation::Size,
        max_size: ByteSize::bytes(10),
        max_files: 3,
        ..Config::default()
    });
    fs::write(place.path().join("notes.txt"), "not ours").unwrap();
    for _ in 0..6 {
        file.write(&batch()).unwrap();
        file.archive.tidy(file.log.as_ref().map(Log::path));
    }
    let names = ["0004", "0005", "0006"].map(|n| format!("spans-2026-11-22.{n}.jsonl"));
    assert_eq!(names_in(place.path()), names);
    assert!(place.path().join("notes.txt").exists());
}

#[test]
fn a_torn_line_is_cut_and_counted_at_the_start() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("spans-2026-11-22.0001.jsonl");
    fs::write(&path, "{\"whole\":true}\n{\"torn\":tr").unwrap();
    let (mut file, _clock) = processor(Config {
        directory: place.path().to_owned(),
        ..Config::default()
    });
    assert_eq!(file.upkeep().torn, 1);
    assert_eq!(file.upkeep().torn, 0);
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"whole\":true}\n");
}

#[test]
fn a_directory_that_cannot_be_used_fails_the_batch_and_recovers() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("traces");
    fs::write(&directory, "a file is in the way").unwrap();
    let (mut file, _clock) = processor(Config {
        directory: directory.clone(),
        ..Config::default()
    });
    let _upkeep = file.upkeep();
    assert!(file.write(&batch()).is_err());
    fs::remove_file(&directory).unwrap();
    file.write(&batch()).unwrap();
    assert_eq!(names_in(&directory).len(), 1);
}

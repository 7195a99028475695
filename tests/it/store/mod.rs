//! The store, written and read by different connections as in life.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use proptest::prelude::*;
use tollgate::{
    base::{
        clock::Timestamp,
        id::{RequestId, TraceId},
        money::Usd,
    },
    call::{
        brief::Brief,
        labels::{Label, Source},
        outcome::{End, Kind, Status},
        span::{ATTEMPT, Span, Value},
        tally::{Dimension, Sums},
        usage::{Usage, UsageSource},
    },
    store::{Config, Filter, Reader, StoreError, Writer},
};

const NOON: Timestamp = Timestamp::from_secs(1_795_348_800);
const DAY: Duration = Duration::from_hours(24);

fn config(place: &Path) -> Config {
    Config {
        path: place.join("data"),
        ..Config::default()
    }
}

fn call(start: Timestamp, agent: &str) -> Span {
    let mut span = Span {
        kind: Kind::Llm,
        operation: Some("chat"),
        provider: "openai".into(),
        request_model: Some("gpt-4o".into()),
        usage: Usage::text(100, 10),
        usage_source: UsageSource::Reported,
        cost: Some(Usd::from_nanos(625_000)),
        ..Span::begun(start)
    };
    span.labels.set(Label::Agent, agent, Source::Header);
    span
}

fn append(writer: &mut Writer, spans: &[Span]) {
    let lines: Vec<_> = spans.iter().map(Span::to_json).collect();
    let pairs = spans.iter().zip(lines.iter().map(String::as_str));
    writer.append(pairs).unwrap();
}

fn agents(spans: &[tollgate::store::Stored]) -> Vec<String> {
    spans
        .iter()
        .map(|span| {
            Brief::from_json(&span.line)
                .unwrap()
                .agent
                .unwrap()
                .into_owned()
        })
        .collect()
}

#[test]
fn what_was_written_is_found_by_trace_request_label_and_time() {
    let place = tempfile::tempdir().unwrap();
    let config = config(place.path());
    let mut writer = Writer::open(&config).unwrap();
    let trace = TraceId::random();
    // Over several sealed blocks and an open one.
    let spans: Vec<_> = (0..10_000_u64)
        .map(|n| {
            let start = NOON + Duration::from_secs(n);
            let agent = format!("agent-{n}");
            match n {
                0 | 5_000 | 9_999 => Span {
                    trace_id: trace,
                    ..call(start, &agent)
                },
                _ => call(start, &agent),
            }
        })
        .collect();
    spans
        .chunks(3_000)
        .for_each(|batch| append(&mut writer, batch));
    let reader = Reader::open(&config.file()).unwrap();

    let found = reader.trace(trace, 100).unwrap();
    assert_eq!(agents(&found), ["agent-0", "agent-5000", "agent-9999"]);
    assert_eq!(reader.trace(trace, 2).unwrap().len(), 2);
    assert!(reader.trace(TraceId::random(), 100).unwrap().is_empty());

    for n in [0, 4_095, 4_096, 8_191, 8_192, 9_999] {
        let found = reader.request(spans[n].request_id).unwrap().unwrap();
        assert_eq!(found.line, spans[n].to_json());
    }
    assert_eq!(reader.request(RequestId::new(NOON)).unwrap(), None);

    let filter = Filter {
        labels: vec![(Label::Agent, "agent-7".to_owned())],
        ..Filter::default()
    };
    assert_eq!(agents(&reader.latest(&filter, 10).unwrap()), ["agent-7"]);

    let filter = Filter {
        since: Some(NOON + Duration::from_mins(150)),
        until: Some(NOON + Duration::from_secs(9_003)),
        ..Filter::default()
    };
    let range = ["agent-9000", "agent-9001", "agent-9002"];
    assert_eq!(agents(&reader.latest(&filter, 10).unwrap()), range);
    assert_eq!(agents(&reader.latest(&filter, 2).unwrap()), range[1..]);
}

#[test]
fn a_reader_follows_what_is_written() {
    let place = tempfile::tempdir().unwrap();
    let config = config(place.path());
    let mut writer = Writer::open(&config).unwrap();
    append(&mut writer, &[call(NOON, "before")]);
    let reader = Reader::open(&config.file()).unwrap();
    let mut after = reader.last_id().unwrap();
    for round in ["one", "two"] {
        append(&mut writer, &[call(NOON, round), call(NOON, round)]);
        let filter = Filter {
            after: Some(after),
            ..Filter::default()
        };
        let new = reader.first(&filter, 100).unwrap();
        assert_eq!(agents(&new), [round, round]);
        after = new.last().unwrap().id;
    }
}

#[test]
fn a_report_sums_calls_by_any_dimension() {
    let place = tempfile::tempdir().unwrap();
    let config = config(place.path());
    let mut writer = Writer::open(&config).unwrap();
    let later = NOON + DAY;
    let spans = [
        call(NOON, "a"),
        Span {
            status: Status::Error,
            cost: None,
            ..call(NOON, "a")
        },
        Span {
            usage_source: UsageSource::Ceiling,
            ..call(later, "b")
        },
        Span {
            status: Status::Blocked,
            usage: Usage::NONE,
            cost: Some(Usd::ZERO),
            ..call(later, "b")
        },
        // Not a call, so not in any report.
        Span {
            kind: Kind::Tool,
            ..call(later, "b")
        },
    ];
    append(&mut writer, &spans);
    let reader = Reader::open(&config.file()).unwrap();
    let report = |by: &[Dimension]| reader.report(&Filter::default(), by).unwrap();
    let text = |value: &str| Some(value.to_owned());

    let rows = report(&[Dimension::Agent, Dimension::Day]);
    assert_eq!(rows[0].group, [text("a"), text("2026-11-22")]);
    assert_eq!(
        rows[0].sums,
        Sums {
            calls: 2,
            errors: 1,
            input_tokens: 200,
            output_tokens: 20,
            unknown_cost_calls: 1,
            cost_usd: Usd::from_nanos(625_000),
            ..Sums::default()
        }
    );
    assert_eq!(rows[1].group, [text("b"), text("2026-11-23")]);
    assert_eq!((rows[1].sums.blocked, rows[1].sums.estimated_calls), (1, 1));
    assert_eq!(report(&[Dimension::User])[0].group, [None]);

    let total = &report(&[])[0].sums;
    let sum = rows.iter().fold(Sums::default(), |mut sum, row| {
        sum += row.sums;
        sum
    });
    assert_eq!(*total, sum);
    let since = Filter {
        since: Some(later),
        ..Filter::default()
    };
    assert_eq!(reader.report(&since, &[]).unwrap()[0].sums.calls, 2);
    let none = Filter {
        since: Some(later + DAY),
        ..Filter::default()
    };
    assert_eq!(reader.report(&none, &[]).unwrap(), []);
}

#[test]
fn further_attempts_are_summed_apart() {
    let place = tempfile::tempdir().unwrap();
    let config = config(place.path());
    let mut writer = Writer::open(&config).unwrap();
    let attempt = |number, cost| Span {
        cost,
        attributes: vec![(ATTEMPT, Value::Int(number))],
        ..call(NOON, "a")
    };
    let second = attempt(2, None);
    let third = attempt(3, Some(Usd::from_nanos(25)));
    append(
        &mut writer,
        &[call(NOON, "a"), second, third, call(NOON, "b")],
    );
    let reader = Reader::open(&config.file()).unwrap();
    let rows = reader.report(&Filter::default(), &[Dimension::Agent]);
    let rows: Vec<_> = rows.unwrap().into_iter().map(|row| row.sums).collect();
    let apart = |sums: &Sums| (sums.retries, sums.retry_cost_usd);
    assert_eq!((rows[0].calls, rows[1].calls), (3, 1));
    assert_eq!(apart(&rows[0]), (2, Usd::from_nanos(25)));
    assert_eq!(apart(&rows[1]), (0, Usd::ZERO));
}

#[test]
fn a_model_is_one_group_whether_it_answered_under_a_dated_name_or_was_refused() {
    let place = tempfile::tempdir().unwrap();
    let config = config(place.path());
    let mut writer = Writer::open(&config).unwrap();
    let answered = Span {
        response_model: Some("gpt-4o-2024-08-06".into()),
        ..call(NOON, "support")
    };
    let refused = Span {
        status: Status::Blocked,
        ..call(NOON, "support")
    };
    let other = Span {
        response_model: Some("gpt-4.1".into()),
        ..call(NOON, "support")
    };
    append(&mut writer, &[answered, refused, other]);
    let reader = Reader::open(&config.file()).unwrap();
    let groups = |filter: &Filter, by| {
        let rows = reader.report(filter, &[by]).unwrap().into_iter();
        let mut groups: Vec<_> = rows
            .map(|row| (row.group[0].clone().unwrap(), row.sums.calls))
            .collect();
        groups.sort();
        groups
    };
    let named = |names: &[(&str, u64)]| {
        let names = names.iter();
        names
            .map(|(name, calls)| ((*name).to_owned(), *calls))
            .collect::<Vec<_>>()
    };
    let all = Filter::default();
    let by_model = named(&[("gpt-4.1", 1), ("gpt-4o", 2)]);
    assert_eq!(groups(&all, Dimension::Model), by_model);
    let by_version = named(&[("gpt-4.1", 1), ("gpt-4o", 1), ("gpt-4o-2024-08-06", 1)]);
    assert_eq!(groups(&all, Dimension::Version), by_version);
    for (model, calls) in [("gpt-4o", 2), ("gpt-4o-2024-08-06", 1)] {
        let filter = Filter {
            model: Some(model.to_owned()),
            ..Filter::default()
        };
        assert_eq!(reader.latest(&filter, 9).unwrap().len(), calls, "{model}");
    }
}

#[test]
fn a_store_of_an_older_format_is_brought_up_to_date_and_keeps_its_spans() {
    let place = tempfile::tempdir().unwrap();
    let config = config(place.path());
    let mut writer = Writer::open(&config).unwrap();
    append(&mut writer, &[call(NOON, "support")]);
    drop(writer);
    let older = [
        "ALTER TABLE spans DROP COLUMN attempt; PRAGMA user_version = 2",
        "ALTER TABLE spans DROP COLUMN attempt; ALTER TABLE spans DROP COLUMN family;
            PRAGMA user_version = 1",
    ];
    for (older, calls) in older.into_iter().zip(2..) {
        let connection = rusqlite::Connection::open(config.file()).unwrap();
        connection.execute_batch(older).unwrap();
        drop(connection);
        let mut writer = Writer::open(&config).unwrap();
        append(&mut writer, &[call(NOON, "support")]);
        let reader = Reader::open(&config.file()).unwrap();
        let rows = reader.report(&Filter::default(), &[Dimension::Model]);
        assert_eq!(rows.unwrap()[0].sums.calls, calls);
    }
}

#[test]
fn old_spans_are_deleted_a_part_at_a_time_and_counted() {
    let place = tempfile::tempdir().unwrap();
    let config = Config {
        retention: DAY,
        ..config(place.path())
    };
    let mut writer = Writer::open(&config).unwrap();
    let old = vec![call(NOON, "old"); 6_000];
    append(&mut writer, &old);
    append(&mut writer, &[call(NOON + DAY, "new")]);
    assert_eq!(writer.expire(NOON).unwrap(), 0);
    let now = NOON + DAY + DAY / 2;
    let deleted: Vec<_> = (0..3).map(|_| writer.expire(now).unwrap()).collect();
    assert_eq!(deleted, [4_096, 1_904, 0]);
    let reader = Reader::open(&config.file()).unwrap();
    assert_eq!(
        agents(&reader.latest(&Filter::default(), 10).unwrap()),
        ["new"]
    );
    let forever = Config {
        retention: Duration::ZERO,
        ..config
    };
    drop(writer);
    let mut writer = Writer::open(&forever).unwrap();
    assert_eq!(writer.expire(NOON + 10_000 * DAY).unwrap(), 0);
}

#[test]
fn places_go_on_where_they_were_after_a_restart() {
    let place = tempfile::tempdir().unwrap();
    let config = config(place.path());
    let trace = TraceId::random();
    for _ in 0..3 {
        let mut writer = Writer::open(&config).unwrap();
        let spans = vec![
            Span {
                trace_id: trace,
                ..call(NOON, "a")
            };
            2_000
        ];
        append(&mut writer, &spans);
    }
    let reader = Reader::open(&config.file()).unwrap();
    assert_eq!(reader.last_id().unwrap(), 6_000);
    assert_eq!(reader.trace(trace, 10_000).unwrap().len(), 6_000);
}

#[test]
fn a_crashed_call_is_not_stored_twice() {
    let place = tempfile::tempdir().unwrap();
    let config = config(place.path());
    let mut writer = Writer::open(&config).unwrap();
    let stored = call(NOON, "a");
    append(&mut writer, std::slice::from_ref(&stored));
    let crashed = |span: Span| Span {
        end: End::Crashed,
        ..span
    };
    append(&mut writer, &[crashed(stored), crashed(call(NOON, "b"))]);
    let reader = Reader::open(&config.file()).unwrap();
    assert_eq!(
        agents(&reader.latest(&Filter::default(), 10).unwrap()),
        ["a", "b"]
    );
}

#[test]
fn the_store_is_its_owners_alone() {
    let place = tempfile::tempdir().unwrap();
    let config = config(place.path());
    let mut writer = Writer::open(&config).unwrap();
    append(&mut writer, &[call(NOON, "a")]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&config.path), 0o700);
    for entry in fs::read_dir(&config.path).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn what_cannot_be_a_store_is_refused_with_its_path() {
    let place = tempfile::tempdir().unwrap();
    let config = config(place.path());
    let missing = Reader::open(&config.file()).unwrap_err();
    assert!(matches!(missing, StoreError::Missing { .. }));

    fs::create_dir_all(&config.path).unwrap();
    fs::write(config.file(), "this is no database, ".repeat(1_000)).unwrap();
    let error = Writer::open(&config).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("spans.db"), "{error}");

    fs::remove_file(config.file()).unwrap();
    let foreign = rusqlite::Connection::open(config.file()).unwrap();
    foreign.execute_batch("CREATE TABLE theirs (x)").unwrap();
    let error = Writer::open(&config).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");

    let in_the_way = Config {
        path: config.file(),
        ..Config::default()
    };
    let error = Writer::open(&in_the_way).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
}

#[test]
fn a_store_of_a_newer_format_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let config = config(place.path());
    drop(Writer::open(&config).unwrap());
    let connection = rusqlite::Connection::open(config.file()).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    for error in [
        Writer::open(&config).unwrap_err(),
        Reader::open(&config.file()).unwrap_err(),
    ] {
        assert!(
            matches!(error, StoreError::Version { found: 99, .. }),
            "{error:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn a_reports_rows_add_up_to_its_total(
        costs in proptest::collection::vec((0_u8..4, proptest::option::of(0_i64..1 << 40)), 1..60),
    ) {
        let place = tempfile::tempdir().unwrap();
        let config = config(place.path());
        let mut writer = Writer::open(&config).unwrap();
        let spans: Vec<_> = costs
            .iter()
            .map(|(agent, cost)| Span {
                cost: cost.map(Usd::from_nanos),
                ..call(NOON, &format!("agent-{agent}"))
            })
            .collect();
        append(&mut writer, &spans);
        let reader = Reader::open(&config.file()).unwrap();
        let rows = reader.report(&Filter::default(), &[Dimension::Agent]).unwrap();
        let sum: Usd = rows.iter().map(|row| row.sums.cost_usd).sum();
        let expected: i64 = costs.iter().filter_map(|(_, cost)| *cost).sum();
        prop_assert_eq!(sum, Usd::from_nanos(expected));
        let unknown: u64 = rows.iter().map(|row| row.sums.unknown_cost_calls).sum();
        let nones = costs.iter().filter(|(_, cost)| cost.is_none()).count();
        prop_assert_eq!(unknown, nones as u64);
    }
}

//! Objects in a store that speaks as S3 does: their names, their content, their signatures, and what
//! comes again.

use std::{collections::BTreeMap, io::Read as _, sync::Arc, time::Duration};

use tollgate::{
    base::{
        clock::{SystemClock, Timestamp},
        secret::Secret,
    },
    call::span::Span,
    net::aws::{Keys, Scope, verify},
    pipeline::{BuildContext, Config, Outlet, Pipeline, Stats},
};

use super::{
    offer,
    sink::{Does, Seen, Sink, TAKES},
    sinks::span,
};
use crate::support::sandbox::PATIENCE;

const KEYS: &str = "access_key_id: AKIA1, secret_access_key: hush, session_token: also";
const DAY: u64 = 86_400;
/// 2026-11-22T06:25:14Z
const THEN: u64 = 1_795_328_714;

fn keys() -> Keys {
    Keys {
        id: "AKIA1".to_owned(),
        secret: Secret::new("hush"),
        token: Some(Secret::new("also")),
    }
}

/// The processor, with spans that wait on disk below `directory` if there is one.
fn outlet(sink: &Sink, more: &str, directory: Option<&std::path::Path>) -> Outlet {
    let buffering = directory.map_or_else(
        || "persist_buffer: false".to_owned(),
        |place| format!("buffer_directory: '{}'", place.display()),
    );
    let yaml = format!(
        "buffering: {{{buffering}}}\nprocessors: [{{type: object_store, url: 's3://audit/llm calls', \
         endpoint: '{}', region: eu-west-1, {KEYS}, {more}}}]",
        sink.url
    );
    let config: Config = serde_saphyr::from_str(&yaml).unwrap();
    let context = BuildContext::new(Arc::new(SystemClock));
    let mut outlet = config.build(&context).unwrap().remove(0);
    outlet.delivery.backoff = Duration::from_millis(1);
    outlet.delivery.recovery_timeout = Duration::from_millis(5);
    outlet
}

fn start(outlet: Outlet) -> Pipeline {
    Pipeline::start(Vec::new(), vec![outlet], Arc::new(SystemClock)).unwrap()
}

/// A span that began so many days later than the others.
fn later(n: u64, days: u64) -> Span {
    Span {
        start: Timestamp::from_secs(THEN + days * DAY),
        ..span(n)
    }
}

/// What a client of the store would find: the last body under each name.
fn objects(seen: &[Seen]) -> BTreeMap<String, Vec<u8>> {
    let taken = seen.iter().filter(|seen| seen.answered == TAKES);
    taken
        .map(|seen| (seen.target.clone(), seen.body.clone()))
        .collect()
}

fn ids(lines: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(lines).unwrap();
    assert!(text.ends_with('\n'));
    let id = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["span_id"].as_str().unwrap().to_owned()
    };
    text.lines().map(id).collect()
}

fn wanted(spans: &[Span]) -> Vec<String> {
    spans.iter().map(|span| span.span_id.to_string()).collect()
}

#[tokio::test]
async fn each_day_is_an_object_that_is_signed_and_compressed() {
    for (kind, extension) in [
        ("gzip", "jsonl.gz"),
        ("zstd", "jsonl.zst"),
        ("none", "jsonl"),
    ] {
        let sink = Sink::start(&[], TAKES).await;
        let headers = "headers: {x-amz-storage-class: STANDARD_IA, cache-control: no-store}";
        let more = format!("compression: {kind}, {headers}");
        let pipeline = start(outlet(&sink, &more, None));
        let spans = [later(1, 1), later(2, 0), later(3, 1)];
        let stats = offer(&pipeline, spans.clone()).await;
        assert_eq!((stats.delivered, stats.retried), (3, 0));
        let seen = sink.seen();
        let days = ["2026-11-22", "2026-11-23"];
        let of_day = [&spans[1..2], &[spans[0].clone(), spans[2].clone()]];
        assert_eq!(seen.len(), 2);
        for ((seen, day), spans) in seen.iter().zip(days).zip(of_day) {
            assert_eq!(seen.method, "PUT");
            let name = format!("/audit/llm%20calls/dt%3D{day}/062514-");
            let name = seen.target.strip_prefix(&name).unwrap();
            let (hash, rest) = name.split_once('.').unwrap();
            assert_eq!((hash.len(), rest), (32, extension));
            let head = (&"PUT".parse().unwrap(), &seen.target.parse().unwrap());
            let known = |id: &str| (id == "AKIA1").then(keys);
            assert_eq!(verify(head, &seen.headers, &seen.body, known), Ok(()));
            let scope = Scope::of(&seen.headers).unwrap();
            assert_eq!((&*scope.region, &*scope.service), ("eu-west-1", "s3"));
            assert_eq!(seen.headers["x-amz-storage-class"], "STANDARD_IA");
            assert_eq!(seen.headers["cache-control"], "no-store");
            assert!(!seen.headers.contains_key("content-encoding"));
            let mut lines = Vec::new();
            let _read = match kind {
                "gzip" => flate2::read::GzDecoder::new(&*seen.body).read_to_end(&mut lines),
                "zstd" => zstd::Decoder::new(&*seen.body)
                    .unwrap()
                    .read_to_end(&mut lines),
                _ => (&*seen.body).read_to_end(&mut lines),
            };
            assert_eq!(ids(&lines), wanted(spans));
        }
        pipeline.close(PATIENCE).await;
    }
}

#[tokio::test]
async fn what_comes_again_is_the_same_object_and_what_arrived_is_not_sent_again() {
    let place = tempfile::tempdir().unwrap();
    let unavailable = Does::Answers(503, None);
    // The first day arrives, the second does not, though it may be there: its answer is lost.
    let sink = Sink::start(&[TAKES, Does::ResetsAnswer, unavailable], TAKES).await;
    let pipeline = start(outlet(&sink, "compression: none", Some(place.path())));
    let spans: Vec<Span> = (1..=6).map(|n| later(n, n % 2)).collect();
    let flushed = async {
        for span in &spans {
            pipeline.offer(span.clone());
        }
        assert!(pipeline.flush(PATIENCE).await);
        pipeline.offer(later(7, 1));
        while stats(&pipeline).delivered < 7 {
            assert!(pipeline.flush(PATIENCE).await);
        }
    };
    tokio::time::timeout(PATIENCE, flushed).await.unwrap();
    let seen = sink.seen();
    let names: Vec<&str> = seen.iter().map(|seen| &*seen.target).collect();
    assert_eq!(names.len(), 5, "{names:?}");
    assert_eq!((names[1], names[1]), (names[2], names[3]));
    assert_eq!(seen[1].body, seen[3].body);
    let found: Vec<String> = objects(&seen).values().flat_map(|it| ids(it)).collect();
    assert_eq!(found.len(), 7, "nothing is there twice: {names:?}");
    pipeline.close(PATIENCE).await;
}

#[tokio::test]
async fn an_object_that_is_too_large_is_halved_and_nothing_is_there_twice() {
    let place = tempfile::tempdir().unwrap();
    let too_large = Does::Answers(413, None);
    // Of the second day the first half arrives, and the answer to the second half is lost.
    let sink = Sink::start(&[TAKES, too_large, TAKES, Does::ResetsAnswer], TAKES).await;
    let pipeline = start(outlet(&sink, "compression: none", Some(place.path())));
    let spans: Vec<Span> = (1..=6).map(|n| later(n, n / 3)).collect();
    for span in &spans {
        pipeline.offer(span.clone());
    }
    let flushed = async {
        while stats(&pipeline).delivered < 6 {
            assert!(pipeline.flush(PATIENCE).await);
        }
    };
    tokio::time::timeout(PATIENCE, flushed).await.unwrap();
    assert_eq!(
        (stats(&pipeline).halved, stats(&pipeline).too_large),
        (1, 0)
    );
    let seen = sink.seen();
    let found: Vec<String> = objects(&seen).values().flat_map(|it| ids(it)).collect();
    assert_eq!(found.len(), 6, "nothing is there twice");
    let names: Vec<&str> = seen.iter().map(|seen| &*seen.target).collect();
    let put: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!((names.len(), put.len()), (6, 5), "{names:?}");
    pipeline.close(PATIENCE).await;
}

#[tokio::test]
async fn a_day_that_is_refused_takes_no_other_with_it() {
    let denied = Does::Answers(403, None);
    let sink = Sink::start(&[TAKES, denied], TAKES).await;
    let pipeline = start(outlet(&sink, "compression: none", None));
    let stats = offer(&pipeline, [later(1, 0), later(2, 1), later(3, 2)]).await;
    assert_eq!((stats.delivered, stats.failed, stats.retried), (2, 1, 0));
    assert_eq!(sink.seen().len(), 3);
    pipeline.close(PATIENCE).await;
}

#[tokio::test]
async fn spans_wait_on_disk_for_an_object_that_is_worth_it() {
    let place = tempfile::tempdir().unwrap();
    let sink = Sink::start(&[], TAKES).await;
    let pipeline = start(outlet(&sink, "batch_size: 4", Some(place.path())));
    for n in 1..=6 {
        pipeline.offer(later(n, 0));
    }
    let filled = async {
        while stats(&pipeline).buffered != 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, filled).await.unwrap();
    assert_eq!(stats(&pipeline).delivered, 4);
    pipeline.close(PATIENCE).await;
    assert_eq!((stats(&pipeline).delivered, sink.seen().len()), (6, 2));
}

fn stats(pipeline: &Pipeline) -> Stats {
    pipeline.stats()[0].1
}

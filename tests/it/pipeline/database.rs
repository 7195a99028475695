//! Spans as rows, in SQLite and in a real PostgreSQL: the same test for both.

use std::{path::Path, sync::Arc, time::Duration};

use serde_json::Value as Json;
use tokio::{io::AsyncWriteExt as _, net::TcpListener};
use tollgate::{
    base::{
        clock::{SystemClock, Timestamp},
        id::{SpanId, TraceId},
        money::Usd,
    },
    call::{
        outcome::{Kind, Status},
        span::{Event, Span, Value},
    },
    pipeline::{BuildContext, Config, Outlet, Pipeline, Stats},
};

use super::{offer, postgres::Server, sink::TLS};
use crate::support::sandbox::PATIENCE;

/// A place to ask what arrived.
trait Place {
    /// The processor's keys that lead there.
    fn keys(&self) -> String;
    /// The rows of a statement, columns with `|` between them.
    fn ask(&self, sql: &str) -> Vec<String>;
}

struct File(tempfile::TempDir);

impl File {
    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("new/spans.db")
    }

    fn at(path: &Path, sql: &str) -> Vec<String> {
        let connection = rusqlite::Connection::open(path).unwrap();
        let mut statement = connection.prepare(sql).unwrap();
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| {
            let cells = (0..columns).map(|at| {
                let cell: rusqlite::types::Value = row.get(at).unwrap();
                match cell {
                    rusqlite::types::Value::Null => String::new(),
                    rusqlite::types::Value::Integer(it) => it.to_string(),
                    rusqlite::types::Value::Real(it) => it.to_string(),
                    rusqlite::types::Value::Text(it) => it,
                    rusqlite::types::Value::Blob(_) => "blob".to_owned(),
                }
            });
            Ok(cells.collect::<Vec<_>>().join("|"))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }
}

impl Place for File {
    fn keys(&self) -> String {
        format!("url: 'sqlite://{}'", self.path().display())
    }

    fn ask(&self, sql: &str) -> Vec<String> {
        Self::at(&self.path(), sql)
    }
}

impl Place for Server {
    fn keys(&self) -> String {
        format!("url: '{}'", self.url())
    }

    fn ask(&self, sql: &str) -> Vec<String> {
        Self::ask(self, sql)
    }
}

fn span(n: u64) -> Span {
    Span {
        trace_id: TraceId::from_bytes([7; 16]),
        span_id: SpanId::from_bytes(n.to_be_bytes()),
        kind: Kind::Llm,
        operation: Some("chat"),
        request_model: Some("gpt-4o".into()),
        provider: "openai".into(),
        duration: Duration::from_micros(1_234_567),
        cost: Some(Usd::from_nanos(1_000_000 * i64::try_from(n).unwrap())),
        ..Span::begun(Timestamp::from_nanos(1_795_328_714_000_000_000 + n * 1_000))
    }
}

fn outlet(keys: &str) -> Outlet {
    let yaml = format!("processors: [{{type: database, flush_interval: 0s, {keys}}}]");
    let mut config: Config = serde_saphyr::from_str(&yaml).unwrap();
    config.buffering.persist_buffer = false;
    let mut outlet = config
        .build(&BuildContext::new(Arc::new(SystemClock)))
        .unwrap()
        .remove(0);
    outlet.delivery.backoff = Duration::from_millis(20);
    outlet
}

fn start(outlet: Outlet) -> Pipeline {
    Pipeline::start(Vec::new(), vec![outlet], Arc::new(SystemClock)).unwrap()
}

/// Delivers the spans, and says what became of them.
async fn deliver(keys: &str, spans: impl IntoIterator<Item = Span>) -> Stats {
    let pipeline = start(outlet(keys));
    let stats = offer(&pipeline, spans).await;
    pipeline.close(PATIENCE).await;
    stats
}

/// What must hold of any database. `value`: how it reads a value out of JSON.
async fn every_engine(place: &impl Place, value: fn(&str, &str) -> String) {
    let keys = place.keys();
    plain(place, &keys, value).await;
    odd_content(place, &keys).await;
    mapped(place, &keys).await;
    grown(place, &keys).await;
    one_bad_row(place, &keys).await;
}

async fn plain(place: &impl Place, keys: &str, value: fn(&str, &str) -> String) {
    let failed = Span {
        parent_span_id: Some(SpanId::from_bytes(1_u64.to_be_bytes())),
        status: Status::Error,
        events: vec![Event {
            name: "exception".into(),
            time: Timestamp::from_secs(1_795_328_715),
        }],
        ..span(51)
    };
    let spans = || (1..=50).map(span).chain([failed.clone()]);
    assert_eq!(deliver(keys, spans()).await.delivered, 51);
    // The same again leaves the same rows.
    assert_eq!(deliver(keys, spans()).await.delivered, 51);
    assert_eq!(
        place.ask("SELECT count(*), count(DISTINCT id) FROM ai_traces"),
        ["51|1"]
    );
    let ordered = place.ask("SELECT span_id FROM ai_traces ORDER BY started_at, span_id");
    let ids: Vec<String> = (1..=51).map(|n| span(n).span_id.to_string()).collect();
    assert_eq!(ordered, ids);
    let row = "SELECT operation, kind, status, duration, parent_id FROM ai_traces";
    assert_eq!(
        place.ask(&format!("{row} WHERE status = 'error'")),
        ["chat gpt-4o|llm|error|1234.567|0000000000000001"]
    );
    assert_eq!(
        place.ask(&format!("{row} WHERE span_id = '0000000000000002'")),
        ["chat gpt-4o|llm|ok|1234.567|"]
    );
    let model = value("metadata", "gen_ai.request.model");
    let cost = value("metadata", "tollgate.cost.usd");
    assert_eq!(
        place.ask(&format!(
            "SELECT {model}, count(*), CAST(round(sum(CAST({cost} AS decimal)) * 1000) AS integer) \
             FROM ai_traces GROUP BY 1"
        )),
        [format!("gpt-4o|51|{}", 51 * 52 / 2)]
    );
    let events = place.ask("SELECT events FROM ai_traces WHERE status = 'error'");
    let events: Json = serde_json::from_str(&events[0]).unwrap();
    assert_eq!(events[0]["name"], "exception");
}

/// NULs, control characters, what looks like the end of a field, and five megabytes.
async fn odd_content(place: &impl Place, keys: &str) {
    let odd = "a\0b\t\\N\\u0000\\.\n\r\u{1}\u{7f}é\u{fffd}\"'; DROP TABLE ai_traces; --";
    let large = "x\\\n".repeat(5 << 20).split_off(10 << 20);
    let large = format!("{large}\0");
    let spans = [
        Span {
            request_model: Some(odd.into()),
            ..span(101)
        },
        Span {
            attributes: vec![("test.large", Value::Text(large.clone().into()))],
            ..span(102)
        },
    ];
    assert_eq!(deliver(keys, spans).await.delivered, 2);
    let clean = |text: &str| text.replace('\0', "\u{fffd}");
    let metadata = |id: &str| -> Json {
        let sql = format!("SELECT metadata FROM ai_traces WHERE span_id = '{id}'");
        serde_json::from_str(&place.ask(&sql).join("\n")).unwrap()
    };
    assert_eq!(
        metadata("0000000000000065")["gen_ai.request.model"],
        clean(odd)
    );
    assert!(metadata("0000000000000066")["test.large"] == clean(&large));
    let counted = "SELECT count(*) FROM ai_traces WHERE operation LIKE 'chat a%b%DROP TABLE%'";
    assert_eq!(place.ask(counted), ["1"]);
}

/// Names of one's own, however they look, into a table that is there with other types.
async fn mapped(place: &impl Place, keys: &str) {
    let keys = format!(
        "{keys}, table_name: 'My \"table\"', column_mapping: {{span_id: 'Key', trace_id: trace, \
         duration_ms: 'select', attributes: null, events: null, kind: null, status: null}}"
    );
    place.ask(
        "CREATE TABLE \"My \"\"table\"\"\" (serial integer, \"Key\" varchar(40), trace varchar(40), \
         \"select\" numeric(10, 1))",
    );
    for _twice in 0..2 {
        assert_eq!(deliver(&keys, [span(1), span(2)]).await.delivered, 2);
    }
    let rows = place.ask("SELECT \"Key\", operation FROM \"My \"\"table\"\"\" ORDER BY 1");
    assert_eq!(
        rows,
        [
            "0000000000000001|chat gpt-4o",
            "0000000000000002|chat gpt-4o"
        ]
    );
}

/// A table that was dropped meanwhile is made anew.
async fn grown(place: &impl Place, keys: &str) {
    let pipeline = start(outlet(&format!("{keys}, table_name: dropped")));
    assert_eq!(offer(&pipeline, [span(1)]).await.delivered, 1);
    place.ask("DROP TABLE dropped");
    assert_eq!(offer(&pipeline, [span(2)]).await.delivered, 2);
    assert_eq!(
        place.ask("SELECT span_id FROM dropped"),
        ["0000000000000002"]
    );
    pipeline.close(PATIENCE).await;
}

/// A row that the table does not take is refused, and no other.
async fn one_bad_row(place: &impl Place, keys: &str) {
    place.ask("CREATE TABLE picky (span_id text PRIMARY KEY, status text CHECK (status = 'ok'))");
    let bad = Span {
        status: Status::Error,
        ..span(2)
    };
    let stats = deliver(
        &format!("{keys}, table_name: picky"),
        [span(1), bad, span(3)],
    )
    .await;
    assert_eq!((stats.delivered, stats.failed, stats.retried), (2, 1, 0));
    assert_eq!(place.ask("SELECT count(*) FROM picky"), ["2"]);
}

#[tokio::test]
async fn sqlite_holds_what_was_delivered() {
    let file = File(tempfile::tempdir().unwrap());
    every_engine(&file, |column, name| format!("{column} ->> '{name}'")).await;
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&file.path().metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn an_sqlite_file_that_cannot_be_opened_is_tried_again() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("spans.db");
    std::fs::create_dir(&path).unwrap();
    let pipeline = start(outlet(&format!(
        "url: 'sqlite://{}', max_retries: 2",
        path.display()
    )));
    let stats = offer(&pipeline, [span(1)]).await;
    assert_eq!((stats.failed, stats.retried), (1, 1));
    std::fs::remove_dir(&path).unwrap();
    assert_eq!(offer(&pipeline, [span(2)]).await.delivered, 1);
    pipeline.close(PATIENCE).await;
}

#[tokio::test]
async fn postgresql_holds_what_was_delivered() {
    let mut server = Server::start().await;
    every_engine(&server, |column, name| format!("{column} ->> '{name}'")).await;
    agrees(&server);
    over_tls(&server).await;
    with_little_power(&server).await;
    together(&server).await;
    through_a_crash(&mut server).await;
}

/// What only PostgreSQL's types can say.
fn agrees(server: &Server) {
    let wrong = "SELECT count(*) FROM ai_traces \
                 WHERE extract(epoch FROM ended_at - started_at) * 1000 <> duration::numeric";
    assert_eq!(server.ask(wrong), ["0"]);
    let types = "SELECT string_agg(DISTINCT data_type, ',') FROM information_schema.columns \
                 WHERE table_name = 'ai_traces'";
    assert_eq!(
        server.ask(types),
        ["double precision,jsonb,text,timestamp with time zone"]
    );
}

/// The server's certificate is that of an authority that only `ca_file` knows.
async fn over_tls(server: &Server) {
    let keys = format!("url: '{}', table_name: safe", server.tcp_url());
    let trusted = format!("{keys}, tls: {{ca_file: {TLS}/ca.pem}}");
    assert_eq!(deliver(&trusted, [span(1)]).await.delivered, 1);
    let stats = deliver(&format!("{keys}, max_retries: 1"), [span(2)]).await;
    assert_eq!(stats.failed, 1);
    assert_eq!(server.ask("SELECT span_id FROM safe"), ["0000000000000001"]);
}

/// Who may only insert can, once the table is there.
async fn with_little_power(server: &Server) {
    server.ask(
        "CREATE ROLE clerk LOGIN; CREATE TABLE granted (LIKE safe INCLUDING ALL); \
         REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT INSERT, SELECT ON granted TO clerk",
    );
    let url = server.url().replace("tollgate@", "clerk@");
    let stats = deliver(&format!("url: '{url}', table_name: granted"), [span(1)]).await;
    assert_eq!(stats.delivered, 1);
}

/// Several that make the same table at once.
async fn together(server: &Server) {
    let keys = format!("{}, table_name: shared", server.keys());
    let one = |n| Box::pin(deliver(&keys, [span(n), span(1_000)]));
    let all = tokio::join!(one(1), one(2), one(3), one(4));
    for stats in [all.0, all.1, all.2, all.3] {
        assert_eq!((stats.delivered, stats.retried), (2, 0));
    }
    assert_eq!(server.ask("SELECT count(*) FROM shared"), ["5"]);
}

/// A server that went away and came back has what was delivered before and after.
async fn through_a_crash(server: &mut Server) {
    let pipeline = start(outlet(&format!("{}, table_name: lasting", server.keys())));
    assert_eq!(offer(&pipeline, [span(1)]).await.delivered, 1);
    server.crash().await;
    // The old connection is seen to be closed before anything is lost in it.
    let stats = offer(&pipeline, [span(2)]).await;
    assert_eq!(stats.delivered, 2);
    assert_eq!(server.ask("SELECT count(*) FROM lasting"), ["2"]);
    pipeline.close(PATIENCE).await;
}

/// What a server that is none does with a connection.
#[derive(Clone, Copy, Debug)]
enum Does {
    Hangs,
    Closes,
    Babbles,
}

#[tokio::test]
async fn spans_are_accounted_for_whatever_a_server_does() {
    for does in [Does::Hangs, Does::Closes, Does::Babbles] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                match does {
                    Does::Hangs => held.push(stream),
                    Does::Closes => drop(stream),
                    Does::Babbles => {
                        let _cut = stream
                            .write_all(&b"NSsRZ\xff\xff\xff\xff".repeat(1_000))
                            .await;
                    },
                }
            }
        });
        let keys = format!(
            "url: 'postgres://me:hush@127.0.0.1:{port}/db', timeout: 200ms, max_retries: 2"
        );
        let stats = deliver(&keys, [span(1), span(2)]).await;
        assert_eq!((stats.failed, stats.retried), (2, 1), "{does:?}");
        serving.abort();
    }
    let nobody = "url: 'postgres://me@127.0.0.1:9/db', max_retries: 2";
    assert_eq!(deliver(nobody, [span(1)]).await.failed, 1);
}

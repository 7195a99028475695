//! The page of endpoints, `docs/providers.md`, against the program: every row is driven through the
//! whole app, as [`drives::all`] says, and every operation of every dialect has a row.

use std::{collections::BTreeSet, fs, path::Path};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tollgate::{
    mock::{Exact, Mock},
    provider::{Config, Providers},
};

use super::drives::{self, Drive};
use crate::support::{Answer, Sandbox, client};

const PAGE: &str = include_str!("../../../docs/providers.md");

/// A row of the page: the cells.
#[derive(Debug)]
struct Row<'a> {
    provider: &'a str,
    endpoint: &'a str,
    operation: &'a str,
    metered: &'a str,
    limit: &'a str,
}

fn rows() -> Vec<Row<'static>> {
    let lines = PAGE.lines().filter(|line| line.starts_with('|')).skip(2);
    let rows = lines.map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let ["", provider, endpoint, operation, metered, limit, _, _, ""] = cells[..] else {
            panic!("not seven cells: {line}");
        };
        Row {
            provider,
            endpoint,
            operation,
            metered,
            limit,
        }
    });
    rows.collect()
}

impl Row<'_> {
    fn is(&self, drive: &Drive) -> bool {
        drive.row == [self.provider, self.endpoint, self.operation]
    }

    /// Whether the page says that such calls are charged.
    fn is_metered(&self) -> bool {
        !self.metered.starts_with("free") && !self.is_unmetered()
    }

    fn is_unmetered(&self) -> bool {
        self.metered.starts_with("not metered")
    }
}

/// The rows, each with its drive.
fn driven() -> Vec<(Row<'static>, Drive)> {
    let mut drives = drives::all();
    let rows = rows().into_iter();
    rows.filter_map(|row| {
        let at = drives.iter().position(|drive| row.is(drive))?;
        Some((row, drives.swap_remove(at)))
    })
    .collect()
}

#[test]
fn every_row_is_driven_and_every_drive_has_its_row() {
    let (rows, drives) = (rows(), drives::all());
    for row in &rows {
        let count = drives.iter().filter(|drive| row.is(drive)).count();
        assert_eq!(count, 1, "in drives.rs: say how to call {row:?}, once");
    }
    for drive in &drives {
        let count = rows.iter().filter(|row| row.is(drive)).count();
        assert_eq!(count, 1, "in docs/providers.md, once: {:?}", drive.row);
    }
}

#[test]
fn the_page_is_found_from_the_readme() {
    let readme = include_str!("../../../README.md");
    assert!(readme.contains("(docs/providers.md)"));
}

/// The names of the operations that a dialect's source declares: dialect, operation.
fn declared(directory: &Path, dialect: Option<&str>, found: &mut BTreeSet<(String, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let stem = stem.replace('_', "");
        let dialect = dialect.unwrap_or(&stem);
        if path.is_dir() {
            declared(&path, Some(dialect), found);
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        let source = source.split("#[cfg(test)]").next().unwrap();
        for declaration in source.split(": Operation = ").skip(1) {
            let declaration = declaration.split(';').next().unwrap();
            if let Some(name) = declaration.split('"').nth(1) {
                found.insert((dialect.to_owned(), name.to_owned()));
            }
        }
    }
}

#[test]
fn every_operation_of_every_dialect_is_on_the_page() {
    let providers = Providers::build(&Config::default()).unwrap();
    let (rows, drives) = (rows(), drives::all());
    let on_page: BTreeSet<_> = rows
        .iter()
        .map(|row| {
            let provider = providers.named(row.provider);
            let provider = provider.unwrap_or_else(|| panic!("no provider {}", row.provider));
            let drive = drives.iter().find(|drive| row.is(drive)).unwrap();
            if drive.in_socket {
                return (provider.dialect.name(), row.operation);
            }
            let endpoint = drive.endpoint("x");
            let (method, target) = endpoint.split_once(' ').unwrap();
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let (dialect, operation) = provider.operation(&method, path, Some(query));
            assert_eq!(operation.name, row.operation, "{row:?}");
            (dialect.name(), row.operation)
        })
        .collect();
    let mut found = BTreeSet::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/provider");
    declared(&source, None, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for (dialect, name) in &found {
        // What only reads, or is not known, is called the same everywhere.
        let there = on_page.contains(&(dialect.as_str(), name.as_str()))
            || name == "http" && rows.iter().any(|row| row.operation == "http");
        assert!(there, "docs/providers.md has no row for {dialect}'s {name}");
    }
}

/// One row's calls to one sandbox.
struct Calls<'a> {
    sandbox: &'a Sandbox,
    provider: &'a str,
}

impl Calls<'_> {
    /// Makes the call that `drive` needs to be made before, and returns the id that the last of them
    /// gave.
    async fn prepare(&self, drive: &Drive) -> String {
        let mut id = "x".to_owned();
        for step in &drive.before {
            let body = step.body.with_id(&id);
            let answer = self.call(&step.endpoint.replace("{}", &id), &body).await;
            assert_eq!(answer.status, 200, "{drive:?} {answer:?}");
            let found = answer.json();
            let found = found.pointer(step.id).and_then(Value::as_str);
            let found = found.unwrap_or_else(|| panic!("no {}", step.id));
            // Google's names begin with what they are of.
            id = found.rsplit('/').next().unwrap().to_owned();
        }
        id
    }

    async fn call(&self, endpoint: &str, body: &drives::Body) -> Answer {
        let (method, path) = endpoint.split_once(' ').unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let target = format!("/{}{path}", self.provider);
        let (kind, text) = body.write();
        let headers = [
            ("content-type", kind),
            ("x-mock-polls", "0"),
            ("anthropic-version", "2023-06-01"),
        ];
        let answer = client::call(self.sandbox.addr(), method, &target, &headers, text);
        answer.await
    }

    /// A call that costs far more than it was thought to.
    async fn overspend(&self) {
        let body = json!({"model": "gpt-4o", "max_tokens": 10,
            "messages": [{"role": "user", "content": "hello"}]});
        self.sandbox.mock.next_with("output=100000000").unwrap();
        let answer = self
            .sandbox
            .post("/openai/v1/chat/completions", &body)
            .await;
        assert_eq!(answer.status, 200);
        self.sandbox.settled().await;
    }

    /// The call is refused in its dialect's form, and goes no further.
    async fn is_refused(&self, endpoint: &str, body: &drives::Body) {
        let mock: &Mock = &self.sandbox.mock;
        let before = mock.count();
        let answer = self.call(endpoint, body).await;
        let at = format!("{} {endpoint}: {answer:?}", self.provider);
        assert_eq!(
            answer.header("x-tollgate-blocked-by"),
            "budget.daily",
            "{at}"
        );
        assert_eq!(answer.header("x-should-retry"), "false", "{at}");
        let (method, path) = endpoint.split_once(' ').unwrap();
        let path = path.split('?').next().unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let providers = Providers::build(&Config::default()).unwrap();
        let provider = providers.named(self.provider).unwrap();
        let dialect = provider.operation(&method, path, None).0.name();
        let (status, pointer, word) = drives::refusal(dialect);
        assert_eq!(answer.status, status, "{at}");
        let body = answer.json();
        let found = body.pointer(pointer).and_then(Value::as_str).unwrap_or("");
        assert!(found.contains(word), "{at}");
        assert_eq!(mock.count(), before, "{at}");
    }
}

const ENOUGH: &str = "budgets: {daily: 10}";
const NOTHING: &str = "budgets: {daily: 0.000000001}";

#[tokio::test]
async fn every_row_moves_its_counter_as_the_page_says() {
    for (row, drive) in driven() {
        for body in &drive.bodies {
            let sandbox = Sandbox::new(&format!("{ENOUGH}\n{}", drives::SETUP));
            let calls = Calls {
                sandbox: &sandbox,
                provider: row.provider,
            };
            let id = calls.prepare(&drive).await;
            let endpoint = drive.endpoint(&id);
            if let Some((kind, text)) = &drive.answer {
                sandbox.mock.next_exact(Exact::new(200, kind, text.clone()));
            }
            let answer = calls.call(&endpoint, &body.with_id(&id)).await;
            let at = format!("{row:?} {body:?}");
            assert_eq!(answer.status, 200, "{at} {answer:?}");
            assert_eq!(answer.error, None, "{at}");
            let span = sandbox.span(&answer).await;
            assert_eq!(span.get("tollgate.end"), "complete", "{at} {:#}", span.0);
            sandbox.settled().await;
            if let Some(then) = drive.then
                && sandbox.budget("daily").spent == 0
            {
                let id = answer.json()["id"].as_str().unwrap().to_owned();
                let answer = calls.call(&then.replace("{}", &id), &drives::NO_BODY).await;
                assert_eq!(answer.status, 200, "{at} {answer:?}");
            }
            let spent = sandbox.spent("daily").await;
            assert_eq!(spent > 0, row.is_metered(), "{at}: {spent}, {:#}", span.0);
            let counted = sandbox.metric("tollgate_unmetered_total") > 0.0;
            assert_eq!(counted && row.is_unmetered(), row.is_unmetered(), "{at}");
            if row.metered.contains("once") {
                calls.call(&endpoint, &body.with_id(&id)).await;
                assert_eq!(sandbox.spent("daily").await, spent, "{at}");
            }
        }
    }
}

#[tokio::test]
async fn every_row_keeps_its_limit_as_the_page_says() {
    for (row, drive) in driven() {
        let sandbox = Sandbox::new(&format!("{ENOUGH}\n{}", drives::SETUP));
        let calls = Calls {
            sandbox: &sandbox,
            provider: row.provider,
        };
        let id = calls.prepare(&drive).await;
        let endpoint = drive.endpoint(&id);
        calls.overspend().await;
        for body in &drive.bodies {
            let body = body.with_id(&id);
            if row.limit.is_empty() {
                let answer = calls.call(&endpoint, &body).await;
                assert_eq!(answer.status, 200, "{row:?} {answer:?}");
            } else {
                calls.is_refused(&endpoint, &body).await;
            }
        }
        // What the least call costs is asked for before it is made.
        if row.is_metered() && !row.limit.is_empty() {
            let sandbox = Sandbox::new(&format!("{NOTHING}\n{}", drives::SETUP));
            let calls = Calls {
                sandbox: &sandbox,
                provider: row.provider,
            };
            for body in &drive.bodies {
                calls.is_refused(&endpoint, &body.with_id(&id)).await;
            }
        }
    }
}

#[tokio::test]
async fn every_row_whose_streams_are_cut_ends_them_at_the_limit() {
    let mut cut = 0;
    for (row, drive) in driven() {
        if let Some(body) = &drive.unbounded {
            let rule = "{name: daily, window: total, limit: {tokens: 2000}}";
            let budgets = format!("budgets: {{rules: [{rule}]}}");
            // Where a stream that is left were billed in full, it would not be cut.
            let stops = format!(
                "providers: {{{}: {{base_url: '{{mock}}', abandoned: until_then}}, ",
                row.provider
            );
            let setup = match row.provider {
                "azure" => drives::SETUP.to_owned(),
                _ => drives::SETUP.replace("providers: {", &stops),
            };
            let sandbox = Sandbox::new(&format!("{budgets}\n{setup}"));
            let settings = "events=400;event-size=100;gap=1ms";
            sandbox.mock.next_with(settings).unwrap();
            let calls = Calls {
                sandbox: &sandbox,
                provider: row.provider,
            };
            let answer = calls.call(&drive.endpoint("x"), body).await;
            let span = sandbox.span(&answer).await;
            assert_eq!(span.get("tollgate.end"), "cut", "{row:?} {:#}", span.0);
            assert_eq!(
                (answer.status, &answer.error),
                (StatusCode::OK, &None),
                "{row:?}"
            );
            let spent = sandbox.spent("daily").await;
            assert!((1..=2000).contains(&spent), "{row:?} {spent}");
            cut += 1;
        }
    }
    assert!(cut > 3);
}

/// What is sent: nothing, JSON, or a form.
impl drives::Body {
    fn write(&self) -> (&'static str, Bytes) {
        match self {
            Self::Json(Value::Null) => ("application/json", Bytes::new()),
            Self::Json(body) => ("application/json", body.to_string().into()),
            Self::Form(fields) => (drives::FORM, drives::form(fields).into()),
        }
    }

    fn with_id(&self, id: &str) -> Self {
        let filled = |value: &Value| {
            let text = value.to_string().replace("\"{}\"", &format!("\"{id}\""));
            serde_json::from_str(&text).unwrap()
        };
        match self {
            Self::Json(body) => Self::Json(filled(body)),
            Self::Form(fields) => Self::Form(filled(fields)),
        }
    }
}

//! The real program in process, on a free port, with a mock for every provider and a directory of
//! its own.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use serde_json::Value;
use tempfile::TempDir;
use tollgate::{
    app::{App, StartError},
    base::clock::{Clock, SystemClock},
    config::{self, Config, Sources},
    mock::{Mock, Options},
    pipeline::{Buffering, Outlet},
    policy::Budget,
    provider::Providers,
};

use super::client::{self, Answer};

/// How long anything that must come is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running Tollgate and what is around it.
pub(crate) struct Sandbox {
    pub(crate) app: App,
    /// The upstream of every provider that the configuration gives no address.
    pub(crate) mock: Mock,
    pub(crate) directory: TempDir,
}

impl Sandbox {
    /// Starts it with this configuration, in which `{mock}` is the mock's address. What the configuration does not say of listeners, store,
    /// ledger and processors is set: free ports, a directory of its own, spans to a file.
    pub(crate) fn new(yaml: &str) -> Self {
        Self::with(yaml, Options::default(), Arc::new(SystemClock))
    }

    /// The same, with a mock of these options, and a clock.
    pub(crate) fn with(yaml: &str, mock: Options, clock: Arc<dyn Clock>) -> Self {
        Self::start(yaml, mock, |config| App::start(config, clock))
    }

    /// The same, with further processors.
    pub(crate) fn with_outlets(yaml: &str, mock: Options, outlets: Vec<Outlet>) -> Self {
        Self::start(yaml, mock, |config| {
            App::start_with(config, Arc::new(SystemClock), outlets)
        })
    }

    /// The same as [`Sandbox::new`], with variables that the configuration may name.
    pub(crate) fn with_variables(yaml: &str, variables: &[(&str, &str)]) -> Self {
        let variable = |name: &str| {
            let mut known = variables.iter();
            let found = known.find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let sources = Sources {
            variable: &variable,
            ..Sources::SYSTEM
        };
        let mock = Mock::start(Options::default()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let config = configured((yaml, &sources), directory.path(), &mock.url());
        Self::over(config, mock, directory)
    }

    fn start(
        yaml: &str,
        mock: Options,
        app: impl FnOnce(Config) -> Result<App, StartError>,
    ) -> Self {
        let mock = Mock::start(mock).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let config = configuration(yaml, directory.path(), &mock.url());
        let app = app(config).unwrap_or_else(|error| panic!("{error}"));
        Self {
            app,
            mock,
            directory,
        }
    }

    /// Why this configuration does not start.
    pub(crate) fn refused(yaml: &str) -> StartError {
        let directory = tempfile::tempdir().unwrap();
        let config = configuration(yaml, directory.path(), "http://127.0.0.1:9");
        match App::start(config, Arc::new(SystemClock)) {
            Ok(_) => panic!("it started"),
            Err(error) => error,
        }
    }

    /// Where clients reach it.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.app.proxy_address()
    }

    /// A file or directory of this sandbox.
    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Posts JSON on a connection of its own.
    pub(crate) async fn post(&self, target: &str, body: &Value) -> Answer {
        self.post_with(target, &[], body).await
    }

    /// The same, with further headers.
    pub(crate) async fn post_with(
        &self,
        target: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        client::post(self.addr(), target, headers, body).await
    }

    /// Gets on a connection of its own.
    pub(crate) async fn get(&self, target: &str) -> Answer {
        client::call(self.addr(), http::Method::GET, target, &[], "").await
    }

    /// All spans so far, in the order in which their calls ended.
    pub(crate) fn spans_now(&self) -> Vec<Value> {
        read_spans(&self.path("spans"))
    }

    /// Waits until there are `count` spans, and returns them.
    pub(crate) async fn spans(&self, count: usize) -> Vec<Value> {
        let mut spans = Vec::new();
        until(&format!("{count} spans"), || {
            spans = self.spans_now();
            spans.len() >= count
        })
        .await;
        assert_eq!(spans.len(), count, "{spans:#?}");
        spans
    }

    /// Waits for the span of the call that got this answer.
    pub(crate) async fn span(&self, answer: &Answer) -> Span {
        let id = answer.header("x-tollgate-request-id").to_owned();
        let mut found = None;
        until(&format!("the span of {id}"), || {
            found = self
                .spans_now()
                .into_iter()
                .find(|span| span["attributes"]["tollgate.request_id"] == *id);
            found.is_some()
        })
        .await;
        Span(found.unwrap())
    }

    /// Waits for the only span, of a call that got no answer.
    pub(crate) async fn only_span(&self) -> Span {
        Span(self.spans(1).await.remove(0))
    }

    /// The budget of that name (of its first counter, if it has several).
    pub(crate) fn budget(&self, name: &str) -> Budget {
        let budgets = self.app.budgets();
        let found = budgets.iter().find(|budget| &*budget.name == name);
        found
            .unwrap_or_else(|| panic!("no budget {name}: {budgets:?}"))
            .clone()
    }

    /// Nano-dollars, tokens or calls that a budget has spent, once nothing is in flight or reserved.
    pub(crate) async fn spent(&self, name: &str) -> i64 {
        self.settled().await;
        let budget = self.budget(name);
        assert_eq!(budget.reserved, 0, "{budget:?}");
        budget.spent
    }

    /// Waits until no call is under way.
    pub(crate) async fn settled(&self) {
        until("calls under way to end", || {
            self.app.holdings().in_flight == 0
        })
        .await;
    }

    /// The value of a metric whose name and labels begin so, from what Prometheus is told.
    pub(crate) fn metric(&self, begins: &str) -> f64 {
        let families = self.app.registry().gather();
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&families)
            .unwrap();
        let values = text.lines().filter(|line| line.starts_with(begins));
        values
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Starts again over the same mock and what is in `directory`, as `yaml` says now.
    pub(crate) fn again(yaml: &str, mock: Mock, directory: TempDir) -> Self {
        let config = configuration(yaml, directory.path(), &mock.url());
        Self::over(config, mock, directory)
    }

    fn over(config: Config, mock: Mock, directory: TempDir) -> Self {
        let app = App::start(config, Arc::new(SystemClock));
        let app = app.unwrap_or_else(|error| panic!("{error}"));
        Self {
            app,
            mock,
            directory,
        }
    }

    /// Ends it in good order, and starts it again.
    pub(crate) async fn restarted(self, yaml: &str) -> Self {
        let stopped = tokio::time::timeout(PATIENCE, self.app.stop()).await;
        stopped.expect("it does not stop");
        Self::again(yaml, self.mock, self.directory)
    }

    /// Starts another with what this one would leave behind if it were killed now. This one goes on
    /// until it is stopped, with nobody to hear of it.
    pub(crate) async fn killed(self, yaml: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let journal = files.path().join("data/journal");
        fs::create_dir_all(&journal).unwrap();
        // The books first: what is moved into them meanwhile is then found in the journal.
        let found = fs::read_dir(self.path("data/journal")).unwrap();
        let mut found: Vec<_> = found.map(|file| file.unwrap().path()).collect();
        found.sort_by_key(|path| path.extension().is_some_and(|name| name == "log"));
        for file in found {
            fs::copy(&file, journal.join(file.file_name().unwrap())).unwrap();
        }
        let stopped = tokio::time::timeout(PATIENCE, self.app.stop()).await;
        stopped.expect("it does not stop");
        Self::again(yaml, self.mock, files)
    }

    /// Ends it in good order. Returns its directory, which still holds all that it kept.
    pub(crate) async fn stop(self) -> TempDir {
        let stopped = tokio::time::timeout(PATIENCE, self.app.stop()).await;
        stopped.expect("it does not stop");
        self.directory
    }
}

/// A span, as it stands in the file.
#[derive(Debug)]
pub(crate) struct Span(pub(crate) Value);

impl Span {
    /// A member beside the attributes.
    pub(crate) fn field(&self, name: &str) -> &Value {
        &self.0[name]
    }

    /// An attribute; null if it is not there.
    pub(crate) fn get(&self, attribute: &str) -> &Value {
        &self.0["attributes"][attribute]
    }

    /// A decimal amount in nano-dollars.
    pub(crate) fn nanos(&self, attribute: &str) -> i64 {
        let text = self.get(attribute).as_str();
        let text = text.unwrap_or_else(|| panic!("no {attribute}: {:#}", self.0));
        let (dollars, nanos) = text.split_once('.').unwrap();
        assert_eq!(nanos.len(), 9);
        dollars.parse::<i64>().unwrap() * 1_000_000_000 + nanos.parse::<i64>().unwrap()
    }

    /// Status, end, decision, source of usage, and cost, in this order, with `-` for none.
    pub(crate) fn outcome(&self) -> String {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        [
            text(self.field("status")),
            text(self.get("tollgate.end")),
            text(self.get("tollgate.decision")),
            text(self.get("tollgate.usage.source")),
            text(self.get("tollgate.cost.usd")),
        ]
        .join(" ")
    }
}

/// Reads the spans in a directory of the file processor; a line that is still being written is left.
pub(crate) fn read_spans(directory: &Path) -> Vec<Value> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let text: String = files
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// Waits until `holds`, looking every few milliseconds; panics when it takes too long.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "waited in vain for {what}");
}

/// The configuration, with what it does not say.
pub(crate) fn configuration(yaml: &str, directory: &Path, upstream: &str) -> Config {
    configured((yaml, &Sources::SYSTEM), directory, upstream)
}

fn configured((yaml, sources): (&str, &Sources<'_>), directory: &Path, upstream: &str) -> Config {
    let at = |name: &str| directory.join(name).display().to_string();
    let sections = [
        (
            "listen",
            "{proxy: 127.0.0.1:0, admin: 127.0.0.1:0}".to_owned(),
        ),
        ("upstream", "{proxy: none}".to_owned()),
        ("store", format!("{{path: '{}'}}", at("data"))),
        ("ledger", format!("{{path: '{}'}}", at("data/journal"))),
        (
            "tracing",
            format!(
                "{{processors: [{{type: file, directory: '{}'}}]}}",
                at("spans")
            ),
        ),
    ];
    let mut text = yaml.replace("{mock}", upstream);
    for (name, value) in sections {
        let key = format!("{name}:");
        if !yaml.lines().any(|line| line.starts_with(&key)) {
            text = format!("{text}\n{key} {value}\n");
        }
    }
    let loaded = config::parse("sandbox.yaml", &text, sources);
    let mut config = loaded
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
        .config;
    if config.tracing.buffering == Buffering::default() {
        config.tracing.buffering.buffer_directory = directory.join("buffer");
    }
    let known = Providers::build(&config.providers).unwrap();
    let names: Vec<String> = known
        .iter()
        .map(|provider| provider.name.to_string())
        .collect();
    for name in names {
        let provider = config.providers.providers.entry(name).or_default();
        provider.base_url.get_or_insert_with(|| upstream.to_owned());
    }
    config
}

//! What the admin listener is told of the running program.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use prometheus::Registry;
use tokio::sync::Notify;

use super::{Kept, build::has_budgets, prices::Prices};
use crate::{
    admin::{Adjust, Archive, LiftError, Program, State},
    base::{
        clock::{Clock, Instant, Timestamp},
        units::show_duration,
    },
    config::Config,
    guard::{Kill, TooManyKills},
    ledger::{self, OnLedgerDown},
    pipeline::Pipeline,
    policy::{AdjustError, Budget, JournalDown, Order, Purse, Reach, Standing},
    proxy::Proxy,
};

/// The running program, as the admin listener sees it.
pub(super) struct Control {
    clock: Arc<dyn Clock>,
    started: Timestamp,
    proxy: Arc<Proxy>,
    purse: Arc<Purse>,
    leaving: AtomicBool,
    /// Told once somebody asks for the end.
    quit: Notify,
    ledger: Option<LedgerWatch>,
    reach: Reach,
    /// The addresses, as they were found free.
    listening: Vec<(&'static str, String)>,
    /// What was said of the configuration in force, and why a later one is not.
    configured: Mutex<Configured>,
    prices: Prices,
}

/// Subjects of the configuration's summary about which the sockets know better.
const LISTENERS: [&str; 3] = ["proxy", "admin", "health"];

/// The most circuits that the status page names.
const MOST_TRIPPED: usize = 50;

/// The configuration in force.
struct Configured {
    summary: Vec<(&'static str, String)>,
    file: Option<String>,
    since: Timestamp,
    /// When a later one was refused, and why.
    refused: Option<(Timestamp, String)>,
}

/// Tells of failures of the ledger.
struct LedgerWatch {
    counts: Box<dyn Fn() -> ledger::Counts + Send + Sync>,
    /// Whether calls are refused when it fails.
    blocks: bool,
}

impl Control {
    pub(super) fn new(
        config: &Config,
        kept: &Kept,
        proxy: Arc<Proxy>,
        clock: Arc<dyn Clock>,
        (listening, prices): ([&[SocketAddr]; 3], Prices),
    ) -> Self {
        let ledger = kept.ledger.as_ref();
        let purse = Arc::clone(proxy.live().engine().purse());
        let listening = LISTENERS.into_iter().zip(listening);
        let listening = listening.flat_map(|(what, addresses)| {
            let addresses = addresses.iter();
            addresses.map(move |address| (what, format!("http://{address}")))
        });
        let since = clock.wall();
        Self {
            listening: listening.collect(),
            started: since,
            clock,
            proxy,
            purse,
            leaving: AtomicBool::new(false),
            quit: Notify::new(),
            reach: ledger.map_or(Reach::Process, |_| config.ledger.reach_on_disk()),
            ledger: ledger.map(|ledger| LedgerWatch {
                counts: Box::new(ledger.counting()),
                blocks: config.ledger.on_ledger_down == OnLedgerDown::Block,
            }),
            prices,
            configured: Mutex::new(Configured {
                summary: config.summary(),
                file: None,
                since,
                refused: None,
            }),
        }
    }

    /// Says how far budgets reach, if there are any.
    pub(super) fn tell_reach(&self, config: &Config) {
        if !has_budgets(config) {
            return;
        }
        let (reach, meaning) = (self.reach.name(), self.reach.meaning());
        let ledger = config.ledger.path.display();
        match self.reach {
            Reach::Process | Reach::Memory => {
                tracing::warn!(reach, %ledger, "Budgets reach as far as {reach}: {meaning}");
            },
            Reach::Pod | Reach::Volume | Reach::Fleet => {
                tracing::info!(reach, %ledger, "Budgets reach as far as {reach}: {meaning}");
            },
        }
    }

    /// What the admin listener is given.
    pub(super) fn show(
        self: &Arc<Self>,
        config: &Config,
        pipeline: &Arc<Pipeline>,
        registry: &Registry,
    ) -> State {
        let program: Arc<dyn Program> = Arc::<Self>::clone(self);
        State {
            clock: Arc::clone(&self.clock),
            program,
            pipeline: Arc::clone(pipeline),
            archive: Archive::new(&config.store, &config.ledger),
            registry: registry.clone(),
            hosts: config.listen.hosts.clone(),
            token: config.listen.token.clone(),
            quit: config.listen.quit,
        }
    }

    /// What the ledger has counted, if there is one.
    pub(super) fn ledger_counts(&self) -> Option<ledger::Counts> {
        self.ledger.as_ref().map(|ledger| (ledger.counts)())
    }

    /// What became of price books.
    pub(super) const fn prices(&self) -> &Prices {
        &self.prices
    }

    /// The purse.
    pub(super) fn purse(&self) -> &Purse {
        &self.purse
    }

    /// Every budget that is in memory; those that count all calls together always are.
    pub(super) fn live_budgets(&self) -> Vec<Budget> {
        let now = self.clock.wall();
        // What cannot be recalled is not shown; that the ledger fails is.
        let _failed = self.proxy.live().engine().recall_totals(now);
        self.budgets(&[])
    }

    /// What time it is.
    pub(super) fn wall(&self) -> Timestamp {
        self.clock.wall()
    }

    /// The same, by the monotonic clock.
    pub(super) fn mono(&self) -> Instant {
        self.clock.mono()
    }

    /// When it was started.
    pub(super) const fn started(&self) -> Timestamp {
        self.started
    }

    /// From now on it is not ready.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Relaxed);
    }

    /// Waits until somebody asks for the end.
    pub(super) async fn asked_to_quit(&self) {
        self.quit.notified().await;
    }

    /// The file that the configuration is from.
    pub(super) fn configured_by(&self, file: &str) {
        self.configured.lock().file = Some(file.to_owned());
    }

    /// Another configuration is in force.
    pub(super) fn reloaded(&self, config: &Config) {
        let mut configured = self.configured.lock();
        configured.summary = config.summary();
        configured.since = self.clock.wall();
        configured.refused = None;
    }

    /// Another configuration could not be put in force.
    pub(super) fn refused(&self, error: String) {
        self.configured.lock().refused = Some((self.clock.wall(), error));
    }

    /// Since when the configuration is in force, and whether an edit of it was refused since.
    pub(super) fn configuration(&self) -> (Timestamp, bool) {
        let configured = self.configured.lock();
        (configured.since, configured.refused.is_some())
    }

    /// Whether the ledger fails, if calls are then treated so.
    fn ledger_fails(&self, blocks: bool) -> bool {
        let ledger = self.ledger.as_ref();
        let ledger = ledger.filter(|ledger| ledger.blocks == blocks);
        ledger.is_some_and(|ledger| (ledger.counts)().failing)
    }
}

impl Program for Control {
    fn troubles(&self) -> Vec<String> {
        let leaving = self.leaving.load(Relaxed);
        let leaving = leaving.then(|| "Tollgate is leaving: it takes no new calls".to_owned());
        let ledger = self.ledger_fails(true).then(|| {
            "the ledger's journal cannot be written, so calls under a budget are refused: see the \
             log"
            .to_owned()
        });
        leaving.into_iter().chain(ledger).collect()
    }

    fn warnings(&self) -> Vec<String> {
        let refused = self.configured.lock().refused.clone();
        let refused = refused.map(|(at, error)| {
            let at = shown(at);
            format!(
                "the configuration was edited and refused at {at}, the one before stays: {error}"
            )
        });
        let prices = self.prices.trouble().map(|trouble| trouble.to_string());
        let ledger = self.ledger_fails(false).then(|| {
            "the ledger's journal cannot be written; calls pass, as ledger.on_ledger_down says"
                .to_owned()
        });
        let process = (self.reach == Reach::Process)
            .then(|| "there is no ledger: budgets are forgotten with this process".to_owned());
        let memory = (self.reach == Reach::Memory).then(|| {
            "the ledger's directory is in memory: budgets are forgotten when that is unmounted, on a \
             restart of the machine at the latest"
                .to_owned()
        });
        let killed = self.kills().into_iter().map(|kill| {
            let (id, calls, who, at) = (&kill.id, &kill.selector, &kill.who, shown(kill.at));
            let until = kill.until.map_or_else(
                || "until that is lifted".to_owned(),
                |until| format!("until {}", shown(until)),
            );
            format!("calls are stopped by hand, by {who} at {at} {until}: {calls} (kill {id})")
        });
        let tripped = self.proxy.live().guards().tripped(self.clock.mono());
        let tripped = tripped.into_iter().take(MOST_TRIPPED).map(|one| {
            let (name, values) = (&one.name, &one.values);
            let whose = if values.is_empty() { "" } else { " of " };
            match one.open_for {
                Some(length) => {
                    let length = Duration::from_secs(length.as_secs() + 1);
                    let length = show_duration(length);
                    format!("the breaker {name}{whose}{values} is open for {length} more")
                },
                None => format!("the breaker {name}{whose}{values} is half-open"),
            }
        });
        let warnings = [refused, prices, ledger, process, memory]
            .into_iter()
            .flatten();
        warnings.chain(killed).chain(tripped).collect()
    }

    fn about(&self) -> Vec<(&'static str, String)> {
        let up = self.clock.wall().since(self.started).as_secs();
        let up = show_duration(Duration::from_secs(up)).to_string();
        let flying = self.proxy.holdings().in_flight.to_string();
        let mut about = vec![("up for", up), ("in flight", flying)];
        about.extend(self.listening.iter().cloned());
        let configured = self.configured.lock();
        let file = configured.file.as_deref().unwrap_or("built-in defaults");
        let since = shown(configured.since);
        about.push(("config", format!("{file}, in force since {since}")));
        let mut book = self.proxy.live().pricing().book().to_owned();
        if let Some(at) = self.prices.confirmed() {
            let _ok = write!(book, ", the latest at {}", shown(at));
        }
        about.push(("price book", book));
        let others = configured.summary.iter();
        let others = others.filter(|(what, _)| !LISTENERS.contains(what));
        about.extend(others.cloned());
        drop(configured);
        if about.iter().any(|(what, _)| *what == "budget") {
            let (name, meaning) = (self.reach.name(), self.reach.meaning());
            about.push(("budgets reach", format!("{name}: {meaning}")));
        }
        about
    }

    fn budgets(&self, kept: &[Standing]) -> Vec<Budget> {
        let live = self.proxy.live();
        let standings = self.purse.standings(self.clock.wall());
        live.engine().budgets(&standings, kept, self.clock.wall())
    }

    fn reach(&self) -> Reach {
        self.reach
    }

    fn adjust(&self, name: &str, change: Adjust, who: &str) -> Result<(), AdjustError> {
        let live = self.proxy.live();
        let now = self.clock.wall();
        match change {
            Adjust::Raise(raise) => live.engine().raise(name, raise, who, now),
            Adjust::Reset => live.engine().reset(name, who, now),
        }
    }

    fn quit(&self) {
        // Kept for whoever waits later.
        self.quit.notify_one();
    }

    fn kills(&self) -> Vec<Arc<Kill>> {
        self.proxy.kills().list(self.clock.wall())
    }

    fn kill(&self, kill: Arc<Kill>) -> Result<(), TooManyKills> {
        self.proxy.kill(kill, self.clock.wall())
    }

    fn enter(&self, kill: &Kill) -> Result<(), JournalDown> {
        self.purse.enter(&kill.order())
    }

    fn lift(&self, id: &str, who: &str) -> Result<Arc<Kill>, LiftError> {
        let now = self.clock.wall();
        let lifted = self.proxy.kills().lift(id, now, |kill| {
            self.purse.enter(&Order {
                at: now,
                who: Box::from(who),
                kill: kill.id.clone(),
                ordered: None,
            })
        })?;
        lifted.ok_or_else(|| LiftError::NoSuchKill(id.to_owned()))
    }
}

/// A moment on the status page.
fn shown(at: Timestamp) -> String {
    at.to_jiff().strftime("%F %T UTC").to_string()
}

//! The admin listener: a status page, metrics, probes and the API. It runs on a thread of its own,
//! so that nothing it does slows a call.
//!
//! `serve` takes connections, `door` says who may come in, `route` what is asked for; one file
//! answers each kind of question. What only reads, reads what is on disk ([`Archive`]), as the
//! command line does.

mod amount;
mod answer;
mod api;
mod archive;
mod budgets;
mod change;
mod door;
mod html;
mod kills;
mod page;
mod posted;
mod probes;
mod query;
mod route;
mod serve;
mod why;

use std::{io, net::TcpListener, sync::Arc, thread};

use prometheus::Registry;
use tokio::sync::oneshot;

use crate::{
    base::{clock::Clock, secret::Secret},
    guard::{Kill, TooManyKills},
    pipeline::Pipeline,
    policy::{AdjustError, Budget, JournalDown, Raise, Reach, Standing},
};

pub use amount::Amount;
pub use archive::{Archive, ArchiveError};
pub use budgets::Row as BudgetRow;
pub use change::{Raise as RaiseRequest, Reset as ResetRequest};
pub use kills::{KillRequest, KillRow, LiftError, LiftRequest};
pub use posted::{Posted, What};
pub use serve::LONGEST_WAIT;
pub use why::{Charged, Counter, Decision, Why};

/// What the listener asks of the running program.
pub trait Program: Send + Sync + 'static {
    /// Why calls should not be sent here now; empty if they should.
    fn troubles(&self) -> Vec<String>;

    /// What people should know, though calls go on.
    fn warnings(&self) -> Vec<String>;

    /// What it is and does, as subjects and what is said of them.
    fn about(&self) -> Vec<(&'static str, String)>;

    /// Every budget in its present window; `kept` is what the ledger has. May block.
    fn budgets(&self, kept: &[Standing]) -> Vec<Budget>;

    /// How far the budgets reach.
    fn reach(&self) -> Reach;

    /// Changes a budget by hand. May block.
    ///
    /// # Errors
    /// No such budget, or it cannot be journalled; nothing has changed then.
    fn adjust(&self, name: &str, change: Adjust, who: &str) -> Result<(), AdjustError>;

    /// Has it leave, as a signal does. Does not wait.
    fn quit(&self);

    /// The kills that hold.
    fn kills(&self) -> Vec<Arc<Kill>>;

    /// Stops calls, at once and in memory: the kill is still to be entered. Does not block.
    ///
    /// # Errors
    /// There are too many kills; nothing was stopped.
    fn kill(&self, kill: Arc<Kill>) -> Result<(), TooManyKills>;

    /// Enters a kill that holds, so that the next start knows of it. May block.
    ///
    /// # Errors
    /// It cannot be journalled; it holds all the same.
    fn enter(&self, kill: &Kill) -> Result<(), JournalDown>;

    /// Lifts the kill `id`. May block.
    ///
    /// # Errors
    /// There is none; or it cannot be journalled, and the kill holds.
    fn lift(&self, id: &str, who: &str) -> Result<Arc<Kill>, LiftError>;
}

/// A change of a budget by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjust {
    /// More may be spent.
    Raise(Raise),
    /// What was spent is credited.
    Reset,
}

/// What the listener is given.
pub struct State {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The running program.
    pub program: Arc<dyn Program>,
    /// Where spans go.
    pub pipeline: Arc<Pipeline>,
    /// What is on disk.
    pub archive: Archive,
    /// What Prometheus is told.
    pub registry: Registry,
    /// `listen.hosts`: names besides loopback that the admin listener answers to.
    pub hosts: Vec<String>,
    /// `listen.token`: what it asks for beyond loopback.
    pub token: Option<Secret>,
    /// `listen.quit`: whether the health listener takes `POST /quit`.
    pub quit: bool,
}

/// What a listener offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// Everything, to those whom the door lets in.
    Admin,
    /// Probes and metrics, to whoever reaches the socket; the end, to whoever is on this machine.
    Health,
}

/// A running admin listener; dropped, it ends with its connections, once what was ordered is entered.
#[derive(Debug)]
pub struct Admin {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Admin {
    /// Serves on `sockets`, which must not block, until it is dropped.
    ///
    /// # Errors
    /// The system gives no thread or no event queue.
    pub fn start(state: State, sockets: Vec<(Face, TcpListener)>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(READERS + ENTRIES)
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || {
                runtime.block_on(serve::serve(Arc::new(state), sockets, stopped));
                // A reader that is in the middle of a long query is not waited for.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("The admin listener's thread has panicked");
        }
    }
}

/// Questions to what is on disk that are answered at once, each on a thread of its own.
const READERS: usize = 4;

/// Changes that are entered in the ledger at once, on threads of their own: they do not wait for
/// questions.
const ENTRIES: usize = 1;

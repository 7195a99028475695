//! Mock providers: every dialect, scripted answers and timing, faults. Demos, tests and benches
//! have no other upstream.
//!
//! - Answers are correct, follow from the request alone, and count four bytes a token
//!   ([`tokens`]), so that every figure can be worked out by hand.
//! - [`Script`] says what is answered, [`Behaviour`] how. Both hold for a whole mock; a behaviour
//!   also for one request, by header (`x-mock-status: 429`) or by model (`gpt-4o;status=429`).
//! - [`Exact`] is an answer byte for byte, for the next request or for a given one.
//! - Sockets are spoken too: OpenAI's Realtime and Responses, Gemini's Live; each response in them
//!   is answered as a request is.
//! - Every other path is an echo. What was received is kept ([`Received`]), also at
//!   `GET /__mock/requests`; `DELETE` forgets it.

mod aleph_alpha;
mod answer;
mod anthropic;
mod audio;
mod aws;
mod batches;
mod bedrock;
mod behaviour;
mod call;
mod chat;
mod coding;
mod cohere;
mod completions;
mod conversation;
mod embeddings;
mod endpoint;
mod fast;
mod form;
mod frame;
mod gemini;
mod google_batches;
mod google_embeddings;
mod handle;
mod images;
mod json;
mod line;
mod message_batches;
mod moderations;
mod objects;
mod ollama;
mod plain;
mod play;
mod problem;
mod queue;
mod recorder;
mod reply;
mod responses;
mod route;
mod runs;
mod script;
mod send;
mod server;
mod socket;
mod stored;
mod usual;
mod voyage;
mod watsonx;
mod wire;
mod writer;

use std::{io, net::SocketAddr, sync::Arc, sync::atomic::Ordering};

use tokio::{net::TcpListener, task::JoinHandle};

pub use behaviour::{
    At, Behaviour, BehaviourError, Bytewise, Content, Counts, Encoding, Ending, Newline, Wire,
};
pub use conversation::tokens;
pub use queue::Exchange;
pub use recorder::{End, Received};
pub use script::{Called, Rule, Script, When};
pub use wire::{Exact, Framing, every};

use crate::base::clock::{Clock, SystemClock};
use handle::State;

/// The access key id for which Bedrock's signatures are verified; its secret is `mock-secret`. They
/// must name the host that was asked, as AWS demands.
pub const SIGNING_ID: &str = "AKIAMOCK";

/// What a mock does for all requests.
#[derive(Clone)]
pub struct Options {
    /// Where to listen; port 0 is a free one.
    pub listen: SocketAddr,
    /// How answers are given.
    pub behaviour: Behaviour,
    /// What is answered.
    pub script: Script,
    /// Answer 401 to a request without any key.
    pub require_key: bool,
    /// Answers prepared once, nothing kept, no settings: for benches.
    pub fast: bool,
    /// What identifiers are made from; absent: chance, so that no two mocks make the same ones.
    pub seed: Option<u64>,
    /// Where `created` comes from.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            behaviour: Behaviour::default(),
            script: Script::default(),
            require_key: false,
            fast: false,
            seed: None,
            clock: Arc::new(SystemClock),
        }
    }
}

/// A running mock. Dropping it ends it and its connections.
pub struct Mock {
    addr: SocketAddr,
    state: Arc<State>,
    server: JoinHandle<()>,
}

impl Mock {
    /// Starts a mock on the present runtime.
    ///
    /// # Errors
    /// The address cannot be bound.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(options: Options) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(options.listen)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let addr = listener.local_addr()?;
        let state = Arc::new(State::new(options));
        let serving = Arc::clone(&state);
        #[expect(clippy::disallowed_methods, reason = "ended by `Drop`")]
        let server = tokio::spawn(async move { match server::serve(listener, serving).await {} });
        Ok(Self {
            addr,
            state,
            server,
        })
    }

    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its address as a base URL without a path: `http://127.0.0.1:40123`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The requests received, oldest first: the last 100,000 of them, and of their bodies the last
    /// 512 MiB.
    pub fn requests(&self) -> Vec<Received> {
        self.state.recorder.all()
    }

    /// How many requests were received, kept or not.
    pub fn count(&self) -> u64 {
        self.state.recorder.count()
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::Acquire)
    }

    /// Forgets the requests; [`Mock::count`] goes on.
    pub fn forget(&self) {
        self.state.recorder.clear();
    }

    /// Waits, without limit, until the requests received are as `wanted` says, and returns them.
    pub async fn until(&self, wanted: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        self.state.recorder.until(wanted).await
    }

    /// Settings for one of the next requests, in [`Behaviour`]'s notation. Queued.
    ///
    /// # Errors
    /// They are not understood.
    pub fn next_with(&self, settings: &str) -> Result<(), BehaviourError> {
        settings.parse::<Behaviour>()?;
        self.state.queue.push_settings(settings);
        Ok(())
    }

    /// An exact answer for one of the next requests, whatever it is. Queued.
    pub fn next_exact(&self, exact: Exact) {
        self.state.queue.push_exact(exact);
    }

    /// Exact answers for exact requests.
    pub fn replay(&self, exchanges: impl IntoIterator<Item = Exchange>) {
        for exchange in exchanges {
            self.state.queue.push_exchange(exchange);
        }
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.server.abort();
    }
}

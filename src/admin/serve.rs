//! Connections of the admin and health listeners: accepted, bounded, served.

use std::{
    convert::Infallible,
    net::{IpAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::{JoinError, JoinSet},
    time::timeout,
};

use super::{
    ENTRIES, Face, READERS, State,
    answer::{Answer, Problem},
    api, change,
    door::{Door, Token},
    kills, page, probes,
    route::Route,
};
use crate::{guard::Kill, net::listen};

/// Connections open at a time on one listener; further ones wait to be accepted.
const MOST_CONNECTIONS: usize = 64;

/// How long the head of a request may take, and how long a connection may be idle.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

/// Bounds of a request's head: bytes and fields.
const HEAD_BYTES: usize = 16 << 10;
const HEAD_FIELDS: usize = 64;

/// The longest body of a change, in bytes.
const BODY_BYTES: usize = 16 << 10;

/// How long a question waits for others to be answered.
const READ_PATIENCE: Duration = Duration::from_secs(10);

/// How long a request waits for its turn at most: a change to be entered, and then to be shown.
pub const LONGEST_WAIT: Duration = READ_PATIENCE.saturating_mul(2);

/// Serves on all sockets until `stopped`, and then waits until every kill that holds is entered.
pub(super) async fn serve(
    state: Arc<State>,
    sockets: Vec<(Face, StdListener)>,
    stopped: impl Future,
) {
    let (needed, mut unneeded) = mpsc::channel(1);
    let places = Places {
        readers: Arc::new(Semaphore::new(READERS)),
        entries: Arc::new(Semaphore::new(ENTRIES)),
        _needed: needed,
    };
    tokio::select! {
        () = accept_all(state, sockets, places) => {},
        _ended = stopped => {},
    }
    // Each of them says itself what became of it, but for one that the ledger keeps longer than that.
    if timeout(LONGEST_WAIT, unneeded.recv()).await.is_err() {
        tracing::error!(
            "A kill is still being entered while Tollgate ends: the next start may not know of it"
        );
    }
}

async fn accept_all(state: Arc<State>, sockets: Vec<(Face, StdListener)>, places: Places) {
    let mut accepting = JoinSet::new();
    for (face, socket) in sockets {
        match TcpListener::from_std(socket) {
            Ok(listener) => {
                accepting.spawn(accept(Arc::clone(&state), face, listener, places.clone()));
            },
            Err(error) => tracing::error!(%error, "The admin listener cannot listen"),
        }
    }
    accepting.join_all().await;
}

async fn accept(state: Arc<State>, face: Face, listener: TcpListener, places: Places) {
    // A socket that cannot say where it is counts as reachable from everywhere.
    let loopback = listener
        .local_addr()
        .is_ok_and(|address| is_loopback(address.ip()));
    let desk = Arc::new(Desk {
        state,
        face,
        loopback,
        places,
    });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_ended) = connections.join_next() => {},
            (socket, peer) = listen::accept(&listener, |error| {
                tracing::warn!(%error, "The admin listener pauses");
            }), if connections.len() < MOST_CONNECTIONS => {
                let is_here = is_loopback(peer.ip());
                connections.spawn(connection(Arc::clone(&desk), socket, is_here));
            },
        }
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// `is_here`: its other end is on this machine.
async fn connection(desk: Arc<Desk>, socket: TcpStream, is_here: bool) {
    let service = service_fn(|request: Request<Incoming>| async {
        let answer = desk.answer(request, is_here).await;
        Ok::<_, Infallible>(answer.unwrap_or_else(Into::into))
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_headers(HEAD_FIELDS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "A connection to the admin listener ended");
    }
}

/// Where requests of one listener are answered.
struct Desk {
    state: Arc<State>,
    face: Face,
    /// It is on loopback.
    loopback: bool,
    places: Places,
}

/// Places on the threads that may block, which all listeners share.
#[derive(Clone)]
struct Places {
    /// Of those who read what is on disk.
    readers: Arc<Semaphore>,
    /// Of those who enter a change in the ledger.
    entries: Arc<Semaphore>,
    /// Gone with the last who needs a place: kills that hold are entered though their clients are
    /// dropped.
    _needed: mpsc::Sender<Infallible>,
}

impl Desk {
    async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        is_here: bool,
    ) -> Result<Answer, Problem> {
        let (request, body) = request.into_parts();
        if self.face == Face::Admin {
            self.door().admit(&request)?;
        }
        let query = request.uri.query().map(str::to_owned);
        match Route::of(self.face, &request.method, request.uri.path())? {
            Route::Healthz => Ok(probes::healthz()),
            Route::Readyz => Ok(probes::readyz(&self.state)),
            Route::Metrics => self.read(probes::metrics).await,
            Route::Quit => probes::quit(&self.state, is_here, &request.headers),
            Route::Page => {
                self.read(move |state| page::page(state, query.as_deref()))
                    .await
            },
            Route::Spans => {
                self.read(move |state| api::spans(state, query.as_deref()))
                    .await
            },
            Route::Report => {
                self.read(move |state| api::report(state, query.as_deref()))
                    .await
            },
            Route::Budgets => self.read(api::budgets).await,
            Route::Trace(id) => self.read(move |state| api::trace(state, &id)).await,
            Route::Request(id) => self.read(move |state| api::request(state, &id)).await,
            Route::Why(id) => self.read(move |state| api::why(state, &id)).await,
            Route::Kills => Ok(kills::list(&self.state)),
            Route::Kill => {
                let body = whole(body).await?;
                // At once: what is to be stopped waits neither for the disk nor for questions.
                let kill = kills::order(&self.state, &body)?;
                self.enter_kill(kill).await
            },
            Route::Lift(id) => {
                let body = whole(body).await?;
                self.enter(move |state| kills::lift(state, &id, &body))
                    .await
            },
            Route::Raise(name) => {
                let (body, budget) = (whole(body).await?, name.clone());
                self.enter(move |state| change::raise(state, &name, &body))
                    .await?;
                self.changed(budget).await
            },
            Route::Reset(name) => {
                let (body, budget) = (whole(body).await?, name.clone());
                self.enter(move |state| change::reset(state, &name, &body))
                    .await?;
                self.changed(budget).await
            },
        }
    }

    /// A budget that was changed: to be read like all that is asked for.
    async fn changed(&self, budget: String) -> Result<Answer, Problem> {
        let shown = self.read(move |state| change::changed(state, &budget));
        shown.await.map_err(|why| change::not_shown(&why))
    }

    /// Reads what is on disk; a bounded number at once.
    async fn read(
        &self,
        answer: impl FnOnce(&State) -> Result<Answer, Problem> + Send + 'static,
    ) -> Result<Answer, Problem> {
        self.block(&self.places.readers, answer).await
    }

    /// Enters a change in the ledger; one after the other, beside all reading.
    async fn enter<T: Send + 'static>(
        &self,
        change: impl FnOnce(&State) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        self.block(&self.places.entries, change).await
    }

    /// Enters a kill that holds, or says that it is not entered: also when its client, who is
    /// dropped with all that it asked for, does not wait for that.
    async fn enter_kill(self: &Arc<Self>, kill: Arc<Kill>) -> Result<Answer, Problem> {
        let desk = Arc::clone(self);
        #[expect(
            clippy::disallowed_methods,
            reason = "waits `READ_PATIENCE` at most, for one of a bounded number of kills, and \
                      `serve` waits for it"
        )]
        let entering = tokio::spawn(async move {
            let held = Arc::clone(&kill);
            let entered = desk.enter(move |state| kills::enter(state, &held)).await;
            entered.map_err(|why| kills::not_entered(&kill, &why))
        });
        entering.await.unwrap_or_else(|error| Err(failed(&error)))
    }

    /// Works on a thread that may block, once there is a place.
    async fn block<T: Send + 'static>(
        &self,
        places: &Arc<Semaphore>,
        work: impl FnOnce(&State) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let place = Arc::clone(places).acquire_owned();
        let Ok(Ok(place)) = timeout(READ_PATIENCE, place).await else {
            return Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many questions at once: ask again later",
            ));
        };
        let state = Arc::clone(&self.state);
        let answered = tokio::task::spawn_blocking(move || {
            let answer = work(&state);
            drop(place);
            answer
        });
        answered.await.unwrap_or_else(|error| Err(failed(&error)))
    }

    fn door(&self) -> Door<'_> {
        Door {
            hosts: &self.state.hosts,
            token: if self.loopback {
                Token::NotAsked
            } else {
                Token::Asked(self.state.token.as_ref())
            },
        }
    }
}

fn failed(error: &JoinError) -> Problem {
    tracing::error!(%error, "A question to the admin listener has panicked");
    let message = "Tollgate failed to answer: see its log";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, message)
}

/// The body of a change.
async fn whole(body: Incoming) -> Result<Bytes, Problem> {
    let collected = timeout(HEAD_PATIENCE, Limited::new(body, BODY_BYTES).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is longer than {BODY_BYTES} bytes"),
        )),
        Ok(Err(error)) => Err(Problem::bad(format!("the body broke off: {error}"))),
        Err(_elapsed) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not come in time",
        )),
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::{
        admin::{Adjust, Admin, Archive, LiftError, Program},
        base::clock::{Clock, SystemClock},
        guard::TooManyKills,
        ledger,
        pipeline::Pipeline,
        policy::{AdjustError, Budget, JournalDown, Reach, Standing},
        store,
    };

    /// Tells of kills that are ordered and entered, and knows nothing else. A change of a budget is
    /// made once somebody says so.
    struct Teller(mpsc::Sender<&'static str>, std::sync::Mutex<Said>);

    type Said = std::sync::mpsc::Receiver<()>;

    impl Program for Teller {
        fn troubles(&self) -> Vec<String> {
            Vec::new()
        }

        fn warnings(&self) -> Vec<String> {
            Vec::new()
        }

        fn about(&self) -> Vec<(&'static str, String)> {
            Vec::new()
        }

        fn budgets(&self, _: &[Standing]) -> Vec<Budget> {
            Vec::new()
        }

        fn reach(&self) -> Reach {
            Reach::Process
        }

        fn adjust(&self, _: &str, _: Adjust, _: &str) -> Result<(), AdjustError> {
            self.0.try_send("adjusting").unwrap();
            self.1.lock().unwrap().recv().unwrap();
            Err(JournalDown.into())
        }

        fn quit(&self) {}

        fn kills(&self) -> Vec<Arc<Kill>> {
            Vec::new()
        }

        fn kill(&self, _: Arc<Kill>) -> Result<(), TooManyKills> {
            self.0.try_send("ordered").unwrap();
            Ok(())
        }

        fn enter(&self, _: &Kill) -> Result<(), JournalDown> {
            self.0.try_send("entered").unwrap();
            Ok(())
        }

        fn lift(&self, id: &str, _: &str) -> Result<Arc<Kill>, LiftError> {
            Err(LiftError::NoSuchKill(id.to_owned()))
        }
    }

    /// The listener's state; what it tells, and where to say that a change may be made.
    fn state() -> (
        State,
        mpsc::Receiver<&'static str>,
        std::sync::mpsc::SyncSender<()>,
    ) {
        let (teller, told) = mpsc::channel(4);
        let (say, said) = std::sync::mpsc::sync_channel(1);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let pipeline = Pipeline::start(Vec::new(), Vec::new(), Arc::clone(&clock)).unwrap();
        let state = State {
            clock,
            program: Arc::new(Teller(teller, std::sync::Mutex::new(said))),
            pipeline: Arc::new(pipeline),
            archive: Archive::new(&store::Config::default(), &ledger::Config::default()),
            registry: Registry::new(),
            hosts: Vec::new(),
            token: None,
            quit: false,
        };
        (state, told, say)
    }

    fn post(path: &str, body: &str) -> Vec<u8> {
        let length = body.len();
        let request = format!(
            "POST /api/v1/{path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        request.into_bytes()
    }

    const KILL: &str = r#"{"match": {"agent": "a"}}"#;

    #[tokio::test]
    async fn a_kill_is_entered_though_its_client_left_while_it_waited_for_that() {
        let (state, mut told, _say) = state();
        let desk = Arc::new(Desk {
            state: Arc::new(state),
            face: Face::Admin,
            loopback: true,
            places: Places {
                readers: Arc::new(Semaphore::new(READERS)),
                entries: Arc::new(Semaphore::new(ENTRIES)),
                _needed: mpsc::channel(1).0,
            },
        });
        let entries = Arc::clone(&desk.places.entries);
        let another = entries.acquire_owned().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        let mut client = client.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(connection(desk, socket, true));

        client.write_all(&post("kills", KILL)).await.unwrap();
        assert_eq!(told.recv().await, Some("ordered"));
        drop(client);
        serving.join_all().await;
        drop(another);
        let entered = timeout(Duration::from_secs(30), told.recv()).await;
        assert_eq!(entered, Ok(Some("entered")));
    }

    #[tokio::test]
    async fn a_kill_that_waits_for_its_turn_is_entered_before_the_listener_ends() {
        let (state, mut told, say) = state();
        let socket = StdListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let admin = Admin::start(state, vec![(Face::Admin, socket)]).unwrap();
        let mut first = TcpStream::connect(address).await.unwrap();
        first
            .write_all(&post("budgets/daily/reset", ""))
            .await
            .unwrap();
        assert_eq!(told.recv().await, Some("adjusting"));
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(&post("kills", KILL)).await.unwrap();
        assert_eq!(told.recv().await, Some("ordered"));

        let ending = tokio::task::spawn_blocking(|| drop(admin));
        // It serves nobody any more.
        let mut answer = Vec::new();
        assert!(matches!(
            second.read_to_end(&mut answer).await,
            Ok(0) | Err(_)
        ));
        say.send(()).unwrap();
        ending.await.unwrap();
        assert_eq!(told.try_recv(), Ok("entered"));
    }
}

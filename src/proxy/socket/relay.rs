//! Passes the bytes of a socket, message by message, and puts ours between them.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
    time::MissedTickBehavior,
};

use super::{
    Closing, Compression, Reader, end_of,
    turns::{Asked, Told, Turns},
};
use crate::{
    call::{
        outcome::End,
        refusal::{Reason, Refusal},
    },
    provider::wire::websocket::{Messages, Opcode, Passed, Sender, frame},
    proxy::{admit, exchange::Exchange, interrupt::Ear, kill::Looked},
};

/// The most of a client's message that is held back, in bytes; of a larger one only its last part is.
const HELD_UP: usize = 1 << 20;
/// The most of a provider's message that is held back, in bytes; a larger one passes in pieces.
const HELD_DOWN: usize = 256 << 10;
/// Bytes read at once.
const CHUNK: usize = 16 << 10;
/// How often an idle socket asks whether its budget is used up.
const ASKS_EVERY: Duration = Duration::from_secs(1);
/// Messages of ours that wait for the provider's present one to end.
const NOTES: usize = 8;

/// Why a socket has ended.
#[derive(Debug)]
pub(super) enum Stop {
    /// The client is gone.
    Client,
    /// The provider is gone.
    Provider,
    /// We have closed it.
    Closed(Closing),
}

/// What both directions share.
pub(super) struct Relay {
    turns: Mutex<Turns>,
    up: Mutex<Option<Messages>>,
    down: Mutex<Option<Messages>>,
    compression: Compression,
    notes: mpsc::Sender<Note>,
    heard: Mutex<Option<mpsc::Receiver<Note>>>,
    /// Who said first that it closes.
    closed_by: Mutex<Option<End>>,
    /// Part of a frame or message has been sent to the provider, and not all.
    midway_up: AtomicBool,
    /// Why it was stopped by hand, if it was.
    killed: Mutex<Option<Refusal>>,
}

/// A message of ours for the client.
struct Note {
    frames: Vec<u8>,
    closing: Option<Closing>,
}

/// One direction's bytes: read, and not passed on yet.
struct Held {
    bytes: BytesMut,
    /// How many of them have been looked at.
    seen: usize,
    messages: Messages,
    most: usize,
    /// Part of a message has passed, and not all.
    midway: bool,
}

/// What the next bytes are.
enum Next {
    /// More is needed.
    More,
    /// This message has ended, and is held, or its last part is.
    Message,
    /// So many bytes may pass.
    Pass(usize),
}

impl Held {
    fn new(messages: Messages, most: usize) -> Self {
        Self {
            bytes: BytesMut::with_capacity(CHUNK),
            seen: 0,
            messages,
            most,
            midway: false,
        }
    }

    /// Looks at what was read. `closes` is called at a close frame.
    ///
    /// # Errors
    /// It is no WebSocket, in these words.
    fn next(&mut self, closes: impl Fn()) -> Result<Next, &'static str> {
        loop {
            let ahead = self.bytes.get(self.seen..).unwrap_or_default();
            let (count, passed) = self.messages.take(ahead).map_err(|malformed| malformed.0)?;
            self.seen += count;
            match passed {
                Passed::Within if self.midway || self.seen > self.most => {
                    if self.seen == 0 {
                        return Ok(Next::More);
                    }
                    self.midway = true;
                    return Ok(Next::Pass(std::mem::take(&mut self.seen)));
                },
                Passed::Within => return Ok(Next::More),
                Passed::Control(opcode) => {
                    if opcode == Opcode::Close {
                        closes();
                    }
                    if !self.messages.in_message() {
                        self.midway = false;
                        return Ok(Next::Pass(std::mem::take(&mut self.seen)));
                    }
                },
                Passed::Frame => {},
                Passed::Message => return Ok(Next::Message),
            }
        }
    }

    /// The message, or the rest of it, may pass.
    const fn let_pass(&mut self) -> usize {
        self.midway = false;
        std::mem::replace(&mut self.seen, 0)
    }

    /// The message is left out.
    fn leave_out(&mut self) {
        self.bytes.advance(self.seen);
        self.seen = 0;
    }
}

impl Relay {
    pub(super) fn new(reader: &Reader, turns: Turns) -> Self {
        let wanted = reader.socket.wanted();
        let allowed = reader.compression.allowed;
        let (notes, heard) = mpsc::channel(NOTES);
        Self {
            turns: Mutex::new(turns),
            up: Mutex::new(Some(Messages::new(Sender::Client, allowed, wanted.request))),
            down: Mutex::new(Some(Messages::new(
                Sender::Server,
                allowed,
                wanted.response,
            ))),
            compression: reader.compression,
            notes,
            heard: Mutex::new(Some(heard)),
            closed_by: Mutex::new(None),
            midway_up: AtomicBool::new(false),
            killed: Mutex::new(None),
        }
    }

    /// Whether a frame of ours may be sent to the provider.
    pub(super) fn may_close_upstream(&self) -> bool {
        !self.midway_up.load(Relaxed)
    }

    /// Finishes the responses, and tells the socket's span of them. Returns how the socket ended.
    pub(super) fn finish(&self, exchange: &mut Exchange, stop: &Stop) -> End {
        let closed_by = *self.closed_by.lock();
        let end = match (stop, closed_by) {
            (Stop::Closed(_), _) => End::Cut,
            (_, Some(by)) => by,
            (Stop::Client, None) => End::Client,
            (Stop::Provider, None) => End::Upstream,
        };
        let mut turns = self.turns.lock();
        exchange.attributes.extend(turns.close(end));
        exchange.partial = exchange.partial.or(turns.partial);
        drop(turns);
        // It was asked for to be admitted; the responses in it have it.
        exchange.request.model = None;
        let killed = self.killed.lock().take();
        if let Some(why) = killed {
            exchange.killed(why);
        }
        end_of(stop, closed_by.is_some())
    }

    /// Passes what the client sends, until it or the provider is gone. Once the socket is to be
    /// closed it does nothing more.
    pub(super) async fn up<R, W>(&self, from: &mut R, to: &mut W)
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let Some(messages) = self.up.lock().take() else {
            return;
        };
        let mut held = Held::new(messages, HELD_UP);
        loop {
            held.bytes.reserve(CHUNK);
            if !matches!(from.read_buf(&mut held.bytes).await, Ok(1..)) {
                drop(to.shutdown().await);
                return;
            }
            loop {
                let count = match held.next(|| self.closes(End::Client)) {
                    Ok(Next::More) => break,
                    Ok(Next::Pass(count)) => count,
                    Ok(Next::Message) => match self.ask(&mut held).await {
                        Ok(true) => held.let_pass(),
                        Ok(false) => {
                            held.leave_out();
                            continue;
                        },
                        Err(closing) => return self.say(Some(closing), Vec::new()).await,
                    },
                    Err(what) => {
                        let closing = Closing::broken(1002, what);
                        return self.say(Some(closing), Vec::new()).await;
                    },
                };
                self.midway_up.store(true, Relaxed);
                let bytes = held.bytes.split_to(count);
                if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
                    // The provider's side will say so.
                    return std::future::pending().await;
                }
                self.midway_up.store(held.midway, Relaxed);
            }
        }
    }

    /// Whether the client's message may pass.
    async fn ask(&self, held: &mut Held) -> Result<bool, Closing> {
        let content = held.messages.content();
        let asked = self.turns.lock().hear(content);
        let (refusal, message) = match asked {
            Asked::Pass(after) => {
                if !after.is_zero() {
                    tokio::time::sleep(after).await;
                }
                return Ok(true);
            },
            Asked::Unreadable => {
                return Err(Closing::broken(
                    1007,
                    "Tollgate cannot read a message of the client.",
                ));
            },
            Asked::Refused(refusal, tag) => {
                let message = self.turns.lock().wording(&refusal, tag.as_deref());
                (refusal, message)
            },
            Asked::Begins(mut turn) => match turn.admit().await {
                Ok(()) => {
                    self.turns.lock().sent(*turn);
                    return Ok(true);
                },
                Err(refusal) => {
                    let message = self.turns.lock().refuse(*turn, &refusal);
                    (refusal, message)
                },
            },
        };
        // Part of it is there already, or others refer to it.
        let refers = self.compression.client_refers && held.messages.is_compressed();
        let is_needed = held.midway || refers;
        let is_over = refusal.reason == Reason::Exhausted && self.turns.lock().is_idle();
        match message {
            Some(message) if !is_needed && !is_over => {
                self.say(None, frame(Opcode::Text, &message, None)).await;
                Ok(false)
            },
            message => Err(Closing::refused(&refusal, message)),
        }
    }

    /// Lets the other direction say something to the client; if that closes the socket, never
    /// returns.
    async fn say(&self, closing: Option<Closing>, frames: Vec<u8>) {
        let closes = closing.is_some();
        let said = self.notes.send(Note { frames, closing }).await;
        if closes || said.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Passes what the provider sends, and what we have to say, until the socket has ended.
    pub(super) async fn down<R, W>(&self, exchange: &Exchange, from: &mut R, to: &mut W) -> Stop
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let (Some(messages), Some(mut notes)) = (self.down.lock().take(), self.heard.lock().take())
        else {
            return Stop::Provider;
        };
        let mut held = Held::new(messages, HELD_DOWN);
        let (mut ear, mut looked) = (Ear::default(), Looked::default());
        let mut asks = tokio::time::interval(ASKS_EVERY);
        asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            held.bytes.reserve(CHUNK);
            let closing = tokio::select! {
                biased;
                Some(note) = notes.recv(), if !held.midway => {
                    if !write(to, &note.frames).await {
                        return Stop::Client;
                    }
                    note.closing
                },
                closing = self.interrupted(&mut ear, &mut looked, exchange) => Some(closing),
                read = from.read_buf(&mut held.bytes) => {
                    if !matches!(read, Ok(1..)) {
                        return Stop::Provider;
                    }
                    match self.pass_down(&mut held, to).await {
                        Ok(closing) => closing,
                        Err(stop) => return stop,
                    }
                },
                _ = asks.tick() => self.exhausted(exchange),
            };
            if let Some(closing) = closing {
                // Within a message nothing can be said.
                if !held.midway {
                    write(to, &closing.frames()).await;
                }
                return Stop::Closed(closing);
            }
        }
    }

    /// Passes what was read as far as it may.
    async fn pass_down<W: AsyncWrite + Unpin>(
        &self,
        held: &mut Held,
        to: &mut W,
    ) -> Result<Option<Closing>, Stop> {
        loop {
            let count = match held.next(|| self.closes(End::Upstream)) {
                Ok(Next::More) => return Ok(None),
                Ok(Next::Pass(count)) => count,
                Ok(Next::Message) => {
                    if let Some(closing) = self.look(held).await {
                        return Ok(Some(closing));
                    }
                    held.let_pass()
                },
                Err(what) => return Ok(Some(Closing::broken(1002, what))),
            };
            let bytes = held.bytes.split_to(count);
            if !write(to, &bytes).await {
                return Err(Stop::Client);
            }
        }
    }

    /// Reads the provider's message; `Some`: it must not pass.
    async fn look(&self, held: &mut Held) -> Option<Closing> {
        let content = held.messages.content();
        let mut told = self.turns.lock().told(content);
        if let Told::Begun(mut turn, message) = told {
            told = match turn.admit().await {
                Ok(()) => self.turns.lock().began(*turn, &message),
                Err(refusal) => {
                    let message = self.turns.lock().refuse(*turn, &refusal);
                    return Some(Closing::refused(&refusal, message));
                },
            };
        }
        match told {
            Told::Pass | Told::Begun(..) => None,
            Told::Cut(refusal) => {
                let message = self.turns.lock().wording(&refusal, None);
                Some(Closing::refused(&refusal, message))
            },
        }
    }

    /// An idle socket is closed when a budget of it is used up.
    fn exhausted(&self, exchange: &Exchange) -> Option<Closing> {
        if !self.turns.lock().is_idle() {
            return None;
        }
        let refusal = admit::exhausted(exchange)?;
        let message = self.turns.lock().wording(&refusal, None);
        Some(Closing::refused(&refusal, message))
    }

    /// Waits until we leave, or it is ordered to be stopped.
    async fn interrupted(
        &self,
        ear: &mut Ear,
        looked: &mut Looked,
        exchange: &Exchange,
    ) -> Closing {
        std::future::poll_fn(|cx| {
            let (proxy, id) = (&exchange.proxy, exchange.trace.span_id);
            ear.listen(&proxy.interrupts, id, cx.waker());
            if let Some(why) = ear.hears() {
                return Poll::Ready(Closing::refused(why, None));
            }
            if !looked.catches_up(proxy.kills()) {
                return Poll::Pending;
            }
            let mut turns = self.turns.lock();
            let Some(why) = super::kill::stops(exchange, &mut turns) else {
                return Poll::Pending;
            };
            let closing = Closing::refused(&why, turns.wording(&why, None));
            drop(turns);
            *self.killed.lock() = Some(why);
            Poll::Ready(closing)
        })
        .await
    }

    fn closes(&self, by: End) {
        self.closed_by.lock().get_or_insert(by);
    }
}

/// Writes all of it; `false`: nobody takes it.
async fn write<W: AsyncWrite + Unpin>(to: &mut W, bytes: &[u8]) -> bool {
    to.write_all(bytes).await.is_ok() && to.flush().await.is_ok()
}

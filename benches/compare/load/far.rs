//! What is at the far end of a tunnel. The first byte of a connection says what it does: send without
//! an end ([`DOWN`]), hear without an end ([`UP`]), or say again whatever it hears ([`ECHO`]).

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime,
    task::JoinSet,
};

/// Have it send.
pub(crate) const DOWN: u8 = b'd';
/// Have it hear.
pub(crate) const UP: u8 = b'u';
/// Have it say everything again.
pub(crate) const ECHO: u8 = b'e';

/// What is sent and read at once.
const BLOCK: usize = 64 * 1024;

/// What is said without an end, over and over, so that every byte that arrives can be checked.
struct Text(Vec<u8>);

impl Text {
    fn new() -> Self {
        // Twice, for what arrives may begin anywhere; of a period that no buffer's size has.
        let byte =
            |at: usize| u8::try_from((at % BLOCK * 31 + at % BLOCK / 256) % 251).unwrap_or(0);
        Self((0..2 * BLOCK).map(byte).collect())
    }

    /// Whether these bytes, at most a block, are the text's from `at` on.
    fn has(&self, at: u64, bytes: &[u8]) -> bool {
        let at = usize::try_from(at % BLOCK as u64).unwrap_or(0);
        self.0.get(at..at + bytes.len()) == Some(bytes)
    }
}

/// Says the text until the other side has gone.
pub(crate) async fn send(socket: &mut TcpStream) -> io::Result<()> {
    let text = Text::new();
    loop {
        socket
            .write_all(text.0.get(..BLOCK).unwrap_or_default())
            .await?;
    }
}

/// Hears the text, and counts it, until the other side has ended.
pub(crate) async fn hear(socket: &mut TcpStream, heard: &AtomicU64) -> io::Result<()> {
    let (text, mut at, mut block) = (Text::new(), 0_u64, vec![0; BLOCK]);
    loop {
        let count = socket.read(&mut block).await?;
        if count == 0 {
            return Ok(());
        }
        if !text.has(at, block.get(..count).unwrap_or_default()) {
            return Err(io::Error::other("what arrived is not what was sent"));
        }
        let count = u64::try_from(count).unwrap_or(0);
        at += count;
        heard.fetch_add(count, Relaxed);
    }
}

/// The far end.
#[derive(Default)]
pub(crate) struct Far {
    /// Bytes that it has heard.
    pub(crate) heard: AtomicU64,
    /// Connections on which it heard something else than what was sent.
    pub(crate) wrong: AtomicU64,
}

impl Far {
    /// Serves until the process ends.
    pub(crate) fn serve(self: Arc<Self>, listener: std::net::TcpListener) -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await?;
                socket.set_nodelay(true)?;
                let far = Arc::clone(&self);
                connections.spawn(async move { far.converse(socket).await });
                while connections.try_join_next().is_some() {}
            }
        })
    }

    /// Until the other side has gone, in whatever way.
    async fn converse(&self, mut socket: TcpStream) -> io::Result<()> {
        match socket.read_u8().await? {
            DOWN => send(&mut socket).await,
            UP => {
                let heard = hear(&mut socket, &self.heard).await;
                let is_wrong = |error: &io::Error| error.kind() == io::ErrorKind::Other;
                if heard.as_ref().is_err_and(is_wrong) {
                    self.wrong.fetch_add(1, Relaxed);
                }
                heard
            },
            first => {
                socket.write_u8(first).await?;
                let mut block = vec![0; 4096];
                loop {
                    let count = socket.read(&mut block).await?;
                    if count == 0 {
                        return Ok(());
                    }
                    socket
                        .write_all(block.get(..count).unwrap_or_default())
                        .await?;
                }
            },
        }
    }
}

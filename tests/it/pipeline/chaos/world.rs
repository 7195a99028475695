//! The destinations of all processors at once, in trouble or well.

use std::{path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
};

use super::{
    super::{
        grpc,
        sink::{Clients, Sink, TAKES},
    },
    Grpc, PROCESSORS, Trouble, Way,
};

/// What a server on TCP does that is told nothing of what is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Raw {
    Hangs,
    Garbage,
    Resets,
    Trickles,
    Floods,
}

/// Destinations, as they are at the moment.
pub(super) struct World {
    pub(super) http: Sink,
    grpc: String,
    tcp: String,
    command: String,
    udp: String,
    /// Kept as long as they are to be there.
    _kept: (Option<grpc::Server>, Option<UdpSocket>),
}

impl World {
    pub(super) async fn in_trouble(trouble: &Trouble) -> Self {
        let tcp = raw(trouble.tcp).await;
        let http = if trouble.untrusted {
            Sink::with_tls(Clients::Any, &[], TAKES).await
        } else {
            Sink::start(&[], trouble.http).await
        };
        let mut server = None;
        let grpc = match trouble.grpc {
            _ if trouble.untrusted => http.url.clone(),
            Grpc::Raw => format!("http://{tcp}"),
            Grpc::Says(does) => {
                let server = server.insert(grpc::Server::start(&[], does, None).await);
                server.url.clone()
            },
        };
        Self {
            http,
            grpc,
            tcp,
            command: script(trouble.command),
            // Nobody is there.
            udp: "127.0.0.1:9".to_owned(),
            _kept: (server, None),
        }
    }

    /// All are well, but for PostgreSQL, which stays as it is in `before`.
    pub(super) async fn well(before: Option<&Self>) -> Self {
        let grpc = grpc::Server::start(&[], grpc::Does::Takes, None).await;
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        Self {
            http: Sink::start(&[], TAKES).await,
            grpc: grpc.url.clone(),
            tcp: before.map_or_else(String::new, |it| it.tcp.clone()),
            command: script("echo \"{\\\"ack\\\":$n}\""),
            udp: udp.local_addr().unwrap().to_string(),
            _kept: (Some(grpc), Some(udp)),
        }
    }

    /// The destination of one processor.
    fn at(&self, way: Way) -> String {
        match way {
            Way::Http => self.http.url.clone(),
            Way::Grpc => self.grpc.clone(),
            Way::Postgres => self.tcp.clone(),
            Way::Udp => self.udp.clone(),
            Way::Command => self.command.clone(),
            Way::Disk => String::new(),
        }
    }

    /// The configuration of all processors for which `keys` has some; `rest` are further keys of
    /// `tracing`.
    pub(super) fn yaml(
        &self,
        place: &Path,
        rest: &str,
        keys: impl Fn(&str, Way) -> Option<String>,
    ) -> String {
        let place = place.display().to_string();
        let lines = PROCESSORS.iter().filter_map(|(name, way, own)| {
            let own = own.replace("HERE", &self.at(*way)).replace("PLACE", &place);
            let more = keys(name, *way)?;
            Some(format!("    - {{{own}, name: {name}, {more}}}\n"))
        });
        let lines: String = lines.collect();
        let rest = rest.replace("PLACE", &place);
        format!("tracing:\n  allow_exec_reload: true\n  {rest}\n  processors:\n{lines}")
    }
}

/// A command that does this with each line.
fn script(does: &str) -> String {
    let script =
        format!(r#"while IFS= read -r line; do n="${{line#*:}}"; n="${{n%%,*}}"; {does}; done"#);
    // What it is to see as `$` is written twice in a configuration.
    serde_json::to_string(&script.replace('$', "$$")).unwrap()
}

/// A server; its host and port.
async fn raw(does: Raw) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _peer)) = listener.accept().await {
            tokio::spawn(async move {
                let _until_it_goes = play(&mut socket, does).await;
            });
        }
    });
    format!("localhost:{port}")
}

async fn play(socket: &mut TcpStream, does: Raw) -> std::io::Result<()> {
    let mut read = [0; 4096];
    if socket.read(&mut read).await? == 0 {
        return Ok(());
    }
    match does {
        Raw::Hangs => std::future::pending().await,
        Raw::Garbage => {
            socket
                .write_all(b"\xff\0{[<\x1b not what was asked for\r\n\r\n")
                .await?;
            while socket.read(&mut read).await? > 0 {}
        },
        Raw::Resets => {
            let socket = socket2::SockRef::from(&*socket);
            socket.set_linger(Some(Duration::ZERO))?;
        },
        Raw::Trickles => loop {
            socket.write_all(b"\0").await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        },
        Raw::Floods => loop {
            socket.write_all(&[b' '; 4096]).await?;
        },
    }
    Ok(())
}

//! A real PostgreSQL server in a directory of its own, as a user of its own where we are root. It
//! ends with the test.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        net::UnixStream,
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::sink::TLS;
use crate::support::sandbox::until;

/// `nobody`, for PostgreSQL does not run as root.
const NOBODY: u32 = 65_534;

/// A server that runs.
pub(super) struct Server {
    child: Child,
    place: tempfile::TempDir,
    port: u16,
    programs: PathBuf,
}

impl Server {
    /// Makes a database and starts a server on it, which listens on a socket and, with TLS, on
    /// localhost.
    pub(super) async fn start() -> Self {
        let place = tempfile::Builder::new()
            .prefix("tollgate-pg")
            .tempdir()
            .unwrap();
        let data = place.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        for (file, name) in [("server.pem", "server.crt"), ("server.key", "server.key")] {
            let copy = place.path().join(name);
            fs::copy(format!("{TLS}/{file}"), &copy).unwrap();
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o600)).unwrap();
            given_away(&copy);
        }
        given_away(&data);
        given_away(place.path());
        let programs = programs();
        let made = as_nobody(&programs.join("initdb"))
            .args([
                "--auth=trust",
                "--username=tollgate",
                "--encoding=UTF8",
                "--no-sync",
                "-D",
            ])
            .arg(&data)
            .current_dir(place.path())
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = Self::run(&programs, place.path(), port);
        let server = Self {
            child,
            place,
            port,
            programs,
        };
        server.wait().await;
        server
    }

    fn run(programs: &Path, place: &Path, port: u16) -> Child {
        let log = fs::File::create(place.join("log")).unwrap();
        let set = |key: &str, value: &str| format!("--{key}={value}");
        let at = |name: &str| place.join(name).display().to_string();
        as_nobody(&programs.join("postgres"))
            .arg("-D")
            .arg(place.join("data"))
            .args([
                set("port", &port.to_string()),
                set("listen_addresses", "127.0.0.1"),
                set("unix_socket_directories", &place.display().to_string()),
                set("fsync", "off"),
                set("ssl", "on"),
                set("ssl_cert_file", &at("server.crt")),
                set("ssl_key_file", &at("server.key")),
            ])
            .current_dir(place)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    async fn wait(&self) {
        until("PostgreSQL to answer", || self.greets()).await;
    }

    /// Whether it takes connections: not yet, while it starts.
    fn greets(&self) -> bool {
        let socket = self.place.path().join(format!(".s.PGSQL.{}", self.port));
        let Ok(mut stream) = UnixStream::connect(socket) else {
            return false;
        };
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let mut hello = b"\0\x03\0\0user\0tollgate\0database\0postgres\0\0".to_vec();
        let length = u32::try_from(hello.len() + 4).unwrap();
        hello.splice(0..0, length.to_be_bytes());
        let mut first = [0];
        // `R`: it asks who we are, or says that it knows.
        stream.write_all(&hello).is_ok() && stream.read_exact(&mut first).is_ok() && first == *b"R"
    }

    /// Its address over the socket.
    pub(super) fn url(&self) -> String {
        let directory = self.place.path().display().to_string().replace('/', "%2F");
        format!("postgres://tollgate@{directory}:{}/postgres", self.port)
    }

    /// Its address over TCP.
    pub(super) fn tcp_url(&self) -> String {
        format!(
            "postgres://tollgate@localhost:{}/postgres?sslmode=verify-full",
            self.port
        )
    }

    /// What a statement gives: rows of columns with `|` between them.
    #[track_caller]
    pub(super) fn ask(&self, sql: &str) -> Vec<String> {
        let asked = Command::new(self.programs.join("psql"))
            .args([
                "-XqAt",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                "tollgate",
                "-d",
                "postgres",
                "-h",
            ])
            .arg(self.place.path())
            .args(["-p", &self.port.to_string(), "-c", sql])
            .output()
            .unwrap();
        assert!(
            asked.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&asked.stderr)
        );
        String::from_utf8(asked.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Ends it as a power cut would, and starts it again on the same data.
    pub(super) async fn crash(&mut self) {
        self.end("immediate");
        self.child = Self::run(&self.programs, self.place.path(), self.port);
        self.wait().await;
    }

    fn end(&mut self, mode: &str) {
        let signal = as_nobody(&self.programs.join("pg_ctl"))
            .args(["stop", "-s", "-w", "-m", mode, "-D"])
            .arg(self.place.path().join("data"))
            .current_dir(self.place.path())
            .status();
        if !signal.is_ok_and(|status| status.success()) {
            let _gone = self.child.kill();
        }
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end("immediate");
    }
}

/// Where PostgreSQL's programs are: Debian keeps the server's off the path.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let debian = versions.map(|version| version.path().join("bin"));
    let path =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect::<Vec<_>>();
    let mut places = debian.chain(path);
    let found = places.find(|it| it.join("initdb").exists() && it.join("psql").exists());
    found.expect("PostgreSQL is not installed: tests/run installs it (package postgresql)")
}

fn root() -> bool {
    rustix::process::getuid().is_root()
}

fn given_away(path: &Path) {
    if root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new(program);
    if root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

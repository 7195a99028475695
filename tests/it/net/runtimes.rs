//! The authority, before the runtimes that have to trust it: each accepts what is made for a
//! provider's host, by the variables of `tollgate ca env`; none accepts what a thief of the key would
//! make for another host.

use std::{collections::BTreeMap, fs, path::Path, process::Stdio, sync::Arc, time::Duration};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::ResolvesServerCert,
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    process::Command,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tollgate::{
    base::clock::{Clock as _, SystemClock},
    net::authority::{Authority, Leaves, pem},
};

use crate::cli::program::Program;

/// A provider's host, and one that is none's.
const HOST: &str = "api.openai.com";
const OTHER: &str = "www.example.com";

/// How long a client may take, a Java that compiles first among them.
const PATIENCE: Duration = Duration::from_mins(1);

const PYTHON: &str = "
import socket, ssl, sys
context = ssl.create_default_context()
context.verify_flags |= ssl.VERIFY_X509_STRICT
plain = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
context.wrap_socket(plain, server_hostname=sys.argv[2]).close()
print('connected')
";

const NODE: &str = "
const [port, servername] = process.argv.slice(1);
const socket = require('tls').connect({ host: '127.0.0.1', port, servername }, () => {
  console.log('connected');
  socket.end();
});
socket.on('error', (error) => { console.error(error); process.exit(1); });
";

/// A program that connects.
struct Runtime {
    program: &'static str,
    arguments: Vec<String>,
}

impl Runtime {
    /// All of them, to connect to a port of this host and ask for `host` there.
    fn all(port: u16, host: &str) -> [Self; 5] {
        let port = port.to_string();
        let run = |program, arguments: &[&str]| Self {
            program,
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
        };
        let java = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/net/Connects.java");
        let (url, resolved) = (
            format!("https://{host}:{port}/"),
            format!("{host}:{port}:127.0.0.1"),
        );
        let place = format!("127.0.0.1:{port}");
        let openssl = ["s_client", "-brief", "-x509_strict", "-verify_return_error"];
        let asked = [
            "-connect",
            &place,
            "-servername",
            host,
            "-verify_hostname",
            host,
        ];
        [
            run("openssl", &[&openssl[..], &asked].concat()),
            run("curl", &["-sS", "--resolve", &resolved, &url]),
            run("python3", &["-c", PYTHON, &port, host]),
            run("node", &["-e", NODE, &port, host]),
            run("java", &[java, &port, host]),
        ]
    }

    /// Whether it connects, with these variables; and what it says.
    async fn connects(&self, variables: &BTreeMap<String, String>) -> (bool, String) {
        let ran = Command::new(self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(std::env::var("PATH").map(|path| ("PATH", path)))
            .envs(variables)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let ran = timeout(PATIENCE, ran).await.unwrap();
        let ran = ran.unwrap_or_else(|error| {
            panic!("{}: {error}: install it, as tests/run does", self.program)
        });
        let said = [ran.stdout, ran.stderr].concat();
        (
            ran.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }
}

/// A server whose certificates come from there, until the test ends; its port.
async fn serve(certificates: Arc<dyn ResolvesServerCert>) -> u16 {
    let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that refuses us leaves in the middle.
                let Ok(mut socket) = acceptor.accept(socket).await else {
                    return;
                };
                let mut head = [0; 1024];
                if socket.read(&mut head).await.is_ok_and(|read| read > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nconnected";
                    let _gone = socket.write_all(answer).await;
                }
                let _gone = socket.shutdown().await;
            });
        }
    });
    port
}

/// What the program makes of `ca create`, and the variables of `ca env`.
fn authority() -> (Program, Authority, BTreeMap<String, String>) {
    let program = Program::new();
    let made = program.run(&["ca", "create", "--dir=ca"]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let said = program.run(&["ca", "env", "--dir=ca", "--format=json"]);
    let variables = serde_json::from_str(&said.stdout).unwrap();
    let authority = Authority::open(&program.path().join("ca")).unwrap();
    (program, authority, variables)
}

/// What whoever has the key can make for any host, without our care.
fn stolen(dir: &Path, host: &str) -> CertifiedKey {
    let text = fs::read(dir.join("issuer.pem")).unwrap();
    let own = CertificateDer::from_pem_slice(&text).unwrap();
    let key = KeyPair::try_from(&PrivateKeyDer::from_pem_slice(&text).unwrap()).unwrap();
    let issuer = Issuer::from_ca_cert_der(&own, key).unwrap();
    let mut params = CertificateParams::new([host.to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let key = ring::sign::any_ecdsa_type(&key).unwrap();
    CertifiedKey::new(vec![leaf.der().clone(), own], key)
}

#[tokio::test]
async fn runtimes_accept_a_providers_host_and_nothing_else_from_us() {
    let (program, authority, variables) = authority();
    let thief = |host| {
        let made = stolen(&program.path().join("ca"), host);
        serve(Arc::new(SingleCertAndKey::from(made)))
    };
    // What tells the two apart is their hosts.
    let (allowed, rogue) = (thief(HOST).await, thief(OTHER).await);
    let clock = Arc::new(SystemClock);
    let port = serve(Arc::new(Leaves::new(authority, 8, clock))).await;
    let none = BTreeMap::new();
    let others = Runtime::all(allowed, HOST).into_iter();
    let others = others.zip(Runtime::all(rogue, OTHER));
    for (runtime, (led, misled)) in Runtime::all(port, HOST).into_iter().zip(others) {
        let name = runtime.program;
        let (connected, said) = led.connects(&variables).await;
        assert!(connected, "{name}: {said}");
        let (connected, said) = runtime.connects(&variables).await;
        assert!(connected, "{name}: {said}");
        let (connected, said) = runtime.connects(&none).await;
        assert!(!connected, "{name} trusts anybody: {said}");
        let (connected, said) = misled.connects(&variables).await;
        assert!(!connected, "{name} heeds no constraint: {said}");
    }
}

#[tokio::test]
async fn openssl_verifies_a_leaf_file_strictly() {
    let (program, authority, _) = authority();
    let leaf = authority.leaf(HOST, SystemClock.wall()).unwrap();
    let write = |name: &str, certificates: &[CertificateDer<'_>]| {
        let path = program.path().join(name);
        fs::write(&path, pem(certificates)).unwrap();
        path.display().to_string()
    };
    let (own, above) = leaf.key.cert.split_first().unwrap();
    let own = write("leaf.pem", std::slice::from_ref(own));
    let above = write("above.pem", above);
    let roots = write("roots.pem", authority.roots());
    let verify = Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslserver"])
        .args(["-verify_hostname", HOST, "-no-CApath", "-no-CAstore"])
        .args(["-CAfile", &roots, "-untrusted", &above, &own])
        .output();
    let ran = verify.await.unwrap();
    let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
    assert!(ran.status.success(), "{said}");
}

//! `tollgate exec --intercept`: programs that know nothing of it, and that nothing points at it.

use std::{fs, path::Path};

use tokio::process::Command;
use tollgate::mock::{Mock, Options};

use super::program::{Program, Ran};

/// Asks `OpenAI` by its own name as often as `$1` says, with further arguments, and prints the status
/// of each answer: 000 if there was none.
const AGENT: &str = r#"
times=$1; shift
for ((n = 0; n < times; n++)); do
  curl -s -o answer -w '%{http_code}\n' "$@" https://api.openai.com/v1/chat/completions \
    -H 'content-type: application/json' \
    -d '{"model": "gpt-4o", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}'
done
exit 0
"#;

/// A directory with the agent in it, and the mock in the place of `OpenAI`.
struct Scene {
    program: Program,
    mock: Mock,
    temporary: tempfile::TempDir,
}

impl Scene {
    fn new(yaml: &str) -> Self {
        let mock = Mock::start(Options::default()).unwrap();
        let yaml = format!(
            "providers: {{openai: {{base_url: '{}'}}}}\n{yaml}",
            mock.url()
        );
        Self {
            program: Program::new()
                .with("agent", AGENT)
                .with("tollgate.yaml", &yaml),
            mock,
            temporary: tempfile::tempdir().unwrap(),
        }
    }

    async fn run(&self, arguments: &[&str], set: &[(&str, &str)]) -> Ran {
        let all = [&["exec", "--intercept"], arguments].concat();
        let mut command = Command::from(self.program.command(&all));
        command
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("TMPDIR", self.temporary.path())
            .envs(set.iter().copied());
        Ran::from(command.output().await.unwrap())
    }

    fn left(&self) -> usize {
        fs::read_dir(self.temporary.path()).unwrap().count()
    }
}

#[test]
fn a_temporary_directory_that_cannot_be_had_is_named() {
    let program = Program::new();
    let mut command = program.command(&["exec", "--intercept", "--", "true"]);
    let ran = Ran::from(command.env("TMPDIR", "/nonexistent").output().unwrap());
    assert_ne!(ran.code, Some(0));
    for part in ["cannot make /nonexistent/tollgate-", "TMPDIR"] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
}

#[tokio::test]
async fn a_program_that_names_the_provider_itself_is_metered() {
    let scene = Scene::new("");
    let ran = scene.run(&["--", "bash", "agent", "2"], &[]).await;
    assert_eq!(
        (ran.code, &*ran.stdout),
        (Some(0), "200\n200\n"),
        "{}",
        ran.stderr
    );
    let first = ran.stderr.lines().next().unwrap();
    assert!(
        first.contains("2 calls · 4 tokens in, 8 out · $0.00009 · "),
        "{}",
        ran.stderr
    );
    for word in ["unmetered", "authority", "ERROR"] {
        assert!(!ran.stderr.contains(word), "{}", ran.stderr);
    }
    assert_eq!(scene.mock.count(), 2);
    assert_eq!(scene.left(), 0, "nothing of it is left");
}

#[tokio::test]
async fn a_budget_holds() {
    let scene = Scene::new("");
    let arguments = ["--budget", "0.0009", "--", "bash", "agent", "20"];
    let ran = scene.run(&arguments, &[]).await;
    let passed = scene.mock.count();
    assert!((1..20).contains(&passed), "{}", ran.stderr);
    let refused = ran.stdout.matches("429\n").count();
    assert_eq!(u64::try_from(refused).unwrap(), 20 - passed);
    assert!(ran.stderr.contains("by budget.exec"), "{}", ran.stderr);
}

#[tokio::test]
async fn the_command_finds_no_key_and_no_base_url() {
    let scene = Scene::new("");
    let script = "dirname \"$SSL_CERT_FILE\"; ls \"$(dirname \"$SSL_CERT_FILE\")\"; \
                  grep -l 'PRIVATE KEY' \"$(dirname \"$SSL_CERT_FILE\")\"/*; env | grep _BASE_URL";
    let ran = scene.run(&["--", "bash", "-c", script], &[]).await;
    let lines: Vec<_> = ran.stdout.lines().collect();
    let [dir, files @ ..] = &*lines else {
        panic!("{}", ran.stderr);
    };
    assert_eq!(files, ["bundle.pem", "ca.pem", "trust.jks"]);
    assert!(!Path::new(dir).exists());
    let none = "no calls went through: does the program heed HTTPS_PROXY?";
    assert!(ran.stderr.contains(none), "{}", ran.stderr);
}

#[tokio::test]
async fn what_is_not_metered_is_said() {
    let scene = Scene::new("");
    let roots = scene.program.path().join("none.pem");
    let theirs = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&roots, theirs.cert.pem()).unwrap();
    let set = [
        ("NO_PROXY", "corp, .anthropic.com"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:9/v1"),
    ];
    let arguments = ["--", "bash", "agent", "1", "--cacert", "none.pem"];
    let ran = scene.run(&arguments, &set).await;
    assert_eq!(ran.stdout, "000\n", "{}", ran.stderr);
    for part in [
        "1 connection to api.openai.com: the program does not trust the certificate",
        "NO_PROXY keeps providers out, by .anthropic.com",
        "OPENAI_BASE_URL names http://127.0.0.1:9,",
    ] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    assert_eq!(scene.mock.count(), 0);
}

#[tokio::test]
async fn what_the_user_has_set_stays() {
    let scene = Scene::new("");
    let set = [
        ("no_proxy", "git.corp"),
        ("JAVA_TOOL_OPTIONS", "-Xmx1g"),
        ("NODE_OPTIONS", "--no-warnings"),
        ("http_proxy", "http://corp:3128"),
    ];
    let ran = scene.run(&["--", "env"], &set).await;
    let value = |name: &str| {
        let mut lines = ran.stdout.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    };
    assert!(
        value("NO_PROXY")
            .unwrap()
            .starts_with("git.corp,localhost,")
    );
    let java = value("JAVA_TOOL_OPTIONS").unwrap();
    assert!(
        java.starts_with("-Xmx1g -Dhttps.proxyHost=127.0.0.1 "),
        "{java}"
    );
    assert_eq!(value("NODE_OPTIONS"), Some("--no-warnings"));
    assert_eq!(value("http_proxy"), Some("http://corp:3128"));
    assert_eq!(value("HTTPS_PROXY"), value("https_proxy"));
}

#[tokio::test]
async fn an_authority_of_the_configuration_serves_and_stays() {
    let scene = Scene::new("intercept: {ca_dir: ca}\n");
    let ran = scene.program.run(&["ca", "create"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let before = fs::read(scene.program.path().join("ca/ca.pem")).unwrap();
    let ran = scene
        .run(&["--", "bash", "agent", "1", "--cacert", "ca/ca.pem"], &[])
        .await;
    assert_eq!(ran.stdout, "200\n", "{}", ran.stderr);
    assert!(scene.program.path().join("ca/issuer.pem").exists());
    assert_eq!(
        fs::read(scene.program.path().join("ca/ca.pem")).unwrap(),
        before
    );
    assert_eq!(scene.left(), 0);
}

//! `tollgate exec`: what its command sees, what is passed on, and what is said in the end.

use std::{
    fs::{self, File, Permissions},
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    process::Stdio,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};
use tollgate::{
    ledger::Owner,
    mock::{Mock, Options},
};

use super::program::{Program, Ran};

/// An agent that knows nothing of Tollgate: it asks `$1` questions, 100 tokens each at most, and
/// prints the status of each answer.
const AGENT: &str = r#"
base=${OPENAI_BASE_URL#http://}
host=${base%%/*}
body='{"model": "gpt-4o", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}'
for ((n = 0; n < $1; n++)); do
  exec 3<>"/dev/tcp/${host%:*}/${host##*:}"
  printf 'POST /%s/chat/completions HTTP/1.1\r\nhost: %s\r\n' "${base#*/}" "$host" >&3
  printf 'connection: close\r\ncontent-length: %d\r\n\r\n%s' "${#body}" "$body" >&3
  read -r version status reason <&3
  echo "$status"
  cat <&3 >/dev/null
done
exit "${2:-0}"
"#;

/// A directory with the agent in it, and the mock where the environment has `OpenAI`.
struct Scene {
    program: Program,
    mock: Mock,
}

impl Scene {
    fn new() -> Self {
        Self {
            program: Program::new().with("agent", AGENT),
            mock: Mock::start(Options::default()).unwrap(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut all = vec!["exec"];
        all.extend(arguments);
        let mut command = Command::from(self.program.command(&all));
        command
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("OPENAI_BASE_URL", format!("{}/v1", self.mock.url()));
        command
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        Ran::from(self.command(arguments).output().await.unwrap())
    }
}

#[tokio::test]
async fn the_command_runs_as_without_it_and_its_cost_is_told_on_stderr() {
    let scene = Scene::new();
    let ran = scene.run(&["--", "bash", "agent", "2", "7"]).await;
    assert_eq!(ran.code, Some(7), "{}", ran.stderr);
    assert_eq!(ran.stdout, "200\n200\n");
    // "Hello" is 2 tokens, "You said: Hello" 4: $2.50 and $10 a million.
    let first = ran.stderr.lines().next().unwrap();
    assert!(
        first.contains("2 calls · 4 tokens in, 8 out · $0.00009 · "),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains(" gpt-4o "), "{}", ran.stderr);
    assert_eq!(scene.mock.count(), 2);
}

#[tokio::test]
async fn the_exit_code_is_the_commands_also_where_it_deletes_the_store() {
    let scene = Scene::new();
    let deletes = "rm -rf tollgate-data; exit 42";
    let ran = scene.run(&["--", "bash", "-c", deletes]).await;
    assert_eq!(ran.code, Some(42), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("Cannot say what the command cost"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn where_nothing_can_be_written_the_command_runs_and_is_told_its_cost() {
    let mut scene = Scene::new();
    // Nobody, root included, can make a directory below a file.
    scene.program = scene
        .program
        .with("tollgate.yaml", "store: {path: ./agent/data}");
    let ran = scene
        .run(&["--budget", "1", "--", "bash", "agent", "1", "7"])
        .await;
    assert_eq!(ran.code, Some(7), "{}", ran.stderr);
    assert!(ran.stderr.contains("1 call · "), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("./agent/data cannot be written to"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn a_second_run_is_told_its_own_cost_and_has_its_own_budget() {
    let scene = Scene::new();
    for _ in 0..2 {
        let ran = scene
            .run(&["--budget", "0.0012", "bash", "agent", "3"])
            .await;
        assert_eq!(ran.stdout, "200\n200\n200\n", "{}", ran.stderr);
        let budget = ran.stderr.lines().last().unwrap();
        assert_eq!(
            budget.split_once(' ').unwrap().1.trim(),
            "$0.0012 allowed, $0.001065 left, $0.000135 spent"
        );
    }
}

#[tokio::test]
async fn a_budget_refuses_what_it_does_not_cover() {
    let scene = Scene::new();
    // Less than the 100 tokens that are asked for, more than the 64 that it is not clamped below.
    let ran = scene
        .run(&["--budget", "0.0009", "bash", "agent", "20"])
        .await;
    assert_eq!(ran.code, Some(0));
    let passed = ran.stdout.lines().take_while(|status| *status == "200");
    let passed = passed.count();
    assert!((1..20).contains(&passed), "{}", ran.stderr);
    assert_eq!(
        ran.stdout,
        ["200\n".repeat(passed), "429\n".repeat(20 - passed)].concat()
    );
    assert_eq!(scene.mock.count(), u64::try_from(passed).unwrap());
    let stopped = format!("{} calls, by budget.exec", 20 - passed);
    assert!(ran.stderr.contains(&stopped), "{}", ran.stderr);
}

/// The command has no key of its own: its calls go on with Tollgate's.
#[tokio::test]
async fn the_provider_s_key_need_not_be_the_command_s() {
    let mut scene = Scene::new();
    let yaml = "identity: {trusted: [127.0.0.0/8]}\n\
                providers: {openai: {api_key: \"${file:openai}\"}}\n";
    scene.program = scene
        .program
        .with("tollgate.yaml", yaml)
        .with("openai", "sk-ours\n");
    let ran = scene.run(&["--", "bash", "agent", "1"]).await;
    assert_eq!(ran.stdout, "200\n", "{}", ran.stderr);
    let sent = scene.mock.requests().remove(0);
    assert_eq!(sent.headers["authorization"], "Bearer sk-ours");
    assert!(!ran.stderr.contains("sk-ours"), "{}", ran.stderr);
}

#[tokio::test]
async fn one_inside_another_goes_through_both() {
    let scene = Scene::new();
    let program = env!("CARGO_BIN_EXE_tollgate");
    let ran = scene
        .run(&["--", program, "exec", "--", "bash", "agent", "1"])
        .await;
    assert_eq!(ran.stdout, "200\n", "{}", ran.stderr);
    let told = ran.stderr.matches("1 call · 2 tokens in, 4 out").count();
    assert_eq!(told, 2, "{}", ran.stderr);
    assert_eq!(scene.mock.count(), 1);
}

#[tokio::test]
async fn beside_a_running_sidecar_it_keeps_its_own_store_and_says_so() {
    let scene = Scene::new();
    let data = scene.program.path().join("tollgate-data");
    let _owner = Owner::claim(&data, "127.0.0.1:3001").unwrap();
    let mut command = scene.command(&["--", "bash", "agent", "1"]);
    let temporary = tempfile::tempdir().unwrap();
    command.env("TMPDIR", temporary.path());
    let ran = Ran::from(command.output().await.unwrap());
    assert_eq!(ran.stdout, "200\n", "{}", ran.stderr);
    let [own] = fs::read_dir(temporary.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    assert!(
        ran.stderr.contains(&own.display().to_string()),
        "{}",
        ran.stderr
    );
    assert!(own.join("spans.db").exists());
    assert!(!data.join("spans.db").exists());
}

#[tokio::test]
async fn a_signal_is_passed_on_and_the_commands_answer_to_it_counts() {
    let scene = Scene::new();
    let script = "trap 'echo told; exit 9' TERM; echo ready; while :; do sleep 0.01; done";
    let mut command = scene.command(&["--", "bash", "-c", script]);
    let mut running = command
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "ready");
    let pid = running.id().unwrap().to_string();
    let killed = Command::new("kill").arg(&pid).status().await.unwrap();
    assert!(killed.success());
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "told");
    assert_eq!(running.wait().await.unwrap().code(), Some(9));
    let ran = scene.run(&["--", "bash", "-c", "kill -KILL $$"]).await;
    assert_eq!(ran.code, Some(128 + 9));
}

#[tokio::test]
async fn a_program_that_is_there_is_not_called_missing_when_what_runs_it_is() {
    let scene = Scene::new();
    let place = scene.program.path();
    let (script, binary) = (place.join("script"), place.join("binary"));
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    // The beginning of our own program, with a loader that is nowhere.
    let mut head = vec![0; 1 << 16];
    let mut own = File::open(env!("CARGO_BIN_EXE_tollgate")).unwrap();
    own.read_exact(&mut head).unwrap();
    let loader = head.windows(4).position(|part| part == b"/lib").unwrap();
    head[loader..loader + 4].copy_from_slice(b"/nol");
    fs::write(&binary, head).unwrap();
    for file in [&script, &binary] {
        fs::set_permissions(file, Permissions::from_mode(0o755)).unwrap();
        for name in [file.file_name().unwrap(), file.as_os_str()] {
            let mut command = scene.command(&["--", name.to_str().unwrap()]);
            let ran = Ran::from(command.env("PATH", place).output().await.unwrap());
            let says = format!(
                "cannot run `{}`: the interpreter or loader that {} names is not there",
                name.display(),
                file.display()
            );
            assert_eq!(ran.code, Some(127), "{}", ran.stderr);
            assert!(ran.stderr.contains(&says), "{}", ran.stderr);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_said_with_the_exit_code_that_fits() {
    let scene = Scene::new();
    for (arguments, code, part) in [
        (
            &["--", "no-such-command"][..],
            127,
            "`no-such-command`: no directory of PATH has it (/",
        ),
        (
            &["--", "./absent"],
            127,
            "`./absent`: there is no such file",
        ),
        (&["--", "./agent"], 126, "`./agent`"),
        (&["--budget", "much", "--", "true"], 2, "`much`"),
        (&[], 2, "CMD"),
    ] {
        let ran = scene.run(arguments).await;
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    let mut command = scene.command(&["--", "true"]);
    command.env("ANTHROPIC_BASE_URL", "localhost:9");
    let ran = Ran::from(command.output().await.unwrap());
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains("ANTHROPIC_BASE_URL: `localhost:9`"),
        "{}",
        ran.stderr
    );
}

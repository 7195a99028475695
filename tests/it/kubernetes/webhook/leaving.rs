//! How the webhook ends.

use std::time::Duration;

use tokio::{io::AsyncBufReadExt as _, process::Command};

use super::{
    World,
    caller::{pod, review},
    cluster::Mood,
    until,
};

#[tokio::test]
async fn what_has_begun_is_answered_and_what_comes_late_is_taken_while_others_learn_of_it() {
    let world = World::new().await;
    let mut options = world.options(World::made());
    options.drain = Duration::from_millis(500);
    let mut replica = world.start(options);
    replica.becomes_ready().await;
    let mut begun = world.connect(&replica).await;
    world.cluster.is(Mood::Slow(Duration::from_millis(900)));
    let pod = review("shop", &pod(1));
    let (answer, ()) = tokio::join!(begun.ask(&pod), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        replica.stop();
        until("it says that it leaves", async || {
            replica.get("/readyz").await == (503, "the webhook is leaving\n".to_owned())
        })
        .await;
        assert_eq!(replica.get("/healthz").await.0, 200);
        world.connect(&replica).await;
    });
    assert_eq!(answer.1["allowed"], true, "{answer:?}");
    replica.running.join_next().await.unwrap().unwrap().unwrap();
    assert!(replica.caller.connect(&world.bundle(), "h2").await.is_err());
}

#[tokio::test]
async fn the_program_serves_by_its_options_and_ends_with_0_when_it_is_told_to() {
    let world = World::new().await;
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["hook.tollgate.svc".to_owned()]).unwrap();
    std::fs::write(dir.path().join("tls.crt"), made.cert.pem()).unwrap();
    std::fs::write(dir.path().join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args([
            "webhook",
            "--listen=127.0.0.1:0",
            "--health=127.0.0.1:0",
            "--drain=100ms",
        ])
        .args(["--image=example/tollgate:7", "--api", &world.cluster.url])
        .arg("--service-account")
        .arg(world.cluster.account())
        .arg("--cert-dir")
        .arg(dir.path())
        .env_clear()
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = tokio::io::BufReader::new(program.stdout.take().unwrap()).lines();
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(lines.next_line().await.unwrap().unwrap());
    }
    let address = |line: &str, scheme: &str| {
        let rest = line.split_once(scheme).unwrap().1;
        rest.split('/').next().unwrap().parse().unwrap()
    };
    let health = address(&told[1], "http://");
    until("it is ready", async || {
        super::get(health, "/readyz")
            .await
            .is_ok_and(|(status, _)| status == 200)
    })
    .await;
    let caller = super::Caller {
        address: address(&told[0], "https://"),
        clock: std::sync::Arc::clone(&world.clock),
        host: "hook.tollgate.svc",
    };
    let bundle = made.cert.pem();
    let mut connection = caller.connect(bundle.as_bytes(), "h2").await.unwrap();
    let (_, response) = connection.ask(&review("shop", &pod(1))).await;
    let patch = super::caller::patch(&response);
    assert!(
        serde_json::to_string(&patch)
            .unwrap()
            .contains("example/tollgate:7")
    );
    let pid = program.id().unwrap().to_string();
    let told = Command::new("kill").arg(&pid).status().await.unwrap();
    assert!(told.success());
    let ended = program.wait().await.unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused_before_anything_listens() {
    let account = tempfile::tempdir().unwrap();
    for (arguments, expected) in [
        (vec!["--namespace=x"], "KUBERNETES_SERVICE_HOST"),
        (vec!["--api=https://127.0.0.1:1"], "Say it by --namespace"),
        (
            vec!["--namespace=x", "--api=http://127.0.0.1:1"],
            "expected https://HOST:PORT",
        ),
        (
            vec![
                "--namespace=x",
                "--api=https://127.0.0.1:1",
                "--cert-lifetime=1m",
            ],
            "20m is the shortest",
        ),
        (vec!["--cert-dir=x", "--secret=y"], "cannot be used with"),
    ] {
        let ran = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["webhook", "--listen=127.0.0.1:0", "--health=127.0.0.1:0"])
            .args(&arguments)
            .arg("--service-account")
            .arg(account.path())
            .env_clear()
            .output()
            .await
            .unwrap();
        let stderr = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

//! `tollgate wait`, as a hook of a container runs it.

use std::time::Duration;

use super::program::Program;
use crate::support::{Sandbox, sandbox::PATIENCE};

/// Runs it by a configuration with this health listener.
fn wait(program: &Program, timeout: &str) -> super::program::Ran {
    program.run(&["wait", "--timeout", timeout])
}

#[tokio::test]
async fn it_waits_until_the_sidecar_is_ready_and_no_longer_than_it_may() {
    let sandbox = Sandbox::new(
        "listen: {proxy: 127.0.0.1:0, admin: 127.0.0.1:0, health: 127.0.0.1:0}\nshutdown: {delay: 2s}",
    );
    let health = sandbox.app.health_address.unwrap();
    let program = Program::new().with("tollgate.yaml", &format!("listen: {{health: '{health}'}}"));
    let ran = wait(&program, "30s");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");

    let Sandbox { app, .. } = sandbox;
    let leaving = tokio::spawn(app.stop());
    let unready = async {
        loop {
            let ran = wait(&program, "300ms");
            if ran.code != Some(0) {
                break ran;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let ran = tokio::time::timeout(PATIENCE, unready).await.unwrap();
    assert_eq!(ran.code, Some(1));
    let said = format!("http://{health} is not ready after 300ms: ");
    assert!(ran.stderr.contains(&said), "{}", ran.stderr);
    leaving.await.unwrap();
}

#[test]
fn nobody_there_is_said() {
    let program = Program::new().with("tollgate.yaml", "listen: {admin: '127.0.0.1:1'}");
    let ran = wait(&program, "250ms");
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.contains("http://127.0.0.1:1 is not ready"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("refused"), "{}", ran.stderr);
    assert_eq!(wait(&program, "soon").code, Some(2));
}

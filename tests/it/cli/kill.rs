//! `tollgate kill` beside a running sidecar, and beside what one has left.

use serde_json::Value;

use super::program::{Program, Ran};
use crate::{admin::chat, support::Sandbox};

fn done(ran: Ran) -> String {
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran.stdout
}

#[tokio::test]
async fn calls_are_stopped_and_passed_again_and_who_did_it_is_known_afterwards() {
    let sandbox = Sandbox::new("");
    let at = |name: &str| sandbox.path(name).display().to_string();
    let (data, journal) = (at("data"), at("data/journal"));
    let text = format!("store: {{path: '{data}'}}\nledger: {{path: '{journal}'}}\n");
    let elsewhere = format!("store: {{path: '{data}'}}\nledger: {{path: ./none}}\n");
    let program = Program::new()
        .with("tollgate.yaml", &text)
        .with("elsewhere.yaml", &elsewhere);
    let run = |arguments: &[&str]| done(program.run(arguments));
    assert_eq!(run(&["kill", "list"]), "No calls are stopped by hand.\n");

    let said = run(&[
        "kill",
        "agent=support-*",
        "agent=loops",
        "--for=1h",
        "--reason=it loops",
        "--who=ada",
    ]);
    assert!(said.contains("agent=support-* agent=loops"), "{said}");
    let id = said.trim().rsplit(' ').next().unwrap();
    let status = async |agent| chat(&sandbox, agent, "42", 10).await.status;
    assert_eq!(status("support-eu").await, 403);
    assert_eq!(status("loops").await, 403);
    assert_eq!(status("other").await, 200);

    // The running one is asked, whatever the ledger has.
    for list in [
        &["kill", "list"][..],
        &["kill", "list", "--all"],
        &["kill", "list", "-c", "elsewhere.yaml"],
        &["kill", "list", "-c", "elsewhere.yaml", "--all"],
    ] {
        let table = run(list);
        for part in [id, "agent=support-*", "ada", "it loops"] {
            assert_eq!(table.matches(part).count(), 1, "{part} in {table}");
        }
    }
    assert!(run(&["kill", "lift", id, "--who=bob"]).contains(id));
    assert_eq!(status("loops").await, 200);
    let again = program.run(&["kill", "lift", id]);
    assert_eq!(again.code, Some(2), "{}", again.stderr);
    let wrong = program.run(&["kill", "agnet=a"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.stderr.contains("agnet"), "{}", wrong.stderr);
    assert_eq!(program.run(&["kill", "agent"]).code, Some(2));

    let _directory = sandbox.stop().await;
    assert_eq!(run(&["kill", "list"]), "No calls are stopped by hand.\n");
    let all: Value =
        serde_json::from_str(&run(&["kill", "list", "--all", "--format=json"])).unwrap();
    assert_eq!(all[0]["id"], id);
    assert_eq!(all[0]["who"], "ada");
    assert_eq!(all[0]["lifted_by"], "bob");
    assert!(run(&["ledger", "verify"]).starts_with("ok: "));
    let gone = program.run(&["kill", "agent=a"]);
    assert_eq!(gone.code, Some(1));
    assert!(gone.stderr.contains("no sidecar runs"), "{}", gone.stderr);
}

//! Certificates: made, shared, renewed, and somebody else's.

use std::{fs, path::Path, sync::Arc, time::Duration};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};
use tollgate::{base::clock::Clock as _, kubernetes::webhook::Source};

use super::{
    CONFIGURATION, LIFETIME, SECRET, SETTLE, World,
    caller::{pod, review},
    cluster::Mood,
    until,
};

fn roots(bundle: &[u8]) -> usize {
    CertificateDer::pem_slice_iter(bundle).count()
}

#[tokio::test]
async fn replicas_that_start_at_once_show_one_certificate_which_the_bundle_vouches_for() {
    let world = World::new().await;
    let options = || world.options(World::made());
    let replicas = [
        world.start(options()),
        world.start(options()),
        world.start(options()),
    ];
    for replica in &replicas {
        replica.becomes_ready().await;
    }
    let mut shown = Vec::new();
    for replica in &replicas {
        shown.push(world.connect(replica).await.shown);
    }
    assert!(shown.iter().all(|it| *it == shown[0]));
    assert_eq!(roots(&world.bundle()), 1);
    let created = world.cluster.asked();
    let created = created.iter().filter(|asked| asked.starts_with("POST"));
    assert!(created.count() >= 1);
    let secret = world.cluster.get(SECRET).unwrap();
    let mut kept: Vec<_> = secret["data"].as_object().unwrap().keys().collect();
    kept.sort();
    assert_eq!(kept, ["ca.crt", "tls.crt", "tls.key"]);
    // The webhook of somebody else in the same configuration is left alone.
    let configuration = world.cluster.get(CONFIGURATION).unwrap();
    let other = &configuration["webhooks"][0]["clientConfig"];
    assert!(other.get("caBundle").is_none(), "{other}");
}

#[tokio::test]
async fn a_secret_that_was_made_beforehand_keeps_what_else_is_in_it() {
    let world = World::new().await;
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "hook-certificate", "labels": {"app": "x"}},
        "data": {"note": "aGk=", "tls.crt": "bm8="},
    });
    world.cluster.put(SECRET, secret);
    let replica = world.ready().await;
    world.connect(&replica).await;
    let secret = world.cluster.get(SECRET).unwrap();
    assert_eq!(secret["data"]["note"], "aGk=");
    assert_eq!(secret["metadata"]["labels"]["app"], "x");
}

/// Connects again and again, each time by the bundle as it is then, until it is told to stop; how
/// often it did.
async fn connects(
    world: Arc<World>,
    caller: super::Caller,
    mut stop: watch::Receiver<bool>,
) -> usize {
    let mut count = 0;
    while !*stop.borrow_and_update() {
        let bundle = world.bundle();
        let connection = caller.connect(&bundle, "http/1.1").await;
        let mut connection = connection.expect("the bundle vouches for what is shown");
        let (status, _) = connection.ask(&review("shop", &pod(1))).await;
        assert_eq!(status, 200);
        count += 1;
    }
    count
}

#[tokio::test]
async fn a_certificate_is_renewed_while_every_connection_is_vouched_for_and_none_is_dropped() {
    let world = Arc::new(World::new().await);
    let replicas = [world.ready().await, world.ready().await];
    let mut kept = world.connect(&replicas[0]).await;
    let first = kept.shown.clone();
    let (stop, stopped) = watch::channel(false);
    let mut callers = JoinSet::new();
    for replica in &replicas {
        callers.spawn(connects(
            Arc::clone(&world),
            replica.caller.clone(),
            stopped.clone(),
        ));
    }
    let shows = async |number: usize| world.connect(&replicas[number]).await.shown;
    let next = || {
        world.cluster.get(SECRET).unwrap()["data"]
            .get("next-tls.crt")
            .cloned()
    };

    world.clock.advance(LIFETIME / 20 * 13);
    assert_eq!(next(), None);
    world.clock.advance(LIFETIME / 20);
    until("the API server is told of the next", async || {
        roots(&world.bundle()) == 2
    })
    .await;
    let planned: Option<Value> = next();
    assert!(planned.is_some());
    // Looked at several times meanwhile, and yet not shown.
    let looks = "tollgate_webhook_certificate_checks_total{result=\"ok\"}";
    let before = replicas[1].metric(looks).await;
    until("it is looked at", async || {
        replicas[1].metric(looks).await > before + 3.0
    })
    .await;
    assert_eq!(shows(0).await, first);
    assert_eq!(next(), planned, "no other is made");

    world.clock.advance(SETTLE + Duration::from_secs(1));
    for number in [0, 1] {
        until("the next is shown", async || shows(number).await != first).await;
    }
    assert_eq!(shows(0).await, shows(1).await);
    assert_eq!(
        roots(&world.bundle()),
        2,
        "the old one stays while it holds"
    );
    assert_eq!(next(), None);

    world.clock.advance(LIFETIME / 3);
    until("the old root has gone", async || {
        roots(&world.bundle()) == 1
    })
    .await;
    stop.send(true).unwrap();
    let counts = callers.join_all().await;
    assert!(counts.iter().all(|count| *count > 2), "{counts:?}");
    // The connection of the first certificate, which has ended, is as good as ever.
    let (status, response) = kept.ask(&review("shop", &pod(1))).await;
    assert_eq!((status.as_u16(), &response["allowed"]), (200, &json!(true)));
    let ends = replicas[0]
        .metric("tollgate_webhook_certificate_end_seconds")
        .await;
    let now = Duration::from_secs(world.clock.wall().as_secs());
    assert!(ends > now.as_secs_f64());
}

#[tokio::test]
async fn a_certificate_that_ends_during_a_request_does_not_fail_it() {
    let world = World::new().await;
    let replica = world.ready().await;
    let mut connection = world.connect(&replica).await;
    world.cluster.is(Mood::Slow(Duration::from_millis(300)));
    let pod = review("shop", &pod(1));
    let (answer, ()) = tokio::join!(connection.ask(&pod), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.clock.advance(LIFETIME * 2);
    });
    assert_eq!(answer.1["allowed"], true, "{answer:?}");
    world.cluster.is(Mood::Well);
    // Nothing to wait for: what has ended is no good to anybody.
    replica.becomes_ready().await;
    let new = world.connect(&replica).await;
    assert_ne!(new.shown, connection.shown);
}

#[tokio::test]
async fn a_bundle_that_somebody_empties_is_filled_again() {
    let world = World::new().await;
    let replica = world.ready().await;
    let mut configuration = world.cluster.get(CONFIGURATION).unwrap();
    configuration["webhooks"][1]["clientConfig"]["caBundle"] = "Cg==".into();
    world.cluster.put(CONFIGURATION, configuration);
    until("it is filled", async || roots(&world.bundle()) == 1).await;
    world.connect(&replica).await;
}

/// A certificate for the webhook, of an authority of its own; the authority's.
fn write(dir: &Path, name: &str) -> String {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    fs::write(dir.join("tls.crt"), made.cert.pem()).unwrap();
    fs::write(dir.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    made.cert.pem()
}

#[tokio::test]
async fn a_certificate_in_files_is_shown_and_so_is_the_one_that_takes_its_place() {
    let world = World::new().await;
    let dir = tempfile::tempdir().unwrap();
    let replica = world.start(world.options(Source::Files(dir.path().to_owned())));
    until("it is looked for", async || {
        replica.get("/readyz").await.1.contains("tls.crt")
    })
    .await;
    let first = write(dir.path(), "hook.tollgate.svc");
    replica.becomes_ready().await;
    let connect = async |bundle: &str| replica.caller.connect(bundle.as_bytes(), "h2").await;
    let mut kept = connect(&first).await.unwrap();

    // Only half of the next one is there yet.
    let other = tempfile::tempdir().unwrap();
    let second = write(other.path(), "hook.tollgate.svc");
    fs::copy(other.path().join("tls.crt"), dir.path().join("tls.crt")).unwrap();
    let failed = "tollgate_webhook_certificate_checks_total{result=\"failed\"}";
    let before = replica.metric(failed).await;
    until("it is looked at", async || {
        replica.metric(failed).await > before
    })
    .await;
    connect(&first).await.unwrap();
    assert_eq!(replica.get("/readyz").await.0, 200, "what is shown is good");
    fs::copy(other.path().join("tls.key"), dir.path().join("tls.key")).unwrap();
    until("the second is shown", async || {
        connect(&second).await.is_ok()
    })
    .await;
    assert!(connect(&first).await.is_err());
    let (status, _) = kept.ask(&review("shop", &pod(1))).await;
    assert_eq!(status, 200);

    // Neither a Secret nor a configuration is asked for.
    let asked = world.cluster.asked();
    let others = |asked: &&String| asked.contains("secrets") || asked.contains("admission");
    assert_eq!(asked.iter().find(others), None);
}

#[tokio::test]
async fn a_certificate_in_files_that_has_ended_is_said_to_have() {
    let world = World::new().await;
    let dir = tempfile::tempdir().unwrap();
    let mut params = rcgen::CertificateParams::new(["hook.tollgate.svc".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2027, 2, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(dir.path().join("tls.crt"), certificate.pem()).unwrap();
    fs::write(dir.path().join("tls.key"), key.serialize_pem()).unwrap();
    let replica = world.start(world.options(Source::Files(dir.path().to_owned())));
    replica.becomes_ready().await;
    world.clock.advance(Duration::from_hours(24 * 30));
    until("it says so", async || {
        let (status, said) = replica.get("/readyz").await;
        status == 503 && said.contains("ended at 2027-02-01")
    })
    .await;
}

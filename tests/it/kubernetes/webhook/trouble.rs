//! An API server that is away, slow, or says no.

use std::time::Duration;

use serde_json::json;
use tollgate::kubernetes::webhook::Terms;

use super::{
    CONFIGURATION, World,
    caller::{pod, review},
    cluster::Mood,
    until,
};

#[tokio::test]
async fn an_api_server_that_is_away_at_start_is_asked_until_it_is_there() {
    let world = World::new().await;
    world.cluster.is(Mood::Away);
    let replica = world.start(world.options(World::made()));
    until("it says why it is not ready", async || {
        let (status, said) = replica.get("/readyz").await;
        status == 503 && said.contains("the API server at https://127.0.0.1")
    })
    .await;
    assert_eq!(replica.get("/healthz").await.0, 200);
    // It listens, and has nothing to show.
    assert!(replica.caller.connect(b"", "h2").await.is_err());
    world.cluster.is(Mood::Well);
    replica.becomes_ready().await;
    let (_, response) = world.ask(&replica, &pod(1)).await;
    assert_eq!(response["allowed"], true, "{response}");
}

#[tokio::test]
async fn what_cannot_be_known_is_left_to_the_failure_policy() {
    let world = World::new().await;
    let replica = world.ready().await;
    for (mood, expected) in [
        (Mood::Away, "does not answer GET /api/v1/namespaces/shop"),
        (Mood::Denies("GET /api/v1/namespaces/shop"), "403 Forbidden"),
    ] {
        world.cluster.is(mood);
        let (status, response) = world.ask(&replica, &pod(1)).await;
        assert_eq!((status, &response["allowed"]), (503, &json!(false)));
        let message = response["status"]["message"].as_str().unwrap();
        assert!(message.contains(expected), "{message}");
    }
    world.cluster.is(Mood::Slow(Duration::from_secs(20)));
    let mut connection = world.connect(&replica).await;
    let body = review("shop", &pod(1)).to_string();
    let mut request = super::caller::post(body);
    *request.uri_mut() = "https://hook.tollgate.svc/mutate?timeout=1s"
        .parse()
        .unwrap();
    let (head, body) = connection.send(request).await;
    assert_eq!(head.status(), 503);
    let said = String::from_utf8_lossy(&body);
    let expected = "GET /api/v1/namespaces/shop: it takes longer than 166 ms";
    assert!(said.contains(expected), "{said}");
    assert_eq!(
        replica.get("/readyz").await.0,
        200,
        "what is shown is still good"
    );
}

#[tokio::test]
async fn what_the_api_server_said_before_holds_while_it_is_away() {
    let world = World::new().await;
    let mut options = world.options(World::made());
    options.terms = Terms {
        stale: Duration::from_mins(10),
        ..options.terms
    };
    let replica = world.start(options);
    replica.becomes_ready().await;
    let (_, response) = world.ask(&replica, &pod(1)).await;
    assert_eq!(response["allowed"], true);
    world.cluster.is(Mood::Away);
    let (status, response) = world.ask(&replica, &pod(1)).await;
    assert_eq!((status, &response["allowed"]), (200, &json!(true)));
    assert!(response.get("patch").is_some());
    let stale = "tollgate_webhook_kept_total{what=\"stale\"}";
    assert!((replica.metric(stale).await - 1.0).abs() < 0.1);
}

#[tokio::test]
async fn what_the_api_server_said_before_holds_while_it_hangs() {
    let world = World::new().await;
    let mut options = world.options(World::made());
    options.terms.stale = Duration::from_mins(10);
    let replica = world.start(options);
    replica.becomes_ready().await;
    let mut pod = pod(1);
    pod["metadata"]["annotations"] = json!({"tollgate.dev/config": "limits"});
    let config = "log: {level: warn}\n";
    world.cluster.config_map("shop", "limits", config);
    let (_, response) = world.ask(&replica, &pod).await;
    assert_eq!(response["allowed"], true, "{response}");
    world.cluster.is(Mood::Slow(Duration::from_mins(10)));
    let mut connection = world.connect(&replica).await;
    let mut request = super::caller::post(review("shop", &pod).to_string());
    *request.uri_mut() = "https://hook.tollgate.svc/mutate?timeout=5s"
        .parse()
        .unwrap();
    let (head, body) = connection.send(request).await;
    let said = String::from_utf8_lossy(&body);
    assert_eq!(head.status(), 200, "{said}");
    assert!(said.contains("JSONPatch"), "{said}");
    let stale = "tollgate_webhook_kept_total{what=\"stale\"}";
    assert!((replica.metric(stale).await - 2.0).abs() < 0.1);
}

#[tokio::test]
async fn what_was_asked_a_moment_ago_is_not_asked_again() {
    let world = World::new().await;
    let mut options = world.options(World::made());
    options.terms = Terms::default();
    let replica = world.start(options);
    replica.becomes_ready().await;
    world.cluster.is(Mood::Slow(Duration::from_millis(100)));
    let ask = async || world.ask(&replica, &pod(1)).await.0;
    // At once, too.
    let answers = tokio::join!(ask(), ask(), ask(), ask());
    assert_eq!(answers, (200, 200, 200, 200));
    let asked = world.cluster.asked();
    let asked = asked
        .iter()
        .filter(|asked| *asked == "GET /api/v1/namespaces/shop");
    assert_eq!(asked.count(), 1);
}

#[tokio::test]
async fn rights_that_are_missing_are_named_with_what_to_do() {
    for (denied, expected) in [
        (
            "GET /api/v1/namespaces/tollgate/secrets",
            "the Secret tollgate/hook-certificate",
        ),
        (
            "POST /api/v1/namespaces/tollgate/secrets",
            "to create if it is not there",
        ),
        (
            "GET /apis/admission",
            "get and patch the MutatingWebhookConfiguration hook",
        ),
        (
            "PATCH /apis/admission",
            "get and patch the MutatingWebhookConfiguration hook",
        ),
    ] {
        let world = World::new().await;
        world.cluster.is(Mood::Denies(denied));
        let replica = world.start(world.options(World::made()));
        let said = async || replica.get("/readyz").await.1;
        until(expected, async || said().await.contains(expected)).await;
        world.cluster.is(Mood::Well);
        replica.becomes_ready().await;
    }
}

#[tokio::test]
async fn a_configuration_that_is_not_there_or_calls_somebody_else_is_told_of() {
    let world = World::new().await;
    let configuration = world.cluster.get(CONFIGURATION).unwrap();
    let mut others = configuration.clone();
    others["webhooks"].as_array_mut().unwrap().pop();
    world.cluster.put(CONFIGURATION, others);
    let replica = world.start(world.options(World::made()));
    until("it says so", async || {
        replica
            .get("/readyz")
            .await
            .1
            .contains("no webhook that calls the service tollgate/hook")
    })
    .await;
    world.cluster.put(CONFIGURATION, configuration);
    replica.becomes_ready().await;
}

#[tokio::test]
async fn a_token_that_was_renewed_is_read_again() {
    let world = World::new().await;
    let replica = world.ready().await;
    world.cluster.give_token("second");
    let (status, response) = world.ask(&replica, &pod(1)).await;
    assert_eq!((status, &response["allowed"]), (200, &json!(true)));
}

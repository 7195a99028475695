//! What is no review: every bad request has an answer that says what is wrong.

use std::time::Duration;

use http::{Method, header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    World,
    caller::{Connection, pod, post, request, review},
};

/// Sends it; the status, and what is said.
async fn said(
    connection: &mut Connection,
    request: http::Request<http_body_util::Full<bytes::Bytes>>,
) -> (u16, String) {
    let (head, body) = connection.send(request).await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["kind"], "Status", "{body}");
    assert_eq!(body["code"], head.status().as_u16());
    let message = body["message"].as_str().unwrap().to_owned();
    (head.status().as_u16(), message)
}

#[tokio::test]
async fn what_is_no_review_has_a_clear_answer_and_the_connection_goes_on() {
    let world = World::new().await;
    let replica = world.ready().await;
    let mut connection = world.connect(&replica).await;
    let good = review("shop", &pod(1));
    let with = |member: &str, value: Value| {
        let mut review = good.clone();
        review[member] = value;
        review.to_string()
    };
    let mut nobody = good.clone();
    nobody["request"].as_object_mut().unwrap().remove("uid");
    for (body, expected) in [
        (String::new(), "no AdmissionReview in JSON"),
        ("{".to_owned(), "no AdmissionReview in JSON"),
        ("[1]".to_owned(), "no AdmissionReview in JSON"),
        ("\u{0}\u{1}".to_owned(), "no AdmissionReview in JSON"),
        ("[".repeat(100_000), "no AdmissionReview in JSON"),
        (
            with("kind", json!("ConversionReview")),
            "kind is `ConversionReview`",
        ),
        (
            with("apiVersion", json!("admission.k8s.io/v1beta1")),
            "admissionReviewVersions: [v1]",
        ),
        (with("request", Value::Null), "no `request`"),
        (with("request", json!("x")), "no AdmissionReview in JSON"),
        (nobody.to_string(), "no `request.uid`"),
    ] {
        let (status, message) = said(&mut connection, post(body)).await;
        assert_eq!(status, 400, "{message}");
        assert!(message.contains(expected), "{message}");
    }
    let (status, response) = connection.ask(&good).await;
    assert_eq!((status.as_u16(), &response["allowed"]), (200, &json!(true)));
    let malformed = "tollgate_webhook_reviews_total{outcome=\"malformed\"}";
    assert!((replica.metric(malformed).await - 10.0).abs() < 0.1);
}

#[tokio::test]
async fn wrong_paths_methods_and_media_types_are_told_apart() {
    let world = World::new().await;
    let replica = world.ready().await;
    let mut connection = world.connect(&replica).await;
    let body = review("shop", &pod(1)).to_string();
    let json = "application/json";
    for (method, target, media_type, status, expected) in [
        (Method::POST, "/", json, 404, "reviews go to /mutate"),
        (Method::POST, "/mutate/", json, 404, "reviews go to /mutate"),
        (Method::GET, "/healthz", json, 404, "--health"),
        (Method::PUT, "/mutate", json, 405, "takes POST, not PUT"),
        (
            Method::POST,
            "/mutate",
            "application/yaml",
            415,
            "`application/yaml`",
        ),
        (
            Method::POST,
            "/mutate",
            "application/vnd.kubernetes.protobuf",
            415,
            "expected application/json",
        ),
    ] {
        let request = request(method, target, media_type, body.clone());
        let (found, message) = said(&mut connection, request).await;
        assert_eq!(found, status, "{message}");
        assert!(message.contains(expected), "{message}");
    }
    let mut packed = post(body);
    let gzip = http::HeaderValue::from_static("gzip");
    packed.headers_mut().insert(header::CONTENT_ENCODING, gzip);
    assert_eq!(said(&mut connection, packed).await.0, 415);
}

#[tokio::test]
async fn a_huge_review_is_refused_by_its_length_and_the_largest_that_can_be_is_not() {
    let world = World::new().await;
    let replica = world.ready().await;
    let mut connection = world.connect(&replica).await;
    let with = |bytes: usize| {
        let mut pod = pod(1);
        pod["metadata"]["annotations"] = json!({"note": "x".repeat(bytes)});
        review("shop", &pod).to_string()
    };
    let (head, _) = connection.send(post(with(3 << 20))).await;
    assert_eq!(head.status(), 200);
    let huge = post(with(4 << 20));
    // The connection may end before all of it is written.
    if let Ok((head, body)) = connection.try_send(huge).await {
        assert_eq!(head.status(), 413);
        assert!(String::from_utf8_lossy(&body).contains("longer than 4 MiB"));
    }
    let mut connection = world.connect(&replica).await;
    let (head, _) = connection.send(post(with(10))).await;
    assert_eq!(head.status(), 200);
}

#[tokio::test]
async fn reviews_that_do_not_come_keep_nobody_else_waiting() {
    let world = World::new().await;
    let replica = world.ready().await;
    let bundle = world.bundle();
    let begin = async || {
        let mut socket = replica.caller.tls(&bundle, b"http/1.1").await.unwrap();
        let head = "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                    content-length: 4194304\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.flush().await.unwrap();
        socket
    };
    let mut waiting = Vec::new();
    for _ in 0..40 {
        waiting.push(begin().await);
    }
    let asking = async { world.ask(&replica, &pod(1)).await };
    let asked = tokio::time::timeout(Duration::from_secs(8), asking).await;
    let (status, response) = asked.expect("others are answered");
    assert_eq!((status, &response["allowed"]), (200, &json!(true)));
    // And they are told soon that nobody waits for them any longer.
    let mut socket = waiting.pop().unwrap();
    let mut said = [0; 12];
    let told = tokio::time::timeout(Duration::from_secs(8), socket.read_exact(&mut said));
    told.await.expect("they are given up").unwrap();
    assert_eq!(&said, b"HTTP/1.1 408");
}

#[tokio::test]
async fn the_port_without_tls_has_probes_and_metrics_and_nothing_else() {
    let world = World::new().await;
    let replica = world.ready().await;
    assert_eq!(replica.get("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(replica.get("/readyz").await.0, 200);
    assert_eq!(replica.get("/mutate").await.0, 404);
    let (_, metrics) = replica.get("/metrics").await;
    for name in [
        "tollgate_webhook_reviews_total{outcome=\"refused\"} 0",
        "tollgate_webhook_review_seconds_count 0",
        "tollgate_webhook_certificate_checks_total{result=\"ok\"}",
        "tollgate_webhook_certificate_end_seconds",
        "tollgate_webhook_api_requests_total{result=\"ok\"}",
        "tollgate_webhook_kept_total{what=\"evicted\"} 0",
        "tollgate_webhook_connections",
    ] {
        assert!(metrics.contains(name), "no {name} in {metrics}");
    }
}

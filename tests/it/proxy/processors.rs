//! A dead, slow or lying processor changes no call's latency or outcome.

use std::{
    future::{pending, ready},
    sync::Arc,
};

use tollgate::{
    mock::Options,
    pipeline::{BoxFuture, DeliverError, Outlet, Processor, Record},
};

use super::{chat, priced};
use crate::support::{Sandbox, sandbox::PATIENCE};

type Delivered<'a> = BoxFuture<'a, Result<(), DeliverError>>;

/// Never comes to an end.
struct Slow;

impl Processor for Slow {
    fn deliver<'a>(&'a mut self, _batch: &'a [Arc<Record>]) -> Delivered<'a> {
        Box::pin(pending())
    }
}

/// Always fails.
struct Dead;

impl Processor for Dead {
    fn deliver<'a>(&'a mut self, _batch: &'a [Arc<Record>]) -> Delivered<'a> {
        Box::pin(ready(Err(DeliverError::retry("it is dead"))))
    }
}

/// Panics, though a processor must not.
struct Lying;

impl Processor for Lying {
    fn deliver<'a>(&'a mut self, _batch: &'a [Arc<Record>]) -> Delivered<'a> {
        panic!("as if it had been promised never to")
    }
}

#[tokio::test]
async fn processors_in_trouble_change_nothing_for_calls() {
    let outlets = vec![
        Outlet::local("slow", Slow),
        Outlet::local("dead", Dead),
        Outlet::local("lying", Lying),
    ];
    let yaml = priced("budgets: {daily: 5.00}");
    let sandbox = Sandbox::with_outlets(&yaml, Options::default(), outlets);
    let mut answers = Vec::new();
    for _ in 0..100 {
        sandbox.mock.next_with("input=100;output=20").unwrap();
        answers.push(sandbox.post("/v1/chat/completions", &chat()).await);
    }
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(sandbox.spent("daily").await, 100 * 450_000);
    for span in sandbox.spans(100).await {
        assert_eq!(span["status"], "ok");
        // A processor's trouble takes seconds.
        assert!(span["duration_ms"].as_f64().unwrap() < 1_000.0, "{span}");
    }
    let stopped = tokio::time::timeout(PATIENCE, sandbox.stop()).await;
    assert!(stopped.is_ok());
}

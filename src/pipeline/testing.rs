//! What the tests of this module share.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{BoxFuture, Captured, ContentPolicy, DeliverError, Processor, Record};
use crate::{
    base::{
        clock::{Clock as _, Instant, SystemClock, Timestamp},
        id::SpanId,
    },
    call::{
        content::{Content, Messages},
        json_path::JsonPath,
        span::Span,
    },
};

/// The record of a call that is told from others by `n`, which is its span id.
pub(super) fn record(n: u64) -> Arc<Record> {
    Arc::new(Record::new(span(n)))
}

/// The span of a call that is told from others by `n`, which is its span id.
pub(super) fn span(n: u64) -> Span {
    Span {
        span_id: SpanId::from_bytes(n.to_be_bytes()),
        ..Span::begun(Timestamp::from_secs(1_795_328_714))
    }
}

/// What was kept of these messages, with `tracing:` so.
pub(super) fn captured(
    tracing: &str,
    read: impl Fn() -> Messages + Send + Sync + 'static,
) -> Captured {
    struct Fixed<F>(F);
    impl<F: Fn() -> Messages + Send + Sync> Content for Fixed<F> {
        fn read(&self, _hidden: &[JsonPath]) -> Messages {
            (self.0)()
        }
        fn size(&self) -> usize {
            100
        }
    }
    let policy = ContentPolicy::of(&serde_saphyr::from_str(tracing).unwrap());
    Captured::new(Box::new(Fixed(read)), policy.unwrap().unwrap())
}

/// A call in which these messages were said, as the record that a processor gets with `tracing:` so.
pub(super) fn saying(
    tracing: &str,
    read: impl Fn() -> Messages + Send + Sync + 'static,
) -> Arc<Record> {
    let record = Record::with(span(1), Some(captured(tracing, read)));
    record.holding(None).unwrap()
}

/// What a scripted processor does with one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    /// Takes the batch.
    Takes,
    /// From now on takes every batch, after so long.
    TakesIn(Duration),
    /// Fails, and may do better later.
    Fails,
    /// Fails, and asks to be left alone for so long.
    Asks(Duration),
    /// Says that it never will.
    Refuses,
    /// Panics.
    Panics,
    /// Never answers.
    Hangs,
    /// Says that it is gone.
    Leaves,
    /// Takes the batch, but for so many of its spans.
    TakesAllBut(usize),
    /// Takes the batch if it has no more spans; else it is too large.
    HoldsOnly(usize),
    /// From now on takes every batch, but fails with those that the span with this number is in.
    ChokesOn(u64),
    /// The same, and refuses those that only the next span is in.
    ChokesOnAndRefusesNext(u64),
}

/// A processor that does what it is told, attempt by attempt, and then takes everything.
pub(super) struct Scripted {
    pub(super) script: VecDeque<Does>,
    clock: SystemClock,
    attempts: Attempts,
}

/// When each attempt was made, and with which spans.
pub(super) type Attempts = Arc<Mutex<Vec<(Instant, Vec<SpanId>)>>>;

impl Scripted {
    pub(super) fn new(script: &[Does]) -> (Self, Attempts) {
        let attempts = Attempts::default();
        let scripted = Self {
            script: script.iter().copied().collect(),
            clock: SystemClock,
            attempts: Arc::clone(&attempts),
        };
        (scripted, attempts)
    }
}

impl Processor for Scripted {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        let ids = batch.iter().map(|record| record.span.span_id).collect();
        self.attempts.lock().push((self.clock.mono(), ids));
        let does = match self.script.front() {
            Some(&(Does::ChokesOn(n) | Does::ChokesOnAndRefusesNext(n)))
                if batch.iter().any(|it| it.span.span_id == span(n).span_id) =>
            {
                Does::Fails
            },
            Some(&Does::ChokesOnAndRefusesNext(n))
                if batch.len() == 1 && batch[0].span.span_id == span(n + 1).span_id =>
            {
                Does::Refuses
            },
            Some(Does::ChokesOn(_) | Does::ChokesOnAndRefusesNext(_)) => Does::Takes,
            Some(&Does::TakesIn(time)) => Does::TakesIn(time),
            _ => self.script.pop_front().unwrap_or(Does::Takes),
        };
        let error = |after| DeliverError::Retry {
            after,
            source: "scripted".into(),
        };
        let count = batch.len();
        Box::pin(async move {
            match does {
                Does::TakesAllBut(refused) => Err(DeliverError::Partly {
                    refused,
                    source: "scripted".into(),
                }),
                Does::HoldsOnly(most) if count > most => {
                    Err(DeliverError::TooLarge("scripted".into()))
                },
                Does::Takes
                | Does::HoldsOnly(_)
                | Does::ChokesOn(_)
                | Does::ChokesOnAndRefusesNext(_) => Ok(()),
                Does::TakesIn(time) => {
                    tokio::time::sleep(time).await;
                    Ok(())
                },
                Does::Fails => Err(error(None)),
                Does::Asks(wait) => Err(error(Some(wait))),
                Does::Refuses => Err(DeliverError::Reject("scripted".into())),
                Does::Panics => panic!("scripted"),
                Does::Hangs => std::future::pending().await,
                Does::Leaves => Err(DeliverError::Gone),
            }
        })
    }
}

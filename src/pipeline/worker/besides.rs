//! What a processor sends besides spans: one thing at a time, and its spans are delivered meanwhile.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
};

use tokio::time::timeout_at;

use super::{
    super::processor::{BoxError, BoxFuture, Due},
    State, TICK, Worker,
    unpanicked::unpanicked,
};

/// What is under way, and how the last one failed.
#[derive(Default)]
pub(super) struct Besides {
    sending: Option<BoxFuture<'static, Result<(), BoxError>>>,
    trouble: Option<BoxError>,
}

impl Besides {
    /// Does `work`, and goes on with what is under way meanwhile.
    pub(super) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.end(), if self.sending.is_some() => {},
            }
        }
    }

    /// Waits until nothing is under way.
    async fn end(&mut self) {
        if let Some(sending) = &mut self.sending {
            let ended = sending.await;
            self.sending = None;
            self.trouble = ended.err();
        }
    }
}

impl Worker {
    /// Lets the processor begin to send what is no batch, unless it still does, or nothing is tried at
    /// the moment. If it is to be sent now, waits for what is under way and for that.
    pub(super) async fn send_besides(
        &mut self,
        due: Due,
        besides: &mut Besides,
        state: &mut State,
    ) {
        if due == Due::Tick {
            self.log_besides(besides, state);
            if besides.sending.is_none() && state.breaker.closed_at(self.clock.mono()).is_none() {
                self.begin_besides(due, besides);
            }
            return;
        }
        self.end_besides(due, besides, state).await;
        self.begin_besides(due, besides);
        self.end_besides(due, besides, state).await;
    }

    fn begin_besides(&mut self, due: Due, besides: &mut Besides) {
        let by = self.clock.mono() + self.delivery.timeout;
        let by = self.orders.borrow().close_by.map_or(by, |end| by.min(end));
        let processor = &mut self.processor;
        let Ok(made) = catch_unwind(AssertUnwindSafe(|| processor.send_besides(due))) else {
            self.queue.note(|stats| stats.panicked += 1);
            besides.trouble = Some(BoxError::from("it panicked"));
            return;
        };
        let queue = Arc::clone(&self.queue);
        besides.sending = made.map(|sending| -> BoxFuture<'static, _> {
            Box::pin(async move {
                match timeout_at(by, unpanicked(|| sending)).await {
                    Ok(Some(sent)) => sent,
                    Ok(None) => {
                        queue.note(|stats| stats.panicked += 1);
                        Err(BoxError::from("it panicked"))
                    },
                    Err(_elapsed) => Err(BoxError::from("it took too long")),
                }
            })
        });
    }

    /// Waits for what is under way, but not beyond the end of the pipeline. Until that is near, spans
    /// are delivered at every tick.
    async fn end_besides(&mut self, due: Due, besides: &mut Besides, state: &mut State) {
        while besides.sending.is_some() {
            let ending = self.orders.borrow().close_by;
            let by = ending.unwrap_or_else(|| self.clock.mono() + TICK);
            if timeout_at(by, besides.end()).await.is_ok() {
                break;
            }
            if ending.is_some() {
                besides.sending = None;
                besides.trouble = Some(BoxError::from("it took too long"));
            } else if due == Due::Now && !self.has_heir() {
                besides.meanwhile(self.round(state, false)).await;
            }
        }
        self.log_besides(besides, state);
    }

    fn log_besides(&self, besides: &mut Besides, state: &mut State) {
        if let Some(error) = besides.trouble.take() {
            let message = "A processor could not send what it sends besides spans";
            self.log_failure(&error, message, 0, state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        time::Duration,
    };

    use tokio::time::sleep;

    use super::{
        super::{super::Record, Delivery, Processor, tests::Bench},
        *,
    };
    use crate::pipeline::DeliverError;

    const SECOND: Duration = Duration::from_secs(1);

    /// Takes spans at once; what it sends besides never ends.
    #[derive(Default)]
    struct HangsBesides {
        begun: Arc<AtomicUsize>,
        open: Arc<()>,
        most: Arc<AtomicUsize>,
    }

    impl Processor for HangsBesides {
        fn deliver<'a>(
            &'a mut self,
            _batch: &'a [Arc<Record>],
        ) -> BoxFuture<'a, Result<(), DeliverError>> {
            Box::pin(ready(Ok(())))
        }

        fn send_besides(&mut self, _due: Due) -> Option<BoxFuture<'static, Result<(), BoxError>>> {
            let open = Arc::clone(&self.open);
            self.begun.fetch_add(1, Relaxed);
            self.most.fetch_max(Arc::strong_count(&open) - 1, Relaxed);
            Some(Box::pin(async move {
                pending::<()>().await;
                drop(open);
                Ok(())
            }))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn spans_are_taken_while_what_is_sent_besides_hangs() {
        let delivery = Delivery {
            queue: 10,
            timeout: 10 * SECOND,
            ..Delivery::LOCAL
        };
        for flush in [0, 1] {
            let mut bench = Bench::new(delivery, &[]);
            let hangs = HangsBesides::default();
            let (begun, most) = (Arc::clone(&hangs.begun), Arc::clone(&hangs.most));
            bench.worker.as_mut().unwrap().processor = Box::new(hangs);
            bench.orders.send_modify(|orders| orders.flush = flush);
            let queue = Arc::clone(&bench.queue);
            let calls = async {
                for n in 0..250 {
                    queue.push(super::super::super::testing::record(n));
                    sleep(TICK).await;
                }
            };
            let (stats, ()) = tokio::join!(bench.work(30 * SECOND, SECOND), calls);
            assert_eq!((stats.delivered, stats.dropped), (250, 0), "{flush}");
            // One after another, each given up after its time.
            assert!((3..=5).contains(&begun.load(Relaxed)), "{begun:?}");
            assert_eq!(most.load(Relaxed), 1);
        }
    }
}

//! The store as a processor: it keeps every call, and needs no line in the configuration.

use std::{future::ready, sync::Arc, time::Duration};

use super::{BoxFuture, DeliverError, Outlet, Processor, Record, Upkeep};
use crate::{
    base::clock::{Clock, Instant},
    store::{StoreError, Writer},
};

/// How often it is looked whether spans are too old.
const EXPIRE_EVERY: Duration = Duration::from_mins(1);

impl Outlet {
    /// The store, as the processor `store`. `before` is called before spans are written.
    pub fn store(
        writer: Writer,
        clock: Arc<dyn Clock>,
        before: impl Fn() + Send + 'static,
    ) -> Self {
        let next_look = clock.mono();
        let keep = Keep {
            writer,
            clock,
            next_look,
            before: Box::new(before),
        };
        Self::local("store", keep)
    }
}

struct Keep {
    writer: Writer,
    clock: Arc<dyn Clock>,
    next_look: Instant,
    before: Box<dyn Fn() + Send>,
}

impl Processor for Keep {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        (self.before)();
        let spans = batch.iter().map(|record| (&record.span, &*record.line));
        let result = self.writer.append(spans).map_err(|error| match error {
            StoreError::Damaged { .. } => DeliverError::Reject(error.into()),
            other => DeliverError::retry(other),
        });
        Box::pin(ready(result))
    }

    fn upkeep(&mut self) -> Upkeep {
        let now = self.clock.mono();
        if now < self.next_look {
            return Upkeep::default();
        }
        let expired = self
            .writer
            .expire(self.clock.wall())
            .unwrap_or_else(|error| {
                tracing::warn!(%error, "Old spans could not be deleted from the store");
                0
            });
        if expired == 0 {
            self.next_look = now + EXPIRE_EVERY;
        }
        Upkeep {
            expired,
            ..Upkeep::default()
        }
    }
}

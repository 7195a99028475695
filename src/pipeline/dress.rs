//! Spans as their destination gets them: with as much of what was said as it may have, and with long
//! texts cut if it takes only short ones; and saying what share of those like them goes.

use std::sync::Arc;

use super::{cut::cut, delivery::Delivery, queue::Queue, record::Record, sieve::Passed};

/// The batch as it is delivered, or put on disk: nothing else of what was said gets there. Texts that
/// were cut are counted.
pub(super) fn dressed(
    batch: impl IntoIterator<Item = impl Into<Passed>>,
    delivery: &Delivery,
    queue: &Queue,
) -> Vec<Arc<Record>> {
    let dress = |passed: Passed| {
        let holding = passed.record.holding(delivery.content);
        let record = holding.unwrap_or(passed.record);
        // It may have been read for the processor before this one, which got more.
        let lowered = delivery.content.and_then(|most| record.within(most));
        let record = lowered.map_or(record, Arc::new);
        match passed.share {
            Some(share) => Arc::new(record.marked(share)),
            None => record,
        }
    };
    let batch = batch.into_iter().map(Into::into);
    let mut batch: Vec<Arc<Record>> = batch.map(dress).collect();
    let Some(most) = delivery.attribute_bytes else {
        return batch;
    };
    let mut cuts = 0;
    for record in &mut batch {
        if let Some((short, count)) = cut(record, most) {
            *record = Arc::new(short);
            cuts += count;
        }
    }
    queue.note(|stats| stats.cut_texts += cuts);
    batch
}

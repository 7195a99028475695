//! Spans as their destination gets them: with as much of what was said as it may have, and with long
//! texts cut if it takes only short ones.

use std::sync::Arc;

use super::{cut::cut, delivery::Delivery, queue::Queue, record::Record};

/// The batch as it is delivered, or put on disk: nothing else of what was said gets there. Texts that
/// were cut are counted.
pub(super) fn dressed(
    mut batch: Vec<Arc<Record>>,
    delivery: &Delivery,
    queue: &Queue,
) -> Vec<Arc<Record>> {
    for record in &mut batch {
        if let Some(holding) = record.holding(delivery.content) {
            *record = holding;
        }
    }
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

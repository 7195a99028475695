//! The count of what became of every span that was offered to one processor.

use super::{super::delivery::Circuit, count_of};

/// What became of the spans offered to one processor. At any moment every one of them is in exactly
/// one of the counts that [`accounted`](Self::accounted) sums up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Spans that came.
    pub offered: u64,
    /// Spans that an earlier process had left on disk.
    pub found: u64,
    /// Spans that the processor took.
    pub delivered: u64,
    /// Spans that it refused, or that it would not take after every attempt.
    pub failed: u64,
    /// Spans that were thrown away unseen: the queue was full, or time was up at the end.
    pub dropped: u64,
    /// Spans that are not for the processor.
    pub filtered: u64,
    /// Spans of traces that sampling left out.
    pub sampled_out: u64,
    /// Spans that wait on disk.
    pub buffered: u64,
    /// Spans that were left out, and go all the same if another span of their trace does.
    pub held: u64,
    /// Of those that were left out, spans that waited less long than they might, because too many did.
    pub held_too_many: u64,
    /// The same, because they took too much memory.
    pub held_too_large: u64,
    /// Traces that go, and were forgotten because too many do: what comes of them is decided anew.
    pub forgotten: u64,
    /// Spans that wait.
    pub queued: u64,
    /// Spans of the batch that is being delivered.
    pub in_hand: u64,
    /// Bytes that the waiting spans take, about.
    pub queued_bytes: u64,
    /// Whether the processor is being tried.
    pub circuit: Circuit,
    /// Batches that were halved because they were too large for the destination.
    pub halved: u64,
    /// Spans that were too large for it by themselves, of the failed ones.
    pub too_large: u64,
    /// Texts on spans that were cut.
    pub cut_texts: u64,
    /// Attempts beyond a batch's first.
    pub retried: u64,
    /// Times that the processor panicked.
    pub panicked: u64,
    /// Half-written lines that were found and cut.
    pub torn: u64,
    /// Files of spans on disk that were not as they were written: what could be read of them was, and
    /// they are set aside.
    pub damaged: u64,
    /// Attributes that spans from disk lack: there are too many names of attributes.
    pub nameless: u64,
    /// Times that spans could not be written to disk, or read from there.
    pub disk_errors: u64,
    /// Spans that were deleted because of their age.
    pub expired: u64,
    /// Delivered spans that were only counted in a later message, so as not to send too many.
    pub suppressed: u64,
    /// Starts of a processor's command beyond the first.
    pub restarted: u64,
    /// Lines that such a command printed and nobody read: they were too long, or too many.
    pub cut_output: u64,
}

impl Stats {
    /// Books how so many spans ended.
    pub(in super::super) fn book(&mut self, count: u64, outcome: Outcome) {
        match outcome {
            Outcome::Delivered { refused } => {
                let refused = count_of(refused).min(count);
                self.delivered += count - refused;
                self.failed += refused;
            },
            Outcome::Failed => self.failed += count,
            Outcome::Dropped => self.dropped += count,
        }
    }

    /// The spans of which it is known where they are or what became of them: all that were offered
    /// or found.
    pub const fn accounted(&self) -> u64 {
        let ended = self.delivered + self.failed + self.dropped;
        let left_out = self.filtered + self.sampled_out;
        let waiting = self.buffered + self.held + self.queued + self.in_hand;
        ended + left_out + waiting
    }
}

/// How a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Outcome {
    /// The destination took it, but for so many of its spans.
    Delivered {
        refused: usize,
    },
    Failed,
    Dropped,
}

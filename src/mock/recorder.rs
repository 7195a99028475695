//! What the mock was asked, kept for tests to look at.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// A request that the mock received.
#[derive(Clone, Debug)]
pub struct Received {
    /// Counts requests from 1, over all connections.
    pub number: u64,
    /// Counts connections from 1.
    pub connection: u64,
    /// The method.
    pub method: Method,
    /// Path and query, as they came.
    pub target: String,
    /// The HTTP version.
    pub version: Version,
    /// The headers, names in lower case.
    pub headers: HeaderMap,
    /// On HTTP/1, the head exactly as it came, to the empty line, once the body has been read; only
    /// its first 64 KiB, and empty if it is longer.
    pub head: Bytes,
    /// The body; as much of it as came. Of a socket, once that has ended, what the client said in it: a
    /// message a line.
    pub body: Bytes,
    /// Whether the body came to its end.
    pub whole: bool,
    /// The status answered with, once it is decided.
    pub status: Option<StatusCode>,
    /// Body bytes handed out so far (bytes of the whole answer if it was written by hand).
    pub sent: u64,
    /// How the exchange ended.
    pub end: End,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// It has not yet.
    #[default]
    Open,
    /// The answer was given in full.
    Complete,
    /// The settings broke it off.
    Broken,
    /// The client left before the end.
    Left,
}

/// Keeps the last requests: at most [`Recorder::MOST`] of them, and at most [`Recorder::BYTES`] of
/// bodies (the last one is always kept). Older ones are dropped and counted.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    kept: Mutex<Kept>,
    changed: Notify,
    received: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    requests: VecDeque<Received>,
    bytes: usize,
    dropped: u64,
}

impl Recorder {
    const MOST: usize = 100_000;
    const BYTES: usize = 512 * 1024 * 1024;

    /// The requests kept, oldest first.
    pub(super) fn all(&self) -> Vec<Received> {
        self.kept.lock().requests.iter().cloned().collect()
    }

    /// How many requests came, kept or not.
    pub(super) fn count(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    /// How many requests were dropped for want of room.
    pub(super) fn dropped(&self) -> u64 {
        self.kept.lock().dropped
    }

    /// Forgets the requests; the count goes on.
    pub(super) fn clear(&self) {
        *self.kept.lock() = Kept::default();
    }

    /// Waits until the requests kept are as `wanted` says, and returns them.
    pub(super) async fn until(&self, wanted: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let all = self.all();
            if wanted(&all) {
                return all;
            }
            changed.await;
        }
    }

    /// Counts a request that is not kept.
    pub(super) fn count_only(&self) -> u64 {
        self.received.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Begins to keep a request; its `number` is given here.
    pub(super) fn begin(self: &Arc<Self>, mut request: Received) -> Receipt {
        let mut kept = self.kept.lock();
        // Numbered under the lock, so that numbers rise in the queue.
        request.number = self.count_only();
        let number = request.number;
        kept.requests.push_back(request);
        kept.make_room();
        drop(kept);
        self.changed.notify_waiters();
        Receipt {
            recorder: Arc::downgrade(self),
            number,
            sent: 0,
            end: End::Left,
        }
    }

    fn update(&self, number: u64, change: impl FnOnce(&mut Received)) {
        let mut kept = self.kept.lock();
        let found = kept
            .requests
            .binary_search_by_key(&number, |request| request.number);
        let request = found.ok().and_then(|at| kept.requests.get_mut(at));
        if let Some(request) = request {
            let before = request.body.len();
            change(request);
            let after = request.body.len();
            kept.bytes = (kept.bytes + after).saturating_sub(before);
            kept.make_room();
        }
        drop(kept);
        self.changed.notify_waiters();
    }
}

impl Kept {
    fn make_room(&mut self) {
        while self.requests.len() > Recorder::MOST
            || (self.bytes > Recorder::BYTES && self.requests.len() > 1)
        {
            let oldest = self.requests.pop_front();
            self.bytes -= oldest.map_or(0, |request| request.body.len());
            self.dropped += 1;
        }
    }
}

/// The hand that writes one request's record. Dropped before [`Receipt::ended`], it notes that the
/// client left.
#[derive(Debug)]
pub(super) struct Receipt {
    recorder: Weak<Recorder>,
    number: u64,
    sent: u64,
    end: End,
}

impl Receipt {
    /// Of a request that is not kept.
    pub(super) const fn none() -> Self {
        Self {
            recorder: Weak::new(),
            number: 0,
            sent: 0,
            end: End::Open,
        }
    }

    /// The request's number; 0 if it is not kept.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// The body was read; `whole`: to its end.
    pub(super) fn body(&self, head: Bytes, body: Bytes, whole: bool) {
        self.update(|request| {
            request.head = head;
            request.body = body;
            request.whole = whole;
        });
    }

    pub(super) fn answered(&self, status: StatusCode) {
        self.update(|request| request.status = Some(status));
    }

    pub(super) fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
        let sent = self.sent;
        self.update(|request| request.sent = sent);
    }

    pub(super) const fn ended(&mut self, end: End) {
        self.end = end;
    }

    fn update(&self, change: impl FnOnce(&mut Received)) {
        if let Some(recorder) = self.recorder.upgrade() {
            recorder.update(self.number, change);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        let end = self.end;
        self.update(|request| request.end = end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Received {
        Received {
            number: 0,
            connection: 1,
            method: Method::GET,
            target: "/".into(),
            version: Version::HTTP_11,
            headers: HeaderMap::new(),
            head: Bytes::new(),
            body: Bytes::new(),
            whole: false,
            status: None,
            sent: 0,
            end: End::Open,
        }
    }

    #[test]
    fn a_receipt_that_is_dropped_early_says_that_the_client_left() {
        let recorder = Arc::new(Recorder::default());
        let mut first = recorder.begin(request());
        first.sent(5);
        drop(first);
        let mut second = recorder.begin(request());
        second.ended(End::Complete);
        drop(second);
        let all = recorder.all();
        assert_eq!((all[0].sent, all[0].end), (5, End::Left));
        assert_eq!((all[1].number, all[1].end), (2, End::Complete));
    }

    #[test]
    fn the_oldest_requests_make_room_and_are_counted() {
        let recorder = Arc::new(Recorder::default());
        let mut last = recorder.begin(request());
        for _ in 0..Recorder::MOST {
            last = recorder.begin(request());
        }
        assert_eq!(recorder.dropped(), 1);
        assert_eq!(recorder.all()[0].number, 2);
        last.body(
            Bytes::new(),
            Bytes::from(vec![0; Recorder::BYTES + 1]),
            true,
        );
        assert_eq!(recorder.all().len(), 1, "the last one stays, however large");
    }
}

//! Answers that a test has put ready: exact ones, and settings for the next requests.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use http::Method;
use parking_lot::Mutex;

use super::wire::Exact;

/// A request and its exact answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// The body; absent: any.
    pub body: Option<Bytes>,
    /// The answer. Several for one request are given in turn; the last one stays.
    pub answer: Exact,
}

/// What was put ready. Grows by what the test puts in, and by one counter for each of the first
/// [`Ready::COUNTERS`] different settings that have `times`; later ones hold for every request.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<Ready>);

#[derive(Debug, Default)]
struct Ready {
    exact: VecDeque<Exact>,
    exchanges: HashMap<Request, VecDeque<Exact>>,
    settings: VecDeque<String>,
    seen: HashMap<String, u32>,
}

/// Method, path and query, body.
type Request = (Method, String, Option<Bytes>);

impl Queue {
    pub(super) fn push_exact(&self, exact: Exact) {
        self.0.lock().exact.push_back(exact);
    }

    pub(super) fn push_settings(&self, settings: &str) {
        self.0.lock().settings.push_back(settings.to_owned());
    }

    pub(super) fn push_exchange(&self, exchange: Exchange) {
        let request = (exchange.method, exchange.target, exchange.body);
        let mut ready = self.0.lock();
        ready
            .exchanges
            .entry(request)
            .or_default()
            .push_back(exchange.answer);
    }

    /// The exact answer to this request: the next one queued, else that of its exchange.
    pub(super) fn exact(&self, method: &Method, target: &str, body: &Bytes) -> Option<Exact> {
        self.0.lock().exact(method, target, body)
    }

    /// Settings for the request that asks now.
    pub(super) fn settings(&self) -> Option<String> {
        self.0.lock().settings.pop_front()
    }

    /// Counts a request with these settings; whether it is among the first `times`.
    pub(super) fn within(&self, target: &str, settings: &str, times: u32) -> bool {
        self.0.lock().within(format!("{target} {settings}"), times)
    }
}

impl Ready {
    const COUNTERS: usize = 10_000;

    fn exact(&mut self, method: &Method, target: &str, body: &Bytes) -> Option<Exact> {
        let next = self.exact.pop_front();
        if next.is_some() || self.exchanges.is_empty() {
            return next;
        }
        let mut request = (method.clone(), target.to_owned(), Some(body.clone()));
        if !self.exchanges.contains_key(&request) {
            request.2 = None;
        }
        let answers = self.exchanges.get_mut(&request)?;
        if answers.len() > 1 {
            answers.pop_front()
        } else {
            answers.front().cloned()
        }
    }

    fn within(&mut self, key: String, times: u32) -> bool {
        if self.seen.len() >= Self::COUNTERS && !self.seen.contains_key(&key) {
            return true;
        }
        let count = self.seen.entry(key).or_default();
        *count = count.saturating_add(1);
        *count <= times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(body: Option<&'static str>, answer: &'static str) -> Exchange {
        Exchange {
            method: Method::POST,
            target: "/a?b".into(),
            body: body.map(Bytes::from),
            answer: Exact::new(200, "text/plain", answer),
        }
    }

    #[test]
    fn an_exchange_answers_its_own_request_in_turn() {
        let queue = Queue::default();
        for (body, answer) in [(Some("1"), "one"), (Some("1"), "two"), (None, "any")] {
            queue.push_exchange(exchange(body, answer));
        }
        let ask = |target: &str, body: &'static str| {
            queue
                .exact(&Method::POST, target, &body.into())
                .map(|exact| exact.body)
        };
        assert_eq!(ask("/a?b", "1").unwrap(), "one");
        assert_eq!(ask("/a?b", "1").unwrap(), "two");
        assert_eq!(ask("/a?b", "1").unwrap(), "two", "the last one stays");
        assert_eq!(ask("/a?b", "2").unwrap(), "any");
        assert_eq!(ask("/a", "1"), None);
    }

    #[test]
    fn times_are_counted_for_each_target_and_settings() {
        let queue = Queue::default();
        let within: Vec<_> = (0..3)
            .map(|_| queue.within("/a", "status=429", 2))
            .collect();
        assert_eq!(within, [true, true, false]);
        assert!(queue.within("/b", "status=429", 2));
    }
}

//! Work that is accepted now and answered later: what it holds stays reserved under the response's
//! id until a read of that response shows its end. And reads that repeat: a response is billed
//! once, however often it is read. The ledger keeps both when the process ends.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use dashmap::DashMap;
use parking_lot::Mutex;
use ring::digest;

use crate::{
    base::clock::Timestamp,
    ledger::{Awaited, MAX_BILLED},
    policy::{Crossing, Engine, Hold, JournalDown, Purse},
};

/// Responses whose end is awaited; beyond, the hold is charged at once.
pub(super) const MAX_KEPT: usize = 10_000;

/// Files of results whose lines are told apart from those that were billed before; beyond, the one
/// that was begun first is forgotten, and would be billed again if it was not read to its end.
const MAX_FILES: usize = 1_000;

/// How long the end of a response is awaited; then its whole reservation is charged.
const PATIENCE: Duration = Duration::from_hours(24);

/// Responses by provider and id.
#[derive(Debug)]
pub(super) struct Later {
    purse: Arc<Purse>,
    /// Calls that found no room to be kept.
    turned_away: AtomicU64,
    /// What accepted calls hold.
    kept: DashMap<(Box<str>, Box<str>), Hold>,
    billed: Mutex<Billed>,
    files: Mutex<Files>,
}

/// A file of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct File(u64);

/// How many lines of each file were read, the file that was begun first in front.
#[derive(Debug, Default)]
struct Files(VecDeque<(File, u64)>);

/// What was billed, in a set and in order: the numbers that [`number`] gives.
#[derive(Debug, Default)]
struct Billed {
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Billed {
    /// Whether it was not known before.
    fn add(&mut self, response: u64) -> bool {
        if !self.known.insert(response) {
            return false;
        }
        self.order.push_back(response);
        if self.order.len() > MAX_BILLED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

impl Later {
    /// Nothing is kept, nothing was billed.
    pub(super) fn new(purse: Arc<Purse>) -> Self {
        Self {
            purse,
            turned_away: AtomicU64::new(0),
            kept: DashMap::new(),
            billed: Mutex::default(),
            files: Mutex::default(),
        }
    }

    /// Whether answers with such an id are stored by their provider (`OpenAI`'s Responses and runs).
    pub(super) fn may_be_fetched(id: &str) -> bool {
        id.starts_with("resp") || id.starts_with("run_")
    }

    /// Takes over what the last run has kept and billed.
    ///
    /// # Errors
    /// What counters held before cannot be known, and calls shall not pass without.
    pub(super) fn recall(
        &self,
        awaited: &[Awaited],
        billed: &[u64],
        engine: &Engine,
        now: Timestamp,
    ) -> Result<(), JournalDown> {
        // What is still kept was not settled, so its bill was lost if there was one.
        let unsettled: HashSet<u64> = awaited
            .iter()
            .map(|awaited| number(&awaited.provider, &awaited.response))
            .collect();
        let mut known = self.billed.lock();
        for response in billed.iter().filter(|billed| !unsettled.contains(billed)) {
            known.add(*response);
        }
        drop(known);
        for awaited in awaited {
            let hold = engine.restore(&awaited.held, now)?;
            self.insert(&awaited.provider, &awaited.response, hold);
        }
        Ok(())
    }

    /// Whether one more hold can be kept now; counts if it cannot.
    pub(super) fn has_room(&self) -> bool {
        let has_room = self.kept.len() < MAX_KEPT;
        if !has_room {
            self.turned_away.fetch_add(1, Relaxed);
        }
        has_room
    }

    /// Keeps a hold, for which there is room, until the end of its response is seen.
    /// Returns the thresholds that were crossed by what it takes the place of.
    pub(super) fn keep(&self, provider: &str, id: &str, mut hold: Hold) -> Vec<Crossing> {
        hold.await_response(provider, id);
        self.insert(provider, id, hold)
    }

    /// Calls that found no room to be kept.
    pub(super) fn turned_away(&self) -> u64 {
        self.turned_away.load(Relaxed)
    }

    fn insert(&self, provider: &str, id: &str, hold: Hold) -> Vec<Crossing> {
        let before = self.kept.insert((Box::from(provider), Box::from(id)), hold);
        // Two calls of one response: nobody can tell them apart.
        before.map(Hold::charge_in_full).unwrap_or_default()
    }

    /// What a response holds, now that its end was seen.
    pub(super) fn take(&self, provider: &str, id: &str) -> Option<Hold> {
        if self.kept.is_empty() {
            return None;
        }
        self.kept
            .remove(&(Box::from(provider), Box::from(id)))
            .map(|(_, hold)| hold)
    }

    /// Whether the response has not been billed before; from now on it has. To be asked before the
    /// call is settled: should the process end in between, what is kept shows that it was not.
    pub(super) fn bill_once(&self, provider: &str, id: &str) -> bool {
        let response = number(provider, id);
        let first = self.billed.lock().add(response);
        if first {
            self.purse.note_billed(response);
        }
        first
    }

    /// Begins to read a file of results.
    pub(super) fn open(provider: &str, id: &str) -> File {
        File(number(provider, id))
    }

    /// Whether this line of the file was not read before; from now on it has been.
    pub(super) fn is_first_read(&self, file: File, line: u64) -> bool {
        let mut files = self.files.lock();
        if let Some((_, read)) = files.0.iter_mut().rfind(|(known, _)| *known == file) {
            let first = line >= *read;
            *read = line.saturating_add(1).max(*read);
            return first;
        }
        let known = self.billed.lock().known.contains(&file.0);
        if files.0.len() >= MAX_FILES {
            files.0.pop_front();
        }
        let read = if known {
            u64::MAX
        } else {
            line.saturating_add(1)
        };
        files.0.push_back((file, read));
        !known
    }

    /// The file was read to its end: no later run of ours bills it again.
    pub(super) fn close(&self, file: File) {
        if self.billed.lock().add(file.0) {
            self.purse.note_billed(file.0);
        }
    }

    /// Charges in full what has been awaited for too long. Returns the thresholds that were crossed.
    pub(super) fn sweep(&self, now: Timestamp) -> Vec<Crossing> {
        let mut crossings = Vec::new();
        let kept = self.kept.iter();
        let overdue: Vec<_> = kept
            .filter(|kept| now.since(kept.admitted()) >= PATIENCE)
            .map(|kept| kept.key().clone())
            .collect();
        for (provider, id) in overdue {
            if let Some(hold) = self.take(&provider, &id) {
                self.bill_once(&provider, &id);
                crossings.extend(hold.charge_in_full());
            }
        }
        crossings
    }

    /// Responses whose end is awaited.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }
}

/// A number that stands for a response, the same in every run.
fn number(provider: &str, id: &str) -> u64 {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(provider.as_bytes());
    hash.update(&[0]);
    hash.update(id.as_bytes());
    let hash = hash.finish();
    let bytes = hash.as_ref().first_chunk().copied();
    u64::from_le_bytes(bytes.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::id::{RequestId, SpanId, TraceId},
        call::{labels::Labels, outcome::Kind},
        ledger::Memory,
        policy::{Amounts, Config, Held, HoldId, Subject},
    };

    const NOW: Timestamp = Timestamp::from_secs(1_795_618_800);

    fn engine() -> Engine {
        let rules: Config = serde_json::from_str(
            r#"{"rules": [{"name": "all", "window": "total", "limit": {"tokens": 100}}]}"#,
        )
        .unwrap();
        let purse = Purse::new(Arc::new(Memory), 10);
        Engine::build(&rules, &[], &[], &purse, None).unwrap()
    }

    /// The hold of a call of thirty tokens.
    fn hold(engine: &Engine) -> Hold {
        let subject = Subject {
            request_id: RequestId::new(NOW),
            span_id: SpanId::random(),
            trace_id: TraceId::random(),
            parent_span_id: None,
            start: NOW,
            kind: Kind::Llm,
            operation: None,
            provider: "openai",
            model: None,
            known_as: None,
            hides_model: false,
            route: "chat",
            key: None,
            workload: None,
            labels: &Labels::default(),
        };
        let matched = engine.matched(&subject, NOW).unwrap();
        let amounts = Amounts::of_tokens(30);
        engine.admit(matched, amounts, &subject, NOW).unwrap()
    }

    fn stands(engine: &Engine) -> (i64, i64) {
        let standing = engine.purse().standings(NOW).remove(0);
        (standing.spent, standing.reserved)
    }

    #[test]
    fn a_response_is_billed_once_and_the_oldest_are_forgotten() {
        let later = Later::new(Purse::new(Arc::new(Memory), 10));
        assert!(later.bill_once("openai", "resp_1"));
        assert!(!later.bill_once("openai", "resp_1"));
        assert!(later.bill_once("azure", "resp_1"));
        for n in 0..MAX_BILLED {
            later.bill_once("openai", &n.to_string());
        }
        assert!(later.bill_once("openai", "resp_1"));
    }

    #[test]
    fn a_line_of_results_is_billed_once_by_whoever_reads_it_first() {
        let later = Later::new(Purse::new(Arc::new(Memory), 10));
        let file = Later::open("openai", "file-1");
        let reads = |lines: std::ops::Range<u64>| {
            lines
                .filter(|line| later.is_first_read(file, *line))
                .collect::<Vec<_>>()
        };
        assert_eq!(reads(0..2), [0, 1]);
        assert_eq!(reads(0..4), [2, 3]);
        assert!(reads(0..4).is_empty());
        later.close(file);
        for n in 0..MAX_FILES {
            let other = Later::open("openai", &n.to_string());
            assert!(later.is_first_read(other, 0));
        }
        assert!(reads(0..4).is_empty(), "forgotten, but billed whole");
    }

    #[test]
    fn what_is_awaited_for_a_day_is_charged_in_full_and_not_billed_any_more() {
        let engine = engine();
        let later = Later::new(Arc::clone(engine.purse()));
        later.keep("openai", "resp_1", hold(&engine));
        later.sweep(NOW + PATIENCE - Duration::from_nanos(1));
        assert_eq!((later.len(), stands(&engine)), (1, (0, 30)));
        later.sweep(NOW + PATIENCE);
        assert_eq!((later.len(), stands(&engine)), (0, (30, 0)));
        assert!(!later.bill_once("openai", "resp_1"));
    }

    #[test]
    fn what_is_kept_twice_under_one_id_is_charged_at_once() {
        let engine = engine();
        let later = Later::new(Arc::clone(engine.purse()));
        later.keep("openai", "resp_1", hold(&engine));
        later.keep("openai", "resp_1", hold(&engine));
        assert_eq!((later.len(), stands(&engine)), (1, (30, 30)));
    }

    #[test]
    fn who_finds_no_room_is_counted() {
        let engine = engine();
        let later = Later::new(Arc::clone(engine.purse()));
        for n in 0..MAX_KEPT {
            assert!(later.has_room());
            let nothing = Held {
                request_id: RequestId::new(NOW),
                hold: HoldId(1),
                admitted: NOW,
                parts: Vec::new(),
            };
            let hold = engine.restore(&nothing, NOW).unwrap();
            later.insert("openai", &n.to_string(), hold);
        }
        assert_eq!((later.len(), later.turned_away()), (MAX_KEPT, 0));
        assert!(!later.has_room());
        assert_eq!(later.turned_away(), 1);
    }

    #[test]
    fn a_bill_of_what_is_still_kept_was_lost_and_is_billed_again() {
        let engine = engine();
        hold(&engine).release();
        let counter = engine.purse().standings(NOW).remove(0).counter;
        let awaited = Awaited {
            provider: "openai".into(),
            response: "resp_1".into(),
            held: Held {
                request_id: RequestId::new(NOW),
                hold: HoldId(1),
                admitted: NOW,
                parts: vec![(counter, Timestamp::default(), 20)],
            },
        };
        let billed = ["resp_1", "resp_2"].map(|id| number("openai", id));
        let later = Later::new(Arc::clone(engine.purse()));
        later.recall(&[awaited], &billed, &engine, NOW).unwrap();
        assert_eq!(stands(&engine), (0, 20));
        assert!(later.bill_once("openai", "resp_1"));
        assert!(!later.bill_once("openai", "resp_2"));
        later.take("openai", "resp_1").unwrap().release();
        assert_eq!(stands(&engine), (0, 0));
    }
}

//! Ends answers that are under way, from outside their calls: all of them, when Tollgate leaves.
//! When calls are ordered to be stopped, all are woken, and look for themselves whether they are.
//!
//! An answer whose next bytes are not there yet says here whom to wake; one that comes in one piece
//! is over before that and costs nothing. A stream costs one entry, and one load a frame.

use std::{sync::Arc, task::Waker};

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, watch};

use crate::{base::id::SpanId, call::refusal::Refusal, guard::Kills};

/// The answers that wait for their provider, by their spans.
#[derive(Debug, Default)]
pub(super) struct Interrupts {
    open: DashMap<SpanId, Arc<Slot>>,
    kills: Arc<Kills>,
    /// Told to calls that wait for something else.
    news: watch::Sender<()>,
    /// Why every answer is to end, also such as begin to wait later.
    all: OnceCell<Arc<Refusal>>,
}

/// Where one answer is told that it is to end.
#[derive(Debug)]
struct Slot {
    why: OnceCell<Arc<Refusal>>,
    task: Mutex<Waker>,
}

impl Slot {
    fn tell(&self, why: &Arc<Refusal>) {
        if self.why.set(Arc::clone(why)).is_ok() {
            self.wake();
        }
    }

    fn wake(&self) {
        let task = self.task.lock().clone();
        task.wake();
    }
}

impl Interrupts {
    pub(super) fn new(kills: Arc<Kills>) -> Self {
        Self {
            kills,
            ..Self::default()
        }
    }

    /// The orders that stop calls.
    pub(super) const fn kills(&self) -> &Arc<Kills> {
        &self.kills
    }

    /// Changes when another kill was ordered from now on.
    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// A kill was ordered: wakes everybody who waits.
    pub(super) fn tell_news(&self) {
        self.news.send_replace(());
        self.open.iter().for_each(|slot| slot.wake());
    }

    /// Ends every answer, those that are still to come as well. `why` is what their clients are
    /// told.
    pub(super) fn end_all(&self, why: Refusal) {
        // The first reason holds.
        drop(self.all.set(Arc::new(why)));
        if let Some(why) = self.all.get() {
            for slot in &self.open {
                slot.tell(why);
            }
        }
    }
}

/// An answer's ear: hears that it is to end, once it waited for the first time.
#[derive(Debug, Default)]
pub(super) struct Ear(Option<Listening>);

#[derive(Debug)]
struct Listening {
    interrupts: Arc<Interrupts>,
    id: SpanId,
    slot: Arc<Slot>,
    /// The one in the slot, compared without a lock.
    task: Waker,
}

impl Ear {
    /// Why the answer is to end, if it is.
    pub(super) fn hears(&self) -> Option<&Arc<Refusal>> {
        self.0.as_ref()?.slot.why.get()
    }

    /// From now on `task` is woken when the answer `id` is to end. Returns whether it is already.
    pub(super) fn listen(
        &mut self,
        interrupts: &Arc<Interrupts>,
        id: SpanId,
        task: &Waker,
    ) -> bool {
        match &mut self.0 {
            Some(listening) if listening.task.will_wake(task) => return false,
            Some(listening) => {
                listening.task.clone_from(task);
                listening.slot.task.lock().clone_from(task);
            },
            None => {
                let slot = Arc::new(Slot {
                    why: OnceCell::new(),
                    task: Mutex::new(task.clone()),
                });
                interrupts.open.insert(id, Arc::clone(&slot));
                // In this order: whoever ends all of them says so before it looks at each.
                if let Some(why) = interrupts.all.get() {
                    slot.tell(why);
                }
                self.0 = Some(Listening {
                    interrupts: Arc::clone(interrupts),
                    id,
                    slot,
                    task: task.clone(),
                });
            },
        }
        self.hears().is_some()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.interrupts.open.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        task::Wake,
    };

    use super::*;
    use crate::call::refusal::Reason;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn why(message: &str) -> Refusal {
        Refusal::new(Reason::Overload, "", message)
    }

    #[test]
    fn whoever_waits_is_woken_once_and_hears_the_first_reason() {
        let interrupts = Arc::new(Interrupts::default());
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let mut ear = Ear::default();
        let id = SpanId::random();
        assert!(!ear.listen(&interrupts, id, &Waker::from(Arc::clone(&first))));
        // It went to another task.
        assert!(!ear.listen(&interrupts, id, &Waker::from(Arc::clone(&second))));
        assert!(ear.hears().is_none());
        interrupts.end_all(why("one"));
        interrupts.end_all(why("two"));
        assert_eq!(ear.hears().unwrap().message, "one");
        assert_eq!((first.0.load(Relaxed), second.0.load(Relaxed)), (0, 1));
    }

    #[test]
    fn who_begins_to_wait_later_hears_it_at_once() {
        let interrupts = Arc::new(Interrupts::default());
        interrupts.end_all(why("all"));
        let mut ear = Ear::default();
        assert!(ear.listen(&interrupts, SpanId::random(), Waker::noop()));
        assert_eq!(ear.hears().unwrap().message, "all");
    }

    #[test]
    fn nothing_is_kept_of_an_answer_that_is_over() {
        let interrupts = Arc::new(Interrupts::default());
        let mut ear = Ear::default();
        ear.listen(&interrupts, SpanId::random(), Waker::noop());
        assert_eq!(interrupts.open.len(), 1);
        drop(ear);
        assert!(interrupts.open.is_empty());
    }
}

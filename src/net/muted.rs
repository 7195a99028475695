//! A waker that does not hear its owner's own noise. A connection that is driven by the task that
//! reads from it wakes that task each time it hands something over, though the task is running
//! already; every such wake would cost one poll for nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Wake, Waker},
};

use parking_lot::Mutex;

/// The shared state of a muted waker. Between [`Muted::begin`] and [`Muted::end`] wakes are only
/// noted; at all other times they pass to the task.
#[derive(Debug, Default)]
pub(super) struct Muted {
    busy: AtomicBool,
    hit: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Muted {
    /// From now on wakes are noted. `task` is who is woken afterwards.
    pub(super) fn begin(&self, task: &Waker) {
        {
            let mut known = self.task.lock();
            if !known.as_ref().is_some_and(|known| known.will_wake(task)) {
                *known = Some(task.clone());
            }
        }
        self.hit.store(false, SeqCst);
        self.busy.store(true, SeqCst);
    }

    /// From now on wakes pass. Returns whether one came meanwhile: then poll again.
    pub(super) fn end(&self) -> bool {
        // In this order: a wake that still saw `busy` has set `hit` before we look at it.
        self.busy.store(false, SeqCst);
        self.hit.swap(false, SeqCst)
    }

    /// Forgets the task: nobody waits any more.
    pub(super) fn forget(&self) {
        self.task.lock().take();
    }
}

impl Wake for Muted {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.hit.store(true, SeqCst);
        if !self.busy.load(SeqCst) {
            let task = self.task.lock().clone();
            if let Some(task) = task {
                task.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn wakes_while_busy_are_noted_and_later_ones_pass() {
        let count = Arc::new(Count::default());
        let muted = Arc::new(Muted::default());
        let waker = Waker::from(Arc::clone(&muted));

        muted.begin(&Waker::from(Arc::clone(&count)));
        waker.wake_by_ref();
        assert_eq!(count.0.load(SeqCst), 0);
        assert!(muted.end());

        waker.wake_by_ref();
        assert_eq!(count.0.load(SeqCst), 1);

        muted.begin(&Waker::from(Arc::clone(&count)));
        assert!(!muted.end());
        muted.forget();
        waker.wake_by_ref();
        assert_eq!(count.0.load(SeqCst), 1);
    }
}

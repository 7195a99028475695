//! Futures of processors, whose panics are theirs alone.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
};

use super::super::BoxFuture;

/// The result of a future, or `None` if making or polling it panicked.
pub(super) async fn unpanicked<'a, T>(make: impl FnOnce() -> BoxFuture<'a, T>) -> Option<T> {
    let mut future = catch_unwind(AssertUnwindSafe(make)).ok()?;
    poll_fn(move |context| {
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        match polled {
            Ok(Poll::Ready(value)) => Poll::Ready(Some(value)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_panic) => Poll::Ready(None),
        }
    })
    .await
}

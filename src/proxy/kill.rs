//! Stops calls that people order to be stopped: those that wait, those that stream, those in
//! sockets. New ones are refused by the guard of that name.
//!
//! Each call looks for itself whether a kill is for it, woken when one was ordered: nobody has to
//! know which calls there are. As long as none is ordered, a call compares one count a frame, and
//! subscribes to the news while it waits for anything but frames.

use std::{pin::pin, sync::Arc};

use super::{Proxy, admit, exchange::Exchange};
use crate::{
    base::clock::Timestamp,
    call::{outcome::Decision, refusal::Refusal},
    guard::{self, Kill, Kills, TooManyKills},
    policy::Subject,
};

/// The kills that a call has looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Looked(u64);

impl Looked {
    /// Why the call is to be stopped, if a kill for it was ordered since this was last asked.
    pub(super) fn stops(&mut self, exchange: &Exchange) -> Option<Refusal> {
        if self.catches_up(exchange.proxy.kills()) {
            stops(exchange)
        } else {
            None
        }
    }

    /// Whether one was ordered since this was last asked: then each is to be looked at. To be asked
    /// before that, so that one which is ordered meanwhile is looked at the next time.
    pub(super) fn catches_up(&mut self, kills: &Kills) -> bool {
        std::mem::replace(&mut self.0, kills.ordered()) != self.0
    }

    /// Whether one was ordered since.
    pub(super) fn is_behind(self, kills: &Kills) -> bool {
        kills.ordered() != self.0
    }
}

/// Why the call is to be stopped, if a kill is for it.
pub(super) fn stops(exchange: &Exchange) -> Option<Refusal> {
    let now = exchange.proxy.clock.wall();
    let kills = exchange.proxy.kills();
    kills.stops(&admit::subject(exchange), now)
}

/// Waits for `what`, unless a kill for the call is ordered meanwhile.
///
/// # Errors
/// One was.
pub(super) async fn unless<T>(
    proxy: &Proxy,
    subject: &Subject<'_>,
    what: impl Future<Output = T>,
) -> Result<T, Refusal> {
    let mut what = pin!(what);
    // In this order: one that is ordered now is either among them, or news.
    let mut news = proxy.interrupts.news();
    let mut looked = Looked::default();
    loop {
        if looked.catches_up(proxy.kills())
            && let Some(refusal) = proxy.kills().stops(subject, proxy.clock.wall())
        {
            proxy.metrics.guard(guard::KILL, "cut");
            return Err(refusal);
        }
        tokio::select! {
            biased;
            done = &mut what => return Ok(done),
            told = news.changed() => {
                if told.is_err() {
                    return Ok(what.await);
                }
            },
        }
    }
}

impl Exchange {
    /// It is stopped in the middle, since `why`.
    pub(super) fn killed(&mut self, why: Refusal) {
        self.proxy.metrics.guard(guard::KILL, "cut");
        self.decision = Decision::Cut;
        self.refusal = Some(why);
    }
}

impl Proxy {
    /// The kills that hold.
    pub fn kills(&self) -> &Arc<Kills> {
        self.interrupts.kills()
    }

    /// Stops the calls that `kill` is for: from now on none of them begins, and those under way end
    /// as soon as they are woken.
    ///
    /// # Errors
    /// There are too many kills; nothing was stopped.
    pub fn kill(&self, kill: Arc<Kill>, now: Timestamp) -> Result<(), TooManyKills> {
        self.kills().add(kill, now)?;
        self.interrupts.tell_news();
        Ok(())
    }
}

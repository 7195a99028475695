//! Bodies of reviews, read as they come, within what all of them may hold together.
//!
//! Places are taken for what has arrived, never for what is announced, and nobody waits long for
//! one. What most reviews need has places of its own. So neither bodies that do not come nor long
//! ones keep the short ones out.

use std::{fmt::Display, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::review::Problem;

/// The longest review. What the API server takes itself is 3 MiB, and a review has little besides.
pub(super) const LONGEST: usize = 4 << 20;

/// What counts as the beginning of a body: few reviews are longer.
const BEGINNING: usize = 64 << 10;

/// What is held at once of beginnings, and of what is longer, in KiB.
const BEGINNINGS_KIB: usize = 8 << 10;
const RESTS_KIB: usize = 24 << 10;

/// How long a body may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long one waits for a place. Those who wait hold places themselves, so it must be short.
const TURN: Duration = Duration::from_millis(250);

/// What bodies may hold.
pub(super) struct Bodies {
    beginnings: Semaphore,
    rests: Semaphore,
}

/// What one body holds, until this is dropped.
#[derive(Default)]
pub(super) struct Held<'a> {
    beginning: Place<'a>,
    rest: Place<'a>,
}

#[derive(Default)]
struct Place<'a>(Option<SemaphorePermit<'a>>);

impl Bodies {
    pub(super) const fn new() -> Self {
        Self {
            beginnings: Semaphore::const_new(BEGINNINGS_KIB),
            rests: Semaphore::const_new(RESTS_KIB),
        }
    }

    /// A whole body, and the places that it takes.
    ///
    /// # Errors
    /// It is too long, breaks off, does not come in time, or there is no place for it.
    pub(super) async fn read<B>(&self, body: B) -> Result<(Vec<u8>, Held<'_>), Problem>
    where
        B: Body<Data = Bytes, Error: Display> + Unpin,
    {
        let read = timeout(PATIENCE, self.whole(body)).await;
        read.unwrap_or_else(|_elapsed| {
            Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                format!("the review did not come within {} s", PATIENCE.as_secs()),
            ))
        })
    }

    async fn whole<B>(&self, mut body: B) -> Result<(Vec<u8>, Held<'_>), Problem>
    where
        B: Body<Data = Bytes, Error: Display> + Unpin,
    {
        let (mut bytes, mut held) = (Vec::new(), Held::default());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                let message = format!("the review broke off: {error}");
                Problem::new(StatusCode::BAD_REQUEST, message)
            })?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let length = bytes.len() + data.len();
            if length > LONGEST {
                return Err(too_long());
            }
            let beginning = length.min(BEGINNING);
            held.beginning.grow(&self.beginnings, beginning).await?;
            held.rest.grow(&self.rests, length - beginning).await?;
            bytes.extend_from_slice(&data);
        }
        Ok((bytes, held))
    }
}

impl<'a> Place<'a> {
    async fn grow(&mut self, places: &'a Semaphore, bytes: usize) -> Result<(), Problem> {
        let has = self.0.as_ref().map_or(0, SemaphorePermit::num_permits);
        let more = bytes.div_ceil(1 << 10).saturating_sub(has);
        if more == 0 {
            return Ok(());
        }
        self.add(take(places, more).await?);
        Ok(())
    }

    fn add(&mut self, more: SemaphorePermit<'a>) {
        match &mut self.0 {
            Some(place) => place.merge(more),
            none => *none = Some(more),
        }
    }
}

async fn take(places: &Semaphore, kib: usize) -> Result<SemaphorePermit<'_>, Problem> {
    let kib = u32::try_from(kib).unwrap_or(u32::MAX);
    let taken = timeout(TURN, places.acquire_many(kib)).await;
    taken.ok().and_then(Result::ok).ok_or_else(|| {
        let message = "there are too many large reviews at once: is it the API server that asks?";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, message)
    })
}

pub(super) fn too_long() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!(
            "the review is longer than {} MiB: no pod is, which the API server would take",
            LONGEST >> 20
        ),
    )
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    fn body(length: usize) -> Full<Bytes> {
        Full::new(Bytes::from(vec![b' '; length]))
    }

    #[tokio::test]
    async fn long_bodies_take_what_there_is_for_them_and_short_ones_are_read_all_the_same() {
        let bodies = Bodies::new();
        let mut long = Vec::new();
        for _ in 0..6 {
            long.push(bodies.read(body(LONGEST)).await.unwrap());
        }
        let refused = bodies.read(body(LONGEST)).await.err().unwrap();
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        let (bytes, _held) = bodies.read(body(BEGINNING)).await.unwrap();
        assert_eq!(bytes.len(), BEGINNING);
        long.pop();
        assert!(bodies.read(body(LONGEST)).await.is_ok());
    }

    #[tokio::test]
    async fn whatever_becomes_of_a_body_its_places_are_given_back() {
        let bodies = Bodies::new();
        for length in [0, 1, BEGINNING + 1, LONGEST] {
            assert!(bodies.read(body(length)).await.is_ok(), "{length}");
        }
        let refused = bodies.read(body(LONGEST + 1)).await.err().unwrap();
        assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(bodies.beginnings.available_permits(), BEGINNINGS_KIB);
        assert_eq!(bodies.rests.available_permits(), RESTS_KIB);
    }
}

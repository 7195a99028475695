//! What is made now and looked at later: files, batches, runs.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use http::StatusCode;
use parking_lot::Mutex;

use super::{
    json::{Json, object},
    problem::Problem,
    reply::Payload,
};

/// A stored object, in each form in which it can be seen.
pub(super) struct Object {
    pub(super) running: Json,
    pub(super) done: Json,
    pub(super) cancelled: Json,
    /// How many looks still find it running.
    pub(super) polls: u32,
    /// What a file holds, or what came of a batch.
    pub(super) content: Bytes,
    /// The content's type.
    pub(super) content_type: &'static str,
}

/// What is done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Look,
    Content,
    Cancel,
    Delete,
}

/// The stored objects. Beyond [`Objects::MOST`] of them, or [`Objects::BYTES`] of content, the oldest
/// is dropped, counted, and not found.
#[derive(Default)]
pub(super) struct Objects(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    objects: HashMap<String, Object>,
    order: VecDeque<String>,
    bytes: usize,
    dropped: u64,
}

impl Object {
    /// One that is as it is.
    pub(super) fn settled(object: &Json, content: Bytes, content_type: &'static str) -> Self {
        Self {
            running: object.clone(),
            done: object.clone(),
            cancelled: object.clone(),
            polls: 0,
            content,
            content_type,
        }
    }
}

impl Objects {
    const MOST: usize = 10_000;
    const BYTES: usize = 512 * 1024 * 1024;

    pub(super) fn put(&self, id: String, object: Object) {
        self.0.lock().put(id, object);
    }

    /// How many were dropped for want of room.
    pub(super) fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }

    /// What the file of this id holds.
    pub(super) fn content(&self, id: &str) -> Option<Bytes> {
        let kept = self.0.lock();
        kept.objects.get(id).map(|object| object.content.clone())
    }

    /// Does what was asked with the object of this id.
    pub(super) fn act(&self, act: Act, id: &str) -> Result<Payload, Problem> {
        self.0.lock().act(act, id)
    }
}

impl Kept {
    fn put(&mut self, id: String, object: Object) {
        self.bytes += object.content.len();
        self.order.push_back(id.clone());
        self.objects.insert(id, object);
        while self.order.len() > Objects::MOST || self.bytes > Objects::BYTES {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            self.dropped += u64::from(self.remove(&oldest));
        }
    }

    fn act(&mut self, act: Act, id: &str) -> Result<Payload, Problem> {
        let Some(object) = self.objects.get_mut(id) else {
            let message = format!("No such object: {id}");
            return Err(Problem::new(StatusCode::NOT_FOUND, message));
        };
        Ok(match act {
            Act::Look if object.polls > 0 => {
                object.polls -= 1;
                Payload::json(&object.running)
            },
            Act::Look => Payload::json(&object.done),
            Act::Content => Payload::Stream(vec![object.content.clone()], object.content_type),
            Act::Cancel => {
                if object.polls > 0 {
                    object.polls = 0;
                    object.done = object.cancelled.clone();
                }
                Payload::json(&object.done)
            },
            Act::Delete => {
                self.remove(id);
                Payload::json(&object! {"id": id, "deleted": true})
            },
        })
    }

    fn remove(&mut self, id: &str) -> bool {
        let removed = self.objects.remove(id);
        self.bytes -= removed.as_ref().map_or(0, |object| object.content.len());
        removed.is_some()
    }
}

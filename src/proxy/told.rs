//! Keeps what agents tell of what was said in their spans, within the bounds that hold for what is said
//! in calls.

use std::sync::Arc;

use super::{
    live::Live,
    peek::{Place, Room},
};
use crate::{
    call::{
        content::{Content, Messages, Part, Told},
        json_path::JsonPath,
    },
    pipeline::Captured,
    provider::content::told,
};

/// What was said in a span, as far as there was room for it.
struct Kept {
    parts: Vec<(Part, Box<str>)>,
    bytes: usize,
    cut: bool,
    _place: Place,
}

/// What spans may hold of it; `None`: nothing.
pub(super) fn captured(said: Told, live: &Live, room: &Arc<Room>) -> Option<Captured> {
    let policy = live.content.as_ref()?;
    let mut place = Place::new(Arc::clone(room));
    let (mut kept, mut left, mut cut) = (Vec::new(), live.bounds.each, false);
    for (part, text) in said.parts {
        let size = u64::try_from(text.len()).unwrap_or(u64::MAX);
        if size <= left && place.take(size, live.bounds.total) {
            left -= size;
            kept.push((part, text));
        } else {
            cut = true;
        }
    }
    let words = Kept {
        bytes: kept.iter().map(|(_, text)| text.len()).sum(),
        parts: kept,
        cut,
        _place: place,
    };
    Some(Captured::new(Box::new(words), Arc::clone(policy)))
}

impl Content for Kept {
    fn read(&self, hidden: &[JsonPath]) -> Messages {
        let mut messages = told(&self.parts, hidden);
        messages.cut |= self.cut;
        messages
    }

    fn size(&self) -> usize {
        self.bytes
    }
}

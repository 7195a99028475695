//! How much of a request or an answer is read: whoever writes it may nest and repeat without end.

/// The most messages, and the most parts of all of them; the rest is left out.
pub(super) const MOST: usize = 4_096;

/// How deep parts, results and definitions of tools are entered: an honest one takes five. The stack
/// ends somewhere.
const MAX_DEPTH: u8 = 16;

/// What may still be read.
#[derive(Default)]
pub(super) struct Room {
    messages: usize,
    parts: usize,
    depth: u8,
    /// Something is left out.
    pub(super) is_cut: bool,
}

impl Room {
    /// Counts a part, or the definition of a tool. Returns whether it may be read.
    pub(super) const fn has_one_more(&mut self) -> bool {
        let fits = self.parts < MOST;
        if fits {
            self.parts += 1;
        } else {
            self.is_cut = true;
        }
        fits
    }

    /// Counts a message. Returns whether it may be read.
    pub(super) const fn has_one_more_message(&mut self) -> bool {
        let fits = self.messages < MOST && self.parts < MOST;
        if fits {
            self.messages += 1;
        } else {
            self.is_cut = true;
        }
        fits
    }

    /// Goes into a value. Returns whether that may be read; if so, [`Room::back`] comes after it.
    pub(super) const fn deeper(&mut self) -> bool {
        let fits = self.depth < MAX_DEPTH;
        if fits {
            self.depth += 1;
        } else {
            self.is_cut = true;
        }
        fits
    }

    /// Out of the value again.
    pub(super) const fn back(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }
}

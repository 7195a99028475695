//! Things at numbered places that stay theirs. Grows by a chunk at a time, so that no call waits
//! while all that there is moves to a larger room.

/// The places of a chunk.
const CHUNK: usize = 4_096;

/// Things by place.
#[derive(Debug)]
pub(super) struct Slots<T> {
    chunks: Vec<Vec<Option<T>>>,
    /// Places that were left.
    vacant: Vec<u32>,
    /// The first place that nothing was ever put into.
    next: u32,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            vacant: Vec::new(),
            next: 0,
        }
    }
}

impl<T> Slots<T> {
    /// What is at `place`.
    pub(super) fn get(&self, place: u32) -> Option<&T> {
        let (chunk, slot) = whereabouts(place);
        self.chunks.get(chunk)?.get(slot)?.as_ref()
    }

    /// What is at `place`, to be changed.
    pub(super) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        let (chunk, slot) = whereabouts(place);
        self.chunks.get_mut(chunk)?.get_mut(slot)?.as_mut()
    }

    /// Puts `thing` somewhere. `None`: four billion are there.
    pub(super) fn put(&mut self, thing: T) -> Option<u32> {
        if let Some(place) = self.vacant.pop() {
            let (chunk, slot) = whereabouts(place);
            *self.chunks.get_mut(chunk)?.get_mut(slot)? = Some(thing);
            return Some(place);
        }
        let place = self.next;
        self.next = place.checked_add(1)?;
        let (chunk, _) = whereabouts(place);
        if chunk == self.chunks.len() {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks.get_mut(chunk)?.push(Some(thing));
        Some(place)
    }

    /// Lets go of what is at `place`.
    pub(super) fn clear(&mut self, place: u32) {
        let (chunk, slot) = whereabouts(place);
        let found = self
            .chunks
            .get_mut(chunk)
            .and_then(|chunk| chunk.get_mut(slot));
        if found.is_some_and(|slot| slot.take().is_some()) {
            self.vacant.push(place);
        }
    }

    /// All of them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flatten().flatten()
    }
}

fn whereabouts(place: u32) -> (usize, usize) {
    let place = usize::try_from(place).unwrap_or(usize::MAX);
    (place / CHUNK, place % CHUNK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_and_those_that_were_left_are_used_again() {
        let mut slots = Slots::default();
        let places: Vec<u32> = (0..10_000).map(|n| slots.put(n).unwrap()).collect();
        assert!(
            places
                .iter()
                .zip(0..)
                .all(|(place, n)| slots.get(*place) == Some(&n))
        );
        slots.clear(7_000);
        slots.clear(7_000);
        assert_eq!(slots.get(7_000), None);
        assert_eq!(slots.put(1), Some(7_000));
        assert_eq!(slots.put(2), Some(10_000));
        assert_eq!(slots.iter_mut().count(), 10_001);
        assert_eq!(slots.get_mut(20_000), None);
    }
}

//! The last so many of something, by key: what came first gives way.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// A bounded map that forgets its oldest entry for a new one.
#[derive(Debug)]
pub struct Recent<K, V = ()> {
    entries: HashMap<K, V>,
    order: VecDeque<K>,
    most: usize,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    /// Keeps at most so many.
    pub fn new(most: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
            most: most.max(1),
        }
    }

    /// Puts `value` at `key`. True if the key is new; else its value is replaced, and its age stays.
    pub fn insert(&mut self, key: K, value: V) -> bool {
        if self.entries.insert(key.clone(), value).is_some() {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
        true
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// What is at `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    /// Whether `key` is there.
    pub fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_gives_way_and_a_known_key_keeps_its_age() {
        let mut recent = Recent::new(2);
        assert!(recent.insert('a', 1));
        assert!(recent.insert('b', 2));
        assert!(!recent.insert('a', 3));
        assert_eq!(recent.get(&'a'), Some(&3));
        assert!(recent.insert('c', 4));
        assert!(!recent.contains(&'a'));
        assert!(recent.contains(&'b') && recent.contains(&'c'));
        assert_eq!(recent.entries.len(), recent.order.len());
    }
}

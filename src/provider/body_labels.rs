//! Labels that a request's body carries, of several candidates the most telling.

use super::wire::json::{Ahead, Json};
use crate::call::{facts::RequestFacts, labels::Label};

/// Candidates for labels, each with its rank: the lowest of a label wins.
#[derive(Debug, Default)]
pub(super) struct BodyLabels {
    found: Vec<(Rank, Label, Box<str>)>,
}

/// How telling the place is in which a label was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// A field made for it.
    Field,
    /// An older field made for it.
    OldField,
    /// A key in free metadata.
    Metadata,
    /// A stored conversation.
    Conversation,
    /// A key that groups requests for other reasons.
    CacheKey,
}

/// Keys in free metadata by which frameworks name these things.
const METADATA: [(&str, Label); 6] = [
    ("user_id", Label::User),
    ("session_id", Label::Session),
    ("conversation_id", Label::Session),
    ("thread_id", Label::Session),
    ("agent_name", Label::Agent),
    ("workflow_name", Label::Workflow),
];

impl BodyLabels {
    /// Adds a candidate, if there is a value.
    pub(super) fn add(&mut self, rank: Rank, label: Label, value: Option<Box<str>>) {
        if let Some(value) = value {
            self.found.push((rank, label, value));
        }
    }

    /// Adds what a metadata object holds.
    pub(super) fn add_metadata<'a>(&mut self, metadata: Ahead<'_, 'a>) -> Json<'a> {
        let mut found = METADATA.map(|(_, label)| (label, None));
        let metadata = metadata.object(|key, value| {
            let mut places = METADATA.iter().zip(&mut found);
            if let Some((_, (_, place))) = places.find(|((name, _), _)| *name.as_bytes() == *key) {
                *place = value.take().name_or_number();
            }
        });
        for (label, value) in found {
            self.add(Rank::Metadata, label, value);
        }
        metadata
    }

    /// Hands over the winners.
    pub(super) fn give(mut self, facts: &mut RequestFacts) {
        self.found.sort_by_key(|(rank, label, _)| (*label, *rank));
        self.found.dedup_by_key(|(_, label, _)| *label);
        let labels = self.found.into_iter();
        facts.labels = labels.map(|(_, label, value)| (label, value)).collect();
    }
}

//! Who a call is for: six labels and free tags, each remembering where it came from.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::base::id::hex_text;

/// A question that a call answers about itself. Budgets count per label, reports group by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Label {
    /// The agent that made the call.
    Agent,
    /// The end user the agent works for.
    User,
    /// The project or application.
    Project,
    /// Production, staging …
    Environment,
    /// The conversation or session.
    Session,
    /// The workflow that the agent is part of.
    Workflow,
}

impl Label {
    /// Every label, in the order in which they are printed.
    pub const ALL: [Self; 6] = [
        Self::Agent,
        Self::User,
        Self::Project,
        Self::Environment,
        Self::Session,
        Self::Workflow,
    ];

    /// Its name in headers (`x-tollgate-<name>`), configuration and span attributes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::User => "user",
            Self::Project => "project",
            Self::Environment => "environment",
            Self::Session => "session",
            Self::Workflow => "workflow",
        }
    }

    /// The label of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|label| label.name() == name)
    }
}

/// Where a label's value came from, the most explicit first: an earlier source wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The client key that the call was made with.
    Key,
    /// An `x-tollgate-<label>` header.
    Header,
    /// The `/~agent=support;user=42/` path segment.
    Path,
    /// W3C `baggage`.
    Baggage,
    /// The request's body: `user`, `metadata` …
    Body,
    /// `identity.labels` in the configuration.
    Static,
}

impl Source {
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A label's value and its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// The value; at most [`Labels::MAX_VALUE`] bytes.
    pub value: Arc<str>,
    /// Where it came from.
    pub source: Source,
}

/// A call's labels and tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    values: [Option<Labelled>; 6],
    tags: Vec<(Arc<str>, Arc<str>)>,
    /// A bit for each of the tags: its source is not trusted.
    doubtful: u32,
    /// A bit for each source whose word counts for limits; none: all.
    trusted: u8,
}

impl Labels {
    /// The longest value that is kept as it is, in bytes; longer ones are hashed.
    pub const MAX_VALUE: usize = 128;
    /// The most tags that are kept; later ones are left out.
    pub const MAX_TAGS: usize = 32;

    /// No labels yet. What a source of `trusted` says will win over what any other says, so that
    /// nobody can hide it from limits. Empty: all are trusted.
    pub fn trusting(trusted: &[Source]) -> Self {
        Self {
            trusted: trusted.iter().fold(0, |bits, source| bits | source.bit()),
            ..Self::default()
        }
    }

    const fn trusts(&self, source: Source) -> bool {
        self.trusted == 0 || self.trusted & source.bit() != 0
    }

    /// The value of `label`.
    pub fn get(&self, label: Label) -> Option<&str> {
        self.labelled(label).map(|found| &*found.value)
    }

    /// The value of `label` and its source.
    pub fn labelled(&self, label: Label) -> Option<&Labelled> {
        self.values.get(label as usize).and_then(Option::as_ref)
    }

    /// Sets `label`, unless a source at least as explicit and trusted has set it. Empty values are no
    /// values.
    pub fn set(&mut self, label: Label, value: &str, source: Source) {
        let before = self.labelled(label).map(|found| found.source);
        let rank = |source| (!self.trusts(source), source);
        let wins = before.is_none_or(|before| rank(source) < rank(before));
        let Some(place) = self.values.get_mut(label as usize) else {
            return;
        };
        let value = value.trim();
        if !value.is_empty() && wins {
            *place = Some(Labelled {
                value: Arc::from(shortened(value)),
                source,
            });
        }
    }

    /// Adds a tag. A key that is already there keeps its first value, unless only a trusted source
    /// says the second; and one of those finds room where others have taken all of it.
    pub fn tag(&mut self, key: &str, value: &str, source: Source) {
        let doubtful = !self.trusts(source);
        let known = self.tags.iter().position(|(found, _)| **found == *key);
        let doubted = |at: &usize| self.is_doubtful(*at);
        let place = match known {
            Some(place) => Some(place).filter(|at| !doubtful && doubted(at)),
            None if self.tags.len() < Self::MAX_TAGS => Some(self.tags.len()),
            None if doubtful => None,
            None => (0..Self::MAX_TAGS).rfind(doubted),
        };
        let Some(place) = place.filter(|_| !key.is_empty()) else {
            return;
        };
        let tag = (Arc::from(shortened(key)), Arc::from(shortened(value)));
        match self.tags.get_mut(place) {
            Some(found) => *found = tag,
            None => self.tags.push(tag),
        }
        self.doubtful &= !(1 << place);
        self.doubtful |= u32::from(doubtful) << place;
    }

    const fn is_doubtful(&self, place: usize) -> bool {
        self.doubtful >> place & 1 == 1
    }

    /// The value of a tag, if a trusted source says it.
    pub fn trusted_tag(&self, key: &str) -> Option<&str> {
        let place = self.tags.iter().position(|(found, _)| **found == *key)?;
        let (_, value) = self.tags.get(place)?;
        (!self.is_doubtful(place)).then_some(&**value)
    }

    /// The value of a tag.
    pub fn tag_value(&self, key: &str) -> Option<&str> {
        self.tags
            .iter()
            .find(|(found, _)| **found == *key)
            .map(|(_, value)| &**value)
    }

    /// The tags, in the order in which they were given.
    pub fn tags(&self) -> &[(Arc<str>, Arc<str>)] {
        &self.tags
    }
}

/// `value`, or a hash of it if it is longer than [`Labels::MAX_VALUE`]: too long to name something.
pub fn shortened(value: &str) -> Cow<'_, str> {
    if value.len() <= Labels::MAX_VALUE {
        return Cow::Borrowed(value);
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, value.as_bytes());
    let first = digest.as_ref().get(..16).unwrap_or_default();
    Cow::Owned(format!("sha256:{}", hex_text(first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_more_explicit_source_wins_whatever_the_order() {
        let mut labels = Labels::default();
        labels.set(Label::Agent, "from-body", Source::Body);
        labels.set(Label::Agent, "from-header", Source::Header);
        labels.set(Label::Agent, "from-config", Source::Static);
        assert_eq!(labels.get(Label::Agent), Some("from-header"));
    }

    #[test]
    fn a_long_value_is_hashed_and_stays_distinct() {
        let mut one = Labels::default();
        let mut other = Labels::default();
        one.set(Label::User, &"a".repeat(1000), Source::Header);
        other.set(Label::User, &"a".repeat(1001), Source::Header);
        assert!(one.get(Label::User).unwrap().len() <= Labels::MAX_VALUE);
        assert_ne!(one.get(Label::User), other.get(Label::User));
    }

    #[test]
    fn tags_are_bounded_and_empty_labels_are_absent() {
        let mut labels = Labels::default();
        labels.set(Label::User, "  ", Source::Header);
        (0..100).for_each(|n| labels.tag(&format!("key{n}"), "v", Source::Header));
        assert_eq!(labels.get(Label::User), None);
        assert_eq!(labels.tags().len(), Labels::MAX_TAGS);
    }

    #[test]
    fn nobody_hides_what_a_trusted_source_says() {
        let mut labels = Labels::trusting(&[Source::Path, Source::Static]);
        labels.set(Label::User, "from-header", Source::Header);
        labels.set(Label::User, "from-config", Source::Static);
        labels.set(Label::User, "from-body", Source::Body);
        assert_eq!(labels.get(Label::User), Some("from-config"));
        labels.set(Label::User, "from-path", Source::Path);
        assert_eq!(labels.get(Label::User), Some("from-path"));

        (0..100).for_each(|n| labels.tag(&format!("key{n}"), "header", Source::Header));
        assert_eq!(labels.trusted_tag("key3"), None);
        assert_eq!(labels.tag_value("key3"), Some("header"));
        for key in ["key3", "team"] {
            labels.tag(key, "path", Source::Path);
            labels.tag(key, "again", Source::Path);
            labels.tag(key, "header", Source::Header);
            assert_eq!(labels.trusted_tag(key), Some("path"), "{key}");
        }
        assert_eq!(labels.tags().len(), Labels::MAX_TAGS);
        assert_eq!(labels.trusted_tag("key4"), None);
    }
}

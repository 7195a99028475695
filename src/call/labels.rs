//! Who a call is for: six labels and free tags, each remembering where it came from.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

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
}

impl Labels {
    /// The longest value that is kept as it is, in bytes; longer ones are hashed.
    pub const MAX_VALUE: usize = 128;
    /// The most tags that are kept; later ones are left out.
    pub const MAX_TAGS: usize = 32;

    /// The value of `label`.
    pub fn get(&self, label: Label) -> Option<&str> {
        self.labelled(label).map(|found| &*found.value)
    }

    /// The value of `label` and its source.
    pub fn labelled(&self, label: Label) -> Option<&Labelled> {
        self.values.get(label as usize).and_then(Option::as_ref)
    }

    /// Sets `label`, unless a source at least as explicit has set it. Empty values are no values.
    pub fn set(&mut self, label: Label, value: &str, source: Source) {
        let Some(place) = self.values.get_mut(label as usize) else {
            return;
        };
        let value = value.trim();
        if !value.is_empty() && place.as_ref().is_none_or(|found| source < found.source) {
            *place = Some(Labelled {
                value: shortened(value),
                source,
            });
        }
    }

    /// Adds a tag. A key that is already there keeps its first value.
    pub fn tag(&mut self, key: &str, value: &str) {
        let known = self.tags.iter().any(|(found, _)| **found == *key);
        if !key.is_empty() && !known && self.tags.len() < Self::MAX_TAGS {
            self.tags.push((shortened(key), shortened(value)));
        }
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

/// `value`, or a hash of it if it is too long to be a key.
fn shortened(value: &str) -> Arc<str> {
    if value.len() <= Labels::MAX_VALUE {
        return Arc::from(value);
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, value.as_bytes());
    let hex = digest
        .as_ref()
        .iter()
        .take(16)
        .fold(String::from("sha256:"), |mut text, byte| {
            use std::fmt::Write as _;
            // Writing to a String cannot fail.
            let _ok = write!(text, "{byte:02x}");
            text
        });
    Arc::from(hex)
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
        (0..100).for_each(|n| labels.tag(&format!("key{n}"), "v"));
        assert_eq!(labels.get(Label::User), None);
        assert_eq!(labels.tags().len(), Labels::MAX_TAGS);
    }
}

//! Which calls a rule counts, and under which values.

use std::{borrow::Borrow, fmt::Write as _, sync::Arc};

use super::{
    config::{Match, Patterns},
    scope::{Per, tag},
    subject::Subject,
};
use crate::{
    base::glob::Glob,
    call::labels::{Source, shortened},
};

/// A resolved `match`: only the fields that were given.
#[derive(Debug)]
pub struct Matcher {
    fields: Vec<(Per, Vec<Glob>)>,
    tags: Vec<(String, Vec<Glob>)>,
}

impl Matcher {
    /// Resolves `config`.
    pub fn new(config: &Match) -> Self {
        let fields = config
            .fields()
            .map(|(field, patterns)| (field, globs(patterns)))
            .collect();
        let tags = config
            .tags
            .iter()
            .map(|(key, patterns)| (key.clone(), globs(patterns)))
            .collect();
        Self { fields, tags }
    }

    /// Whether the rule counts this call. A label that the call lacks matches nothing; a model that it
    /// hides may be any.
    pub fn matches(&self, subject: &Subject<'_>, trusted: &[Source]) -> bool {
        let any = |globs: &[Glob], value: Option<&str>| {
            value.is_some_and(|value| globs.iter().any(|glob| glob.matches(value)))
        };
        self.fields.iter().all(|(field, globs)| {
            let is_hidden = *field == Per::Model && subject.hides_model;
            is_hidden || any(globs, field.value_of(subject, trusted))
        }) && self
            .tags
            .iter()
            .all(|(key, globs)| any(globs, tag(key, subject, trusted)))
    }
}

/// The values of a call for all of `per`, as counters are named by them: `provider=openai`; what the
/// call does not say is `unknown`.
pub fn values_of(per: &[Per], subject: &Subject<'_>, trusted: &[Source]) -> Arc<str> {
    let parts = per.iter();
    values(parts.map(|field| (field, field.value_of(subject, trusted))))
}

/// Whose counter it is: `user=42;agent=x`, in the order of the rule's `per`. Characters that mean
/// something here are percent-encoded, so that different values never read the same.
pub(super) fn values<P: Borrow<Per>, T: AsRef<str>>(
    parts: impl Iterator<Item = (P, Option<T>)>,
) -> Arc<str> {
    let mut text = String::with_capacity(32);
    for (field, value) in parts {
        if !text.is_empty() {
            text.push(';');
        }
        text.push_str(field.borrow().name());
        text.push('=');
        // As long as a label may be: a counter keeps its name for as long as it is there.
        for c in shortened(value.as_ref().map_or(UNKNOWN, AsRef::as_ref)).chars() {
            if matches!(c, ';' | '=' | '%') || c.is_control() {
                escape(c, &mut text);
            } else {
                text.push(c);
            }
        }
    }
    Arc::from(text)
}

fn escape(c: char, text: &mut String) {
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        // Writing to a String cannot fail.
        let _ok = write!(text, "%{byte:02X}");
    }
}

/// The value under which calls without one are counted.
pub(super) const UNKNOWN: &str = "unknown";
/// The values of a rule's counter for all that have none of their own, since there are too many.
pub(super) const OVERFLOW: &str = "overflow";

/// The patterns, ready to be matched.
pub fn globs(patterns: &Patterns) -> Vec<Glob> {
    patterns.0.iter().map(|text| Glob::new(text)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::call::labels::Labels;

    #[test]
    fn a_long_value_names_a_counter_by_its_hash() {
        let name = |length: usize| values([(Per::Model, Some("m".repeat(length)))].into_iter());
        let most = Labels::MAX_VALUE;
        assert_eq!(*name(most), *format!("model={}", "m".repeat(most)));
        assert!(name(most + 1).starts_with("model=sha256:") && name(most + 1).len() < most);
        assert_ne!(name(most + 1), name(most + 2));
    }

    proptest! {
        #[test]
        fn different_values_never_read_the_same(
            one in prop::array::uniform2("[a;=%]{0,4}"), other in prop::array::uniform2("[a;=%]{0,4}"),
        ) {
            let text = |pair: &[String; 2]| {
                values([(Per::User, Some(&*pair[0])), (Per::Agent, Some(&*pair[1]))].into_iter())
            };
            prop_assert_eq!(text(&one) == text(&other), one == other);
        }
    }
}

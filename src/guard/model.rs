//! Under which names guards know the model of a call: as it was asked for, the provider's own name for
//! it, and both behind the provider's, `openai/gpt-4o`; in whatever case, since some providers take
//! any.

use crate::{
    base::glob::Glob,
    policy::{Patterns, Subject},
};

/// Patterns that models are compared with.
#[derive(Debug)]
pub(super) struct Globs(Vec<Glob>);

impl Globs {
    pub(super) fn new(patterns: &Patterns) -> Self {
        let patterns = patterns.0.iter();
        Self(
            patterns
                .map(|text| Glob::new(&text.to_lowercase()))
                .collect(),
        )
    }

    /// Whether one matches one of these names.
    pub(super) fn match_any(&self, names: &[String]) -> bool {
        let any = |glob: &Glob| names.iter().any(|name| glob.matches(name));
        self.0.iter().any(any)
    }
}

/// The names of the call's model, in lower case; none if the call names no model.
pub(super) fn names(subject: &Subject<'_>) -> Vec<String> {
    let (asked, provider) = (subject.model, subject.provider);
    let known_as = subject.known_as.filter(|known| Some(*known) != asked);
    [asked, known_as]
        .into_iter()
        .flatten()
        .flat_map(|name| [format!("{provider}/{name}"), name.to_owned()])
        .map(|name| name.to_lowercase())
        .collect()
}

/// Whether the call may be for any model, since what names its models is not read: its body cannot
/// be, or it makes a batch, whose requests name a model each.
pub(super) fn is_hidden(subject: &Subject<'_>) -> bool {
    let makes_batch = || subject.model.is_none() && subject.route.ends_with("batches");
    subject.hides_model || makes_batch()
}

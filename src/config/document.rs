//! A configuration file as it was read: its text, and where in it everything is.

use std::path::PathBuf;

use super::{
    problem::{Place, Problem},
    tree::{Located, Node},
};
use crate::base::stamp::Stamp;

/// The file behind a configuration.
#[derive(Clone, Debug)]
pub struct Document {
    name: String,
    text: String,
    files: Vec<(PathBuf, Stamp)>,
    pub(super) root: Node,
}

impl Document {
    pub(super) fn new(name: &str, text: &str, files: Vec<(PathBuf, Stamp)>, root: Node) -> Self {
        Self {
            files,
            name: name.to_owned(),
            text: text.to_owned(),
            root,
        }
    }

    /// What to call it in messages: its path as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The files that values in it are from (`${file:…}`), as they were when they were read.
    pub fn files(&self) -> &[(PathBuf, Stamp)] {
        &self.files
    }

    /// Where the key at `path` is: at its value if that is a scalar, else at the key. If the file
    /// leaves it out, the nearest key above it; none if there is none.
    pub fn place(&self, path: &str) -> Option<Place> {
        let above = |located: &Located| {
            let rest = path.strip_prefix(&located.path);
            !located.path.is_empty()
                && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let places = self.root.places().into_iter();
        places
            .filter(above)
            .max_by_key(|located| located.path.len())
            .map(|located| located.place)
    }

    /// Whether the key at `path` is written in it.
    pub(super) fn says(&self, path: &str) -> bool {
        let places = self.root.places();
        places.iter().any(|located| located.path == path)
    }

    /// `problem` with its place, and without values that came from variables.
    #[must_use]
    pub(super) fn located(&self, mut problem: Problem) -> Problem {
        problem.place = problem.place.or_else(|| self.place(&problem.path));
        let places = self.root.places().into_iter();
        for located in places.filter(|located| located.path == problem.path) {
            if let Some(node) = self.root.find(located.id) {
                problem.message = node.without_secrets(problem.message);
            }
        }
        problem
    }
}

//! Finished spans on their way to processors.

//! The configuration file under watch, and the examples that are run.

mod examples;
mod watch;

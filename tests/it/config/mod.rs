//! The configuration file under watch, the examples that are run, and what bounds the whole.

mod examples;
mod resources;
mod watch;

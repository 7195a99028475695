//! The configuration file under watch.

mod watch;

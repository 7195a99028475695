//! Tollgate's own log: stderr, text on a terminal and JSON elsewhere.

use std::io::{self, IsTerminal as _};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer as _, Registry, filter::Targets, layer::SubscriberExt as _, reload,
    util::SubscriberInitExt as _,
};

use crate::config::log::{Format, Level, Log};

/// Changes the level of a running log.
#[derive(Clone, Debug)]
pub struct LogHandle(reload::Handle<Targets, Registry>);

impl LogHandle {
    /// Logs from `level` on. The format stays.
    pub fn set_level(&self, level: Level) {
        // Fails only when the log itself is gone.
        let _gone = self.0.reload(targets(level));
    }
}

/// Starts the log; later calls in the same process change nothing but the level.
pub fn start(log: Log) -> LogHandle {
    let (filter, handle) = reload::Layer::new(targets(log.level));
    let text = match log.format {
        Format::Auto => io::stderr().is_terminal(),
        Format::Text => true,
        Format::Json => false,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = if text {
        lines
            .compact()
            .with_target(false)
            .with_ansi(io::stderr().is_terminal())
            .boxed()
    } else {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed()
    };
    let started = tracing_subscriber::registry().with(lines.with_filter(filter));
    // A second log in one process, as in tests, is no reason to stop.
    let _second = started.try_init();
    LogHandle(handle)
}

/// Our own lines from `level` on; others' only if something is wrong.
fn targets(level: Level) -> Targets {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("tollgate", level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_heard_only_if_something_is_wrong() {
        let logged = |level, target, of| targets(level).would_enable(target, &of);
        assert!(logged(Level::Info, "tollgate::proxy", tracing::Level::INFO));
        assert!(!logged(
            Level::Info,
            "tollgate::proxy",
            tracing::Level::DEBUG
        ));
        assert!(!logged(Level::Trace, "hyper", tracing::Level::INFO));
        assert!(logged(Level::Trace, "hyper", tracing::Level::WARN));
        assert!(!logged(Level::Error, "hyper", tracing::Level::WARN));
    }
}

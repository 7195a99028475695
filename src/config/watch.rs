//! Waits for the next configuration: the file was edited, or SIGHUP came.
//!
//! The directory is watched, not the file: editors replace files, and Kubernetes swaps the link
//! `..data` beside it. What counts in the end is whether the text differs from the last one, so
//! that a look now and then makes up for file systems that report nothing.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
    time::timeout,
};

use super::{
    document::Document,
    expand::Sources,
    load::{LoadError, Loaded, parse, read_text},
};
use crate::base::stamp::{Stamp, may_pass};

/// A file counts as written when nothing happened to it for so long.
const QUIET: Duration = Duration::from_millis(250);
/// How long to wait for quiet at most.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often to look although nothing was reported.
const LOOK: Duration = Duration::from_secs(30);
/// How often to look at the files that values are from, which may be anywhere.
const LOOK_AT_VALUES: Duration = Duration::from_millis(500);

/// A configuration file under watch.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    /// The text that was loaded or refused last.
    seen: String,
    /// The files that values are from, as they were then.
    values: Vec<(PathBuf, Stamp)>,
    /// That it cannot be read was said.
    unreadable: bool,
    /// What was said when the file of a value could not be read for a reason that may pass: it is
    /// tried until it can be.
    unread: Option<String>,
    /// One permit: something happened in the file's directory. More happening adds nothing.
    stirred: Arc<Notify>,
    hangup: Signal,
    /// Reports until it is dropped. None where the system cannot watch: then only looks help.
    _watcher: Option<RecommendedWatcher>,
}

/// SIGHUP cannot be waited for.
#[derive(Debug, thiserror::Error)]
#[error("cannot wait for SIGHUP: {0}")]
pub struct WatchError(#[from] std::io::Error);

impl Watch {
    /// Watches the file at `path`, which was loaded as `text`, and `values`, the files that values in
    /// it are from, as they were then. Called within a tokio runtime.
    ///
    /// # Errors
    /// The process may not wait for signals. A directory that cannot be watched is no error: the
    /// file is looked at every 30 seconds then, and a log line says so.
    pub fn new(path: &Path, text: &str, values: &[(PathBuf, Stamp)]) -> Result<Self, WatchError> {
        let stirred = Arc::new(Notify::new());
        let watcher = watch(path, &stirred)
            .inspect_err(|error| {
                tracing::warn!(
                    file = %path.display(), %error,
                    "Cannot watch the configuration; looking at it every 30 s"
                );
            })
            .ok();
        Ok(Self {
            path: path.to_owned(),
            seen: text.to_owned(),
            values: values.to_vec(),
            unreadable: false,
            unread: None,
            stirred,
            hangup: signal(SignalKind::hangup())?,
            _watcher: watcher,
        })
    }

    /// Waits for the next configuration. To be cancelled only for good: what was noticed by then is
    /// forgotten.
    ///
    /// # Errors
    /// What was written is wrong, or the file cannot be read any more; each is said once.
    pub async fn next(&mut self, sources: &Sources<'_>) -> Result<Loaded, LoadError> {
        loop {
            let Some(text) = self.changed().await else {
                continue;
            };
            match self.parsed(&text?, sources) {
                Ok(loaded) => {
                    let values = loaded.document.as_ref().map(Document::files);
                    self.values = values.unwrap_or_default().to_vec();
                    return Ok(loaded);
                },
                Err(Some(error)) => return Err(error),
                Err(None) => {},
            }
        }
    }

    /// What `text` says; no error: that was said already.
    fn parsed(&mut self, text: &str, sources: &Sources<'_>) -> Result<Loaded, Option<LoadError>> {
        let passing = AtomicBool::new(false);
        let noting = Sources {
            variable: sources.variable,
            file: &|path| {
                let note = |error: &_| {
                    passing.fetch_or(may_pass(error), Relaxed);
                };
                (sources.file)(path).inspect_err(note)
            },
        };
        let said = self.unread.take();
        parse(&self.path.display().to_string(), text, &noting).map_err(|error| {
            self.unread = passing.into_inner().then(|| error.to_string());
            (self.unread.is_none() || self.unread != said).then_some(error)
        })
    }

    /// The new text, once there may be one.
    async fn changed(&mut self) -> Option<Result<String, LoadError>> {
        let look = match self.values.as_slice() {
            [] => LOOK,
            _ => LOOK_AT_VALUES,
        };
        let mut asked = tokio::select! {
            stirred = timeout(look, self.stirred.notified()) => {
                if stirred.is_ok() {
                    self.quiet().await;
                }
                false
            },
            _signal = self.hangup.recv() => true,
        };
        for (path, seen) in &mut self.values {
            let now = Stamp::of(path);
            asked |= std::mem::replace(seen, now) != now;
        }
        match read_text(&self.path) {
            // Asked for, it is read again even so: a variable's file may have changed.
            Ok(text) if asked || self.unread.is_some() || text != self.seen => {
                self.unreadable = false;
                self.seen.clone_from(&text);
                Some(Ok(text))
            },
            Ok(_) => None,
            Err(source) => {
                let said = std::mem::replace(&mut self.unreadable, true);
                let path = self.path.clone();
                (asked || !said).then_some(Err(LoadError::Unreadable { path, source }))
            },
        }
    }

    /// Waits until nothing was reported for a while.
    async fn quiet(&self) {
        let settled = async { while timeout(QUIET, self.stirred.notified()).await.is_ok() {} };
        let _either_way = timeout(PATIENCE, settled).await;
    }
}

fn watch(path: &Path, stirred: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().map(ToOwned::to_owned);
    let stirred = Arc::clone(stirred);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let ours = |path: &PathBuf| {
            let found = path.file_name();
            found == name.as_deref()
                || found.is_some_and(|found| found.as_encoded_bytes().starts_with(b".."))
        };
        if event.is_ok_and(|event| event.paths.iter().any(ours)) {
            stirred.notify_one();
        }
    })?;
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

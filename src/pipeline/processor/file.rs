//! Spans as lines of JSON in files that are rotated, compressed and, beyond a number, deleted.
//! Only whole lines stay: a failed write is undone, and what a crash left is cut at the next start.

use std::{future::ready, io, path::PathBuf, sync::Arc};

use serde::{Deserialize, Deserializer, de};

use self::{
    archive::Archive,
    log::{Log, Torn},
};
use super::{
    super::{Outlet, Record},
    BoxFuture, BuildContext, BuildError, DeliverError, Processor, Upkeep,
};
use crate::base::{
    clock::{Clock, Timestamp},
    units::ByteSize,
};

mod archive;
mod log;
mod names;

/// `{type: file, …}`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the files are; made if it is not there, for the owner alone.
    pub directory: PathBuf,
    /// When a new file is begun.
    pub rotation: Rotation,
    /// A file that has reached this size is ended, whatever the rotation.
    pub max_size: ByteSize,
    /// The most files that are kept, the present one included; zero keeps all.
    pub max_files: usize,
    /// How files that are ended are compressed; `true` is gzip.
    pub compression: Compression,
}

/// When a new file is begun. Times are in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rotation {
    /// At every full hour.
    Hourly,
    /// At midnight.
    #[default]
    Daily,
    /// When the file has reached `max_size`.
    Size,
}

/// How a file that is ended is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// As `.gz`.
    Gzip,
    /// As `.zst`.
    Zstd,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("./traces"),
            rotation: Rotation::Daily,
            max_size: ByteSize::gib(1),
            max_files: 0,
            compression: Compression::None,
        }
    }
}

/// Makes the processor. A directory that cannot be used now is tried again with every batch.
#[expect(clippy::unnecessary_wraps, reason = "as every processor's")]
pub(super) fn build(config: &Config, context: &BuildContext) -> Result<Outlet, BuildError> {
    let file = File::new(config.clone(), Arc::clone(&context.clock));
    Ok(context.local("file", file))
}

struct File {
    config: Config,
    clock: Arc<dyn Clock>,
    log: Option<Log>,
    archive: Archive,
    begun: bool,
    torn: u64,
    text: Vec<u8>,
}

impl File {
    fn new(config: Config, clock: Arc<dyn Clock>) -> Self {
        Self {
            archive: Archive::new(&config),
            config,
            clock,
            log: None,
            begun: false,
            torn: 0,
            text: Vec::new(),
        }
    }

    /// Opens the file before there is anything to write, so that a torn line is cut and a directory
    /// that cannot be used is reported at once.
    fn begin(&mut self, now: Timestamp) {
        match self.next(None, now) {
            Ok(log) => self.log = Some(log),
            Err(error) => tracing::warn!(
                directory = %self.config.directory.display(),
                %error,
                "Spans cannot be written to files, trying again with every batch"
            ),
        }
    }

    fn write(&mut self, batch: &[Arc<Record>]) -> io::Result<()> {
        self.text.clear();
        for record in batch {
            self.text.extend_from_slice(record.line.as_bytes());
            self.text.push(b'\n');
        }
        let now = self.clock.wall();
        let log = match self.log.take() {
            Some(log) if !self.is_over(&log, now) && log.is_in_place() => log,
            old => self.next(old.as_ref(), now)?,
        };
        let log = self.log.insert(log);
        log.append(&self.text)
    }

    /// Whether the file is full, or its time is over. A clock that steps back ends none.
    fn is_over(&self, log: &Log, now: Timestamp) -> bool {
        log.size() >= self.config.max_size.as_u64()
            || self.config.rotation.period(now) > self.config.rotation.period(log.began())
    }

    /// Opens the file to write to next; `old` is the one that was written to.
    fn next(&mut self, old: Option<&Log>, now: Timestamp) -> io::Result<Log> {
        let began = old.map_or(now, |old| now.max(old.began()));
        let stamp = self.config.rotation.stamp(began);
        let (log, torn) = Log::open(&self.config, &stamp, began)?;
        if let Torn::Cut { bytes } = torn {
            self.torn += 1;
            tracing::warn!(
                path = %log.path().display(),
                bytes,
                "Cut a half-written line off a span file"
            );
        }
        Ok(log)
    }
}

impl Processor for File {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        let result = self.write(batch).map_err(|error| {
            let place = self.config.directory.display();
            DeliverError::retry(format!("{place}: {error}"))
        });
        Box::pin(ready(result))
    }

    fn upkeep(&mut self) -> Upkeep {
        let now = self.clock.wall();
        if !std::mem::replace(&mut self.begun, true) && self.log.is_none() {
            self.begin(now);
        }
        if self.log.as_ref().is_some_and(|log| self.is_over(log, now)) {
            self.log = None;
        }
        self.archive.tidy(self.log.as_ref().map(Log::path));
        Upkeep {
            torn: std::mem::take(&mut self.torn),
            ..Upkeep::default()
        }
    }
}

impl Rotation {
    /// The number of the period that `at` lies in.
    const fn period(self, at: Timestamp) -> u64 {
        match self {
            Self::Hourly => at.as_secs() / 3_600,
            Self::Daily => at.as_secs() / 86_400,
            Self::Size => 0,
        }
    }
}

/// `none`, `gzip`, `zstd`, or true (gzip) and false (none).
impl<'de> Deserialize<'de> for Compression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;

        impl de::Visitor<'_> for Name {
            type Value = Compression;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("none, gzip, zstd, true or false")
            }

            fn visit_bool<E: de::Error>(self, yes: bool) -> Result<Compression, E> {
                Ok(if yes {
                    Compression::Gzip
                } else {
                    Compression::None
                })
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Compression, E> {
                match name {
                    "none" => Ok(Compression::None),
                    "gzip" => Ok(Compression::Gzip),
                    "zstd" => Ok(Compression::Zstd),
                    _ => Err(E::unknown_variant(name, &["none", "gzip", "zstd"])),
                }
            }
        }

        deserializer.deserialize_any(Name)
    }
}

#[cfg(test)]
#[path = "file/tests.rs"]
mod tests;

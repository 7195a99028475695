//! Files that are ended: compressed one at a time on a thread of their own, and deleted, the oldest
//! first, beyond the number that is kept.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
};

use super::{Compression, Config, names};

/// What is to be done about ended files.
#[derive(Debug)]
pub(super) struct Archive {
    directory: PathBuf,
    compression: Compression,
    /// The most files that are kept; zero keeps all.
    keep: usize,
    /// The file that was written to when the directory was last looked at.
    present: Option<PathBuf>,
    /// Whether the directory has to be looked at.
    look: bool,
    job: Option<JoinHandle<io::Result<()>>>,
}

impl Archive {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            directory: config.directory.clone(),
            compression: config.compression,
            keep: config.max_files,
            present: None,
            look: true,
            job: None,
        }
    }

    /// Goes on with what is to be done, without waiting. `present` is being written to.
    pub(super) fn tidy(&mut self, present: Option<&Path>) {
        self.look |= self.present.as_deref() != present;
        self.present = present.map(Path::to_owned);
        if let Some(job) = self.job.take_if(|job| job.is_finished()) {
            // After a failure it waits for the next file's end.
            match job.join() {
                Ok(Ok(())) => self.look = true,
                Ok(Err(error)) => self.complain(&error),
                Err(_panic) => self.complain(&io::Error::other("it panicked")),
            }
        }
        if self.look && self.job.is_none() {
            self.look = false;
            if let Err(error) = self.go_on() {
                self.complain(&error);
            }
        }
    }

    /// Whether nothing is left to be done.
    #[cfg(test)]
    pub(super) const fn is_idle(&self) -> bool {
        !self.look && self.job.is_none()
    }

    /// Deletes what is too much, and begins to compress the oldest file that is not.
    fn go_on(&mut self) -> io::Result<()> {
        let mut ended = match names::list(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            names => names?,
        };
        let present = self.present.as_ref().and_then(|path| path.file_name());
        ended.retain(|name| present.is_none_or(|present| present != name.as_str()));
        if self.keep > 0 {
            let kept = self.keep.saturating_sub(usize::from(present.is_some()));
            for name in ended.drain(..ended.len().saturating_sub(kept)) {
                fs::remove_file(self.directory.join(name))?;
            }
        }
        let kind = self.compression;
        if let Some(extension) = kind.extension()
            && let Some(plain) = ended.iter().find(|name| names::is_plain(name))
        {
            let path = self.directory.join(plain);
            let work = move || compress(&path, kind, extension);
            let thread = thread::Builder::new().name("span-compress".to_owned());
            self.job = Some(thread.spawn(work)?);
        }
        Ok(())
    }

    fn complain(&self, error: &io::Error) {
        tracing::warn!(
            directory = %self.directory.display(),
            %error,
            "Ended span files could not be compressed or deleted"
        );
    }
}

/// Puts a compressed file in the place of `path`. A crash on the way leaves one of both whole.
fn compress(path: &Path, kind: Compression, extension: &str) -> io::Result<()> {
    let plain = File::open(path)?;
    plain
        .try_lock()
        .map_err(|_in_use| io::ErrorKind::ResourceBusy)?;
    let whole = names::with(path, extension);
    if !whole.exists() {
        let part = names::with(&whole, ".part");
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)?;
        encode(plain, file, kind)?.sync_all()?;
        fs::rename(&part, &whole)?;
    }
    fs::remove_file(path)
}

fn encode(plain: File, file: File, kind: Compression) -> io::Result<File> {
    let mut input = BufReader::with_capacity(256 << 10, plain);
    let mut output = BufWriter::with_capacity(256 << 10, file);
    match kind {
        Compression::None => {
            io::copy(&mut input, &mut output)?;
        },
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(output, flate2::Compression::default());
            io::copy(&mut input, &mut encoder)?;
            output = encoder.finish()?;
        },
        Compression::Zstd => {
            let level = zstd::DEFAULT_COMPRESSION_LEVEL;
            zstd::stream::copy_encode(&mut input, &mut output, level)?;
        },
    }
    output.flush()?;
    output.into_inner().map_err(io::IntoInnerError::into_error)
}

//! A certificate that somebody else writes into files, as cert-manager does by a mounted Secret.

use std::{fs, io, path::PathBuf, sync::Arc};

use super::{Shown, pair::Pair};
use crate::{
    base::{clock::Clock, secret::Secret},
    kubernetes::webhook::api::Api,
};

/// The certificate and its chain.
const CERTIFICATE: &str = "tls.crt";
/// Its key.
const KEY: &str = "tls.key";

/// The largest file that is read, in bytes.
const MOST_BYTES: u64 = 1 << 20;

/// The files, as they were read last.
pub(super) struct Files {
    dir: PathBuf,
    api: Arc<Api>,
    clock: Arc<dyn Clock>,
    last: Option<(Vec<u8>, Secret)>,
    /// The API server has answered once.
    is_known: bool,
}

impl Files {
    pub(super) const fn new(dir: PathBuf, api: Arc<Api>, clock: Arc<dyn Clock>) -> Self {
        Self {
            dir,
            api,
            clock,
            last: None,
            is_known: false,
        }
    }

    /// Reads them; shows what is new. What cannot be used leaves the last one shown: the two files
    /// may be of different moments.
    ///
    /// # Errors
    /// They cannot be used, or what is shown has ended, or the API server was never reached.
    pub(super) async fn look(&mut self, shown: &Shown) -> Result<(), String> {
        let read = |name| {
            let path = self.dir.join(name);
            let bytes = whole(&path);
            bytes.map_err(|error| format!("{}: {error}", path.display()))
        };
        let chain = read(CERTIFICATE)?;
        let key = String::from_utf8(read(KEY)?);
        let key = Secret::new(key.map_err(|_no_text| format!("{KEY} is no text (PEM)"))?);
        let is_new = self
            .last
            .as_ref()
            .is_none_or(|last| last.0 != chain || last.1 != key);
        if is_new {
            let pair = Pair::read(&chain, key.expose().as_bytes())
                .map_err(|why| format!("{}: {why}", self.dir.display()))?;
            shown.show(pair);
            self.last = Some((chain, key));
        }
        let now = self.clock.wall();
        if let Some(ends) = shown.ends().filter(|ends| *ends <= now) {
            return Err(format!(
                "the certificate in {} ended at {ends}: it has to be renewed by whoever writes it",
                self.dir.display()
            ));
        }
        if !self.is_known {
            self.api
                .get("/version")
                .await
                .map_err(|error| error.to_string())?;
            self.is_known = true;
        }
        Ok(())
    }
}

fn whole(path: &std::path::Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.len() > MOST_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it is larger than 1 MiB",
        ));
    }
    fs::read(path)
}

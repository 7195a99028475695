//! Letters with a signature of AWS's.

use http::header::HOST;

use super::{Address, Answer, Compression, Courier, Letter, PostError};
use crate::net::aws::{Keyring, Scope, hash, sign};

impl Courier {
    /// Sends a letter that is signed with keys that hold now; they are renewed if it is time. Its body
    /// goes as it is.
    ///
    /// # Errors
    /// There are no keys, or as [`send`](Self::send).
    pub async fn send_signed(
        &self,
        address: &Address,
        mut letter: Letter,
        (keyring, scope): (&Keyring, &Scope),
    ) -> Result<Answer, PostError> {
        let now = self.clock.wall();
        let renewed = keyring.renew(now, &self.upstream).await;
        let keys = keyring.keys(now).ok_or_else(|| {
            let why = renewed.err();
            PostError::Unsigned(why.unwrap_or_else(|| "the keys have expired".to_owned()))
        })?;
        letter.compression = Compression::None;
        let host = address.origin.host_header().clone();
        letter.headers.insert(HOST, host);
        let target = address.target.path_and_query();
        let target = target.ok_or_else(|| PostError::Unsigned("there is no path".to_owned()))?;
        sign(
            (&letter.method, target),
            &mut letter.headers,
            &hash(&letter.body),
            (&keys, scope),
            now,
        );
        self.send(address, letter).await
    }
}

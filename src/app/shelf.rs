//! Where the last good price book that was fetched is kept, and what is wrong with a later one.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::fetch::Version;
use crate::{
    base::{id::hex_text, secret::Secret},
    pricing::Book,
};

/// A good book, as it was fetched.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) book: Arc<Book>,
    pub(super) version: Version,
    /// The address it is from, hashed: addresses may hold tokens.
    from: String,
}

/// The files in the data directory.
#[derive(Debug)]
pub(super) struct Shelf {
    book: PathBuf,
    trouble: PathBuf,
}

/// The first line of the file that the book is in.
#[derive(Serialize, Deserialize)]
struct Label {
    from: String,
    #[serde(flatten)]
    version: Version,
}

/// The file that says what is wrong.
#[derive(Serialize, Deserialize)]
struct Trouble {
    from: String,
    why: String,
}

impl Fetched {
    /// The book that `text` is, if it can be used without anybody having looked at it.
    ///
    /// # Errors
    /// In words: it is none, or its prices cannot be meant, or models are missing.
    pub(super) fn read(text: &str, url: &Secret, version: Version) -> Result<Self, String> {
        let book = Book::parse(text).map_err(|error| error.to_string())?;
        let lacking = book.lacks();
        if !lacking.is_empty() {
            let lacking = lacking.join(", ");
            return Err(format!(
                "it has no model of {lacking}, of which the built-in book has some; a book of some \
                 providers alone can be given as `pricing.file`"
            ));
        }
        Ok(Self {
            book: Arc::new(book),
            version,
            from: hashed(url),
        })
    }

    /// Whether it is from there.
    pub(super) fn is_from(&self, url: &Secret) -> bool {
        self.from == hashed(url)
    }
}

impl Shelf {
    /// That of the data directory.
    pub(super) fn of(data: &Path) -> Self {
        Self {
            book: data.join("prices.fetched"),
            trouble: data.join("prices.trouble"),
        }
    }

    /// The book from `url` on it, if there is one that this Tollgate can use.
    pub(super) fn book(&self, url: &Secret) -> Option<Fetched> {
        let text = fs::read_to_string(&self.book).ok()?;
        let (label, text) = text.split_once('\n')?;
        let read = serde_json::from_str(label).map_err(|error| error.to_string());
        let read = read.and_then(|label: Label| {
            let is_from_there = label.from == hashed(url);
            is_from_there
                .then(|| Fetched::read(text, url, label.version))
                .transpose()
        });
        read.unwrap_or_else(|error| {
            let file = self.book.display();
            tracing::warn!(%file, error, "The price book that was kept cannot be used");
            None
        })
    }

    /// Puts a copy of the book on `other`, if there is one.
    pub(super) fn lend(&self, other: &Self) -> io::Result<()> {
        match fs::copy(&self.book, &other.book) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// What is wrong with the latest book from `url`, if that is not the one that is used.
    pub(super) fn trouble(&self, url: &Secret) -> Option<String> {
        let text = fs::read(&self.trouble).ok()?;
        let trouble: Trouble = serde_json::from_slice(&text).ok()?;
        (trouble.from == hashed(url)).then_some(trouble.why)
    }

    /// Puts `text`, which is `good`, in the place of what was there: whole, or not at all.
    pub(super) fn put(&self, text: &str, good: &Fetched) -> io::Result<()> {
        let label = serde_json::to_string(&Label {
            from: good.from.clone(),
            version: good.version.clone(),
        })?;
        replace(&self.book, &[label.as_bytes(), b"\n", text.as_bytes()])
    }

    /// Notes what is wrong with what is at `url`, for those who ask in other processes.
    pub(super) fn warn(&self, url: &Secret, why: &str) -> io::Result<()> {
        let trouble = serde_json::to_vec(&Trouble {
            from: hashed(url),
            why: why.to_owned(),
        })?;
        replace(&self.trouble, &[&trouble])
    }

    /// Nothing is wrong any more.
    pub(super) fn all_is_well(&self) -> io::Result<()> {
        match fs::remove_file(&self.trouble) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Writes `parts` to a file beside `path`, for nobody else to read, and renames it.
fn replace(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let beside = path.with_added_extension("new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()?;
    fs::rename(&beside, path)
}

fn hashed(url: &Secret) -> String {
    hex_text(digest(&SHA256, url.expose().as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const BUILT_IN: &str = include_str!("../pricing/book/prices.jsonl");

    #[test]
    fn a_book_is_kept_whole_with_its_version_for_the_address_it_is_from() {
        let data = tempfile::tempdir().unwrap();
        let shelf = Shelf::of(data.path());
        let [here, there] = ["https://a/?token=hush", "https://b/"].map(Secret::new);
        assert!(shelf.book(&here).is_none());

        let version: Version = serde_json::from_str(r#"{"etag":"\"7\""}"#).unwrap();
        let good = Fetched::read(BUILT_IN, &here, version.clone()).unwrap();
        shelf.put(BUILT_IN, &good).unwrap();
        let kept = shelf.book(&here).unwrap();
        assert!(kept.version == version && kept.book.is_text(BUILT_IN));
        assert!(kept.is_from(&here) && !kept.is_from(&there));
        assert!(shelf.book(&there).is_none());

        let file = data.path().join("prices.fetched");
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("hush"));
        // A disk that lost the end of it.
        text.truncate(text.len() / 2);
        fs::write(&file, text).unwrap();
        assert!(shelf.book(&here).is_none());
    }

    #[test]
    fn trouble_is_told_of_its_own_address_until_all_is_well() {
        let data = tempfile::tempdir().unwrap();
        let shelf = Shelf::of(data.path());
        let [here, there] = ["https://a/", "https://b/"].map(Secret::new);
        shelf.warn(&here, "it is a cake").unwrap();
        assert_eq!(shelf.trouble(&here).as_deref(), Some("it is a cake"));
        assert_eq!(shelf.trouble(&there), None);
        shelf.all_is_well().unwrap();
        shelf.all_is_well().unwrap();
        assert_eq!(shelf.trouble(&here), None);
    }
}

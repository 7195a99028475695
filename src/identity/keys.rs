//! All client keys: read from the lines of their file, found by the secret that a client shows.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::Arc,
};

use super::{
    record::{ClientKey, State},
    token::{self, Digest},
};
use crate::base::clock::Timestamp;

/// All client keys.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    all: Vec<Arc<ClientKey>>,
    /// By the first bytes of the digest. The rest is compared in constant time.
    places: HashMap<u64, Arc<ClientKey>>,
}

/// A line of the file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Problem {
    /// Counts from 1.
    pub line: usize,
    /// What is wrong with it. Names no secret, since the file has none.
    pub what: String,
}

/// Why what a client shows is no valid key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is not as keys are made: mistyped, or cut short.
    Mistyped,
    /// No key is like that.
    Unknown,
    /// The key's time is over.
    Expired(Timestamp),
    /// The key was taken back.
    Revoked(Timestamp),
}

impl Keys {
    /// Reads a file: one JSON object a line. Empty lines and those that begin with `#` are passed
    /// over.
    ///
    /// # Errors
    /// A line is no key, or the same key as an earlier one.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let mut keys = Self::default();
        for (line, written) in (1..).zip(text.lines()) {
            let Some(key) = read_line(written) else {
                continue;
            };
            let wrong = |what: &dyn fmt::Display| Problem {
                line,
                what: what.to_string(),
            };
            let key = Arc::new(key.map_err(|error| wrong(&in_words(&error)))?);
            match keys.places.entry(key.sha256.place()) {
                Entry::Occupied(_) => return Err(wrong(&"an earlier line has the same key")),
                Entry::Vacant(place) => place.insert(Arc::clone(&key)),
            };
            keys.all.push(key);
        }
        Ok(keys)
    }

    /// The key with this secret, if it is valid at `now`.
    ///
    /// # Errors
    /// It is not, or there is none.
    pub fn find(&self, secret: &str, now: Timestamp) -> Result<&Arc<ClientKey>, Unfit> {
        if !token::is_whole(secret) {
            return Err(Unfit::Mistyped);
        }
        let digest = Digest::of(secret);
        let found = self.places.get(&digest.place());
        let key = found
            .filter(|key| key.sha256.is(&digest))
            .ok_or(Unfit::Unknown)?;
        fit(key, now)
    }

    /// Whether a key that was valid still is.
    ///
    /// # Errors
    /// It is not, or it is gone.
    pub fn still(&self, key: &ClientKey, now: Timestamp) -> Result<(), Unfit> {
        let found = self.places.get(&key.sha256.place());
        let same = found.filter(|found| found.sha256.is(&key.sha256));
        same.map_or(Err(Unfit::Unknown), |found| fit(found, now).map(drop))
    }

    /// All of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &ClientKey> {
        self.all.iter().map(|key| &**key)
    }

    /// How many are valid at `now`.
    pub fn valid(&self, now: Timestamp) -> usize {
        let valid = |key: &&ClientKey| key.state(now) == State::Valid;
        self.iter().filter(valid).count()
    }
}

fn fit(key: &Arc<ClientKey>, now: Timestamp) -> Result<&Arc<ClientKey>, Unfit> {
    match (key.state(now), key.revoked, key.expires) {
        (State::Revoked, Some(at), _) => Err(Unfit::Revoked(at)),
        (State::Expired, _, Some(at)) => Err(Unfit::Expired(at)),
        _ => Ok(key),
    }
}

/// What is wrong with a line, without the place in it, which would read as one in the file.
fn in_words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text
        .rsplit_once(" at line ")
        .map_or(&*text, |(what, _)| what);
    if error.is_data() {
        what.to_owned()
    } else {
        format!("it is no JSON object ({what})")
    }
}

/// The key in a line; `None` if it has none.
pub(super) fn read_line(line: &str) -> Option<Result<ClientKey, serde_json::Error>> {
    let line = line.trim();
    let has_one = !line.is_empty() && !line.starts_with('#');
    has_one.then(|| serde_json::from_str(line))
}

impl Unfit {
    /// What it is counted as.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mistyped => "mistyped",
            Self::Unknown => "unknown",
            Self::Expired(_) => "expired",
            Self::Revoked(_) => "revoked",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::token::mint, *};

    const NOW: Timestamp = Timestamp::from_secs(1_795_618_800);

    fn line(secret: &str, rest: &str) -> String {
        let digest = Digest::of(secret);
        format!(r#"{{"name":"ci","sha256":"{digest}","created":"2026-11-22T06:25:14Z"{rest}}}"#)
    }

    #[test]
    fn a_key_is_found_by_its_secret_while_it_is_valid() {
        let secrets: Vec<_> = (0..5).map(|_| mint().unwrap()).collect();
        let secret = |index: usize| secrets[index].expose();
        let text = [
            "# who has what".to_owned(),
            line(secret(0), ""),
            String::new(),
            line(secret(1), r#","expires":"2026-11-25T15:00:00Z""#),
            line(secret(2), r#","expires":"2026-11-25T15:00:00.000001Z""#),
            line(
                secret(3),
                r#","revoked":"2026-11-23T00:00:00Z","expires":"2026-11-24T00:00:00Z""#,
            ),
        ];
        let keys = Keys::parse(&text.join("\n")).unwrap();
        let found = |secret| keys.find(secret, NOW).map(|key| key.name.as_str());
        assert_eq!(found(secret(0)), Ok("ci"));
        assert_eq!(found(secret(1)), Err(Unfit::Expired(NOW)));
        assert_eq!(found(secret(2)), Ok("ci"));
        assert!(matches!(found(secret(3)), Err(Unfit::Revoked(_))));
        assert_eq!(found(secret(4)), Err(Unfit::Unknown));
        let (cut, _) = secret(0).split_at(40);
        for mistyped in [cut, "tg_", "", "sk-proj-1", &format!("{} ", secret(0))] {
            assert_eq!(found(mistyped), Err(Unfit::Mistyped), "{mistyped}");
        }
        assert_eq!((keys.iter().count(), keys.valid(NOW)), (4, 2));
    }

    #[test]
    fn a_line_that_is_no_key_is_told_with_its_number() {
        let secret = mint().unwrap();
        let good = line(secret.expose(), "");
        let cases = [
            (format!("\n{good}\n{good}"), "line 3: an earlier line"),
            (
                format!("{good}\nname: ci"),
                "line 2: it is no JSON object (expected",
            ),
            (
                line(secret.expose(), r#","secret":"x""#),
                "line 1: unknown field `secret`",
            ),
            (good.replace("ci", "c i"), "line 1: a key's name"),
            (
                good.replace("sha256\":\"", "sha256\":\"0"),
                "64 hexadecimal",
            ),
            (good.replace("2026-11-22T06:25:14Z", "then"), "not a moment"),
            (
                line(secret.expose(), r#","labels":{"users":"4"}"#),
                "unknown variant `users`",
            ),
        ];
        for (text, says) in cases {
            let problem = Keys::parse(&text).unwrap_err().to_string();
            assert!(problem.contains(says), "{says}: {problem}");
        }
    }
}

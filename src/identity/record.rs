//! One client key, as it stands in the file: everything but the secret.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::token::Digest;
use crate::{base::clock::Timestamp, call::labels::Label};

/// A client key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientKey {
    /// Who has it: what budgets and spans call it.
    pub name: Name,
    /// What its secret is recognised by.
    pub sha256: Digest,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it is no longer valid; `None`: it stays valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Timestamp>,
    /// Labels of all calls with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Label, String>,
    /// Tags of all calls with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// What a key is good for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Calls may be made with it.
    Valid,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
}

impl ClientKey {
    /// Tells it from others of the same name; says nothing of its secret.
    pub fn id(&self) -> String {
        self.sha256.to_string().chars().take(12).collect()
    }

    /// What it is good for at `now`.
    pub fn state(&self, now: Timestamp) -> State {
        if self.revoked.is_some() {
            State::Revoked
        } else if self.expires.is_some_and(|end| end <= now) {
            State::Expired
        } else {
            State::Valid
        }
    }
}

#[cfg(test)]
impl ClientKey {
    /// A key for tests, with labels and tags, and its secret.
    pub(super) fn sample(name: &str, created: Timestamp) -> (crate::base::secret::Secret, Self) {
        let secret = super::token::mint().unwrap();
        let key = Self {
            name: name.parse().unwrap(),
            sha256: Digest::of(secret.expose()),
            created,
            expires: None,
            revoked: None,
            labels: [(Label::User, "42".to_owned())].into(),
            tags: [("team".to_owned(), "a \"b\"".to_owned())].into(),
        };
        (secret, key)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        })
    }
}

/// The name of a client key: 1 to 64 letters, digits, and `-_.@`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        if (1..=64).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err("a key's name has 1 to 64 letters, digits, and -_.@")
        }
    }
}

impl TryFrom<String> for Name {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

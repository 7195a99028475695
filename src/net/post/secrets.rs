//! What a server says, as far as it repeats none of our secrets.

use http::HeaderMap;

use super::Address;

/// The longest that an answer's words are repeated in an error, in bytes.
const MOST_WORDS: usize = 80;

/// What an answer must not be quoted with.
pub(super) struct Secrets(Vec<Box<str>>);

impl Secrets {
    /// The path, which is one with many webhooks, the query, and the values of all headers but
    /// harmless ones.
    pub(super) fn of(address: &Address, headers: &HeaderMap) -> Self {
        let values = headers.values().filter(|value| value.is_sensitive());
        let values = values.filter_map(|value| value.to_str().ok());
        let query = address.target.query().unwrap_or_default();
        let texts = values.chain([address.path(), query]).flat_map(|text| {
            text.split([' ', '/', '=', '&'])
                .filter(|part| part.len() > 3)
        });
        Self(texts.map(Box::from).collect())
    }

    /// The answer's words, as `: words`, if they are few and plain and repeat nothing of ours.
    pub(super) fn words(&self, body: &[u8]) -> String {
        let plain = |byte: &u8| byte.is_ascii_alphabetic() || b" _-.,:!'".contains(byte);
        let body = body.trim_ascii();
        let text = std::str::from_utf8(body).unwrap_or_default();
        let quotable = !text.is_empty() && text.len() <= MOST_WORDS && body.iter().all(plain);
        if quotable && !self.0.iter().any(|secret| text.contains(&**secret)) {
            format!(": {text}")
        } else {
            String::new()
        }
    }
}

//! Takes keys, tokens and what is personal out of content before it goes anywhere. Traffic is not
//! touched: this is what spans say of it.
//!
//! A text is searched as it is and, where it holds escapes, as what they stand for, and so on: a tool's
//! arguments are JSON in JSON. Where something is found only then, the text stays resolved.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::config::Content;
use crate::{base::escape::resolved, call::json_path::JsonPath};

mod check;
mod config;
mod pattern;

pub use config::{OwnPattern, Redaction};
use pattern::{BUILT_IN, Pattern};

/// How often escapes are resolved in what was resolved.
const DEEPEST: u8 = 5;

/// What is taken out of content.
#[derive(Debug)]
pub struct Redactor {
    /// In this order; what stands first has its mark where two are found in one place.
    patterns: Vec<Pattern>,
    /// Places whose values are taken out before anything is read of them.
    paths: Vec<JsonPath>,
}

impl Redactor {
    /// All that is built in, and what the configuration adds.
    ///
    /// # Errors
    /// A pattern cannot be compiled; those of the configuration have been before.
    pub fn new(own: &Redaction) -> Result<Self, regex::Error> {
        let mut patterns = Vec::with_capacity(BUILT_IN.len() + own.patterns.len());
        for row in BUILT_IN {
            patterns.push(Pattern::built_in(row)?);
        }
        patterns.extend(own.patterns.iter().map(Pattern::own));
        Ok(Self {
            patterns,
            paths: own.paths.clone(),
        })
    }

    /// The places that are not read, at this level.
    pub(super) fn hidden(&self, level: Content) -> &[JsonPath] {
        match level {
            Content::Redacted => &self.paths,
            Content::None | Content::Full => &[],
        }
    }

    /// Takes out of `value`, its names included, what may not be there at this level.
    pub(super) fn redact(&self, value: &mut Value, level: Content) {
        match value {
            Value::String(text) => {
                if let Some(redacted) = self.text(text, level) {
                    *text = redacted;
                }
            },
            // A card's number may be written as one.
            Value::Number(number) => {
                if let Some(redacted) = self.text(&number.to_string(), level) {
                    *value = Value::String(redacted);
                }
            },
            Value::Array(items) => {
                for item in items {
                    self.redact(item, level);
                }
            },
            Value::Object(fields) => self.redact_fields(fields, level),
            Value::Null | Value::Bool(_) => {},
        }
    }

    fn redact_fields(&self, fields: &mut Map<String, Value>, level: Content) {
        let mut renamed = Vec::new();
        for (name, value) in fields.iter_mut() {
            self.redact(value, level);
            renamed.extend(self.text(name, level).map(|new| (name.clone(), new)));
        }
        // Several may have the same mark.
        let mut numbers = BTreeMap::<String, usize>::new();
        for (name, new) in renamed {
            if let Some(value) = fields.remove(&name) {
                let number = numbers.entry(new.clone()).or_default();
                *number += 1;
                while fields.contains_key(&numbered(&new, *number)) {
                    *number += 1;
                }
                fields.insert(numbered(&new, *number), value);
            }
        }
    }

    /// The text without what may not be there at this level; `None`: there is nothing of the kind.
    pub fn text(&self, text: &str, level: Content) -> Option<String> {
        self.resolving(text, level, 0)
    }

    fn resolving(&self, text: &str, level: Content, depth: u8) -> Option<String> {
        let plain = self.pass(text, level);
        if depth == DEEPEST || !text.contains('\\') {
            return plain;
        }
        // Of what is escaped in part only a part may be found, so what is found resolved counts.
        let open = resolved(text.as_bytes());
        match (plain, self.resolving(&open, level, depth + 1)) {
            (plain, None) => plain,
            (Some(plain), Some(deep)) if resolved(plain.as_bytes()) == deep => Some(plain),
            (_, deep) => deep,
        }
    }

    fn pass(&self, text: &str, level: Content) -> Option<String> {
        let mut redacted: Option<String> = None;
        for pattern in &self.patterns {
            if pattern.is_secret() || level == Content::Redacted {
                let seen = redacted.as_deref().unwrap_or(text);
                redacted = pattern.replace(seen).or(redacted);
            }
        }
        redacted
    }
}

/// The name, with its number if it is not the first of them.
fn numbered(name: &str, number: usize) -> String {
    match number {
        ..=1 => name.to_owned(),
        further => format!("{name} {further}"),
    }
}

#[cfg(test)]
mod tests;

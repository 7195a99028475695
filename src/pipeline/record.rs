//! A finished span on its way out, with its JSON made once for everybody.

use serde::Deserialize as _;
use serde_json::Value;

use crate::call::{labels::Label, span::Span};

/// What processors are given.
#[derive(Debug)]
pub struct Record {
    /// The span.
    pub span: Span,
    /// The span as one line of JSON, without the line's end.
    pub line: String,
}

impl Record {
    /// Freezes `span`. Done where the call ended: making the line costs less than handing the
    /// parts to another thread and freeing them there.
    pub fn new(span: Span) -> Self {
        let line = span.to_json();
        Self { span, line }
    }

    /// About how many bytes it takes: its line, and as much again for the span.
    pub fn size(&self) -> usize {
        self.line.len().saturating_mul(2) + size_of::<Self>()
    }

    /// What the line says under this name, whether that is a member or an attribute.
    pub fn value(&self, name: &str) -> Option<Value> {
        let member = format!("\"{name}\":");
        // A quotation mark within a text is escaped there, so that this stands only before a name.
        let (at, _) = self.line.match_indices(&member).find(|(at, _)| {
            let before = at.checked_sub(1);
            let before = before.and_then(|at| self.line.as_bytes().get(at));
            matches!(before, Some(b',' | b'{'))
        })?;
        let rest = self.line.get(at + member.len()..)?;
        Value::deserialize(&mut serde_json::Deserializer::from_str(rest)).ok()
    }

    /// What the span says under this name, in words: a label, `model`, `provider`, a tag, a member or
    /// an attribute. Several if it is a list; none if it says nothing.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let span = &self.span;
        let found = match name {
            "model" => span.model(),
            "provider" => Some(&*span.provider),
            _ => Label::named(name).and_then(|label| span.labels.get(label)),
        };
        if let Some(found) = found.or_else(|| span.labels.tag_value(name)) {
            return vec![found.to_owned()];
        }
        let mut texts = Vec::new();
        match self.value(name) {
            Some(Value::Array(items)) => texts.extend(items.iter().filter_map(text)),
            Some(value) => texts.extend(text(&value)),
            None => {},
        }
        texts
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

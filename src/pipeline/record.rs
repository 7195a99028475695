//! A finished span on its way out, with its JSON made once for everybody.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use serde::Deserialize as _;
use serde_json::Value;

use super::{Captured, Content};
use crate::call::{
    content::{CONTENT, CUT, SAID},
    labels::Label,
    span::{SAMPLING_RATE, Span, Value as Attribute},
    stored::Names,
};

/// What stands before the attributes in a line, of which there is one at least.
const ATTRIBUTES: &str = ",\"attributes\":{";

/// What processors are given.
pub struct Record {
    /// The span.
    pub span: Span,
    /// The span as one line of JSON, without the line's end.
    pub line: String,
    said: Option<Box<Said>>,
}

/// What was said, and the records that hold it, each made when it is first asked for.
struct Said {
    captured: Captured,
    /// Its size in bytes, which would take long to find under a lock.
    bytes: usize,
    redacted: Mutex<Option<Arc<Record>>>,
    full: Mutex<Option<Arc<Record>>>,
}

impl Record {
    /// Freezes `span`. Done where the call ended: making the line costs less than handing the
    /// parts to another thread and freeing them there.
    pub fn new(span: Span) -> Self {
        Self::with(span, None)
    }

    /// Reads a line that [`Record::new`] made; none if it is not one.
    pub(super) fn read(line: &str, names: &mut Names) -> Option<Self> {
        Some(Self {
            span: Span::from_json(line, names).ok()?,
            line: line.to_owned(),
            said: None,
        })
    }

    /// The same, with what was kept of what was said.
    pub(super) fn with(span: Span, said: Option<Captured>) -> Self {
        let line = span.to_json();
        let said = said.map(|captured| {
            Box::new(Said {
                bytes: captured.size(),
                captured,
                redacted: Mutex::default(),
                full: Mutex::default(),
            })
        });
        Self { span, line, said }
    }

    /// Whether what was said is kept with it.
    pub(super) const fn holds_said(&self) -> bool {
        self.said.is_some()
    }

    /// The same without what was said.
    pub(super) fn bare(&self) -> Self {
        Self {
            span: self.span.clone(),
            line: self.line.clone(),
            said: None,
        }
    }

    /// The same with what was said, for a processor that may have so much of it; no `level` is as much
    /// as spans may hold. `None`: it is as it is. Reading takes time, so this is for workers.
    pub(super) fn holding(&self, level: Option<Content>) -> Option<Arc<Self>> {
        let said = self.said.as_ref()?;
        let level = said.captured.level(level);
        let held = match level {
            Content::None => return None,
            Content::Redacted => &said.redacted,
            Content::Full => &said.full,
        };
        let make = || {
            let mut span = self.span.clone();
            span.attributes.extend(said.captured.attributes(level));
            Arc::new(Self::new(span))
        };
        Some(Arc::clone(held.lock().get_or_insert_with(make)))
    }

    /// The same without what was said, where it has more of that on it than `most`: nothing that was read
    /// can be redacted any more. `None`: it is as it may be.
    pub(super) fn within(&self, most: Content) -> Option<Self> {
        if most == Content::Full || self.said_level() <= most {
            return None;
        }
        let mut span = self.span.clone();
        let is_said = |name: &str| SAID.contains(&name) || [CONTENT, CUT].contains(&name);
        span.attributes.retain(|(name, _)| !is_said(name));
        if let Some(reported) = &mut span.reported {
            reported.attributes.retain(|(name, _)| !is_said(name));
        }
        if most > Content::None {
            let level = Attribute::Text(most.name().into());
            span.attributes.push((CONTENT, level));
            span.attributes.push((CUT, Attribute::Bool(true)));
        }
        Some(Self::new(span))
    }

    /// How much of what was said is on it.
    fn said_level(&self) -> Content {
        let own = self.span.attributes.iter();
        let own = own.map(|(name, value)| (*name, value));
        // What comes from disk has it there.
        let told = self.span.reported.iter().flat_map(|it| &it.attributes);
        let told = told.map(|(name, value)| (&**name, value));
        let (mut level, mut is_said) = (None, false);
        for (name, value) in own.chain(told) {
            is_said |= SAID.contains(&name);
            if name == CONTENT {
                let redacted = Attribute::Text(Content::Redacted.name().into());
                let is_redacted = *value == redacted;
                level = level.max(Some(if is_redacted {
                    Content::Redacted
                } else {
                    Content::Full
                }));
            }
        }
        let unnamed = if is_said {
            Content::Full
        } else {
            Content::None
        };
        level.unwrap_or(unnamed)
    }

    /// The same, saying what share of spans like it goes where it goes. Nothing more can be asked of
    /// what was said.
    pub(super) fn marked(&self, share: f64) -> Self {
        let mut span = self.span.clone();
        span.attributes
            .push((SAMPLING_RATE, Attribute::Float(share)));
        // The line is added to, as the first that is so named is the span's own: making it anew takes
        // much longer.
        let Some((before, after)) = self.line.split_once(ATTRIBUTES) else {
            return Self::new(span);
        };
        let line = format!("{before}{ATTRIBUTES}\"{SAMPLING_RATE}\":{share:?},{after}");
        Self {
            span,
            line,
            said: None,
        }
    }

    /// About how many bytes it takes: its line, and as much again for the span; and what was said,
    /// with the record that holds that, which has it twice too. It never changes.
    pub fn size(&self) -> usize {
        let own = self.line.len().saturating_mul(2) + size_of::<Self>();
        own.saturating_add(self.said_bytes().saturating_mul(3))
    }

    /// About how long its line is for a processor that gets what was said.
    pub(super) fn length(&self) -> usize {
        self.line.len().saturating_add(self.said_bytes())
    }

    fn said_bytes(&self) -> usize {
        self.said.as_ref().map_or(0, |said| said.bytes)
    }

    /// What the line says under this name, whether that is a member or an attribute.
    pub fn value(&self, name: &str) -> Option<Value> {
        let mut attributes = self.span.attributes.iter();
        if let Some((_, value)) = attributes.find(|(other, _)| *other == name) {
            return json(value);
        }
        // Names in what was said, which comes last, are not the span's.
        let said = format!(",\"{CONTENT}\":");
        let line = self.line.split(&said).next().unwrap_or_default();
        let member = format!("\"{name}\":");
        // A quotation mark within a text is escaped there, so that this stands only before a name.
        let (at, _) = line.match_indices(&member).find(|(at, _)| {
            let before = at.checked_sub(1);
            let before = before.and_then(|at| line.as_bytes().get(at));
            matches!(before, Some(b',' | b'{'))
        })?;
        let rest = line.get(at + member.len()..)?;
        Value::deserialize(&mut serde_json::Deserializer::from_str(rest)).ok()
    }

    /// What the span says under this name, in words: a label, `model`, `provider`, a member, an
    /// attribute or a tag, in this order. Several if it is a list; none if it says nothing.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let span = &self.span;
        let found = match name {
            "model" => span.model(),
            "provider" => Some(&*span.provider),
            _ => Label::named(name).and_then(|label| span.labels.get(label)),
        };
        if let Some(found) = found {
            return vec![found.to_owned()];
        }
        // Tags come last: their names are the client's to choose.
        match self.value(name) {
            Some(Value::Array(items)) => items.iter().filter_map(text).collect(),
            Some(value) => text(&value).into_iter().collect(),
            None => {
                let tag = span.labels.tag_value(name);
                tag.map(str::to_owned).into_iter().collect()
            },
        }
    }
}

/// Without anything that was said.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("span_id", &self.span.span_id)
            .finish_non_exhaustive()
    }
}

fn json(value: &Attribute) -> Option<Value> {
    Some(match value {
        Attribute::Bool(flag) => Value::from(*flag),
        Attribute::Int(number) => Value::from(*number),
        Attribute::Negative(number) => Value::from(*number),
        Attribute::Float(number) => Value::from(*number),
        Attribute::Text(text) => Value::from(&**text),
        Attribute::Texts(texts) => texts.iter().map(|text| Value::from(&**text)).collect(),
        Attribute::Json(json) => return serde_json::from_str(json).ok(),
    })
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{saying, span},
        *,
    };
    use crate::call::{
        content::{ARGUMENTS, Messages},
        reported::{Format, Reported},
        span::Event,
    };

    fn said() -> Messages {
        Messages {
            input: vec!["hush".into()],
            arguments: Some("hush".into()),
            ..Messages::default()
        }
    }

    #[test]
    fn what_was_read_for_one_that_may_have_more_is_taken_off_whole() {
        let (full, redacted) = (
            saying("content: full", said),
            saying("content: redacted", said),
        );
        let level = |record: &Record| record.value(CONTENT);
        for record in [full.marked(0.5), full.bare()] {
            assert!(record.within(Content::Full).is_none());
            let less = record.within(Content::Redacted).unwrap();
            assert!(!less.line.contains("hush"), "{}", less.line);
            assert_eq!(level(&less), Some("redacted".into()));
            assert_eq!(less.value(CUT), Some(true.into()));
            assert_eq!(less.value(SAMPLING_RATE), record.value(SAMPLING_RATE));
            let none = record.within(Content::None).unwrap();
            assert!(!none.line.contains("hush") && level(&none).is_none());
            assert!(none.within(Content::None).is_none());
        }
        assert!(redacted.within(Content::Redacted).is_none());
        assert!(redacted.within(Content::None).is_some());
        assert!(Record::new(span(1)).within(Content::None).is_none());
    }

    #[test]
    fn what_was_read_for_another_is_taken_off_what_agents_reported_too() {
        let mut told = saying("content: full", said).span.clone();
        told.reported = Some(Box::new(Reported {
            by: Format::Otlp,
            name: "tool".into(),
            attributes: vec![("own".into(), Attribute::Int(1))],
        }));
        let line = Record::new(told).line;
        let read = Record::read(&line, &mut Names::default()).unwrap();
        assert!(read.line.contains("hush") && read.span.attributes.is_empty());
        let less = read.within(Content::None).unwrap();
        assert!(!less.line.contains("hush") && less.line.contains("\"own\":1"));
        // Without a word of how much it is, it may be all.
        let mut nameless = span(1);
        let hush = Attribute::Text("hush".into());
        nameless.attributes.push((ARGUMENTS, hush));
        assert!(Record::new(nameless).within(Content::Redacted).is_some());
    }

    #[test]
    fn the_share_is_on_the_line_as_if_it_had_been_made_with_it() {
        let tricky = ",\"attributes\":{\"events\":[]},\"events\":[".to_owned();
        let json = format!("{{\"a\":{{}}{tricky}]}}");
        let mut call = span(1);
        call.attributes = vec![
            ("text", Attribute::Text(tricky.clone().into())),
            ("json", Attribute::Json(json.into())),
        ];
        call.events = vec![Event {
            name: tricky.into(),
            time: call.start,
        }];
        for share in [0.0, 1e-9, 0.1, 1.0] {
            let marked = Record::new(call.clone()).marked(share);
            let read = |line: &str| serde_json::from_str::<Value>(line).unwrap();
            assert_eq!(read(&marked.line), read(&marked.span.to_json()));
            assert_eq!(read(&marked.line)["attributes"][SAMPLING_RATE], share);
            assert_eq!(marked.value(SAMPLING_RATE), Some(Value::from(share)));
            let again = Record::read(&marked.line, &mut Names::default()).unwrap();
            assert_eq!(read(&again.span.to_json()), read(&marked.line));
        }
    }
}

//! Content on its way to processors: read, redacted and put on spans by whichever worker wants it
//! first, at the level that its processor may have, and shared with the others.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{Config, Content, redact::Redactor};
use crate::call::{
    content::{self, ARGUMENTS, CONTENT, CUT, Messages, RESULT},
    span::Value,
};

/// How much longer than twice of what was kept the messages of it may be, in bytes.
const SPARE: usize = 1 << 20;

/// How much of what is said in a call its spans may hold. A call keeps the one that it began with.
#[derive(Debug)]
pub struct ContentPolicy {
    level: Content,
    redactor: Redactor,
}

impl ContentPolicy {
    /// As `tracing:` says; `None`: nothing of it.
    ///
    /// # Errors
    /// A pattern cannot be compiled; those of the configuration have been before.
    pub fn of(config: &Config) -> Result<Option<Arc<Self>>, regex::Error> {
        if config.content == Content::None {
            return Ok(None);
        }
        let redactor = Redactor::new(&config.redaction)?;
        Ok(Some(Arc::new(Self {
            level: config.content,
            redactor,
        })))
    }
}

/// What was kept of what a call said.
pub struct Captured {
    content: Box<dyn content::Content>,
    policy: Arc<ContentPolicy>,
}

impl Captured {
    /// `content`, of which spans may hold what `policy` says.
    pub fn new(content: Box<dyn content::Content>, policy: Arc<ContentPolicy>) -> Self {
        Self { content, policy }
    }

    /// How much is kept, in bytes.
    pub fn size(&self) -> usize {
        self.content.size()
    }

    /// How much of it a processor gets that may have `level`; `None` is as much as spans may hold.
    pub(super) fn level(&self, level: Option<Content>) -> Content {
        level.map_or(self.policy.level, |level| level.min(self.policy.level))
    }

    /// The attributes that say it at this level. A fault in the reading costs the content, and
    /// nothing else.
    pub(super) fn attributes(&self, level: Content) -> Vec<(&'static str, Value)> {
        let made = catch_unwind(AssertUnwindSafe(|| self.messages(level)));
        let messages = made.unwrap_or_else(|_panic| {
            tracing::error!("The reader of content panicked; a span goes without");
            Messages {
                cut: true,
                ..Messages::default()
            }
        });
        let mut is_cut = messages.cut;
        // Escapes and names may make it longer than what was kept, but not by that much.
        let mut room = self.size().saturating_mul(2).saturating_add(SPARE);
        let mut attributes = vec![(CONTENT, Value::Text(level.name().into()))];
        let lists = messages.lists().into_iter();
        let lists = lists.filter(|(_, list)| !list.is_empty());
        let lists = lists.map(|(name, list)| {
            let to_value: fn(Box<str>) -> Value = Value::Json;
            (name, serde_json::to_string(list), to_value)
        });
        let tool = [(ARGUMENTS, &messages.arguments), (RESULT, &messages.result)];
        let tool = tool.into_iter().filter_map(|(name, value)| {
            let to_value: fn(Box<str>) -> Value = Value::Text;
            Some((name, Ok(words(value.as_ref()?)), to_value))
        });
        for (name, said, to_value) in lists.chain(tool) {
            let said = said.unwrap_or_default();
            match room.checked_sub(said.len()) {
                Some(left) => {
                    room = left;
                    attributes.push((name, to_value(said.into())));
                },
                None => is_cut = true,
            }
        }
        if is_cut {
            attributes.insert(1, (CUT, Value::Bool(true)));
        }
        attributes
    }

    fn messages(&self, level: Content) -> Messages {
        let redactor = &self.policy.redactor;
        let mut messages = self.content.read(redactor.hidden(level));
        for value in messages.values_mut() {
            redactor.redact(value, level);
        }
        messages
    }
}

/// A text as it is, and anything else as JSON.
fn words(value: &serde_json::Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{
        super::{
            Delivery, Outlet, Pipeline,
            testing::{Scripted, captured, saying, span},
        },
        *,
    };
    use crate::{
        base::clock::SystemClock,
        call::content::{INPUT, OUTPUT},
    };

    fn said(text: &str) -> Messages {
        let part = json!({"type": "text", "content": text});
        let call = json!({"type": "tool_call", "name": "f", "arguments": {text: [text]}});
        Messages {
            system: vec![part.clone()],
            input: vec![json!({"role": "user", "parts": [part]})],
            output: vec![json!({"role": "assistant", "parts": [call], "finish_reason": "stop"})],
            tools: vec![json!({"type": "function", "name": "f", "description": text})],
            arguments: Some(json!({"to": text})),
            result: Some(json!(text)),
            cut: false,
        }
    }

    #[test]
    fn messages_are_attributes_and_part_of_the_line() {
        let record = saying("content: full", || said("Hi"));
        let line: serde_json::Value = serde_json::from_str(&record.line).unwrap();
        let attributes = &line["attributes"];
        assert_eq!(attributes[CONTENT], "full");
        assert_eq!(attributes[INPUT][0]["parts"][0]["content"], "Hi");
        assert_eq!(record.value(OUTPUT).unwrap()[0]["parts"][0]["name"], "f");
        assert_eq!(record.value(CONTENT).unwrap(), "full");
        // A name within what was said is not one of the span's.
        let spoof = saying("content: full", || said("tollgate.blocked_by"));
        assert_eq!(spoof.value("tollgate.blocked_by"), None);
    }

    #[test]
    fn what_waits_for_a_processor_that_never_gets_it_does_not_keep_what_was_said() {
        let outlet = |name, content| Outlet {
            delivery: Delivery {
                content,
                ..Delivery::REMOTE
            },
            ..Outlet::local(name, Scripted::new(&[]).0)
        };
        let outlets = vec![
            outlet("without", Some(Content::None)),
            outlet("with", Some(Content::Full)),
        ];
        let pipeline = Pipeline::start(Vec::new(), outlets, Arc::new(SystemClock)).unwrap();
        let captured = captured("content: full", || said("Hi"));
        pipeline.offer_with(span(1), Some(captured));
        let [(_, without), (_, with)] = pipeline.stats().try_into().unwrap();
        assert_eq!((without.queued, with.queued), (1, 1));
        assert!(with.queued_bytes > without.queued_bytes);
    }

    #[test]
    fn a_fault_in_the_reading_costs_only_the_content() {
        let record = saying("content: full", || panic!("a fault of ours"));
        let line: serde_json::Value = serde_json::from_str(&record.line).unwrap();
        assert_eq!(line["attributes"][CUT], true);
        assert!(line["attributes"].get(INPUT).is_none());
    }

    proptest! {
        #[test]
        fn no_secret_is_on_the_line_wherever_it_was_said(
            before in "[a-z \\n]{0,9}", after in "[a-z \\n]{0,9}", which in 0..3_usize,
        ) {
            let secret = ["ann.lee@mail.example.com", "4111 1111 1111 1111", "+49 30 1234567"][which];
            let text = format!("{before} {secret} {after}");
            let record = saying("content: redacted", move || said(&text));
            prop_assert!(!record.line.contains(secret), "{}", record.line);
            prop_assert_eq!(record.line.matches("[redacted:").count(), 7);
        }
    }
}

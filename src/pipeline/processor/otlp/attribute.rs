//! Attributes as other systems take them: flat names, and values that are no objects.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;
use serde_json::Value as Json;

use super::super::super::Record;

/// An attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Value {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A fraction.
    Float(f64),
    /// Text; also what is an object in our JSON.
    Text(String),
    /// Several texts.
    Texts(Vec<String>),
}

/// Attributes in the order of their names, each name once.
pub(in super::super) type Attributes = BTreeMap<Cow<'static, str>, Value>;

impl Value {
    /// A text.
    pub(in super::super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A count; one that no signed number holds is a text.
    pub(in super::super) fn count(count: u64) -> Self {
        i64::try_from(count).map_or_else(|_large| Self::Text(count.to_string()), Self::Int)
    }

    fn of(json: Json) -> Option<Self> {
        Some(match json {
            Json::Null => return None,
            Json::Bool(flag) => Self::Bool(flag),
            Json::String(text) => Self::Text(text),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => Self::Int(whole),
                (None, Some(fraction)) if number.is_f64() => Self::Float(fraction),
                _ => Self::Text(number.to_string()),
            },
            Json::Array(items) if items.iter().all(Json::is_string) => {
                let texts = items.into_iter().filter_map(|item| match item {
                    Json::String(text) => Some(text),
                    _ => None,
                });
                Self::Texts(texts.collect())
            },
            // Many destinations have no place for objects: they go as their JSON.
            Json::Array(_) | Json::Object(_) => Self::Text(json.to_string()),
        })
    }
}

/// The members of a span's line that are read.
#[derive(Deserialize)]
struct Line {
    attributes: BTreeMap<String, Json>,
}

/// Every attribute of the span, under the names of its line. The line is read and not the span, so
/// that there is one list of what a span says. Tags have a name each.
pub(super) fn of(record: &Record) -> BTreeMap<String, Value> {
    // The line was written by us.
    let line: Option<Line> = serde_json::from_str(&record.line).ok();
    let mut attributes = BTreeMap::new();
    for (name, json) in line.into_iter().flat_map(|line| line.attributes) {
        match json {
            Json::Object(tags) if name == "tollgate.tags" => {
                let tags = tags
                    .into_iter()
                    .filter_map(|(key, value)| Some((format!("{name}.{key}"), Value::of(value)?)));
                attributes.extend(tags);
            },
            json => {
                if let Some(value) = Value::of(json) {
                    attributes.insert(name, value);
                }
            },
        }
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::{super::super::super::testing::span, *};
    use crate::call::{
        facts::ToolCall,
        labels::Source,
        span::{self, Span},
    };

    #[test]
    fn every_kind_of_value_has_its_own() {
        let mut span = Span {
            edits: vec!["usage"],
            tool_calls: vec![ToolCall {
                id: None,
                name: "lookup".into(),
            }],
            attributes: vec![
                ("large", span::Value::Int(u64::MAX)),
                ("fraction", span::Value::Float(0.5)),
                ("not", span::Value::Float(f64::NAN)),
            ],
            http_status: Some(200),
            ..span(1)
        };
        span.labels.tag("team", "red", Source::Header);
        let found = of(&Record::new(span));
        let get = |name: &str| found.get(name).cloned();
        assert_eq!(get("http.response.status_code"), Some(Value::Int(200)));
        assert_eq!(get("large"), Some(Value::text(u64::MAX.to_string())));
        assert_eq!(get("fraction"), Some(Value::Float(0.5)));
        assert_eq!(get("not"), None);
        assert_eq!(
            get("tollgate.edits"),
            Some(Value::Texts(vec!["usage".to_owned()]))
        );
        assert_eq!(get("tollgate.tags.team"), Some(Value::text("red")));
        let calls = r#"[{"id":null,"name":"lookup"}]"#;
        assert_eq!(get("tollgate.tool_calls"), Some(Value::text(calls)));
    }
}

//! The table that spans go to: which column holds what, and the rows.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{base::clock::Timestamp, call::span::Span, pipeline::Record};

/// What the bytes of a name may be at most; PostgreSQL cuts longer ones.
const LONGEST_NAME: usize = 63;

/// Makes the enum of what a column can hold, with its defaults.
macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident => $column:literal, $sqlite:literal, $postgres:literal;)+) => {
        /// What a column can hold: a member of a span as files have it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Field {
            $($(#[$doc])* $field,)+
        }

        impl Field {
            /// All of them, in the order of the columns of a table that we make.
            const ALL: &[Self] = &[$(Self::$field),+];

            /// The column that it has in the RAAF tracing guide.
            const fn column(self) -> &'static str {
                match self {
                    $(Self::$field => $column,)+
                }
            }

            /// Its type in a table that we make, in SQLite and in PostgreSQL.
            const fn types(self) -> (&'static str, &'static str) {
                match self {
                    $(Self::$field => ($sqlite, $postgres),)+
                }
            }
        }
    };
}

fields! {
    /// The span's id, which is the table's key.
    SpanId => "span_id", "TEXT", "text";
    /// The trace's id, which the spans of a trace have in common.
    TraceId => "id", "TEXT", "text";
    /// The id of the span above; null at the top.
    ParentSpanId => "parent_id", "TEXT", "text";
    /// `chat gpt-4o`
    OperationName => "operation", "TEXT", "text";
    /// `llm`
    Kind => "kind", "TEXT", "text";
    /// `ok`
    Status => "status", "TEXT", "text";
    /// When it began, to the microsecond.
    StartTime => "started_at", "TEXT", "timestamptz";
    /// When it ended: its beginning and its duration.
    EndTime => "ended_at", "TEXT", "timestamptz";
    /// Milliseconds, with three decimals.
    DurationMs => "duration", "REAL", "double precision";
    /// An object.
    Attributes => "metadata", "TEXT", "jsonb";
    /// An array.
    Events => "events", "TEXT", "jsonb";
}

/// A table's name, and the column of each field that has one.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// In quotation marks.
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
}

/// A column.
#[derive(Clone, Debug)]
pub(super) struct Column {
    field: Field,
    /// As it is.
    pub(super) plain: Box<str>,
    /// In quotation marks.
    pub(super) quoted: String,
    pub(super) sqlite: &'static str,
    pub(super) postgres: &'static str,
}

/// A value of each column, as text; none is null.
pub(super) type Row<'a> = Vec<Option<Cow<'a, str>>>;

/// The parts of a line of which the text is needed.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    attributes: &'a RawValue,
    #[serde(borrow)]
    events: &'a RawValue,
}

impl Table {
    /// With the columns of the guide, but for those that `mapping` names otherwise, or leaves out.
    ///
    /// # Errors
    /// A name cannot be one, two columns are the same, or the key would be left out.
    pub(super) fn new(
        name: &str,
        mapping: &BTreeMap<Field, Option<Box<str>>>,
    ) -> Result<Self, String> {
        let name = quoted(name).map_err(|reason| format!("table_name: {reason}"))?;
        let mut columns: Vec<Column> = Vec::new();
        for field in Field::ALL.iter().copied() {
            let plain = match mapping.get(&field) {
                None => Box::from(field.column()),
                Some(Some(column)) => column.clone(),
                Some(None) if field == Field::SpanId => {
                    return Err("column_mapping: span_id is the key: give it a column".to_owned());
                },
                Some(None) => continue,
            };
            let quoted = quoted(&plain).map_err(|reason| format!("column_mapping: {reason}"))?;
            // SQLite takes names that differ in their case only for one.
            if columns
                .iter()
                .any(|it| it.plain.eq_ignore_ascii_case(&plain))
            {
                return Err(format!(
                    "column_mapping: `{plain}` is the column of two fields"
                ));
            }
            let (sqlite, postgres) = field.types();
            columns.push(Column {
                field,
                plain,
                quoted,
                sqlite,
                postgres,
            });
        }
        Ok(Self { name, columns })
    }

    /// The column that is the key, in quotation marks.
    pub(super) fn key(&self) -> &str {
        self.key_column().map_or("", |column| &column.quoted)
    }

    /// The column that is the key, as it is.
    pub(super) fn key_name(&self) -> &str {
        self.key_column().map_or("", |column| &column.plain)
    }

    /// There always is one: `new` sees to it.
    fn key_column(&self) -> Option<&Column> {
        self.columns.iter().find(|it| it.field == Field::SpanId)
    }

    /// The names of all columns, with commas between them.
    pub(super) fn names(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|it| &*it.quoted).collect();
        names.join(", ")
    }

    /// The statement that makes the table.
    pub(super) fn creation(&self, type_of: impl Fn(&Column) -> &'static str) -> String {
        let columns = self.columns.iter().map(|column| {
            let key = if column.field == Field::SpanId {
                " PRIMARY KEY"
            } else {
                ""
            };
            format!("{} {}{key}", column.quoted, type_of(column))
        });
        let columns: Vec<String> = columns.collect();
        let name = &self.name;
        format!("CREATE TABLE IF NOT EXISTS {name} ({})", columns.join(", "))
    }

    /// A row of a span. There are no NULs in it, which PostgreSQL does not take.
    pub(super) fn row<'a>(&self, record: &'a Arc<Record>) -> Row<'a> {
        let line: Option<Line<'a>> = serde_json::from_str(&record.line).ok();
        let cells = self.columns.iter().map(|column| {
            let json = match column.field {
                Field::Attributes => line.as_ref().map(|line| line.attributes),
                Field::Events => line.as_ref().map(|line| line.events),
                plain => return text(plain, &record.span),
            };
            json.map(|json| without_nul_escapes(json.get()))
        });
        cells.collect()
    }
}

/// What a span says of a field that is no JSON.
fn text(field: Field, span: &Span) -> Option<Cow<'_, str>> {
    // Cut to the microsecond, so that times and duration agree in each row.
    let start = span.start.as_micros();
    let micros = u64::try_from(span.duration.as_micros()).unwrap_or(u64::MAX);
    let at = |micros: u64| Timestamp::from_nanos(micros.saturating_mul(1_000)).to_string();
    let text = match field {
        Field::SpanId => span.span_id.to_string(),
        Field::TraceId => span.trace_id.to_string(),
        Field::ParentSpanId => span.parent_span_id?.to_string(),
        Field::OperationName => span.operation_name().replace('\0', "\u{fffd}"),
        Field::Kind => return Some(Cow::Borrowed(span.kind.name())),
        Field::Status => return Some(Cow::Borrowed(span.status.name())),
        Field::StartTime => at(start),
        Field::EndTime => at(start.saturating_add(micros)),
        Field::DurationMs => format!("{}.{:03}", micros / 1_000, micros % 1_000),
        Field::Attributes | Field::Events => return None,
    };
    Some(Cow::Owned(text))
}

/// JSON with a replacement character for each NUL in its texts.
fn without_nul_escapes(json: &str) -> Cow<'_, str> {
    const NUL: &str = "\\u0000";
    if !json.contains(NUL) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some((before, escape)) = rest.find('\\').and_then(|at| rest.split_at_checked(at)) {
        out.push_str(before);
        // An escaped backslash may stand before `u0000`, which is text then.
        rest = if let Some(after) = escape.strip_prefix(NUL) {
            out.push('\u{fffd}');
            after
        } else {
            let (pair, after) = escape.split_at_checked(2).unwrap_or((escape, ""));
            out.push_str(pair);
            after
        };
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// A name in quotation marks, in which it can be any.
fn quoted(name: &str) -> Result<String, String> {
    if !(1..=LONGEST_NAME).contains(&name.len()) || name.contains(char::is_control) {
        return Err(format!(
            "`{}` is no name: 1 to {LONGEST_NAME} bytes without control characters",
            name.escape_debug()
        ));
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::pipeline::testing::span;

    fn mapping(yaml: &str) -> Result<Table, String> {
        let mapping = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
        Table::new("ai_traces", &mapping)
    }

    #[test]
    fn columns_are_the_guides_unless_they_are_told_otherwise() {
        let plain = mapping("{}").unwrap();
        assert_eq!(
            plain.names(),
            "\"span_id\", \"id\", \"parent_id\", \"operation\", \"kind\", \"status\", \
             \"started_at\", \"ended_at\", \"duration\", \"metadata\", \"events\""
        );
        let other = mapping("{span_id: 'a\"; DROP TABLE x; --', events: null}").unwrap();
        assert_eq!(other.key(), "\"a\"\"; DROP TABLE x; --\"");
        assert_eq!(other.columns.len(), plain.columns.len() - 1);
    }

    #[test]
    fn what_cannot_be_a_mapping_is_refused() {
        for (yaml, word) in [
            ("{trace: id}", "trace_id"),
            ("{span_id: null}", "span_id is the key"),
            ("{events: ''}", "no name"),
            ("{events: \"a\\0b\"}", "no name"),
            ("{events: Metadata}", "two fields"),
        ] {
            let error = mapping(yaml).unwrap_err();
            assert!(error.contains(word), "{yaml}: {error}");
        }
        let long = "x".repeat(64);
        assert!(
            Table::new(&long, &BTreeMap::new())
                .unwrap_err()
                .contains("table_name")
        );
    }

    #[test]
    fn times_and_duration_agree_to_the_microsecond() {
        let record = Arc::new(Record::new(Span {
            start: Timestamp::from_nanos(1_795_328_714_000_001_900),
            duration: Duration::from_nanos(1_200_900),
            ..span(1)
        }));
        let row = mapping("{}").unwrap().row(&record);
        let told: Vec<&str> = row[6..9].iter().map(|it| it.as_deref().unwrap()).collect();
        assert_eq!(
            told,
            [
                "2026-11-22T06:25:14.000001Z",
                "2026-11-22T06:25:14.001201Z",
                "1.200"
            ]
        );
    }

    proptest! {
        #[test]
        fn json_without_nuls_says_the_same_but_for_them(texts in prop::collection::vec("[\\\\u0\0a\"]{0,12}", 0..4)) {
            let json = serde_json::to_string(&texts).unwrap();
            let clean = without_nul_escapes(&json);
            let read: Vec<String> = serde_json::from_str(&clean).unwrap();
            let expected: Vec<String> = texts.iter().map(|it| it.replace('\0', "\u{fffd}")).collect();
            prop_assert_eq!(read, expected);
        }
    }
}

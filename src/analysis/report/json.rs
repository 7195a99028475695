//! A report as a JSON array with one object a row.

use serde::{Serialize, Serializer, ser::SerializeMap as _};

use crate::call::tally::{Dimension, Sums, Tally};

/// One row: its group under the dimensions' names, then the sums.
struct Row<'a> {
    by: &'a [Dimension],
    tally: &'a Tally,
}

/// The sums, flattened behind a map's other entries.
#[derive(Serialize)]
struct Flat<'a> {
    #[serde(flatten)]
    group: Group<'a>,
    #[serde(flatten)]
    sums: &'a Sums,
}

struct Group<'a>(&'a [Dimension], &'a [Option<String>]);

impl Serialize for Group<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (by, value) in self.0.iter().zip(self.1) {
            map.serialize_entry(by.name(), value)?;
        }
        map.end()
    }
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let group = Group(self.by, &self.tally.group);
        let sums = &self.tally.sums;
        Flat { group, sums }.serialize(serializer)
    }
}

/// One row a line, so that people can read it as well.
pub(super) fn render(by: &[Dimension], rows: &[Tally]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|tally| Row { by, tally })
        // Serialising plain data into memory cannot fail.
        .map(|row| serde_json::to_string(&row).unwrap_or_default())
        .collect();
    if rows.is_empty() {
        return "[]\n".to_owned();
    }
    format!("[\n  {}\n]\n", rows.join(",\n  "))
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{BY, rows},
        *,
    };

    #[test]
    fn a_row_is_an_object_with_its_cost_as_a_string() {
        let json: serde_json::Value = serde_json::from_str(&render(&BY, &rows())).unwrap();
        assert_eq!(json[0]["agent"], "support");
        assert_eq!(json[0]["calls"], 1_204);
        assert_eq!(json[0]["cost_usd"], "3.250000000");
        assert_eq!(json[1]["agent"], serde_json::Value::Null);
        assert_eq!(json[1]["unknown_cost_calls"], 1);
        assert_eq!(render(&BY, &[]), "[]\n");
    }
}

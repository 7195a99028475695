//! A report as CSV (RFC 4180, with plain line ends).

use std::borrow::Cow;

use crate::call::tally::{Dimension, Sums, Tally};

/// The columns behind the group, named as in JSON.
fn columns(sums: &Sums) -> [(&'static str, String); 13] {
    [
        ("calls", sums.calls.to_string()),
        ("errors", sums.errors.to_string()),
        ("blocked", sums.blocked.to_string()),
        ("input_tokens", sums.input_tokens.to_string()),
        ("cache_read_tokens", sums.cache_read_tokens.to_string()),
        ("cache_write_tokens", sums.cache_write_tokens.to_string()),
        ("output_tokens", sums.output_tokens.to_string()),
        ("reasoning_tokens", sums.reasoning_tokens.to_string()),
        ("estimated_calls", sums.estimated_calls.to_string()),
        ("unknown_cost_calls", sums.unknown_cost_calls.to_string()),
        ("cost_usd", sums.cost_usd.to_string()),
        ("retries", sums.retries.to_string()),
        ("retry_cost_usd", sums.retry_cost_usd.to_string()),
    ]
}

pub(super) fn render(by: &[Dimension], rows: &[Tally]) -> String {
    let names = by.iter().map(|by| by.name());
    let header = names.chain(columns(&Sums::default()).map(|(name, _)| name));
    let mut text = line(&header.map(Cow::Borrowed).collect::<Vec<_>>());
    for row in rows {
        let group = row.group.iter().map(|value| csv_field(value.as_deref()));
        let sums = columns(&row.sums).map(|(_, value)| Cow::Owned(value));
        text.push_str(&line(&group.chain(sums).collect::<Vec<_>>()));
    }
    text
}

fn line(fields: &[Cow<'_, str>]) -> String {
    format!("{}\n", fields.join(","))
}

/// A value as a field of CSV: quoted if it must be. What is absent is empty, what is empty is quoted.
pub fn csv_field(value: Option<&str>) -> Cow<'_, str> {
    match value {
        None => Cow::Borrowed(""),
        Some(value) if value.is_empty() || value.contains([',', '"', '\n', '\r']) => {
            Cow::Owned(format!("\"{}\"", value.replace('"', "\"\"")))
        },
        Some(value) => Cow::Borrowed(value),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::tests::{BY, rows},
        *,
    };

    /// Reads CSV back, field by field.
    fn parsed(text: &str) -> Vec<Vec<String>> {
        let (mut rows, mut row, mut field, mut quoted) = (vec![], vec![], String::new(), false);
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '"' if quoted && chars.next_if_eq(&'"').is_some() => field.push('"'),
                '"' => quoted = !quoted,
                ',' if !quoted => row.push(std::mem::take(&mut field)),
                '\n' if !quoted => {
                    row.push(std::mem::take(&mut field));
                    rows.push(std::mem::take(&mut row));
                },
                c => field.push(c),
            }
        }
        rows
    }

    #[test]
    fn the_columns_are_the_names_of_the_json() {
        let text = render(&BY, &rows());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "agent,model,calls,errors,blocked,input_tokens,cache_read_tokens,cache_write_tokens,output_tokens,reasoning_tokens,estimated_calls,unknown_cost_calls,cost_usd,retries,retry_cost_usd"
        );
        assert_eq!(
            lines[2],
            ",my-model,3,0,1,150,0,0,20,0,0,1,0.000012500,0,0.000000000"
        );
        let names = serde_json::to_value(Sums::default()).unwrap();
        for (name, _) in columns(&Sums::default()) {
            assert!(names.get(name).is_some(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_value_is_read_back_as_it_was(agent in any::<Option<String>>(), model: String) {
            let group = vec![agent.clone(), Some(model.clone())];
            let row = Tally { group, sums: Sums::default() };
            let rows = parsed(&render(&BY, &[row]));
            prop_assert_eq!(rows.len(), 2);
            prop_assert_eq!(rows[1].len(), rows[0].len());
            prop_assert_eq!(&rows[1][0], &agent.unwrap_or_default());
            prop_assert_eq!(&rows[1][1], &model);
        }
    }
}

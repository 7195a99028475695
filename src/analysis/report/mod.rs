//! What calls cost, by group: as a table for people, as JSON or CSV for programs.

use std::str::FromStr;

use crate::call::tally::{Dimension, Sums, Tally};

mod csv;
mod json;
mod table;

pub use csv::csv_field;

/// What a report is written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns with a line of totals.
    #[default]
    Table,
    /// An array of rows; costs are strings with nine decimals.
    Json,
    /// A header and rows, as in RFC 4180.
    Csv,
}

/// There is no format of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a format of reports: expected table, json or csv")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        match name {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            "csv" => Ok(Self::Csv),
            _ => Err(UnknownFormat(name.to_owned())),
        }
    }
}

/// The report as text that ends with a line's end. `by` are the dimensions of the rows' groups;
/// `room` is the width that a table should fit, in columns, if there is one.
pub fn render(by: &[Dimension], rows: &[Tally], format: Format, room: Option<usize>) -> String {
    match format {
        Format::Table => table::render(by, rows, room),
        Format::Json => json::render(by, rows),
        Format::Csv => csv::render(by, rows),
    }
}

/// What all rows come to.
pub fn total(rows: &[Tally]) -> Sums {
    rows.iter().fold(Sums::default(), |mut total, row| {
        total += row.sums;
        total
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::money::Usd;

    pub(crate) const BY: [Dimension; 2] = [Dimension::Agent, Dimension::Model];

    pub(crate) fn rows() -> Vec<Tally> {
        let row = |agent: Option<&str>, model: &str, sums| Tally {
            group: vec![agent.map(str::to_owned), Some(model.to_owned())],
            sums,
        };
        let support = Sums {
            calls: 1_204,
            errors: 2,
            input_tokens: 1_500_000,
            cache_read_tokens: 900_000,
            output_tokens: 45_210,
            cost_usd: Usd::from_nanos(3_250_000_000),
            ..Sums::default()
        };
        let unnamed = Sums {
            calls: 3,
            blocked: 1,
            input_tokens: 150,
            output_tokens: 20,
            unknown_cost_calls: 1,
            cost_usd: Usd::from_nanos(12_500),
            ..Sums::default()
        };
        vec![
            row(Some("support"), "gpt-4o", support),
            row(None, "my-model", unnamed),
        ]
    }

    #[test]
    fn the_total_is_the_sum_of_the_rows() {
        let total = total(&rows());
        assert_eq!((total.calls, total.errors, total.blocked), (1_207, 2, 1));
        assert_eq!(total.cost_usd, Usd::from_nanos(3_250_012_500));
        assert_eq!(total.unknown_cost_calls, 1);
    }

    #[test]
    fn a_format_is_known_by_its_name() {
        assert_eq!("csv".parse(), Ok(Format::Csv));
        assert!(
            "xml"
                .parse::<Format>()
                .unwrap_err()
                .to_string()
                .contains("json")
        );
    }
}

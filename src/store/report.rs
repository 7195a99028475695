//! Sums over calls, by any of their dimensions.

use rusqlite::{Row, params_from_iter, types::Value};

use super::{Filter, Reader, StoreError};
use crate::{
    base::money::Usd,
    call::tally::{Dimension, Sums, Tally},
};

/// The most groups that a report has; the ones that cost least are left out.
const MOST_GROUPS: i64 = 100_000;

impl Reader {
    /// What the calls that `filter` means come to, by group, the most expensive first.
    ///
    /// # Errors
    /// Whatever SQLite reports.
    pub fn report(&self, filter: &Filter, by: &[Dimension]) -> Result<Vec<Tally>, StoreError> {
        let query = || {
            let (condition, mut values) = self.condition(filter)?;
            values.push(Value::Integer(MOST_GROUPS));
            let sql = sql(by, &condition);
            let mut statement = self.connection().prepare_cached(&sql)?;
            let rows = statement.query_map(params_from_iter(values), |row| tally(row, by.len()))?;
            rows.collect::<rusqlite::Result<_>>()
        };
        query().map_err(|source| self.error(source))
    }
}

fn sql(by: &[Dimension], condition: &str) -> String {
    let groups = by.iter().flat_map(|by| [column(*by), ", "]);
    let groups: String = groups.collect();
    let places = (1..=by.len()).map(|place| place.to_string());
    let places = places.collect::<Vec<_>>().join(", ");
    let (grouped, order) = if by.is_empty() {
        ("HAVING count(*) > 0".to_owned(), String::new())
    } else {
        (format!("GROUP BY {places}"), format!(", {places}"))
    };
    let sums: String = [
        "input",
        "cache_read",
        "cache_write",
        "output",
        "reasoning",
        "cost",
    ]
    .map(|column| format!(", coalesce(sum({column}), 0) AS all_{column}"))
    .concat();
    // Spans of tools, agents and the like are parts of calls or hold some, and what agents report of
    // their model calls is on the spans of these already: only calls are counted.
    format!(
        "SELECT {groups} count(*) AS calls, sum(status = 'error'), sum(status = 'blocked'),
            sum(usage_source IN ('estimated', 'ceiling')), sum(cost IS NULL) {sums},
            count(attempt), coalesce(sum(iif(attempt IS NULL, 0, cost)), 0)
         FROM spans WHERE kind IN ('llm', 'embedding', 'http')
            AND request_id <> zeroblob(16) AND {condition}
         {grouped} ORDER BY all_cost DESC, calls DESC{order} LIMIT ?"
    )
}

/// The SQL for a dimension's value.
const fn column(by: Dimension) -> &'static str {
    match by {
        Dimension::Model => "coalesce(family, model)",
        Dimension::Version => "model",
        Dimension::Day => "date(start / 1000000, 'unixepoch')",
        named => named.name(),
    }
}

fn tally(row: &Row<'_>, groups: usize) -> rusqlite::Result<Tally> {
    let group = (0..groups)
        .map(|place| row.get(place))
        .collect::<Result<_, _>>()?;
    let count = |place: usize| {
        let count: i64 = row.get(groups + place)?;
        Ok::<_, rusqlite::Error>(u64::try_from(count).unwrap_or(0))
    };
    let sums = Sums {
        calls: count(0)?,
        errors: count(1)?,
        blocked: count(2)?,
        estimated_calls: count(3)?,
        unknown_cost_calls: count(4)?,
        input_tokens: count(5)?,
        cache_read_tokens: count(6)?,
        cache_write_tokens: count(7)?,
        output_tokens: count(8)?,
        reasoning_tokens: count(9)?,
        cost_usd: Usd::from_nanos(row.get(groups + 10)?),
        retries: count(11)?,
        retry_cost_usd: Usd::from_nanos(row.get(groups + 12)?),
    };
    Ok(Tally { group, sums })
}

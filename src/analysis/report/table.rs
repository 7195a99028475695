//! A report as a table: numbers aligned, costs with as many decimals as the finest one needs, so
//! that they visibly add up to the last line.

use super::{
    super::table::{Column as Shape, table},
    total,
};
use crate::{
    base::money::Usd,
    call::{
        line::{clean, grouped},
        tally::{Dimension, Sums, Tally},
    },
};

/// What a table shows of the sums.
struct Column {
    title: &'static str,
    count: fn(&Sums) -> u64,
    shown: Shown,
    /// How soon it is left out where there is no room: the highest first, zero never.
    spare: u8,
}

/// When a column is shown.
#[derive(PartialEq, Eq)]
enum Shown {
    Always,
    IfAny,
}

const COLUMNS: [Column; 10] = [
    column("calls", |sums| sums.calls, Shown::Always, 0),
    column("errors", |sums| sums.errors, Shown::IfAny, 1),
    column("blocked", |sums| sums.blocked, Shown::IfAny, 2),
    column("retries", |sums| sums.retries, Shown::IfAny, 9),
    column("input", |sums| sums.input_tokens, Shown::Always, 4),
    column("cached", |sums| sums.cache_read_tokens, Shown::IfAny, 6),
    column("output", |sums| sums.output_tokens, Shown::Always, 3),
    column("thinking", |sums| sums.reasoning_tokens, Shown::IfAny, 7),
    column("estimated", |sums| sums.estimated_calls, Shown::IfAny, 5),
    // Below the table it is said again, as of retries.
    column("unpriced", |sums| sums.unknown_cost_calls, Shown::IfAny, 8),
];

const fn column(title: &'static str, count: fn(&Sums) -> u64, shown: Shown, spare: u8) -> Column {
    Column {
        title,
        count,
        shown,
        spare,
    }
}

pub(super) fn render(by: &[Dimension], rows: &[Tally], room: Option<usize>) -> String {
    if rows.is_empty() {
        return "No calls.\n".to_owned();
    }
    let total = total(rows);
    let columns: Vec<_> = COLUMNS
        .iter()
        .filter(|column| column.shown == Shown::Always || (column.count)(&total) > 0)
        .collect();
    let sums = rows.iter().map(|row| &row.sums).chain([&total]);
    let decimals = sums.map(|sums| decimals(sums.cost_usd)).max().unwrap_or(2);
    let numbers = |sums: &Sums| {
        let counts = columns.iter().map(|column| grouped((column.count)(sums)));
        let mut numbers: Vec<_> = counts.collect();
        numbers.push(cost(sums.cost_usd, decimals));
        numbers
    };
    let counts = columns
        .iter()
        .map(|column| Shape::number(column.title).spare(column.spare));
    let shapes = by.iter().map(|by| Shape::text(by.name())).chain(counts);
    let shapes: Vec<_> = shapes.chain([Shape::number("cost")]).collect();
    let mut lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let group = row.group.iter().map(|value| shown(value.as_deref()));
            group.chain(numbers(&row.sums)).collect()
        })
        .collect();
    let label = |place| if place == 0 { "total" } else { "" }.to_owned();
    lines.push((0..by.len()).map(label).chain(numbers(&total)).collect());
    finished(table(&shapes, &lines, room), &total)
}

/// The table with a rule above its last line, and notes: what retries cost, and whether costs are
/// missing.
fn finished(mut lines: Vec<String>, total: &Sums) -> String {
    if let Some(rule) = lines.get(1).cloned() {
        lines.insert(lines.len().saturating_sub(1), rule);
    }
    let (retries, unpriced) = (total.retries, total.unknown_cost_calls);
    if retries > 0 || unpriced > 0 {
        lines.push(String::new());
    }
    if retries > 0 {
        let retry_cost = cost(total.retry_cost_usd, decimals(total.retry_cost_usd));
        lines.push(format!(
            "Of these were retries: {}, which cost {retry_cost}.",
            calls(retries)
        ));
    }
    if unpriced > 0 {
        lines.push(format!(
            "Not in the cost: {} without a known price (`pricing:` sets one).",
            calls(unpriced)
        ));
    }
    format!("{}\n", lines.join("\n"))
}

fn calls(count: u64) -> String {
    let calls = if count == 1 { "call" } else { "calls" };
    format!("{} {calls}", grouped(count))
}

fn shown(value: Option<&str>) -> String {
    value.map_or_else(|| "-".to_owned(), clean)
}

/// How many decimals an amount needs, at least two.
fn decimals(amount: Usd) -> usize {
    let text = amount.to_string();
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    fraction.trim_end_matches('0').len().max(2)
}

fn cost(amount: Usd, decimals: usize) -> String {
    let text = amount.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let (sign, whole) = match whole.strip_prefix('-') {
        Some(whole) => ("-", whole),
        None => ("", whole),
    };
    format!("{sign}${whole}.{fraction:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{BY, rows},
        *,
    };

    #[test]
    fn a_table_is_aligned_and_adds_up() {
        let text = render(&BY, &rows(), None);
        let expected = " agent    model     calls  errors  blocked      input   cached  output  unpriced        cost
─────────────────────────────────────────────────────────────────────────────────────────────
 support  gpt-4o    1,204       2        0  1,500,000  900,000  45,210         0  $3.2500000
 -        my-model      3       0        1        150        0      20         1  $0.0000125
─────────────────────────────────────────────────────────────────────────────────────────────
 total              1,207       2        1  1,500,150  900,000  45,230         1  $3.2500125

Not in the cost: 1 call without a known price (`pricing:` sets one).
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_narrow_terminal_gets_fewer_columns_and_every_cent() {
        let text = render(&BY, &rows(), Some(60));
        let expected = " agent    model     calls  errors  blocked        cost
───────────────────────────────────────────────────────
 support  gpt-4o    1,204       2        0  $3.2500000
";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn retries_and_what_they_cost_are_told_apart() {
        let [mut one, other] = rows().try_into().unwrap();
        one.sums.retries = 12;
        one.sums.retry_cost_usd = Usd::from_nanos(310_000_000);
        let text = render(&BY, &[one, other], None);
        assert!(text.contains("  retries  "), "{text}");
        assert!(
            text.contains("\n\nOf these were retries: 12 calls, which cost $0.31.\nNot in"),
            "{text}"
        );
    }

    #[test]
    fn columns_of_zeros_are_left_out() {
        let rows = [Tally {
            group: vec![Some("a\u{1b}[31m".to_owned())],
            sums: Sums {
                calls: 1,
                cost_usd: Usd::from_nanos(-500_000_000),
                ..Sums::default()
            },
        }];
        let text = render(&[Dimension::User], &rows, None);
        assert!(
            !text.contains("blocked") && !text.contains('\u{1b}'),
            "{text}"
        );
        assert!(text.contains("-$0.50"), "{text}");
        assert_eq!(render(&[], &[], None), "No calls.\n");
    }

    #[test]
    fn a_report_without_groups_is_one_line_of_sums() {
        let rows = [Tally {
            group: Vec::new(),
            sums: total(&rows()),
        }];
        let text = render(&[], &rows, None);
        assert!(
            text.contains("1,207") && text.contains("$3.2500125"),
            "{text}"
        );
    }
}

//! Tables on a terminal: a rule under the titles, none between the rows.

use comfy_table::{CellAlignment, ContentLineStyle, LineStyle, Table, TableStyle};

const STYLE: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::none())
    .header_separator(LineStyle::none().fill('─'))
    .content_lines(ContentLineStyle::none());

/// Rows below `titles`; a title that begins with `#` is of numbers, which stand on the right.
pub(super) fn table<const N: usize>(titles: [&str; N], rows: Vec<[String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_header(titles.map(|title| title.trim_start_matches('#')));
    table.add_rows(rows);
    for (column, title) in table.column_iter_mut().zip(titles) {
        if title.starts_with('#') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines = table.lines().map(|line| format!("{}\n", line.trim_end()));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_on_the_right() {
        let rows = [["a", "1"], ["long", "1,000"]].map(|row| row.map(str::to_owned));
        let text = table(["name", "#count"], rows.to_vec());
        let expected = " name  count\n─────────────\n a         1\n long  1,000\n";
        assert_eq!(text, expected);
    }
}

//! Tables on a terminal: a rule under the titles, none between the rows, and no wider than the
//! terminal as long as there is something left to give up.

use crate::base::text::{Side, cut_middle, filled, width};

/// What a name may be cut to before columns are left out for it.
const EASY: usize = 20;
/// What a name may be cut to at all.
const LEAST: usize = 8;
/// Spaces around each cell, together.
const AROUND: usize = 2;

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column<'a> {
    title: &'a str,
    side: Side,
    spare: u8,
}

impl<'a> Column<'a> {
    /// A column of names: they are cut in the middle where there is no room.
    pub const fn text(title: &'a str) -> Self {
        Self {
            title,
            side: Side::Left,
            spare: 0,
        }
    }

    /// A column of numbers: they stand on the right and are never cut.
    pub const fn number(title: &'a str) -> Self {
        Self {
            title,
            side: Side::Right,
            spare: 0,
        }
    }

    /// It can be left out where there is no room, the highest rank first.
    #[must_use]
    pub const fn spare(mut self, rank: u8) -> Self {
        self.spare = rank;
        self
    }
}

/// The lines of the table: its titles, a rule, and `rows`, which have a cell for each column.
/// `room` is the width of the terminal in columns; without one the table is as wide as it likes.
pub fn table(columns: &[Column<'_>], rows: &[Vec<String>], room: Option<usize>) -> Vec<String> {
    let natural: Vec<usize> = (0..)
        .zip(columns)
        .map(|(place, column)| {
            let cells = rows.iter().filter_map(|row| row.get(place));
            let widest = cells.map(|cell| width(cell)).max().unwrap_or(0);
            widest.max(width(column.title))
        })
        .collect();
    let widths = fitted(columns, &natural, room);
    let line = |cells: &[&str]| {
        let cells = cells.iter().zip(columns).zip(&widths);
        let cells = cells.filter_map(|((cell, column), width)| {
            let width = (*width)?;
            let cell = match column.side {
                Side::Left => cut_middle(cell, width),
                Side::Right => (*cell).to_owned(),
            };
            Some(format!(" {} ", filled(&cell, width, column.side)))
        });
        cells.collect::<String>().trim_end().to_owned()
    };
    let titles: Vec<_> = columns.iter().map(|column| column.title).collect();
    let rule = "─".repeat(total(&widths));
    let rows = rows
        .iter()
        .map(|row| line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
    [line(&titles), rule].into_iter().chain(rows).collect()
}

/// How wide each column is; none where it is left out.
fn fitted(columns: &[Column<'_>], natural: &[usize], room: Option<usize>) -> Vec<Option<usize>> {
    let mut whole: Vec<Option<usize>> = natural.iter().copied().map(Some).collect();
    let Some(room) = room else {
        return whole;
    };
    let mut spare: Vec<_> = (0..).zip(columns).collect();
    spare.retain(|(_, column)| column.spare > 0);
    spare.sort_by_key(|(_, column)| column.spare);
    loop {
        let widths = squeezed(columns, whole.clone(), room, EASY);
        if total(&widths) <= room {
            return widths;
        }
        let Some((place, _)) = spare.pop() else {
            return squeezed(columns, whole, room, LEAST);
        };
        if let Some(width) = whole.get_mut::<usize>(place) {
            *width = None;
        }
    }
}

/// Takes from the widest names until all fits or none is wider than `least`.
fn squeezed(
    columns: &[Column<'_>],
    mut widths: Vec<Option<usize>>,
    room: usize,
    least: usize,
) -> Vec<Option<usize>> {
    while total(&widths) > room {
        let names = widths.iter_mut().zip(columns);
        let names = names.filter(|(_, column)| column.side == Side::Left);
        let names = names.filter_map(|(width, _)| width.as_mut());
        match names.max_by_key(|width| **width) {
            Some(widest) if *widest > least => *widest -= 1,
            _ => break,
        }
    }
    widths
}

fn total(widths: &[Option<usize>]) -> usize {
    widths.iter().flatten().map(|width| width + AROUND).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COLUMNS: [Column<'_>; 4] = [
        Column::text("budget"),
        Column::number("left"),
        Column::number("used").spare(1),
        Column::text("bar").spare(2),
    ];

    fn shown(room: Option<usize>) -> String {
        let rows = [
            ["daily", "$99.9994909", "0%", "░░░░░░░░░░"],
            [
                "calls/agent=support;user=alice",
                "4,997",
                "12%",
                "█░░░░░░░░░",
            ],
        ];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        format!("{}\n", table(&COLUMNS, &rows, room).join("\n"))
    }

    #[test]
    fn numbers_stand_on_the_right() {
        assert_eq!(
            shown(None),
            " budget                                 left  used  bar
───────────────────────────────────────────────────────────────
 daily                           $99.9994909    0%  ░░░░░░░░░░
 calls/agent=support;user=alice        4,997   12%  █░░░░░░░░░
"
        );
    }

    #[test]
    fn where_there_is_no_room_names_are_cut_and_then_columns_left_out_but_no_number() {
        assert_eq!(
            shown(Some(44)),
            " budget                          left  used
────────────────────────────────────────────
 daily                    $99.9994909    0%
 calls/agent…;user=alice        4,997   12%
"
        );
        assert_eq!(
            shown(Some(10)),
            " budget           left
───────────────────────
 daily     $99.9994909
 call…ice        4,997
"
        );
    }

    proptest! {
        #[test]
        fn a_table_fits_if_its_numbers_do(room in 24_usize..80) {
            for line in shown(Some(room)).lines() {
                prop_assert!(width(line) <= room, "{} {}", room, line);
            }
        }
    }
}

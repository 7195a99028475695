//! How wide the columns of a span's line are, by how much room there is.

use super::line::Look;

/// Widths in terminal columns; zero leaves a column out.
pub(super) struct Layout {
    /// Between two columns.
    pub(super) gap: usize,
    /// A day is shown without its year, and its time without seconds.
    pub(super) short_time: bool,
    pub(super) agent: usize,
    pub(super) model: usize,
    pub(super) tokens: usize,
    pub(super) cost: usize,
    /// Whether the duration is shown.
    pub(super) took: bool,
    /// The least for the outcome.
    outcome: usize,
    /// Whether there is room for a request's id.
    id: bool,
}

/// From the widest to the narrowest. What is given up first: space, ends of names, the id, the
/// duration, tokens. Time, outcome and cost stay.
const LAYOUTS: [Layout; 6] = [
    Layout {
        gap: 2,
        short_time: false,
        agent: 14,
        model: 26,
        tokens: 19,
        cost: 15,
        took: true,
        outcome: 26,
        id: true,
    },
    Layout {
        gap: 2,
        short_time: false,
        agent: 14,
        model: 20,
        tokens: 15,
        cost: 12,
        took: true,
        outcome: 9,
        id: true,
    },
    Layout {
        gap: 1,
        short_time: true,
        agent: 10,
        model: 17,
        tokens: 14,
        cost: 12,
        took: true,
        outcome: 9,
        id: true,
    },
    Layout {
        gap: 1,
        short_time: true,
        agent: 9,
        model: 16,
        tokens: 14,
        cost: 12,
        took: true,
        outcome: 9,
        id: false,
    },
    Layout {
        gap: 1,
        short_time: true,
        agent: 8,
        model: 12,
        tokens: 14,
        cost: 12,
        took: false,
        outcome: 9,
        id: false,
    },
    Layout {
        gap: 1,
        short_time: true,
        agent: 8,
        model: 12,
        tokens: 0,
        cost: 12,
        took: false,
        outcome: 9,
        id: false,
    },
];

impl Layout {
    /// The widest that fits, else the narrowest.
    pub(super) fn fitting(look: &Look) -> &'static Self {
        let [widest, .., narrowest] = &LAYOUTS;
        let Some(room) = look.room else {
            return widest;
        };
        let fits = |layout: &&Self| layout.width(look) <= room;
        LAYOUTS.iter().find(fits).unwrap_or(narrowest)
    }

    fn width(&self, look: &Look) -> usize {
        let time = match (look.date, self.short_time) {
            (false, _) => 8,
            (true, false) => 19,
            (true, true) => 11,
        };
        let numbers = if look.tokens {
            [self.tokens, self.cost]
        } else {
            [0, 0]
        };
        let took = if look.timing && self.took { 6 } else { 0 };
        let id = look.id.filter(|_| self.id).map_or(0, |id| 2 + id);
        let [tokens, cost] = numbers;
        let columns = [time, self.agent, self.model, tokens, cost, took];
        let columns = columns.iter().filter(|column| **column > 0);
        columns.map(|column| column + self.gap).sum::<usize>() + self.outcome + id
    }
}

//! A span as one line for people, in columns that stay aligned from line to line.

use std::{
    borrow::Cow,
    fmt::{self, Display, Write as _},
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use jiff::tz::TimeZone;

use super::{brief::Brief, layout::Layout, outcome::Status, usage::UsageSource};
use crate::base::{
    money::Usd,
    text::{Side, cut_end, filled, width},
};

/// How lines look.
#[derive(Clone, Debug)]
pub struct Look {
    /// The zone whose time is shown.
    pub zone: TimeZone,
    /// Whether the day is shown as well.
    pub date: bool,
    /// Whether there are colours.
    pub colors: bool,
    /// Whether the duration is shown.
    pub timing: bool,
    /// Whether tokens, cost and what is left of the budget are shown.
    pub tokens: bool,
    /// How many characters of the request's id are shown where there is room; none for no id.
    pub id: Option<usize>,
    /// The width that a line should fit, in columns, if there is one.
    pub room: Option<usize>,
}

impl Look {
    /// Everything, without colours.
    pub const fn plain(zone: TimeZone) -> Self {
        Self {
            zone,
            date: false,
            colors: false,
            timing: true,
            tokens: true,
            id: None,
            room: None,
        }
    }

    /// `text` in a colour, if there are colours.
    pub fn paint<T: Display>(&self, style: Style, text: T) -> impl Display {
        let style = if self.colors { style } else { Style::new() };
        Painted(style, text)
    }

    /// The time at which the span began.
    pub fn time(&self, span: &Brief<'_>) -> String {
        self.time_as(span, if self.date { "%F %T" } else { "%T" })
    }

    fn time_as(&self, span: &Brief<'_>, format: &str) -> String {
        let at = span.start.to_jiff().to_zoned(self.zone.clone());
        at.strftime(format).to_string()
    }

    /// The span as one line, without the line's end. It is no wider than there is room, as long as
    /// no amount has to be cut for that.
    pub fn line(&self, span: &Brief<'_>) -> String {
        let layout = Layout::fitting(self);
        let gap = layout.gap;
        let mut line = Line::new(self.room);
        let time = if layout.short_time && self.date {
            self.time_as(span, "%m-%d %H:%M")
        } else {
            self.time(span)
        };
        line.add(self, DIM, &time, gap);
        let agent = cell(span.agent.as_deref().unwrap_or("-"), layout.agent);
        line.add(self, AGENT, &agent, gap);
        let model = cell(span.model.as_deref().unwrap_or(&span.name), layout.model);
        line.add(self, PLAIN, &model, gap);
        let outcome = Self::words(span);
        let mut numbers = Vec::new();
        if self.tokens && layout.tokens > 0 {
            numbers.push((PLAIN, tokens(span, layout.tokens)));
        }
        if self.tokens {
            numbers.push((MONEY, cost(span, layout.cost)));
        }
        if self.timing && layout.took {
            numbers.push((PLAIN, format!("{:>6}", elapsed(span.duration))));
        }
        // What was stopped before it used anything has only its outcome to tell.
        let used: usize = numbers.iter().map(|(_, text)| width(text) + gap).sum();
        let unused = (span.input, span.output, span.cost.unwrap_or_default());
        let id = self.id.map_or(0, |id| 2 + id);
        if unused != (None, None, Usd::ZERO) || line.fits(used + width(&outcome) + id) {
            for (style, text) in numbers {
                line.add(self, style, &text, gap);
            }
        }
        let outcome = match line.left() {
            Some(room) => cut_end(&outcome, room),
            None => outcome,
        };
        line.add(self, Self::style(span), &outcome, 2);
        if let Some(attempt) = span.attempt {
            line.add_if_it_fits(self, DIM, &format!("attempt {attempt}"));
        }
        if let Some(left) = span.remaining.filter(|_| self.tokens) {
            line.add_if_it_fits(self, DIM, &format!("{} left", left.short()));
        }
        if let (Some(id), Some(length)) = (span.request_id, self.id) {
            let id: String = id.to_string().chars().take(length).collect();
            line.add_if_it_fits(self, DIM, &id);
        }
        line.text.truncate(line.text.trim_end().len());
        line.text
    }

    /// How the span ended, in a few words.
    pub fn outcome(&self, span: &Brief<'_>) -> String {
        self.outcome_within(span, None)
    }

    /// The same, in so many columns.
    pub fn outcome_within(&self, span: &Brief<'_>, room: Option<usize>) -> String {
        let words = Self::words(span);
        let words = room.map_or_else(|| words.clone(), |room| cut_end(&words, room));
        self.paint(Self::style(span), words).to_string()
    }

    fn words(span: &Brief<'_>) -> String {
        let by = |word: &str, name: &Option<Cow<'_, str>>| match name {
            Some(name) => format!("{word} {}", clean(name)),
            None => word.to_owned(),
        };
        match span.status {
            Status::Ok if span.blocked_by.is_some() => by("cut by", &span.blocked_by),
            Status::Ok => "ok".to_owned(),
            Status::Blocked => by("blocked by", &span.blocked_by),
            Status::Error => by("error", &span.error_type),
            Status::Cancelled => "cancelled".to_owned(),
        }
    }

    const fn style(span: &Brief<'_>) -> Style {
        match span.status {
            Status::Ok if span.blocked_by.is_none() => GOOD,
            Status::Error => BAD,
            _ => WARNING,
        }
    }
}

/// A line that grows, and how wide it is: colours take no columns.
struct Line {
    text: String,
    width: usize,
    room: Option<usize>,
}

impl Line {
    fn new(room: Option<usize>) -> Self {
        Self {
            text: String::with_capacity(160),
            width: 0,
            room,
        }
    }

    fn add(&mut self, look: &Look, style: Style, text: &str, gap: usize) {
        // Writing to a String cannot fail.
        let _ok = write!(self.text, "{}{:gap$}", look.paint(style, text), "");
        self.width += width(text) + gap;
    }

    fn add_if_it_fits(&mut self, look: &Look, style: Style, text: &str) {
        if self.fits(width(text)) {
            self.add(look, style, text, 2);
        }
    }

    fn left(&self) -> Option<usize> {
        self.room.map(|room| room.saturating_sub(self.width))
    }

    fn fits(&self, more: usize) -> bool {
        self.left().is_none_or(|left| more <= left)
    }
}

const PLAIN: Style = Style::new();

/// For what matters less.
pub const DIM: Style = Style::new().dimmed();
/// For names of agents.
pub const AGENT: Style = AnsiColor::Cyan.on_default();
/// For amounts of money.
pub const MONEY: Style = AnsiColor::Green.on_default().bold();
/// For what went well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// For what was stopped.
pub const WARNING: Style = AnsiColor::Yellow.on_default();
/// For what failed.
pub const BAD: Style = AnsiColor::Red.on_default();

struct Painted<T>(Style, T);

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:#}", self.0, self.1, self.0)
    }
}

/// `text` without characters that a terminal would obey: names come from whoever calls.
pub fn clean(text: &str) -> String {
    let safe = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(safe).collect()
}

/// `text`, cut or filled up to `room` columns.
fn cell(text: &str, room: usize) -> String {
    filled(&cut_end(&clean(text), room), room, Side::Left)
}

/// `1,204 → 345`, aligned at the arrow; `~` marks what was not reported.
fn tokens(span: &Brief<'_>, room: usize) -> String {
    let before = room.saturating_sub(3).div_ceil(2) + 1;
    let after = room.saturating_sub(before + 3);
    let mark = match span.usage_source {
        UsageSource::Reported | UsageSource::Absent => "",
        UsageSource::Estimated | UsageSource::Ceiling => "~",
    };
    let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), grouped);
    match (span.input, span.output) {
        (None, None) => " ".repeat(room),
        (input, output) => format!(
            "{:>before$} → {:<after$}",
            format!("{mark}{}", count(input)),
            count(output)
        ),
    }
}

/// An amount whose points are below each other; nine decimals at most, and as many as it has.
fn cost(span: &Brief<'_>, room: usize) -> String {
    const DECIMALS: usize = 9;
    let before = room.saturating_sub(DECIMALS + 1);
    let Some(cost) = span.cost else {
        // What is no call costs nothing itself.
        let unknown = if span.request_id.is_some() { "?" } else { "" };
        return format!("{unknown:>before$}{:after$}", "", after = DECIMALS + 1);
    };
    let text = cost.short().to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    format!("{whole:>before$}.{fraction:<DECIMALS$}")
}

/// A number with commas between its thousands: `12,345`.
pub fn grouped(number: u64) -> String {
    let mut text = String::with_capacity(16);
    push_grouped(number, &mut text);
    text
}

/// So many of something: `1 call`, `12,345 calls`.
pub fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(count))
}

/// Appends a number with commas between its thousands.
pub fn push_grouped(number: u64, text: &mut String) {
    if number < 1_000 {
        push_number(number, 1, text);
    } else {
        push_grouped(number / 1_000, text);
        text.push(',');
        push_number(number % 1_000, 3, text);
    }
}

/// Appends a number of at least so many digits. Digit by digit: the general way takes five times as
/// long, and a span has many numbers.
pub fn push_number(number: u64, digits: usize, text: &mut String) {
    if number >= 10 || digits > 1 {
        push_number(number / 10, digits.saturating_sub(1), text);
    }
    let digit = u8::try_from(number % 10).unwrap_or_default();
    text.push(char::from(b'0' + digit));
}

/// A duration in at most six characters: `812ms`, `1.24s`, `2m05s`.
pub fn elapsed(duration: Duration) -> String {
    let millis = duration.as_millis();
    match duration.as_secs() {
        0 => format!("{millis}ms"),
        1..60 => format!("{}.{:02}s", millis / 1_000, millis % 1_000 / 10),
        seconds @ 60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        seconds => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::span::{ATTEMPT, BUDGET_REMAINING, Value, tests::example},
        *,
    };

    fn line(span: &Brief<'_>) -> String {
        Look::plain(TimeZone::UTC).line(span)
    }

    #[test]
    fn a_call_is_one_line_that_says_it_all() {
        let mut span = example();
        let left = Value::Text(Box::from("4.370000000"));
        span.attributes.push((BUDGET_REMAINING, left));
        assert_eq!(
            line(&Brief::from(&span)),
            "06:25:14  support         gpt-4o-2024-08-06                 120 → 45          $0.000625      812ms  ok  $4.37 left"
        );
    }

    #[test]
    fn a_further_attempt_says_so() {
        let mut span = example();
        span.attributes.push((ATTEMPT, Value::Int(2)));
        let line = line(&Brief::from(&span));
        assert!(line.ends_with("ok  attempt 2"), "{line}");
    }

    #[test]
    fn an_unknown_cost_is_not_shown_as_zero() {
        let span = example();
        let brief = Brief {
            cost: None,
            ..Brief::from(&span)
        };
        let line = line(&brief);
        assert!(line.contains('?') && !line.contains('$'), "{line}");
    }

    #[test]
    fn columns_can_be_left_out() {
        let span = example();
        let look = Look {
            timing: false,
            tokens: false,
            ..Look::plain(TimeZone::UTC)
        };
        let line = look.line(&Brief::from(&span));
        assert_eq!(
            line,
            "06:25:14  support         gpt-4o-2024-08-06           ok"
        );
    }

    #[test]
    fn a_line_fits_the_terminal_and_keeps_its_amount() {
        let span = example();
        let shown = |room: usize, blocked: bool| {
            let mut brief = Brief::from(&span);
            if blocked {
                brief.status = Status::Blocked;
                brief.blocked_by = Some(Cow::Borrowed("budget.research"));
                (brief.input, brief.output, brief.cost) = (None, None, Some(Usd::ZERO));
            }
            let look = Look {
                id: Some(16),
                room: Some(room),
                ..Look::plain(TimeZone::UTC)
            };
            look.line(&brief)
        };
        assert_eq!(
            shown(80, false),
            "06:25:14 support   gpt-4o-2024-08-…     120 → 45   $0.000625     812ms ok"
        );
        assert_eq!(
            shown(80, true),
            "06:25:14 support   gpt-4o-2024-08-… blocked by budget.research  0303030303030303"
        );
        assert!(shown(100, false).ends_with("ok  0303030303030303"));
        for room in 53..200 {
            for blocked in [false, true] {
                let line = shown(room, blocked);
                assert!(width(&line) <= room, "{room}: {line}");
                assert!(blocked || line.contains("$0.000625 "), "{room}: {line}");
            }
        }
    }

    #[test]
    fn every_ending_has_its_words() {
        let span = example();
        let says = |status, by: Option<&'static str>, error: Option<&'static str>| {
            let brief = Brief {
                status,
                blocked_by: by.map(Cow::Borrowed),
                error_type: error.map(Cow::Borrowed),
                ..Brief::from(&span)
            };
            Look::plain(TimeZone::UTC).outcome(&brief)
        };
        let by = Some("budget.daily");
        assert_eq!(says(Status::Ok, None, None), "ok");
        assert_eq!(says(Status::Ok, by, None), "cut by budget.daily");
        assert_eq!(says(Status::Blocked, by, None), "blocked by budget.daily");
        assert_eq!(says(Status::Error, None, Some("timeout")), "error timeout");
        assert_eq!(says(Status::Cancelled, None, None), "cancelled");
    }

    #[test]
    fn durations_and_numbers_are_short() {
        let shown = |millis| elapsed(Duration::from_millis(millis));
        assert_eq!(shown(999), "999ms");
        assert_eq!(shown(1_240), "1.24s");
        assert_eq!(shown(125_000), "2m05s");
        assert_eq!(shown(7_260_000), "2h01m");
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_002_067), "1,002,067");
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
    }

    proptest! {
        #[test]
        fn no_name_reaches_the_terminal_as_a_command(agent in ".*", model in ".*") {
            let span = example();
            let brief = Brief {
                agent: Some(Cow::Owned(agent)),
                model: Some(Cow::Owned(model)),
                ..Brief::from(&span)
            };
            prop_assert!(!line(&brief).contains(char::is_control));
        }
    }
}

//! A span as one line for people, in columns that stay aligned from line to line.

use std::{
    borrow::Cow,
    fmt::{self, Display, Write as _},
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use jiff::tz::TimeZone;

use super::{brief::Brief, outcome::Status, usage::UsageSource};
use crate::base::money::Usd;

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
        }
    }

    /// `text` in a colour, if there are colours.
    pub fn paint<T: Display>(&self, style: Style, text: T) -> impl Display {
        let style = if self.colors { style } else { Style::new() };
        Painted(style, text)
    }

    /// The time at which the span began.
    pub fn time(&self, span: &Brief<'_>) -> String {
        let at = span.start.to_jiff().to_zoned(self.zone.clone());
        let format = if self.date { "%F %T" } else { "%T" };
        at.strftime(format).to_string()
    }

    /// The span as one line, without the line's end.
    pub fn line(&self, span: &Brief<'_>) -> String {
        let mut line = String::with_capacity(160);
        // Writing to a String cannot fail.
        let _ok = self.write(span, &mut line);
        line.truncate(line.trim_end().len());
        line
    }

    fn write(&self, span: &Brief<'_>, out: &mut String) -> fmt::Result {
        let agent = column(span.agent.as_deref().unwrap_or("-"), 14);
        let model = column(span.model.as_deref().unwrap_or(&span.name), 26);
        write!(out, "{}  ", self.paint(DIM, self.time(span)))?;
        write!(out, "{}  {model}  ", self.paint(AGENT, agent))?;
        if self.tokens {
            write!(out, "{}  ", tokens(span))?;
            write!(out, "{}  ", self.paint(MONEY, cost(span.cost)))?;
        }
        if self.timing {
            write!(out, "{:>6}  ", elapsed(span.duration))?;
        }
        write!(out, "{}", self.outcome(span))?;
        if let Some(left) = span.remaining.filter(|_| self.tokens) {
            let left = format!("{} left", left.short());
            write!(out, "  {}", self.paint(DIM, left))?;
        }
        Ok(())
    }

    /// How the span ended, in a few words.
    pub fn outcome(&self, span: &Brief<'_>) -> String {
        let by = |word: &str, name: &Option<Cow<'_, str>>| match name {
            Some(name) => format!("{word} {}", clean(name)),
            None => word.to_owned(),
        };
        let words = match span.status {
            Status::Ok if span.blocked_by.is_some() => by("cut by", &span.blocked_by),
            Status::Ok => "ok".to_owned(),
            Status::Blocked => by("blocked by", &span.blocked_by),
            Status::Error => by("error", &span.error_type),
            Status::Cancelled => "cancelled".to_owned(),
        };
        let style = match span.status {
            Status::Ok if span.blocked_by.is_none() => GOOD,
            Status::Error => BAD,
            _ => WARNING,
        };
        self.paint(style, words).to_string()
    }
}

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

/// `text`, cut or filled up to `width` characters.
fn column(text: &str, width: usize) -> String {
    let text = clean(text);
    if text.chars().count() <= width {
        return format!("{text:<width$}");
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// `1,204 → 345`, aligned at the arrow; `~` marks what was not reported.
fn tokens(span: &Brief<'_>) -> String {
    let mark = match span.usage_source {
        UsageSource::Reported | UsageSource::Absent => "",
        UsageSource::Estimated | UsageSource::Ceiling => "~",
    };
    let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), grouped);
    match (span.input, span.output) {
        (None, None) => format!("{:>19}", ""),
        (input, output) => format!(
            "{:>9} → {:<7}",
            format!("{mark}{}", count(input)),
            count(output)
        ),
    }
}

/// An amount whose points are below each other; nine decimals at most, and as many as it has.
fn cost(cost: Option<Usd>) -> String {
    let Some(cost) = cost else {
        return format!("{:>5}{:10}", "?", "");
    };
    let text = cost.short().to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    format!("{whole:>5}.{fraction:<9}")
}

/// A number with commas between its thousands: `12,345`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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
        super::span::{BUDGET_REMAINING, Value, tests::example},
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
        assert_eq!(grouped(1_234_567), "1,234,567");
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

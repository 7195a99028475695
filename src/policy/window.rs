//! How long what was spent counts. A calendar window is named by its first instant; a rolling one
//! is 60 aligned cells, each named by its first instant.

use std::{fmt, str::FromStr, time::Duration};

use jiff::{ToSpan as _, Zoned, civil::Weekday, tz::TimeZone};
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, de};

use crate::base::{
    clock::Timestamp,
    units::{parse_duration, show_duration},
};

/// The length of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// A calendar minute.
    Minute,
    /// A calendar hour.
    Hour,
    /// A calendar day: 23 to 25 hours where the zone says so.
    Day,
    /// Monday to Sunday.
    Week,
    /// A calendar month.
    Month,
    /// Without end.
    Total,
    /// Any stretch of this length; at least a minute.
    Rolling(Duration),
}

/// The text is not a window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a window: expected minute, hour, day, week, month, total, or a rolling length \
     of a minute to a year, like \"6h\""
)]
pub struct InvalidWindow(String);

impl Window {
    /// How many cells a rolling window has.
    pub const CELLS: u64 = 60;

    const SHORTEST: Duration = Duration::from_mins(1);
    const LONGEST: Duration = Duration::from_hours(366 * 24);
}

impl FromStr for Window {
    type Err = InvalidWindow;

    fn from_str(text: &str) -> Result<Self, InvalidWindow> {
        Ok(match text {
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Month,
            "total" => Self::Total,
            _ => parse_duration(text)
                .ok()
                .filter(|length| (Self::SHORTEST..=Self::LONGEST).contains(length))
                .map(Self::Rolling)
                .ok_or_else(|| InvalidWindow(text.to_owned()))?,
        })
    }
}

/// As it is written in the configuration.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Total => "total",
            Self::Rolling(length) => return write!(f, "{}", show_duration(*length)),
        })
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// A stretch of time from `start` up to, but not including, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The first instant.
    pub(super) start: Timestamp,
    /// The first instant after it; `None` for a window without end.
    pub(super) end: Option<Timestamp>,
}

impl Stretch {
    fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && self.end.is_none_or(|end| at < end)
    }
}

/// A window in a time zone. Remembers the present stretch, since the calendar is slow.
#[derive(Debug)]
pub(super) struct Calendar {
    window: Window,
    zone: TimeZone,
    present: Mutex<Stretch>,
}

impl Calendar {
    /// `window` by the calendar of `zone`.
    pub(super) fn new(window: Window, zone: TimeZone) -> Self {
        let nothing = Stretch {
            start: Timestamp::default(),
            end: Some(Timestamp::default()),
        };
        Self {
            window,
            zone,
            present: Mutex::new(nothing),
        }
    }

    /// The window.
    pub(super) const fn window(&self) -> Window {
        self.window
    }

    /// The window that `now` is in. A rolling one ends now and began its length ago; a window
    /// without end began at zero.
    pub(super) fn at(&self, now: Timestamp) -> Stretch {
        match self.window {
            Window::Total => Stretch {
                start: Timestamp::default(),
                end: None,
            },
            Window::Rolling(length) => Stretch {
                start: now - length,
                end: Some(now),
            },
            _ => {
                let mut present = self.present.lock();
                if !present.contains(now) {
                    *present = self.find(now);
                }
                *present
            },
        }
    }

    fn find(&self, now: Timestamp) -> Stretch {
        let even = |length: u64| {
            // The clock's minutes and hours, also where the zone is off by half an hour.
            let offset = i64::from(self.zone.to_offset(now.to_jiff()).seconds());
            let secs = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            let into = (secs.saturating_add(offset)).rem_euclid(i64::try_from(length).unwrap_or(1));
            let start = now.as_secs().saturating_sub(into.unsigned_abs());
            Stretch {
                start: Timestamp::from_secs(start),
                end: Some(Timestamp::from_secs(start.saturating_add(length))),
            }
        };
        match self.window {
            Window::Minute => even(60),
            Window::Hour => even(3_600),
            _ => self.find_days(now).unwrap_or(Stretch {
                // Beyond the year 9999, which no clock shows by mistake.
                start: now,
                end: None,
            }),
        }
    }

    fn find_days(&self, now: Timestamp) -> Result<Stretch, jiff::Error> {
        let today = now.to_jiff().to_zoned(self.zone.clone()).start_of_day()?;
        let (first, length) = match self.window {
            Window::Week => {
                let since_monday = today.weekday().since(Weekday::Monday);
                (today.checked_sub(since_monday.days())?, 1.week())
            },
            Window::Month => (today.first_of_month()?, 1.month()),
            _ => (today, 1.day()),
        };
        let start = first.start_of_day()?;
        let end = start.checked_add(length)?.start_of_day()?;
        Ok(Stretch {
            start: instant(&start),
            end: Some(instant(&end)),
        })
    }
}

fn instant(zoned: &Zoned) -> Timestamp {
    let nanos = zoned.timestamp().as_nanosecond();
    Timestamp::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3_600;

    fn at(text: &str) -> Timestamp {
        let at: jiff::Timestamp = text.parse().unwrap();
        Timestamp::from_nanos(u64::try_from(at.as_nanosecond()).unwrap())
    }

    fn calendar(window: Window, zone: &str) -> Calendar {
        Calendar::new(window, TimeZone::get(zone).unwrap())
    }

    fn hours(stretch: Stretch) -> u64 {
        stretch.end.unwrap().since(stretch.start).as_secs() / HOUR
    }

    #[test]
    fn days_have_23_to_25_hours_where_the_zone_says_so() {
        let berlin = calendar(Window::Day, "Europe/Berlin");
        let spring = berlin.at(at("2026-03-29T12:00:00Z"));
        assert_eq!(spring.start, at("2026-03-28T23:00:00Z"));
        assert_eq!(hours(spring), 23);
        assert_eq!(hours(berlin.at(at("2026-10-25T12:00:00Z"))), 25);
        assert_eq!(hours(berlin.at(at("2026-10-26T12:00:00Z"))), 24);
    }

    #[test]
    fn a_day_that_begins_at_one_o_clock_begins_there() {
        // Beirut turns its clocks at midnight: the first instant of that day is 01:00.
        let beirut = calendar(Window::Day, "Asia/Beirut");
        let day = beirut.at(at("2026-03-29T12:00:00Z"));
        assert_eq!(day.start, at("2026-03-28T22:00:00Z"));
        assert_eq!(hours(day), 23);
    }

    #[test]
    fn weeks_begin_on_monday_and_months_on_the_first() {
        let now = at("2026-11-25T15:00:00Z"); // a Wednesday
        let week = calendar(Window::Week, "UTC").at(now);
        assert_eq!(week.start, at("2026-11-23T00:00:00Z"));
        assert_eq!(hours(week), 7 * 24);
        let month = calendar(Window::Month, "America/New_York").at(now);
        assert_eq!(month.start, at("2026-11-01T04:00:00Z"));
        assert_eq!(month.end, Some(at("2026-12-01T05:00:00Z")));
    }

    #[test]
    fn zones_are_known_where_the_system_has_none() {
        let built_in = jiff::tz::TimeZoneDatabase::bundled();
        for name in ["Europe/Berlin", "Asia/Kolkata", "America/New_York"] {
            assert!(built_in.get(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn hours_follow_the_clock_on_the_wall() {
        let kolkata = calendar(Window::Hour, "Asia/Kolkata");
        let hour = kolkata.at(at("2026-11-25T15:10:00Z"));
        assert_eq!(hour.start, at("2026-11-25T14:30:00Z"));
    }

    #[test]
    fn windows_are_read_as_they_are_printed() {
        for text in [
            "minute", "hour", "day", "week", "month", "total", "6h", "90m",
        ] {
            assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
        for text in ["", "fortnight", "10s", "3000d", "-1h"] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn windows_follow_each_other_without_gap_or_overlap(
            secs in 1_000_000_000_u64..3_000_000_000,
            window in prop::sample::select(vec![
                Window::Minute, Window::Hour, Window::Day, Window::Week, Window::Month,
            ]),
            zone in prop::sample::select(vec![
                "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Beirut",
            ]),
        ) {
            let calendar = calendar(window, zone);
            let now = Timestamp::from_secs(secs);
            let this = calendar.at(now);
            let end = this.end.unwrap();
            prop_assert!(this.start <= now && now < end);
            prop_assert_eq!(calendar.at(this.start), this);
            prop_assert_eq!(calendar.at(end - Duration::from_nanos(1)), this);
            prop_assert_eq!(calendar.at(end).start, end);
        }
    }
}

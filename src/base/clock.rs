//! Time. The only file that asks the operating system what time it is; everybody else is told.

use std::{
    fmt,
    ops::{Add, Sub},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Monotonic time (tokio's, so that paused tests move it). Compare and subtract; never print.
pub type Instant = tokio::time::Instant;

/// Wall-clock time, in nanoseconds since the Unix epoch. Chooses windows and dates; durations are
/// measured with [`Instant`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From nanoseconds since the Unix epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// From whole seconds since the Unix epoch.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Microseconds since the Unix epoch, rounded down.
    pub const fn as_micros(self) -> u64 {
        self.0 / 1_000
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later (the wall clock can step).
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// As a calendar value in UTC, for printing and for windows. Saturates at jiff's range.
    pub fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or(jiff::Timestamp::MAX)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl Timestamp {
    /// The characters of the time, as it is printed.
    pub fn digits(self) -> [u8; 27] {
        // By hand, since every span prints two: civil-from-days over 400-year eras (H. Hinnant).
        let micros = self.as_micros();
        let (secs, micros) = (micros / 1_000_000, micros % 1_000_000);
        let (days, second) = (secs / 86_400, secs % 86_400);
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        for (end, mut number) in [
            (4, year),
            (7, month),
            (10, day),
            (13, second / 3_600),
            (16, second / 60 % 60),
            (19, second % 60),
            (26, micros),
        ] {
            // From the last digit to the separator before the first.
            let places = text.iter_mut().take(end).rev();
            for place in places.take_while(|place| place.is_ascii_digit()) {
                *place = b'0' + u8::try_from(number % 10).unwrap_or(0);
                number /= 10;
            }
        }
        text
    }
}

/// RFC 3339 in UTC with microseconds: `2026-11-22T06:25:14.017417Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

/// Where the time comes from. Held by whatever does I/O; pure code takes a [`Timestamp`].
pub trait Clock: Send + Sync + 'static {
    /// The wall clock.
    fn wall(&self) -> Timestamp;

    /// The monotonic clock.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    fn mono(&self) -> Instant {
        Instant::now()
    }
}

/// The operating system's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    fn wall(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// A wall clock that tests set by hand; it stands still until it is told to move, and may step back.
#[derive(Debug, Default)]
pub struct TestClock(std::sync::atomic::AtomicU64);

impl TestClock {
    /// A clock that stands at `now`.
    pub const fn at(now: Timestamp) -> Self {
        Self(std::sync::atomic::AtomicU64::new(now.0))
    }

    /// Moves the clock to `now`, forwards or backwards.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.0, std::sync::atomic::Ordering::Relaxed);
    }

    /// Moves the clock forwards.
    pub fn advance(&self, by: Duration) {
        self.set(self.wall() + by);
    }
}

impl Clock for TestClock {
    fn wall(&self) -> Timestamp {
        Timestamp(self.0.load(std::sync::atomic::Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_prints_as_rfc_3339_in_utc() {
        let at = Timestamp::from_nanos(1_795_328_714_017_417_999);
        assert_eq!(at.to_string(), "2026-11-22T06:25:14.017417Z");
    }

    #[test]
    fn printing_agrees_with_a_calendar_library_over_two_centuries() {
        for day in 0..73_000_u64 {
            let at = Timestamp::from_secs(day * 86_400 + day % 86_400);
            assert_eq!(at.to_string(), format!("{:.6}", at.to_jiff()));
        }
    }

    #[test]
    fn a_clock_that_steps_back_gives_no_negative_time() {
        let clock = TestClock::at(Timestamp::from_secs(100));
        let before = clock.wall();
        clock.set(Timestamp::from_secs(40));
        assert_eq!(clock.wall().since(before), Duration::ZERO);
    }
}

//! Moments as people write them: a date, a time, or how long ago.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{clock::Timestamp, units::parse_duration};

/// The text is not a moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a moment: expected a time like 2026-11-22T06:25:14Z, a day like 2026-11-22 (UTC), \
     or a length of time like 24h"
)]
pub struct InvalidMoment(String);

/// A moment in the past: `24h` is a day before `now`.
///
/// # Errors
/// The text is not a moment.
pub fn ago(text: &str, now: Timestamp) -> Result<Timestamp, InvalidMoment> {
    let length = parse_duration(text).ok();
    length.map_or_else(|| exact(text), |length| Ok(now - length))
}

/// A moment to come: `24h` is a day after `now`.
///
/// # Errors
/// The text is not a moment.
pub fn ahead(text: &str, now: Timestamp) -> Result<Timestamp, InvalidMoment> {
    let length = parse_duration(text).ok();
    length.map_or_else(|| exact(text), |length| Ok(now + length))
}

/// A time with its zone, one in UTC, or the first instant of a day in UTC.
fn exact(text: &str) -> Result<Timestamp, InvalidMoment> {
    let text = text.trim();
    let zoned = || text.parse::<jiff::Timestamp>().ok();
    let civil = || {
        let time: jiff::civil::DateTime = text.parse().ok()?;
        let zoned = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(zoned.timestamp())
    };
    zoned()
        .or_else(civil)
        .and_then(|time| u64::try_from(time.as_nanosecond()).ok())
        .map(Timestamp::from_nanos)
        .ok_or_else(|| InvalidMoment(text.to_owned()))
}

/// As it is shown.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A time with its zone, one in UTC, or a day.
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        exact(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_length_of_time_a_day_or_an_instant() {
        let now = Timestamp::from_secs(1_795_618_800);
        let shown = |text| ago(text, now).unwrap().to_string();
        assert_eq!(shown("1h"), "2026-11-25T14:00:00.000000Z");
        assert_eq!(shown("2026-11-22"), "2026-11-22T00:00:00.000000Z");
        assert_eq!(shown("2026-11-22T06:25:14Z"), "2026-11-22T06:25:14.000000Z");
        assert_eq!(
            shown("2026-11-22T06:25:14+02:00"),
            "2026-11-22T04:25:14.000000Z"
        );
        assert_eq!(shown("2026-11-22T06:25"), "2026-11-22T06:25:00.000000Z");
        assert_eq!(ahead("1h", now).unwrap().since(now).as_secs(), 3_600);
        for text in ["", "yesterday", "2026-13-01", "1900-01-01"] {
            let error = ago(text, now).unwrap_err().to_string();
            assert!(error.contains("24h"), "{error}");
        }
    }
}

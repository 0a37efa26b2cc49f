//! When a record was made: one instant in the three forms that services ask for.

use chrono::{DateTime, SecondsFormat, Utc};

/// RFC 3339, UTC, in seconds.
pub fn in_seconds(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// RFC 3339, UTC, in milliseconds, as JavaScript's `toISOString` writes it.
pub fn in_milliseconds(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Seconds since 1970, to the microsecond. For a time of today, an `f64` holds no more digits.
pub fn epoch(time: DateTime<Utc>) -> f64 {
    time.timestamp_micros() as f64 / 1e6
}

/// Reads an RFC 3339 time, as whole seconds since 1970.
pub fn parse(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_any_clock() {
        for ((whole, part), seconds, milliseconds, in_epoch) in [
            ((1_698_835_583, 0), "2023-11-01T10:46:23Z", "2023-11-01T10:46:23.000Z", 1_698_835_583.0),
            ((1_665_000_000, 123_456_789), "2022-10-05T20:00:00Z", "2022-10-05T20:00:00.123Z", 1_665_000_000.123456),
            ((0, 0), "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z", 0.0),
            ((-1, 500_000_000), "1969-12-31T23:59:59Z", "1969-12-31T23:59:59.500Z", -0.5),
            ((7_258_118_400, 0), "2200-01-01T00:00:00Z", "2200-01-01T00:00:00.000Z", 7_258_118_400.0),
        ] {
            let time = DateTime::from_timestamp(whole, part).unwrap();
            assert_eq!((&*in_seconds(time), &*in_milliseconds(time)), (seconds, milliseconds));
            assert_eq!(epoch(time), in_epoch);
        }
        let precise = DateTime::from_timestamp(1_665_000_000, 123_456_789).unwrap();
        assert_eq!(serde_json::Value::from(epoch(precise)).to_string(), "1665000000.123456");
    }
}

//! `Retry-After` (RFC 9110, 10.2.3): how long a server that has too much to do asks to be left alone.

use std::time::Duration;

use chrono::NaiveDateTime;

use super::message::MAX_RETRY_AFTER;

/// The pause that `value` asks for at `now` (seconds since 1970, by the server's clock where it tells its own): a
/// number of seconds, or a date that has passed or is to come. At most [`MAX_RETRY_AFTER`], because a record must not
/// be put off for ever by one answer; `None` when it is neither.
pub fn parse(value: &str, now: i64) -> Option<Duration> {
    let value = value.trim();
    let seconds = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that are no u64 are a time beyond any limit.
        value.parse().unwrap_or(u64::MAX)
    } else {
        u64::try_from(http_date(value)?.saturating_sub(now)).unwrap_or(0)
    };
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// The seconds since 1970 of an HTTP-date (RFC 9110, 5.6.7), in each of its three forms, all of which a recipient must
/// accept. The day of the week, with which they begin, says nothing new.
pub fn http_date(text: &str) -> Option<i64> {
    const FORMS: [&str; 3] = ["%d %b %Y %H:%M:%S GMT", "%d-%b-%y %H:%M:%S GMT", "%b %e %H:%M:%S %Y"];
    let (_, text) = text.split_once(' ')?;
    let date = FORMS.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())?;
    Some(date.and_utc().timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT

    #[test]
    fn dates_in_all_three_forms() {
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(NOW)),
            ("Sun Nov  6 08:49:37 1994", Some(NOW)),
            ("Sun Nov 16 08:49:37 1994", Some(NOW + 10 * 86_400)),
            ("Thursday, 06-Nov-25 08:49:37 GMT", Some(1_762_418_977)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Wed, 31 Dec 1969 23:59:59 GMT", Some(-1)),
            ("Sat, 31 Dec 2016 23:59:60 GMT", Some(1_483_228_799)),
            ("Sat, 31 Dec 2016 23:59:61 GMT", None),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799)),
            ("Thu, 31 Feb 2030 00:00:00 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 PST", None),
            ("Sun, 06 Nov 1994 24:00:00 GMT", None),
            ("Sun, 06 Nov 1994 08:49 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37:00 GMT", None),
            ("Sun, 06 Nov 1994 8:49:37 GMT", Some(NOW)),
            ("Sun, 06 nov 1994 08:49:37 GMT", Some(NOW)),
            ("1994-11-06T08:49:37Z", None),
            ("tomorrow", None),
            ("", None),
        ] {
            assert_eq!(http_date(text), expected, "{text}");
        }
    }

    #[test]
    fn seconds_or_a_date_up_to_a_week() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (value, expected) in [
            ("0", seconds(0)),
            ("120", seconds(120)),
            (" 120 ", seconds(120)),
            ("604801", Some(MAX_RETRY_AFTER)),
            ("99999999999999999999999999", Some(MAX_RETRY_AFTER)),
            ("Sun, 06 Nov 1994 08:51:37 GMT", seconds(120)),
            ("Sun Nov  6 08:49:37 1994", seconds(0)),
            ("Sat, 05 Nov 1994 08:49:37 GMT", seconds(0)),
            ("Sun, 06 Nov 2094 08:49:37 GMT", Some(MAX_RETRY_AFTER)),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(parse(value, NOW), expected, "{value}");
        }
    }
}

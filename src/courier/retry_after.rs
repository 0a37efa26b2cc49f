//! `Retry-After` (RFC 9110, 10.2.3): how long a server that has too much to do asks to be left alone.

use std::time::Duration;

use chrono::NaiveDate;

use super::job::MAX_RETRY_AFTER;

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
/// accept: `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT`, `Sun Nov  6 08:49:37 1994`.
pub fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // All three begin with the day of the week, which says nothing new.
    let words: Vec<&str> = text.split([' ', ',', '-']).filter(|word| !word.is_empty()).skip(1).collect();
    let (year, month, day, time) = match *words.as_slice() {
        [day, month, year, time, "GMT"] => (year, month, day, time),
        [month, day, time, year] => (year, month, day, time),
        _ => return None,
    };
    let year = match year.len() {
        // RFC 850 has two digits; a time to wait until is not in the last century.
        2 => 2000 + number(year)?,
        4 => number(year)?,
        _ => return None,
    };
    let month = MONTHS.iter().position(|name| *name == month)? as u32 + 1;
    let mut time = time.split(':').map(|part| number(part).filter(|_| part.len() == 2));
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let date = NaiveDate::from_ymd_opt(year as i32, month, number(day)?)?;
    // A leap second (60) has no number of its own in what is counted from 1970.
    let second = if second == 60 { 59 } else { second };
    let at = date.and_hms_opt(hour, minute, second)?;
    time.next().is_none().then(|| at.and_utc().timestamp())
}

/// At most four digits; `parse` alone would take a sign.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT

    #[test]
    fn dates_in_all_three_forms_and_nothing_else() {
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
            ("Sun, 06 Nov 1994 8:49:37 GMT", None),
            ("Sun, 06 nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 01994 08:49:37 GMT", None),
            ("Sun, 06 Nov -994 08:49:37 GMT", None),
            ("Sun, 06 Nov +994 08:49:37 GMT", None),
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

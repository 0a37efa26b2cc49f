//! Seconds with a fraction, as people give them and /proc shows them. By whole numbers: the general way to read a float
//! costs 15 KB, and knows numbers such as `inf` that no wait can have.

use std::time::Duration;

/// Reads `2`, `0.25`, `.5` or `3.`, to the nanosecond; `None` for anything else, signs and exponents included.
pub fn parse(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let seconds = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let nanoseconds = format!("{fraction:0<9}");
    Some(Duration::new(seconds, nanoseconds[..9].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_number_of_seconds() {
        for (text, expected) in [
            ("2", Some(Duration::from_secs(2))),
            ("0.25", Some(Duration::from_millis(250))),
            (".5", Some(Duration::from_millis(500))),
            ("3.", Some(Duration::from_secs(3))),
            ("007.0000000019", Some(Duration::new(7, 1))),
            ("18446744073709551615.999999999", Some(Duration::MAX)),
            ("18446744073709551616", None),
            ("", None),
            (".", None),
            ("-1", None),
            ("+1", None),
            ("1e3", None),
            ("inf", None),
            ("1.2.3", None),
            ("1,5", None),
            ("2 s", None),
            ("\u{0662}", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}

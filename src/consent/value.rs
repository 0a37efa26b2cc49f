//! What a value means: the one table that every source of a "no" shares.

/// Whether `value` says no. Unset, empty, `0`, `false`, `no` and `off` (trimmed, any case) are no opinion; every
/// other value, junk and non-UTF-8 included, is a no: doubt is on the administrator's side.
pub fn says_no(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    ![&b""[..], b"0", b"false", b"no", b"off"].iter().any(|negative| value.eq_ignore_ascii_case(negative))
}

/// Whether a variable that asks for something is set. The table is the same, so nobody has to learn a second one.
pub use self::says_no as is_set;

#[cfg(test)]
mod tests {
    use super::says_no;

    #[test]
    fn every_class_of_value() {
        for opinionless in ["", " ", "\t\n", "0", "false", "no", "off", "FALSE", "No", "oFf", " 0 ", "\tfalse\n"] {
            assert!(!says_no(opinionless.as_bytes()), "{opinionless:?}");
        }
        for no in ["1", "true", "yes", "on", "2", "-1", "00", "0.0", "junk", "nope", "0 0", "$(id)", "'0'", "\u{a0}"] {
            assert!(says_no(no.as_bytes()), "{no:?}");
        }
        assert!(says_no(b"\xff\xfe"));
        assert!(says_no(&[b'x'; 65536]));
    }
}

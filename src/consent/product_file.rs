//! A product's own way to say no: a line of its configuration file, a key of a JSON file.
//!
//! Pure: text in, verdict out. The rules are a profile's, the reading is [`super`]'s.

use std::fmt;

use serde_json::Value;

use crate::profile::file_path::FilePath;

/// One rule of a profile about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRule {
    /// The file.
    pub path: FilePath,
    /// What in it says no.
    pub says_no: SaysNo,
    /// Whether `install-record off` writes that no there as well, and `on` takes it back.
    pub is_written: bool,
}

/// What in a file says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaysNo {
    /// A boolean flag of a gflags flagfile that is off: `--flag=false`, `--noflag`; the last line counts.
    Gflag(String),
    /// A JSON value that is false.
    False(Pointer),
    /// A JSON value that is true: `true`, 1, and both as texts.
    True(Pointer),
    /// A JSON value that is not there or empty, the whole file included.
    Absent(Pointer),
}

/// A JSON Pointer, RFC 6901.
pub type Pointer = String;

impl SaysNo {
    /// Whether a file that is not there says no.
    pub fn by_absence(&self) -> bool {
        matches!(self, SaysNo::Absent(_))
    }

    /// Whether `text` says no; what cannot be understood does.
    pub fn found_in(&self, text: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(text) else { return true };
        let json = || serde_json::from_str::<Value>(text).ok();
        match self {
            SaysNo::Gflag(flag) => gflag_is_off(text, flag),
            SaysNo::False(pointer) => json().is_none_or(|json| match json.pointer(pointer) {
                None | Some(Value::Null) => false,
                Some(value) => !is_true(value),
            }),
            SaysNo::True(pointer) => json().is_none_or(|json| match json.pointer(pointer) {
                None | Some(Value::Null | Value::Bool(false)) => false,
                Some(Value::String(text)) => super::value::says_no(text.as_bytes()),
                Some(value) => value.as_f64() != Some(0.0),
            }),
            SaysNo::Absent(pointer) => json().is_none_or(|json| match json.pointer(pointer) {
                None | Some(Value::Null | Value::Bool(false)) => true,
                Some(Value::String(text)) => text.trim().is_empty(),
                Some(_) => false,
            }),
        }
    }
}

impl fmt::Display for FileRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.as_str())?;
        match &self.says_no {
            SaysNo::Gflag(flag) => write!(f, "--{flag}=false"),
            SaysNo::False(pointer) => write!(f, "{pointer} is false"),
            SaysNo::True(pointer) => write!(f, "{pointer} is true"),
            SaysNo::Absent(pointer) => write!(f, "{pointer} is absent or empty"),
        }?;
        f.write_str(if self.is_written { "; written by install-record off" } else { "" })
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(is_true) => *is_true,
        Value::String(text) => ["true", "1", "yes", "on"].iter().any(|yes| text.trim().eq_ignore_ascii_case(yes)),
        number => number.as_f64() == Some(1.0),
    }
}

/// gflags' flagfile syntax: one or two dashes, `-` and `_` alike, `no` before a boolean flag, `#` comments
/// (gflags, "How to use", section on flagfiles; its FlagValue::ParseFrom for the words).
fn gflag_is_off(text: &str, flag: &str) -> bool {
    let flag = flag.replace('_', "-");
    let mut is_off = false;
    for line in text.lines().map(str::trim) {
        let Some(line) = line.strip_prefix("--").or_else(|| line.strip_prefix('-')) else { continue };
        let (name, value) = line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value)));
        let name = name.trim().replace('_', "-");
        if name == flag {
            let on = ["1", "t", "true", "y", "yes"];
            is_off = value.is_some_and(|value| !on.iter().any(|on| value.trim().eq_ignore_ascii_case(on)));
        } else if name.strip_prefix("no") == Some(&flag) {
            is_off = true;
        }
    }
    is_off
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gflags_in_all_spellings() {
        for (text, no) in [
            ("--telemetry-enabled=false\n", true),
            ("--telemetry_enabled=0", true),
            ("-telemetry-enabled=F\r\n", true),
            ("--notelemetry-enabled", true),
            ("--notelemetry_enabled\n", true),
            ("  --telemetry-enabled = no", true),
            ("--telemetry-enabled=junk", true),
            ("--telemetry-enabled=", true),
            ("--telemetry-enabled=true", false),
            ("--telemetry-enabled", false),
            ("--telemetry-enabled=false\n--telemetry-enabled=true\n", false),
            ("--telemetry-enabled=true\n--telemetry-enabled=false\n", true),
            ("# --telemetry-enabled=false\n", false),
            ("--telemetry-enabled-too=false\n--log=x\n", false),
            ("", false),
        ] {
            assert_eq!(SaysNo::Gflag("telemetry-enabled".into()).found_in(text.as_bytes()), no, "{text:?}");
        }
        assert!(SaysNo::Gflag("x".into()).found_in(b"\xff"));
    }

    #[test]
    fn json_keys() {
        let (off, on, absent) =
            (SaysNo::False("/t/v".into()), SaysNo::True("/t/v".into()), SaysNo::Absent("/t/v".into()));
        for (text, is_false, is_true, is_absent) in [
            (r#"{"t":{"v":false}}"#, true, false, true),
            (r#"{"t":{"v":true}}"#, false, true, false),
            (r#"{"t":{"v":"true"}}"#, false, true, false),
            (r#"{"t":{"v":"1"}}"#, false, true, false),
            (r#"{"t":{"v":1}}"#, false, true, false),
            (r#"{"t":{"v":0}}"#, true, false, false),
            (r#"{"t":{"v":"no"}}"#, true, false, false),
            (r#"{"t":{"v":"junk"}}"#, true, true, false),
            (r#"{"t":{"v":""}}"#, true, false, true),
            (r#"{"t":{"v":null}}"#, false, false, true),
            (r#"{"t":{}}"#, false, false, true),
            ("[]", false, false, true),
            ("", true, true, true),
            ("{", true, true, true),
        ] {
            let found = [&off, &on, &absent].map(|rule| rule.found_in(text.as_bytes()));
            assert_eq!(found, [is_false, is_true, is_absent], "{text}");
        }
    }
}

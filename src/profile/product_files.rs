//! What a product's own file says: a flag of a gflags flagfile, a value of a JSON file.

use serde::de::Error;
use serde_json::Value;

use crate::facts;

/// The value at a JSON Pointer as a text, without blanks around it; `None` where there is none, or null.
///
/// # Errors
/// Where `text` is no JSON, or what should hold the value is neither an object nor an array.
pub fn json_text(text: &[u8], pointer: &str) -> Result<Option<String>, serde_json::Error> {
    let json: Value = serde_json::from_slice(text)?;
    let mut above = pointer.match_indices('/').filter_map(|(at, _)| json.pointer(&pointer[..at]));
    if above.any(|it| !it.is_object() && !it.is_array()) {
        return Err(Error::custom("a value in the place of an object"));
    }
    let found = json.pointer(pointer).filter(|found| !found.is_null());
    Ok(found.map(|found| facts::text(found).trim().to_owned()))
}

/// What a gflags flagfile says of a boolean flag: one or two dashes, `-` and `_` alike, `no` in front of the name, `#`
/// comments; the last line wins (gflags, "How to use"; its FlagValue::ParseFrom for the words). A flag counts as off if
/// the text is not UTF-8, takes flags from elsewhere, or has a value that is no word for true.
pub fn gflag(text: &[u8], flag: &str) -> Option<bool> {
    let Ok(text) = std::str::from_utf8(text) else { return Some(false) };
    let (flag, mut says) = (flag.replace('_', "-"), None);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.split_once('=').unwrap_or((line, "true"));
        // gflags knows no value behind a blank, so such a line turns nothing on.
        let (name, value) = name.split_once(char::is_whitespace).map_or((name, value), |(name, _)| (name, ""));
        let name = name.trim_start_matches('-').replace('_', "-");
        // Flags that come from elsewhere, or that stand behind a line with names of programs, may not be this program's.
        if !line.starts_with('-') || ["", "flagfile", "fromenv", "tryfromenv"].contains(&&*name) {
            return Some(false);
        }
        if name == flag {
            says = Some(["1", "t", "true", "y", "yes"].iter().any(|word| value.trim().eq_ignore_ascii_case(word)));
        } else if name.strip_prefix("no") == Some(&*flag) {
            says = Some(false);
        }
    }
    says
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gflags_in_all_spellings() {
        for (text, says) in [
            ("--telemetry-enabled=false\n", Some(false)),
            ("--telemetry_enabled=0", Some(false)),
            ("-telemetry-enabled=F\r\n", Some(false)),
            ("--notelemetry-enabled", Some(false)),
            ("--notelemetry_enabled\n", Some(false)),
            ("  --telemetry-enabled = no", Some(false)),
            ("--telemetry-enabled false", Some(false)),
            ("--telemetry-enabled true", Some(false)),
            ("--telemetry-enabled =true", Some(false)),
            ("--telemetry-enabled=junk", Some(false)),
            ("--telemetry-enabled=", Some(false)),
            ("--telemetry-enabled=true # for now", Some(false)),
            ("--telemetry-enabled=true", Some(true)),
            ("--telemetry_enabled=T\r\n", Some(true)),
            ("--telemetry-enabled", Some(true)),
            ("--telemetry-enabled=false\n--telemetry-enabled=true\n", Some(true)),
            ("--telemetry-enabled=true\n--telemetry-enabled=false\n", Some(false)),
            ("--notelemetry-enabled\n--telemetry-enabled\n", Some(true)),
            ("# --telemetry-enabled=false\n", None),
            ("--telemetry-enabled-too=false\n--log=x\n", None),
            // Of another program, or from elsewhere.
            ("telemetry-enabled=true\n", Some(false)),
            ("log_level=INFO\n--telemetry-enabled=true\n", Some(false)),
            ("--telemetry-enabled=false\nother\n--telemetry-enabled=true\n", Some(false)),
            ("--telemetry-enabled=true\n--flagfile=/etc/more\n", Some(false)),
            ("-flagfile /etc/more\n--telemetry-enabled=true\n", Some(false)),
            ("--telemetry-enabled=true\n--fromenv=telemetry_enabled\n", Some(false)),
            ("--tryfromenv=telemetry_enabled\n--telemetry-enabled=true\n", Some(false)),
            ("", None),
        ] {
            assert_eq!(gflag(text.as_bytes(), "telemetry-enabled"), says, "{text:?}");
            assert_eq!(gflag(text.as_bytes(), "telemetry_enabled"), says, "{text:?}");
        }
        assert_eq!(gflag(b"\xff", "x"), Some(false));
    }
}

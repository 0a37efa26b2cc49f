//! A product's own ways to say no: a line of its configuration file, a key of a JSON file, a switch that it ships as
//! off. The rules are a profile's.

use std::path::PathBuf;

use serde_json::Value;

use super::files::{self, MAX_FILE};
use super::{Refusal, value};
use crate::host::{Content, Host};
use crate::profile::ConsentRules;
use crate::profile::consent_rules::{DefaultOff, FileRule, SaysNo};
use crate::profile::file_path::{Directories, Missing};

const BY_FILE: &str = "the product's own file says no";

/// The first "no" of the product's own.
pub fn refusal(host: &Host, rules: &ConsentRules, directories: &Directories<'_>) -> Option<Refusal> {
    let environment_files = rules.environment_files.iter().filter_map(|path| directories.resolve(path).ok());
    let in_environment_files = environment_files.into_iter().find_map(|path| files::refusal_in(host, &path, rules));
    in_environment_files
        .or_else(|| rules.files.iter().find_map(|rule| in_file(host, rule, directories)))
        .or_else(|| rules.default_off.as_ref().and_then(|rule| by_default(host, rule, directories)))
}

fn in_file(host: &Host, rule: &FileRule, directories: &Directories<'_>) -> Option<Refusal> {
    let by_absence = matches!(rule.says_no, SaysNo::Absent(_));
    let path = match directories.resolve(&rule.path) {
        Ok(path) => path,
        Err(_) if !by_absence => return None,
        Err(Missing(missing)) => return Some(Refusal::Unplaced { path: rule.path.as_str().to_owned(), missing }),
    };
    let refused = match host.read(&path, MAX_FILE) {
        // Another user's file is none of ours, unless it is the one that would have to say yes.
        Content::Missing | Content::Forbidden => by_absence,
        Content::Bytes { bytes, truncated: false } => text_says_no(&bytes, &rule.says_no),
        Content::Unreadable(_) | Content::Bytes { .. } => true,
    };
    refused.then(|| Refusal::said(path.display(), BY_FILE))
}

/// A flag that is off unless a file turns it on: any file that turns it off is a "no", and so are files that say nothing.
fn by_default(host: &Host, rule: &DefaultOff, directories: &Directories<'_>) -> Option<Refusal> {
    let named = rule.variable.as_deref().and_then(|name| host.var(name)).filter(|path| !path.is_empty());
    let known = rule.files.iter().filter_map(|path| directories.resolve(path).ok());
    let files: Vec<PathBuf> = known.chain(named.map(|path| host.given_path(&path))).collect();
    let mut is_on = false;
    for path in &files {
        let says = match host.read(path, MAX_FILE) {
            Content::Missing | Content::Forbidden => None,
            Content::Bytes { bytes, truncated: false } => gflag(&bytes, &rule.gflag),
            Content::Unreadable(_) | Content::Bytes { .. } => Some(false),
        };
        if says == Some(false) {
            return Some(Refusal::said(path.display(), BY_FILE));
        }
        is_on |= says.is_some();
    }
    (!is_on).then(|| {
        let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
        let source = format!("--{} is on in none of {}", rule.gflag, files.join(", "));
        Refusal::said(source, "the product is shipped with it off")
    })
}

/// Whether `text` says no; what cannot be understood does.
fn text_says_no(text: &[u8], says_no: &SaysNo) -> bool {
    let pointer = match says_no {
        SaysNo::Gflag(flag) => return gflag(text, flag) == Some(false),
        SaysNo::False(pointer) | SaysNo::True(pointer) | SaysNo::Absent(pointer) => pointer,
    };
    let Ok(json) = serde_json::from_slice::<Value>(text) else { return true };
    match (says_no, json.pointer(pointer)) {
        (SaysNo::Absent(_), None | Some(Value::Null | Value::Bool(false))) => true,
        (SaysNo::Absent(_), Some(value)) => value.as_str().is_some_and(|text| text.trim().is_empty()),
        (_, None | Some(Value::Null)) => false,
        (SaysNo::True(_), Some(Value::Bool(is_true))) => *is_true,
        (SaysNo::True(_), Some(Value::String(text))) => value::says_no(text.as_bytes()),
        (SaysNo::True(_), Some(value)) => value.as_f64() != Some(0.0),
        (_, Some(Value::Bool(is_true))) => !is_true,
        (_, Some(Value::String(text))) => !is_word_of(&["true", "1", "yes", "on"], text),
        (_, Some(value)) => value.as_f64() != Some(1.0),
    }
}

/// What a gflags flagfile says of a boolean flag: one or two dashes, `-` and `_` alike, `no` in front of the name,
/// `#` comments; the last line wins (gflags, "How to use"; its FlagValue::ParseFrom for the words). A text that is not
/// UTF-8 and a value that is no word for true are taken for off.
fn gflag(text: &[u8], flag: &str) -> Option<bool> {
    let Ok(text) = std::str::from_utf8(text) else { return Some(false) };
    let flag = flag.replace('_', "-");
    let of_line = |line: &str| {
        let line = line.strip_prefix("--").or_else(|| line.strip_prefix('-'))?.trim_start();
        let end = line.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(line.len());
        let (name, value) = (line[..end].replace('_', "-"), line[end..].trim_start());
        let value = value.strip_prefix('=').unwrap_or(value).trim();
        let is_on = end == line.len() || is_word_of(&["1", "t", "true", "y", "yes"], value);
        (name == flag).then_some(is_on).or_else(|| (name.strip_prefix("no") == Some(&*flag)).then_some(false))
    };
    text.lines().rev().map(str::trim).find_map(of_line)
}

fn is_word_of(words: &[&str], text: &str) -> bool {
    words.iter().any(|word| text.trim().eq_ignore_ascii_case(word))
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
            ("--telemetry-enabled-too=false\n--log=x\ntelemetry-enabled=true\n", None),
            ("", None),
        ] {
            assert_eq!(gflag(text.as_bytes(), "telemetry-enabled"), says, "{text:?}");
            assert_eq!(gflag(text.as_bytes(), "telemetry_enabled"), says, "{text:?}");
        }
        assert_eq!(gflag(b"\xff", "x"), Some(false));
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
            (r#"{"t":{"v":[]}}"#, true, true, false),
            (r#"{"t":{"v":"no"}}"#, true, false, false),
            (r#"{"t":{"v":"junk"}}"#, true, true, false),
            (r#"{"t":{"v":""}}"#, true, false, true),
            (r#"{"t":{"v":null}}"#, false, false, true),
            (r#"{"t":{}}"#, false, false, true),
            ("[]", false, false, true),
            ("", true, true, true),
            ("{", true, true, true),
            ("\u{feff}{}", true, true, true),
        ] {
            let found = [&off, &on, &absent].map(|rule| text_says_no(text.as_bytes(), rule));
            assert_eq!(found, [is_false, is_true, is_absent], "{text}");
        }
    }
}

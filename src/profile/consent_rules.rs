//! The `consent` section of a profile: how the product lets an administrator say no. docs/profiles.md is the reference.
//!
//! Data only. [`crate::consent`] asks; here is what a profile may write, and what of it could never mean anything.

use std::fmt;

use serde::{Deserialize, Deserializer, de::Error};

use super::file_path::FilePath;

/// The variable that holds for every product (consoledonottrack.com).
const DO_NOT_TRACK: &str = "DO_NOT_TRACK";

/// A product's own ways to say no, beside what holds for every product.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsentRules {
    /// The profile that they are from; not part of the section.
    #[serde(skip)]
    pub profile: String,
    /// Variables that say no by any value but an empty or a clearly negative one.
    #[serde(deserialize_with = "variables")]
    pub variables: Vec<String>,
    /// Variables that say no by being there, even empty.
    #[serde(deserialize_with = "variables")]
    pub present: Vec<String>,
    /// Files of a project that set these variables, by the line rule.
    pub environment_files: Vec<FilePath>,
    /// The product's own files, each of which can say no.
    pub files: Vec<FileRule>,
    /// The product's own switch that is off unless one of its files turns it on.
    pub default_off: Option<DefaultOff>,
}

/// One rule about one file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "FileRuleText")]
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
    /// A boolean flag of a gflags flagfile that is off.
    Gflag(String),
    /// A JSON value that is false, at a JSON Pointer (RFC 6901).
    False(String),
    /// A JSON value that is true: `true`, 1, and both as texts.
    True(String),
    /// A JSON value that is not there or empty, the whole file included.
    Absent(String),
}

/// A boolean gflags flag that the product ships as off. One of the files must say true, and none may say false.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefaultOff {
    /// The flag, without dashes in front.
    #[serde(deserialize_with = "flag")]
    pub gflag: String,
    /// The flagfiles that the product reads.
    pub files: Vec<FilePath>,
    /// The variable that names one more of them.
    #[serde(default, deserialize_with = "variable")]
    pub variable: Option<String>,
}

/// A [`FileRule`] as a profile writes it: `path`, and one of the four ways.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRuleText {
    path: FilePath,
    gflag: Option<String>,
    #[serde(rename = "false")]
    is_false: Option<String>,
    #[serde(rename = "true")]
    is_true: Option<String>,
    absent: Option<String>,
    #[serde(default)]
    written: bool,
}

impl TryFrom<FileRuleText> for FileRule {
    type Error = String;

    fn try_from(text: FileRuleText) -> Result<FileRule, String> {
        let says_no = match (text.gflag, text.is_false, text.is_true, text.absent) {
            (Some(name), None, None, None) => SaysNo::Gflag(checked_flag(name)?),
            (None, Some(pointer), None, None) => SaysNo::False(pointer_of(pointer)?),
            (None, None, Some(pointer), None) => SaysNo::True(pointer_of(pointer)?),
            (None, None, None, Some(pointer)) => SaysNo::Absent(pointer_of(pointer)?),
            _ => return Err("must have one of gflag, false, true, absent".to_owned()),
        };
        if text.written && !matches!(says_no, SaysNo::False(_)) {
            return Err("only a rule of the kind false can be written by install-record off".to_owned());
        }
        Ok(FileRule { path: text.path, says_no, is_written: text.written })
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

impl fmt::Display for DefaultOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--{}=false, or no --{}=true, in ", self.gflag, self.gflag)?;
        let files = self.files.iter().map(|file| file.as_str().to_owned());
        let named = self.variable.iter().map(|name| format!("the file that {name} names"));
        f.write_str(&files.chain(named).collect::<Vec<_>>().join(", "))
    }
}

impl ConsentRules {
    /// Every variable that says no, with the one that holds for every product; and whether it does so by being there at
    /// all.
    pub fn names(&self) -> impl Iterator<Item = (&str, bool)> {
        let by_value = self.variables.iter().map(String::as_str).chain([DO_NOT_TRACK]).map(|name| (name, false));
        by_value.chain(self.present.iter().map(|name| (name.as_str(), true)))
    }

    /// The ways to say no, each as a phrase, for `install-record check`.
    pub fn phrases(&self) -> Vec<String> {
        let variables = self.names().map(|(name, by_presence)| match by_presence {
            true => format!("{name}, even empty"),
            false => name.to_owned(),
        });
        let environment_files = self.environment_files.iter().map(|path| format!("{}: these variables", path.as_str()));
        let files = self.files.iter().map(ToString::to_string);
        let default_off = self.default_off.iter().map(ToString::to_string);
        variables.chain(environment_files).chain(files).chain(default_off).collect()
    }
}

pub(super) fn variables<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    names.into_iter().map(|name| checked_variable(name).map_err(D::Error::custom)).collect()
}

pub(super) fn variable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    checked_variable(String::deserialize(deserializer)?).map(Some).map_err(D::Error::custom)
}

fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    checked_flag(String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// A name that a shell could set: anything else would look like a way to say no and be none.
fn checked_variable(name: String) -> Result<String, String> {
    let is_variable = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_variable { Ok(name) } else { Err(format!("'{name}' is no variable's name")) }
}

/// A flag's name without its dashes: with them, it would match no line.
fn checked_flag(name: String) -> Result<String, String> {
    let is_flag = !name.is_empty()
        && !name.starts_with('-')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if is_flag { Ok(name) } else { Err(format!("'{name}' is no flag's name without dashes")) }
}

fn pointer_of(text: String) -> Result<String, String> {
    checked_pointer(text).map_err(|error| error.to_string())
}

/// A text that is no JSON Pointer (RFC 6901).
#[derive(Debug, thiserror::Error)]
#[error("'{0}' must be a JSON Pointer, such as /telemetry/enabled")]
pub(super) struct NoPointer(String);

/// # Errors
/// [`NoPointer`].
pub(super) fn checked_pointer(text: String) -> Result<String, NoPointer> {
    let is_escape = |rest: &str| rest.starts_with(['0', '1']);
    if text.starts_with('/') && text.split('~').skip(1).all(is_escape) { Ok(text) } else { Err(NoPointer(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_section_may_hold() {
        for (text, problem) in [
            (r"{}", ""),
            (r#"{"variables": ["A_1"], "present": ["_b"], "environment_files": ["{project}/.env"]}"#, ""),
            (r#"{"default_off": {"gflag": "a-b", "files": ["/etc/a"], "variable": "A"}}"#, ""),
            (r#"{"files": [{"path": "/a", "false": "/b", "written": true}]}"#, ""),
            (r#"{"variable": []}"#, "unknown field `variable`"),
            (r#"{"variables": ["1A"]}"#, "'1A' is no variable's name"),
            (r#"{"present": [""]}"#, "'' is no variable's name"),
            (r#"{"environment_files": ["x"]}"#, "'x' must be the path of a file"),
            (r#"{"files": [{"path": "/a"}]}"#, "must have one of gflag, false, true, absent"),
            (r#"{"files": [{"path": "/a", "true": "/b", "absent": "/b"}]}"#, "must have one of"),
            (r#"{"files": [{"path": "/a", "true": "b"}]}"#, "'b' must be a JSON Pointer"),
            (r#"{"files": [{"path": "/a", "true": "/~2"}]}"#, "'/~2' must be a JSON Pointer"),
            (r#"{"files": [{"path": "/a", "gflag": "--b"}]}"#, "'--b' is no flag's name without dashes"),
            (r#"{"files": [{"path": "/a", "true": "/b", "written": true}]}"#, "only a rule of the kind false"),
            (r#"{"files": [{"path": "/a", "true": "/b", "x": 1}]}"#, "unknown field `x`"),
            (r#"{"default_off": {"gflag": "-a", "files": []}}"#, "'-a' is no flag's name"),
            (r#"{"default_off": {"files": []}}"#, "missing field `gflag`"),
            (r#"{"default_off": {"gflag": "a", "files": [], "variable": "a b"}}"#, "'a b' is no variable's name"),
        ] {
            match serde_json::from_str::<ConsentRules>(text) {
                Ok(_) => assert_eq!(problem, "", "{text}"),
                Err(error) => assert!(!problem.is_empty() && error.to_string().contains(problem), "{text}: {error}"),
            }
        }
    }
}

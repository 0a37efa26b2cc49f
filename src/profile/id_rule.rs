//! Where one of a product's IDs lives and what it looks like: the `identity` section of a profile.

use std::fmt;

use serde::Deserialize;

use super::consent_rules::checked_pointer;
use super::file_path::FilePath;
use crate::template::is_key;

/// One of a product's IDs: which file holds it, and how.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "IdRuleText")]
pub struct IdRule {
    /// The file.
    pub file: FilePath,
    /// Files of the product's older versions; an ID in one of them is used where the file has none.
    pub also: Vec<FilePath>,
    /// Where in the file it is.
    pub location: IdLocation,
    /// What an ID looks like.
    pub format: IdFormat,
    /// Whether one is made where there is none; otherwise nothing is sent without it.
    pub is_made: bool,
    /// The mode of a file that we make; its directory is closed to others where the file is.
    pub mode: u32,
}

/// Where in a file an ID is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdLocation {
    /// A line `KEY:ID` among others, `FAMILY:1` for every family that was reported among them.
    Line {
        /// The key.
        key: String,
        /// Keys of lines that look like a reported family and are not.
        reserved: Vec<String>,
    },
    /// A text in a JSON file: a JSON Pointer, RFC 6901.
    Json(String),
    /// The whole file.
    Whole,
}

/// A kind of ID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdFormat {
    /// RFC 9562, section 4: 8-4-4-4-12 hexadecimal digits, any case.
    #[default]
    Uuid,
    /// 27 digits of base 62 (0-9, A-Z, a-z) of 20 bytes: seconds since 2014-05-13T16:53:20Z, big-endian in 32 bits,
    /// and 16 random ones (github.com/segmentio/ksuid).
    Ksuid,
}

impl IdFormat {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            IdFormat::Uuid => "UUID",
            IdFormat::Ksuid => "KSUID",
        }
    }
}

#[derive(Clone, Copy, Default, Deserialize)]
enum FileMode {
    #[default]
    #[serde(rename = "0600")]
    OwnerOnly = 0o600,
    #[serde(rename = "0644")]
    AllCanRead = 0o644,
}

/// An [`IdRule`] as a profile writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdRuleText {
    file: FilePath,
    #[serde(default)]
    also: Vec<FilePath>,
    key: Option<String>,
    reserved: Option<Vec<String>>,
    pointer: Option<String>,
    #[serde(default)]
    format: IdFormat,
    made: Option<bool>,
    #[serde(default)]
    mode: FileMode,
}

impl TryFrom<IdRuleText> for IdRule {
    type Error = String;

    fn try_from(text: IdRuleText) -> Result<IdRule, String> {
        let location = match (text.key, text.pointer) {
            (Some(key), None) if is_key(&key) => {
                IdLocation::Line { key, reserved: text.reserved.clone().unwrap_or_default() }
            }
            (Some(_), None) => return Err("key: a key is letters, digits, . _ - , at most 64".to_owned()),
            (None, Some(pointer)) => IdLocation::Json(checked_pointer(pointer).map_err(|error| error.to_string())?),
            (None, None) => IdLocation::Whole,
            (Some(_), Some(_)) => return Err("must have key (lines) or pointer (JSON), not both".to_owned()),
        };
        if text.reserved.is_some() && !matches!(location, IdLocation::Line { .. }) {
            return Err("reserved: only an ID in a line, with a key, has other lines beside it".to_owned());
        }
        let (is_made, mode) = (text.made.unwrap_or(true), text.mode as u32);
        Ok(IdRule { file: text.file, also: text.also, location, format: text.format, is_made, mode })
    }
}

impl fmt::Display for IdRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (format, file) = (self.format.name(), self.file.as_str());
        match &self.location {
            IdLocation::Line { key, .. } => write!(f, "{format}, the line {key}: of {file}"),
            IdLocation::Json(pointer) => write!(f, "{format}, {pointer} of {file}"),
            IdLocation::Whole => write!(f, "{format}, {file}"),
        }?;
        match self.is_made {
            true => write!(f, ", made where there is none (mode {:04o})", self.mode),
            false => f.write_str(", never made: without it nothing is sent"),
        }
    }
}

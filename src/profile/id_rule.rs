//! Where one of a product's IDs lives and what it looks like: the `identity` section of a profile.

use serde::Deserialize;

use super::form::{FilePath, Key, Pointer};
use crate::id::IdFormat;

/// One of a product's IDs: which file holds it, and how.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct IdRule {
    /// The file.
    pub file: FilePath,
    /// Files of the product's older versions; an ID in one of them is used where the file has none.
    #[serde(default)]
    pub also: Vec<FilePath>,
    /// The key of its line `KEY:ID`, in a file with `FAMILY:1` for every family that was reported. Without key and
    /// pointer, the whole file is the ID.
    pub key: Option<Key>,
    /// Keys of lines that look like a reported family and are not.
    #[serde(default)]
    pub reserved: Vec<String>,
    /// Its place in a JSON file.
    pub pointer: Option<Pointer>,
    /// What an ID looks like.
    #[serde(default)]
    pub format: IdFormat,
    /// Whether one is made where there is none; otherwise nothing is sent without it.
    #[serde(default = "yes", rename = "made")]
    pub is_made: bool,
    /// The mode of a file that we make; its directory is closed to others where the file is.
    #[serde(default)]
    pub mode: FileMode,
}

/// The mode of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum FileMode {
    /// For its owner only.
    #[default]
    #[serde(rename = "0600")]
    Closed = 0o600,
    /// Everybody can read it.
    #[serde(rename = "0644")]
    Readable = 0o644,
}

fn yes() -> bool {
    true
}

//! Texts of a profile that must have a certain form. In any other form, a rule would look right and never apply.

use std::{ops::Deref, path::Path};

use serde::{Deserialize, Serialize};

use crate::template::is_key;

/// A text of the form `KIND`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Formed<const KIND: char>(String);

/// A variable's name, as a shell takes it.
pub type Variable = Formed<'$'>;

/// The name of a gflags flag, without dashes in front.
pub type Flag = Formed<'-'>;

/// A place in a JSON file: a JSON Pointer, RFC 6901.
pub type Pointer = Formed<'~'>;

/// The key of a line.
pub type Key = Formed<':'>;

/// The path of a file: absolute, or below a directory that only the run knows ([`super::file_path`]).
pub type FilePath = Formed<'/'>;

/// A text that does not have its form.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' {1}")]
pub struct Malformed(String, &'static str);

impl<const KIND: char> TryFrom<String> for Formed<KIND> {
    type Error = Malformed;

    fn try_from(text: String) -> Result<Self, Malformed> {
        let path = "must be the path of a file: absolute, or below {home}, {config_home}, {project}, {state_dir}";
        let (is_good, must) = match KIND {
            '$' => (is_identifier(&text), "is no variable's name"),
            '-' => (is_key(&text) && !text.contains('.') && !text.starts_with('-'), "is no flag's name without dashes"),
            ':' => (is_key(&text), "is no key: letters, digits, . _ - , at most 64"),
            '~' => (is_pointer(&text), "must be a JSON Pointer, such as /telemetry/enabled"),
            _ => (is_path(&text), path),
        };
        if is_good { Ok(Formed(text)) } else { Err(Malformed(text, must)) }
    }
}

impl<const KIND: char> Deref for Formed<KIND> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Whether it is a name in most languages, as that of a variable has to be.
pub fn is_identifier(text: &str) -> bool {
    is_key(text) && !text.contains(['.', '-']) && !text.starts_with(|c: char| c.is_ascii_digit())
}

fn is_pointer(text: &str) -> bool {
    text.starts_with('/') && text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']))
}

fn is_path(text: &str) -> bool {
    let bases = ["{home}", "{config_home}", "{project}", "{state_dir}"];
    let below = bases.iter().find_map(|base| text.strip_prefix(base)).unwrap_or(text);
    let is_file = below.starts_with('/') && Path::new(below).file_name().is_some() && !below.ends_with('/');
    is_file && below.split('/').all(|name| name != "..")
}

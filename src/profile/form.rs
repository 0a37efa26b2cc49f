//! Texts of a profile that must have a certain form. In any other form, a rule would look right and never apply.

use std::ops::Deref;

use serde::{Deserialize, Serialize, de::Error};

use crate::template::is_key;

/// A text of the form `KIND`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Formed<const KIND: char>(String);

/// A variable's name, as a shell takes it.
pub type Variable = Formed<'$'>;

/// The key of a line, or the name of a gflags flag.
pub type Key = Formed<':'>;

/// A place in a JSON file: a JSON Pointer, RFC 6901.
pub type Pointer = Formed<'~'>;

/// The path of a file: absolute, or where only the run knows ([`super::file_path`]).
pub type FilePath = Formed<'/'>;

impl<const KIND: char> TryFrom<String> for Formed<KIND> {
    type Error = serde_json::Error;

    fn try_from(text: String) -> Result<Self, serde_json::Error> {
        let path =
            "must be the path of a file: absolute, below {home}, {config_home}, {project}, {state_dir}, or $NAME";
        let (is_good, must) = match KIND {
            '$' => (is_identifier(&text), "is no variable's name"),
            ':' => (is_key(&text) && !text.starts_with('-'), "must be letters, digits, . _ - , with no - in front"),
            '~' => (is_pointer(&text), "must be a JSON Pointer, such as /telemetry/enabled"),
            _ => (is_path(&text), path),
        };
        if is_good { Ok(Formed(text)) } else { Err(Error::custom(format_args!("'{text}' {must}"))) }
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
    if let Some(variable) = text.strip_prefix('$') {
        return is_identifier(variable);
    }
    let bases = ["{home}", "{config_home}", "{project}", "{state_dir}"];
    let below = bases.iter().find_map(|base| text.strip_prefix(base)).unwrap_or(text);
    below.starts_with('/') && !below.ends_with('/') && below.split('/').all(|name| name != "..")
}

//! The `consent` section of a profile: how the product lets an administrator say no. docs/profiles.md is the reference.
//!
//! These types only hold data. [`crate::consent`] decides.

use serde::Deserialize;

use super::form::{FilePath, Key, Pointer, Variable};

/// The variable that holds for every product (consoledonottrack.com).
const DO_NOT_TRACK: &str = "DO_NOT_TRACK";

/// A product's own ways to say no, besides those that hold for every product.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct ConsentRules {
    /// The profile that they are from; not part of the section.
    #[serde(skip)]
    pub profile: String,
    /// Variables that say no by any value but an empty or a clearly negative one.
    pub variables: Vec<Variable>,
    /// Variables that say no by being there, even empty.
    pub present: Vec<Variable>,
    /// Files of a project that set these variables, by the line rule.
    pub environment_files: Vec<FilePath>,
    /// The product's own files, each of which can say no.
    pub files: Vec<FileRule>,
    /// Whether the product is off unless a flag in one of these files is on.
    pub default_off: bool,
}

/// One rule about one file: one of four ways to say no.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct FileRule {
    /// The file.
    pub path: FilePath,
    /// A boolean flag of a gflags flagfile that is off.
    pub gflag: Option<Key>,
    /// A JSON value that is false.
    #[serde(rename = "false")]
    pub is_false: Option<Pointer>,
    /// A JSON value that is true: `true`, 1, and both as texts.
    #[serde(rename = "true")]
    pub is_true: Option<Pointer>,
    /// A JSON value that is missing or empty. A file that is missing counts as well.
    pub absent: Option<Pointer>,
    /// Whether `install-record off` writes false there as well, and `on` takes it back.
    #[serde(default)]
    pub written: bool,
}

impl ConsentRules {
    /// Every variable that can say no, including the one that holds for every product; and whether it says no by merely
    /// being there.
    pub fn names(&self) -> impl Iterator<Item = (&str, bool)> {
        let by_value = self.variables.iter().map(|name| &**name).chain([DO_NOT_TRACK]).map(|name| (name, false));
        by_value.chain(self.present.iter().map(|name| (&**name, true)))
    }

    /// The files that can say no.
    pub fn paths(&self) -> impl Iterator<Item = &FilePath> {
        self.files.iter().map(|rule| &rule.path).chain(&self.environment_files)
    }

    /// Who can say no: variables and files, for `install-record check`.
    pub fn sources(&self) -> Vec<String> {
        let variables = self.names().map(|(name, _)| name.to_owned());
        variables.chain(self.paths().map(|path| path.to_string())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_section_may_hold() {
        for (text, problem) in [
            (r"{}", ""),
            (r#"{"variables": ["A_1"], "present": ["_b"], "environment_files": ["{project}/.env"]}"#, ""),
            (r#"{"files": [{"path": "$A", "gflag": "a-b"}], "default_off": true}"#, ""),
            (r#"{"files": [{"path": "/a", "false": "/b", "written": true}]}"#, ""),
            (r#"{"variable": []}"#, "unknown field `variable`"),
            (r#"{"variables": ["1A"]}"#, "'1A' is no variable's name"),
            (r#"{"present": [""]}"#, "'' is no variable's name"),
            (r#"{"environment_files": ["x"]}"#, "'x' must be the path of a file"),
            (r#"{"files": [{"path": "/a", "true": "b"}]}"#, "'b' must be a JSON Pointer"),
            (r#"{"files": [{"path": "/a", "true": "/~2"}]}"#, "'/~2' must be a JSON Pointer"),
            (r#"{"files": [{"path": "/a", "gflag": "--b"}]}"#, "'--b' must be letters, digits"),
            (r#"{"files": [{"path": "/a", "true": "/b", "x": 1}]}"#, "unknown field `x`"),
            (r#"{"default_off": {}}"#, "invalid type: map, expected a boolean"),
        ] {
            match serde_json::from_str::<ConsentRules>(text) {
                Ok(_) => assert_eq!(problem, "", "{text}"),
                Err(error) => assert!(!problem.is_empty() && error.to_string().contains(problem), "{text}: {error}"),
            }
        }
    }
}

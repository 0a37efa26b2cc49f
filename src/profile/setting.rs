//! The options of the command line that a profile may stand behind, and what it may say about each.

use serde::Deserialize;

use super::form::Variable;

/// An option of `send` that takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// `-f`, `--product-family`
    ProductFamily,
    /// `-v`, `--product-version`
    ProductVersion,
    /// `-d`, `--deployment`
    Deployment,
    /// `-s`, `--os`
    Os,
    /// `-i`, `--instance-id`
    InstanceId,
    /// `-j`, `--state-file`
    StateFile,
    /// `-u`, `--url`
    Url,
    /// `-c`, `--connect-timeout`
    ConnectTimeout,
    /// `-t`, `--timeout`
    Timeout,
    /// `--event`
    Event,
    /// `--pid`
    Pid,
    /// `--project`. Consent may hang on a file in there, so no profile stands behind it.
    Project,
    /// `--state-dir`. Likewise.
    StateDir,
}

impl Setting {
    /// All of them, with their long and short options.
    pub const ALL: [(Setting, &'static str, Option<char>); 13] = [
        (Setting::ProductFamily, "product-family", Some('f')),
        (Setting::ProductVersion, "product-version", Some('v')),
        (Setting::Deployment, "deployment", Some('d')),
        (Setting::Os, "os", Some('s')),
        (Setting::InstanceId, "instance-id", Some('i')),
        (Setting::StateFile, "state-file", Some('j')),
        (Setting::Url, "url", Some('u')),
        (Setting::ConnectTimeout, "connect-timeout", Some('c')),
        (Setting::Timeout, "timeout", Some('t')),
        (Setting::Event, "event", None),
        (Setting::Pid, "pid", None),
        (Setting::Project, "project", None),
        (Setting::StateDir, "state-dir", None),
    ];

    /// The long names of those that a profile may stand behind.
    pub fn of_profiles() -> Vec<&'static str> {
        Setting::ALL.iter().map(|(_, long, _)| *long).filter(|long| !["project", "state-dir"].contains(long)).collect()
    }

    /// Its long option, without the dashes.
    pub fn long(self) -> &'static str {
        Setting::ALL[self as usize].1
    }

    /// Its option as messages name it: `-f (--product-family)`.
    pub fn flag(self) -> String {
        let (_, long, short) = Setting::ALL[self as usize];
        short.map_or_else(|| format!("--{long}"), |short| format!("-{short} (--{long})"))
    }
}

/// What a profile says about one option.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptionRule {
    /// The variable that gives its value where the flag is absent.
    pub variable: Option<Variable>,
    /// Its value where neither is there.
    pub default: Option<String>,
    /// Whether a run without it is a usage error.
    pub required: bool,
    /// The values that the receiving service knows; others are sent all the same. Empty: all.
    pub known: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_setting_is_its_own() {
        for (index, (setting, ..)) in Setting::ALL.iter().enumerate() {
            assert_eq!(*setting as usize, index);
        }
    }
}

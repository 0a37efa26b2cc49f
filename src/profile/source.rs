//! Where profiles are found and how their text is read: compiled in, installed, or at a path that the caller gave.

use std::{borrow::Cow, ffi::OsStr, io, path::Path};

use rustix::io::Errno;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{Profile, consent_rules::ConsentRules};
use crate::{host::Host, nearest::nearest, template::is_key};

/// The profile that is meant where none is named.
pub const DEFAULT: &str = "percona";

pub(super) const BUILT_IN: [(&str, &str); 5] = [
    ("percona", include_str!("../../profiles/percona.json")),
    ("medusa", include_str!("../../profiles/medusa.json")),
    ("wundergraph", include_str!("../../profiles/wundergraph.json")),
    ("strapi", include_str!("../../profiles/strapi.json")),
    ("memgraph", include_str!("../../profiles/memgraph.json")),
];

/// Directories of further profiles, the administrator's first.
const DIRECTORIES: [&str; 2] = ["etc/install-record/profiles", "usr/share/install-record/profiles"];

/// The largest profile. A profile is a page of text.
const MAX_PROFILE: usize = 64 << 10;

/// Why a run cannot use a profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub enum ProfileError {
    /// The caller's mistake: there is no profile of that name or path, its text is no profile, or a value for it is
    /// wrong.
    Wrong(String),
    /// Not the caller's fault: this machine keeps us from using the profile, or a variable that moves its endpoint is
    /// wrong.
    Unusable(String),
    /// The profile has no record for what happened, so nothing is sent.
    NoRecord(String),
}

/// A profile's text, found but not read in full: a run that is refused needs only its consent rules.
#[derive(Debug)]
pub struct Source {
    /// The name it was asked for by, or its path, which has a slash in it.
    name: String,
    /// What is compiled in is borrowed.
    text: Cow<'static, [u8]>,
}

/// All that a run needs of a profile before consent is decided. Other keys are passed over.
#[derive(Deserialize)]
#[serde(expecting = "a profile, which is an object")]
struct Head<'t> {
    name: String,
    #[serde(borrow)]
    consent: &'t RawValue,
}

impl Source {
    /// Finds the profile called `wanted`: a name, or a path where it has a slash in it.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn find(host: &Host, wanted: Option<&OsStr>) -> Result<Source, ProfileError> {
        let name = wanted.map_or(DEFAULT.into(), OsStr::to_string_lossy).into_owned();
        if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
            return Ok(Source { name, text: text.as_bytes().into() });
        }
        if name.contains('/') {
            // The one path that is not inside --root: a profile belongs to the caller, not to the machine.
            let caller = Host::new(None);
            return match caller.read(caller.given_path(OsStr::new(&name)), MAX_PROFILE) {
                Ok(Some(text)) => Ok(Source { name, text: text.into() }),
                Ok(None) => Err(ProfileError::Wrong(format!("profile {name}: there is no such file"))),
                Err(problem) => Err(ProfileError::Wrong(format!("profile {name}: {problem}"))),
            };
        }
        for directory in DIRECTORIES.iter().filter(|_| is_name(&name)) {
            let file = format!("{name}.json");
            let path = host.path(Path::new(directory).join(&file));
            let unusable = |problem| ProfileError::Unusable(format!("profile {}: {problem}", path.display()));
            if let Some(text) = installed(host, directory, &file).map_err(unusable)? {
                return Ok(Source { name, text: text.into() });
            }
        }
        let known = all_names(host);
        let nearest = nearest(&name, known.iter().map(String::as_str));
        let nearest = nearest.map_or(";".to_owned(), |it| format!(", did you mean '{it}'?"));
        let way_out = format!("known are {}; or give the path of its file", known.join(", "));
        Err(ProfileError::Wrong(format!("unknown profile '{name}'{nearest} {way_out}")))
    }

    /// Who may say no how.
    ///
    /// # Errors
    /// [`ProfileError::Wrong`].
    pub fn consent(&self) -> Result<ConsentRules, ProfileError> {
        // An error is looked for in the whole profile, so that a misspelt key is reported before a missing one.
        let whole = |error: serde_json::Error| self.read().err().unwrap_or_else(|| self.wrong(error));
        let Head { name, consent } = serde_json::from_slice(&self.text).map_err(whole)?;
        let consent: ConsentRules = serde_json::from_slice(consent.get().as_bytes()).map_err(whole)?;
        if !is_name(&name) {
            return Err(self.wrong(format_args!("name: '{name}' must be letters, digits, . _ - , at most 64")));
        }
        // Under another name than its file's, `install-record off` would not switch it off.
        if !self.name.contains('/') && name != self.name {
            return Err(self.wrong(format_args!("name: '{name}' must be the name of its file, {}.json", self.name)));
        }
        Ok(ConsentRules { profile: name, ..consent })
    }

    /// The whole profile.
    ///
    /// # Errors
    /// [`ProfileError::Wrong`], with the place in the file and, for an unknown fact, the list of known ones.
    pub fn profile(&self) -> Result<Profile, ProfileError> {
        self.rest(self.consent()?)
    }

    /// The whole profile, of which [`Source::consent`] has been read.
    ///
    /// # Errors
    /// Those of [`Source::profile`].
    pub fn rest(&self, consent: ConsentRules) -> Result<Profile, ProfileError> {
        let profile = Profile { consent, ..self.read()? };
        // A test has checked those that are compiled in.
        let checked = if self.is_compiled_in() { Ok(()) } else { profile.check() };
        checked.map_err(|fault| self.wrong(fault))?;
        Ok(profile)
    }

    /// Reads the JSON. An error begins with its place in the profile. The line number stays only if it is the only
    /// place there is.
    fn read(&self) -> Result<Profile, ProfileError> {
        if !self.is_compiled_in() {
            // A template is read level by level, so endless nesting would overflow the stack. This first reading has a
            // limit.
            let json = serde_json::from_slice(&self.text);
            let json = json.map_err(|error| self.wrong(format_args!("cannot be read as JSON in UTF-8: {error}")))?;
            if let Some(place) = list_for_an_object(&json) {
                return Err(self.wrong(format_args!("{place}: must be an object, not a list")));
            }
        }
        let mut json = serde_json::Deserializer::from_slice(&self.text);
        let profile = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let (place, problem) = (error.path().to_string(), error.inner().to_string());
            // The text is JSON, so what is called a syntax error is a number or the like in the place of a word.
            let problem = if error.inner().is_data() { problem } else { "must be a word in quotes".to_owned() };
            let end = problem.rfind(" at line ").unwrap_or(problem.len());
            let place = if [".", "?"].contains(&&*place) { String::new() } else { place + ": " };
            self.wrong(place + &problem[..end])
        })?;
        json.end().map_err(|error| self.wrong(error))?;
        Ok(profile)
    }

    fn is_compiled_in(&self) -> bool {
        matches!(self.text, Cow::Borrowed(_))
    }

    fn wrong(&self, problem: impl std::fmt::Display) -> ProfileError {
        ProfileError::Wrong(format!("profile {}: {problem}", self.name))
    }
}

/// The first place where a list stands for an object. serde would take its items for the object's values.
fn list_for_an_object(profile: &Value) -> Option<String> {
    let consent = &profile["consent"];
    let mut objects =
        vec![("consent".to_owned(), consent), ("consent.default_off".to_owned(), &consent["default_off"])];
    objects.extend(["endpoint_variables", "success"].map(|section| (section.to_owned(), &profile[section])));
    for section in ["options", "identity", "set"] {
        let members = profile[section].as_object().into_iter().flatten();
        objects.extend(members.map(|(key, rule)| (format!("{section}.{key}"), rule)));
    }
    let files = consent["files"].as_array().into_iter().flatten().enumerate();
    objects.extend(files.map(|(index, rule)| (format!("consent.files[{index}]"), rule)));
    objects.into_iter().find(|(_, value)| value.is_array()).map(|(place, _)| place)
}

/// The text of an installed profile. A file that another user could have put there is not taken, because a profile
/// decides what leaves.
fn installed(host: &Host, directory: &str, name: &str) -> io::Result<Option<Vec<u8>>> {
    match host.directory(directory, false) {
        Err(Errno::NOENT) => Ok(None),
        Ok(opened) if !opened.holds(name) => Ok(None),
        Ok(opened) if opened.is_ours(".") && opened.is_ours(name) => opened.read(name, MAX_PROFILE),
        _ => Err(io::Error::other(
            "it or its directory is a link, or others can write it, so it is not used: put the file itself there, chown root, chmod go-w",
        )),
    }
}

/// The names of all profiles that this machine has, compiled in or installed.
pub fn all_names(host: &Host) -> Vec<String> {
    let mut names: Vec<String> = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect();
    for file in DIRECTORIES.iter().flat_map(|directory| host.names(directory).unwrap_or_default()) {
        let name = file.to_str().and_then(|file| file.strip_suffix(".json"));
        names.extend(name.map(str::to_owned).filter(|name| is_name(name) && !names.contains(name)));
    }
    names
}

/// Whether `name` can be a profile's: it becomes a file name.
pub fn is_name(name: &str) -> bool {
    is_key(name) && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::Source;

    impl Source {
        /// A profile that a test wrote.
        pub fn of_text(name: &str, text: &str) -> Source {
            Source { name: name.to_owned(), text: text.to_owned().into_bytes().into() }
        }
    }
}

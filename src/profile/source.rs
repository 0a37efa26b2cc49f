//! Where profiles are found and how their text is read: compiled in, installed, or at a path that the caller gave.

use std::{ffi::OsStr, io, path::Path};

use rustix::io::Errno;
use serde::Deserialize;

use super::{ConsentRules, Profile};
use crate::{host::Host, nearest::nearest, outcome::Outcome, template::is_key};

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

/// A profile's text, found but not read in full: a run that is refused needs only its consent rules.
#[derive(Debug)]
pub struct Source {
    /// The name it was asked for by, or its path, which has a slash in it.
    name: String,
    text: Vec<u8>,
}

/// All that a run needs of a profile before consent is decided. Other keys are passed over.
#[derive(Deserialize)]
struct Head {
    name: String,
    consent: ConsentRules,
}

impl Source {
    /// Finds the profile called `wanted`: a name, or a path where it has a slash in it.
    ///
    /// # Errors
    /// [`Outcome::Usage`] where there is no profile of that name or path, which is the caller's mistake;
    /// [`Outcome::Lost`] where this machine keeps us from reading it.
    pub fn find(host: &Host, wanted: Option<&OsStr>) -> Result<Source, Outcome> {
        let name = wanted.map_or(DEFAULT.into(), OsStr::to_string_lossy).into_owned();
        if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
            return Ok(Source { name, text: text.as_bytes().to_vec() });
        }
        if name.contains('/') {
            // The one path that is not inside --root: a profile belongs to the caller, not to the machine.
            let caller = Host::new(None);
            let read = caller.read(caller.given_path(OsStr::new(&name)), MAX_PROFILE);
            let found = read.and_then(|text| text.ok_or_else(|| io::Error::other("there is no such file")));
            let text = found.map_err(|problem| Outcome::Usage(format!("profile {name}: {problem}")))?;
            return Ok(Source { name, text });
        }
        for directory in DIRECTORIES.iter().filter(|_| is_name(&name)) {
            let file = format!("{name}.json");
            let path = host.path(Path::new(directory).join(&file));
            let unusable = |problem| Outcome::Lost(format!("profile {}: {problem}", path.display()));
            if let Some(text) = installed(host, directory, &file).map_err(unusable)? {
                return Ok(Source { name, text });
            }
        }
        let known = all_names(host);
        let nearest = nearest(&name, known.iter().map(String::as_str));
        let nearest = nearest.map_or(";".to_owned(), |it| format!(", did you mean '{it}'?"));
        let way_out = format!("known are {}; or give the path of its file", known.join(", "));
        Err(Outcome::Usage(format!("unknown profile '{name}'{nearest} {way_out}")))
    }

    /// Who may say no how.
    ///
    /// # Errors
    /// [`Outcome::Usage`].
    pub fn consent(&self) -> Result<ConsentRules, Outcome> {
        // An error is looked for in the whole profile, so that a misspelt key is reported before a missing one.
        let in_whole = |error: serde_json::Error| self.read().err().unwrap_or_else(|| self.wrong(error));
        let Head { name, consent } = serde_json::from_slice(&self.text).map_err(in_whole)?;
        // Under another name than its file's, `install-record off` would not switch it off.
        if !is_name(&name) || !self.name.contains('/') && name != self.name {
            let must = "must be letters, digits, . _ - , at most 64, and the name of an installed file without .json";
            return Err(self.wrong(format_args!("name: '{name}' {must}")));
        }
        Ok(ConsentRules { profile: name, ..consent })
    }

    /// The whole profile.
    ///
    /// # Errors
    /// [`Outcome::Usage`], with the place in the file and, for an unknown fact, the list of known ones.
    pub fn profile(&self) -> Result<Profile, Outcome> {
        self.rest(self.consent()?)
    }

    /// The whole profile, of which [`Source::consent`] has been read.
    ///
    /// # Errors
    /// Those of [`Source::profile`].
    pub fn rest(&self, consent: ConsentRules) -> Result<Profile, Outcome> {
        Ok(Profile { consent, ..self.read()? })
    }

    /// Reads the JSON. An error begins with its place in the profile.
    fn read(&self) -> Result<Profile, Outcome> {
        let mut json = serde_json::Deserializer::from_slice(&self.text);
        let profile: Profile = serde_path_to_error::deserialize(&mut json).map_err(|error| self.wrong(error))?;
        // A test has checked those that are compiled in.
        if !BUILT_IN.iter().any(|(known, _)| *known == self.name) {
            profile.check().map_err(|error| self.wrong(error))?;
        }
        Ok(profile)
    }

    fn wrong(&self, problem: impl std::fmt::Display) -> Outcome {
        Outcome::Usage(format!("profile {}: {problem}", self.name))
    }
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
            Source { name: name.to_owned(), text: text.as_bytes().to_vec() }
        }
    }
}

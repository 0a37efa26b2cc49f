//! Where profiles are found and how their text is read: compiled in, installed, or at a path that the caller gave.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::PathBuf;

use rustix::io::Errno;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Profile;
use super::consent_rules::ConsentRules;
use crate::host::{Content, Host};
use crate::nearest::nearest;

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

/// A profile is a page of text; more than this is no profile.
const MAX_PROFILE: usize = 64 << 10;

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// There is none of that name.
    #[error("unknown profile '{name}'{} known are {}; or give the path of its file", or_else(name, known), known.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// The path that was given leads to nothing.
    #[error("profile {0}: there is no such file")]
    NoFile(String),
    /// Its text is not a profile, or the path that was given is no file.
    #[error("profile {name}: {problem}")]
    Malformed {
        /// Its name or path.
        name: String,
        /// What is wrong, with the place.
        problem: String,
    },
    /// It is installed, and this machine keeps us from using it: no fault of whoever called us.
    #[error("profile {}: {problem}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why not, with the way out.
        problem: FileProblem,
    },
}

fn or_else(name: &str, known: &[String]) -> String {
    nearest(name, known.iter().map(String::as_str))
        .map_or_else(|| ";".to_owned(), |it| format!(", did you mean '{it}'?"))
}

/// Why the file of a profile is not read.
#[derive(Debug, thiserror::Error)]
pub enum FileProblem {
    /// Its directory is not one.
    #[error("{0} is a link or no directory, so nothing in it is used")]
    NoDirectory(String),
    /// Another user could have put it there; a profile decides what leaves.
    #[error(
        "it is a link, or others can write it or {0}, so it is not used: put the file itself there, chown root, chmod go-w"
    )]
    OthersCanWrite(String),
    /// Its text is too long.
    #[error("larger than {MAX_PROFILE} bytes")]
    TooLarge,
    /// It is no text.
    #[error("not UTF-8")]
    NoText,
    /// The system's reason.
    #[error("{0}")]
    Unreadable(#[from] std::io::Error),
}

/// A profile's text, found but not read in full: a run that is refused needs only its consent rules.
#[derive(Debug)]
pub struct Source {
    /// The name it was asked for by, or its path.
    name: String,
    text: Cow<'static, str>,
    /// Whether it was found by its name, which is then the only one that it may have.
    is_named: bool,
}

/// All that a run needs of a profile before consent is decided. Other keys are passed over.
#[derive(Deserialize)]
struct Head {
    name: String,
    #[serde(deserialize_with = "super::object")]
    consent: ConsentRules,
}

impl Source {
    /// Finds the profile called `wanted`: a name, or a path where it has a slash in it.
    ///
    /// # Errors
    /// All of [`ProfileError`].
    pub fn find(host: &Host, wanted: Option<&OsStr>) -> Result<Source, ProfileError> {
        let name = wanted.map_or(DEFAULT.into(), OsStr::to_string_lossy).into_owned();
        if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
            return Ok(Source { name, text: Cow::Borrowed(text), is_named: true });
        }
        if name.contains('/') {
            // The one path that is not inside --root: a profile belongs to the caller, not to the machine.
            let caller = Host::new(None);
            return match text_of(caller.read(caller.given_path(OsStr::new(&name)), MAX_PROFILE)) {
                Ok(Some(text)) => Ok(Source { name, text: text.into(), is_named: false }),
                Ok(None) => Err(ProfileError::NoFile(name)),
                Err(problem) => Err(ProfileError::Malformed { name, problem: problem.to_string() }),
            };
        }
        for directory in DIRECTORIES.iter().filter(|_| is_name(&name)) {
            let file = format!("{name}.json");
            let path = host.path(PathBuf::from(directory).join(&file));
            let text = installed(host, directory, &file).map_err(|problem| ProfileError::Unusable { path, problem })?;
            if let Some(text) = text {
                return Ok(Source { name, text: text.into(), is_named: true });
            }
        }
        Err(ProfileError::Unknown { name, known: all_names(host) })
    }

    /// Who may say no how.
    ///
    /// # Errors
    /// [`ProfileError::Malformed`].
    pub fn consent(&self) -> Result<ConsentRules, ProfileError> {
        match serde_json::from_str::<Head>(&self.text) {
            Ok(head) => {
                self.check_name(&head.name)?;
                Ok(ConsentRules { profile: head.name, ..head.consent })
            }
            // The whole profile is read for the sake of its error: a misspelt key comes before a missing one.
            Err(_) => self.profile().map(|profile| profile.consent),
        }
    }

    /// The whole profile.
    ///
    /// # Errors
    /// [`ProfileError::Malformed`], with the place in the file and, for an unknown fact, the list of known ones.
    pub fn profile(&self) -> Result<Profile, ProfileError> {
        let mut profile: Profile = read(&self.text).map_err(|problem| self.malformed(problem))?;
        self.check_name(&profile.name)?;
        profile.check().map_err(|problem| self.malformed(problem.to_string()))?;
        profile.consent.profile.clone_from(&profile.name);
        Ok(profile)
    }

    /// Under another name than its file's, `install-record off` would not switch it off.
    fn check_name(&self, name: &str) -> Result<(), ProfileError> {
        if !is_name(name) {
            return Err(self.malformed(format!("name: '{name}' must be letters, digits, . _ - , at most 64")));
        }
        if self.is_named && name != self.name {
            return Err(self.malformed(format!("name: '{name}' must be the name of its file, {}.json", self.name)));
        }
        Ok(())
    }

    fn malformed(&self, problem: String) -> ProfileError {
        ProfileError::Malformed { name: self.name.clone(), problem }
    }
}

/// Reads JSON; an error is a sentence with its place in front: `body.host: 'host.name' is no fact; known are …`.
fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let place = error.path().to_string();
        let place = if place == "." { "" } else { &place };
        sentence(place, error.inner())
    })?;
    json.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// serde's message in the words of this program. The line is kept where it is the only place there is.
fn sentence(place: &str, error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = if error.is_data() { text.rsplit_once(" at line ").map_or(&*text, |(text, _)| text) } else { &text };
    let quoted: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    let below = |key: &str| {
        let parent = place.strip_suffix(key).map_or(place, |parent| parent.trim_end_matches('.'));
        if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
    };
    match (text.split(' ').next(), &quoted[..]) {
        (Some("unknown"), [key, known @ ..]) if text.starts_with("unknown field") => {
            format!("{}: unknown key; known are {}", below(key), known.join(", "))
        }
        (Some("missing"), [key]) => format!("{}: missing", below(key)),
        (Some("duplicate"), [key]) => format!("{}: is there twice", below(key)),
        (Some("unknown"), [word, known @ ..]) => format!("{place}: '{word}' is none of {}", known.join(", ")),
        _ if place.is_empty() => text.to_owned(),
        _ => format!("{place}: {text}"),
    }
}

/// The text of an installed profile. What another user could have put there is not taken: it decides what leaves.
fn installed(host: &Host, directory: &str, name: &str) -> Result<Option<String>, FileProblem> {
    let opened = match host.directory(directory, false) {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::NOTDIR | Errno::LOOP) => return Err(FileProblem::NoDirectory(format!("/{directory}"))),
        Err(error) => return Err(FileProblem::Unreadable(error.into())),
    };
    if !opened.holds(name) {
        return Ok(None);
    }
    if !opened.is_ours(".") || !opened.is_ours(name) {
        return Err(FileProblem::OthersCanWrite(format!("/{directory}")));
    }
    text_of(opened.read(name, MAX_PROFILE))
}

fn text_of(content: Content) -> Result<Option<String>, FileProblem> {
    match content {
        Content::Missing => Ok(None),
        Content::Forbidden => Err(FileProblem::Unreadable(Errno::ACCESS.into())),
        Content::Unreadable(error) => Err(FileProblem::Unreadable(error)),
        Content::Bytes { truncated: true, .. } => Err(FileProblem::TooLarge),
        Content::Bytes { bytes, .. } => String::from_utf8(bytes).map(Some).map_err(|_| FileProblem::NoText),
    }
}

/// The names of all profiles that this machine has, compiled in or installed.
pub fn all_names(host: &Host) -> Vec<String> {
    let mut names: Vec<String> = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect();
    for directory in DIRECTORIES {
        for file in host.names(directory).unwrap_or_default() {
            if let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".json"))
                && is_name(name)
                && !names.iter().any(|known| known == name)
            {
                names.push(name.to_owned());
            }
        }
    }
    names
}

/// Whether `name` can be a profile's: it becomes a file name.
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::Source;

    impl Source {
        /// A profile that a test wrote.
        pub fn of_text(name: &str, text: &str) -> Source {
            Source { name: name.to_owned(), text: text.to_owned().into(), is_named: false }
        }
    }
}

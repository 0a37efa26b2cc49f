//! Where a profile's file is: absolute, or below a directory that only the run knows.
//!
//! `{home}` and `{config_home}` are the user's (XDG Base Directory Specification), `{project}` and `{state_dir}` are
//! the caller's `--project` and `--state-dir`. All of them are inside `--root`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

pub use super::form::FilePath;
use crate::host::Host;

/// What a path needs and the run does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Missing(pub &'static str);

/// The directories that one run knows.
#[derive(Clone, Copy, Debug)]
pub struct Directories<'a> {
    /// The machine.
    pub host: &'a Host,
    /// `--project`
    project: Option<&'a OsStr>,
    /// `--state-dir`
    state_dir: Option<&'a OsStr>,
    /// One of the profile's paths and where it led to in an earlier run, whose directory is meant then.
    known: Option<(&'a FilePath, &'a Path)>,
}

impl<'a> Directories<'a> {
    /// Those of a run that was given these two; an empty one is as good as none.
    pub fn given(host: &'a Host, project: Option<&'a OsStr>, state_dir: Option<&'a OsStr>) -> Directories<'a> {
        let is_given = |path: &&OsStr| !path.is_empty();
        Directories { host, project: project.filter(is_given), state_dir: state_dir.filter(is_given), known: None }
    }

    /// Those of the run that made a record: it remembers that `path` led to `place`, wherever this run is.
    pub fn of_record(self, path: &'a FilePath, place: &'a Path) -> Directories<'a> {
        Directories { known: Some((path, place)), ..self }
    }

    /// Where `path` is on this run's machine: absolute, inside the root.
    ///
    /// # Errors
    /// The directory that the run does not know.
    pub fn resolve(&self, path: &FilePath) -> Result<PathBuf, Missing> {
        let Some((base, below)) = split(path) else { return Ok(PathBuf::from(&**path)) };
        let of_record = self.known.and_then(|(known, place)| {
            let (_, known_below) = split(known).filter(|(known, _)| *known == base)?;
            let levels = Path::new(known_below).components().count();
            place.ancestors().nth(levels).filter(|_| place.ends_with(known_below))
        });
        let given = |path: Option<&OsStr>| path.map(|path| self.host.given_path(path));
        let (directory, option) = match base {
            "{home" => (self.host.home(), "HOME"),
            "{config_home" => (self.host.config_home(), "HOME"),
            "{project" => (given(self.project), "--project DIR"),
            _ => (given(self.state_dir), "--state-dir DIR"),
        };
        of_record.map(Path::to_owned).or(directory).map(|directory| directory.join(below)).ok_or(Missing(option))
    }
}

/// The directory that only a run knows, and the path below it.
fn split(path: &FilePath) -> Option<(&str, &str)> {
    path.split_once("}/").filter(|(base, _)| base.starts_with('{'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_a_path() {
        for (text, good) in [
            ("/etc/x.conf", true),
            ("{home}/.x", true),
            ("{config_home}/x/y.json", true),
            ("{project}/package.json", true),
            ("{state_dir}/id", true),
            ("x", false),
            ("", false),
            ("/", false),
            ("/x/", false),
            ("{home}", false),
            ("{home}x", false),
            ("{tmp}/x", false),
            ("/etc/../x", false),
            ("{project}/../x", false),
        ] {
            assert_eq!(FilePath::try_from(text.to_owned()).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn directories_come_from_the_run() {
        let host = Host::new(None);
        let directories = Directories::given(&host, Some(OsStr::new("/srv/app")), Some(OsStr::new("")));
        let resolve = |text: &str| directories.resolve(&FilePath::try_from(text.to_owned()).unwrap());
        assert_eq!(resolve("{project}/package.json"), Ok(PathBuf::from("/srv/app/package.json")));
        assert_eq!(resolve("{state_dir}/id"), Err(Missing("--state-dir DIR")));
        assert_eq!(resolve("/etc/x"), Ok(PathBuf::from("/etc/x")));

        // What a record remembers wins, for its own directory only.
        let path = FilePath::try_from("{state_dir}/a/id".to_owned()).unwrap();
        let of = |place: &str, text: &str| {
            directories.of_record(&path, Path::new(place)).resolve(&FilePath::try_from(text.to_owned()).unwrap())
        };
        assert_eq!(of("/srv/data/a/id", "{state_dir}/b"), Ok(PathBuf::from("/srv/data/b")));
        assert_eq!(of("/srv/data/a/id", "{project}/b"), Ok(PathBuf::from("/srv/app/b")));
        // By --state-file it was anywhere.
        assert_eq!(of("/srv/data/id", "{state_dir}/b"), Err(Missing("--state-dir DIR")));
    }
}

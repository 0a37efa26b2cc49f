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
#[derive(Clone, Debug)]
pub struct Directories<'a> {
    host: &'a Host,
    /// What the run was told, by the name in front of a path.
    told: Vec<(&'a str, PathBuf)>,
}

impl<'a> Directories<'a> {
    /// Those of a run that was given `--project` and `--state-dir`.
    pub fn given(host: &'a Host, project: Option<&'a OsStr>, state_dir: Option<&'a OsStr>) -> Directories<'a> {
        let given = [("{project", project), ("{state_dir", state_dir)].into_iter();
        let told = given.filter_map(|(base, path)| Some((base, host.given_path(path?))));
        Directories { host, told: told.collect() }
    }

    /// Those of the run that made a record: it remembers that `path` led to `place`, wherever this run is.
    pub fn of_record(mut self, path: &'a FilePath, place: &Path) -> Directories<'a> {
        if let Some((base, below)) = split(path).filter(|(_, below)| place.ends_with(below)) {
            let directory = place.ancestors().nth(Path::new(below).components().count());
            self.told.splice(0..0, directory.map(|directory| (base, directory.to_owned())));
        }
        self
    }

    /// Where `path` is on this run's machine: absolute, inside the root.
    ///
    /// # Errors
    /// The directory that the run does not know.
    pub fn resolve(&self, path: &FilePath) -> Result<PathBuf, Missing> {
        let Some((base, below)) = split(path) else { return Ok(PathBuf::from(&**path)) };
        let told = self.told.iter().find(|(known, _)| *known == base).map(|(_, directory)| directory.clone());
        let (own, missing) = match base {
            "{home" => (self.host.home(), "HOME"),
            "{config_home" => (self.host.config_home(), "HOME"),
            "{project" => (None, "--project DIR"),
            _ => (None, "--state-dir DIR"),
        };
        told.or(own).map(|directory| directory.join(below)).ok_or(Missing(missing))
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
        let directories = Directories::given(&host, Some(OsStr::new("/srv/app")), None);
        let resolve = |text: &str| directories.resolve(&FilePath::try_from(text.to_owned()).unwrap());
        assert_eq!(resolve("{project}/package.json"), Ok(PathBuf::from("/srv/app/package.json")));
        assert_eq!(resolve("{state_dir}/id"), Err(Missing("--state-dir DIR")));
        assert_eq!(resolve("/etc/x"), Ok(PathBuf::from("/etc/x")));

        // What a record remembers wins, for its own directory only.
        let path = FilePath::try_from("{state_dir}/a/id".to_owned()).unwrap();
        let of = |place: &str, text: &str| {
            directories
                .clone()
                .of_record(&path, Path::new(place))
                .resolve(&FilePath::try_from(text.to_owned()).unwrap())
        };
        assert_eq!(of("/srv/data/a/id", "{state_dir}/b"), Ok(PathBuf::from("/srv/data/b")));
        assert_eq!(of("/srv/data/a/id", "{project}/b"), Ok(PathBuf::from("/srv/app/b")));
        // By --state-file it was anywhere.
        assert_eq!(of("/srv/data/id", "{state_dir}/b"), Err(Missing("--state-dir DIR")));
    }
}

//! Where a profile's file is: absolute, or below a directory that only the run knows.
//!
//! `{home}` and `{config_home}` are the user's (XDG Base Directory Specification), `{project}` and `{state_dir}` are
//! the caller's `--project` and `--state-dir`. All of them are inside `--root`.

use std::{ffi::OsStr, path::PathBuf};

pub use super::form::FilePath;
use crate::host::Host;

/// What a path needs and the run does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Missing(pub &'static str);

/// The user's home, which nobody has told.
pub const HOME: Missing = Missing("HOME");

/// The directories that one run knows.
#[derive(Clone, Debug)]
pub struct Directories<'a> {
    host: &'a Host,
    /// What the run was told, by the name in front of a path, or the variable that names a file.
    told: Known,
}

/// Directories by the name in front of a path, and files by the variable that names them.
pub type Known = Vec<(String, PathBuf)>;

impl<'a> Directories<'a> {
    /// Those of a run that was given `--project` and `--state-dir`.
    pub fn given(host: &'a Host, project: Option<&'a OsStr>, state_dir: Option<&'a OsStr>) -> Directories<'a> {
        let given = [("project", project), ("state_dir", state_dir)].into_iter();
        let told = given.filter_map(|(base, path)| Some((base.to_owned(), host.given_path(path?))));
        Directories { host, told: told.collect() }
    }

    /// The directories of the run that made a record, as far as it knew them; else those of this run.
    pub fn of_record(mut self, known: &Known) -> Directories<'a> {
        self.told.splice(0..0, known.iter().cloned());
        self
    }

    /// The directories and the file that a record remembers. With them, the files at `paths` and the one that
    /// `variable` names are asked again before the record leaves.
    pub fn known<'p>(&self, paths: impl Iterator<Item = &'p FilePath>, variable: Option<&str>) -> Known {
        let directories = paths.filter_map(|path| split(path)).map(|(base, _)| (base, self.directory(base).ok()));
        let file = variable.map(|name| (name, self.named_by(name)));
        let mut known = Known::new();
        for (name, path) in directories.chain(file) {
            let is_new = known.iter().all(|(other, _)| other != name);
            known.extend(path.filter(|_| is_new).map(|path| (name.to_owned(), path)));
        }
        known
    }

    /// The file that a variable names.
    pub fn named_by(&self, variable: &str) -> Option<PathBuf> {
        let named = || self.host.var(variable).filter(|path| !path.is_empty());
        self.told(variable).or_else(|| Some(self.host.given_path(&named()?)))
    }

    fn told(&self, name: &str) -> Option<PathBuf> {
        self.told.iter().find(|(known, _)| known == name).map(|(_, path)| path.clone())
    }

    /// Where `path` is on this run's machine: absolute, inside the root.
    ///
    /// # Errors
    /// The directory that the run does not know.
    pub fn resolve(&self, path: &FilePath) -> Result<PathBuf, Missing> {
        match split(path) {
            Some((base, below)) => Ok(self.directory(base)?.join(below)),
            None => Ok(PathBuf::from(&**path)),
        }
    }

    fn directory(&self, base: &str) -> Result<PathBuf, Missing> {
        let (own, missing) = match base {
            "home" => (self.host.home(), HOME),
            "config_home" => (self.host.config_home(), HOME),
            "project" => (None, Missing("--project DIR")),
            _ => (None, Missing("--state-dir DIR")),
        };
        self.told(base).or(own).ok_or(missing)
    }
}

/// The directory that only a run knows, and the path below it.
fn split(path: &FilePath) -> Option<(&str, &str)> {
    path.strip_prefix('{')?.split_once("}/")
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

        // What a record remembers wins.
        let paths = ["{state_dir}/a", "{project}/b", "/etc/c"].map(|text| FilePath::try_from(text.to_owned()).unwrap());
        let known = directories.known(paths.iter(), Some("NO_SUCH_VARIABLE"));
        assert_eq!(known, [("project".to_owned(), PathBuf::from("/srv/app"))]);
        let elsewhere = Directories::given(&host, Some(OsStr::new("/srv/other")), None).of_record(&known);
        assert_eq!(elsewhere.resolve(&paths[1]), Ok(PathBuf::from("/srv/app/b")));
    }
}

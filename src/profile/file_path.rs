//! Where a profile's file is: absolute, or where only the run knows.
//!
//! `{home}` and `{config_home}` are the user's (XDG Base Directory Specification), `{project}` and `{state_dir}` are
//! the caller's `--project` and `--state-dir`. `$NAME` is the file that this variable names. All of them are inside
//! `--root`.

use std::{ffi::OsStr, path::PathBuf};

pub use super::form::FilePath;
use crate::host::Host;

/// What a path below the user's home needs, where the run does not have it.
pub const HOME: &str = "HOME";

/// The directories and files that one run knows.
#[derive(Clone, Debug)]
pub struct Directories<'a> {
    host: &'a Host,
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

    /// What a record remembers, so that the files at `paths` are asked again before it leaves.
    pub fn known<'p>(&self, paths: impl Iterator<Item = &'p FilePath>) -> Known {
        let bases = paths.filter_map(split).map(|(base, _)| base);
        let mut known: Known = bases.filter_map(|base| Some((base.to_owned(), self.find(base).ok()?))).collect();
        known.dedup();
        known
    }

    /// Where `path` is on this run's machine: absolute, inside the root.
    ///
    /// # Errors
    /// The option or the variable that the run does not have.
    pub fn resolve(&self, path: &FilePath) -> Result<PathBuf, &'static str> {
        match split(path) {
            None => Ok(PathBuf::from(&**path)),
            Some((variable, "")) => self.find(variable),
            Some((base, below)) => Ok(self.find(base)?.join(below)),
        }
    }

    fn find(&self, base: &str) -> Result<PathBuf, &'static str> {
        let told = self.told.iter().find(|(known, _)| known == base).map(|(_, path)| path.clone());
        let (own, missing) = match base {
            "home" => (self.host.home(), HOME),
            "config_home" => (self.host.config_home(), HOME),
            "project" => (None, "--project DIR"),
            "state_dir" => (None, "--state-dir DIR"),
            _ => (self.host.var(base).map(|path| self.host.given_path(&path)), "the variable of a file"),
        };
        told.or(own).ok_or(missing)
    }
}

/// What only a run knows, and the path below it, which a variable has not.
fn split(path: &FilePath) -> Option<(&str, &str)> {
    let variable = path.strip_prefix('$').map(|name| (name, ""));
    variable.or_else(|| path.strip_prefix('{')?.split_once("}/"))
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
            ("$MINE_CONFIG", true),
            ("$", false),
            ("$MINE/x", false),
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
        assert_eq!(resolve("{state_dir}/id"), Err("--state-dir DIR"));
        assert_eq!(resolve("/etc/x"), Ok(PathBuf::from("/etc/x")));

        // What a record remembers wins.
        let paths = ["{state_dir}/a", "{project}/b", "{project}/c", "$NO_SUCH_VARIABLE", "/etc/c"];
        let paths = paths.map(|text| FilePath::try_from(text.to_owned()).unwrap());
        let known = directories.known(paths.iter());
        assert_eq!(known, [("project".to_owned(), PathBuf::from("/srv/app"))]);
        let elsewhere = Directories::given(&host, Some(OsStr::new("/srv/other")), None).of_record(&known);
        assert_eq!(elsewhere.resolve(&paths[1]), Ok(PathBuf::from("/srv/app/b")));
    }
}

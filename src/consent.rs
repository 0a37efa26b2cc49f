//! The decision whether this machine reports, and who made it. Nothing is read for a record, kept or sent before.
//!
//! The sources are asked in the order of the contract and any one "no" is enough; nothing overrides it. A source
//! that is there and cannot be understood is a "no" as well: silence must never be read as consent when it may be
//! an answer that we failed to read.

pub mod assignments;
pub mod product_file;
pub mod switch;
pub mod value;

use std::fmt;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::host::{Content, Host};
use crate::profile::ConsentRules;
use crate::profile::file_path::{Directories, Missing};
use assignments::Syntax;
use value::says_no;

/// The variable that holds for every product (consoledonottrack.com).
const DO_NOT_TRACK: &str = "DO_NOT_TRACK";

/// Files where a system or root sets variables. Other users' homes are never opened.
const FILES: [(&str, Syntax); 8] = [
    ("etc/environment", Syntax::PamEnv),
    ("etc/profile", Syntax::Shell),
    ("etc/bash.bashrc", Syntax::Shell),
    ("etc/bashrc", Syntax::Shell),
    ("root/.profile", Syntax::Shell),
    ("root/.bash_profile", Syntax::Shell),
    ("root/.bashrc", Syntax::Shell),
    ("root/.zshenv", Syntax::Shell),
];

/// Directories of such files, with the ending of those that count.
const DIRECTORIES: [(&str, &str, Syntax); 2] =
    [("etc/environment.d", ".conf", Syntax::EnvironmentD), ("etc/profile.d", ".sh", Syntax::Shell)];

/// Far more than any such file has; one that is larger cannot be a person's settings, and is a "no" unread.
const MAX_FILE: usize = 256 << 10;

/// What was decided for one profile.
#[derive(Debug)]
pub enum Decision {
    /// Nobody said no.
    Send(Permit),
    /// Somebody did.
    Skip(Refusal),
}

/// The proof that nobody said no, for the profile that it names. Only [`decide`] makes one, and whatever keeps or
/// sends something asks for it, so that "nothing happens without consent" is checked by the compiler.
#[derive(Clone, Debug)]
pub struct Permit {
    profile: String,
}

impl Permit {
    /// The profile that may report.
    pub fn profile(&self) -> &str {
        &self.profile
    }
}

/// A "no", and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A flag of the command line, as it was written.
    Flag(String),
    /// A variable of our own environment.
    Environment(String),
    /// A variable of the environment of a process above us, such as `sudo`.
    Ancestor {
        /// The variable; `None` when the environment could not be read.
        variable: Option<String>,
        /// The process.
        pid: u32,
        /// Its name.
        name: String,
    },
    /// A file where variables are set.
    File {
        /// The variable that it sets; `None` when the file could not be read as text.
        variable: Option<String>,
        /// The file, absolute.
        path: String,
    },
    /// The persistent opt-out.
    Switch(String),
    /// The product's own configuration.
    Product(String),
    /// The product's own configuration is at a place that the run was not told.
    Unplaced {
        /// The file, as the profile has it.
        path: String,
        /// The option that would tell.
        missing: &'static str,
    },
}

impl Refusal {
    /// Why that is a "no", in a few words.
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::Flag(_) => "an option says no",
            Refusal::Environment(_) | Refusal::Ancestor { variable: Some(_), .. } => "a variable says no",
            Refusal::File { variable: Some(_), .. } => "a variable set in a file says no",
            Refusal::Ancestor { variable: None, .. } => "it cannot be read, which may hide a no",
            Refusal::File { variable: None, .. } => "it cannot be read as text, which may hide a no",
            Refusal::Switch(_) => "records are switched off",
            Refusal::Product(_) => "the product's own file says no",
            Refusal::Unplaced { .. } => "without it, nobody can know",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Flag(flag) => write!(f, "option {flag}"),
            Refusal::Environment(variable) => write!(f, "env {variable}"),
            Refusal::Ancestor { variable: Some(variable), pid, name } => {
                write!(f, "env {variable} of process {pid} ({name})")
            }
            Refusal::Ancestor { variable: None, pid, name } => write!(f, "env of process {pid} ({name})"),
            Refusal::File { path, .. } | Refusal::Switch(path) | Refusal::Product(path) => f.write_str(path),
            Refusal::Unplaced { path, missing } => write!(f, "{path} is needed, and so is {missing}"),
        }
    }
}

/// Asks every source in turn; `flag` is the one of the command line that says no, if any.
pub fn decide(host: &Host, rules: &ConsentRules, flag: Option<&str>, directories: &Directories<'_>) -> Decision {
    let refusal = flag
        .map(|flag| Refusal::Flag(flag.to_owned()))
        .or_else(|| own_environment(host, rules))
        .or_else(|| {
            let names = Names::of(rules);
            ancestors(host, &names).or_else(|| files(host, &names))
        })
        .or_else(|| switch::find(host, &rules.profile).map(Refusal::Switch))
        .or_else(|| product_files(host, rules, directories));
    match refusal {
        Some(refusal) => Decision::Skip(refusal),
        None => Decision::Send(Permit { profile: rules.profile.to_string() }),
    }
}

fn own_environment(host: &Host, rules: &ConsentRules) -> Option<Refusal> {
    let mut valued = rules.variables.iter().map(String::as_str).chain([DO_NOT_TRACK]);
    let mut present = rules.present.iter().map(String::as_str);
    let refused = valued.find(|name| host.var(name).is_some_and(|value| says_no(value.as_bytes())));
    let refused = refused.or_else(|| present.find(|name| host.var(name).is_some()))?;
    Some(Refusal::Environment(refused.to_owned()))
}

/// The variables by which a product can be told no.
struct Names<'n> {
    /// By their value.
    valued: Vec<&'n str>,
    /// By being there.
    present: Vec<&'n str>,
}

impl<'n> Names<'n> {
    fn of(rules: &'n ConsentRules) -> Names<'n> {
        Names {
            valued: rules.variables.iter().map(String::as_str).chain([DO_NOT_TRACK]).collect(),
            present: rules.present.iter().map(String::as_str).collect(),
        }
    }

    /// The first that says no in the environment of another process, environ(7): entries that end in a NUL byte.
    fn refused_in_block(&self, block: &[u8]) -> Option<&'n str> {
        block.split(|b| *b == 0).find_map(|entry| {
            let value_of = |name: &&&str| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=");
            let valued = self.valued.iter().find(|name| value_of(name).is_some_and(says_no));
            valued.or_else(|| self.present.iter().find(|name| value_of(name).is_some())).copied()
        })
    }

    /// The same for a file where variables are set.
    fn refused_in_file(&self, text: &[u8], syntax: Syntax) -> Option<&'n str> {
        assignments::refusal(text, syntax, &self.valued).or_else(|| assignments::assigned(text, &self.present))
    }
}

/// sudo drops the variable that was exported before it, but its own process still has it.
///
/// A process that we may not look at is no opinion, for root as well: a security module or a missing CAP_SYS_PTRACE
/// hides process 1 on hardened systems, where nobody has said no by that.
fn ancestors(host: &Host, names: &Names<'_>) -> Option<Refusal> {
    host.ancestors().iter().find_map(|process| {
        let variable = match process.environ(host) {
            Content::Missing | Content::Forbidden => return None,
            Content::Unreadable(error) if error.kind() == ErrorKind::PermissionDenied => return None,
            Content::Unreadable(_) | Content::Bytes { truncated: true, .. } => None,
            Content::Bytes { bytes, .. } => Some(names.refused_in_block(&bytes)?.to_owned()),
        };
        Some(Refusal::Ancestor { variable, pid: process.pid, name: process.name(host).unwrap_or_default() })
    })
}

fn files(host: &Host, names: &Names<'_>) -> Option<Refusal> {
    let refusal = |path: &Path, variable: Option<&str>| Refusal::File {
        variable: variable.map(str::to_owned),
        path: format!("/{}", path.display()),
    };
    let look = |path: &Path, syntax: Syntax| match host.read(path, MAX_FILE) {
        Content::Missing => None,
        // Root's home may be closed to others. The system's own files are for everybody: a closed one hides something.
        Content::Forbidden if path.starts_with("root") => None,
        Content::Bytes { bytes, truncated: false } if !bytes.contains(&0) => {
            let variable = names.refused_in_file(&bytes, syntax)?;
            Some(refusal(path, Some(variable)))
        }
        Content::Forbidden | Content::Unreadable(_) | Content::Bytes { .. } => Some(refusal(path, None)),
    };
    FILES.iter().find_map(|(path, syntax)| look(Path::new(path), *syntax)).or_else(|| {
        DIRECTORIES.iter().find_map(|(directory, ending, syntax)| match host.names(directory) {
            Ok(files) => files.iter().find_map(|file| {
                // As the shell's own `*.sh`: hidden files are none of it.
                (file.as_bytes().ends_with(ending.as_bytes()) && !file.as_bytes().starts_with(b"."))
                    .then(|| look(&Path::new(directory).join(file), *syntax))
                    .flatten()
            }),
            Err(_) => Some(refusal(Path::new(directory), None)),
        })
    })
}

fn product_files(host: &Host, rules: &ConsentRules, directories: &Directories<'_>) -> Option<Refusal> {
    rules.files.iter().find_map(|rule| {
        let path = match directories.resolve(&rule.path) {
            Ok(path) => path,
            Err(_) if !rule.says_no.by_absence() => return None,
            Err(Missing(missing)) => {
                return Some(Refusal::Unplaced { path: rule.path.as_str().to_owned(), missing });
            }
        };
        let refused = match host.read(&path, MAX_FILE) {
            Content::Missing => rule.says_no.by_absence(),
            // Another user's file is none of ours, unless it is the one that would have to say yes.
            Content::Forbidden => rule.says_no.by_absence(),
            Content::Bytes { bytes, truncated: false } => rule.says_no.found_in(&bytes),
            Content::Unreadable(_) | Content::Bytes { .. } => true,
        };
        refused.then(|| Refusal::Product(path.display().to_string()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_block_is_read_entry_by_entry() {
        for (block, found) in [
            (&b"A=1\0DO_NOT_TRACK=1\0"[..], true),
            (b"DO_NOT_TRACK=\xff", true),
            (b"DO_NOT_TRACK=0\0", false),
            (b"DO_NOT_TRACK\0DO_NOT_TRACKER=1\0X=DO_NOT_TRACK=1\0", false),
            (b"XDO_NOT_TRACK=1\0", false),
            (b"", false),
        ] {
            let names = Names { valued: vec![DO_NOT_TRACK], present: Vec::new() };
            assert_eq!(names.refused_in_block(block).is_some(), found, "{block:?}");
        }
    }

    #[test]
    fn a_variable_that_says_no_by_being_there() {
        for (block, found) in
            [(&b"OFF=\0"[..], true), (b"OFF=0\0", true), (b"OFF=1", true), (b"OFF\0OFFICE=1\0X=OFF=1", false)]
        {
            let names = Names { valued: vec![DO_NOT_TRACK], present: vec!["OFF"] };
            assert_eq!(names.refused_in_block(block), found.then_some("OFF"), "{block:?}");
        }
    }
}

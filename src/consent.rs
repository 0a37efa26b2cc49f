//! The decision whether this machine reports, and who made it. Nothing is read for a record, kept or sent before.
//!
//! The sources are asked in the order of the contract. Any one "no" is enough, and nothing overrides it. A source that
//! is there and cannot be understood is a "no" as well.

pub mod files;
pub mod product;
pub mod switch;
pub mod value;

use std::fmt;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;

use crate::host::{Content, Host};
use crate::profile::ConsentRules;
use crate::profile::file_path::Directories;
use value::says_no;

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

/// A "no".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody said no, or may have.
    Said {
        /// Where: an option, a variable with its process, or a file.
        source: String,
        /// Why that is a "no", in a few words.
        reason: &'static str,
    },
    /// The product's own configuration is at a place that the run was not told. The caller has to tell it.
    Unplaced {
        /// The file, as the profile has it.
        path: String,
        /// The option that would tell.
        missing: &'static str,
    },
}

impl Refusal {
    fn said(source: impl fmt::Display, reason: &'static str) -> Refusal {
        Refusal::Said { source: source.to_string(), reason }
    }

    /// Why that is a "no", in a few words.
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::Said { reason, .. } => reason,
            Refusal::Unplaced { .. } => "without it, nobody can know",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Said { source, .. } => f.write_str(source),
            Refusal::Unplaced { path, missing } => write!(f, "{path} is needed, and so is {missing}"),
        }
    }
}

/// Asks every source in turn; `flag` is the one of the command line that says no, if any.
pub fn decide(host: &Host, rules: &ConsentRules, flag: Option<&str>, directories: &Directories<'_>) -> Decision {
    let refusal = flag
        .map(|flag| Refusal::said(format_args!("option {flag}"), "an option says no"))
        .or_else(|| own_environment(host, rules))
        .or_else(|| ancestors(host, rules))
        .or_else(|| files::refusal(host, rules))
        .or_else(|| switch::find(host, &rules.profile).map(|path| Refusal::said(path, "records are switched off")))
        .or_else(|| product::refusal(host, rules, directories));
    match refusal {
        Some(refusal) => Decision::Skip(refusal),
        None => Decision::Send(Permit { profile: rules.profile.clone() }),
    }
}

const BY_VARIABLE: &str = "a variable says no";

fn own_environment(host: &Host, rules: &ConsentRules) -> Option<Refusal> {
    let refused = host.variables().find_map(|(name, value)| refused_by(rules, name.as_bytes(), value.as_bytes()))?;
    Some(Refusal::said(format_args!("env {refused}"), BY_VARIABLE))
}

/// `sudo` drops the variable that was exported before it, but its own process still has it.
fn ancestors(host: &Host, rules: &ConsentRules) -> Option<Refusal> {
    let callers = host.ancestors();
    let refusal = callers.processes.iter().find_map(|process| {
        let name = process.name(host).unwrap_or_default();
        let unknown = |reason| Some(Refusal::said(format_args!("env of process {} ({name})", process.pid), reason));
        match process.environ(host) {
            Content::Bytes { bytes, truncated: false } => {
                let refused = refused_in_block(rules, &bytes)?;
                let source = format_args!("env {refused} of process {} ({name})", process.pid).to_string();
                Some(Refusal::said(source, BY_VARIABLE))
            }
            Content::Missing if process.is_there(host) || !callers.is_for_root => None,
            Content::Missing => unknown("the process went away, which may hide a no"),
            Content::Forbidden => None,
            // A security module or a missing CAP_SYS_PTRACE hides processes from root, where nobody has said no by that.
            Content::Unreadable(error) if error.kind() == ErrorKind::PermissionDenied => None,
            Content::Unreadable(_) | Content::Bytes { .. } => unknown("it cannot be read, which may hide a no"),
        }
    });
    refusal.or_else(|| {
        let pid = callers.broken_at.filter(|_| callers.is_for_root)?;
        Some(Refusal::said(format_args!("process {pid}"), "who called it cannot be known, which may hide a no"))
    })
}

/// The first variable that says no in the environment of another process, environ(7): entries that end in a NUL byte.
/// Where a name is there twice, each counts.
fn refused_in_block<'r>(rules: &'r ConsentRules, block: &[u8]) -> Option<&'r str> {
    block.split(|b| *b == 0).find_map(|entry| {
        let equals = entry.iter().position(|b| *b == b'=')?;
        refused_by(rules, &entry[..equals], &entry[equals + 1..])
    })
}

/// The rule by which a variable of that name and value says no.
fn refused_by<'r>(rules: &'r ConsentRules, name: &[u8], value: &[u8]) -> Option<&'r str> {
    let valued = rules.valued().find(|known| known.as_bytes() == name && says_no(value));
    valued.or_else(|| rules.present.iter().map(String::as_str).find(|known| known.as_bytes() == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_block_is_read_entry_by_entry() {
        let rules = ConsentRules { present: vec!["OFF".into()], ..ConsentRules::default() };
        for (block, found) in [
            (&b"A=1\0DO_NOT_TRACK=1\0"[..], Some("DO_NOT_TRACK")),
            (b"DO_NOT_TRACK=\xff", Some("DO_NOT_TRACK")),
            (b"DO_NOT_TRACK=0\0DO_NOT_TRACK=1\0", Some("DO_NOT_TRACK")),
            (b"DO_NOT_TRACK=1\0DO_NOT_TRACK=0\0", Some("DO_NOT_TRACK")),
            (b"DO_NOT_TRACK=0\0", None),
            (b"DO_NOT_TRACK\0DO_NOT_TRACKER=1\0X=DO_NOT_TRACK=1\0", None),
            (b"XDO_NOT_TRACK=1\0", None),
            (b"OFF=\0", Some("OFF")),
            (b"OFF=0\0", Some("OFF")),
            (b"OFF\0OFFICE=1\0X=OFF=1", None),
            (b"", None),
        ] {
            assert_eq!(refused_in_block(&rules, block), found, "{block:?}");
        }
    }
}

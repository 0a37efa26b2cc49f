//! Decides whether this machine reports, and tells who decided it. Before that, nothing is read for a record, kept or
//! sent.
//!
//! The sources are asked in the order of docs/opt-out.md. Any one "no" is enough, and nothing overrides it. A source
//! that is there and cannot be understood is a "no" as well.

pub mod files;
pub mod product;
pub mod switch;
pub mod value;

use std::os::unix::ffi::OsStrExt;

use crate::host::{Host, processes::is_lost};
use crate::profile::{ConsentRules, file_path::Directories};
use value::says_no;

/// Proof that nobody said no to the profile that it names. Only [`decide`] makes one. Everything that keeps or sends
/// something asks for it, so the compiler checks that nothing happens without consent.
#[derive(Clone, Debug)]
pub struct Permit(String);

impl Permit {
    /// The profile that may report.
    pub fn profile(&self) -> &str {
        &self.0
    }
}

/// A "no".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Where somebody said no, or may have (an option, a variable with its process, a file), and why that is a "no".
    #[error("{0}, {1}")]
    Said(String, &'static str),
    /// The product's own configuration cannot be found, because the caller did not tell where it is. This is a usage
    /// error.
    #[error("{0}")]
    Unplaced(String),
}

const SHIPPED_OFF: &str = "no file turns on what the product ships off";
const BY_VARIABLE: &str = "a variable says no";
const UNREADABLE: &str = "it cannot be read, which may hide a no";

/// Asks every source in turn. `flag` is the option on the command line that says no, if there is one.
///
/// # Errors
/// The first "no".
pub fn decide(host: &Host, rules: &ConsentRules, flag: Option<&str>, here: &Directories) -> Result<Permit, Refusal> {
    ask(host, rules, flag, here, ancestors)
}

/// Asks again in the same run, but not the callers: their environments do not change, and one that has ended since would
/// be taken for a "no".
///
/// # Errors
/// The first "no".
pub fn decide_again(
    host: &Host,
    rules: &ConsentRules,
    flag: Option<&str>,
    here: &Directories,
) -> Result<Permit, Refusal> {
    ask(host, rules, flag, here, |_, _| None)
}

fn ask(
    host: &Host,
    rules: &ConsentRules,
    flag: Option<&str>,
    here: &Directories,
    callers: fn(&Host, &ConsentRules) -> Option<Refusal>,
) -> Result<Permit, Refusal> {
    let own = host.vars().find_map(|(name, value)| refused_by(rules, name.as_bytes(), value.as_bytes()));
    let refusal = flag
        .map(|flag| Refusal::Said(format!("option {flag}"), "an option says no"))
        .or_else(|| own.map(|name| Refusal::Said(format!("env {name}"), BY_VARIABLE)))
        .or_else(|| callers(host, rules))
        .or_else(|| files::refusal(host, rules))
        .or_else(|| {
            let why = |is_seen| if is_seen { "records are switched off" } else { UNREADABLE };
            switch::find(host, &rules.profile).map(|(path, is_seen)| Refusal::Said(path, why(is_seen)))
        })
        .or_else(|| product::refusal(host, rules, here));
    refusal.map_or_else(|| Ok(Permit(rules.profile.clone())), Err)
}

/// `sudo` drops the variable that was exported before it, but its own process still has it.
fn ancestors(host: &Host, rules: &ConsentRules) -> Option<Refusal> {
    let callers = host.ancestors();
    let name = |pid| host.line(format!("proc/{pid}/comm")).unwrap_or("unknown".to_owned());
    let of = |pid| format!("of process {pid} ({})", name(pid));
    let hidden = |pid: u32| Refusal::Said(format!("env {}", of(pid)), UNREADABLE);
    let said = callers.processes.iter().find_map(|pid| match host.process_environ(*pid) {
        Ok(block) => {
            let variable = refused_in_block(rules, &block)?;
            Some(Refusal::Said(format!("env {variable} {}", of(*pid)), BY_VARIABLE))
        }
        Err(error) => is_lost(&error).then(|| hidden(*pid)),
    });
    said.or_else(|| callers.broken_at.map(hidden))
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
    let is_no = |(known, by_presence): &(&str, bool)| known.as_bytes() == name && (*by_presence || says_no(value));
    rules.names().find(is_no).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_block_is_read_entry_by_entry() {
        let rules: ConsentRules = serde_json::from_str(r#"{"present":["OFF"]}"#).unwrap();
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

//! `off` and `on`: the persistent opt-out, and the switch that a product has in a file of its own.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::cli::Request;
use crate::consent::switch;
use crate::host::directory::Synced;
use crate::host::{Content, Host};
use crate::ledger;
use crate::ledger::identity::json_with;
use crate::options;
use crate::outcome::{Outcome, Reporter};
use crate::profile::consent_rules::SaysNo;
use crate::profile::{self, Source};

/// The largest file of a product's own switch.
const MAX_FILE: usize = 1 << 20;

/// Writes the "no", then deletes what waits. When this returns, nothing that it forbids is begun, and what was under way
/// is over.
pub fn off(request: &Request, host: &Host, reporter: &Reporter) -> Result<Outcome, Outcome> {
    let profile = named(request)?;
    if let Some(name) = &profile {
        warn_if_unknown(name, host, reporter);
    }
    let mut written = Vec::new();
    let mut problems = Vec::new();
    let ours = switch::off(host, profile.as_deref()).map_err(|(path, error)| (path, error.into()));
    let own = own_switches(request, host, profile.as_deref());
    let own = own.into_iter().map(|own| own.write(host, true).map_err(|problem| (own.path, problem)));
    for result in [ours].into_iter().chain(own) {
        match result {
            Ok(path) => written.push(path.display().to_string()),
            Err((path, problem)) => problems.push(format!("{}: {problem}", path.display())),
        }
    }
    let problems = problems.join("; ");
    if written.is_empty() {
        return Err(Outcome::Failed(format!("{problems}; records are NOT switched off")));
    }
    let mut line = format!("install records of {} are off ({})", whose(profile.as_deref()), written.join(", "));
    if !problems.is_empty() {
        line += &format!(", but not for every user: {problems}");
    }
    let mut count = 0;
    for identity in super::identity_files(request, host) {
        count += ledger::discard_pending(host, identity.as_deref(), profile.as_deref()).map_err(|problem| {
            Outcome::Failed(format!("{line}, but what was pending could not be deleted: {problem}"))
        })?;
    }
    Ok(Outcome::Done(if count == 0 { line } else { format!("{line}, {count} pending deleted") }))
}

/// Takes the "no" back.
pub fn on(request: &Request, host: &Host) -> Result<Outcome, Outcome> {
    let profile = named(request)?;
    let failed = |(path, problem): (PathBuf, io::Error)| {
        Outcome::Failed(format!("{}: {problem}; records stay switched off", path.display()))
    };
    for own in own_switches(request, host, profile.as_deref()) {
        own.write(host, false).map_err(|problem| failed((own.path, problem)))?;
    }
    switch::on(host, profile.as_deref()).map_err(|(path, error)| failed((path, error.into())))?;
    let whose = whose(profile.as_deref());
    Ok(Outcome::Done(match switch::find(host, profile.as_deref().unwrap_or(profile::DEFAULT)) {
        None => format!("the switch of {whose} is gone; install-record status tells whether anything else says no"),
        Some(path) => format!("the switch of {whose} is gone, but {path} still says no for all"),
    }))
}

fn whose(profile: Option<&str>) -> String {
    profile.map_or_else(|| "all products".to_owned(), |name| format!("the profile {name}"))
}

/// The profile that the command is about. It need not be installed yet.
fn named(request: &Request) -> Result<Option<String>, Outcome> {
    let Some(name) = &request.profile else { return Ok(None) };
    match name.to_str().filter(|name| profile::is_name(name)) {
        Some(name) => Ok(Some(name.to_owned())),
        None => Err(Outcome::Usage(format!("--profile '{}' must be a profile's name here", name.to_string_lossy()))),
    }
}

/// A slip in the name would look like success.
fn warn_if_unknown(name: &str, host: &Host, reporter: &Reporter) {
    let known = profile::all_names(host);
    if !known.iter().any(|known| known == name) {
        reporter.warn(format_args!("there is no profile {name} here, known are {}", known.join(", ")));
    }
}

/// A key of a product's own file by which the product itself is switched off.
struct OwnSwitch {
    /// Absolute, inside the root.
    file: PathBuf,
    pointer: String,
    /// As the running system sees it.
    path: PathBuf,
}

impl OwnSwitch {
    /// Writes that key. A file that is not there says nothing, which needs no taking back.
    fn write(&self, host: &Host, is_off: bool) -> Result<PathBuf, io::Error> {
        let (directory, name) = match host.place(&self.file, is_off.then_some(0o700)) {
            Err(Errno::NOENT) if !is_off => return Ok(self.path.clone()),
            other => other?,
        };
        let text = match directory.read(&name, MAX_FILE) {
            Content::Bytes { bytes, truncated: false } => bytes,
            Content::Missing if is_off => Vec::new(),
            Content::Missing => return Ok(self.path.clone()),
            Content::Unreadable(error) => return Err(error),
            Content::Forbidden => return Err(Errno::ACCESS.into()),
            Content::Bytes { .. } => return Err(io::Error::other(format!("larger than {MAX_FILE} bytes"))),
        };
        let text = json_with(&text, &self.pointer, Some((!is_off).into()))?;
        directory.rewrite(&name, &text, 0o600, Synced::Name)?;
        Ok(self.path.clone())
    }
}

/// The switches of the product itself, where its profile says that they are written with ours.
fn own_switches(request: &Request, host: &Host, profile: Option<&str>) -> Vec<OwnSwitch> {
    let Some(name) = profile else { return Vec::new() };
    // A profile that is not installed yet has none that could be known.
    let rules = Source::find(host, Some(OsStr::new(name))).and_then(|source| source.consent());
    let files = rules.map(|rules| rules.files).unwrap_or_default();
    let own = files.into_iter().filter(|rule| rule.is_written).filter_map(|rule| {
        let SaysNo::False(pointer) = rule.says_no else { return None };
        let file = options::directories(request, host).resolve(&rule.path).ok()?;
        Some(OwnSwitch { path: host.path(&file), file, pointer })
    });
    own.collect()
}

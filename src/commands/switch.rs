//! `off` and `on`: the persistent opt-out, and the switch that a product has in a file of its own.

use std::{ffi::OsStr, io, path::Path, path::PathBuf, time::Duration};

use rustix::io::Errno;

use super::{identity_places, waiting_for_others};
use crate::end_after;
use crate::host::{Host, directory::Synced, path_error::PathError};
use crate::profile::{self, Pointer, Source};
use crate::{cli::UsageError, consent::switch, json_edit::json_with, ledger::Store, options::Run, outcome::Outcome};

/// The largest file that can hold a product's own switch.
const MAX_FILE: usize = 1 << 20;

/// How long runs of other users are waited for: they have 3 seconds, unless they were given more.
const PATIENCE: Duration = Duration::from_secs(10);

/// Writes the "no", then deletes what waits. If this succeeds, no delivery that it forbids begins any more, and those
/// that were under way are over, but for a run that could not tell ([`switch::under_way`]).
pub fn off(run: Run<'_>) -> Result<Outcome, Outcome> {
    let profile = named(run)?;
    let known = profile::all_names(run.host);
    if let Some(name) = profile.filter(|name| !known.iter().any(|known| known == name)) {
        // A mistyped name would otherwise look like success.
        run.reporter.warn(format_args!("there is no profile {name} here, known are {}", known.join(", ")));
    }
    let ours = switch::off(run.host, profile);
    let is_for_all = ours.is_ok();
    let own = own_switches(run, profile).into_iter().map(|(file, pointer)| write(run.host, &file, &pointer, true));
    let (written, problems): (Vec<_>, Vec<_>) = [ours].into_iter().chain(own).partition(Result::is_ok);
    let written: Vec<_> = written.into_iter().flatten().map(|path| path.display().to_string()).collect();
    let problems: Vec<_> = problems.into_iter().filter_map(Result::err).map(|it| it.to_string()).collect();
    let (written, problems) = (written.join(", "), problems.join("; "));
    if written.is_empty() {
        let said = switch::find(run.host, profile.unwrap_or(profile::DEFAULT)).map(|path| format!("{path} says no"));
        let said = said.unwrap_or("records are NOT switched off".to_owned());
        return Err(Outcome::Failed(format!("{problems}; {said}")));
    }
    let mut line = format!("install records of {} are off ({written})", whose(profile));
    if !problems.is_empty() {
        let where_not = if is_for_all { "in the product's own file" } else { "for every user" };
        line += &format!(", but not {where_not}: {problems}");
    }
    waiting_for_others(&line);
    let failed = |why| Outcome::Failed(format!("{line}, but what was pending could not be deleted: {why}"));
    let (stores, problem) = Store::all(run.host, &identity_places(run));
    let counts: Vec<_> = stores.iter().map(|store| store.discard(profile).map(|(count, _)| count)).collect();
    problem.map_or(Ok(()), Err).map_err(failed)?;
    let count = counts.into_iter().sum::<Result<usize, _>>().map_err(failed)?;
    // Last, and not for long, because any user can hold this lock.
    if is_for_all {
        end_after(run, run.host.started.elapsed() + PATIENCE);
        switch::wait_for_runs(run.host);
    }
    Ok(Outcome::Done(if count == 0 { line } else { format!("{line}, {count} pending deleted") }))
}

/// Takes the "no" back.
pub fn on(run: Run<'_>) -> Result<Outcome, Outcome> {
    let profile = named(run)?;
    let failed = |problem: PathError| Outcome::Failed(format!("{problem}; not every switch is gone"));
    for (file, pointer) in own_switches(run, profile) {
        write(run.host, &file, &pointer, false).map_err(failed)?;
    }
    switch::on(run.host, profile).map_err(failed)?;
    let whose = whose(profile);
    Ok(Outcome::Done(match switch::find(run.host, profile.unwrap_or(profile::DEFAULT)) {
        None => format!("the switch of {whose} is gone; install-record status tells whether anything else says no"),
        Some(path) => format!("the switch of {whose} is gone, but {path} still says no"),
    }))
}

fn whose(profile: Option<&str>) -> String {
    profile.map_or_else(|| "all products".to_owned(), |name| format!("the profile {name}"))
}

/// The profile that the command is about. It need not be installed yet.
fn named(run: Run<'_>) -> Result<Option<&str>, Outcome> {
    let Some(name) = run.request.profile() else { return Ok(None) };
    let wrong = || UsageError(format!("--profile '{}' must be a profile's name here", name.to_string_lossy()));
    Ok(Some(name.to_str().filter(|name| profile::is_name(name)).ok_or_else(wrong)?))
}

/// The product's own switches that its profile wants written together with ours: each is a JSON file and a key in it.
fn own_switches(run: Run<'_>, profile: Option<&str>) -> Vec<(PathBuf, Pointer)> {
    // The switches of a profile that is not installed yet are not known.
    let find = |name| Source::find(run.host, Some(OsStr::new(name))).and_then(|source| source.consent()).ok();
    let rules = profile.and_then(find).map(|rules| rules.files).unwrap_or_default();
    let own = rules.into_iter().filter(|rule| rule.written);
    own.filter_map(|rule| Some((run.directories().resolve(&rule.path).ok()?, rule.is_false?))).collect()
}

/// Writes such a key. Returns the file's path on the running system. A file that does not exist says nothing, so there
/// is nothing to take back in it.
fn write(host: &Host, file: &Path, pointer: &str, is_off: bool) -> Result<PathBuf, PathError> {
    let write = || {
        let (directory, name) = match host.place(file, is_off.then_some(0o700)) {
            Err(Errno::NOENT | Errno::NOTDIR) if !is_off => return Ok(()),
            other => other?,
        };
        let text = match directory.read(&name, MAX_FILE)? {
            None if !is_off => return Ok(()),
            text => text.unwrap_or_default(),
        };
        let text = json_with(&text, pointer, Some((!is_off).into()))?;
        directory.rewrite(&name, &text, 0o600, Synced::Name)?;
        Ok(())
    };
    let path = host.path(file);
    write().map(|()| path.clone()).map_err(PathError::at::<io::Error>(path))
}

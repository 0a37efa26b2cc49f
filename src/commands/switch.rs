//! `off` and `on`: the persistent opt-out, and the switch that a product has in a file of its own.

use std::{io, time::Duration, time::Instant};

use super::{stores, waiting_for_others, wanted};
use crate::end_at;
use crate::host::{directory::Synced, path_error::PathError};
use crate::profile::{self, Source};
use crate::{consent::switch, json_edit::json_with, options::Run, outcome::Outcome};

/// The largest file that can hold a product's own switch.
const MAX_FILE: usize = 1 << 20;

/// Whose records they are where no profile is named.
const ALL: &str = "all products";

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
    // Each switch is written even if the other one cannot be.
    let (ours, own) = (switch::off(run.host, profile), write_own(run, profile, false));
    let failed = |problem: PathError| Outcome::Failed(format!("{problem}; not every switch is written"));
    ours.and(own).map_err(failed)?;
    let line = format!("install records of {} are off", profile.unwrap_or(ALL));
    waiting_for_others(&line);
    let failed = |why| Outcome::Failed(format!("{line}, but what was pending could not be deleted: {why}"));
    let (stores, problem) = stores(run, &wanted(run).unwrap_or_default());
    let counts: Vec<_> = stores.iter().map(|store| store.discard(profile).map(|(count, _)| count)).collect();
    problem.map_or(Ok(()), Err).map_err(failed)?;
    let count = counts.into_iter().sum::<Result<usize, _>>().map_err(failed)?;
    // Last, and not for long, because any user can hold this lock.
    end_at(Instant::now() + PATIENCE);
    switch::wait_for_runs(run.host);
    Ok(Outcome::Done(if count == 0 { line } else { format!("{line}, {count} pending deleted") }))
}

/// Takes the "no" back.
pub fn on(run: Run<'_>) -> Result<Outcome, Outcome> {
    let profile = named(run)?;
    let gone = write_own(run, profile, true).and_then(|()| switch::on(run.host, profile));
    gone.map_err(|problem| Outcome::Failed(format!("{problem}; not every switch is gone")))?;
    let whose = profile.unwrap_or(ALL);
    Ok(Outcome::Done(format!("the switch of {whose} is gone; status tells whether anything else says no")))
}

/// The profile that the command is about. It need not be installed yet.
fn named(run: Run<'_>) -> Result<Option<&str>, Outcome> {
    let Some(name) = run.request.profile() else { return Ok(None) };
    let wrong = || Outcome::Usage(format!("--profile '{}' must be a profile's name here", name.to_string_lossy()));
    Ok(Some(name.to_str().filter(|name| profile::is_name(name)).ok_or_else(wrong)?))
}

/// Writes the product's own switches that its profile wants written together with ours: each is a key in a JSON file.
fn write_own(run: Run<'_>, profile: Option<&str>, is_on: bool) -> Result<(), PathError> {
    // The switches of a profile that is not installed yet are not known.
    let rules = profile.and_then(|name| Source::find(run.host, Some(name.as_ref())).ok()?.consent().ok());
    for rule in rules.iter().flat_map(|rules| &rules.files).filter(|rule| rule.written) {
        let (Ok(file), Some(pointer)) = (run.directories().resolve(&rule.path), &rule.is_false) else { continue };
        let write = || {
            let (directory, name) = run.host.place(&file, Some(0o700))?;
            let text = directory.read(&name, MAX_FILE)?.unwrap_or_default();
            let text = json_with(&text, pointer, Some(is_on.into()))?;
            Ok(directory.rewrite(&name, &text, 0o600, Synced::Name)?)
        };
        // A file that does not exist says nothing, so there is nothing to take back in it.
        if !is_on || run.host.may_exist(&file) {
            write().map_err(PathError::at::<io::Error>(run.host.path(&file)))?;
        }
    }
    Ok(())
}

//! The administrator's commands: everything but `send`. They read, write and delete at an explicit request, and tell
//! when they could not.

mod switch;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use crate::consent;
use crate::delivery::{Ended, deliver};
use crate::draft::Draft;
use crate::facts::Fact;
use crate::kernel::LAST_WORDS;
use crate::ledger::binding::MachineBinding;
use crate::ledger::{self, IdentityFile, Journal, Ledger};
use crate::options::{Options, Run};
use crate::outcome::{Outcome, Reporter, asked_to_wait};
use crate::profile::file_path::Known;
use crate::profile::{self, Profile, ProfileError, Source};
use crate::status::{self, ProfileState, Status};
use crate::{end_after, permit};

pub use switch::{off, on};

/// Prints what `send` would post: the record that waits, or a new one. Nothing is sent or written.
pub fn show(run: Run<'_>) -> Result<Outcome, Outcome> {
    let profile = Source::find(run.host, run.request.profile())?.profile()?;
    let refusal = match permit(run, &profile.consent, &run.directories()) {
        Ok(_) => None,
        Err(Outcome::OptedOut(refusal)) => Some(refusal),
        Err(usage) => return Err(usage),
    };
    let options = Options::resolve(run, &profile)?;
    let remark = |why: String| Some(format!("nothing would be sent: {why}"));
    let mut draft = match Draft::new(run, &options) {
        Err(Outcome::Skipped(why)) => return Ok(Outcome::Printed(Vec::new(), remark(why))),
        other => other?,
    };
    options.endpoint.clone()?;
    let ids = shown_ids(run, &options);
    let key = draft.subject().key(ids.first().map(|(_, id)| &**id));
    let file = options.identity_file();
    let mut waiting = ledger::journals(run.host, file.map(|file| &*file.path)).0.into_iter().map(|it| it.record);
    let body = waiting.find(|it| key.is_some() && it.key == key).unwrap_or_else(|| draft.record(&ids)).body;
    let remark = match refusal {
        Some(refusal) => remark(format!("{refusal}, {}", refusal.reason())),
        None if ledger::is_reported(run.host, file, None, &draft.subject()) => {
            remark(format!("{} was reported before", draft.subject().name()))
        }
        None => None,
    };
    // The exact bytes; on a terminal, the prompt follows on a line of its own.
    let end = if std::io::stdout().is_terminal() { "\n" } else { "" };
    Ok(Outcome::Printed((body + end).into_bytes(), remark))
}

/// The IDs that a record would have: the stored ones, else what was given, else fresh ones that are not kept.
fn shown_ids(run: Run<'_>, options: &Options<'_>) -> Vec<(Fact, String)> {
    let given = |file: &IdentityFile| options.instance_id.clone().filter(|id| file.rule.format.holds(id));
    let ids = options.ids.iter().enumerate().map(|(index, (fact, file))| {
        let stored = file.id(run.host).ok().flatten();
        let id = stored.or_else(|| given(file).filter(|_| index == 0));
        (*fact, id.unwrap_or_else(|| file.rule.format.fresh(run.host.now())))
    });
    ids.collect()
}

/// Prints the decision of one profile, or of every one, and what was sent and waits.
pub fn status(run: Run<'_>) -> Result<Outcome, Outcome> {
    let profiles = wanted(run)?;
    let name = profiles.first().map(|profile| &*profile.name).filter(|_| run.request.has("profile"));
    let (mut pending, mut sent) = (Vec::new(), Vec::new());
    for place in state_places(run) {
        let (waiting, receipts) = ledger::journals(run.host, place.as_deref());
        pending.extend(waiting);
        sent.extend(receipts);
    }
    for journals in [&mut pending, &mut sent] {
        journals.retain(|journal: &Journal| name.is_none_or(|name| name == journal.record.profile));
        journals.sort_by_key(|journal| Reverse((journal.record.created.clone(), journal.record.id.clone())));
        journals.dedup_by(|one, other| one.record.id == other.record.id);
    }
    let mut states = Vec::new();
    for profile in &profiles {
        let refusal = run.request.refusal.as_deref();
        let decision = consent::decide(run.host, &profile.consent, refusal, &run.directories());
        states.push(ProfileState::new(run.host, &decision, &Options::resolve(run, profile)?, &sent));
    }
    let status = Status::new(states, pending, sent);
    Outcome::printed(if run.request.has("json") { status.json() } else { status.text(name.is_none()) })
}

/// Looks a profile over.
pub fn check(run: Run<'_>) -> Result<Outcome, Outcome> {
    Outcome::printed(status::check(&Source::find(run.host, run.request.profile())?.profile()?))
}

/// Delivers what waits, each record to the endpoint that it was made for. One product's fault does not stop the others.
pub fn flush(run: Run<'_>) -> Result<Outcome, Outcome> {
    let mut ends = Vec::new();
    for profile in wanted(run)? {
        match flush_product(run, &profile) {
            Ok(ended) => ends.extend(ended),
            Err(usage @ Outcome::Usage(_)) => return Err(usage),
            Err(Outcome::Lost(why)) => {
                run.reporter.warn(format_args!("{}: {why}, so its records wait", profile.name));
                let (waiting, _) = ledger::journals(run.host, None);
                let of_profile = waiting.iter().filter(|journal| journal.record.profile == profile.name);
                ends.extend(of_profile.map(|_| Ended::Kept(why.clone())));
            }
            Err(ended) => run.reporter.explain(format_args!("{}: {ended}", profile.name)),
        }
    }
    let why = |end| match end {
        Ended::Sent(_) => None,
        Ended::Kept(why) | Ended::Refused(why) => Some(why),
    };
    let (all, mut left) = (ends.len(), ends.into_iter().filter_map(why).collect::<Vec<_>>());
    Ok(Outcome::Flushed(all - left.len(), left.len(), left.pop().unwrap_or_default()))
}

fn flush_product(run: Run<'_>, profile: &Profile) -> Result<Vec<Ended>, Outcome> {
    // What this run was not told, every record knows for itself.
    if let Err(refused @ Outcome::OptedOut(_)) = permit(run, &profile.consent, &run.directories()) {
        return Err(refused);
    }
    let options = Options::resolve(run, profile)?;
    options.endpoint.clone()?;
    end_after(run, options.timeout);
    let (waiting, _) = ledger::journals(run.host, options.identity_file().map(|file| &*file.path));
    let of_profile = waiting.into_iter().map(|journal| journal.record).filter(|record| record.profile == profile.name);
    let mut ends = Vec::new();
    for (place, known) in of_profile.map(|it| (it.identity_file, it.directories)).collect::<BTreeSet<_>>() {
        match flush_place(run, &options, place.as_deref(), &known) {
            Ok(ended) => ends.extend(ended),
            Err(Outcome::Lost(why)) => return Err(Outcome::Lost(why)),
            Err(ended) => run.reporter.explain(format_args!("{}: {ended}", profile.name)),
        }
    }
    Ok(ends)
}

/// Delivers the records of one product and one identity file, whose runs knew the same directories: the way of `send`
/// without a record of its own.
fn flush_place(
    run: Run<'_>,
    options: &Options<'_>,
    place: Option<&Path>,
    known: &Known,
) -> Result<Vec<Ended>, Outcome> {
    let profile = options.profile;
    let there = run.directories().of_record(known);
    let first_permit = permit(run, &profile.consent, &there)?;
    let rule = profile.identity.first().map(|(_, rule)| rule).zip(place);
    let file = rule.map(|(rule, path)| IdentityFile::at(path.to_owned(), rule, &there));
    let binding = MachineBinding::of(run.host);
    let (ledger, lock) = Ledger::open(&first_permit, run.host, run.reporter, file, binding)?;
    let permit = permit(run, &profile.consent, &there)?;
    let backlog = ledger.backlog(&permit, None, known);
    drop(lock);
    let held = backlog.held.into_iter().map(|until| Ended::Kept(asked_to_wait(until)));
    Ok(held.chain(deliver(&permit, &ledger, options, backlog.claims)).collect())
}

/// Deletes what is remembered of one profile, or of every one.
pub fn forget(run: Run<'_>) -> Result<Outcome, Outcome> {
    let profiles = wanted(run)?;
    waiting_for_others("not everything could be deleted");
    for profile in &profiles {
        let options = Options::resolve(run, profile)?;
        if run.request.has("profile") {
            options.placed()?;
        }
        let (name, files) = (&profile.name, options.ids.into_iter().map(|(_, file)| file).collect::<Vec<_>>());
        let failed = |problem| Outcome::Failed(format!("not everything of {name} could be deleted: {problem}"));
        ledger::forget(run.host, name, &files).map_err(failed)?;
    }
    let names: Vec<&str> = profiles.iter().map(|profile| &*profile.name).collect();
    Ok(Outcome::Done(format!("IDs, pending records and receipts of {} are deleted", names.join(", "))))
}

/// What is said where the alarm ends the wait for the runs that are under way: they end by their own budgets, a minute at
/// most, but one that was stopped holds its locks for longer.
fn waiting_for_others(done: &str) {
    let _ = LAST_WORDS.set(format!("install-record: {done}, but another run is still under way; try again\n"));
}

/// The profile that was named, or every one that can be read: one vendor's broken file is none of another's business.
fn wanted(run: Run<'_>) -> Result<Vec<Profile>, Outcome> {
    let read = |name: &OsStr| Source::find(run.host, Some(name)).and_then(|source| source.profile());
    if let Some(name) = run.request.profile() {
        return Ok(vec![read(name)?]);
    }
    let explain = |error: ProfileError| run.reporter.explain(format_args!("{error}, so it is left out"));
    let names = profile::all_names(run.host);
    Ok(names.iter().filter_map(|name| read(OsStr::new(name)).map_err(explain).ok()).collect())
}

/// Beside which identity files state may be, and none for the system's own state directory.
fn state_places(run: Run<'_>) -> Vec<Option<PathBuf>> {
    let run = Run { reporter: &Reporter { is_quiet: true, is_verbose: false }, ..run };
    let profiles = wanted(run).unwrap_or_default();
    let place = |profile| Some(Options::resolve(run, profile).ok()?.identity_file()?.path.clone());
    [None].into_iter().chain(profiles.iter().filter_map(place).map(Some)).collect()
}

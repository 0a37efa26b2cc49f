//! One install record from a deb, an rpm or a container: consent first, bounded, with a local receipt.
//!
//! This file tells the story: [`send`] is a list of gates. Each stage is a module of its own. ARCHITECTURE.md
//! has the map.

pub mod cli;
mod commands;
pub mod consent;
pub mod courier;
pub mod delivery;
pub mod dispatch;
pub mod draft;
pub mod endpoint;
pub mod facts;
pub mod host;
pub mod id;
mod json_edit;
pub mod kernel;
pub mod ledger;
pub mod nearest;
pub mod options;
pub mod outcome;
pub mod profile;
mod status;
pub mod template;

use std::{ffi::OsStr, mem::ManuallyDrop, sync::atomic::Ordering, time::Duration, time::Instant};

use cli::{Command, Request};
use consent::Permit;
use delivery::deliver;
use draft::Draft;
use facts::deployment::{CONTAINER, Evidence, IMAGE_BUILD};
use host::{Host, path_error::PathError};
use ledger::{Claim, Ledger, PENDING, Store, View, binding::MachineBinding};
use options::{Options, Run};
use outcome::{Outcome, Reporter};
use profile::{ConsentRules, Source, file_path::Directories};

/// Does what the command line asks for.
pub fn run(request: &Request, reporter: &Reporter) -> Outcome {
    let root = request.setting("root").map(|root| Host::new(None).given_path(root));
    if let Some(root) = root.as_ref().filter(|root| !root.is_dir()) {
        return Outcome::Usage(format!("--root {}: there is no such directory", root.display()));
    }
    let host = &Host::new(root);
    let run = Run { request, host, reporter };
    end_at(host.started + run.timeout());
    // Others do this themselves, after consent: a run that is refused starts no thread.
    if !request.is_unattended() {
        kernel::give_alarm_to_thread();
    }
    let ended = match request.command {
        Command::Send => send(run),
        Command::Show => commands::show(run),
        Command::Status => commands::status(run),
        Command::Off => commands::off(run),
        Command::On => commands::on(run),
        Command::Flush => commands::flush(run),
        Command::Forget => commands::forget(run),
        Command::Facts => Ok(Outcome::printed(status::facts(run))),
        Command::Check => status::check(run),
        Command::Help => Ok(Outcome::printed(cli::help())),
    };
    let ended = ended.unwrap_or_else(|outcome| outcome);
    if request.is_unattended() { ended } else { ended.of_command() }
}

/// Sets the alarm. It ends the run a little after `deadline`, whatever the run is waiting for.
fn end_at(deadline: Instant) {
    const GRACE: Duration = Duration::from_millis(100);
    kernel::end_process_after((deadline + GRACE).saturating_duration_since(Instant::now()));
}

/// Reports this installation once. `Ok` and `Err` both say how the run ended.
fn send(run: Run<'_>) -> Result<Outcome, Outcome> {
    // Profile: whose rules apply. Until there is consent, nothing else is looked at.
    let unfound = |error| unfound(run, run.request.profile(), error);
    let source = Source::find(run.host, run.request.profile()).map_err(unfound)?;
    let rules = source.consent().map_err(unfound)?;

    // Consent: did anybody say no?
    let here = run.directories();
    let first_permit = permit(run, &rules, &here)?;
    run.reporter.explain("nobody said no");

    // Options: what is asked for. Usage errors end here. The profile is not freed, because the process ends after this
    // run.
    let profile = &ManuallyDrop::new(source.rest(rules)?);
    let options = Options::resolve(run, profile)?;
    end_at(options.deadline);
    kernel::give_alarm_to_thread();
    let mut draft = Draft::new(run, &options)?;

    // Situation: an image that is being built is no installation, and must not carry an ID.
    let binding = binding(run)?;

    // Ledger: was it reported before? Every upgrade ends here, without a lock.
    let file = options.identity_file();
    let store = Store::open(run.host, file, false).ok();
    let view = View { host: run.host, file, store: store.as_ref(), here: binding.as_ref() };
    let is_reported = view.is_reported(&draft.subject);
    if is_reported && !store.as_ref().is_some_and(Store::has_work) {
        return Ok(Outcome::AlreadyReported);
    }

    // A variable for the endpoint that cannot be used ends the run: somebody meant another server.
    options.endpoint.clone()?;

    // Facts: only what the profile's template names.
    if !is_reported {
        draft.detect();
    }

    // Ledger, under its lock: consent once more, the ID, the record on disk and claimed, and other records that wait
    // under the same ID. Where this product was reported before, a failure here concerns only those others, so it is
    // not mentioned.
    let unkept = |error: PathError| if is_reported { Outcome::AlreadyReported } else { error.into() };
    let opened = Ledger::open(&first_permit, run.reporter, view);
    let (ledger, lock) = opened.map_err(unkept)?;
    let _under_way = consent::switch::under_way(run.host);
    let permit = permit(run, &profile.consent, &here)?;
    let own = own_record(run, &ledger, &mut draft);
    let mut claims = ledger.backlog(&permit, own.as_ref().ok(), &options.directories);
    drop(lock);

    // Delivery: this run's own record first, and consent once more before each other one. The result of each is written
    // down.
    let ended = own.map(|claim| claims.insert(0, claim)).err();
    let ask = || permit_again(run, &profile.consent, &here);
    let mut ends = deliver(permit, ask, &ledger, &options, &mut claims);
    if ended.is_none() && ends.iter().all(|end| matches!(end, Outcome::Sent(_) | Outcome::Skipped(_))) {
        // Everything has arrived. That counts even if the alarm comes before it is written down.
        kernel::ABORT_STATUS.store(0, Ordering::Relaxed);
    }
    ledger.complete(&claims);

    // Outcome: one sentence and an exit status. The other records are mentioned only where this run's own record says
    // nothing, or where only they make the run fail.
    let ended = ended.unwrap_or_else(|| ends.remove(0));
    let (others, strict) = (flushed(ends), run.request.has("strict"));
    let is_silent = matches!(ended, Outcome::AlreadyReported | Outcome::Skipped(_));
    let is_news = is_silent && matches!(others, Outcome::Flushed(1.., ..));
    if is_news || others.exit_status(strict) > ended.exit_status(strict) {
        ended.report(run.reporter);
        return Ok(others);
    }
    Ok(ended)
}

/// How a run ends when its profile cannot be read. A "no" to all products comes first: then the run says nothing about
/// the profile.
fn unfound(run: Run<'_>, name: Option<&OsStr>, error: Outcome) -> Outcome {
    let name = name.unwrap_or_default().to_string_lossy().into_owned();
    let rules = ConsentRules { profile: name, ..ConsentRules::default() };
    permit(run, &rules, &run.directories()).err().unwrap_or(error)
}

/// The permit to report, or how the run ends without one.
fn permit(run: Run<'_>, rules: &ConsentRules, directories: &Directories) -> Result<Permit, Outcome> {
    Ok(consent::decide(run.host, rules, run.request.refusal.as_deref(), directories)?)
}

/// The same for a further record of this run.
fn permit_again(run: Run<'_>, rules: &ConsentRules, directories: &Directories) -> Result<Permit, Outcome> {
    Ok(consent::decide_again(run.host, rules, run.request.refusal.as_deref(), directories)?)
}

/// The binding to this machine, which tells a clone from its original. It is `None` in an application container, where
/// a new machine-id does not mean a new machine.
///
/// # Errors
/// [`Outcome::Skipped`]: why this is taken for an image that is being built.
fn binding(run: Run<'_>) -> Result<Option<MachineBinding>, Outcome> {
    let (situation, because) = Evidence::gather(run.host).verdict();
    run.reporter.explain(format_args!("deployment: {}, {because}", situation.unwrap_or("none")));
    match situation {
        IMAGE_BUILD => Err(Outcome::Skipped(format!("{because}, assuming that an image is being built"))),
        CONTAINER => Ok(None),
        _ => Ok(MachineBinding::of(run.host)),
    }
}

/// This run's own record, claimed. Without one, `Err` says how the run ends after the other records are delivered.
fn own_record(run: Run<'_>, ledger: &Ledger, draft: &mut Draft<'_>) -> Result<Claim, Outcome> {
    let options = draft.options;
    let ids = ledger.ids(&options.ids, options.instance_id.as_deref())?;
    let instance_id = ids.first().map(|(_, id)| &**id);
    let there = |claim: &Claim| run.directories().of_record(&claim.journal.record.directories);
    let mut claim = match ledger.waiting(&draft.subject, instance_id)? {
        Some(claim) if permit(run, &options.profile.consent, &there(&claim)).is_ok() => claim,
        refused => {
            // Somebody says no in the directories of the run that made it. This run's own record takes its place.
            refused.map(|claim| ledger.store.remove(PENDING, &claim.journal.name)).transpose()?;
            ledger.store.add(draft.record(&ids))?
        }
    };
    // A product's own run delivers its waiting record to the endpoint of this run.
    claim.journal.record.url = options.endpoint.clone()?.url;
    Ok(claim)
}

/// Counts how the delivery of waiting records ended.
fn flushed(ends: impl IntoIterator<Item = Outcome>) -> Outcome {
    let (mut sent, mut left) = (0, Vec::new());
    for end in ends {
        match end {
            Outcome::Sent(_) => sent += 1,
            Outcome::Pending(why, _) | Outcome::Lost(why) => left.push(why),
            _ => {}
        }
    }
    Outcome::Flushed(sent, left.len(), left.into_iter().next().unwrap_or_default())
}

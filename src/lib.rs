//! One install record from a deb, an rpm or a container: consent first, bounded, with a local receipt.
//!
//! This file is the story. [`send`] is a list of gates; each stage is a room of its own that does not know the others.
//! ARCHITECTURE.md has the map.

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
pub mod kernel;
pub mod ledger;
pub mod nearest;
pub mod options;
pub mod outcome;
pub mod profile;
pub mod status;
pub mod template;

use std::time::{Duration, Instant};

use cli::{Command, Request};
use consent::{Decision, Permit, Refusal};
use delivery::{Delivering, Ended};
use draft::Draft;
use facts::deployment::{Evidence, Situation};
use host::Host;
use ledger::binding::MachineBinding;
use ledger::{Claim, Ledger, ReportState};
use options::Options;
use outcome::{Outcome, Reporter};
use profile::file_path::Directories;
use profile::{ConsentRules, Source};

/// Does what the command line asks for.
pub fn run(request: &Request, reporter: &Reporter) -> Outcome {
    let root = request.root.as_deref().map(|root| Host::new(None).given_path(root));
    if let Some(root) = root.as_ref().filter(|root| !root.is_dir()) {
        return Outcome::Usage(format!("--root {}: there is no such directory", root.display()));
    }
    let host = &Host::new(root);
    if matches!(request.command, Command::Send | Command::Flush) {
        deadline(host, options::flagged_timeout(request));
    }
    let ended = match request.command {
        Command::Send => send(request, host, reporter),
        Command::Show => commands::show(request, host, reporter),
        Command::Status => commands::status(request, host, reporter),
        Command::Off => commands::off(request, host, reporter),
        Command::On => commands::on(request, host),
        Command::Flush => commands::flush(request, host, reporter),
        Command::Forget => commands::forget(request, host, reporter),
        Command::Facts => commands::facts(request, host),
        Command::Check => commands::check(request, host),
        Command::Help => Ok(Outcome::printed(cli::help())),
        Command::Version => Ok(Outcome::printed(format!("install-record {}\n", env!("CARGO_PKG_VERSION")))),
    };
    ended.unwrap_or_else(|outcome| outcome)
}

/// When the run has to be over. A little later the alarm ends the process, whatever it waits for.
fn deadline(host: &Host, timeout: Duration) -> Instant {
    const GRACE: Duration = Duration::from_millis(100);
    kernel::end_process_after((timeout + GRACE).saturating_sub(host.started().elapsed()));
    host.started() + timeout
}

/// Reports this installation once. `Err` ends the run as `Ok` does.
fn send(request: &Request, host: &Host, reporter: &Reporter) -> Result<Outcome, Outcome> {
    // Profile: whose rules apply. Until there is consent, nothing else is looked at.
    let source = Source::find(host, request.profile.as_deref())?;
    let rules = source.consent()?;

    // Consent: did anybody say no?
    let directories = options::directories(request, host);
    let first_permit = permit(request, host, &rules, &directories)?;

    // Options: what is asked for. Usage errors end here.
    let profile = source.profile()?;
    let options = Options::resolve(request, &profile, host, reporter)?;
    let deadline = deadline(host, options.timeout);
    let mut draft = Draft::new(request, &profile, &options, host, reporter)?;

    // Situation: an image that is being built is no installation, and must not carry an ID.
    let binding = binding(host, reporter)?;

    // Ledger: was it reported before? Every upgrade ends here, without a lock.
    let file = options.place.identity_file();
    let is_reported = ledger::is_reported(host, file, binding.as_ref(), &draft.subject());
    if is_reported && !ledger::has_work(host, file) {
        return Ok(Outcome::AlreadyReported);
    }

    // Facts: only what the profile's template names.
    if !is_reported {
        draft.detect(host, deadline);
    }

    // Ledger, under its lock: consent once more, the ID, a claimed record on disk, and what else waits under it.
    let (ledger, lock) = Ledger::open(&first_permit, host, reporter, file.cloned(), binding)?;
    let permit = permit(request, host, &rules, &directories)?;
    let own = own_record(&ledger, &permit, &mut draft, &options, is_reported)?;
    let backlog = ledger.backlog(&permit, own.as_ref().ok());
    drop(lock);

    // Delivery: the own record first. What came of each is written down.
    let (own, ended) = own.map_or_else(|ended| (None, Some(ended)), |claim| (Some(claim), None));
    let delivering = Delivering {
        permit: &permit,
        host,
        reporter,
        ledger: &ledger,
        profile: &profile,
        connect_timeout: options.connect_timeout,
        deadline,
    };
    let mut ends = delivering.deliver(own.into_iter().chain(backlog.claims).collect()).into_iter();

    // Outcome: one sentence and an exit status.
    let own_end = || outcome_of(ends.next(), &draft, &options, &ledger);
    Ok(ended.unwrap_or_else(own_end))
}

/// The permit to report, or how the run ends without one.
fn permit(
    request: &Request,
    host: &Host,
    rules: &ConsentRules,
    directories: &Directories<'_>,
) -> Result<Permit, Outcome> {
    match consent::decide(host, rules, request.refusal.as_deref(), directories) {
        Decision::Send(permit) => Ok(permit),
        Decision::Skip(refusal @ Refusal::Unplaced { .. }) => Err(Outcome::Usage(refusal.to_string())),
        Decision::Skip(refusal) => Err(Outcome::OptedOut(refusal)),
    }
}

/// The machine, by which clones are told; `None` in an application container, where a new machine-id is no new machine.
fn binding(host: &Host, reporter: &Reporter) -> Result<Option<MachineBinding>, Outcome> {
    let verdict = Evidence::gather(host).verdict();
    reporter.explain(format_args!("deployed as {verdict}"));
    match verdict.situation {
        Situation::ImageBuild => Err(Outcome::ImageBuild(verdict.because)),
        Situation::Package => Ok(MachineBinding::of(host)),
        Situation::Container => Ok(None),
    }
}

/// The run's own record, claimed; or how the run ends without one, once the others are delivered.
fn own_record(
    ledger: &Ledger<'_>,
    permit: &Permit,
    draft: &mut Draft<'_>,
    options: &Options,
    was_reported: bool,
) -> Result<Result<Claim, Outcome>, Outcome> {
    let instance_id = ledger.instance_id(options.instance_id.as_deref())?;
    let url = options.endpoint.url();
    let mut claim = match ledger.state(permit, &draft.subject(), instance_id.as_deref())? {
        ReportState::Reported => return Ok(Err(Outcome::AlreadyReported)),
        ReportState::InProgress => return Ok(Err(Outcome::InProgress)),
        ReportState::Pending(claim) => claim,
        ReportState::New => {
            // Somebody has just taken the mark away, after this run had found it and spared itself the facts.
            if was_reported {
                draft.detect(ledger.host, ledger.host.started() + options.timeout);
            }
            let mut ids = Vec::new();
            for (index, (fact, file)) in options.place.ids.iter().enumerate() {
                let id = if index == 0 { instance_id.clone() } else { ledger.kept_id(file, None, None)? };
                ids.extend(id.map(|id| (*fact, id)));
            }
            ledger.store.add(draft.record(ledger.host, &ids))?
        }
    };
    // A product's own run delivers to the endpoint of this run.
    claim.url = url.to_owned();
    match ledger.held_until(url) {
        Some(until) => Ok(Err(Outcome::held(until, &ledger.store.path))),
        None => Ok(Ok(claim)),
    }
}

fn outcome_of(end: Option<Ended>, draft: &Draft<'_>, options: &Options, ledger: &Ledger<'_>) -> Outcome {
    let host = options.endpoint.host().to_owned();
    match end {
        None => Outcome::AlreadyReported,
        Some(Ended::Sent { receipt }) => Outcome::Sent { what: draft.what(), host, receipt },
        Some(Ended::Kept { why }) => Outcome::Pending { why, place: ledger.store.path.clone() },
        Some(Ended::Refused { why }) => Outcome::Lost { why },
    }
}

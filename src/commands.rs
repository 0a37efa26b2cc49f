//! The administrator's commands: everything but `send`. They read, write and delete at an explicit request, and tell
//! when they could not.

mod switch;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::PathBuf;

use crate::cli::Request;
use crate::consent::{self, Decision, Refusal};
use crate::delivery::{Delivering, Ended};
use crate::draft::Draft;
use crate::facts::deployment::Evidence;
use crate::facts::{Fact, Facts};
use crate::host::Host;
use crate::ledger::binding::MachineBinding;
use crate::ledger::{self, IdentityFile, Ledger};
use crate::options::{self, Options, Place};
use crate::outcome::{Outcome, Reporter, asked_to_wait};
use crate::profile::{self, ConsentRules, Profile, ProfileError, Source};
use crate::{deadline, status};

pub use switch::{off, on};

/// Prints what `send` would post: the record that waits, or a new one. Nothing is sent or written.
pub fn show(request: &Request, host: &Host, reporter: &Reporter) -> Result<Outcome, Outcome> {
    let source = Source::find(host, request.profile.as_deref())?;
    let decision = decide(request, host, &source.consent()?)?;
    let profile = source.profile()?;
    let options = Options::resolve(request, &profile, host, reporter)?;
    let nothing =
        |why: &str| Outcome::Printed { text: Vec::new(), remark: Some(format!("nothing would be sent: {why}")) };
    let mut draft = match Draft::new(request, &profile, &options, host, reporter) {
        Err(Outcome::Skipped { why }) => return Ok(nothing(&why)),
        other => other?,
    };
    let ids = shown_ids(&options, host);
    let key = draft.subject().key(ids.first().map(|(_, id)| &**id));
    let file = options.place.identity_file();
    let waiting = ledger::journals(host, file.map(|file| &*file.path)).0.into_iter().map(|journal| journal.record);
    let record = waiting.into_iter().find(|record| key.is_some() && record.key == key).unwrap_or_else(|| {
        draft.detect(host, host.started() + options.timeout);
        draft.record(host, &ids)
    });
    let remark = match decision {
        Decision::Skip(refusal) => Some(format!("nothing would be sent: {refusal}, {}", refusal.reason())),
        Decision::Send(_) if ledger::is_reported(host, file, None, &draft.subject()) => {
            Some(format!("nothing would be sent: {} was reported before", draft.subject().name()))
        }
        Decision::Send(_) => None,
    };
    Ok(Outcome::Printed { text: shown(record.body), remark })
}

/// The exact bytes into a pipe or a file. A person's terminal gets them indented.
fn shown(body: String) -> Vec<u8> {
    if std::io::stdout().is_terminal() { status::indented(&body).into_bytes() } else { body.into_bytes() }
}

/// The IDs that a record would have: the stored ones, else what was given, else fresh ones that are not kept.
fn shown_ids(options: &Options, host: &Host) -> Vec<(Fact, String)> {
    let given = |file: &IdentityFile| options.instance_id.clone().filter(|id| file.rule.format.holds(id));
    let ids = options.place.ids.iter().enumerate().map(|(index, (fact, file))| {
        let stored = file.id(host).ok().flatten();
        let id = stored.or_else(|| given(file).filter(|_| index == 0));
        (*fact, id.unwrap_or_else(|| file.rule.format.fresh(host.now())))
    });
    ids.collect()
}

fn decide(request: &Request, host: &Host, rules: &ConsentRules) -> Result<Decision, Outcome> {
    match consent::decide(host, rules, request.refusal.as_deref(), &options::directories(request, host)) {
        Decision::Skip(refusal @ Refusal::Unplaced { .. }) if request.profile.is_some() => {
            Err(Outcome::Usage(refusal.to_string()))
        }
        decision => Ok(decision),
    }
}

/// Prints the decision of one profile, or of every one, and what was sent and waits.
pub fn status(request: &Request, host: &Host, reporter: &Reporter) -> Result<Outcome, Outcome> {
    let mut states = Vec::new();
    for (source, profile) in wanted_profiles(request, host, reporter)? {
        let decision = decide(request, host, &source.consent()?)?;
        let place = Place::resolve(request, &profile, host, reporter)?;
        states.push(status::state(host, &profile.name, &decision, &place));
    }
    let evidence = reporter.is_verbose.then(|| Evidence::gather(host));
    let name = request.profile.as_ref().and_then(|_| states.first()).map(|state| state.profile.clone());
    let (pending, sent) = all_journals(request, host, name.as_deref());
    let status = status::Status::new(states, pending, sent, evidence.as_ref());
    Ok(Outcome::printed(if request.json { status.json() } else { status.text(name.is_none()) }))
}

/// The records that wait and the receipts, of one profile or of all, the newest first.
fn all_journals(request: &Request, host: &Host, profile: Option<&str>) -> (Vec<ledger::Journal>, Vec<ledger::Journal>) {
    let (mut pending, mut sent) = (Vec::new(), Vec::new());
    for identity in identity_files(request, host) {
        let (waiting, receipts) = ledger::journals(host, identity.as_deref());
        pending.extend(waiting);
        sent.extend(receipts);
    }
    for journals in [&mut pending, &mut sent] {
        journals.retain(|journal: &ledger::Journal| profile.is_none_or(|name| name == journal.record.profile));
        journals.sort_by_key(|journal| Reverse((journal.record.created.clone(), journal.record.id.clone())));
        journals.dedup_by(|one, other| one.record.id == other.record.id);
    }
    (pending, sent)
}

/// Looks a profile over.
pub fn check(request: &Request, host: &Host) -> Result<Outcome, Outcome> {
    let source = Source::find(host, request.profile.as_deref())?;
    Ok(status::check(&source.consent()?, &source.profile()?))
}

/// What a flush has done so far.
#[derive(Default)]
struct Flushed {
    sent: usize,
    left: usize,
    last_why: String,
}

impl Flushed {
    fn left(&mut self, count: usize, why: String) {
        if count > 0 {
            self.left += count;
            self.last_why = why;
        }
    }
}

/// Delivers what waits, each record to the endpoint that it was made for. One product's fault does not stop the others.
pub fn flush(request: &Request, host: &Host, reporter: &Reporter) -> Result<Outcome, Outcome> {
    let mut flushed = Flushed::default();
    for (source, profile) in wanted_profiles(request, host, reporter)? {
        match flush_profile(request, host, reporter, (&source, &profile), &mut flushed) {
            Err(Outcome::Usage(why)) if request.profile.is_some() => return Err(Outcome::Usage(why)),
            Err(Outcome::Usage(why) | Outcome::Lost { why }) => {
                let waiting = ledger::journals(host, None).0;
                let count = waiting.iter().filter(|journal| journal.record.profile == profile.name).count();
                reporter.warn(format_args!("{}: {why}, so its records wait", profile.name));
                flushed.left(count, why);
            }
            _ => {}
        }
    }
    let Flushed { sent, left, last_why } = flushed;
    Ok(Outcome::Flushed { sent, left: (left > 0).then_some((left, last_why)) })
}

fn flush_profile(
    request: &Request,
    host: &Host,
    reporter: &Reporter,
    (source, profile): (&Source, &Profile),
    flushed: &mut Flushed,
) -> Result<(), Outcome> {
    let rules = source.consent()?;
    let here = options::directories(request, host);
    // What this run was not told, every record knows for itself.
    match consent::decide(host, &rules, request.refusal.as_deref(), &here) {
        Decision::Skip(refusal) if !matches!(refusal, Refusal::Unplaced { .. }) => {
            reporter.explain(format_args!("{}: nothing is sent: {refusal}, {}", profile.name, refusal.reason()));
            return Ok(());
        }
        _ => {}
    }
    let place = Place::resolve(request, profile, host, reporter)?;
    place.endpoint.as_ref().map_err(|problem| Outcome::Lost { why: problem.to_string() })?;
    let (connect_timeout, timeout) = options::timeouts(request, profile, host, reporter)?;
    let (waiting, _) = ledger::journals(host, place.identity_file().map(|file| &*file.path));
    let of_profile = waiting.into_iter().map(|journal| journal.record).filter(|record| record.profile == profile.name);
    for path in of_profile.map(|record| record.identity_file).collect::<BTreeSet<_>>() {
        let rule = profile.identity.first().map(|(_, rule)| rule).zip(path.as_deref());
        let there = rule.map_or(here, |(rule, path)| here.of_record(&rule.file, path));
        let permit = || match consent::decide(host, &rules, request.refusal.as_deref(), &there) {
            Decision::Send(permit) => Some(permit),
            Decision::Skip(refusal) => {
                reporter.explain(format_args!("{}: nothing is sent: {refusal}, {}", profile.name, refusal.reason()));
                None
            }
        };
        let Some(first_permit) = permit() else { continue };
        let file = rule.map(|(rule, path)| IdentityFile::at(path.to_owned(), rule, &there));
        let (ledger, lock) = Ledger::open(&first_permit, host, reporter, file, MachineBinding::of(host))?;
        let Some(permit) = permit() else { continue };
        let backlog = ledger.backlog(&permit, None);
        drop(lock);
        flushed.left(backlog.held.len(), asked_to_wait(backlog.held.into_iter().max().unwrap_or_default()));
        let delivering = Delivering {
            permit: &permit,
            host,
            reporter,
            ledger: &ledger,
            profile,
            connect_timeout,
            deadline: deadline(host, timeout),
        };
        for end in delivering.deliver(backlog.claims) {
            match end {
                Ended::Sent { .. } => flushed.sent += 1,
                Ended::Kept { why } | Ended::Refused { why } => flushed.left(1, why),
            }
        }
    }
    Ok(())
}

/// Deletes what is remembered of one profile, or of every one.
pub fn forget(request: &Request, host: &Host, reporter: &Reporter) -> Result<Outcome, Outcome> {
    let profiles = wanted_profiles(request, host, reporter)?;
    let mut names = Vec::new();
    for (_, profile) in &profiles {
        let place = Place::resolve(request, profile, host, reporter)?;
        if request.profile.is_some() {
            place.complete(profile)?;
        }
        let files: Vec<_> = place.ids.into_iter().map(|(_, file)| file).collect();
        ledger::forget(host, &profile.name, &files).map_err(|problem| {
            Outcome::Failed(format!("not everything of {} could be deleted: {problem}", profile.name))
        })?;
        names.push(profile.name.as_str());
    }
    Ok(Outcome::Done(format!("IDs, pending records and receipts of {} are deleted", names.join(", "))))
}

/// Prints every fact with this machine's value.
pub fn facts(request: &Request, host: &Host) -> Result<Outcome, Outcome> {
    let mut facts = Facts::default();
    facts.detect(host, &Fact::all().collect::<Vec<_>>(), None);
    Ok(status::facts(&facts, &Evidence::gather(host), request.json))
}

/// The profile that was named, or every one that can be read: one vendor's broken file is none of another's business.
fn wanted_profiles(request: &Request, host: &Host, reporter: &Reporter) -> Result<Vec<(Source, Profile)>, Outcome> {
    let read = |name: &OsStr| {
        let source = Source::find(host, Some(name))?;
        let profile = source.profile()?;
        Ok::<_, ProfileError>((source, profile))
    };
    if let Some(name) = &request.profile {
        return Ok(vec![read(name)?]);
    }
    let mut profiles = Vec::new();
    for name in profile::all_names(host) {
        match read(OsStr::new(&name)) {
            Ok(profile) => profiles.push(profile),
            Err(error) => reporter.explain(format_args!("{error}, so it is left out")),
        }
    }
    Ok(profiles)
}

/// The identity files beside which state may be, and none for the system's own state directory.
fn identity_files(request: &Request, host: &Host) -> Vec<Option<PathBuf>> {
    let mut files = vec![None];
    for (_, profile) in wanted_profiles(request, host, &Reporter::default()).unwrap_or_default() {
        if let Ok(place) = Place::resolve(request, &profile, host, &Reporter::default()) {
            files.extend(place.identity_file().map(|file| Some(file.path.clone())));
        }
    }
    files
}

//! The administrator's commands: everything but `send`. They read, write and delete because somebody asked for it, and
//! they say so when they could not.

mod switch;

use std::hash::{BuildHasher, RandomState};
use std::{cmp::Reverse, ffi::OsStr, io::IsTerminal, path::Path, path::PathBuf, time::Instant};

use rustix::process::geteuid;

use crate::cli::Command;
use crate::ledger::{self, IdentityFile, Journal, Ledger, PENDING, Record, SENT, Store, View};
use crate::profile::{self, ConsentRules, DEFAULT, Profile, ProfileError, Source, file_path::Known};
use crate::{binding, end_after, flushed, permit};
use crate::{
    consent, consent::Refusal, delivery::Ended, delivery::complete, delivery::deliver, draft::Draft,
    host::path_error::PathError, kernel, kernel::LAST_WORDS, options::Options, options::Run, outcome::Outcome,
    outcome::Reporter, status, status::ProfileState, status::Status,
};

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
    run.reporter.explain(format_args!("the endpoint is {}", options.endpoint.clone()?.url));
    let file = options.identity_file();
    let (here, elsewhere) = binding(run).map_or_else(|because| (None, Some(because)), |here| (here, None));
    let store = Store::open(run.host, file.map(|file| &*file.path), None).ok();
    let view = View { host: run.host, store: store.as_ref(), here: here.as_ref() };
    // Fresh IDs are not kept.
    let (mut ids, mut given) = (Vec::new(), options.instance_id.as_deref());
    for (fact, file) in &options.ids {
        ids.extend(file.id_to_report(view, given.take())?.map(|id| (*fact, id)));
    }
    let key = draft.subject().key(ids.first().map(|(_, id)| &**id));
    let mut waiting = store.iter().flat_map(|store| store.journals(PENDING)).map(|it| it.record);
    let body = waiting.find(|it| key.is_some() && it.key == key).unwrap_or_else(|| draft.record(&ids)).body;
    let reported =
        || view.is_reported(file, &draft.subject()).then(|| format!("{} was reported before", draft.subject().name()));
    let remark = refusal.map(|refusal| refusal.to_string()).or(elsewhere).or_else(reported).and_then(remark);
    // These are the exact bytes. On a terminal, a line end follows, so that the prompt has a line of its own.
    let end = if std::io::stdout().is_terminal() { "\n" } else { "" };
    Ok(Outcome::Printed((body + end).into_bytes(), remark))
}

/// Prints the decision for one profile or for all, and the records that were sent or that wait.
pub fn status(run: Run<'_>) -> Result<Outcome, Outcome> {
    let profiles = wanted(run)?;
    let name = profiles.first().map(|profile| &*profile.name).filter(|_| run.request.has("profile"));
    let (waiting, receipts, problem) = journals(run);
    // A record that was answered counts as sent, even where the mark or the receipt could not be written.
    let journals = waiting.into_iter().chain(receipts);
    let (mut sent, mut pending): (Vec<_>, Vec<_>) = journals.partition(|journal| journal.answer.is_some());
    for journals in [&mut pending, &mut sent] {
        journals.retain(|journal: &Journal| name.is_none_or(|name| name == journal.record.profile));
    }
    let (mut states, here) = (Vec::<ProfileState>::new(), binding(run));
    let here = here.as_ref().map(Option::as_ref);
    for profile in &profiles {
        let decision = consent::decide(run.host, &profile.consent, run.request.refusal.as_deref(), &run.directories());
        let built = |because: &String| Refusal::Said(because.clone(), "this is no installation");
        let decision = decision.and_then(|permit| here.map(|_| permit).map_err(built));
        let options = Options::resolve(run, profile)?;
        let store = Store::open(run.host, options.identity_file().map(|file| &*file.path), None).ok();
        let view = View { host: run.host, store: store.as_ref(), here: here.ok().flatten() };
        states.push(ProfileState::new(view, decision, &options, &sent));
    }
    let first = states.iter().find(|state| state.profile == DEFAULT).or(states.first()).cloned();
    let status = Status { first, profiles: states, pending, sent, unread: problem.map(|it| it.to_string()) };
    Outcome::printed(if run.request.has("json") { status.json() } else { status.text(name.is_none()) })
}

/// Checks a profile.
pub fn check(run: Run<'_>) -> Result<Outcome, Outcome> {
    Outcome::printed(status::check(&Source::find(run.host, run.request.profile())?.profile()?))
}

/// Delivers what waits, each record to the endpoint that it was made for. One product's fault does not stop the others.
pub fn flush(run: Run<'_>) -> Result<Outcome, Outcome> {
    let (mut ends, mut products, mut refused) = (Vec::new(), Vec::new(), 0);
    let profiles = wanted(run)?;
    for profile in &profiles {
        match waiting_places(run, profile) {
            Ok((_, places)) if places.is_empty() => {}
            Ok(found) => products.push(found),
            Err(usage @ Outcome::Usage(_)) => return Err(usage),
            Err(ended) => {
                refused += usize::from(matches!(ended, Outcome::OptedOut(_)));
                ends.extend(left(run, &profile.name, ended, |_| true));
            }
        }
    }
    // The products share the longest of their time limits.
    let timeout = products.iter().map(|(options, _)| options.timeout).max().unwrap_or(run.timeout());
    end_after(run, timeout);
    // A flush that is refused starts no thread.
    if !products.is_empty() {
        kernel::give_alarm_to_thread();
    }
    // A silent server takes half of the time that is left. The order is random, so that it is not always the same
    // products that have to wait.
    let first = RandomState::new().hash_one(()) as usize % products.len().max(1);
    products.rotate_left(first);
    for (after, (options, places)) in (0..products.len()).rev().zip(&products) {
        let now = Instant::now();
        let share = (run.host.started + timeout).saturating_duration_since(now) / if after == 0 { 1 } else { 2 };
        let options = Options { deadline: now + share, ..options.clone() };
        for (file, known) in places {
            let is_here = |record: &Record| record.identity_file == *file && record.directories == *known;
            let ended = flush_place(run, &options, file.as_deref(), known);
            ends.extend(ended.unwrap_or_else(|ended| left(run, &options.profile.name, ended, is_here)));
        }
    }
    // A refused run looks at nothing more. Any other run also mentions the records whose profile cannot be used here.
    let is_whole = !run.request.has("profile") && refused < profiles.len();
    let (waiting, _, problem) = if is_whole { journals(run) } else { Default::default() };
    ends.extend(problem.map(|problem| Ended::Kept(problem.to_string())));
    for name in waiting.into_iter().map(|journal| journal.record.profile) {
        let rules = ConsentRules { profile: name.clone(), ..ConsentRules::default() };
        let is_unknown = profiles.iter().all(|known| known.name != name);
        if is_unknown && permit(run, &rules, &run.directories()).is_ok() {
            ends.push(Ended::Kept(format!("the profile {name} cannot be used here")));
        }
    }
    Ok(flushed(ends))
}

/// The results for those records of a product that were not tried.
fn left(run: Run<'_>, profile: &str, ended: Outcome, is_meant: impl Fn(&Record) -> bool) -> Vec<Ended> {
    let Outcome::Lost(why) = ended else {
        run.reporter.explain(format_args!("{profile}: {ended}"));
        return Vec::new();
    };
    let (mut waiting, ..) = journals(run);
    waiting.retain(|journal| journal.record.profile == profile && is_meant(&journal.record));
    if !waiting.is_empty() {
        run.reporter.warn(format_args!("{profile}: {why}, so its records wait"));
    }
    waiting.iter().map(|_| Ended::Kept(why.clone())).collect()
}

/// An identity file for which records wait, and the directories that their runs knew.
type Place = (Option<PathBuf>, Known);

/// A product's options, and the places of its waiting records.
fn waiting_places<'p>(run: Run<'_>, profile: &'p Profile) -> Result<(Options<'p>, Vec<Place>), Outcome> {
    // It is no error if this run was not told a directory, because every record remembers its own. The same holds for
    // the file that turns the product on.
    match permit(run, &profile.consent, &run.directories()) {
        Err(Outcome::OptedOut(refusal)) if !refusal.is_by_default() => return Err(Outcome::OptedOut(refusal)),
        _ => {}
    }
    let options = Options::resolve(run, profile)?;
    options.endpoint.clone()?;
    let store = Store::open(run.host, options.identity_file().map(|file| &*file.path), None).ok();
    let waiting = store.iter().flat_map(|store| store.journals(PENDING)).map(|it| it.record);
    let mut places = Vec::new();
    for record in waiting.filter(|it| it.profile == profile.name) {
        let place = (record.identity_file, record.directories);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    Ok((options, places))
}

/// Delivers the records of one product and one identity file whose runs knew the same directories. It goes the way of
/// `send`, without a record of its own.
fn flush_place(run: Run<'_>, options: &Options, place: Option<&Path>, known: &Known) -> Result<Vec<Ended>, Outcome> {
    let profile = options.profile;
    let there = run.directories().of_record(known);
    let first_permit = permit(run, &profile.consent, &there)?;
    let rule = profile.identity.first().map(|(_, rule)| rule).zip(place);
    let file = rule.map(|(rule, path)| IdentityFile::at(path.to_owned(), rule, &profile.name, &there));
    let binding = binding(run).map_err(Outcome::Skipped)?;
    // A directory that is gone is not made again.
    Store::open(run.host, place, None)?;
    let (ledger, lock) = Ledger::open(&first_permit, run.host, run.reporter, file, binding)?;
    let _under_way = consent::switch::under_way(run.host);
    let permit = permit(run, &profile.consent, &there)?;
    let claims = ledger.backlog(&permit, None, known);
    drop(lock);
    Ok(complete(&ledger, deliver(&permit, &ledger, options, claims)))
}

/// Deletes what is remembered of one profile, or of every one.
pub fn forget(run: Run<'_>) -> Result<Outcome, Outcome> {
    let profiles = wanted(run)?;
    waiting_for_others("not everything could be deleted");
    // Another user's record is not asked, because it could name any file.
    let (stores, _) = Store::all(run.host, &identity_places(run));
    let own = stores.iter().filter(|store| store.directory.is_private());
    let journals: Vec<Journal> = own.flat_map(|store| [PENDING, SENT].map(|of| store.journals(of)).concat()).collect();
    let (mut files, mut missing) = (Vec::new(), Vec::new());
    for profile in &profiles {
        let options = Options::resolve(run, profile)?;
        let placed = options.placed();
        files.extend(options.ids.into_iter().map(|(_, file)| file));
        // Records tell where other runs had their IDs.
        let records = journals.iter().map(|journal| &journal.record);
        missing.extend(options.missing.map(|needed| needed.0).filter(|needed| !missing.contains(needed)));
        for record in records.filter(|record| record.profile == profile.name) {
            let there = run.directories().of_record(&record.directories);
            let (ids, _) = Options::identity_files(profile, record.identity_file.clone(), &there);
            files.extend(ids.into_iter().map(|(_, file)| file));
        }
        // The directory of an ID was not given, and no record tells it.
        if files.is_empty() && run.request.has("profile") {
            placed?;
        }
    }
    let failed = |problem| Outcome::Failed(format!("not everything could be deleted: {problem}"));
    let one = profiles.first().filter(|_| run.request.has("profile")).map(|profile| &*profile.name);
    ledger::forget(run.host, one, &files).map_err(failed)?;
    let names: Vec<&str> = profiles.iter().map(|profile| &*profile.name).collect();
    let whose = if geteuid().is_root() { "" } else { ", as far as they are this user's" };
    let elsewhere = missing.join(" or ");
    let elsewhere = if elsewhere.is_empty() { elsewhere } else { format!("; those elsewhere need {elsewhere}") };
    let what = format!("IDs, pending records and receipts of {}", names.join(", "));
    Ok(Outcome::Done(format!("{what} are deleted{whose}{elsewhere}")))
}

/// Sets what is said if the alarm ends the wait for other runs. Those end within a minute, by their own time limits. A
/// run that was stopped holds its locks for longer.
fn waiting_for_others(done: &str) {
    let _ = LAST_WORDS.set(format!("install-record: {done}, but another run is still under way; try again\n"));
}

/// The profile that was named, or all that can be read. One vendor's broken file does not affect another vendor.
fn wanted(run: Run<'_>) -> Result<Vec<Profile>, Outcome> {
    let read = |name: &OsStr| Source::find(run.host, Some(name)).and_then(|source| source.profile());
    if let Some(name) = run.request.profile() {
        return Ok(vec![read(name)?]);
    }
    let explain = |error: ProfileError| match run.request.command {
        Command::Status => run.reporter.warn(format_args!("{error}, so it is left out")),
        _ => run.reporter.explain(format_args!("{error}, so it is left out")),
    };
    let names = profile::all_names(run.host);
    Ok(names.iter().filter_map(|name| read(OsStr::new(name)).map_err(explain).ok()).collect())
}

/// The waiting records and the receipts, the newest first, and why the system's state directory cannot be used. They
/// come from that directory and from those beside identity files.
fn journals(run: Run<'_>) -> (Vec<Journal>, Vec<Journal>, Option<PathError>) {
    let (stores, problem) = Store::all(run.host, &identity_places(run));
    let all = |of| stores.iter().flat_map(|store| store.journals(of)).collect::<Vec<_>>();
    // No lock is taken, so a record that becomes a receipt meanwhile may be in both.
    let (mut waiting, mut receipts) = (all(PENDING), all(SENT));
    receipts.retain(|receipt| waiting.iter().all(|journal| journal.record.id != receipt.record.id));
    for journals in [&mut waiting, &mut receipts] {
        journals.sort_by_key(|journal| Reverse((journal.record.created.clone(), journal.record.id.clone())));
    }
    (waiting, receipts, problem)
}

/// The identity files that may have a state directory beside them.
fn identity_places(run: Run<'_>) -> Vec<PathBuf> {
    let run = Run { reporter: &Reporter { is_quiet: true, is_verbose: false }, ..run };
    let profiles = wanted(run).unwrap_or_default();
    let place = |profile| Some(Options::resolve(run, profile).ok()?.identity_file()?.path.clone());
    profiles.iter().filter_map(place).collect()
}

//! The administrator's commands: everything but `send`. They read, write and delete at an explicit request, and tell
//! when they could not.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::cli::Request;
use crate::consent::{self, Decision, Refusal, switch};
use crate::facts::deployment::Evidence;
use crate::facts::{Fact, Facts};
use crate::host::directory::Synced;
use crate::host::{Content, Host};
use crate::ledger::origin::Origin;
use crate::ledger::schedule::Occasion;
use crate::ledger::{self, IdentityFile, Ledger, Mark, Pending};
use crate::options::{self, Options, Place};
use crate::outcome::{Outcome, Reporter};
use crate::profile::consent_rules::SaysNo;
use crate::profile::{self, ConsentRules, Profile, Source};
use crate::{
    End, asked_to_wait, deliver, detect, existing_stores, ids, missing_id, new_record, status, subject, values,
};

pub fn show(request: &Request, host: &Host, reporter: &Reporter) -> Result<Outcome, Outcome> {
    let source = Source::find(host, request.profile.as_deref())?;
    let decision = decide(request, host, &source.consent()?)?;
    let profile = source.profile()?;
    let options = Options::resolve(request, &profile, host, reporter)?;
    let nothing =
        |why: String| Outcome::Printed { text: Vec::new(), remark: Some(format!("nothing would be sent: {why}")) };
    let body = match profile.body(options.event.as_deref(), &request.given) {
        Ok(body) => body,
        Err(why) => return Ok(nothing(why.to_string())),
    };
    options.place.complete(&profile)?;
    let mut values = values(request, &profile, &options, body, reporter)?;
    if let Some(why) = missing_id(&options, host) {
        return Ok(nothing(why));
    }
    let file = options.place.identity_file();
    let id_of = |file: &ledger::IdentityFile| file.id(host).unwrap_or_else(|| file.rule.format.fresh(host.now()));
    let given = options.instance_id.clone().filter(|id| file.is_some_and(|file| file.rule.format.holds(id)));
    let stored = file.and_then(|file| file.id(host));
    let instance_id = stored.or(given).or_else(|| file.map(id_of)).unwrap_or_default();
    let subject = subject(&profile, &options);
    let mark = subject.mark(file, &instance_id);
    let is_this = |Pending { record, .. }: &Pending| {
        mark != Mark::None
            && record.profile == profile.name
            && record.mark == mark
            && record.family == options.family.clone().unwrap_or_default()
            && record.identity_file == file.map(|file| file.path.clone()).unwrap_or_default()
    };
    let pending = existing_stores(host, file)
        .iter()
        .flat_map(|store| store.pending_names().into_iter().filter_map(|name| store.pending(&name)))
        .find(is_this);
    let record = pending.map(|pending| pending.record).unwrap_or_else(|| {
        detect(&mut values, &profile, body, host, options.pid, host.started() + options.timeout);
        let Ok(ids) = ids(&options, &instance_id, |file| Ok::<_, Infallible>(id_of(file)));
        new_record(&profile, &options, host, body, values, &ids)
    });
    let remark = match decision {
        Decision::Skip(refusal) => Some(format!("nothing would be sent: {refusal}, {}", refusal.reason())),
        Decision::Send(_) if ledger::is_reported(host, file, None, &subject) => {
            let product = options.family.as_ref().unwrap_or(&profile.name);
            Some(format!("nothing would be sent: {product} was reported before"))
        }
        Decision::Send(_) => None,
    };
    let mut text = record.body.into_bytes();
    // The exact bytes, but a person's prompt belongs on a line of its own.
    if std::io::stdout().is_terminal() {
        text.push(b'\n');
    }
    Ok(Outcome::Printed { text, remark })
}

fn decide(request: &Request, host: &Host, rules: &ConsentRules) -> Result<Decision, Outcome> {
    match consent::decide(host, rules, request.refusal.as_deref(), &options::directories(request, host)) {
        Decision::Skip(refusal @ Refusal::Unplaced { .. }) => Err(Outcome::Usage(refusal.to_string())),
        decision => Ok(decision),
    }
}

pub fn status(request: &Request, host: &Host, reporter: &Reporter) -> Result<Outcome, Outcome> {
    let source = Source::find(host, request.profile.as_deref())?;
    let decision = decide(request, host, &source.consent()?)?;
    let profile = source.profile()?;
    let place = Place::resolve(request, &profile, host, reporter)?;
    let evidence = reporter.is_verbose.then(|| Evidence::gather(host));
    Ok(status::status(host, &profile.name, &decision, &place, evidence.as_ref(), request.json))
}

pub fn check(request: &Request, host: &Host) -> Result<Outcome, Outcome> {
    let source = Source::find(host, request.profile.as_deref())?;
    Ok(status::check(&source.consent()?, &source.profile()?))
}

pub fn off(request: &Request, host: &Host) -> Result<Outcome, Outcome> {
    let profile = switch_name(request)?;
    let whose = profile.as_ref().map_or_else(|| "all products".to_owned(), |name| format!("the profile {name}"));
    let mut places: Vec<String> = Vec::new();
    let mut problems: Vec<String> = Vec::new();
    let switched = switch::off(host, profile.as_deref()).map_err(|(path, error)| (path, error.to_string()));
    let own = own_switches(request, host, profile.as_deref());
    let written = own.into_iter().map(|own| own.write(host, true).map_err(|problem| (own.path, problem)));
    for result in [switched].into_iter().chain(written) {
        match result {
            Ok(path) => places.push(path.display().to_string()),
            Err((path, problem)) => problems.push(format!("{}: {problem}", path.display())),
        }
    }
    let problems = problems.join("; ");
    if places.is_empty() {
        return Err(Outcome::Failed(format!("{problems}; records are NOT switched off")));
    }
    // What was collected before the "no" must not leave after it.
    let discarded = ledger::discard_pending(host, &all_places(request, host), |record| {
        profile.as_ref().is_none_or(|name| *name == record.profile)
    });
    let mut line = format!("install records of {whose} are off ({})", places.join(", "));
    if !problems.is_empty() {
        let _ = write!(line, ", but not for every user: {problems}");
    }
    match discarded {
        Ok(0) => Ok(Outcome::Done(line)),
        Ok(count) => Ok(Outcome::Done(format!("{line}, {count} pending deleted"))),
        Err((pending, error)) => Err(Outcome::Failed(format!(
            "{line}, but what was pending could not be deleted: {}: {error}",
            pending.display()
        ))),
    }
}

pub fn on(request: &Request, host: &Host) -> Result<Outcome, Outcome> {
    let profile = switch_name(request)?;
    let failed = |path: PathBuf, problem: String| {
        Outcome::Failed(format!("{}: {problem}; records stay switched off", path.display()))
    };
    for own in own_switches(request, host, profile.as_deref()) {
        own.write(host, false).map_err(|problem| failed(own.path, problem))?;
    }
    switch::on(host, profile.as_deref()).map_err(|(path, error)| failed(path, error.to_string()))?;
    let whose = profile.as_deref().map_or_else(|| "all products".to_owned(), |name| format!("the profile {name}"));
    Ok(Outcome::Done(match switch::find(host, profile.as_deref().unwrap_or(profile::DEFAULT)) {
        None => format!("the switch of {whose} is gone; install-record status tells whether anything else says no"),
        Some(path) => format!("the switch of {whose} is gone, but {path} still says no for all"),
    }))
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
    /// Writes that key; a file that is not there says nothing, which needs no taking back.
    fn write(&self, host: &Host, is_off: bool) -> Result<PathBuf, String> {
        const MAX_FILE: usize = 1 << 20;
        let parent = self.file.parent().unwrap_or(std::path::Path::new("/"));
        let name = self.file.file_name().and_then(OsStr::to_str).ok_or("no name of a file")?;
        let text = match host.directory(parent, false).map(|directory| directory.read(name, MAX_FILE)) {
            Ok(Content::Bytes { bytes, truncated: false }) => bytes,
            Err(Errno::NOENT) | Ok(Content::Missing) if is_off => Vec::new(),
            Err(Errno::NOENT) | Ok(Content::Missing) => return Ok(self.path.clone()),
            Ok(Content::Unreadable(error)) => return Err(error.to_string()),
            Ok(Content::Forbidden) => return Err(Errno::ACCESS.to_string()),
            Ok(Content::Bytes { .. }) => return Err(format!("larger than {MAX_FILE} bytes")),
            Err(error) => return Err(error.to_string()),
        };
        let text = ledger::identity::json_with(&text, &self.pointer, Some((!is_off).into()))?;
        let written = host
            .private_directory(parent)
            .and_then(|opened| opened.replace_for_owner(name, &text, 0o600, Synced::Name));
        written.map(|()| self.path.clone()).map_err(|error| error.to_string())
    }
}

/// The switches of the product itself, where a profile says that they are written with ours.
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

pub fn flush(request: &Request, host: &Host, reporter: &Reporter) -> Result<Outcome, Outcome> {
    let (mut sent, mut left, mut last_why) = (0, 0, String::new());
    for (source, profile) in wanted_profiles(request, host, reporter)? {
        let rules = source.consent()?;
        let permit_in = |directories| match consent::decide(host, &rules, request.refusal.as_deref(), &directories) {
            Decision::Send(permit) => Ok(permit),
            Decision::Skip(refusal) => Err(refusal),
        };
        let explain = |refusal: &Refusal| {
            reporter.explain(format_args!("{}: nothing is sent: {refusal}, {}", profile.name, refusal.reason()));
        };
        let here = options::directories(request, host);
        // What we were not told, every record knows for itself.
        if let Err(refusal) = permit_in(here).map(drop)
            && !matches!(refusal, Refusal::Unplaced { .. })
        {
            explain(&refusal);
            continue;
        }
        let place = Place::resolve(request, &profile, host, reporter)?;
        if let Err(problem) = &place.endpoint {
            reporter.warn(format_args!("{}: {problem}", profile.name));
            continue;
        }
        let (connect_timeout, timeout) = options::timeouts(request, &profile, host, reporter)?;
        let deadline = host.started() + timeout;
        let paths = pending_files(host, &profile.name, place.identity_file());
        for path in &paths {
            let rule = profile.identity.first().map(|(_, rule)| rule).filter(|_| !path.as_os_str().is_empty());
            let there = rule.map_or(here, |rule| here.of_record(&rule.file, path));
            let permit = match permit_in(there) {
                Ok(permit) => permit,
                Err(refusal) => {
                    explain(&refusal);
                    continue;
                }
            };
            let file = rule.map(|rule| IdentityFile::at(path.clone(), rule, &there));
            let ledger = Ledger::open(&permit, host, reporter, file, Origin::of(host));
            let lock = ledger.lock(deadline).map_err(|error| Outcome::Lost { why: ledger::why_not_locked(error) })?;
            ledger.sweep();
            let occasion = Occasion::Wished;
            let backlog = ledger.backlog(&permit, None, occasion, |record| record.identity_file == *path);
            drop(lock);
            if backlog.waiting > 0 && occasion == Occasion::Wished {
                left += backlog.waiting;
                last_why = asked_to_wait(backlog.until);
            }
            for end in deliver(&permit, host, reporter, &ledger, &profile, &backlog.claims, (connect_timeout, deadline))
            {
                match end {
                    End::Sent { .. } => sent += 1,
                    End::Kept { why } | End::Refused { why } => {
                        left += 1;
                        last_why = why;
                    }
                }
            }
        }
    }
    Ok(Outcome::Flushed { sent, left: (left > 0).then_some((left, last_why)) })
}

/// The identity files of a profile's pending records, in the order of the records, none twice.
fn pending_files(host: &Host, profile: &str, file: Option<&IdentityFile>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for store in existing_stores(host, file) {
        let records = store.pending_names().into_iter().filter_map(|name| store.pending(&name));
        for record in records.map(|pending| pending.record).filter(|record| record.profile == profile) {
            if !files.contains(&record.identity_file) {
                files.push(record.identity_file);
            }
        }
    }
    files
}

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

pub fn facts(request: &Request, host: &Host) -> Result<Outcome, Outcome> {
    let mut facts = Facts::default();
    facts.detect(host, &Fact::all().collect::<Vec<_>>(), None);
    Ok(status::facts(&facts, &Evidence::gather(host), request.json))
}

/// The profile that `off` and `on` are about; it need not be installed yet.
fn switch_name(request: &Request) -> Result<Option<String>, Outcome> {
    let Some(name) = &request.profile else { return Ok(None) };
    match name.to_str().filter(|name| profile::is_name(name)) {
        Some(name) => Ok(Some(name.to_owned())),
        None => Err(Outcome::Usage(format!("--profile '{}' must be a profile's name here", name.to_string_lossy()))),
    }
}

/// The profile that was named, or every one that can be read: one vendor's broken file is none of another's business.
fn wanted_profiles(request: &Request, host: &Host, reporter: &Reporter) -> Result<Vec<(Source, Profile)>, Outcome> {
    let read = |name: &OsStr| {
        let source = Source::find(host, Some(name))?;
        let profile = source.profile()?;
        Ok::<_, profile::ProfileError>((source, profile))
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

fn all_places(request: &Request, host: &Host) -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from(ledger::STATE)];
    for (_, profile) in wanted_profiles(request, host, &Reporter::default()).unwrap_or_default() {
        if let Ok(place) = Place::resolve(request, &profile, host, &Reporter::default()) {
            places.extend(ledger::places(place.identity_file()).into_iter().skip(1));
        }
    }
    places
}

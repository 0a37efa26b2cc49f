//! One install record from a deb, an rpm or a container: consent first, bounded, with a local receipt.
//!
//! This file is the story: [`run`] is the only place where the stages meet. Each stage is a room of its own that
//! does not know the others; ARCHITECTURE.md has the map.

pub mod cli;
pub mod consent;
pub mod courier;
pub mod dispatch;
pub mod endpoint;
pub mod facts;
pub mod host;
pub mod ledger;
pub mod outcome;
pub mod profile;
pub mod record;
pub mod settings;
pub mod status;

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cli::{Command, HELP, Request, UsageError};
use consent::{Decision, Permit, switch};
use courier::job::{Job, Parcel, Verdict};
use facts::deployment::{Evidence, Situation};
use facts::time::Time;
use facts::{Fact, Facts};
use host::Host;
use ledger::origin::Origin;
use ledger::store::{Claim, Store};
use ledger::{IdentityFile, Ledger, Record, Standing};
use outcome::{Outcome, Voice};
use profile::{Profile, ProfileError, Source};
use settings::{Place, Settings};

/// How long a finished delivery may wait for other runs before it is written down, at least. Past the deadline if need
/// be, because a record that was delivered and not marked would be sent twice.
const SETTLE_PATIENCE: Duration = Duration::from_secs(1);

impl From<UsageError> for Outcome {
    fn from(error: UsageError) -> Outcome {
        Outcome::Usage(error.to_string())
    }
}

impl From<ProfileError> for Outcome {
    fn from(error: ProfileError) -> Outcome {
        Outcome::Usage(error.to_string())
    }
}

/// Does what the command line asks for.
pub fn run(request: &Request, voice: &Voice) -> Outcome {
    let root = request.root.as_deref().map(|root| Host::new(None).given_path(root));
    if let Some(root) = root.as_ref().filter(|root| !root.is_dir()) {
        return Outcome::Usage(format!("--root {}: there is no such directory", root.display()));
    }
    let host = &Host::new(root);
    let ended = match request.command {
        Command::Send => send(request, host, voice),
        Command::Show => show(request, host, voice),
        Command::Status => status(request, host, voice),
        Command::Off => off(request, host),
        Command::On => on(request, host),
        Command::Flush => flush(request, host, voice),
        Command::Forget => forget(request, host),
        Command::Facts => facts(request, host),
        Command::Help => Ok(Outcome::Printed { text: HELP.as_bytes().to_vec(), remark: None }),
        Command::Version => Ok(Outcome::Printed {
            text: format!("install-record {}\n", env!("CARGO_PKG_VERSION")).into_bytes(),
            remark: None,
        }),
    };
    ended.unwrap_or_else(|outcome| outcome)
}

fn send(request: &Request, host: &Host, voice: &Voice) -> Result<Outcome, Outcome> {
    // Whose rules apply, and did anybody say no? Until then, nothing else is looked at.
    let source = Source::find(host, request.profile.as_deref())?;
    let permit = match consent::decide(host, &source.consent()?, request.refusal.as_deref()) {
        Decision::Skip(refusal) => return Ok(Outcome::OptedOut(refusal)),
        Decision::Send(permit) => permit,
    };
    let profile = source.profile()?;
    let settings = Settings::resolve(request, &profile, host, voice)?;
    let deadline = host.started() + settings.timeout;
    let file = &settings.place.identity_file;

    // An image that is being built is no installation, and must not carry an ID.
    let evidence = Evidence::gather(host);
    let verdict = evidence.verdict();
    voice.explain(format_args!("deployed as {verdict} (seen: {evidence})"));
    let situation = verdict.situation;
    if let Situation::ImageBuild(evidence) = situation {
        return Ok(Outcome::ImageBuild(evidence));
    }

    // The usual upgrade ends here.
    let origin = (situation == Situation::Package).then(|| Origin::of(host)).flatten();
    let is_reported = ledger::is_reported(host, file, origin.as_ref(), &settings.family);
    if is_reported && !has_pending(host, file) {
        return Ok(Outcome::AlreadyReported);
    }

    // Claim: one run per family goes on from here, with a record that is on disk.
    let ledger = Ledger::open(&permit, host, voice, file.clone(), origin);
    let Ok(lock) = ledger.lock(deadline) else {
        return Ok(Outcome::Lost { why: "other runs were busy all the time".to_owned() });
    };
    let instance_id = ledger.instance_id(settings.instance_id.as_deref());
    let own = match ledger.standing(&profile.name, &settings.family, &instance_id) {
        Standing::Reported => Err(Outcome::AlreadyReported),
        Standing::InProgress => Err(Outcome::InProgress),
        Standing::Pending(claim) if ledger.settle_answered(&permit, &claim) => Err(Outcome::AlreadyReported),
        Standing::Pending(claim) => Ok(claim),
        Standing::New => Ok(ledger.enrol(new_record(&profile, &settings, host, &instance_id))),
    };
    let backlog = ledger.backlog(&permit);
    drop(lock);

    // Deliver, the own record first, and write down how it went.
    let (own, without_own) = match own {
        Ok(claim) => (Some(claim), None),
        Err(outcome) => (None, Some(outcome)),
    };
    let claims: Vec<Claim> = own.into_iter().chain(backlog).collect();
    let timeouts = (settings.connect_timeout, deadline);
    let mut ends = deliver(&permit, host, voice, &ledger, &claims, timeouts).into_iter();
    if let Some(outcome) = without_own {
        return Ok(outcome);
    }
    let (Some(own), Some(end)) = (claims.first(), ends.next()) else { return Ok(Outcome::AlreadyReported) };
    let what = format!("{} {}", settings.family, settings.version.unwrap_or_default());
    Ok(match (end, ledger.store()) {
        (End::Sent { receipt }, _) => Outcome::Sent { what, host: host_of(&own.record.url), receipt },
        (End::Kept { why }, Some(store)) if own.is_kept() => Outcome::Pending { why, place: store.path().to_owned() },
        (End::Kept { why } | End::Refused { why }, _) => Outcome::Lost { why },
    })
}

fn show(request: &Request, host: &Host, voice: &Voice) -> Result<Outcome, Outcome> {
    let source = Source::find(host, request.profile.as_deref())?;
    let decision = consent::decide(host, &source.consent()?, request.refusal.as_deref());
    let profile = source.profile()?;
    let settings = Settings::resolve(request, &profile, host, voice)?;
    let file = &settings.place.identity_file;
    let is_this = |record: &Record| {
        record.profile == profile.name && record.family == settings.family && record.identity_file == file.path
    };
    let pending = existing_stores(host, file)
        .iter()
        .flat_map(|store| store.pending_names().into_iter().filter_map(|name| store.pending(&name)))
        .find(is_this);
    let body = match pending {
        Some(record) => record.body,
        None => {
            let stored = file.load(host).ok();
            let stored = stored.as_ref().and_then(|identity| identity.instance_id(&file.rules)).map(str::to_owned);
            let given = settings.instance_id.clone().filter(|id| ledger::identity::is_uuid(id));
            let instance_id = stored.or(given).unwrap_or_else(ledger::fresh_uuid);
            new_record(&profile, &settings, host, &instance_id).body
        }
    };
    let remark = match decision {
        Decision::Skip(refusal) => Some(format!("nothing would be sent: {refusal}, {}", refusal.reason())),
        Decision::Send(_) if ledger::is_reported(host, file, None, &settings.family) => {
            Some(format!("nothing would be sent: {} was reported before", settings.family))
        }
        Decision::Send(_) => None,
    };
    let mut text = body.into_bytes();
    // The exact bytes, but a person's prompt belongs on a line of its own.
    if std::io::stdout().is_terminal() {
        text.push(b'\n');
    }
    Ok(Outcome::Printed { text, remark })
}

fn status(request: &Request, host: &Host, voice: &Voice) -> Result<Outcome, Outcome> {
    let source = Source::find(host, request.profile.as_deref())?;
    let decision = consent::decide(host, &source.consent()?, request.refusal.as_deref());
    let profile = source.profile()?;
    let place = Place::resolve(request, &profile, host)?;
    let evidence = voice.is_verbose.then(|| Evidence::gather(host));
    Ok(status::status(host, &profile.name, &decision, &place, evidence.as_ref(), request.json))
}

fn off(request: &Request, host: &Host) -> Result<Outcome, Outcome> {
    let profile = switch_name(request)?;
    let path = switch::off(host, profile.as_deref()).map_err(|(path, error)| {
        Outcome::Failed(format!("{}: {error}; records are NOT switched off", path.display()))
    })?;
    // What was collected before the "no" must not leave after it.
    let discarded = ledger::discard_pending(host, &all_places(request, host), |record| {
        profile.as_ref().is_none_or(|name| *name == record.profile)
    });
    let whose = profile.map_or_else(|| "all products".to_owned(), |name| format!("the profile {name}"));
    match discarded {
        Ok(0) => Ok(Outcome::Done(format!("install records of {whose} are off ({})", path.display()))),
        Ok(count) => Ok(Outcome::Done(format!(
            "install records of {whose} are off ({}), {count} pending deleted",
            path.display()
        ))),
        Err((pending, error)) => Err(Outcome::Failed(format!(
            "install records of {whose} are off, but what was pending could not be deleted: {}: {error}",
            pending.display()
        ))),
    }
}

fn on(request: &Request, host: &Host) -> Result<Outcome, Outcome> {
    let profile = switch_name(request)?;
    switch::on(host, profile.as_deref())
        .map_err(|(path, error)| Outcome::Failed(format!("{}: {error}; records stay switched off", path.display())))?;
    let whose = profile.as_deref().map_or_else(|| "all products".to_owned(), |name| format!("the profile {name}"));
    Ok(Outcome::Done(match switch::find(host, profile.as_deref().unwrap_or(profile::DEFAULT)) {
        None => format!("the switch of {whose} is gone; install-record status tells whether anything else says no"),
        Some(path) => format!("the switch of {whose} is gone, but {path} still says no for all"),
    }))
}

fn flush(request: &Request, host: &Host, voice: &Voice) -> Result<Outcome, Outcome> {
    let (mut sent, mut left, mut last_why) = (0, 0, String::new());
    for name in wanted_profiles(request, host) {
        let source = Source::find(host, Some(OsStr::new(&name)))?;
        let permit = match consent::decide(host, &source.consent()?, request.refusal.as_deref()) {
            Decision::Skip(refusal) => {
                voice.explain(format_args!("{name}: nothing is sent: {refusal}, {}", refusal.reason()));
                continue;
            }
            Decision::Send(permit) => permit,
        };
        let profile = source.profile()?;
        let file = Place::resolve(request, &profile, host)?.identity_file;
        let (connect_timeout, timeout) = settings::timeouts(request, &profile, host)?;
        if !has_pending(host, &file) {
            continue;
        }
        let deadline = host.started() + timeout;
        let ledger = Ledger::open(&permit, host, voice, file, Origin::of(host));
        let Ok(lock) = ledger.lock(deadline) else { continue };
        let claims = ledger.backlog(&permit);
        drop(lock);
        for end in deliver(&permit, host, voice, &ledger, &claims, (connect_timeout, deadline)) {
            match end {
                End::Sent { .. } => sent += 1,
                End::Kept { why } | End::Refused { why } => {
                    left += 1;
                    last_why = why;
                }
            }
        }
    }
    Ok(Outcome::Flushed { sent, left: (left > 0).then_some((left, last_why)) })
}

fn forget(request: &Request, host: &Host) -> Result<Outcome, Outcome> {
    let names = wanted_profiles(request, host);
    for name in &names {
        let profile = Source::find(host, Some(OsStr::new(name)))?.profile()?;
        let file = Place::resolve(request, &profile, host)?.identity_file;
        ledger::forget(host, &profile.name, &file)
            .map_err(|problem| Outcome::Failed(format!("not everything of {name} could be deleted: {problem}")))?;
    }
    Ok(Outcome::Done(format!("IDs, pending records and receipts of {} are deleted", names.join(", "))))
}

fn facts(request: &Request, host: &Host) -> Result<Outcome, Outcome> {
    let mut facts = Facts::default();
    facts.detect(host, &Fact::all().collect::<Vec<_>>(), None);
    Ok(status::facts(&facts, &Evidence::gather(host), request.json))
}

/// How a claimed record ended.
enum End {
    Sent { receipt: Option<PathBuf> },
    Kept { why: String },
    Refused { why: String },
}

/// Has every claimed record delivered by `(connect timeout, deadline)` and written down.
fn deliver(
    permit: &Permit,
    host: &Host,
    voice: &Voice,
    ledger: &Ledger<'_>,
    claims: &[Claim],
    (connect_timeout, deadline): (Duration, Instant),
) -> Vec<End> {
    if claims.is_empty() {
        return Vec::new();
    }
    let job = job(host, connect_timeout, claims);
    let verdicts = dispatch::deliver(permit, host, voice, &job, deadline);
    // Without an answer there is nothing to write down, and so nothing to wait for.
    let is_answered = verdicts.iter().any(|verdict| matches!(verdict, Verdict::Answered { .. }));
    let lock = if is_answered { ledger.lock(deadline.max(Instant::now() + SETTLE_PATIENCE)) } else { Ok(None) };
    if lock.is_err() {
        voice.explain(format_args!("other runs were busy, so what was sent is sent again next time under the same ID"));
    }
    let ends = claims.iter().zip(verdicts).map(|(claim, verdict)| match verdict {
        Verdict::Failed { phase, why } => End::Kept { why: format!("{}: {why}", phase.name()) },
        Verdict::Answered { status, answer, .. } => {
            let why = format!("{} answered {status}", host_of(&claim.record.url));
            match status {
                200..=299 | 400..=499 if ![408, 425, 429].contains(&status) => {
                    let accepted = status < 300;
                    let receipt =
                        lock.as_ref().ok().and_then(|_| ledger.settle(permit, claim, status, &answer, accepted));
                    if accepted { End::Sent { receipt } } else { End::Refused { why } }
                }
                _ => End::Kept { why },
            }
        }
    });
    ends.collect()
}

fn job(host: &Host, connect_timeout: Duration, claims: &[Claim]) -> Job {
    let first_of = |names: &[&str]| {
        let mut values = names.iter().filter_map(|name| host.var(name)).filter(|value| !value.is_empty());
        values.next().map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let parcels = claims.iter().map(|claim| Parcel {
        url: claim.record.url.clone(),
        headers: claim.record.headers.clone(),
        body: claim.record.body.clone().into_bytes(),
    });
    Job {
        connect_timeout,
        user_agent: format!("install-record/{}", env!("CARGO_PKG_VERSION")),
        // curl's names and order: administrators know them from there.
        proxy: first_of(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
        no_proxy: first_of(&["no_proxy", "NO_PROXY"]),
        certificates_file: first_of(&["SSL_CERT_FILE"]),
        certificates_directory: first_of(&["SSL_CERT_DIR"]),
        parcels: parcels.collect(),
    }
}

fn new_record(profile: &Profile, settings: &Settings, host: &Host, instance_id: &str) -> Record {
    let id = ledger::fresh_uuid();
    let time = Time::now(host);
    let created = time.in_seconds();
    let mut facts = Facts::of([
        (Fact::RecordUuid, id.as_str()),
        (Fact::InstanceId, instance_id),
        (Fact::ProductFamily, settings.family.as_str()),
    ]);
    facts.add_time(time);
    for (fact, given) in [
        (Fact::ProductVersion, &settings.version),
        (Fact::Deployment, &settings.deployment),
        (Fact::OsPrettyName, &settings.os),
    ] {
        if let Some(value) = given {
            facts.add(fact, value.as_str());
        }
    }
    facts.detect(host, &profile.body.facts(), None);
    Record {
        id,
        profile: profile.name.clone(),
        family: settings.family.clone(),
        instance_id: instance_id.to_owned(),
        identity_file: settings.place.identity_file.path.clone(),
        url: settings.place.endpoint.url().to_owned(),
        headers: profile.headers.clone(),
        created,
        body: record::render(&profile.body, &facts),
    }
}

fn existing_stores(host: &Host, file: &IdentityFile) -> Vec<Store> {
    ledger::places(&file.path).iter().filter_map(|place| Store::existing(host, place)).collect()
}

fn has_pending(host: &Host, file: &IdentityFile) -> bool {
    existing_stores(host, file).iter().any(|store| !store.pending_names().is_empty())
}

fn host_of(url: &str) -> String {
    endpoint::Endpoint::new(url).map(|endpoint| endpoint.host().to_owned()).unwrap_or_default()
}

/// The profile that `off` and `on` are about; it need not be installed yet.
fn switch_name(request: &Request) -> Result<Option<String>, Outcome> {
    let Some(name) = &request.profile else { return Ok(None) };
    match name.to_str().filter(|name| profile::is_name(name)) {
        Some(name) => Ok(Some(name.to_owned())),
        None => Err(Outcome::Usage(format!("--profile '{}' must be a profile's name here", name.to_string_lossy()))),
    }
}

fn wanted_profiles(request: &Request, host: &Host) -> Vec<String> {
    match &request.profile {
        Some(name) => vec![name.to_string_lossy().into_owned()],
        None => profile::all_names(host),
    }
}

fn all_places(request: &Request, host: &Host) -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from(ledger::STATE)];
    for name in profile::all_names(host) {
        let profile = Source::find(host, Some(OsStr::new(&name))).and_then(|source| source.profile());
        if let Ok(profile) = profile
            && let Ok(place) = Place::resolve(request, &profile, host)
        {
            places.extend(ledger::places(&place.identity_file.path).into_iter().skip(1));
        }
    }
    places
}

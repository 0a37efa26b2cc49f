//! One install record from a deb, an rpm or a container: consent first, bounded, with a local receipt.
//!
//! This file is the story: [`run`] is the only place where the stages meet. Each stage is a room of its own that
//! does not know the others; ARCHITECTURE.md has the map.

pub mod cli;
mod commands;
pub mod consent;
pub mod courier;
pub mod dispatch;
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

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cli::{Command, HELP, Request, UsageError};
use consent::{Decision, Permit, Refusal, value};
use courier::message::{Delivery, HttpRequest, Job, Phase};
use facts::deployment::{Evidence, Situation};
use facts::process::Watch;
use facts::time::Time;
use facts::{Fact, Facts};
use host::Host;
use ledger::id::fresh_uuid;
use ledger::origin::Origin;
use ledger::schedule::{Occasion, Setback};
use ledger::store::{Claim, Store};
use ledger::{Answer, IdentityFile, Ledger, Record, Standing, Subject};
use options::Options;
use outcome::{Outcome, Reporter};
use profile::given::GivenError;
use profile::{Profile, ProfileError, Source};
use template::{Template, Values};

/// How long a finished delivery may wait for other runs before it is written down, at least. Past the deadline if need
/// be, because a record that was delivered and not marked would be sent twice.
const SETTLE_PATIENCE: Duration = Duration::from_secs(1);

/// How long after the deadline it may still be noted that records were not delivered. The next run does without.
const NOTE_PATIENCE: Duration = Duration::from_millis(30);

impl From<UsageError> for Outcome {
    fn from(error: UsageError) -> Outcome {
        Outcome::Usage(error.to_string())
    }
}

impl From<GivenError> for Outcome {
    fn from(error: GivenError) -> Outcome {
        Outcome::Usage(error.to_string())
    }
}

impl From<ProfileError> for Outcome {
    fn from(error: ProfileError) -> Outcome {
        match error {
            // Whoever called us cannot help it, and an installation must not fail by it.
            ProfileError::Unusable { .. } => Outcome::Lost { why: error.to_string() },
            ProfileError::Unknown { .. } | ProfileError::NoFile(_) | ProfileError::Malformed { .. } => {
                Outcome::Usage(error.to_string())
            }
        }
    }
}

/// Does what the command line asks for.
pub fn run(request: &Request, reporter: &Reporter) -> Outcome {
    let root = request.root.as_deref().map(|root| Host::new(None).given_path(root));
    if let Some(root) = root.as_ref().filter(|root| !root.is_dir()) {
        return Outcome::Usage(format!("--root {}: there is no such directory", root.display()));
    }
    let host = &Host::new(root);
    let ended = match request.command {
        Command::Send => send(request, host, reporter),
        Command::Show => commands::show(request, host, reporter),
        Command::Status => commands::status(request, host, reporter),
        Command::Off => commands::off(request, host),
        Command::On => commands::on(request, host),
        Command::Flush => commands::flush(request, host, reporter),
        Command::Forget => commands::forget(request, host, reporter),
        Command::Facts => commands::facts(request, host),
        Command::Check => commands::check(request, host),
        Command::Help => Ok(Outcome::Printed { text: HELP.as_bytes().to_vec(), remark: None }),
        Command::Version => Ok(Outcome::Printed {
            text: format!("install-record {}\n", env!("CARGO_PKG_VERSION")).into_bytes(),
            remark: None,
        }),
    };
    ended.unwrap_or_else(|outcome| outcome)
}

fn send(request: &Request, host: &Host, reporter: &Reporter) -> Result<Outcome, Outcome> {
    // Whose rules apply, and did anybody say no? Until then, nothing else is looked at.
    let source = Source::find(host, request.profile.as_deref())?;
    let (rules, directories) = (source.consent()?, options::directories(request, host));
    let permit = match consent::decide(host, &rules, request.refusal.as_deref(), &directories) {
        Decision::Skip(refusal @ Refusal::Unplaced { .. }) => return Ok(Outcome::Usage(refusal.to_string())),
        Decision::Skip(refusal) => return Ok(Outcome::OptedOut(refusal)),
        Decision::Send(permit) => permit,
    };
    let profile = source.profile()?;
    let options = Options::resolve(request, &profile, host, reporter)?;
    let deadline = host.started() + options.timeout;
    let file = options.place.identity_file();

    // What the record will be, as far as the caller has a say in it.
    let body = match profile.body(options.event.as_deref(), &request.given) {
        Ok(body) => body,
        Err(why) => return Ok(Outcome::Skipped { why: why.to_string() }),
    };
    options.place.complete(&profile)?;
    let mut values = values(request, &profile, &options, body, reporter)?;

    // An image that is being built is no installation, and must not carry an ID.
    let evidence = Evidence::gather(host);
    let verdict = evidence.verdict();
    reporter.explain(format_args!("deployed as {verdict} (seen: {evidence})"));
    let situation = verdict.situation;
    if let Situation::ImageBuild(evidence) = situation {
        return Ok(Outcome::ImageBuild(evidence));
    }

    // The usual upgrade ends here.
    if let Some(why) = missing_id(&options, host) {
        return Ok(Outcome::Skipped { why });
    }
    let origin = (situation == Situation::Package).then(|| Origin::of(host)).flatten();
    let subject = subject(&profile, &options);
    let is_reported = ledger::is_reported(host, file, origin.as_ref(), &subject);
    if is_reported && !has_pending(host, file) {
        return Ok(Outcome::AlreadyReported);
    }

    // Claim: one run per family goes on from here, with a record that is on disk.
    if !is_reported {
        detect(&mut values, &profile, body, host, options.pid, deadline);
    }
    let ledger = Ledger::open(&permit, host, reporter, file.cloned(), origin);
    let lock = ledger.lock(deadline).map_err(|error| Outcome::Lost { why: ledger::why_not_locked(error) })?;
    ledger.sweep();
    let hidden = |file: Option<&IdentityFile>, error| {
        let path = file.map(|file| host.path(&file.path)).unwrap_or_default();
        Outcome::Lost { why: format!("{}: {error}", path.display()) }
    };
    let instance_id = ledger.instance_id(options.instance_id.as_deref()).map_err(|error| hidden(file, error))?;
    let own = match ledger.standing(&subject, &instance_id) {
        Standing::Reported => Err(Outcome::AlreadyReported),
        Standing::InProgress => Err(Outcome::InProgress),
        Standing::Pending(claim) if ledger.settle_answered(&permit, &claim) => Err(Outcome::AlreadyReported),
        Standing::Pending(claim) => Ok(claim),
        Standing::Waiting(claim) => Err(held(&claim)),
        // Somebody has just taken the mark away; the next run makes a record, with facts that this one has not read.
        Standing::New if is_reported => Err(Outcome::AlreadyReported),
        Standing::New => {
            let ids = ids(&options, &instance_id, |file| {
                let (id, problem) = file.id_or_new(host).map_err(|error| hidden(Some(file), error))?;
                if let Some(problem) = problem {
                    let path = host.path(&file.path);
                    reporter.explain(format_args!("{}: {problem}, so the ID {id} is not kept there", path.display()));
                }
                Ok::<_, Outcome>(id)
            })?;
            Ok(ledger.enrol(new_record(&profile, &options, host, body, values, &ids)))
        }
    };
    // What waits since another project or user was reported: in their files there may be a "no" by now.
    let backlog = ledger.backlog(&permit, own.as_ref().ok().map(|claim| &claim.record), Occasion::Passing, |record| {
        file.is_some_and(|file| file.path == record.identity_file)
            || profile.identity.first().is_none_or(|(_, id)| {
                let directories = directories.of_record(&id.file, &record.identity_file);
                let decision = consent::decide(host, &rules, request.refusal.as_deref(), &directories);
                matches!(decision, Decision::Send(_))
            })
    });
    drop(lock);

    // Deliver, the own record first, and write down how it went.
    let (own, without_own) = match own {
        Ok(claim) => (Some(claim), None),
        Err(outcome) => (None, Some(outcome)),
    };
    let claims: Vec<Claim<'_>> = own.into_iter().chain(backlog.claims).collect();
    let timeouts = (options.connect_timeout, deadline);
    let mut ends = deliver(&permit, host, reporter, &ledger, &profile, &claims, timeouts).into_iter();
    if let Some(outcome) = without_own {
        return Ok(outcome);
    }
    let (Some(own), Some(end)) = (claims.first(), ends.next()) else { return Ok(Outcome::AlreadyReported) };
    let product = options.family.as_ref().unwrap_or(&profile.name);
    let what = [Some(product.clone()), options.version].into_iter().flatten().collect::<Vec<_>>().join(" ");
    Ok(match (end, own.place()) {
        (End::Sent { receipt }, _) => Outcome::Sent { what, host: host_of(&own.record.url), receipt },
        (End::Kept { why }, Some(place)) => Outcome::Pending { why, place: place.to_owned() },
        (End::Kept { why } | End::Refused { why }, _) => Outcome::Lost { why },
    })
}

/// What the run reports, as far as doing so once goes.
fn subject<'a>(profile: &'a Profile, options: &'a Options) -> Subject<'a> {
    Subject {
        profile: &profile.name,
        family: options.family.as_deref().unwrap_or_default(),
        version: options.version.as_deref().unwrap_or_default(),
        once: profile.once,
    }
}

/// Why there is nothing to report under: an ID that the product has to make itself is not there.
fn missing_id(options: &Options, host: &Host) -> Option<String> {
    let files = options.place.ids.iter().map(|(_, file)| file);
    let missing = files.filter(|file| !file.rule.is_made).find(|file| file.id(host).is_none())?;
    Some(format!("{} holds no {}", host.path(&missing.path).display(), missing.rule.format.name()))
}

/// Every ID that the profile names: the first is `instance_id`, the others come from `other`.
fn ids<E>(
    options: &Options,
    instance_id: &str,
    other: impl Fn(&IdentityFile) -> Result<String, E>,
) -> Result<Vec<(Fact, String)>, E> {
    let ids = options.place.ids.iter().enumerate();
    ids.map(|(index, (fact, file))| Ok((*fact, if index == 0 { instance_id.to_owned() } else { other(file)? })))
        .collect()
}

/// What the caller supplies for a record of `body`.
fn values(
    request: &Request,
    profile: &Profile,
    options: &Options,
    body: &Template,
    reporter: &Reporter,
) -> Result<Values, GivenError> {
    let event = options.event.iter().map(|event| ("event".to_owned(), event.clone()));
    let given: Vec<_> = request.given.iter().cloned().chain(event).collect();
    let supplied = profile.supplied(body, &given)?;
    for ignored in supplied.ignored.iter().filter(|ignored| !ignored.starts_with("--set event:")) {
        reporter.explain(format_args!("{ignored}, so it is left out"));
    }
    let mut facts = Facts::default();
    for (fact, given) in [
        (Fact::ProductFamily, &options.family),
        (Fact::ProductVersion, &options.version),
        (Fact::Deployment, &options.deployment),
        (Fact::OsPrettyName, &options.os),
    ] {
        if let Some(value) = given {
            facts.add(fact, value.as_str());
        }
    }
    Ok(Values { facts, given: supplied.values })
}

/// Reads from the machine what a record of `body` names.
fn detect(values: &mut Values, profile: &Profile, body: &Template, host: &Host, pid: Option<u32>, deadline: Instant) {
    let wanted = profile.named_facts(body);
    values.facts.detect(host, &wanted, pid.map(|pid| Watch { pid, deadline }));
    // A product that counts machines counts one without a machine-id by a number of its own.
    if wanted.contains(&Fact::MachineIdHash) {
        values.facts.add(Fact::MachineIdHash, fresh_uuid());
    }
}

fn new_record(
    profile: &Profile,
    options: &Options,
    host: &Host,
    body: &Template,
    mut values: Values,
    ids: &[(Fact, String)],
) -> Record {
    let id = fresh_uuid();
    let time = Time::now(host);
    values.facts.add(Fact::RecordUuid, id.as_str());
    values.facts.add_time(time);
    for (fact, id) in ids {
        values.facts.add(*fact, id.as_str());
    }
    let file = options.place.identity_file();
    let instance_id = ids.first().map(|(_, id)| id.clone()).unwrap_or_default();
    let line = |(name, value): &(String, Template)| (name.clone(), template::render_line(value, &values));
    Record {
        id,
        profile: profile.name.clone(),
        family: options.family.clone().unwrap_or_default(),
        mark: subject(profile, options).mark(file, &instance_id),
        instance_id,
        identity_file: file.map(|file| file.path.clone()).unwrap_or_default(),
        url: options.endpoint.url().to_owned(),
        headers: profile.headers.iter().map(line).collect(),
        created: time.in_seconds(),
        body: template::render(body, &values),
    }
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
    reporter: &Reporter,
    ledger: &Ledger<'_>,
    profile: &Profile,
    claims: &[Claim<'_>],
    (connect_timeout, deadline): (Duration, Instant),
) -> Vec<End> {
    if claims.is_empty() {
        return Vec::new();
    }
    // Whoever asks for a copy gets the very bytes.
    if profile.debug.iter().filter_map(|name| host.var(name)).any(|asked| value::is_set(asked.as_encoded_bytes())) {
        for claim in claims {
            outcome::print(format!("{}\n", claim.record.body).as_bytes());
        }
    }
    // The courier shares the time out among a host's addresses: that which there is.
    let connect_timeout = connect_timeout.min(deadline.saturating_duration_since(Instant::now()));
    let job = job(host, connect_timeout, profile, claims);
    let verdicts = dispatch::deliver(permit, host, reporter, &job, deadline);
    // Without an answer there is nothing to settle, and so nothing to wait for.
    let is_answered = verdicts.iter().any(|verdict| matches!(verdict, Delivery::Answered { .. }));
    let lock = is_answered.then(|| ledger.lock(deadline.max(Instant::now() + SETTLE_PATIENCE)));
    if let Some(Err(error)) = lock {
        reporter.explain(format_args!("{}, so only receipts are kept now", ledger::why_not_locked(error)));
    }
    let put_off = |claim, setback| {
        let now = Instant::now();
        if now < deadline + NOTE_PATIENCE {
            ledger.put_off(permit, claim, setback, now >= deadline);
        }
    };
    let ends = claims.iter().zip(verdicts).map(|(claim, verdict)| match verdict {
        Delivery::Failed { phase, why } => {
            // Whose turn never came, or who had no courier, was not tried.
            if phase != Phase::Start {
                put_off(claim, Setback::Failed);
            }
            End::Kept { why: format!("{}: {why}", phase.name()) }
        }
        Delivery::Answered { status, accepted, answer: text, retry_after } => {
            let why = format!("{} answered {status}", host_of(&claim.record.url));
            // What is refused for good would be refused again.
            let is_final = accepted || (400..=499).contains(&status) && ![408, 425, 429].contains(&status);
            if !is_final {
                let is_turned_away = status == 429 || retry_after.is_some();
                put_off(claim, if is_turned_away { Setback::TurnedAway(retry_after) } else { Setback::Failed });
                return End::Kept { why };
            }
            let answer = Answer { status, text, accepted };
            let receipt = match lock {
                Some(Ok(_)) => ledger.settle(permit, claim, &answer),
                _ => ledger.keep_answer(permit, claim, &answer),
            };
            if accepted { End::Sent { receipt } } else { End::Refused { why } }
        }
    });
    ends.collect()
}

/// How a run ends whose record a server has put off.
fn held(claim: &Claim<'_>) -> Outcome {
    let why = asked_to_wait(claim.retry.not_before);
    match claim.place() {
        Some(place) => Outcome::Pending { why, place: place.to_owned() },
        None => Outcome::Lost { why },
    }
}

pub(crate) fn asked_to_wait(until: i64) -> String {
    format!("the server asked to wait until {}", Time::at(until).in_seconds())
}

fn job(host: &Host, connect_timeout: Duration, profile: &Profile, claims: &[Claim<'_>]) -> Job {
    let first_of = |names: &[&str]| {
        let mut values = names.iter().filter_map(|name| host.var(name)).filter(|value| !value.is_empty());
        values.next().map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let requests = claims.iter().map(|claim| HttpRequest {
        url: claim.record.url.clone(),
        headers: claim.record.headers.clone(),
        body: claim.record.body.clone(),
    });
    let directories = first_of(&["SSL_CERT_DIR"]);
    // CURL_CA_BUNDLE is what call-home.sh's curl reads.
    let file = if directories.is_empty() {
        first_of(&["SSL_CERT_FILE", "CURL_CA_BUNDLE"])
    } else {
        first_of(&["SSL_CERT_FILE"])
    };
    Job {
        connect_timeout,
        user_agent: format!("install-record/{}", env!("CARGO_PKG_VERSION")),
        // curl's names and order: administrators know them from there.
        proxy: first_of(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
        no_proxy: first_of(&["no_proxy", "NO_PROXY"]),
        certificates_file: file,
        certificates_directories: directories,
        success: profile.success.clone(),
        requests: requests.collect(),
    }
}

fn existing_stores(host: &Host, file: Option<&IdentityFile>) -> Vec<Store> {
    ledger::places(file).iter().filter_map(|place| Store::existing(host, place)).collect()
}

fn has_pending(host: &Host, file: Option<&IdentityFile>) -> bool {
    existing_stores(host, file).iter().any(|store| !store.pending_names().is_empty())
}

fn host_of(url: &str) -> String {
    endpoint::Endpoint::new(url).map(|endpoint| endpoint.host().to_owned()).unwrap_or_default()
}

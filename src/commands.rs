//! The administrator's commands `show`, `status`, `flush`, `forget`, `off` and `on`. They read, write and delete because
//! somebody asked for it, and they say so when they could not.

mod switch;

use std::{ffi::OsStr, io::IsTerminal, path::PathBuf, sync::Once, time::Instant};

use crate::ledger::{self, Journal, Ledger, PENDING, Record, Store, View};
use crate::profile::{self, Source, file_path::Known};
use crate::{binding, flushed, permit, permit_again, unfound};
use crate::{
    consent, delivery::deliver, draft::Draft, host::path_error::PathError, kernel, kernel::LAST_WORDS,
    options::Options, options::Run, outcome::Outcome, outcome::Reporter, status::ProfileState, status::Status,
};

pub use switch::{off, on};

/// Prints what `send` would post: the record that waits, or a new one. Nothing is sent or written.
pub fn show(run: Run<'_>) -> Result<Outcome, Outcome> {
    let profile = Source::find(run.host, run.request.profile())?.profile()?;
    let refusal = permit(run, &profile.consent, &run.directories()).err();
    let options = Options::resolve(run, &profile)?;
    let mut draft = match Draft::new(run, &options) {
        Err(Outcome::Skipped(why)) => return Ok(Outcome::Printed(Vec::new(), Some(why))),
        other => other?,
    };
    run.reporter.explain(format_args!("the endpoint is {}", options.endpoint.clone()?.url));
    let file = options.identity_file();
    let (here, elsewhere) = binding(run).map_or_else(|because| (None, Some(because)), |here| (here, None));
    let store = Store::open(run.host, file, false).ok();
    let view = View { host: run.host, file, store: store.as_ref(), here: here.as_ref() };
    // Fresh IDs are not kept.
    let (mut ids, mut given) = (Vec::new(), options.instance_id.as_deref());
    for (fact, file) in &options.ids {
        ids.extend(file.id_to_report(view, given.take())?.map(|id| (*fact, id)));
    }
    let key = draft.subject.key(ids.first().map(|(_, id)| &**id));
    let mut waiting = store.iter().flat_map(|store| store.journals(PENDING)).map(|it| it.record);
    let body = waiting.find(|it| key.is_some() && it.key == key).unwrap_or_else(|| draft.record(&ids)).body;
    let reported = || view.is_reported(&draft.subject).then(|| "this was reported before".to_owned());
    let why = refusal.or(elsewhere).map(|ended| ended.of_command().to_string()).or_else(reported);
    // These are the exact bytes. On a terminal, a line end follows, so that the prompt has a line of its own.
    let end = if std::io::stdout().is_terminal() { "\n" } else { "" };
    Ok(Outcome::Printed((body + end).into_bytes(), why))
}

/// Prints the decision for one profile or for all, and the records that were sent or that wait, the newest first.
pub fn status(run: Run<'_>) -> Result<Outcome, Outcome> {
    let products = wanted(run)?;
    let (stores, unread) = stores(run, &products);
    let mut journals: Vec<Journal> = stores.iter().flat_map(Store::records).collect();
    journals.retain(|journal| is_meant(run, &products, &journal.record));
    journals.sort_by(|one, other| other.name.cmp(&one.name));
    // A record that was answered counts as sent, even where the mark or the receipt could not be written.
    let (sent, pending) = journals.into_iter().partition(|journal| journal.answer.is_some());
    let build = binding(run).err().map(|ended| ended.of_command().to_string());
    let profiles: Vec<_> = products.iter().map(|it| ProfileState::new(run, it, build.as_deref())).collect();
    let (first, unread) = (profiles.first().cloned(), unread.map(|problem| problem.to_string()));
    let status = Status { first, profiles, pending, sent, unread };
    let json = || serde_json::to_string_pretty(&status).unwrap_or_default() + "\n";
    Ok(Outcome::printed(if run.request.has("json") { json() } else { status.text() }))
}

/// Delivers what waits, each record to the endpoint that it was made for. One product's fault does not stop the others.
pub fn flush(run: Run<'_>) -> Result<Outcome, Outcome> {
    let products = wanted(run)?;
    let (stores, problem) = stores(run, &products);
    // Another user's records are delivered by that user.
    let own = stores.iter().filter(|store| store.directory.is_private());
    let mut records: Vec<Record> = own.flat_map(|store| store.journals(PENDING)).map(|it| it.record).collect();
    records.retain(|record| is_meant(run, &products, record));
    records.sort_by(|one, other| place(one).cmp(&place(other)));
    let mut ends = Vec::new();
    let by_product: Vec<_> = records.chunk_by(|one, other| one.profile == other.profile).collect();
    for (number, records) in (1..).zip(&by_product) {
        // Each product has its share of the time, so that a silent server does not take all of it.
        let deadline = run.host.started + run.timeout() * number / by_product.len() as u32;
        for records in records.chunk_by(|one, other| place(one) == place(other)) {
            let ended = flush_at(run, &products, &records[0], deadline);
            ends.extend(ended.unwrap_or_else(|ended| {
                run.reporter.explain(format_args!("{}: {ended}", records[0].profile));
                vec![ended; records.len()]
            }));
        }
    }
    let may_report = |options: &Options| permit(run, &options.profile.consent, &run.directories()).is_ok();
    let problem = problem.filter(|_| products.iter().any(may_report));
    ends.extend(problem.map(Outcome::from));
    Ok(flushed(ends))
}

/// What one delivery can have in common: the profile, the identity file, and the directories that the run knew.
fn place(record: &Record) -> (&str, &Option<PathBuf>, &Known) {
    (&record.profile, &record.identity_file, &record.directories)
}

/// Delivers the waiting records of the same place as `record`. It goes the way of `send`, without a record of its own.
fn flush_at(run: Run<'_>, products: &[Options], record: &Record, deadline: Instant) -> Result<Vec<Outcome>, Outcome> {
    static ALARM: Once = Once::new();
    let Record { profile: name, identity_file: path, directories: known, .. } = record;
    let there = run.directories().of_record(known);
    let Some(options) = products.iter().find(|options| options.profile.name == *name) else {
        let error = Outcome::Lost(format!("the profile {name} cannot be used here"));
        return Err(unfound(run, Some(name.as_ref()), error));
    };
    let options = Options { deadline, ..options.clone() }.with_files(path.clone(), &there);
    let first_permit = permit(run, &options.profile.consent, &there)?;
    // A flush that is refused starts no thread.
    ALARM.call_once(kernel::give_alarm_to_thread);
    options.endpoint.clone()?;
    let (file, binding) = (options.identity_file(), binding(run)?);
    // A directory that is gone is not made again.
    let store = Store::open(run.host, file, false)?;
    let view = View { host: run.host, file, store: Some(&store), here: binding.as_ref() };
    let (ledger, lock) = Ledger::open(&first_permit, run.reporter, view)?;
    let _under_way = consent::switch::under_way(run.host);
    let permit = permit(run, &options.profile.consent, &there)?;
    let mut claims = ledger.backlog(&permit, None, known);
    drop(lock);
    let ask = || permit_again(run, &options.profile.consent, &there);
    let ends = deliver(permit, ask, &ledger, &options, &mut claims);
    ledger.complete(&claims);
    Ok(ends)
}

/// Deletes what is remembered of one profile, or of every one.
pub fn forget(run: Run<'_>) -> Result<Outcome, Outcome> {
    let products = wanted(run)?;
    waiting_for_others("not everything could be deleted");
    // Records tell where other runs had their IDs. Another user's record is not asked, because it could name any file.
    let (stores, _) = stores(run, &products);
    let own = stores.iter().filter(|store| store.directory.is_private());
    let mut files: Vec<_> = products.iter().flat_map(|options| &options.ids).map(|(_, file)| file.clone()).collect();
    for record in own.flat_map(Store::records).map(|journal| journal.record) {
        let Some(options) = products.iter().find(|options| options.profile.name == record.profile) else { continue };
        let there = run.directories().of_record(&record.directories);
        files.extend(options.clone().with_files(record.identity_file, &there).ids.into_iter().map(|(_, file)| file));
    }
    if files.is_empty() {
        products.iter().try_for_each(|options| options.placed(run))?;
    }
    let failed = |problem| Outcome::Failed(format!("not everything could be deleted: {problem}"));
    let names: Vec<&str> = products.iter().map(|options| &*options.profile.name).collect();
    ledger::forget(run.host, names.first().copied().filter(|_| run.request.has("profile")), &files).map_err(failed)?;
    let what = "IDs, pending records and receipts that this user and these options can reach";
    Ok(Outcome::Done(format!("deleted of {}: all {what}", names.join(", "))))
}

/// Sets what is said if the alarm ends the wait for other runs. Those end within a minute, by their own time limits. A
/// run that was stopped holds its locks for longer.
fn waiting_for_others(done: &str) {
    let _ = LAST_WORDS.set(format!("install-record: {done}, but another run is still under way; try again\n"));
}

/// The options of the profile that was named, or of all that can be read. One vendor's broken file does not affect
/// another vendor.
fn wanted(run: Run<'_>) -> Result<Vec<Options<'static>>, Outcome> {
    let read = |name: &OsStr| Source::find(run.host, Some(name)).and_then(|source| source.profile());
    let explain = |error: Outcome| run.reporter.explain(format_args!("{}, so it is left out", error.of_command()));
    let each = |name: &String| read(name.as_ref()).map_err(explain).ok();
    let profiles = match run.request.profile() {
        Some(name) => vec![read(name)?],
        None => profile::all_names(run.host).iter().filter_map(each).collect(),
    };
    // A variable that is ignored is mentioned when a record is made. Profiles are not freed, because the process ends
    // after this command.
    let run = Run { reporter: &Reporter { is_quiet: true, is_verbose: false }, ..run };
    profiles.leak().iter().map(|profile| Options::resolve(run, profile)).collect()
}

/// Every state directory that runs of these products may have, and why the system's one cannot be used.
fn stores(run: Run<'_>, products: &[Options]) -> (Vec<Store>, Option<PathError>) {
    Store::all(run.host, &products.iter().filter_map(Options::identity_file).collect::<Vec<_>>())
}

/// Whether a record is of the profile that was named, if one was.
fn is_meant(run: Run<'_>, products: &[Options], record: &Record) -> bool {
    !run.request.has("profile") || products.iter().any(|options| options.profile.name == record.profile)
}

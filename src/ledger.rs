//! What this machine remembers: IDs, what was reported, what waits, and the receipts.
//!
//! One record per product and instance is kept by three rules. What cannot be remembered is not sent: before the first
//! byte, the ID is in its file, and the record is on disk and claimed. The answer is written into the record's own file
//! first; then comes the mark; then the file becomes a receipt by one rename. So a run that dies anywhere leaves what
//! the next one can finish without sending again.

pub mod binding;
pub mod id;
pub mod identity;
mod record_file;
pub mod report_key;
mod store;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::consent::Permit;
use crate::host::Host;
use crate::outcome::Reporter;
use crate::profile::IdLocation;
use binding::MachineBinding;
pub use identity::IdentityFile;
pub use record_file::{Answer, Attempt, Journal, Record};
pub use report_key::{ReportKey, Subject};
pub use store::{Claim, MAX_PENDING, MAX_PENDING_BYTES, MAX_SENT, Store, Unkept};
use store::{PENDING, SENT};

const DAY: i64 = 24 * 60 * 60;

/// How long a record waits before it is given up, in days.
pub const MAX_DAYS: i64 = 90;

/// The longest wait that a server can ask for, in seconds.
const MAX_PAUSE: i64 = 7 * DAY;

/// 2026-01-01: this program is younger, so a clock that is behind it is wrong.
const EARLIEST: i64 = 1_767_225_600;

/// How many descriptors the rest of a run needs: the courier's pipes, and the way to the identity file.
const RESERVE: usize = 16;

/// What is known about a report before anything is sent.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one a run")]
pub enum ReportState {
    /// It was reported; nothing is left to do.
    Reported,
    /// Another run is reporting it right now.
    InProgress,
    /// A record of it waits and is claimed by this run.
    Pending(Claim),
    /// It was never reported under this instance ID.
    New,
}

/// Whether it was reported, without a lock and without making anything: the way of every upgrade.
pub fn is_reported(
    host: &Host,
    file: Option<&IdentityFile>,
    here: Option<&MachineBinding>,
    subject: &Subject<'_>,
) -> bool {
    let Ok(identity) = file.map(|file| file.load(host)).transpose() else { return false };
    let Ok(id) = file.map(|file| file.id(host)).transpose().map(Option::flatten) else { return false };
    let (Some(key), false) = (subject.key(id.as_deref()), file.is_some() && id.is_none()) else { return false };
    let store = Store::find(host, file.map(|file| &*file.path));
    let has_line = |(file, identity): (&IdentityFile, &identity::Identity)| {
        subject.line(Some(file)).is_some_and(|family| identity.is_reported(family, &file.rule))
    };
    let is_marked = file.zip(identity.as_ref()).is_some_and(has_line)
        || store.as_ref().is_some_and(|store| store.is_listed(&key))
        || store::is_listed_for_all(host, &key);
    let is_cloned =
        || store.zip(here).zip(id).is_some_and(|((store, here), id)| store.bindings().is_foreign(here, &id));
    is_marked && !is_cloned()
}

/// Whether something is left to do for what was reported: a record waits, or its line is not in the identity file.
pub fn has_work(host: &Host, file: Option<&IdentityFile>, subject: &Subject<'_>) -> bool {
    Store::find(host, file.map(|file| &*file.path)).is_some_and(|store| {
        !store.names(PENDING).is_empty() || file.is_some_and(|file| missing_line(host, file, subject).is_some())
    })
}

/// The family whose line says that it was reported, where that line is not in `file`.
fn missing_line<'a>(host: &Host, file: &IdentityFile, subject: &'a Subject<'_>) -> Option<&'a str> {
    let is_missing = |family: &&str| file.load(host).is_ok_and(|identity| !identity.is_reported(family, &file.rule));
    subject.line(Some(file)).filter(is_missing)
}

/// The records that wait and the receipts, the oldest first.
pub fn journals(host: &Host, identity: Option<&Path>) -> (Vec<Journal>, Vec<Journal>) {
    let Some(store) = Store::find(host, identity) else { return Default::default() };
    let _lock = store.lock();
    let all = |of| store.journals(of).into_iter().map(|(_, journal)| journal).collect();
    (all(PENDING), all(SENT))
}

/// Why nothing could be kept for this user on this machine, if so. Nothing is made to find out.
pub fn problem(host: &Host, file: Option<&IdentityFile>) -> Option<Unkept> {
    match Store::find(host, file.map(|file| &*file.path)) {
        Some(_) => None,
        None => Store::could_make(host, file.map(|file| &*file.path)).err(),
    }
}

/// What waits beside a run's own record.
#[derive(Debug, Default)]
pub struct Backlog {
    /// Claimed, to be delivered now.
    pub claims: Vec<Claim>,
    /// How many a server wants to wait.
    pub waiting: usize,
    /// Until when the last of those waits, in seconds since 1970.
    pub until: i64,
}

/// The ledger, opened by a run that has consent, for one product.
pub struct Ledger<'a> {
    host: &'a Host,
    reporter: &'a Reporter,
    /// `None` where the product has no ID, or where it is was not said.
    file: Option<IdentityFile>,
    /// `None` where clones are not told apart: in an application container a new machine-id is not a new machine.
    here: Option<MachineBinding>,
    store: Store,
}

impl<'a> Ledger<'a> {
    /// Opens the state directory, made where it is missing, and waits for its lock.
    ///
    /// # Errors
    /// When nothing can be kept.
    pub fn open(
        _permit: &Permit,
        host: &'a Host,
        reporter: &'a Reporter,
        file: Option<IdentityFile>,
        here: Option<MachineBinding>,
    ) -> Result<(Ledger<'a>, OwnedFd), Unkept> {
        loop {
            let store = Store::make(host, file.as_ref().map(|file| &*file.path))?;
            if let Some(lock) = store.lock()? {
                store.sweep();
                store.move_aside(reporter);
                file.iter().for_each(|file| file.sweep(host));
                return Ok((Ledger { host, reporter, file, here, store }, lock));
            }
        }
    }

    /// The lock once more, to write down what came of a delivery.
    ///
    /// # Errors
    /// Those of locking.
    pub fn lock(&self) -> Result<Option<OwnedFd>, Unkept> {
        self.store.lock()
    }

    /// The machine.
    pub fn host(&self) -> &Host {
        self.host
    }

    /// Where state is kept.
    pub fn path(&self) -> &Path {
        self.store.path()
    }

    fn unkept(&self, file: &IdentityFile, error: io::Error) -> Unkept {
        Unkept::new(self.host.path(&file.path), error)
    }

    /// The ID to report under, which is in its file when this returns: the stored one where it was made on this machine,
    /// else `given`, else a fresh one. Every family reports again under a new one.
    ///
    /// # Errors
    /// When it cannot be known whether one is stored, or a new one cannot be.
    pub fn instance_id(&self, given: Option<&str>) -> Result<Option<String>, Unkept> {
        let Some(file) = &self.file else { return Ok(None) };
        let stored = file.id(self.host).map_err(|error| self.unkept(file, error))?;
        // One that we do not make is the project's, wherever the project goes.
        if !file.rule.is_made {
            return Ok(stored);
        }
        let mut bindings = self.store.bindings();
        let is_foreign = |id: &String| self.here.as_ref().is_some_and(|here| bindings.is_foreign(here, id));
        let cloned = stored.clone().filter(is_foreign);
        let id = match (stored, &cloned) {
            (Some(id), None) => id,
            _ => self.new_id(file, given, cloned.as_deref())?,
        };
        if let Some(cloned) = &cloned {
            self.reporter
                .explain(format_args!("instance ID {cloned} was made on another machine, so this clone has its own"));
        }
        let is_forgotten = cloned.is_some_and(|cloned| bindings.forget(&cloned));
        if (self.here.as_ref().is_some_and(|here| bindings.bind(here, &id)) || is_forgotten)
            && let Err(error) = self.store.set_bindings(&bindings)
        {
            self.reporter.explain(format_args!("{error}, so a clone would not be noticed"));
        }
        Ok(Some(id))
    }

    /// An ID other than `cloned`, written down. A power failure can take the file, or empty it, before the disk has it;
    /// the records under its ID remember it.
    fn new_id(&self, file: &IdentityFile, given: Option<&str>, cloned: Option<&str>) -> Result<String, Unkept> {
        let mut known = self.store.journals(PENDING);
        if self.host.exists(&file.path).unwrap_or(false)
            && file.load(self.host).is_ok_and(|identity| identity.is_empty())
        {
            known.extend(self.store.journals(SENT));
        }
        let is_of_file = |record: &&Record| record.identity_file.as_ref() == Some(&file.path);
        let records = known.iter().map(|(_, journal)| &journal.record).filter(is_of_file);
        let lost = records.filter_map(|record| record.instance_id.clone()).rfind(|id| Some(&**id) != cloned);
        let given = given.filter(|id| file.rule.format.holds(id)).map(str::to_owned);
        let id = lost.or(given).unwrap_or_else(|| file.rule.format.fresh(self.host.now()));
        file.keep(self.host, &id).map_err(|error| self.unkept(file, error))?;
        Ok(id)
    }

    /// Another of the product's IDs, made and kept where there is none.
    ///
    /// # Errors
    /// As [`Ledger::instance_id`].
    pub fn other_id(&self, file: &IdentityFile) -> Result<Option<String>, Unkept> {
        let at = |error| self.unkept(file, error);
        if let Some(id) = file.id(self.host).map_err(at)? {
            return Ok(Some(id));
        }
        if !file.rule.is_made {
            return Ok(None);
        }
        let id = file.rule.format.fresh(self.host.now());
        file.keep(self.host, &id).map_err(at)?;
        Ok(Some(id))
    }

    /// What is known about `subject`, after [`Ledger::instance_id`].
    ///
    /// # Errors
    /// Those of claiming.
    pub fn state(&self, permit: &Permit, subject: &Subject<'_>, id: Option<&str>) -> Result<ReportState, Unkept> {
        let Some(key) = subject.key(id) else { return Ok(ReportState::New) };
        if is_reported(self.host, self.file.as_ref(), self.here.as_ref(), subject) {
            // Only our own list knows, since the line could not be written. Perhaps it can be by now.
            if let Some(file) = &self.file
                && let Some(family) = missing_line(self.host, file, subject)
            {
                let _ = file.mark(self.host, family);
            }
            return Ok(ReportState::Reported);
        }
        let is_this = |(_, journal): &&(String, Journal)| journal.record.key.as_ref() == Some(&key);
        let pending = self.store.journals(PENDING);
        if let Some((name, _)) = pending.iter().find(is_this) {
            let claim = self.store.claim(name).map_err(|error| Unkept::new(self.path().join(name), error))?;
            return Ok(match claim {
                None => ReportState::InProgress,
                Some(claim) if claim.journal.answer.is_some() => {
                    self.complete(permit, &claim);
                    ReportState::Reported
                }
                Some(claim) => ReportState::Pending(claim),
            });
        }
        // A power failure can take the mark, which is synced by its file only, and leave the receipt.
        let is_accepted = |journal: &Journal| journal.answer.as_ref().is_some_and(|answer| answer.accepted);
        let receipts = self.store.journals(SENT);
        match receipts.iter().find(|receipt| is_this(receipt) && is_accepted(&receipt.1)) {
            Some((_, journal)) => {
                let _ = self.mark(&journal.record);
                Ok(ReportState::Reported)
            }
            None => Ok(ReportState::New),
        }
    }

    /// Keeps a new record, claimed by this run and on disk.
    ///
    /// # Errors
    /// Those of writing: what cannot be remembered is not sent.
    pub fn enqueue(&self, record: Record) -> Result<Claim, Unkept> {
        self.store.add(record)
    }

    /// Until when a server wants to be left alone, in seconds since 1970: what it said to any product's record holds for
    /// all. A wait counts only while the clock is between its beginning and its end.
    pub fn held_until(&self, url: &str) -> Option<i64> {
        let now = self.host.now();
        let all = self.store.journals(PENDING);
        let attempts = all.iter().flat_map(|(_, journal)| &journal.attempts).filter(|attempt| attempt.url == url);
        let until = |attempt: &Attempt| {
            let pause = i64::try_from(attempt.retry_after?).unwrap_or(MAX_PAUSE).min(MAX_PAUSE);
            let end = attempt.at.saturating_add(pause);
            (attempt.at..end).contains(&now).then_some(end)
        };
        attempts.filter_map(until).max()
    }

    /// Claims the other pending records of the permit's profile that `may_leave`, the oldest first. What was answered is
    /// completed now. What is too old, of an ID that this machine no longer has, or reported by another record, goes.
    pub fn backlog(&self, permit: &Permit, own: Option<&Claim>, may_leave: impl Fn(&Record) -> bool) -> Backlog {
        let mut backlog = Backlog::default();
        // Each claim is a descriptor, and the courier needs some as well.
        let reserve: Vec<OwnedFd> = (0..RESERVE).map_while(|_| self.store.spare_descriptor().ok()).collect();
        for (name, journal) in self.store.journals(PENDING) {
            if journal.record.profile != permit.profile() || !may_leave(&journal.record) {
                continue;
            }
            let claim = match self.store.claim(&name) {
                Ok(Some(claim)) => claim,
                Ok(None) => continue,
                Err(error) => {
                    self.reporter.explain(format_args!("{name}: {error}, so it goes later"));
                    continue;
                }
            };
            if claim.journal.answer.is_some() {
                self.complete(permit, &claim);
            } else if let Some(why) = self.reason_to_drop(&claim, own) {
                self.reporter.explain(format_args!("{name}: {why}, so it is dropped"));
                if let Err(error) = self.store.remove(&claim) {
                    self.reporter.explain(format_args!("{error}"));
                }
            } else if let Some(until) = self.held_until(&claim.url) {
                backlog.waiting += 1;
                backlog.until = backlog.until.max(until);
            } else {
                backlog.claims.push(claim);
            }
        }
        drop(reserve);
        backlog
    }

    fn reason_to_drop(&self, claim: &Claim, own: Option<&Claim>) -> Option<&'static str> {
        let record = claim.record();
        let id = self.file_of(record).and_then(|file| file.id(self.host).ok().flatten());
        let is_foreign =
            |here| record.instance_id.as_ref().is_some_and(|id| self.store.bindings().is_foreign(here, id));
        if record.instance_id.is_some() && id.is_some() && id != record.instance_id
            || self.here.as_ref().is_some_and(is_foreign)
        {
            return Some("it is of another instance ID");
        }
        let is_own = own.is_some_and(|own| record.key.is_some() && own.record().key == record.key);
        if is_own || self.is_marked(record) {
            return Some("its product was reported by another record");
        }
        // Only after an attempt that failed when its days were over: a machine that was off for a year still delivers.
        let first = claim.journal.attempts.iter().map(|attempt| attempt.at).find(|at| *at >= EARLIEST)?;
        let last = claim.journal.attempts.last()?.at;
        (last - first >= MAX_DAYS * DAY && last <= self.host.now()).then_some("it is too old")
    }

    fn is_marked(&self, record: &Record) -> bool {
        let is_listed = record.key.as_ref().is_some_and(|key| self.store.is_listed(key));
        is_listed
            || self.line_of(record).is_some_and(|(file, _, family)| {
                file.load(self.host).is_ok_and(|identity| identity.is_reported(family, &file.rule))
            })
    }

    /// The identity file, the ID and the family of the line that remembers `record`, if it is remembered by one.
    fn line_of<'r>(&self, record: &'r Record) -> Option<(IdentityFile, &'r str, &'r str)> {
        let file = self.file_of(record).filter(|file| matches!(file.rule.location, IdLocation::Line { .. }))?;
        let (id, family) = (record.instance_id.as_deref()?, record.family.as_deref()?);
        let is_once = record.key == Some(ReportKey::of(&record.profile, id, family, ""));
        is_once.then_some((file, id, family))
    }

    /// The identity file in which `record` is marked.
    fn file_of(&self, record: &Record) -> Option<IdentityFile> {
        let (file, path) = (self.file.as_ref()?, record.identity_file.clone()?);
        if path == file.path {
            Some(file.clone())
        } else {
            Some(IdentityFile { path, also: Vec::new(), rule: file.rule.clone() })
        }
    }

    /// Finishes a claimed record that was answered: the mark, then the receipt. Where the mark cannot be written, the
    /// record stays where it is, with its answer, which the next run finds. The receipt's path.
    pub fn complete(&self, permit: &Permit, claim: &Claim) -> Option<PathBuf> {
        debug_assert_eq!(permit.profile(), claim.record().profile);
        let is_accepted = claim.journal.answer.as_ref().is_some_and(|answer| answer.accepted);
        let marked = if is_accepted { self.mark(claim.record()) } else { Ok(()) };
        marked
            .and_then(|()| self.store.keep_receipt(claim))
            .map_err(|error| self.reporter.explain(format_args!("{error}")))
            .ok()
    }

    /// Remembers that `record` was delivered: by a line of the identity file where it has such lines, else in our list.
    fn mark(&self, record: &Record) -> Result<(), Unkept> {
        let Some(key) = &record.key else { return Ok(()) };
        if let Some((file, id, family)) = self.line_of(record) {
            let marked = match file.id(self.host) {
                // The product is marked only under the ID that it was reported under.
                Ok(Some(known)) if known != id => return Ok(()),
                Ok(Some(_)) => file.mark(self.host, family),
                Ok(None) => file.keep(self.host, id).and_then(|()| file.mark(self.host, family)),
                Err(error) => Err(error),
            };
            match marked {
                Ok(()) => return Ok(()),
                Err(error) => {
                    self.reporter.explain(format_args!("{}, so only our own list knows", self.unkept(&file, error)))
                }
            }
        }
        self.store.list(key)
    }
}

/// Deletes the pending records of `profile`, or of all, once the runs that deliver some of them have ended; how many
/// those were. `identity` is the identity file.
///
/// # Errors
/// Those of locking and unlinking.
pub fn discard_pending(host: &Host, identity: Option<&Path>, profile: Option<&str>) -> Result<usize, Unkept> {
    let Some(store) = Store::find(host, identity) else { return Ok(0) };
    Ok(store.discard(|record| profile.is_none_or(|profile| profile == record.profile))?.0)
}

/// Deletes everything that is remembered for one profile: IDs and marks, pending records and receipts. An ID that is
/// not ours to make is not ours to delete.
///
/// # Errors
/// What could not be deleted, and why.
pub fn forget(host: &Host, profile: &str, files: &[IdentityFile]) -> Result<(), Unkept> {
    let store = Store::find(host, files.first().map(|file| &*file.path));
    let mut lock = None;
    if let Some(store) = &store {
        lock = store.discard(|record| record.profile == profile)?.1;
        store.remove_receipts(profile)?;
        store.unlist(profile)?;
        let mut bindings = store.bindings();
        let ids = files.iter().filter_map(|file| file.id(host).ok().flatten());
        if ids.map(|id| bindings.forget(&id)).fold(false, |any, is_known| any | is_known) {
            store.set_bindings(&bindings)?;
        }
    }
    for file in files.iter().filter(|file| file.rule.is_made) {
        file.sweep(host);
        file.forget(host).map_err(|(path, error)| Unkept::new(path, error))?;
    }
    if let Some(store) = &store {
        store.remove_if_empty(host);
    }
    drop(lock);
    Ok(())
}

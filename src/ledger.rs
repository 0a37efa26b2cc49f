//! What this machine remembers: IDs, what was reported, what waits, and the receipts.
//!
//! A product reports once per instance. What cannot be remembered is not sent: before the first byte, the ID is in its
//! file, and the record is on disk and claimed. The answer is written into the record's own file first. Then comes the
//! mark, and then the file becomes a receipt by one rename. If a run dies after the answer, the next one finishes
//! without sending again. If it dies before, the next one sends the same record under the same `id`.

pub mod binding;
pub mod identity;
mod record_file;
pub mod report_key;
mod store;

use std::os::fd::OwnedFd;

use crate::profile::{Once, file_path::Known};
use crate::{consent::Permit, facts::Fact, facts::machine::hash_of, facts::time::Time, host::Host};
use crate::{outcome::Outcome, outcome::Reporter};
use binding::MachineBinding;
pub use identity::{IdentityFile, load};
pub use record_file::{Answer, Attempt, FORMAT, Journal, Record};
pub use report_key::Subject;
use store::{BINDINGS, REPORTED, lines};
pub use store::{Claim, Kept, PENDING, SENT, Store};

/// For how many days a record's attempts may fail before it is given up.
const MAX_DAYS: i64 = 90;

/// 2026-01-01. This program is younger, so a clock that shows an earlier time is wrong.
const EARLIEST: i64 = 1_767_225_600;

/// What can be known without a lock and without making anything.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The machine.
    pub host: &'a Host,
    /// Where state is kept, if there is such a place.
    pub store: Option<&'a Store>,
    /// `None` where clones are not recognized: in an application container, a new machine-id is not a new machine.
    pub here: Option<&'a MachineBinding>,
}

impl View<'_> {
    /// Whether `subject` was reported. Every upgrade asks this and ends here.
    pub fn is_reported(self, file: Option<&IdentityFile>, subject: &Subject) -> bool {
        let id = file.and_then(|file| file.id(self.host).ok().flatten());
        if file.is_some() && id.as_ref().is_none_or(|id| self.is_cloned(id)) {
            return false;
        }
        let family = subject.family.filter(|_| subject.version.is_none());
        subject.once != Once::Call && self.has_mark(file, family, || subject.key(id.as_deref()))
    }

    /// Whether a report is marked as made: by the family's line in the identity file, or by its key in our list.
    fn has_mark(self, file: Option<&IdentityFile>, family: Option<&str>, key: impl FnOnce() -> Option<String>) -> bool {
        let text = |file: &IdentityFile| load(self.host, &file.path).unwrap_or_default();
        file.zip(family).is_some_and(|(file, family)| text(file).is_reported(family, &file.rule))
            || key().is_some_and(|key| store::lists(self.host, file, &key))
    }

    /// Whether an instance ID was made on another machine.
    pub fn is_cloned(self, id: &str) -> bool {
        self.store.zip(self.here).is_some_and(|(store, here)| here.is_foreign(&lines(&store.directory, BINDINGS), id))
    }
}

/// The ledger, opened by a run that has consent, for one product.
pub struct Ledger<'a> {
    /// The machine.
    pub host: &'a Host,
    /// Where state is kept.
    pub store: Store,
    /// Where steps are told.
    pub reporter: &'a Reporter,
    /// `None` where the product has no ID, or where the caller did not name its directory.
    file: Option<IdentityFile>,
    here: Option<MachineBinding>,
}

impl<'a> Ledger<'a> {
    /// Opens the state directory, makes it if it is missing, and waits for its lock.
    ///
    /// # Errors
    /// When nothing can be kept.
    pub fn open(
        _permit: &Permit,
        host: &'a Host,
        reporter: &'a Reporter,
        file: Option<IdentityFile>,
        here: Option<MachineBinding>,
    ) -> Kept<(Ledger<'a>, OwnedFd)> {
        loop {
            let mode = file.as_ref().map_or(0o755, IdentityFile::directory_mode);
            let store = Store::open(host, file.as_ref().map(|file| &*file.path), Some(mode))?;
            let lock = store.lock()?;
            if !store.directory.is_removed() {
                store.tidy_up(reporter);
                file.iter().for_each(|file| file.sweep(host));
                return Ok((Ledger { host, reporter, file, here, store }, lock));
            }
        }
    }

    fn view(&self) -> View<'_> {
        View { host: self.host, store: Some(&self.store), here: self.here.as_ref() }
    }

    /// The IDs to report under, by their facts. Each is in its file when this returns ([`IdentityFile::id_to_report`]).
    /// Marks, receipts and the recognition of clones use the first, for which `given` is a proposal. Under a new ID,
    /// every family reports again.
    ///
    /// # Errors
    /// When it cannot be known whether an ID is kept, or when a new one cannot be kept.
    pub fn ids(&self, files: &[(Fact, IdentityFile)], mut given: Option<&str>) -> Kept<Vec<(Fact, String)>> {
        let mut ids = Vec::new();
        for (fact, file) in files {
            let Some(id) = file.id_to_report(self.view(), given.take())? else { continue };
            if file.id(self.host)?.as_ref() != Some(&id) {
                file.keep(self.host, &id)?;
            }
            ids.push((*fact, id));
        }
        // An ID that we do not make belongs to the project and goes with it, so it is not bound to this machine.
        let is_bound = files.first().is_some_and(|(_, file)| !file.rule.product_made);
        let bound = self.here.as_ref().zip(ids.first()).filter(|_| is_bound);
        if let Some(line) = bound.map(|(here, (_, id))| here.line(id))
            && let Err(error) = self.store.change(BINDINGS, &[line[..64].to_owned()], Some(line))
        {
            self.reporter.explain(format_args!("{error}, so a clone would not be noticed"));
        }
        Ok(ids)
    }

    /// The record of `subject` that waits, claimed. Without one, a new record is to be made. [`Ledger::ids`] comes before
    /// this.
    ///
    /// # Errors
    /// Why there is nothing to send: it was reported, or another run is reporting it. Those of claiming.
    pub fn waiting(&self, subject: &Subject, id: Option<&str>) -> Result<Option<Claim>, Outcome> {
        let Some(key) = subject.key(id) else { return Ok(None) };
        if self.view().is_reported(self.file.as_ref(), subject) {
            return Err(Outcome::AlreadyReported);
        }
        let is_this = |journal: &Journal| journal.record.key.as_ref() == Some(&key);
        if let Some(journal) = self.store.journals(PENDING).into_iter().find(is_this) {
            let claim = self.store.claim(&journal.name)?;
            let claim = claim.ok_or_else(|| Outcome::Skipped("another run is reporting this".to_owned()))?;
            if claim.journal.answer.is_none() {
                return Ok(Some(claim));
            }
            self.complete(&claim);
            return Err(Outcome::AlreadyReported);
        }
        // A power cut can take the mark and leave the receipt: only the bytes of the mark's file are synced, not its
        // name.
        let is_receipt = |journal: &Journal| is_this(journal) && journal.is_accepted();
        let Some(receipt) = self.store.journals(SENT).into_iter().find(is_receipt) else { return Ok(None) };
        let _ = self.mark(&receipt);
        Err(Outcome::AlreadyReported)
    }

    /// The waits that servers have asked for: their URLs, and until when, in seconds since 1970. What a server said to
    /// one product holds for all. A wait counts only while the clock is between its beginning and its end.
    pub fn pauses(&self) -> Vec<(String, i64)> {
        let now = self.host.now().timestamp();
        let attempts = [PENDING, SENT].into_iter().flat_map(|of| self.store.journals(of)).flat_map(|it| it.attempts);
        attempts.filter_map(|it| Some((it.url.clone(), it.held_until(now)?))).collect()
    }

    /// Claims the other waiting records of the permit's profile and of this identity file, the oldest first. `asked`
    /// are the directories that were asked for the permit; records of other directories stay. A record that was
    /// answered is completed now. A record goes if it is too old, has an ID that this machine no longer has, or was
    /// reported by another record.
    pub fn backlog(&self, permit: &Permit, asked: &Known) -> Vec<Claim> {
        let mut claims = Vec::new();
        let path = self.file.as_ref().map(|file| &file.path);
        for Journal { record, name, .. } in self.store.journals(PENDING) {
            let is_ours = record.profile == permit.profile() && record.identity_file.as_ref() == path;
            if !is_ours || record.directories != *asked {
                continue;
            }
            let Ok(Some(claim)) = self.store.claim(&name) else { continue };
            if claim.journal.answer.is_some() {
                self.complete(&claim);
            } else if !self.is_obsolete(&claim.journal) {
                claims.push(claim);
            } else if !claim.journal.is_held(self.host.now().timestamp()) {
                // While its server wants to be left alone, it stays: nothing else remembers that.
                self.reporter
                    .explain(format_args!("{name} is dropped: its ID is gone, it was reported, or it is too old"));
                let _ = self.store.remove(PENDING, &name);
            }
        }
        claims
    }

    fn is_obsolete(&self, Journal { record, attempts, .. }: &Journal) -> bool {
        let (view, file) = (self.view(), self.file.as_ref());
        let stored = file.and_then(|file| file.id(self.host).ok().flatten());
        let is_other = |id: &String| view.is_cloned(id) || stored.as_ref().is_some_and(|stored| stored != id);
        // A record is too old only if its attempts have failed for that many days. So a machine that was off for a year
        // still delivers. Attempts at times that cannot be right do not count.
        let possible = EARLIEST..=self.host.now().timestamp();
        let times = attempts.iter().filter_map(|it| Time::parse(&it.at)).filter(|at| possible.contains(at));
        let times: Vec<i64> = times.collect();
        let is_old = |(first, last)| last - first >= MAX_DAYS * 24 * 60 * 60;
        record.instance_id.as_ref().is_some_and(is_other)
            || record.key.is_some() && view.has_mark(file, record.line_family(), || record.key.clone())
            || times.first().zip(times.last()).is_some_and(is_old)
    }

    /// Finishes a claimed record that was answered: the mark, then the receipt. If the mark cannot be written, the record
    /// stays where it is with its answer, and the next run finishes it.
    pub fn complete(&self, claim: &Claim) {
        if let Err(error) = self.mark(&claim.journal).and_then(|()| self.store.keep_receipt(&claim.journal.name)) {
            self.reporter.explain(error);
        }
    }

    /// Remembers a record that was accepted: by a line of the identity file where it has such lines, else in our list.
    fn mark(&self, journal: &Journal) -> Kept<()> {
        let record = &journal.record;
        let Some(key) = record.key.as_ref().filter(|_| journal.is_accepted()) else { return Ok(()) };
        match (&self.file, &record.instance_id, record.line_family()) {
            (Some(file), Some(id), Some(family)) if file.rule.key.is_some() => file.mark(self.host, id, family),
            _ => self.store.change(REPORTED, &[], Some(key.clone())),
        }
    }
}

/// Deletes everything that is remembered for one profile, or for all: IDs and marks, pending records and receipts. An
/// ID that is not ours to make is not ours to delete.
///
/// # Errors
/// What could not be deleted, and why.
pub fn forget(host: &Host, profile: Option<&str>, files: &[IdentityFile]) -> Kept<()> {
    let (stores, problem) = Store::all(host, &files.iter().map(|file| file.path.clone()).collect::<Vec<_>>());
    let discard = |store| Store::discard(store, profile).map(|(_, lock)| (store, lock));
    let (locked, failed): (Vec<_>, Vec<_>) = stores.iter().map(discard).partition(Result::is_ok);
    let of_ids = files.iter().filter_map(|file| file.id(host).ok().flatten()).map(|id| hash_of(&id));
    let beginnings: Vec<String> = profile.map(report_key::beginning).into_iter().chain(of_ids).collect();
    // Every file and directory is tried, and the first fault is told. Receipts go last, because they tell where the files are.
    let of_files = files.iter().filter(|file| !file.rule.product_made).map(|file| file.forget(host));
    let of_stores = locked.iter().flatten().map(|(store, _)| store.forget(profile, &beginnings));
    let forgotten = of_files.chain(of_stores).fold(Ok(()), Result::and);
    failed.into_iter().find_map(Result::err).or(problem).map_or(forgotten, Err)
}

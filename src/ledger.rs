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

use chrono::DateTime;

use crate::profile::{Once, file_path::Known};
use crate::{consent::Permit, facts::Fact, facts::machine::hash_of, facts::time, host::Host};
use crate::{outcome::Outcome, outcome::Reporter};
use binding::MachineBinding;
pub use identity::{IdentityFile, load};
pub use record_file::{Answer, Attempt, FORMAT, Journal, Record};
pub use report_key::Subject;
use store::{BINDINGS, REPORTED, lines};
pub use store::{Claim, Kept, PENDING, Store};

/// For how many seconds a record's attempts may fail before it is given up: 90 days.
const MAX_AGE: i64 = 90 * 24 * 60 * 60;

/// 2026-01-01. This program is younger, so a clock that shows an earlier time is wrong.
const EARLIEST: i64 = 1_767_225_600;

/// What can be known without a lock and without making anything.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The machine.
    pub host: &'a Host,
    /// `None` where the product has no ID, or where the caller did not name its directory.
    pub file: Option<&'a IdentityFile>,
    /// Where state is kept, if there is such a place.
    pub store: Option<&'a Store>,
    /// `None` where clones are not recognized: in an application container, a new machine-id is not a new machine.
    pub here: Option<&'a MachineBinding>,
}

impl View<'_> {
    /// Whether `subject` was reported. Every upgrade asks this and ends here.
    pub fn is_reported(self, subject: &Subject) -> bool {
        let id = self.stored_id();
        if self.file.is_some() && id.as_ref().is_none_or(|id| self.is_cloned(id)) {
            return false;
        }
        let family = subject.family.filter(|_| subject.version.is_none());
        subject.once != Once::Call && self.has_mark(family, || subject.key(id.as_deref()))
    }

    fn stored_id(self) -> Option<String> {
        self.file?.id(self.host).ok().flatten()
    }

    /// Whether a report is marked as made: by the family's line in the identity file, or by its key in our list.
    fn has_mark(self, family: Option<&str>, key: impl FnOnce() -> Option<String>) -> bool {
        let text = |file: &IdentityFile| load(self.host, &file.path).unwrap_or_default();
        self.file.zip(family).is_some_and(|(file, family)| text(file).is_reported(family, &file.rule))
            || key().is_some_and(|key| store::lists(self.host, self.file, &key))
    }

    /// Whether an instance ID was made on another machine.
    pub fn is_cloned(self, id: &str) -> bool {
        self.store.zip(self.here).is_some_and(|(store, here)| here.is_foreign(&lines(&store.directory, BINDINGS), id))
    }
}

/// The ledger, opened by a run that has consent, for one product.
pub struct Ledger<'a> {
    /// What was known before. The store in it may have been removed since.
    pub seen: View<'a>,
    /// Where state is kept.
    pub store: Store,
    /// Where steps are told.
    pub reporter: &'a Reporter,
}

impl<'a> Ledger<'a> {
    /// Opens the state directory, makes it if it is missing, and waits for its lock.
    ///
    /// # Errors
    /// When nothing can be kept.
    pub fn open(_: &Permit, reporter: &'a Reporter, seen: View<'a>) -> Kept<(Ledger<'a>, OwnedFd)> {
        loop {
            let store = Store::open(seen.host, seen.file, true)?;
            let lock = store.lock()?;
            if !store.directory.is_removed() {
                store.tidy_up(reporter);
                seen.file.iter().for_each(|file| file.sweep(seen.host));
                return Ok((Ledger { seen, store, reporter }, lock));
            }
        }
    }

    fn view(&self) -> View<'_> {
        View { store: Some(&self.store), ..self.seen }
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
            if file.id(self.seen.host)?.as_ref() != Some(&id) {
                file.keep(self.seen.host, &id)?;
            }
            ids.push((*fact, id));
        }
        // An ID that we do not make belongs to the project and goes with it, so it is not bound to this machine.
        let is_bound = files.first().is_some_and(|(_, file)| !file.rule.product_made);
        let bound = self.seen.here.zip(ids.first()).filter(|_| is_bound);
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
        if self.view().is_reported(subject) {
            return Err(Outcome::AlreadyReported);
        }
        let mut records = self.store.records();
        records.retain(|journal| journal.record.key.as_ref() == Some(&key));
        // A run can die between the answer and the mark. A power cut can take the mark and leave the receipt: only the
        // bytes of the mark's file are synced, not its name.
        if let Some(accepted) = records.iter().find(|journal| journal.is_accepted()) {
            let _ = self.mark(accepted);
            return Err(Outcome::AlreadyReported);
        }
        let Some(waiting) = records.iter().find(|journal| journal.answer.is_none()) else { return Ok(None) };
        // Its holder may have had the answer since, and died.
        let claim = self.store.claim(&waiting.name)?.filter(|claim| claim.journal.answer.is_none());
        claim.map(Some).ok_or_else(|| Outcome::Skipped("another run is reporting this".to_owned()))
    }

    /// The URLs of servers that want to be left alone, and why. What a server said to one product holds for all.
    /// A wait counts only while the clock is between its beginning and its end.
    pub fn pauses(&self) -> Vec<(String, String)> {
        let now = self.seen.host.now().timestamp();
        let attempts = self.store.records().into_iter().flat_map(|journal| journal.attempts);
        let until = |it: &Attempt| Some(time::in_seconds(DateTime::from_timestamp_secs(it.held_until(now)?)?));
        let pause = |it: &Attempt| Some((it.url.clone(), format!("the server asked to wait until {}", until(it)?)));
        attempts.filter_map(|it| pause(&it)).collect()
    }

    /// Claims the other waiting records of the permit's profile and of this identity file, the oldest first. `asked`
    /// are the directories that were asked for the permit; records of other directories stay. A record that was
    /// answered is completed, wherever its run has asked. A record goes if it is too old, has an ID that this machine no
    /// longer has, or was reported by another record.
    pub fn backlog(&self, permit: &Permit, own: Option<&Claim>, asked: &Known) -> Vec<Claim> {
        let (mut claims, path) = (Vec::new(), self.seen.file.map(|file| &file.path));
        let is_ours = |record: &Record| record.profile == permit.profile() && record.identity_file.as_ref() == path;
        for journal in self.store.journals(PENDING).into_iter().filter(|journal| is_ours(&journal.record)) {
            let Ok(Some(claim)) = self.store.claim(&journal.name) else { continue };
            if claim.journal.answer.is_some() {
                self.finish(&claim.journal);
            } else if !self.is_obsolete(&claim.journal, own) {
                claims.extend((journal.record.directories == *asked).then_some(claim));
            } else if !claim.journal.is_held(self.seen.host.now().timestamp()) {
                // While its server wants to be left alone, it stays: nothing else remembers that.
                let name = &journal.name;
                self.reporter.explain(format_args!("{name} is dropped: too old, reported, or its ID is gone"));
                let _ = self.store.remove(PENDING, name);
            }
        }
        claims
    }

    fn is_obsolete(&self, Journal { record, attempts, .. }: &Journal, own: Option<&Claim>) -> bool {
        let (view, stored) = (self.view(), self.seen.stored_id());
        let is_other = |id: &String| view.is_cloned(id) || stored.as_ref().is_some_and(|stored| stored != id);
        // A run that could not read a record for a moment has made another one in its place.
        let is_own = own.is_some_and(|own| own.journal.record.key == record.key);
        // A record is too old only if its attempts have failed for that many days. So a machine that was off for a year
        // still delivers. Attempts at times that cannot be right do not count.
        let possible = EARLIEST..=self.seen.host.now().timestamp();
        let times = || attempts.iter().filter_map(|it| time::parse(&it.at)).filter(|at| possible.contains(at));
        record.instance_id.as_ref().is_some_and(is_other)
            || record.key.is_some() && (is_own || view.has_mark(record.line_family(), || record.key.clone()))
            || times().max().zip(times().min()).is_some_and(|(last, first)| last - first >= MAX_AGE)
    }

    /// Finishes those of the claimed records that were answered, under the lock.
    pub fn complete(&self, claims: &[Claim]) {
        let answered: Vec<_> = claims.iter().filter(|claim| claim.journal.answer.is_some()).collect();
        let _lock = answered.first().map(|_| self.store.lock());
        answered.into_iter().for_each(|claim| self.finish(&claim.journal));
    }

    /// The mark, then the receipt. If the mark cannot be written, the record stays where it is with its answer, and the
    /// next run finishes it.
    fn finish(&self, journal: &Journal) {
        if let Err(error) = self.mark(journal).and_then(|()| self.store.keep_receipt(&journal.name)) {
            self.reporter.explain(error);
        }
    }

    /// Remembers a record that was accepted: by a line of the identity file where it has such lines, else in our list.
    fn mark(&self, journal: &Journal) -> Kept<()> {
        let record = &journal.record;
        let Some(key) = record.key.as_ref().filter(|_| journal.is_accepted()) else { return Ok(()) };
        match (self.seen.file, &record.instance_id, record.line_family()) {
            (Some(file), Some(id), Some(family)) if file.rule.key.is_some() => file.mark(self.seen.host, id, family),
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
    let (stores, problem) = Store::all(host, &files.iter().collect::<Vec<_>>());
    let locks: Vec<_> = stores.iter().map(|store| store.discard(profile)).collect();
    let of_ids = files.iter().filter_map(|file| file.id(host).ok().flatten()).map(|id| hash_of(&id));
    let beginnings: Vec<String> = profile.map(report_key::beginning).into_iter().chain(of_ids).collect();
    // Every file and directory is tried, and the first fault is told. Receipts go last, because they tell where the files are.
    let of_files = files.iter().filter(|file| !file.rule.product_made).map(|file| file.forget(host));
    let of_stores = stores.iter().map(|store| store.forget(profile, &beginnings));
    let forgotten = of_files.chain(of_stores).fold(problem.map_or(Ok(()), Err), Result::and);
    locks.into_iter().fold(forgotten, |all, lock| all.and(lock.map(drop)))
}

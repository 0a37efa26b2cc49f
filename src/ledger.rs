//! What this machine remembers: IDs, which family was reported, what is pending, and the receipts.
//!
//! One record per family and instance is kept by three rules. A record is on disk, and claimed by its file's lock,
//! before its first byte is sent. A delivered record gets its receipt first, its mark in the identity file second,
//! and stops waiting last, so that a run that dies in between leaves something the next one can finish without
//! sending again. Nothing is ever written in place.

mod dropped;
pub mod id;
pub mod identity;
pub mod origin;
mod record_file;
pub mod schedule;
pub mod store;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::io::Errno;

use crate::consent::Permit;
use crate::facts::time::Time;
use crate::host::directory::Synced;
use crate::host::{Content, Host};
use crate::outcome::Reporter;
use crate::profile::file_path::Directories;
use crate::profile::{IdLocation, IdRule, Once};
pub use dropped::Dropped;
use dropped::Why;
use identity::Identity;
use origin::Origin;
pub use record_file::{Mark, Pending, Receipt, Record};
use schedule::{Occasion, Setback};
use store::{Claim, Store};

/// Where state lives; beside the identity file where that cannot be written.
pub const STATE: &str = "/var/lib/install-record";
const BESIDE: &str = ".install-record";

const MAX_IDENTITY: usize = 1 << 20;

/// The file that holds one of a product's IDs.
#[derive(Clone, Debug)]
pub struct IdentityFile {
    /// Where it is, absolute, inside the root.
    pub path: PathBuf,
    /// Files of older versions that may hold the ID where it has none.
    pub also: Vec<PathBuf>,
    /// How it is read.
    pub rule: IdRule,
}

impl IdentityFile {
    /// The one at `path`; those of older versions are where the run knows them to be.
    pub fn at(path: PathBuf, rule: &IdRule, directories: &Directories<'_>) -> IdentityFile {
        let also = rule.also.iter().filter_map(|also| directories.resolve(also).ok()).collect();
        IdentityFile { path, also, rule: rule.clone() }
    }

    /// Its present text, empty where there is no file.
    ///
    /// # Errors
    /// Why it cannot be used: a link, a directory, no permission, larger than any such file; or a fault of the machine.
    pub fn load(&self, host: &Host) -> Result<Identity, io::Error> {
        load(host, &self.path)
    }

    /// The ID that is kept, in an older version's file if need be.
    pub fn id(&self, host: &Host) -> Option<String> {
        self.find_id(host).ok().flatten()
    }

    /// The same, where a wrong answer would be another machine's.
    ///
    /// # Errors
    /// When a fault of the machine hides whether one is kept.
    fn find_id(&self, host: &Host) -> Result<Option<String>, io::Error> {
        for path in std::iter::once(&self.path).chain(&self.also) {
            match load(host, path) {
                Ok(identity) => match identity.id(&self.rule) {
                    Some(id) => return Ok(Some(id)),
                    None => continue,
                },
                Err(error) if is_fault(&error) => return Err(error),
                Err(_) => continue,
            }
        }
        Ok(None)
    }

    /// The ID, made and kept where there is none; with what kept it from being kept.
    ///
    /// # Errors
    /// When a fault of the machine hides whether there is one.
    pub fn id_or_new(&self, host: &Host) -> Result<(String, Option<io::Error>), io::Error> {
        if let Some(id) = self.find_id(host)? {
            return Ok((id, None));
        }
        let id = self.rule.format.fresh(host.now());
        let kept = self.keep(host, &id);
        Ok((id, kept.err()))
    }

    fn keep(&self, host: &Host, id: &str) -> Result<(), io::Error> {
        // The name is on disk with that of the record, which comes next.
        self.save(host, &self.load(host)?.with_id(id, &self.rule).map_err(io::Error::other)?, Synced::Bytes)
    }

    fn save(&self, host: &Host, identity: &Identity, synced: Synced) -> Result<(), io::Error> {
        let (parent, name) = parent_and_name(&self.path);
        let is_private = self.rule.mode & 0o077 == 0;
        let directory = if is_private { host.private_directory(parent) } else { host.directory(parent, true) };
        Ok(directory?.replace_for_owner(name, identity.bytes(), self.rule.mode, synced)?)
    }

    /// Removes what killed runs left beside it.
    fn sweep(&self, host: &Host) {
        let (parent, name) = parent_and_name(&self.path);
        if let Ok(directory) = host.directory(parent, false) {
            directory.sweep(Some(name));
        }
    }
}

fn load(host: &Host, path: &Path) -> Result<Identity, io::Error> {
    let (parent, name) = parent_and_name(path);
    let directory = match host.directory(parent, false) {
        Ok(directory) => directory,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Identity::default()),
        Err(error) => return Err(error.into()),
    };
    match directory.read(name, MAX_IDENTITY) {
        Content::Missing => Ok(Identity::default()),
        Content::Forbidden => Err(Errno::ACCESS.into()),
        Content::Unreadable(error) => Err(error),
        Content::Bytes { truncated: true, .. } => Err(io::Error::other(format!("larger than {MAX_IDENTITY} bytes"))),
        Content::Bytes { bytes, .. } => Ok(Identity::new(bytes)),
    }
}

fn parent_and_name(path: &Path) -> (&Path, &str) {
    let parent = path.parent().unwrap_or(Path::new("/"));
    (parent, path.file_name().and_then(|name| name.to_str()).unwrap_or("telemetry_uuid"))
}

/// What is reported, as far as doing so once goes.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The profile's name.
    pub profile: &'a str,
    /// The product family, empty where there is none.
    pub family: &'a str,
    /// Its version, empty where there is none.
    pub version: &'a str,
    /// How often it is reported.
    pub once: Once,
}

impl Subject<'_> {
    /// How it is remembered as reported under `id`.
    pub fn mark(&self, file: Option<&IdentityFile>, id: &str) -> Mark {
        let has_lines = file.is_some_and(|file| matches!(file.rule.location, IdLocation::Line { .. }));
        let key = format!("{}:{id}:{}", self.profile, self.family);
        match self.once {
            Once::Call => Mark::None,
            Once::Family if has_lines => Mark::Line,
            Once::Family => Mark::Key(key),
            Once::Version => {
                let plain = |c: char| if c.is_ascii_graphic() { c } else { '_' };
                Mark::Key(format!("{key}:{}", self.version.chars().take(64).map(plain).collect::<String>()))
            }
        }
    }
}

/// The places where a state directory may be, the preferred one first.
pub fn places(file: Option<&IdentityFile>) -> Vec<PathBuf> {
    let beside = file.map(|file| parent_and_name(&file.path).0.join(BESIDE));
    [PathBuf::from(STATE)].into_iter().chain(beside).collect()
}

/// What is known about a family before anything is sent.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one a run")]
pub enum Standing<'l> {
    /// It was reported; nothing is left to do.
    Reported,
    /// Another run is reporting it right now.
    InProgress,
    /// A record of it waits and is claimed by this run.
    Pending(Claim<'l>),
    /// A record of it waits, and the server asked that it do so for longer.
    Waiting(Claim<'l>),
    /// It was never reported under this instance ID.
    New,
}

/// Whether it was reported, without a lock and without making anything: the way of every upgrade.
pub fn is_reported(host: &Host, file: Option<&IdentityFile>, origin: Option<&Origin>, subject: &Subject<'_>) -> bool {
    let Some(id) = file.map_or(Some(String::new()), |file| file.id(host)) else { return false };
    let store = || places(file).into_iter().find_map(|place| Store::existing(host, &place));
    let is_marked = match subject.mark(file, &id) {
        Mark::None => false,
        Mark::Line => file
            .is_some_and(|file| file.load(host).is_ok_and(|identity| identity.is_reported(subject.family, &file.rule))),
        Mark::Key(key) => store().is_some_and(|store| store.is_reported(&key)),
    };
    let is_cloned =
        |here: &Origin| store().is_some_and(|store| here.is_foreign(&store.origins().unwrap_or_default(), &id));
    is_marked && !origin.is_some_and(is_cloned)
}

/// The ledger, opened for one product's identity by a run that has consent.
pub struct Ledger<'a> {
    host: &'a Host,
    reporter: &'a Reporter,
    /// `None` where the product has no ID, or where it is was not said.
    identity_file: Option<IdentityFile>,
    /// The first one is for what is new; what waits in the others is delivered as well.
    stores: Vec<Store>,
    /// `None` where clones are not told apart: in an application container a new machine-id is not a new machine.
    origin: Option<Origin>,
}

impl<'a> Ledger<'a> {
    /// Opens the state directories that can be written; the first one that can is made where it is missing.
    pub fn open(
        _permit: &Permit,
        host: &'a Host,
        reporter: &'a Reporter,
        identity_file: Option<IdentityFile>,
        origin: Option<Origin>,
    ) -> Ledger<'a> {
        let mut stores: Vec<Store> = Vec::new();
        for place in places(identity_file.as_ref()) {
            match Store::open(host, &place, stores.is_empty()) {
                Ok(opened) => stores.push(opened),
                Err(Errno::NOENT) if !stores.is_empty() => {}
                Err(error) => reporter
                    .explain(format_args!("{}: {error}, so no record can be kept there", host.path(&place).display())),
            }
        }
        if stores.is_empty() {
            reporter.explain(format_args!(
                "nothing can be kept on this machine, so a record that is not delivered is lost"
            ));
        }
        Ledger { host, reporter, identity_file, stores, origin }
    }

    /// The state directory for what is new, if one can be written.
    fn store(&self) -> Option<&Store> {
        self.stores.first()
    }

    /// Holds the state directories for looking and writing; let go of them before anything is sent.
    ///
    /// # Errors
    /// [`Errno::WOULDBLOCK`] when other runs held one until `deadline`; those of locking.
    pub fn lock(&self, deadline: Instant) -> Result<Vec<OwnedFd>, Errno> {
        let locks = self.stores.iter().map(|store| store.lock(deadline)).collect::<Result<_, _>>()?;
        Ok(locks)
    }

    /// Removes the files that killed runs have not finished.
    pub fn sweep(&self) {
        self.stores.iter().for_each(Store::sweep);
        if let Some(file) = &self.identity_file {
            file.sweep(self.host);
        }
    }

    /// The ID to report under: the stored one where it was made on this machine, else `given`, else a fresh one, which
    /// is stored. Every family reports again under a new one.
    ///
    /// # Errors
    /// When a fault of the machine hides whether one is stored: the answer would be another machine's.
    pub fn instance_id(&self, given: Option<&str>) -> Result<String, io::Error> {
        let Some(file) = &self.identity_file else { return Ok(String::new()) };
        let stored = file.find_id(self.host)?;
        // One that we do not make is the project's, wherever the project goes.
        let Some(here) = self.origin.as_ref().filter(|_| file.rule.is_made) else {
            return Ok(stored.unwrap_or_else(|| self.new_id(file, given, None)));
        };
        let origins = self.store().map_or(Some(String::new()), Store::origins);
        let is_foreign = |id: &str| origins.as_ref().is_some_and(|origins| here.is_foreign(origins, id));
        let cloned = stored.as_deref().filter(|id| is_foreign(id));
        if let Some(id) = cloned {
            self.reporter
                .explain(format_args!("instance ID {id} was made on another machine, so this clone gets its own"));
        }
        let id = match &stored {
            Some(id) if cloned.is_none() => id.clone(),
            _ => self.new_id(file, given, cloned),
        };
        if let (Some(store), Some(origins)) = (self.store(), &origins)
            && let Some(text) = here.claimed(origins, &id, cloned)
            && let Err(error) = store.set_origins(&text)
        {
            self.reporter.explain(format_args!("{}: {error}, so a clone would not be noticed", store.path().display()));
        }
        Ok(id)
    }

    /// An ID other than `cloned`, written down. Where the identity file could not be written, what was kept in the
    /// state directory stands in for it.
    fn new_id(&self, file: &IdentityFile, given: Option<&str>, cloned: Option<&str>) -> String {
        if !file.rule.is_made {
            return String::new();
        }
        let kept = self.unmarked_receipts().pop().map(|receipt| receipt.record);
        let kept = kept.or_else(|| self.pending().pop()).filter(|record| Some(&*record.instance_id) != cloned);
        let id = match (kept, given.filter(|id| file.rule.format.holds(id))) {
            (Some(record), _) => record.instance_id,
            (None, Some(given)) => given.to_owned(),
            (None, None) => file.rule.format.fresh(self.host.now()),
        };
        if let Err(problem) = file.keep(self.host, &id) {
            self.reporter.explain(format_args!(
                "{}: {problem}, so the instance ID {id} is not kept there",
                self.host.path(&file.path).display()
            ));
        }
        id
    }

    /// What is known about `subject`, after [`Ledger::instance_id`], under the lock.
    pub fn standing(&self, subject: &Subject<'_>, instance_id: &str) -> Standing<'_> {
        let mark = subject.mark(self.identity_file.as_ref(), instance_id);
        if mark == Mark::None {
            return Standing::New;
        }
        let path = self.identity_file.as_ref().map(|file| file.path.clone()).unwrap_or_default();
        let is_this = |record: &Record| {
            record.profile == subject.profile
                && record.family == subject.family
                && record.instance_id == instance_id
                && record.identity_file == path
                && record.mark == mark
        };
        if is_reported(self.host, self.identity_file.as_ref(), self.origin.as_ref(), subject) {
            return Standing::Reported;
        }
        if let Some(mut receipt) = self.unmarked_receipts().into_iter().find(|receipt| is_this(&receipt.record)) {
            // Perhaps what was in the way of the mark has gone.
            if self.mark(&receipt.record).is_ok() {
                receipt.is_marked = true;
                self.keep(&receipt, Synced::Name);
            }
            return Standing::Reported;
        }
        for store in &self.stores {
            for name in store.pending_names() {
                if store.pending(&name).is_some_and(|pending| is_this(&pending.record)) {
                    return match store.claim(&name) {
                        Ok(Some(claim)) if claim.retry.is_due(self.host.now(), Occasion::Wished) => {
                            Standing::Pending(claim)
                        }
                        Ok(Some(claim)) => Standing::Waiting(claim),
                        Ok(None) | Err(_) => Standing::InProgress,
                    };
                }
            }
        }
        Standing::New
    }

    /// Keeps a new record, claimed by this run; one that cannot be kept is sent all the same.
    pub fn enrol(&self, record: Record) -> Claim<'_> {
        let Some(store) = self.store() else { return Claim::unkept(record) };
        let (claim, error) = store.add(record, &self.now());
        if let Some(error) = error {
            self.reporter.explain(format_args!(
                "{}: {error}, so the record is lost if it is not delivered now",
                store.path().display()
            ));
        }
        claim
    }

    /// Claims the other pending records of the permit's profile that `may_leave` and are due on this `occasion`, the
    /// oldest first, and tells how many are not due. Those that a run that died had delivered are settled now; those that are too old, of an
    /// ID that this machine no longer has, or of a product that another record reports, are dropped.
    pub fn backlog(
        &self,
        permit: &Permit,
        own: Option<&Record>,
        occasion: Occasion,
        may_leave: impl Fn(&Record) -> bool,
    ) -> Backlog<'_> {
        let now = self.host.now();
        let mut backlog = Backlog::default();
        // Each claim is a descriptor, and the courier needs some as well.
        let reserve: Vec<OwnedFd> = (0..RESERVE).map_while(|_| self.store()?.spare_descriptor().ok()).collect();
        let names =
            self.stores.iter().flat_map(|store| store.pending_names().into_iter().map(move |name| (store, name)));
        for (store, name) in names {
            let is_ours = |record: &Record| record.profile == permit.profile() && may_leave(record);
            if !store.pending(&name).is_some_and(|pending| is_ours(&pending.record)) {
                continue;
            }
            let claim = match store.claim(&name) {
                Ok(Some(claim)) => claim,
                Ok(None) => continue,
                Err(error) => {
                    self.reporter
                        .explain(format_args!("{}: {error}, so what waits there goes later", store.path().display()));
                    continue;
                }
            };
            if let Some(why) = self.reason_to_drop(&claim, own, now) {
                store.note_dropped(std::slice::from_ref(&claim.record), &self.now(), why);
                if let Err(error) = claim.settle() {
                    self.explain_lost(&error);
                }
                continue;
            }
            if self.settle_answered(permit, &claim) {
                continue;
            }
            if claim.retry.is_due(now, occasion) {
                backlog.claims.push(claim);
                continue;
            }
            let until = claim.retry.not_before;
            self.reporter.explain(format_args!("{} waits until {}", claim.record.family, Time::at(until).in_seconds()));
            backlog.waiting += 1;
            backlog.until = backlog.until.max(until);
        }
        drop(reserve);
        backlog
    }

    fn reason_to_drop(&self, claim: &Claim<'_>, own: Option<&Record>, now: i64) -> Option<Why> {
        let record = &claim.record;
        if self.is_stale(record) {
            return Some(Why::OtherId);
        }
        // Where every call counts, no record takes another's place.
        let is_own = own.is_some_and(|own| {
            record.mark != Mark::None
                && (&own.profile, &own.mark, &own.family, &own.identity_file)
                    == (&record.profile, &record.mark, &record.family, &record.identity_file)
        });
        let is_reported = || self.is_marked(record) && self.receipt_of(record).is_none();
        if is_own || is_reported() {
            return Some(Why::Reported);
        }
        claim.retry.is_over(now).then_some(Why::TooOld)
    }

    fn is_marked(&self, record: &Record) -> bool {
        match &record.mark {
            Mark::None => false,
            Mark::Line => self.file_of(record).is_some_and(|file| {
                let identity = file.load(self.host);
                identity.is_ok_and(|identity| identity.is_reported(&record.family, &file.rule))
            }),
            Mark::Key(key) => self.stores.iter().any(|store| store.is_reported(key)),
        }
    }

    fn now(&self) -> String {
        Time::now(self.host).in_seconds()
    }

    /// The identity file in which `record` is marked.
    fn file_of(&self, record: &Record) -> Option<IdentityFile> {
        let file = self.identity_file.as_ref()?;
        Some(IdentityFile { path: record.identity_file.clone(), ..file.clone() })
    }

    fn receipt_of(&self, record: &Record) -> Option<Receipt> {
        self.stores.iter().find_map(|store| store.receipt_of(record))
    }

    fn is_stale(&self, record: &Record) -> bool {
        let is_foreign = |here: &Origin| {
            let origins = self.store().and_then(Store::origins).unwrap_or_default();
            here.is_foreign(&origins, &record.instance_id)
        };
        let has_other_id = |file: &IdentityFile| {
            record.identity_file == file.path && file.id(self.host).is_some_and(|id| id != record.instance_id)
        };
        self.origin.as_ref().is_some_and(is_foreign) || self.identity_file.as_ref().is_some_and(has_other_id)
    }

    /// The pending records of this identity file.
    fn pending(&self) -> Vec<Record> {
        let Some(file) = &self.identity_file else { return Vec::new() };
        let in_store = |store: &Store| store.pending_names().iter().filter_map(|name| store.pending(name)).collect();
        let all = self.stores.iter().flat_map::<Vec<Pending>, _>(in_store).map(|pending| pending.record);
        all.filter(|record| record.identity_file == file.path).collect()
    }

    /// Keeps the answer to a claimed record: the receipt, then the mark, and then it stops waiting. An answer that
    /// refuses the record for good leaves no mark. The receipt's path, where one could be kept.
    pub fn settle(&self, permit: &Permit, claim: &Claim<'_>, answer: &Answer) -> Option<PathBuf> {
        debug_assert_eq!(permit.profile(), claim.record.profile);
        let mut receipt = self.receipt(claim, answer);
        // Its name is on disk with the mark's.
        let mut path = self.keep(&receipt, if answer.accepted { Synced::Bytes } else { Synced::Name });
        if answer.accepted
            && let Err(problem) = self.mark(&claim.record)
        {
            self.reporter.explain(format_args!(
                "{}: {problem}, so only the receipt remembers that {} was reported",
                self.host.path(&claim.record.identity_file).display(),
                claim.record.family
            ));
            receipt.is_marked = false;
            path = self.keep(&receipt, Synced::Name).or(path);
        }
        if let Err(error) = claim.settle() {
            self.explain_lost(&error);
        }
        path
    }

    /// Keeps the answer and leaves the rest to the next run, which sends nothing again. Needs no lock but the claim.
    pub fn keep_answer(&self, permit: &Permit, claim: &Claim<'_>, answer: &Answer) -> Option<PathBuf> {
        debug_assert_eq!(permit.profile(), claim.record.profile);
        self.keep(&self.receipt(claim, answer), Synced::Name)
    }

    fn receipt(&self, claim: &Claim<'_>, answer: &Answer) -> Receipt {
        let Answer { status, ref text, accepted } = *answer;
        let record = claim.record.clone();
        Receipt { record, sent: self.now(), status, answer: text.clone(), accepted, is_marked: accepted }
    }

    fn keep(&self, receipt: &Receipt, synced: Synced) -> Option<PathBuf> {
        self.store()?.keep(receipt, synced).map_err(|error| self.explain_lost(&error)).ok()
    }

    /// Notes that a claimed record was tried and not delivered. Who is `late` waits for no disk: on one that is busy a
    /// sync takes seconds, and a power cut before the kernel has written the note can cost, on file systems that do not
    /// write a file before its name (XFS), the record.
    pub fn put_off(&self, _permit: &Permit, claim: &Claim<'_>, setback: Setback, late: bool) {
        let retry = claim.retry.after(setback, self.host.now(), random());
        let synced = if late { Synced::Nothing } else { Synced::Name };
        if let Err(error) = claim.put_off(retry, synced) {
            self.reporter.explain(format_args!(
                "{}: {error}, so nobody will know that {} was tried now",
                claim.place().unwrap_or(Path::new("")).display(),
                claim.record.family
            ));
        }
    }

    /// Finishes a claimed record that was answered by a run that died before it could say so.
    pub fn settle_answered(&self, permit: &Permit, claim: &Claim<'_>) -> bool {
        let Some(receipt) = self.receipt_of(&claim.record) else { return false };
        let Receipt { status, answer: text, accepted, .. } = receipt;
        self.settle(permit, claim, &Answer { status, text, accepted });
        true
    }

    fn mark(&self, record: &Record) -> Result<(), io::Error> {
        // The family is marked only under the ID that it was reported under. One that could not be written when the
        // record was made is written now.
        let file = self.file_of(record);
        if let Some(file) = &file {
            match file.find_id(self.host)? {
                None => file.keep(self.host, &record.instance_id)?,
                Some(id) if id == record.instance_id => {}
                Some(_) => return Err(io::Error::other("it has another ID now")),
            }
        }
        match (&record.mark, file, self.store()) {
            (Mark::None, ..) => Ok(()),
            (Mark::Line, Some(file), _) => {
                let identity = file.load(self.host)?;
                file.save(self.host, &identity.with_reported(&record.family, &file.rule), Synced::Name)
            }
            (Mark::Key(key), _, Some(store)) => Ok(store.report(key)?),
            (Mark::Line, None, _) | (Mark::Key(_), _, None) => Err(io::Error::other("there is no place for it")),
        }
    }

    fn explain_lost(&self, error: &Errno) {
        if let Some(store) = self.store() {
            self.reporter
                .explain(format_args!("{}: {error}, so what was sent is not kept there", store.path().display()));
        }
    }

    /// Receipts of this identity file whose mark could not be written.
    fn unmarked_receipts(&self) -> Vec<Receipt> {
        let Some(file) = &self.identity_file else { return Vec::new() };
        let mut receipts: Vec<Receipt> = self.stores.iter().flat_map(Store::receipts).collect();
        receipts.retain(|receipt| receipt.accepted && !receipt.is_marked && receipt.record.identity_file == file.path);
        receipts
    }
}

/// What it means that [`Ledger::lock`] failed.
pub fn why_not_locked(error: Errno) -> String {
    match error {
        Errno::WOULDBLOCK => "other runs were busy all the time".to_owned(),
        error => format!("the ledger cannot be locked: {error}"),
    }
}

/// How many descriptors the rest of a run needs: the courier's pipes, and the way to the identity file.
const RESERVE: usize = 16;

/// What waits beside a run's own record.
#[derive(Debug, Default)]
pub struct Backlog<'l> {
    /// Claimed, to be delivered now.
    pub claims: Vec<Claim<'l>>,
    /// How many are not due.
    pub waiting: usize,
    /// When the last of those is, in seconds since 1970.
    pub until: i64,
}

/// What a server said for good.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The beginning of its body.
    pub text: String,
    /// Whether the record is accepted, or refused for good.
    pub accepted: bool,
}

/// Whether the error says nothing about what is there, and may be gone with the next run.
fn is_fault(error: &io::Error) -> bool {
    let is_about_the_file = |error| match error {
        Errno::LOOP | Errno::ISDIR | Errno::NOTDIR | Errno::NXIO | Errno::NODEV => true,
        Errno::ACCESS | Errno::PERM => !rustix::process::geteuid().is_root(),
        _ => false,
    };
    error.raw_os_error().is_some_and(|code| !is_about_the_file(Errno::from_raw_os_error(code)))
}

fn random() -> u32 {
    use ring::rand::SecureRandom;
    let mut bytes = [0; 4];
    // Without random numbers the wait is the shortest of its kind.
    let _ = ring::rand::SystemRandom::new().fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}

/// Deletes the pending records that `unwanted` picks, in every state directory; how many those were.
///
/// # Errors
/// The directory in which that failed, with the error.
pub fn discard_pending(
    host: &Host,
    places: &[PathBuf],
    unwanted: impl Fn(&Record) -> bool,
) -> Result<usize, (PathBuf, Errno)> {
    let mut count = 0;
    for store in places.iter().filter_map(|place| Store::existing(host, place)) {
        store.sweep();
        for name in store.pending_names() {
            if store.pending(&name).is_some_and(|pending| unwanted(&pending.record)) {
                store.remove_pending(&name).map_err(|error| (store.path().join(&name), error))?;
                count += 1;
            }
        }
    }
    Ok(count)
}

/// Deletes everything that is remembered for one profile: IDs and marks, pending records and receipts. An ID that is
/// not ours to make is not ours to delete.
///
/// # Errors
/// What could not be deleted, and why.
pub fn forget(host: &Host, profile: &str, files: &[IdentityFile]) -> Result<(), String> {
    let named = |(path, error): (PathBuf, Errno)| format!("{}: {error}", path.display());
    let ids: Vec<String> = files.iter().filter_map(|file| file.id(host)).collect();
    let places = places(files.first());
    discard_pending(host, &places, |record| record.profile == profile).map_err(named)?;
    for place in &places {
        let Some(store) = Store::existing(host, place) else { continue };
        let in_store = |error| named((store.path().to_owned(), error));
        store.remove_receipts(|record| record.profile == profile).map_err(in_store)?;
        store.forget_dropped(profile).map_err(in_store)?;
        store.unreport(|key| key.split_once(':').is_some_and(|(whose, _)| whose == profile)).map_err(in_store)?;
        let origins = store.origins().unwrap_or_default();
        let rest = ids.iter().fold(origins.clone(), |origins, id| origin::forgotten(&origins, id));
        if rest != origins {
            store.set_origins(&rest).map_err(in_store)?;
        }
        store.remove_if_empty(host, place);
    }
    for file in files.iter().filter(|file| file.rule.is_made) {
        for path in std::iter::once(&file.path).chain(&file.also) {
            let at = |problem: io::Error| format!("{}: {problem}", host.path(path).display());
            let file = IdentityFile { path: path.clone(), ..file.clone() };
            let identity = file.load(host).map_err(at)?;
            if identity == Identity::default() {
                continue;
            }
            file.sweep(host);
            match identity.forgotten(&file.rule).map_err(|problem| at(io::Error::other(problem)))? {
                Some(rest) if rest == identity => {}
                Some(rest) => file.save(host, &rest, Synced::Name).map_err(at)?,
                None => {
                    let (parent, name) = parent_and_name(path);
                    let removed = host.directory(parent, false).and_then(|directory| directory.remove(name));
                    removed.map_err(|error| at(error.into()))?;
                }
            }
        }
    }
    Ok(())
}

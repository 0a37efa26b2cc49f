//! What this machine remembers: IDs, which family was reported, what is pending, and the receipts.
//!
//! One record per family and instance is kept by three rules. A record is on disk, and claimed by its file's lock,
//! before its first byte is sent. A delivered record gets its receipt first, its mark in the identity file second,
//! and stops waiting last, so that a run that dies in between leaves something the next one can finish without
//! sending again. Nothing is ever written in place.

pub mod id;
pub mod identity;
pub mod origin;
mod record_file;
pub mod store;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::io::Errno;

use crate::consent::Permit;
use crate::host::{Content, Host};
use crate::outcome::Voice;
use crate::profile::{IdRule, Once, Slot};
use identity::Identity;
use origin::Origin;
pub use record_file::{Mark, Receipt, Record};
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
    /// Its present text, empty where there is no file.
    ///
    /// # Errors
    /// Why it cannot be used: a link, a directory, no permission, larger than any such file.
    pub fn load(&self, host: &Host) -> Result<Identity, String> {
        load(host, &self.path)
    }

    /// The ID that is kept, in an older version's file if need be.
    pub fn id(&self, host: &Host) -> Option<String> {
        let mut kept = std::iter::once(&self.path).chain(&self.also).filter_map(|path| load(host, path).ok());
        kept.find_map(|identity| identity.id(&self.rule))
    }

    /// The ID, made and kept where there is none; with what kept it from being kept.
    pub fn id_or_new(&self, host: &Host) -> (String, Option<String>) {
        if let Some(id) = self.id(host) {
            return (id, None);
        }
        let id = self.rule.format.fresh(host.now());
        let kept = self.keep(host, &id);
        (id, kept.err())
    }

    fn keep(&self, host: &Host, id: &str) -> Result<(), String> {
        self.save(host, &self.load(host)?.with_id(id, &self.rule)?)
    }

    fn save(&self, host: &Host, identity: &Identity) -> Result<(), String> {
        let (parent, name) = parent_and_name(&self.path);
        let directory =
            if self.rule.mode & 0o077 == 0 { host.private_directory(parent) } else { host.directory(parent, true) };
        let saved = directory.and_then(|directory| directory.replace_for_owner(name, identity.bytes(), self.rule.mode));
        saved.map_err(|error| error.to_string())
    }
}

fn load(host: &Host, path: &Path) -> Result<Identity, String> {
    let (parent, name) = parent_and_name(path);
    let directory = match host.directory(parent, false) {
        Ok(directory) => directory,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Identity::default()),
        Err(error) => return Err(error.to_string()),
    };
    match directory.read(name, MAX_IDENTITY) {
        Content::Missing => Ok(Identity::default()),
        Content::Forbidden => Err(Errno::ACCESS.to_string()),
        Content::Unreadable(error) => Err(error.to_string()),
        Content::Bytes { truncated: true, .. } => Err(format!("larger than {MAX_IDENTITY} bytes")),
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
        let has_lines = file.is_some_and(|file| matches!(file.rule.slot, Slot::Line { .. }));
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
pub enum Standing {
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
pub fn is_reported(host: &Host, file: Option<&IdentityFile>, origin: Option<&Origin>, subject: &Subject<'_>) -> bool {
    let Some(id) = file.map_or(Some(String::new()), |file| file.id(host)) else { return false };
    let store = || places(file).into_iter().find_map(|place| Store::existing(host, &place));
    let is_marked = match subject.mark(file, &id) {
        Mark::None => false,
        Mark::Line => file
            .is_some_and(|file| file.load(host).is_ok_and(|identity| identity.is_reported(subject.family, &file.rule))),
        Mark::Key(key) => store().is_some_and(|store| store.is_reported(&key)),
    };
    let is_cloned = |here: &Origin| store().is_some_and(|store| here.is_foreign(&store.origins(), &id));
    is_marked && !origin.is_some_and(is_cloned)
}

/// The ledger, opened for one product's identity by a run that has consent.
pub struct Ledger<'a> {
    host: &'a Host,
    voice: &'a Voice,
    /// `None` where the product has no ID, or where it is was not said.
    identity_file: Option<IdentityFile>,
    store: Option<Store>,
    /// `None` where clones are not told apart: in an application container a new machine-id is not a new machine.
    origin: Option<Origin>,
}

impl<'a> Ledger<'a> {
    /// Opens the first state directory that can be written, or none.
    pub fn open(
        _permit: &Permit,
        host: &'a Host,
        voice: &'a Voice,
        identity_file: Option<IdentityFile>,
        origin: Option<Origin>,
    ) -> Ledger<'a> {
        let mut store = None;
        for place in places(identity_file.as_ref()) {
            match Store::open(host, &place) {
                Ok(opened) => {
                    store = Some(opened);
                    break;
                }
                Err(error) => voice
                    .explain(format_args!("{}: {error}, so no record can be kept there", host.path(&place).display())),
            }
        }
        if store.is_none() {
            voice.explain(format_args!(
                "nothing can be kept on this machine, so a record that is not delivered is lost"
            ));
        }
        Ledger { host, voice, identity_file, store, origin }
    }

    /// The state directory, if one can be written.
    pub fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// Holds the state directory for looking and writing; let go of it before anything is sent.
    ///
    /// # Errors
    /// [`Errno::WOULDBLOCK`] when other runs held it until `deadline`.
    pub fn lock(&self, deadline: Instant) -> Result<Option<OwnedFd>, Errno> {
        self.store.as_ref().map(|store| store.lock(deadline)).transpose()
    }

    /// The ID to report under: the stored one where it was made on this machine, else `given`, else a fresh one, which
    /// is stored. Every family reports again under a new one.
    pub fn instance_id(&self, given: Option<&str>) -> String {
        let Some(file) = &self.identity_file else { return String::new() };
        let stored = file.id(self.host);
        // One that we do not make is the project's, wherever the project goes.
        let Some(here) = self.origin.as_ref().filter(|_| file.rule.is_made) else {
            return stored.unwrap_or_else(|| self.new_id(file, given, None));
        };
        let origins = self.store.as_ref().map(Store::origins).unwrap_or_default();
        let cloned = stored.as_deref().filter(|id| here.is_foreign(&origins, id));
        if let Some(id) = cloned {
            self.voice
                .explain(format_args!("instance ID {id} was made on another machine, so this clone gets its own"));
        }
        let id = match &stored {
            Some(id) if cloned.is_none() => id.clone(),
            _ => self.new_id(file, given, cloned),
        };
        if let Some(store) = &self.store
            && let Some(text) = here.claimed(&origins, &id, cloned)
            && let Err(error) = store.set_origins(&text)
        {
            self.voice.explain(format_args!("{}: {error}, so a clone would not be noticed", store.path().display()));
        }
        id
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
            self.voice.explain(format_args!(
                "{}: {problem}, so the instance ID {id} is not kept there",
                self.host.path(&file.path).display()
            ));
        }
        id
    }

    /// What is known about `subject`, after [`Ledger::instance_id`], under the lock.
    pub fn standing(&self, subject: &Subject<'_>, instance_id: &str) -> Standing {
        let mark = subject.mark(self.identity_file.as_ref(), instance_id);
        if mark == Mark::None {
            return Standing::New;
        }
        let path = self.identity_file.as_ref().map(|file| file.path.clone()).unwrap_or_default();
        let is_this = |record: &Record| {
            record.profile == subject.profile
                && record.family == subject.family
                && record.identity_file == path
                && record.mark == mark
        };
        if is_reported(self.host, self.identity_file.as_ref(), self.origin.as_ref(), subject)
            || self.unmarked_receipts().iter().any(|receipt| is_this(&receipt.record))
        {
            return Standing::Reported;
        }
        let Some(store) = &self.store else { return Standing::New };
        for name in store.pending_names() {
            if store.pending(&name).is_some_and(|record| is_this(&record) && record.instance_id == instance_id) {
                return match store.claim(&name) {
                    Some(claim) => Standing::Pending(claim),
                    None => Standing::InProgress,
                };
            }
        }
        Standing::New
    }

    /// Keeps a new record, claimed by this run; one that cannot be kept is sent all the same.
    pub fn enrol(&self, record: Record) -> Claim {
        let Some(store) = &self.store else { return Claim::unkept(record) };
        let (claim, error) = store.add(record);
        if let Some(error) = error {
            self.voice.explain(format_args!(
                "{}: {error}, so the record is lost if it is not delivered now",
                store.path().display()
            ));
        }
        claim
    }

    /// Claims the other pending records of the permit's profile, the oldest first. Those that a run that died had
    /// delivered are settled now, and those of an ID that this machine no longer has are dropped.
    pub fn backlog(&self, permit: &Permit) -> Vec<Claim> {
        let Some(store) = &self.store else { return Vec::new() };
        let is_due = |name: &String| store.pending(name).is_some_and(|record| record.profile == permit.profile());
        let names = store.pending_names().into_iter().filter(is_due);
        let mut claims: Vec<Claim> = names.filter_map(|name| store.claim(&name)).collect();
        claims.retain(|claim| {
            let is_stale = self.is_stale(&claim.record);
            if is_stale && let Err(error) = store.settle(claim) {
                self.explain_lost(&error);
            }
            !is_stale && !self.settle_answered(permit, claim)
        });
        claims
    }

    fn is_stale(&self, record: &Record) -> bool {
        let is_foreign = |here: &Origin| {
            self.store.as_ref().is_some_and(|store| here.is_foreign(&store.origins(), &record.instance_id))
        };
        let has_other_id = |file: &IdentityFile| {
            record.identity_file == file.path && file.id(self.host).is_some_and(|id| id != record.instance_id)
        };
        self.origin.as_ref().is_some_and(is_foreign) || self.identity_file.as_ref().is_some_and(has_other_id)
    }

    /// The pending records of this identity file.
    fn pending(&self) -> Vec<Record> {
        let (Some(store), Some(file)) = (&self.store, &self.identity_file) else { return Vec::new() };
        let mut records: Vec<Record> = store.pending_names().iter().filter_map(|name| store.pending(name)).collect();
        records.retain(|record| record.identity_file == file.path);
        records
    }

    /// Keeps the answer to a claimed record: the receipt, then the mark, and then it stops waiting. An answer that
    /// refuses the record for good leaves no mark. The receipt's path, where one could be kept.
    pub fn settle(&self, permit: &Permit, claim: &Claim, status: u16, answer: &str, accepted: bool) -> Option<PathBuf> {
        debug_assert_eq!(permit.profile(), claim.record.profile);
        let mut receipt = Receipt {
            record: claim.record.clone(),
            sent: crate::facts::time::Time::now(self.host).in_seconds(),
            status,
            answer: answer.to_owned(),
            accepted,
            is_marked: accepted,
        };
        let keep = |receipt: &Receipt| self.store.as_ref()?.keep(receipt).map_err(|e| self.explain_lost(&e)).ok();
        let mut path = keep(&receipt);
        if accepted && let Err(problem) = self.mark(&claim.record) {
            self.voice.explain(format_args!(
                "{}: {problem}, so only the receipt remembers that {} was reported",
                self.host.path(&claim.record.identity_file).display(),
                claim.record.family
            ));
            receipt.is_marked = false;
            path = keep(&receipt).or(path);
        }
        if let Some(store) = &self.store
            && let Err(error) = store.settle(claim)
        {
            self.explain_lost(&error);
        }
        path
    }

    /// Finishes a claimed record that was answered by a run that died before it could say so.
    pub fn settle_answered(&self, permit: &Permit, claim: &Claim) -> bool {
        let receipt = self.store.as_ref().and_then(|store| store.receipt_of(&claim.record));
        let Some(receipt) = receipt else { return false };
        self.settle(permit, claim, receipt.status, &receipt.answer, receipt.accepted);
        true
    }

    fn mark(&self, record: &Record) -> Result<(), String> {
        let file =
            self.identity_file.as_ref().map(|file| IdentityFile { path: record.identity_file.clone(), ..file.clone() });
        // The family is marked only under the ID that it was reported under.
        if file.as_ref().is_some_and(|file| file.id(self.host).as_ref() != Some(&record.instance_id)) {
            return Err("it has another ID now".to_owned());
        }
        match (&record.mark, file, &self.store) {
            (Mark::None, ..) => Ok(()),
            (Mark::Line, Some(file), _) => {
                let identity = file.load(self.host)?;
                file.save(self.host, &identity.with_reported(&record.family, &file.rule))
            }
            (Mark::Line, None, _) => Err("the identity file is not known here".to_owned()),
            (Mark::Key(key), _, Some(store)) => store.report(key).map_err(|error| error.to_string()),
            (Mark::Key(_), _, None) => Err("there is no state directory".to_owned()),
        }
    }

    fn explain_lost(&self, error: &Errno) {
        if let Some(store) = &self.store {
            self.voice.explain(format_args!("{}: {error}, so what was sent is not kept there", store.path().display()));
        }
    }

    /// Receipts of this identity whose mark could not be written. They count only while it still cannot: somebody
    /// who removed the identity file wants a new start.
    fn unmarked_receipts(&self) -> Vec<Receipt> {
        let Some(file) = &self.identity_file else { return Vec::new() };
        let (parent, _) = parent_and_name(&file.path);
        let is_writable = self.host.directory(parent, false).is_ok_and(|directory| directory.is_writable());
        if is_writable && file.load(self.host).is_ok() {
            return Vec::new();
        }
        let mut receipts = self.store.as_ref().map(Store::receipts).unwrap_or_default();
        receipts.retain(|receipt| receipt.accepted && !receipt.is_marked && receipt.record.identity_file == file.path);
        receipts
    }
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
        for name in store.pending_names() {
            if store.pending(&name).is_some_and(|record| unwanted(&record)) {
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
        store.unreport(|key| key.split_once(':').is_some_and(|(whose, _)| whose == profile)).map_err(in_store)?;
        let origins = store.origins();
        let rest = ids.iter().fold(origins.clone(), |origins, id| origin::forgotten(&origins, id));
        if rest != origins {
            store.set_origins(&rest).map_err(in_store)?;
        }
        store.remove_if_empty(host, place);
    }
    for file in files.iter().filter(|file| file.rule.is_made) {
        for path in std::iter::once(&file.path).chain(&file.also) {
            let at = |problem: String| format!("{}: {problem}", host.path(path).display());
            let file = IdentityFile { path: path.clone(), ..file.clone() };
            let identity = file.load(host).map_err(at)?;
            if identity == Identity::default() {
                continue;
            }
            match identity.forgotten(&file.rule).map_err(at)? {
                Some(rest) if rest == identity => {}
                Some(rest) => file.save(host, &rest).map_err(at)?,
                None => {
                    let (parent, name) = parent_and_name(path);
                    let removed = host.directory(parent, false).and_then(|directory| directory.remove(name));
                    removed.map_err(|error| at(error.to_string()))?;
                }
            }
        }
    }
    Ok(())
}

//! What this machine remembers: IDs, which family was reported, what is pending, and the receipts.
//!
//! One record per family and instance is kept by three rules. A record is on disk, and claimed by its file's lock,
//! before its first byte is sent. A delivered record gets its receipt first, its mark in the identity file second,
//! and stops waiting last, so that a run that dies in between leaves something the next one can finish without
//! sending again. Nothing is ever written in place.

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
use crate::profile::IdentityRules;
use identity::Identity;
use origin::Origin;
pub use record_file::{Receipt, Record};
use store::{Claim, Store};

/// Where state lives; beside the identity file where that cannot be written.
pub const STATE: &str = "/var/lib/install-record";
const BESIDE: &str = ".install-record";

/// The vendor's shared file may be readable by anybody, and other software reads it.
const IDENTITY_MODE: u32 = 0o644;
const MAX_IDENTITY: usize = 1 << 20;

/// One product's identity file.
#[derive(Clone, Debug)]
pub struct IdentityFile {
    /// Where it is, absolute, inside the root.
    pub path: PathBuf,
    /// How it is read.
    pub rules: IdentityRules,
}

impl IdentityFile {
    /// Its present text, empty where there is no file.
    ///
    /// # Errors
    /// Why it cannot be used: a link, a directory, no permission, larger than any such file.
    pub fn load(&self, host: &Host) -> Result<Identity, String> {
        let (parent, name) = self.parent_and_name();
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

    fn save(&self, host: &Host, identity: &Identity) -> Result<(), String> {
        let (parent, name) = self.parent_and_name();
        let saved =
            host.directory(parent, true).and_then(|directory| directory.replace(name, identity.bytes(), IDENTITY_MODE));
        saved.map_err(|error| error.to_string())
    }

    fn parent_and_name(&self) -> (&Path, &str) {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        (parent, self.path.file_name().and_then(|name| name.to_str()).unwrap_or("telemetry_uuid"))
    }
}

/// The places where a state directory may be, the preferred one first.
pub fn places(identity_file: &Path) -> [PathBuf; 2] {
    [PathBuf::from(STATE), identity_file.parent().unwrap_or(Path::new("/")).join(BESIDE)]
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

/// Whether `family` is marked as reported, without a lock and without making anything: the way of every upgrade.
pub fn is_reported(host: &Host, file: &IdentityFile, origin: Option<&Origin>, family: &str) -> bool {
    let Ok(identity) = file.load(host) else { return false };
    let Some(id) = identity.instance_id(&file.rules) else { return false };
    let is_cloned = |here: &Origin| {
        let store = places(&file.path).iter().find_map(|place| Store::existing(host, place));
        store.is_some_and(|store| here.is_foreign(&store.origins(), id))
    };
    identity.is_reported(family, &file.rules) && !origin.is_some_and(is_cloned)
}

/// The ledger, opened for one product's identity by a run that has consent.
pub struct Ledger<'a> {
    host: &'a Host,
    voice: &'a Voice,
    identity_file: IdentityFile,
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
        identity_file: IdentityFile,
        origin: Option<Origin>,
    ) -> Ledger<'a> {
        let mut store = None;
        for place in places(&identity_file.path) {
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

    /// The instance ID to report under: the stored one where it is a UUID and was made on this machine, else
    /// `given`, else a fresh one, which is stored. Every family reports again under a new one.
    pub fn instance_id(&self, given: Option<&str>) -> String {
        let loaded = self.identity_file.load(self.host);
        let stored = loaded.as_ref().ok().and_then(|identity| identity.instance_id(&self.identity_file.rules));
        let origins = self.store.as_ref().map(Store::origins).unwrap_or_default();
        let cloned = stored.filter(|id| self.origin.as_ref().is_some_and(|here| here.is_foreign(&origins, id)));
        if let Some(id) = cloned {
            self.voice
                .explain(format_args!("instance ID {id} was made on another machine, so this clone gets its own"));
        }
        let id = match stored {
            Some(id) if cloned.is_none() => id.to_owned(),
            // Where the identity file could not be written, what was kept in the state directory stands in for it.
            _ => {
                let kept = self.unmarked_receipts().pop().map(|receipt| receipt.record);
                let kept = kept.or_else(|| self.pending().pop()).filter(|record| Some(&*record.instance_id) != cloned);
                match (kept, given.filter(|id| identity::is_uuid(id))) {
                    (Some(record), _) => record.instance_id,
                    (None, Some(given)) => given.to_owned(),
                    (None, None) => fresh_uuid(),
                }
            }
        };
        if stored != Some(&id) {
            let kept = loaded.clone().map(|identity| identity.with_instance_id(&id, &self.identity_file.rules));
            if let Err(problem) = kept.and_then(|identity| self.identity_file.save(self.host, &identity)) {
                self.voice.explain(format_args!(
                    "{}: {problem}, so the instance ID {id} is not kept there",
                    self.host.path(&self.identity_file.path).display()
                ));
            }
        }
        if let (Some(here), Some(store)) = (&self.origin, &self.store)
            && let Some(text) = here.claimed(&origins, &id, cloned)
            && let Err(error) = store.set_origins(&text)
        {
            self.voice.explain(format_args!("{}: {error}, so a clone would not be noticed", store.path().display()));
        }
        id
    }

    /// What is known about `family`, after [`Ledger::instance_id`], under the lock.
    pub fn standing(&self, profile: &str, family: &str, instance_id: &str) -> Standing {
        let is_this = |record: &Record| {
            record.profile == profile && record.family == family && record.identity_file == self.identity_file.path
        };
        if is_reported(self.host, &self.identity_file, self.origin.as_ref(), family)
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
        let has_other_id = || {
            let identity = self.identity_file.load(self.host);
            let id = identity.as_ref().ok().and_then(|identity| identity.instance_id(&self.identity_file.rules));
            id.is_some_and(|id| id != record.instance_id)
        };
        self.origin.as_ref().is_some_and(is_foreign)
            || record.identity_file == self.identity_file.path && has_other_id()
    }

    /// The pending records of this identity file.
    fn pending(&self) -> Vec<Record> {
        let Some(store) = &self.store else { return Vec::new() };
        let mut records: Vec<Record> = store.pending_names().iter().filter_map(|name| store.pending(name)).collect();
        records.retain(|record| record.identity_file == self.identity_file.path);
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
        // The family is marked only under the ID that it was reported under.
        let file = IdentityFile { path: record.identity_file.clone(), rules: self.identity_file.rules.clone() };
        let identity = file.load(self.host)?;
        if identity.instance_id(&file.rules) != Some(&record.instance_id) {
            return Err("it has another instance ID now".to_owned());
        }
        file.save(self.host, &identity.with_reported(&record.family, &file.rules))
    }

    fn explain_lost(&self, error: &Errno) {
        if let Some(store) = &self.store {
            self.voice.explain(format_args!("{}: {error}, so what was sent is not kept there", store.path().display()));
        }
    }

    /// Receipts of this identity whose mark could not be written. They count only while it still cannot: somebody
    /// who removed the identity file wants a new start.
    fn unmarked_receipts(&self) -> Vec<Receipt> {
        let (parent, _) = self.identity_file.parent_and_name();
        let is_writable = self.host.directory(parent, false).is_ok_and(|directory| directory.is_writable());
        if is_writable && self.identity_file.load(self.host).is_ok() {
            return Vec::new();
        }
        let mut receipts = self.store.as_ref().map(Store::receipts).unwrap_or_default();
        receipts.retain(|receipt| {
            receipt.accepted && !receipt.is_marked && receipt.record.identity_file == self.identity_file.path
        });
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

/// Deletes everything that is remembered for one profile: the ID and the marks, pending records and receipts.
///
/// # Errors
/// What could not be deleted, and why.
pub fn forget(host: &Host, profile: &str, identity_file: &IdentityFile) -> Result<(), String> {
    let named = |(path, error): (PathBuf, Errno)| format!("{}: {error}", path.display());
    let path = host.path(&identity_file.path);
    let identity = identity_file.load(host).map_err(|problem| format!("{}: {problem}", path.display()))?;
    let places = places(&identity_file.path);
    discard_pending(host, &places, |record| record.profile == profile).map_err(named)?;
    for place in &places {
        let Some(store) = Store::existing(host, place) else { continue };
        let in_store = |error| named((store.path().to_owned(), error));
        store.remove_receipts(|record| record.profile == profile).map_err(in_store)?;
        if let Some(id) = identity.instance_id(&identity_file.rules) {
            let origins = store.origins();
            let rest = origin::forgotten(&origins, id);
            if rest != origins {
                store.set_origins(&rest).map_err(in_store)?;
            }
        }
        store.remove_if_empty(host, place);
    }
    if identity != Identity::default() {
        let (parent, name) = identity_file.parent_and_name();
        match identity.forgotten(&identity_file.rules) {
            Some(rest) => identity_file.save(host, &rest)?,
            None => {
                let removed = host.directory(parent, false).and_then(|directory| directory.remove(name));
                removed.map_err(|error| named((path, error)))?;
            }
        }
    }
    Ok(())
}

/// A random UUID, version 4.
pub fn fresh_uuid() -> String {
    use ring::rand::SecureRandom;
    let mut bytes = [0; 16];
    // getrandom(2) fails on no kernel that this runs on; two machines with one ID would only be counted once.
    let _ = ring::rand::SystemRandom::new().fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

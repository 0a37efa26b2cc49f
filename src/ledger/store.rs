//! The state directory: `pending/`, `sent/`, the lock, and on which machine each ID was made.
//!
//! A pending record's file is also its claim: whoever holds the file's lock delivers it, and a run that dies gives
//! the lock back by dying. The lock of the directory itself is held only to look and to write, never while
//! something is being sent.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::io::Errno;

use super::dropped::{self, Dropped, Why};
use super::record_file::{Pending, Receipt, Record};
use super::schedule::Retry;
use crate::host::directory::{Directory, Synced};
use crate::host::{Content, Host};

const LOCK: &str = "lock";
const PENDING: &str = "pending";
const SENT: &str = "sent";
const ORIGINS: &str = "origins";
const REPORTED: &str = "reported";

/// The most lines in `reported`; the oldest go first.
const MAX_REPORTED: usize = 1024;
const DROPPED: &str = "dropped";

/// A record is at most 8 KiB and doubles at worst when it is quoted; a larger file is not ours.
const MAX_FILE: usize = 64 << 10;

/// The most records that wait; the oldest go first.
pub const MAX_PENDING: usize = 64;
/// The most bytes that their files have.
pub const MAX_PENDING_BYTES: usize = 512 << 10;
/// The most receipts that are kept; the oldest go first.
pub const MAX_SENT: usize = 256;

/// An open state directory.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    directory: Directory,
}

/// A record that this run has claimed: nobody else delivers it while this lives.
#[derive(Debug)]
pub struct Claim<'s> {
    /// The record.
    pub record: Record,
    /// How it went so far.
    pub retry: Retry,
    /// Where it is, its file's name and lock; `None` where nothing can be kept.
    file: Option<(&'s Store, String, OwnedFd)>,
}

impl Claim<'_> {
    /// A record that cannot be kept, and so can be lost.
    pub fn unkept(record: Record) -> Claim<'static> {
        Claim { record, retry: Retry::default(), file: None }
    }

    /// The state directory in which the record waits until it is delivered, if it does.
    pub fn place(&self) -> Option<&Path> {
        self.file.as_ref().map(|(store, ..)| store.path())
    }

    /// Ends it: the record no longer waits.
    ///
    /// # Errors
    /// Those of unlinking; the record would then be sent again, under the same ID.
    pub fn settle(&self) -> Result<(), Errno> {
        match &self.file {
            Some((store, name, _)) => store.remove_pending(name),
            None => Ok(()),
        }
    }

    /// Notes that the record was tried. Needs no lock but the claim's own.
    ///
    /// # Errors
    /// Those of writing; the record then waits as it did.
    pub fn put_off(&self, retry: Retry, synced: Synced) -> Result<(), Errno> {
        let Some((store, name, lock)) = &self.file else { return Ok(()) };
        let pending = store.directory.directory(PENDING, false)?;
        // Somebody may have said no in the meantime, or a newer record has taken its place.
        if !pending.is_still(name, lock) {
            return Ok(());
        }
        let bytes = Pending { record: self.record.clone(), retry }.to_bytes();
        pending.replace_synced(name, &bytes, PENDING_MODE, synced).map(drop)
    }
}

/// Unlike the receipts': who can open a record could hold its claim.
const PENDING_MODE: u32 = 0o600;

impl Store {
    /// Opens the state directory at `path` for writing, making it where it is missing if `create` is true.
    ///
    /// # Errors
    /// When it cannot be made, written or locked, or when somebody else could write in it ([`Errno::PERM`]).
    pub fn open(host: &Host, path: &Path, create: bool) -> Result<Store, Errno> {
        let directory = host.directory(path, create)?;
        if !directory.is_private() {
            return Err(Errno::PERM);
        }
        if !directory.is_writable() {
            return Err(Errno::ACCESS);
        }
        let store = Store { path: host.path(path), directory };
        // On some file systems there are no locks, and without them nothing can be claimed.
        match store.lock(Instant::now()) {
            Ok(_) | Err(Errno::WOULDBLOCK) => Ok(store),
            Err(error) => Err(error),
        }
    }

    /// Opens the state directory at `path` if there is one, to look at it.
    pub fn existing(host: &Host, path: &Path) -> Option<Store> {
        let directory = host.directory(path, false).ok()?;
        Some(Store { path: host.path(path), directory })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A descriptor that is good for nothing but to keep its place.
    ///
    /// # Errors
    /// When there are no more.
    pub fn spare_descriptor(&self) -> Result<OwnedFd, Errno> {
        self.directory.spare_descriptor()
    }

    /// Waits for the lock of the whole directory until `deadline`.
    ///
    /// # Errors
    /// [`Errno::WOULDBLOCK`] when others held it all the time; those of making and locking its file.
    pub fn lock(&self, deadline: Instant) -> Result<OwnedFd, Errno> {
        self.directory.lock(LOCK, deadline)
    }

    /// Removes the files that killed runs have not finished.
    pub fn sweep(&self) {
        self.directory.sweep(None);
        for name in [PENDING, SENT] {
            if let Ok(directory) = self.directory.directory(name, false) {
                directory.sweep(None);
            }
        }
    }

    /// The names of the pending records, the oldest first.
    pub fn pending_names(&self) -> Vec<String> {
        names(&self.directory, PENDING)
    }

    /// A pending record, without claiming it.
    pub fn pending(&self, name: &str) -> Option<Pending> {
        Pending::from_bytes(&self.directory.directory(PENDING, false).ok()?.read(name, MAX_FILE).bytes()?)
    }

    /// Claims a pending record; `None` when another run has it, or when it is gone or not ours.
    ///
    /// # Errors
    /// Those of opening and locking: above all, that this process has no more descriptors ([`Errno::MFILE`]).
    pub fn claim(&self, name: &str) -> Result<Option<Claim<'_>>, Errno> {
        let Some(lock) = self.directory.directory(PENDING, false)?.try_lock(name)? else { return Ok(None) };
        Ok(self.pending(name).map(|Pending { record, retry }| Claim {
            record,
            retry,
            file: Some((self, name.to_owned(), lock)),
        }))
    }

    /// Keeps a new record and claims it at once; one that cannot be kept is claimed all the same, with the reason. The
    /// oldest ones make room for it, which `time` (RFC 3339) is noted for.
    pub fn add(&self, record: Record, time: &str) -> (Claim<'_>, Option<Errno>) {
        let name = file_name(&record.created, &record.id);
        let retry = Retry::default();
        let bytes = Pending { record: record.clone(), retry }.to_bytes();
        let written = self.directory.directory(PENDING, true).and_then(|pending| {
            let oldest = self.make_room(&pending, bytes.len())?;
            self.note_dropped(&oldest, time, Why::NoRoom);
            pending.replace_synced(&name, &bytes, PENDING_MODE, Synced::Name)
        });
        match written {
            Ok(lock) => (Claim { record, retry, file: Some((self, name, lock)) }, None),
            Err(error) => (Claim::unkept(record), Some(error)),
        }
    }

    /// Removes the oldest pending records until one more of `length` bytes is within the limits; which those were.
    fn make_room(&self, pending: &Directory, length: usize) -> Result<Vec<Record>, Errno> {
        let ours = |name: String| {
            let bytes = pending.read(&name, MAX_FILE).bytes()?;
            Some((name, bytes.len(), Pending::from_bytes(&bytes)?.record))
        };
        let all: Vec<_> = self.pending_names().into_iter().filter_map(ours).collect();
        let (mut count, mut size) = (all.len() + 1, all.iter().map(|(_, length, _)| length).sum::<usize>() + length);
        let mut removed = Vec::new();
        for (name, length, record) in all {
            if count <= MAX_PENDING && size <= MAX_PENDING_BYTES {
                break;
            }
            pending.remove(&name)?;
            (count, size) = (count - 1, size - length);
            removed.push(record);
        }
        Ok(removed)
    }

    /// Removes a pending record by name.
    ///
    /// # Errors
    /// Those of unlinking.
    pub fn remove_pending(&self, name: &str) -> Result<(), Errno> {
        self.directory.directory(PENDING, false)?.remove(name).map(drop)
    }

    /// Keeps a receipt; the path of its file. Those go first of which the identity file knows as well.
    ///
    /// # Errors
    /// Those of writing.
    pub fn keep(&self, receipt: &Receipt, synced: Synced) -> Result<PathBuf, Errno> {
        let name = file_name(&receipt.record.created, &receipt.record.id);
        let sent = self.directory.directory(SENT, true)?;
        if names(&self.directory, SENT).len() >= MAX_SENT {
            let mut all = self.named_receipts();
            all.sort_by_key(|(_, receipt)| !receipt.is_marked);
            for (oldest, _) in
                all.iter().filter(|(other, _)| *other != name).take((all.len() + 1).saturating_sub(MAX_SENT))
            {
                sent.remove(oldest)?;
            }
        }
        sent.replace_synced(&name, &receipt.to_bytes(), 0o644, synced)?;
        Ok(self.path.join(SENT).join(name))
    }

    /// Notes that records were given up at `time` (RFC 3339). That this cannot be written is no reason to keep them.
    pub fn note_dropped(&self, records: &[Record], time: &str, why: Why) {
        if !records.is_empty() {
            let mut all = self.dropped();
            all.extend(records.iter().map(|record| Dropped::new(record, time.to_owned(), why)));
            let _ = self.directory.replace(DROPPED, dropped::text(&all).as_bytes(), 0o644);
        }
    }

    /// The pending records that were given up, the oldest first.
    pub fn dropped(&self) -> Vec<Dropped> {
        let bytes = self.directory.read(DROPPED, MAX_FILE).bytes().unwrap_or_default();
        dropped::parse(&String::from_utf8_lossy(&bytes))
    }

    /// Forgets which of one profile's were given up.
    ///
    /// # Errors
    /// Those of writing.
    pub fn forget_dropped(&self, profile: &str) -> Result<(), Errno> {
        let all = self.dropped();
        let rest: Vec<Dropped> = all.iter().filter(|dropped| dropped.profile != profile).cloned().collect();
        match rest.as_slice() {
            [] => self.directory.remove(DROPPED).map(drop),
            rest if rest.len() < all.len() => self.directory.replace(DROPPED, dropped::text(rest).as_bytes(), 0o644),
            _ => Ok(()),
        }
    }

    /// All receipts, the oldest first.
    pub fn receipts(&self) -> Vec<Receipt> {
        self.named_receipts().into_iter().map(|(_, receipt)| receipt).collect()
    }

    fn named_receipts(&self) -> Vec<(String, Receipt)> {
        let Ok(sent) = self.directory.directory(SENT, false) else { return Vec::new() };
        let read = |name: String| Some((Receipt::from_bytes(&sent.read(&name, MAX_FILE).bytes()?)?, name));
        names(&self.directory, SENT).into_iter().filter_map(read).map(|(receipt, name)| (name, receipt)).collect()
    }

    /// The receipt of the record `id`, if it was answered.
    pub fn receipt_of(&self, record: &Record) -> Option<Receipt> {
        let sent = self.directory.directory(SENT, false).ok()?;
        Receipt::from_bytes(&sent.read(file_name(&record.created, &record.id), MAX_FILE).bytes()?)
    }

    /// Removes the receipts that `unwanted` picks.
    ///
    /// # Errors
    /// Those of unlinking.
    pub fn remove_receipts(&self, unwanted: impl Fn(&Record) -> bool) -> Result<(), Errno> {
        let Ok(sent) = self.directory.directory(SENT, false) else { return Ok(()) };
        for (name, _) in self.named_receipts().iter().filter(|(_, receipt)| unwanted(&receipt.record)) {
            sent.remove(name)?;
        }
        Ok(())
    }

    /// The text of the file that says on which machine each ID was made; `None` when it cannot be read.
    pub fn origins(&self) -> Option<String> {
        match self.directory.read(ORIGINS, MAX_FILE) {
            Content::Missing => Some(String::new()),
            Content::Bytes { bytes, .. } => Some(String::from_utf8(bytes).unwrap_or_default()),
            Content::Forbidden | Content::Unreadable(_) => None,
        }
    }

    /// Replaces that text; an empty one removes the file.
    ///
    /// # Errors
    /// Those of writing.
    pub fn set_origins(&self, text: &str) -> Result<(), Errno> {
        match text {
            "" => self.directory.remove(ORIGINS).map(drop),
            // An ID that it does not know is taken as made here, so all that can be lost is that a clone is noticed.
            _ => self.directory.replace_synced(ORIGINS, text.as_bytes(), 0o644, Synced::Nothing).map(drop),
        }
    }

    /// Whether `key` is in the list of what was reported.
    pub fn is_reported(&self, key: &str) -> bool {
        self.reported().lines().any(|known| known == key)
    }

    /// Adds `key` to that list.
    ///
    /// # Errors
    /// Those of writing.
    pub fn report(&self, key: &str) -> Result<(), Errno> {
        let text = self.reported();
        let known: Vec<&str> = text.lines().filter(|known| *known != key).collect();
        let newest = known.len().saturating_sub(MAX_REPORTED - 1);
        let lines = known[newest..].iter().chain([&key]).map(|line| format!("{line}\n"));
        self.directory.replace(REPORTED, lines.collect::<String>().as_bytes(), 0o644)
    }

    /// Removes the lines that `unwanted` picks from that list.
    ///
    /// # Errors
    /// Those of writing.
    pub fn unreport(&self, unwanted: impl Fn(&str) -> bool) -> Result<(), Errno> {
        let text = self.reported();
        let rest: String = text.lines().filter(|line| !unwanted(line)).map(|line| format!("{line}\n")).collect();
        match rest.len() {
            0 => self.directory.remove(REPORTED).map(drop),
            kept if kept == text.len() => Ok(()),
            _ => self.directory.replace(REPORTED, rest.as_bytes(), 0o644),
        }
    }

    /// The lines of what was reported, the oldest first.
    pub fn reported(&self) -> String {
        let bytes = self.directory.read(REPORTED, MAX_REPORTED * 256).bytes().unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    }

    /// Removes what is empty, so that a machine that was forgotten looks like one that never reported.
    pub fn remove_if_empty(&self, host: &Host, path: &Path) {
        self.directory.remove_empty(PENDING);
        self.directory.remove_empty(SENT);
        if self.directory.names().is_ok_and(|names| names.iter().all(|name| name == LOCK)) {
            let _ = self.directory.remove(LOCK);
            if let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
                && let Ok(parent) = host.directory(parent, false)
            {
                parent.remove_empty(name);
            }
        }
    }
}

/// The time first, so that names sort by age and a person sees it in `ls`.
fn file_name(time: &str, id: &str) -> String {
    let compact: String = time.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    format!("{compact}-{id}.json")
}

fn names(directory: &Directory, of: &str) -> Vec<String> {
    let opened = directory.directory(of, false);
    let mut names = opened.and_then(|directory| directory.names()).unwrap_or_default();
    names.retain(|name| name.ends_with(".json") && !name.starts_with('.'));
    names
}

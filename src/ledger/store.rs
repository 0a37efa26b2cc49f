//! The state directory: `pending/`, `sent/`, the lock, and on which machine each ID was made.
//!
//! A pending record's file is also its claim: whoever holds the file's lock delivers it, and a run that dies gives
//! the lock back by dying. The lock of the directory itself is held only to look and to write, never while
//! something is being sent.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::io::Errno;

use super::record_file::{Receipt, Record};
use crate::host::Host;
use crate::host::directory::Directory;

const LOCK: &str = "lock";
const PENDING: &str = "pending";
const SENT: &str = "sent";
const ORIGINS: &str = "origins";
const REPORTED: &str = "reported";

/// The most lines in `reported`; the oldest go first.
const MAX_REPORTED: usize = 1024;

/// A record is at most 8 KiB and doubles at worst when it is quoted; a larger file is not ours.
const MAX_FILE: usize = 64 << 10;

/// The most records that wait, and the most receipts that are kept; the oldest go first.
const MAX_PENDING: usize = 64;
const MAX_SENT: usize = 256;

/// An open state directory.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    directory: Directory,
}

/// A record that this run has claimed: nobody else delivers it while this lives.
#[derive(Debug)]
pub struct Claim {
    /// The record.
    pub record: Record,
    /// Its file's name and lock; `None` where nothing can be kept.
    file: Option<(String, OwnedFd)>,
}

impl Claim {
    /// A record that cannot be kept, and so can be lost.
    pub fn unkept(record: Record) -> Claim {
        Claim { record, file: None }
    }

    /// Whether the record waits on disk until it is delivered.
    pub fn is_kept(&self) -> bool {
        self.file.is_some()
    }
}

impl Store {
    /// Opens the state directory at `path` for writing, making it where it is missing.
    ///
    /// # Errors
    /// When it cannot be made or written, or when somebody else could write in it ([`Errno::PERM`]).
    pub fn open(host: &Host, path: &Path) -> Result<Store, Errno> {
        let directory = host.directory(path, true)?;
        if !directory.is_private() {
            return Err(Errno::PERM);
        }
        if !directory.is_writable() {
            return Err(Errno::ACCESS);
        }
        Ok(Store { path: host.path(path), directory })
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

    /// Waits for the lock of the whole directory until `deadline`.
    ///
    /// # Errors
    /// [`Errno::WOULDBLOCK`] when others held it all the time.
    pub fn lock(&self, deadline: Instant) -> Result<OwnedFd, Errno> {
        self.directory.lock(LOCK, deadline)
    }

    /// The names of the pending records, the oldest first.
    pub fn pending_names(&self) -> Vec<String> {
        names(&self.directory, PENDING)
    }

    /// A pending record, without claiming it.
    pub fn pending(&self, name: &str) -> Option<Record> {
        Record::from_bytes(&self.directory.directory(PENDING, false).ok()?.read(name, MAX_FILE).bytes()?)
    }

    /// Claims a pending record; `None` when another run has it, or when it is gone or not ours.
    pub fn claim(&self, name: &str) -> Option<Claim> {
        let lock = self.directory.directory(PENDING, false).ok()?.try_lock(name)?;
        Some(Claim { record: self.pending(name)?, file: Some((name.to_owned(), lock)) })
    }

    /// Keeps a new record and claims it at once; one that cannot be kept is claimed all the same, with the reason.
    pub fn add(&self, record: Record) -> (Claim, Option<Errno>) {
        let name = file_name(&record.created, &record.id);
        let written = self.directory.directory(PENDING, true).and_then(|pending| {
            make_room(&pending, MAX_PENDING)?;
            // 0600, unlike the receipts: who can open a record could hold its claim.
            pending.replace_locked(&name, &record.to_bytes(), 0o600)
        });
        match written {
            Ok(lock) => (Claim { record, file: Some((name, lock)) }, None),
            Err(error) => (Claim::unkept(record), Some(error)),
        }
    }

    /// Removes a pending record by name.
    ///
    /// # Errors
    /// Those of unlinking.
    pub fn remove_pending(&self, name: &str) -> Result<(), Errno> {
        self.directory.directory(PENDING, false)?.remove(name).map(drop)
    }

    /// Ends a claim: the record no longer waits.
    ///
    /// # Errors
    /// Those of unlinking; the record would then be sent again, under the same ID.
    pub fn settle(&self, claim: &Claim) -> Result<(), Errno> {
        match &claim.file {
            Some((name, _)) => self.remove_pending(name),
            None => Ok(()),
        }
    }

    /// Keeps a receipt; the path of its file.
    ///
    /// # Errors
    /// Those of writing.
    pub fn keep(&self, receipt: &Receipt) -> Result<PathBuf, Errno> {
        let name = file_name(&receipt.record.created, &receipt.record.id);
        let sent = self.directory.directory(SENT, true)?;
        make_room(&sent, MAX_SENT)?;
        sent.replace(&name, &receipt.to_bytes(), 0o644)?;
        Ok(self.path.join(SENT).join(name))
    }

    /// All receipts, the oldest first.
    pub fn receipts(&self) -> Vec<Receipt> {
        let Ok(sent) = self.directory.directory(SENT, false) else { return Vec::new() };
        let read = |name: &String| Receipt::from_bytes(&sent.read(name, MAX_FILE).bytes()?);
        names(&self.directory, SENT).iter().filter_map(read).collect()
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
        for name in names(&self.directory, SENT) {
            let receipt = sent.read(&name, MAX_FILE).bytes().and_then(|bytes| Receipt::from_bytes(&bytes));
            if receipt.is_some_and(|receipt| unwanted(&receipt.record)) {
                sent.remove(&name)?;
            }
        }
        Ok(())
    }

    /// The text of the file that says on which machine each ID was made.
    pub fn origins(&self) -> String {
        let bytes = self.directory.read(ORIGINS, MAX_FILE).bytes().unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    }

    /// Replaces that text; an empty one removes the file.
    ///
    /// # Errors
    /// Those of writing.
    pub fn set_origins(&self, text: &str) -> Result<(), Errno> {
        match text {
            "" => self.directory.remove(ORIGINS).map(drop),
            _ => self.directory.replace(ORIGINS, text.as_bytes(), 0o644),
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

fn make_room(directory: &Directory, limit: usize) -> Result<(), Errno> {
    let names = directory.names()?;
    let excess = (names.len() + 1).saturating_sub(limit);
    for name in names.iter().take(excess) {
        directory.remove(name)?;
    }
    Ok(())
}

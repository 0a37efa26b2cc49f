//! The state directory: `pending/`, `sent/`, the list `reported`, and on which machine each ID was made.
//!
//! There is one a run. Its lock is flock(2) on its own descriptor, held only to look and to write, never while something
//! is being sent. A pending record's file is also its claim: whoever holds the file's lock delivers it, and a run that
//! dies gives both locks back by dying.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::ReportKey;
use super::binding::Bindings;
use super::record_file::{Answer, Attempt, Journal, Record};
use crate::host::Host;
use crate::host::directory::{Directory, Synced};
use crate::outcome::Reporter;

/// Where state lives; beside the identity file for a user who cannot write there.
const STATE: &str = "/var/lib/install-record";
const BESIDE: &str = ".install-record";

pub(super) const PENDING: &str = "pending";
pub(super) const SENT: &str = "sent";
const REPORTED: &str = "reported";
const BINDINGS: &str = "bindings";

/// Files of earlier versions. The list of IDs is still read; the others are of no use.
const LEGACY_BINDINGS: &str = "origins";
const LEGACY: [&str; 3] = ["lock", "dropped", LEGACY_BINDINGS];

/// The most lines in `reported`; the oldest go first.
const MAX_REPORTED: usize = 1024;

/// A record is at most 8 KiB and doubles when it is quoted. What is longer than this has had hundreds of attempts.
pub(super) const MAX_FILE: usize = 128 << 10;

/// An answer's line is shorter than this. Its place on the disk is taken before the record is sent.
const ANSWER_SPACE: u64 = 4 << 10;

/// The most records that wait; the oldest go first.
pub const MAX_PENDING: usize = 64;
/// The most bytes that their files have.
pub const MAX_PENDING_BYTES: usize = 512 << 10;
/// The most receipts that are kept; the oldest go first.
pub const MAX_SENT: usize = 256;

/// Something that cannot be remembered, and why. What cannot be remembered is not sent.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}{}", path.display(), self.way_out())]
pub struct Unkept {
    /// The file or directory.
    pub path: PathBuf,
    /// The error.
    #[source]
    pub error: io::Error,
}

impl Unkept {
    /// What could not be written at `path`.
    pub fn new(path: PathBuf, error: impl Into<io::Error>) -> Unkept {
        Unkept { path, error: error.into() }
    }

    fn way_out(&self) -> &'static str {
        match self.error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::PERM) if rustix::process::geteuid().is_root() => "; run it as the user whose directory that is",
            Some(Errno::ACCESS | Errno::PERM) => "; run it as root, or as the user whose directory that is",
            Some(Errno::LOOP) => "; a link there is neither root's nor this user's",
            Some(Errno::ROFS) => "; give it a directory that can be written, a volume for example",
            _ => "",
        }
    }
}

/// An open state directory.
#[derive(Debug)]
pub struct Store {
    /// As the running system sees it.
    path: PathBuf,
    /// The same inside the root.
    inside: PathBuf,
    directory: Directory,
}

/// A record that this run has claimed: nobody else delivers it while this lives.
#[derive(Debug)]
pub struct Claim {
    /// What its file says.
    pub journal: Journal,
    /// Where it goes in this run.
    pub url: String,
    name: String,
    file: File,
}

impl Claim {
    /// The record.
    pub fn record(&self) -> &Record {
        &self.journal.record
    }

    /// Notes an attempt that failed. A note that is lost by a power failure is no loss.
    ///
    /// # Errors
    /// Those of writing.
    pub fn defer(&mut self, attempt: Attempt) -> Result<(), io::Error> {
        let line = Journal::attempt_line(&attempt);
        if self.journal.length + line.len() > MAX_FILE / 2 {
            return Ok(());
        }
        self.file.write_all(&line)?;
        self.journal.attempts.push(attempt);
        Ok(())
    }

    /// Notes the answer, which is on disk when this returns.
    ///
    /// # Errors
    /// Those of writing.
    pub fn answered(&mut self, answer: Answer) -> Result<(), io::Error> {
        let line = Journal::answer_line(&answer);
        // Where it cannot be written, this run knows it all the same, and the mark remembers it.
        self.journal.answer = Some(answer);
        self.file.write_all(&line)?;
        self.file.sync_data()
    }
}

impl Store {
    /// The state directory of this user, if there is one; `identity` is the identity file.
    pub fn find(host: &Host, identity: Option<&Path>) -> Option<Store> {
        Self::places(identity).iter().find_map(|path| Store::existing(host, path).ok())
    }

    /// The state directory of this user, made where it is missing.
    ///
    /// # Errors
    /// Why there can be none, for the last place that was tried.
    pub fn make(host: &Host, identity: Option<&Path>) -> Result<Store, Unkept> {
        let mut why = Errno::NOENT;
        let mut tried = PathBuf::from(STATE);
        for path in Self::places(identity) {
            let made = match Store::existing(host, &path) {
                Err(Errno::NOENT) => {
                    let parent = path.parent().unwrap_or(Path::new("/"));
                    let name = path.file_name().unwrap_or(path.as_os_str());
                    let parent = host.directory(parent, true);
                    parent
                        .and_then(|parent| parent.directory(name, Some(0o711)))
                        .and_then(|_| Store::existing(host, &path))
                }
                found => found,
            };
            match made {
                Ok(store) => return Ok(store),
                Err(error) => (why, tried) = (error, path),
            }
        }
        Err(Unkept::new(host.path(tried), why))
    }

    /// Whether [`Store::make`] would succeed, as far as that can be told without making anything.
    ///
    /// # Errors
    /// Why there can be none, for the last place that was tried.
    pub fn could_make(host: &Host, identity: Option<&Path>) -> Result<(), Unkept> {
        let mut why = Unkept::new(host.path(STATE), Errno::NOENT);
        for path in Self::places(identity) {
            let nearest = path.ancestors().skip(1).find_map(|above| host.directory(above, false).ok());
            match Store::existing(host, &path) {
                Err(Errno::NOENT) if nearest.is_some_and(|above| above.is_writable()) => return Ok(()),
                Err(Errno::NOENT) => why = Unkept::new(host.path(path), Errno::ACCESS),
                Err(error) => why = Unkept::new(host.path(path), error),
                Ok(_) => return Ok(()),
            }
        }
        Err(why)
    }

    fn places(identity: Option<&Path>) -> Vec<PathBuf> {
        let beside = identity.and_then(Path::parent).map(|parent| parent.join(BESIDE));
        [PathBuf::from(STATE)].into_iter().chain(beside).collect()
    }

    fn existing(host: &Host, path: &Path) -> Result<Store, Errno> {
        let directory = host.directory(path, false)?;
        match (directory.is_private(), directory.is_writable()) {
            (false, _) => Err(Errno::PERM),
            (_, false) => Err(Errno::ACCESS),
            _ => Ok(Store { path: host.path(path), inside: path.to_owned(), directory }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn at(&self, name: &str) -> impl Fn(Errno) -> Unkept {
        let path = self.path.join(name);
        move |error| Unkept::new(path.clone(), error)
    }

    /// Waits for the lock of the directory; `None` where it was removed meanwhile.
    ///
    /// # Errors
    /// Those of locking: on some file systems there are no locks, and without them nothing can be claimed.
    pub fn lock(&self) -> Result<Option<OwnedFd>, Unkept> {
        let lock = self.directory.lock().map_err(self.at(""))?;
        Ok((!self.directory.is_removed()).then_some(lock))
    }

    /// Removes the files that killed runs have not finished.
    pub fn sweep(&self) {
        self.directory.sweep(None);
        for name in [PENDING, SENT] {
            if let Ok(directory) = self.directory.directory(name, None) {
                directory.sweep(None);
            }
        }
    }

    /// A descriptor that is good for nothing but to keep its place.
    ///
    /// # Errors
    /// When there are no more.
    pub fn spare_descriptor(&self) -> Result<OwnedFd, Errno> {
        rustix::io::fcntl_dupfd_cloexec(self.directory.as_fd(), 0)
    }

    /// The names of the records in `pending/` or `sent/`, the oldest first.
    pub fn names(&self, of: &str) -> Vec<String> {
        let names = self.directory.directory(of, None).and_then(|directory| directory.names());
        names.unwrap_or_default().into_iter().filter(|name| is_record(name)).collect()
    }

    /// The records in `pending/` or `sent/`, the oldest first, with the names of their files.
    pub fn journals(&self, of: &str) -> Vec<(String, Journal)> {
        let Ok(directory) = self.directory.directory(of, None) else { return Vec::new() };
        let read = |name: String| Some((Journal::parse(&directory.read(&name, MAX_FILE).bytes()?)?, name));
        self.names(of).into_iter().filter_map(read).map(|(journal, name)| (name, journal)).collect()
    }

    /// Gives what should be a record, and cannot be read as one, another name.
    pub fn move_aside(&self, reporter: &Reporter) {
        for of in [PENDING, SENT] {
            let Ok(directory) = self.directory.directory(of, None) else { continue };
            for name in self.names(of) {
                let is_read =
                    directory.read(&name, MAX_FILE).bytes().is_some_and(|bytes| Journal::parse(&bytes).is_some());
                let aside = format!("{name}.unreadable");
                if !is_read && directory.rename(&name, &directory, &aside).is_ok() {
                    let path = self.path.join(of).join(aside);
                    reporter.warn(format_args!("a record that cannot be read was moved to {}", path.display()));
                }
            }
        }
    }

    /// Claims a pending record; `None` when another run has it, or when it is gone or not ours.
    ///
    /// # Errors
    /// Those of opening, locking and reading: above all, that this process has no more descriptors ([`Errno::MFILE`]).
    pub fn claim(&self, name: &str) -> Result<Option<Claim>, io::Error> {
        let Some(mut file) = self.directory.directory(PENDING, None)?.claim(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(MAX_FILE as u64).read_to_end(&mut bytes)?;
        let Some(journal) = Journal::parse(&bytes) else { return Ok(None) };
        if journal.length < bytes.len() {
            // A line that was cut is none, and the next one must not become a part of it.
            file.set_len(journal.length as u64)?;
        }
        Ok(Some(Claim { url: journal.record.url.clone(), journal, name: name.to_owned(), file }))
    }

    /// Keeps a new record, on disk when this returns, and claims it.
    ///
    /// # Errors
    /// Those of writing.
    pub fn add(&self, record: Record) -> Result<Claim, Unkept> {
        let name = format!("{}-{}.jsonl", record.created.replace(['-', ':'], ""), record.id);
        let bytes = record.line().map_err(|error| Unkept::new(self.path.join(&name), io::Error::from(error)))?;
        let write = || {
            let pending = self.directory.directory(PENDING, Some(0o700))?;
            self.make_room(&pending, bytes.len())?;
            let file = pending.replace(&name, &bytes, 0o600, Synced::Name)?;
            match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, bytes.len() as u64 + ANSWER_SPACE) {
                Err(error @ Errno::NOSPC) => pending.remove(&name).and(Err(error)),
                _ => Ok(file),
            }
        };
        let file = write().map_err(self.at(PENDING))?;
        let journal = Journal { record, attempts: Vec::new(), answer: None, length: bytes.len() };
        Ok(Claim { url: journal.record.url.clone(), journal, name, file })
    }

    /// Removes the oldest pending records that nobody delivers until one more of `length` bytes is within the limits.
    fn make_room(&self, pending: &Directory, length: usize) -> Result<(), Errno> {
        let all = self.journals(PENDING);
        let size = |(_, journal): &(String, Journal)| journal.length;
        let (mut count, mut bytes) = (all.len() + 1, all.iter().map(size).sum::<usize>() + length);
        for (name, journal) in &all {
            if count <= MAX_PENDING && bytes <= MAX_PENDING_BYTES {
                break;
            }
            if pending.claim(name)?.is_some() {
                pending.remove(name)?;
                (count, bytes) = (count - 1, bytes - journal.length);
            }
        }
        Ok(())
    }

    /// Removes a claimed record.
    ///
    /// # Errors
    /// Those of unlinking.
    pub fn remove(&self, claim: &Claim) -> Result<(), Unkept> {
        let pending = self.directory.directory(PENDING, None);
        pending.and_then(|pending| pending.remove(&claim.name)).map(drop).map_err(self.at(&claim.name))
    }

    /// Makes a claimed record a receipt; the path of its file.
    ///
    /// # Errors
    /// Those of renaming.
    pub fn keep_receipt(&self, claim: &Claim) -> Result<PathBuf, Unkept> {
        let rename = || {
            let sent = self.directory.directory(SENT, Some(0o700))?;
            let names = self.names(SENT);
            for oldest in &names[..(names.len() + 1).saturating_sub(MAX_SENT)] {
                sent.remove(oldest)?;
            }
            self.directory.directory(PENDING, None)?.rename(&claim.name, &sent, &claim.name)
        };
        rename().map_err(self.at(SENT))?;
        Ok(self.path.join(SENT).join(&claim.name))
    }

    /// Deletes the pending records that `unwanted` picks, after the runs that deliver some of them have ended; how many
    /// those were. The lock is held when this returns.
    ///
    /// # Errors
    /// Those of locking and unlinking.
    pub fn discard(&self, unwanted: impl Fn(&Record) -> bool) -> Result<(usize, Option<OwnedFd>), Unkept> {
        let mut count = 0;
        loop {
            let Some(lock) = self.lock()? else { return Ok((count, None)) };
            let Ok(pending) = self.directory.directory(PENDING, None) else { return Ok((count, Some(lock))) };
            let mut busy = None;
            for (name, _) in self.journals(PENDING).iter().filter(|(_, journal)| unwanted(&journal.record)) {
                match pending.claim(name).map_err(self.at(name))? {
                    Some(_) => count += usize::from(pending.remove(name).map_err(self.at(name))?),
                    None => busy = Some(name.clone()),
                }
            }
            let Some(busy) = busy else { return Ok((count, Some(lock))) };
            drop(lock);
            pending.wait_for(&busy).map_err(self.at(&busy))?;
        }
    }

    /// Removes the receipts of `profile`.
    ///
    /// # Errors
    /// Those of unlinking.
    pub fn remove_receipts(&self, profile: &str) -> Result<(), Unkept> {
        let Ok(sent) = self.directory.directory(SENT, None) else { return Ok(()) };
        for (name, _) in self.journals(SENT).iter().filter(|(_, journal)| journal.record.profile == profile) {
            sent.remove(name).map_err(self.at(name))?;
        }
        Ok(())
    }

    /// On which machine each ID was made.
    pub fn bindings(&self) -> Bindings {
        let read = |name| self.directory.read(name, MAX_FILE).bytes().unwrap_or_default();
        Bindings::parse(&read(BINDINGS), &read(LEGACY_BINDINGS))
    }

    /// Writes that down. All that can be lost with it is that a clone is noticed.
    ///
    /// # Errors
    /// Those of writing.
    pub fn set_bindings(&self, bindings: &Bindings) -> Result<(), Unkept> {
        match bindings.to_bytes() {
            Some(bytes) => self.directory.replace(BINDINGS, &bytes, 0o600, Synced::Nothing).map(drop),
            None => self.directory.remove(BINDINGS).map(drop),
        }
        .and_then(|()| self.directory.remove(LEGACY_BINDINGS).map(drop))
        .map_err(self.at(BINDINGS))
    }

    /// Whether `key` is in the list of what was reported.
    pub fn is_listed(&self, key: &ReportKey) -> bool {
        listed(&self.directory).contains(key)
    }

    /// Adds `key` to that list.
    ///
    /// # Errors
    /// Those of writing.
    pub fn list(&self, key: &ReportKey) -> Result<(), Unkept> {
        let mut keys = listed(&self.directory);
        keys.retain(|known| known != key);
        keys.push(key.clone());
        self.set_listed(&keys[keys.len().saturating_sub(MAX_REPORTED)..])
    }

    /// Removes what `profile` reported from that list.
    ///
    /// # Errors
    /// Those of writing.
    pub fn unlist(&self, profile: &str) -> Result<(), Unkept> {
        let mut keys = listed(&self.directory);
        let before = keys.len();
        keys.retain(|key| !key.is_of(profile));
        if keys.len() < before { self.set_listed(&keys) } else { Ok(()) }
    }

    fn set_listed(&self, keys: &[ReportKey]) -> Result<(), Unkept> {
        let lines: String = keys.iter().map(|key| format!("{key}\n")).collect();
        match lines.is_empty() {
            true => self.directory.remove(REPORTED).map(drop),
            false => self.directory.replace(REPORTED, lines.as_bytes(), 0o644, Synced::Bytes).map(drop),
        }
        .map_err(self.at(REPORTED))
    }

    /// Removes what is empty, so that a machine that was forgotten looks like one that never reported.
    pub fn remove_if_empty(&self, host: &Host) {
        self.directory.remove_empty(PENDING);
        self.directory.remove_empty(SENT);
        let names = self.directory.names().unwrap_or_else(|_| vec![String::new()]);
        if names.iter().all(|name| LEGACY.contains(&&**name)) {
            for name in &names {
                let _ = self.directory.remove(name);
            }
            if let Ok((parent, name)) = host.place(&self.inside, None) {
                parent.remove_empty(name);
            }
        }
    }
}

/// Whether `key` is in the list that everybody can read, whoever wrote it.
pub fn is_listed_for_all(host: &Host, key: &ReportKey) -> bool {
    host.directory(STATE, false).is_ok_and(|directory| directory.is_ours(".") && listed(&directory).contains(key))
}

/// The keys of what was reported, the oldest first.
fn listed(directory: &Directory) -> Vec<ReportKey> {
    let bytes = directory.read(REPORTED, MAX_REPORTED * 256).bytes().unwrap_or_default();
    String::from_utf8_lossy(&bytes).lines().filter_map(ReportKey::parse).collect()
}

/// `TIME-UUID.jsonl`: the time first, so that names sort by age and a person sees it in `ls`. Earlier versions wrote
/// `.json`.
fn is_record(name: &str) -> bool {
    let stem = name.strip_suffix(".jsonl").or_else(|| name.strip_suffix(".json"));
    stem.and_then(|stem| stem.split_once('-')).is_some_and(|(_, id)| super::id::is_uuid(id))
}

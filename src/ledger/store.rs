//! The state directory: `pending/`, `sent/`, the list `reported`, and on which machine each ID was made.
//!
//! A run has one state directory. Its lock is flock(2) on its own descriptor. It is held only to look and to write,
//! never while something is being sent. The lock of a pending record's file is the claim to that record: whoever holds
//! it delivers the record. A run that dies gives both locks back.

use std::{fs::File, io, io::Read, io::Write, os::fd::OwnedFd, path::Path, path::PathBuf};

use rustix::{fs::FallocateFlags, fs::FlockOperation, fs::fallocate, io::Errno, process::geteuid};

use super::record_file::{Answer, Attempt, Journal, Line, Record, to_line};
use super::{IdentityFile, ReportKey, binding::Bindings};
use crate::host::{Host, Place, directory::Directory, directory::Synced, path_error::PathError};
use crate::{facts::time::Time, id::is_uuid, outcome::Reporter};

/// Where state lives. For a user who cannot write there, it lives beside the identity file.
const STATE: &str = "/var/lib/install-record";
const BESIDE: &str = ".install-record";

pub(super) const PENDING: &str = "pending";
pub(super) const SENT: &str = "sent";
const REPORTED: &str = "reported";
const BINDINGS: &str = "bindings";

/// The name of `bindings` in earlier versions.
const LEGACY_BINDINGS: &str = "origins";

/// The most lines in `reported`; the oldest go first.
const MAX_REPORTED: usize = 1024;

/// The largest file of a record. A record has at most 12 KiB and doubles when it is quoted, so there is room for
/// hundreds of attempts.
const MAX_FILE: usize = 128 << 10;

/// Room on the disk for the answer's line, taken before the record is sent. Only an answer full of control characters
/// is longer.
const ANSWER_SPACE: u64 = 4 << 10;

/// The most records that wait; the oldest go first.
pub const MAX_PENDING: usize = 64;
/// The most bytes that their files have.
pub const MAX_PENDING_BYTES: usize = 512 << 10;
/// The most receipts that are kept; the oldest go first.
pub const MAX_SENT: usize = 256;

/// The result of reading or writing what is kept. What cannot be remembered is not sent.
pub type Kept<T> = Result<T, PathError>;

/// A record that this run has claimed: nobody else delivers it while this lives.
pub struct Claim {
    /// What its file says; its record's URL is where it goes in this run.
    pub journal: Journal,
    file: File,
}

impl Claim {
    /// Notes an attempt that failed. It does no harm if a power failure takes the note.
    ///
    /// # Errors
    /// Those of writing.
    pub fn defer(&mut self, attempt: Attempt) -> io::Result<()> {
        // Pauses that servers ask for may nearly fill the file, and other attempts only half of it.
        let most = if attempt.retry_after.is_some() { MAX_FILE - ANSWER_SPACE as usize } else { MAX_FILE / 2 };
        let line = to_line(&Line::Attempt(attempt))?;
        if self.journal.length + line.len() > most { Ok(()) } else { self.file.write_all(line.as_bytes()) }
    }

    /// Notes the answer, which is on disk when this returns.
    ///
    /// # Errors
    /// Those of writing. This run knows the answer all the same, and the mark remembers it.
    pub fn answered(&mut self, answer: Answer) -> io::Result<()> {
        self.journal.answer = Some(answer.clone());
        self.file.write_all(to_line(&Line::Answer(answer))?.as_bytes())?;
        self.file.sync_data()
    }
}

/// An open state directory.
pub struct Store {
    /// As the running system sees it.
    pub path: PathBuf,
    /// The directory that it is in, and its name there.
    place: Place,
    /// The directory itself. If it is not private to us, it is another user's that root looks into.
    pub directory: Directory,
}

impl Store {
    /// The state directory of this user; `identity` is the identity file. If `make` is given, what is missing is made, and
    /// that is the mode of the identity file's directory.
    ///
    /// # Errors
    /// Why the last place that was tried cannot be used.
    pub fn open(host: &Host, identity: Option<&Path>, make: Option<u32>) -> Kept<Store> {
        let above = |it: &Path| make.map(|mode| if it == Path::new(STATE) { 0o755 } else { mode });
        Store::choose(host, identity, |it| Store::at(host, it, above(it), false).map_err(PathError::at(host.path(it))))
    }

    /// What `at` says of this user's state directory.
    fn choose<T>(host: &Host, identity: Option<&Path>, at: impl Fn(&Path) -> Kept<T>) -> Kept<T> {
        // A directory that is ours stays the place, whether it can be written now or not: what it holds must not be
        // forgotten. If both are ours, it is the one beside the identity file, as long as records wait there or the
        // other cannot be written.
        let is_ours = |path: &Path| host.directory(path, false).is_ok_and(|state| state.is_private());
        let has_work = |path: &Path| Store::at(host, path, None, false).is_ok_and(|store| store.has_work());
        let is_usable = |path| host.directory(path, false).is_ok_and(|it| it.is_private() && it.can_write(".").is_ok());
        match beside(identity) {
            Some(path) if is_ours(&path) && (has_work(&path) || !is_usable(STATE)) => at(&path),
            Some(path) => match at(Path::new(STATE)) {
                Err(error) if error.is_denied() && !is_ours(Path::new(STATE)) => at(&path),
                opened => opened,
            },
            None => at(Path::new(STATE)),
        }
    }

    /// Every state directory in which runs with these identity files keep something, whoever runs them. For root,
    /// another user's directory beside an identity file is among them. Also returns why root cannot use the system's
    /// directory, if so.
    pub fn all(host: &Host, identities: &[PathBuf]) -> (Vec<Store>, Option<PathError>) {
        let mut paths = vec![PathBuf::from(STATE)];
        for path in identities.iter().filter_map(|identity| beside(Some(identity))) {
            // Compared by device and inode. A lock that is taken twice would wait for itself.
            let is_new = paths.iter().all(|known| host.file_id(known) != host.file_id(&path));
            paths.extend(is_new.then_some(path));
        }
        let opened = |path: &PathBuf| Store::at(host, path, None, true);
        let is_none = |error: &Errno| [Errno::NOENT, Errno::NOTDIR].contains(error) || !geteuid().is_root();
        let problem = opened(&paths[0]).err().filter(|error| !is_none(error)).map(PathError::at(host.path(STATE)));
        (paths.iter().filter_map(|path| opened(path).ok()).collect(), problem)
    }

    /// Why this user has no state directory and could not make one; `None` if all is well. Nothing is made to find out.
    pub fn problem(host: &Host, identity: Option<&Path>) -> Option<PathError> {
        let usable = |it: &Path| match Store::at(host, it, None, false) {
            Err(error) if error != Errno::NOENT => Err(error),
            _ => host.can_write(&it.join(PENDING).join("record")),
        };
        Store::choose(host, identity, |it| usable(it).map_err(PathError::at(host.path(it)))).err()
    }

    /// The one at `path`, if it is private to us. With `of_others`, root also gets one that is private to another user.
    fn at(host: &Host, path: &Path, make: Option<u32>, of_others: bool) -> Result<Store, Errno> {
        let place = host.place(path, make)?;
        let directory = place.0.directory(&place.1, make.map(|_| 0o711))?;
        let is_strangers = || of_others && directory.is_off_limits() && directory.is_private_to_stranger();
        if !directory.is_private() && !is_strangers() {
            return Err(Errno::PERM);
        }
        make.map(|_| directory.can_write(".")).transpose()?;
        Ok(Store { path: host.path(path), place, directory })
    }

    fn error_at<E: Into<io::Error>>(&self, name: &str) -> impl Fn(E) -> PathError {
        PathError::at(self.path.join(name))
    }

    /// Waits for the lock of the directory.
    ///
    /// # Errors
    /// Those of locking: on some file systems there are no locks, and without them nothing can be claimed.
    pub fn lock(&self) -> Kept<OwnedFd> {
        self.directory.lock(FlockOperation::LockExclusive).map_err(self.error_at(""))
    }

    /// Removes what killed runs have not finished. A file that should be a record and cannot be read as one of this
    /// version gets another name.
    pub fn tidy_up(&self, reporter: &Reporter) {
        self.directory.sweep(None);
        for of in [PENDING, SENT] {
            let Ok(directory) = self.directory.directory(of, None) else { continue };
            directory.sweep(None);
            // What the system cannot read now, it may read later.
            let is_foreign = |name: &String| match directory.read(name, MAX_FILE) {
                Err(error) => error.raw_os_error().is_none(),
                Ok(bytes) => bytes.is_some_and(|bytes| Journal::parse(name.clone(), &bytes).is_none()),
            };
            let aside = |name: &String| directory.rename(name, &directory, &format!("{name}.unreadable")).is_ok();
            let count = self.names(of).iter().filter(|name| is_foreign(name) && aside(name)).count();
            if count > 0 {
                let now = self.path.join(of);
                reporter.warn(format_args!("{count} unreadable records are now {}/*.unreadable", now.display()));
            }
        }
    }

    /// Whether records wait.
    pub fn has_work(&self) -> bool {
        !self.names(PENDING).is_empty()
    }

    /// The names of the records in `pending/` or `sent/`, the oldest first. They are `TIME-UUID.jsonl`, so that `ls`
    /// shows the time to a person. Earlier versions wrote `.json`.
    pub fn names(&self, of: &str) -> Vec<String> {
        let names = self.directory.directory(of, None).and_then(|directory| directory.names());
        let is_record = |name: &String| {
            let stem = name.strip_suffix(".jsonl").or_else(|| name.strip_suffix(".json"));
            stem.and_then(|stem| stem.split_once('-')).is_some_and(|(_, id)| is_uuid(id))
        };
        names.unwrap_or_default().into_iter().filter(is_record).collect()
    }

    /// The records in `pending/` or `sent/`, the oldest first.
    pub fn journals(&self, of: &str) -> Vec<Journal> {
        let Ok(directory) = self.directory.directory(of, None) else { return Vec::new() };
        let read = |name: String| directory.read(&name, MAX_FILE).ok()?.and_then(|bytes| Journal::parse(name, &bytes));
        self.names(of).into_iter().filter_map(read).collect()
    }

    /// Claims a pending record; `None` when another run has it, or when it is gone or not ours.
    ///
    /// # Errors
    /// Those of opening, locking and reading: above all, that this process has no more descriptors ([`Errno::MFILE`]).
    pub fn claim(&self, name: &str) -> Kept<Option<Claim>> {
        let claim = || {
            let Some(mut file) = self.directory.directory(PENDING, None)?.claim(name)? else { return Ok(None) };
            let mut bytes = Vec::new();
            Read::by_ref(&mut file).take(MAX_FILE as u64).read_to_end(&mut bytes)?;
            let Some(journal) = Journal::parse(name.to_owned(), &bytes) else { return Ok(None) };
            if journal.length < bytes.len() {
                // A cut line is removed, so that the next one does not become a part of it.
                file.set_len(journal.length as u64)?;
            }
            Ok(Some(Claim { journal, file }))
        };
        claim().map_err(self.error_at::<io::Error>(&format!("{PENDING}/{name}")))
    }

    /// Keeps a new record and claims it. The record is on disk when this returns.
    ///
    /// # Errors
    /// Those of writing.
    pub fn add(&self, record: Record) -> Kept<Claim> {
        let name = format!("{}-{}.jsonl", record.created.replace(['-', ':'], ""), record.id);
        let line = to_line(&record).map_err(self.error_at(&name))?;
        let write = || {
            let pending = self.directory.directory(PENDING, Some(0o700))?;
            let now = Time::parse(&record.created).unwrap_or_default();
            self.make_room(PENDING, MAX_PENDING, MAX_PENDING_BYTES.saturating_sub(line.len()), now)?;
            let file = pending.replace(&name, line.as_bytes(), 0o600, Synced::Name)?;
            match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, line.len() as u64 + ANSWER_SPACE) {
                Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => pending.remove(&name).and(Err(error)),
                _ => Ok(file),
            }
        };
        let file = write().map_err(self.error_at::<Errno>(PENDING))?;
        let journal = Journal { record, attempts: Vec::new(), answer: None, length: line.len(), name };
        Ok(Claim { journal, file })
    }

    /// Removes the oldest records that nobody is delivering, until fewer than `most` are left, with at most `bytes` in
    /// all. Those whose server has asked to be left alone go last, because nothing else remembers that.
    fn make_room(&self, of: &str, most: usize, bytes: usize, now: i64) -> Result<(), Errno> {
        let directory = self.directory.directory(of, None)?;
        let all = self.journals(of);
        let mut left = (all.len(), all.iter().map(|journal| journal.length).sum::<usize>());
        let (held, free) = all.iter().partition::<Vec<_>, _>(|journal| journal.is_held(now));
        for Journal { name, length, .. } in free.into_iter().chain(held) {
            if (left.0 >= most || left.1 > bytes) && directory.claim(name)?.is_some() {
                directory.remove(name)?;
                left = (left.0 - 1, left.1 - length);
            }
        }
        Ok(())
    }

    /// Removes a claimed record, or a receipt.
    ///
    /// # Errors
    /// Those of unlinking.
    pub fn remove(&self, of: &str, name: &str) -> Kept<()> {
        let directory = self.directory.directory(of, None);
        directory.and_then(|directory| directory.remove(name)).map(drop).map_err(self.error_at(&format!("{of}/{name}")))
    }

    /// Makes a claimed record a receipt; the path of its file.
    ///
    /// # Errors
    /// Those of renaming.
    pub fn keep_receipt(&self, claim: &Claim) -> Kept<PathBuf> {
        let name = &claim.journal.name;
        let rename = || {
            let sent = self.directory.directory(SENT, Some(0o700))?;
            self.make_room(SENT, MAX_SENT, usize::MAX, 0)?;
            self.directory.directory(PENDING, None)?.rename(name, &sent, name)
        };
        rename().map_err(self.error_at(SENT))?;
        Ok(self.path.join(SENT).join(name))
    }

    /// Deletes the pending records of `profile`, or of all. Runs that are delivering some of them are waited for.
    /// Returns how many were deleted, and the lock. Records that were answered stay: they are not sent again, and they
    /// tell what was sent.
    ///
    /// # Errors
    /// Those of locking and unlinking.
    pub fn discard(&self, profile: Option<&str>) -> Kept<(usize, OwnedFd)> {
        let mut count = 0;
        loop {
            let lock = self.lock()?;
            let mut busy = None;
            let is_unwanted = |journal: &Journal| profile.is_none_or(|profile| profile == journal.record.profile);
            for Journal { name, .. } in self.journals(PENDING).into_iter().filter(is_unwanted) {
                match self.claim(&name)? {
                    Some(claim) if claim.journal.answer.is_some() => {}
                    Some(_) => self.remove(PENDING, &name).map(|()| count += 1)?,
                    None => busy = Some(name),
                }
            }
            let Some(busy) = busy else { return Ok((count, lock)) };
            drop(lock);
            let wait = |pending: Directory| pending.wait_for(&busy);
            self.directory.directory(PENDING, None).and_then(wait).map_err(self.error_at(PENDING))?;
        }
    }

    /// Deletes what is remembered of one profile, or of all. `ids` are the profile's IDs. [`Store::discard`] comes
    /// before this and deletes the records without an answer.
    ///
    /// # Errors
    /// Those of writing and unlinking.
    pub fn forget(&self, profile: Option<&str>, ids: &[String]) -> Kept<()> {
        let Some(profile) = profile else {
            // Everything in here is ours, even if it is no record that can be read.
            for of in [PENDING, SENT, "."] {
                let names = self.directory.directory(of, None).and_then(|directory| directory.names());
                let files = names.unwrap_or_default().into_iter().filter(|name| ![PENDING, SENT].contains(&&**name));
                files.into_iter().try_for_each(|name| self.remove(of, &name))?;
            }
            return Ok(());
        };
        for of in [PENDING, SENT] {
            let journals = self.journals(of).into_iter().filter(|journal| journal.record.profile == profile);
            journals.into_iter().try_for_each(|journal| self.remove(of, &journal.name))?;
        }
        self.change_reported(|keys| keys.retain(|key| !key.is_of(profile)))?;
        let mut bindings = self.bindings();
        ids.iter().for_each(|id| bindings.forget(id));
        self.set_bindings(&bindings)
    }

    /// On which machine each ID was made.
    pub fn bindings(&self) -> Bindings {
        let read = |name| self.directory.read(name, MAX_FILE).ok().flatten().unwrap_or_default();
        Bindings::parse(&[read(BINDINGS), read(LEGACY_BINDINGS)].join(&b'\n'))
    }

    /// Writes the bindings. If they are lost, a clone is not noticed, and nothing else is lost.
    ///
    /// # Errors
    /// Those of writing.
    pub fn set_bindings(&self, bindings: &Bindings) -> Kept<()> {
        let written = self.write(BINDINGS, &bindings.to_bytes(), 0o600, Synced::Nothing);
        written.and_then(|()| self.directory.remove(LEGACY_BINDINGS).map(drop).map_err(self.error_at(LEGACY_BINDINGS)))
    }

    /// Changes the list of what was reported.
    ///
    /// # Errors
    /// Those of writing.
    pub fn change_reported(&self, change: impl FnOnce(&mut Vec<ReportKey>)) -> Kept<()> {
        let mut keys = reported(&self.directory);
        let before = keys.len();
        change(&mut keys);
        if keys.len() == before {
            return Ok(());
        }
        let newest = &keys[keys.len().saturating_sub(MAX_REPORTED)..];
        let lines: String = newest.iter().map(|key| format!("{}\n", key.0)).collect();
        self.write(REPORTED, lines.as_bytes(), 0o644, Synced::Bytes)
    }

    /// Replaces a file of the directory, or removes it if `bytes` is empty.
    fn write(&self, name: &str, bytes: &[u8], mode: u32, synced: Synced) -> Kept<()> {
        match bytes.is_empty() {
            true => self.directory.remove(name).map(drop),
            false => self.directory.replace(name, bytes, mode, synced).map(drop),
        }
        .map_err(self.error_at(name))
    }

    /// Removes what is empty, so that a machine that was forgotten looks like one that never reported.
    pub fn remove_if_empty(&self) {
        [PENDING, SENT].into_iter().for_each(|of| self.directory.remove_empty(of));
        if !self.directory.is_removed() {
            self.place.0.remove_empty(&self.place.1);
        }
    }
}

fn beside(identity: Option<&Path>) -> Option<PathBuf> {
    Some(identity?.parent()?.join(BESIDE))
}

/// Whether `key` is in a list of what was reported: in the one that everybody can read, or beside the identity file.
pub fn lists(host: &Host, file: Option<&IdentityFile>, key: &ReportKey) -> bool {
    let places = [Some(PathBuf::from(STATE)), beside(file.map(|file| &*file.path))];
    let directories = places.into_iter().flatten().filter_map(|path| host.directory(path, false).ok());
    directories.filter(|directory| directory.is_ours(".")).any(|directory| reported(&directory).contains(key))
}

/// The keys of what was reported, the oldest first.
fn reported(directory: &Directory) -> Vec<ReportKey> {
    let bytes = directory.read(REPORTED, MAX_REPORTED * 256).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&bytes).lines().filter_map(ReportKey::parse).collect()
}

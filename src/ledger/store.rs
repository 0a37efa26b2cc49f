//! The state directory: `pending/`, `sent/`, the list `reported`, and on which machine each ID was made.
//!
//! A run has one state directory. Its lock is flock(2) on its own descriptor. It is held only to look and to write,
//! never while something is being sent. The lock of a pending record's file is the claim to that record: whoever holds
//! it delivers the record. A run that dies gives both locks back.

use std::{collections::BTreeMap, fs::File, io, io::Write, os::fd::OwnedFd, path::Path, path::PathBuf};

use rustix::{fs::FallocateFlags, fs::FlockOperation, fs::fallocate, io::Errno, process::geteuid};

use super::IdentityFile;
use super::record_file::{Answer, Attempt, Journal, Line, Record, to_line};
use crate::host::{Host, Place, directory::Directory, directory::Synced, path_error::PathError};
use crate::{facts::time, outcome::Reporter};

/// Where state lives. For a user who cannot write there, it lives beside the identity file.
const STATE: &str = "/var/lib/install-record";
const BESIDE: &str = ".install-record";

/// The directory of the records that wait.
pub const PENDING: &str = "pending";
/// The directory of the receipts.
pub const SENT: &str = "sent";
pub(super) const REPORTED: &str = "reported";
pub(super) const BINDINGS: &str = "bindings";

/// The end of the name of a record's file.
const RECORD: &str = ".jsonl";

/// The most lines in `reported`, and in `bindings`; the oldest go first.
const MAX_LINES: usize = 1024;

/// The largest file of a record. A record has at most 12 KiB and doubles when it is quoted, so there is room for
/// hundreds of attempts.
const MAX_FILE: usize = 128 << 10;

/// Room on the disk for the answer's line, taken before the record is sent. Only an answer full of control characters
/// is longer.
const ANSWER_SPACE: u64 = 4 << 10;

/// The most records that wait; the oldest go first.
const MAX_PENDING: usize = 64;
/// The most bytes that their files have.
const MAX_PENDING_BYTES: usize = 512 << 10;
/// The most receipts that are kept; the oldest go first.
const MAX_SENT: usize = 256;

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
    /// The state directory of this user, for runs with this identity file. With `make`, what is missing is made.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn open(host: &Host, file: Option<&IdentityFile>, make: bool) -> Kept<Store> {
        let path = Store::choose(host, file, make);
        let mode = file.filter(|_| path != Path::new(STATE)).map_or(0o755, IdentityFile::directory_mode);
        Store::at(host, &path, make.then_some(mode), false).map_err(PathError::at(host.path(path)))
    }

    /// Where this user's state is, or would be made if `make` says so: beside the identity file if records wait there,
    /// or if the system's directory cannot be used. One that is ours or full stays the place, because what it holds must
    /// not be forgotten. If neither is there and none is to be made, it is the one beside the identity file.
    fn choose(host: &Host, file: Option<&IdentityFile>, make: bool) -> PathBuf {
        let (system, beside) = (PathBuf::from(STATE), beside(file));
        let ours = |path: &Path| Store::at(host, path, None, false);
        let is_better = |beside: &PathBuf| match (ours(beside), ours(&system)) {
            (Ok(store), _) => store.has_work() || Store::usable(host, &system).is_err(),
            (Err(_), Err(Errno::NOENT)) => !make || host.can_write(&system).is_err_and(|error| error != Errno::NOSPC),
            (Err(_), there) => there.is_err(),
        };
        beside.filter(is_better).unwrap_or(system)
    }

    /// Whether state can be kept at `path`, or could be made there. Nothing is made to find out.
    fn usable(host: &Host, path: &Path) -> Result<(), Errno> {
        match Store::at(host, path, None, false) {
            Err(error) if error != Errno::NOENT => Err(error),
            _ => host.can_write(&path.join(PENDING).join("record")),
        }
    }

    /// Every state directory in which runs with these identity files keep something, whoever runs them. For root,
    /// another user's directory beside an identity file is among them. Also returns why root cannot use the system's
    /// directory, if so.
    pub fn all(host: &Host, files: &[&IdentityFile]) -> (Vec<Store>, Option<PathError>) {
        // By device and inode: a lock that is taken twice would wait for itself.
        let paths = files.iter().filter_map(|file| beside(Some(file))).chain([PathBuf::from(STATE)]);
        let paths: BTreeMap<_, _> = paths.map(|path| (host.file_id(&path), path)).collect();
        let opened = |path: &Path| Store::at(host, path, None, true);
        let is_none = |error: &Errno| [Errno::NOENT, Errno::NOTDIR].contains(error) || !geteuid().is_root();
        let problem = opened(Path::new(STATE)).err().filter(|error| !is_none(error));
        let stores = paths.values().filter_map(|path| opened(path).ok()).collect();
        (stores, problem.map(PathError::at(host.path(STATE))))
    }

    /// Whether this user has a state directory, or could make one.
    ///
    /// # Errors
    /// Why not.
    pub fn can_keep(host: &Host, file: Option<&IdentityFile>) -> Kept<()> {
        let path = Store::choose(host, file, true);
        Store::usable(host, &path).map_err(PathError::at(host.path(path)))
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

    /// `pending/` or `sent/`, made where it is missing if `make` says so.
    fn part(&self, of: &str, make: bool) -> Kept<Directory> {
        self.directory.directory(of, make.then_some(0o700)).map_err(self.error_at(of))
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
            let parsed = |name: &String| Some(Journal::parse(name.clone(), &directory.read(name, MAX_FILE).ok()??));
            let is_foreign = |name: &String| parsed(name).is_some_and(|journal| journal.is_none());
            let aside = |name: &String| directory.rename(name, &directory, &format!("{name}.unreadable")).is_ok();
            let count = self.names(of, RECORD).iter().filter(|name| is_foreign(name) && aside(name)).count();
            if count > 0 {
                reporter
                    .warn(format_args!("{count} unreadable records are now *.unreadable in {}", self.path.display()));
            }
        }
    }

    /// Whether records wait.
    pub fn has_work(&self) -> bool {
        !self.names(PENDING, RECORD).is_empty()
    }

    /// The names with this end in `pending/` or `sent/`, the oldest first. Records are `TIME-UUID.jsonl`, so that `ls`
    /// shows the time to a person.
    fn names(&self, of: &str, end: &str) -> Vec<String> {
        let names = self.directory.directory(of, None).and_then(|directory| directory.names());
        names.unwrap_or_default().into_iter().filter(|name| name.ends_with(end)).collect()
    }

    /// The records in `pending/` or `sent/`, the oldest first.
    pub fn journals(&self, of: &str) -> Vec<Journal> {
        let Ok(directory) = self.directory.directory(of, None) else { return Vec::new() };
        let read = |name: String| directory.read(&name, MAX_FILE).ok()?.and_then(|bytes| Journal::parse(name, &bytes));
        self.names(of, RECORD).into_iter().filter_map(read).collect()
    }

    /// All records that are kept: those that wait, and the receipts.
    pub fn records(&self) -> Vec<Journal> {
        [PENDING, SENT].into_iter().flat_map(|of| self.journals(of)).collect()
    }

    /// Claims a pending record; `None` when another run has it, or when it is gone or not ours.
    ///
    /// # Errors
    /// Those of opening, locking and reading: above all, that this process has no more descriptors ([`Errno::MFILE`]).
    pub fn claim(&self, name: &str) -> Kept<Option<Claim>> {
        let pending = self.part(PENDING, false)?;
        let claim = || {
            let Some(file) = pending.claim(name)? else { return Ok(None) };
            let bytes = pending.read(name, MAX_FILE)?.unwrap_or_default();
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
        let name = format!("{}-{}{RECORD}", record.created.replace(['-', ':'], ""), record.id);
        let line = to_line(&record).map_err(self.error_at(&name))?;
        let (pending, now) = (self.part(PENDING, true)?, time::parse(&record.created).unwrap_or_default());
        self.make_room(PENDING, MAX_PENDING, MAX_PENDING_BYTES.saturating_sub(line.len()), now)?;
        let file = pending.replace(&name, line.as_bytes(), 0o600, Synced::Name).map_err(self.error_at(PENDING))?;
        let reserved = fallocate(&file, FallocateFlags::KEEP_SIZE, 0, line.len() as u64 + ANSWER_SPACE);
        if let Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) = reserved {
            self.remove(PENDING, &name)?;
            return Err(self.error_at(PENDING)(error));
        }
        let journal = Journal { record, attempts: Vec::new(), answer: None, length: line.len(), name };
        Ok(Claim { journal, file })
    }

    /// Removes the oldest records that nobody is delivering, until fewer than `most` are left, with at most `bytes` in
    /// all. Those whose server has asked to be left alone go last, because nothing else remembers that.
    fn make_room(&self, of: &str, most: usize, bytes: usize, now: i64) -> Kept<()> {
        let (directory, mut all) = (self.part(of, false)?, self.journals(of));
        all.sort_by_key(|journal| journal.is_held(now));
        let (mut count, mut length) = (all.len(), all.iter().map(|journal| journal.length).sum::<usize>());
        for journal in &all {
            if (count >= most || length > bytes) && directory.claim(&journal.name).is_ok_and(|file| file.is_some()) {
                self.remove(of, &journal.name)?;
                (count, length) = (count - 1, length - journal.length);
            }
        }
        Ok(())
    }

    /// Removes a claimed record, or a receipt.
    ///
    /// # Errors
    /// Those of unlinking.
    pub fn remove(&self, of: &str, name: &str) -> Kept<()> {
        self.part(of, false)?.remove(name).map_err(self.error_at(&format!("{of}/{name}")))
    }

    /// Makes a claimed record a receipt.
    ///
    /// # Errors
    /// Those of renaming.
    pub fn keep_receipt(&self, name: &str) -> Kept<()> {
        let sent = self.part(SENT, true)?;
        self.make_room(SENT, MAX_SENT, usize::MAX, 0)?;
        self.part(PENDING, false)?.rename(name, &sent, name).map_err(self.error_at(SENT))
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
            let (lock, mut busy) = (self.lock()?, None);
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
            self.part(PENDING, false)?.wait_for(&busy).map_err(self.error_at(PENDING))?;
        }
    }

    /// Deletes what is remembered of one profile, or of all. `beginnings` are those of the profile's lines in our lists.
    /// [`Store::discard`] comes before this and deletes the records without an answer.
    ///
    /// # Errors
    /// Those of writing and unlinking.
    pub fn forget(&self, profile: Option<&str>, beginnings: &[String]) -> Kept<()> {
        for of in [PENDING, SENT, "."] {
            let is_meant = |journal: &Journal| profile == Some(&*journal.record.profile);
            let of_profile = self.journals(of).into_iter().filter(is_meant).map(|journal| journal.name);
            // Without a profile, everything in here goes, even if it is no record that can be read.
            let names = if profile.is_some() { of_profile.collect() } else { self.names(of, "") };
            names.iter().try_for_each(|name| self.remove(of, name))?;
        }
        [REPORTED, BINDINGS].into_iter().try_for_each(|list| self.change(list, beginnings, None))?;
        // What is empty goes, so that a machine that was forgotten looks like one that never reported.
        [PENDING, SENT].into_iter().for_each(|of| self.directory.remove_empty(of));
        if !self.directory.is_removed() {
            self.place.0.remove_empty(&self.place.1);
        }
        Ok(())
    }

    /// Takes the lines with one of these beginnings out of a list, and adds `line` if it is not there.
    ///
    /// # Errors
    /// Those of writing.
    pub fn change(&self, list: &str, beginnings: &[String], line: Option<String>) -> Kept<()> {
        let old = lines(&self.directory, list);
        let is_out = |it: &String| line.as_ref() == Some(it) || beginnings.iter().any(|start| it.starts_with(start));
        let mut new: Vec<String> = old.iter().filter(|it| !is_out(it)).cloned().collect();
        new.extend(line);
        new.drain(..new.len().saturating_sub(MAX_LINES));
        // Everybody may ask what was reported. If the bindings are lost, a clone is not noticed, and nothing else is lost.
        let (mode, synced) = if list == REPORTED { (0o644, Synced::Bytes) } else { (0o600, Synced::Nothing) };
        let text: String = new.iter().map(|line| format!("{line}\n")).collect();
        match text.is_empty() {
            _ if new == old => Ok(()),
            true => self.directory.remove(list),
            false => self.directory.replace(list, text.as_bytes(), mode, synced).map(drop),
        }
        .map_err(self.error_at(list))
    }
}

fn beside(file: Option<&IdentityFile>) -> Option<PathBuf> {
    Some(file?.path.parent()?.join(BESIDE))
}

/// Whether `key` is in a list of what was reported: in the one that everybody can read, or beside the identity file.
pub fn lists(host: &Host, file: Option<&IdentityFile>, key: &str) -> bool {
    let places = [Some(PathBuf::from(STATE)), beside(file)];
    let directories = places.into_iter().flatten().filter_map(|path| host.directory(path, false).ok());
    let mut ours = directories.filter(|directory| directory.is_ours("."));
    ours.any(|directory| lines(&directory, REPORTED).iter().any(|line| line == key))
}

/// The lines of a list, the oldest first; none where it cannot be read.
pub(super) fn lines(directory: &Directory, list: &str) -> Vec<String> {
    let bytes = directory.read(list, MAX_LINES * 256).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
}

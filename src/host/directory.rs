//! A directory that is held open by its descriptor. Everything that this crate writes goes through one.
//!
//! Files are read and replaced relative to an open directory, and never through a link that others made. A file is
//! replaced whole or not at all. Only a file that is shared with other software is written in place, if it cannot be
//! replaced.

use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::{fs::File, os::fd::OwnedFd, os::unix::fs::FileExt};

use rustix::fs::{
    Access, AtFlags, FallocateFlags, FlockOperation, Gid, Mode, OFlags, Stat, Uid, accessat, fallocate, fchmod, fchown,
    flock, fstat, fstatvfs, fsync, mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::{io::Errno, process::geteuid};

use super::{is_regular, list, whole};

/// The end of the name of an unfinished file.
const NEW: &str = ".new";

/// The mode of a new file until it has its owner. A file that is root's for a moment must not be setuid(2), nor open to
/// others.
const CLOSED: Mode = Mode::from_raw_mode(0o600);

/// How much of a replaced file is on disk when the call returns. The kernel writes the rest within seconds, and a power
/// cut before that may take it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synced {
    /// Its bytes and its name: the new file is there.
    Name,
    /// Its bytes: the old file or the new one is there, and it is whole.
    Bytes,
    /// Nothing. On some file systems the file may be left empty.
    Nothing,
}

/// The user and the group that a new file is given to, unless they are ours.
type Owner = Option<(u32, u32)>;

/// An open directory.
#[derive(Debug)]
pub struct Directory {
    /// Opened with O_PATH, because a directory that we may enter is not always one that we may list.
    pub(super) fd: OwnedFd,
    /// The owner of the directories that led here, if that is neither root nor our user.
    pub(super) stranger: Option<u32>,
}

impl Directory {
    /// Whether a symbolic link in here may be followed.
    pub(super) fn trusts_link(&self, link: &Stat) -> bool {
        is_ours_or_roots(link) && !self.is_off_limits()
    }

    /// Enters the directory in this one that is open as `fd`. In a stranger's directory, root enters only that
    /// stranger's.
    pub(super) fn enter(&self, fd: OwnedFd) -> Result<Directory, Errno> {
        let next = fstat(&fd)?;
        let stranger = self.stranger.or(Some(next.st_uid).filter(|_| !is_ours_or_roots(&next)));
        let may_enter = !self.is_off_limits() || stranger == Some(next.st_uid);
        if may_enter { Ok(Directory { fd, stranger }) } else { Err(Errno::PERM) }
    }

    /// Whether we are root in another user's directory.
    pub fn is_off_limits(&self) -> bool {
        self.stranger.is_some() && geteuid().is_root()
    }

    /// Opens `name`. If it is missing and a mode is given, a directory is made first. It is no error if another run has
    /// just made it.
    pub(super) fn open_or_make(&self, name: &OsStr, flags: OFlags, mode: Option<u32>) -> Result<OwnedFd, Errno> {
        match (self.open(name, flags), mode) {
            (Err(Errno::NOENT), Some(_)) if self.is_off_limits() => Err(Errno::PERM),
            (Err(Errno::NOENT), Some(mode)) => {
                but(Errno::EXIST, mkdirat(&self.fd, name, Mode::from_raw_mode(mode)))?;
                self.open(name, flags)
            }
            (opened, _) => opened,
        }
    }

    /// Opens `name`, which must be no link: with `O_PATH`, the link itself is opened.
    pub(super) fn open(&self, name: impl AsRef<OsStr>, flags: OFlags) -> Result<OwnedFd, Errno> {
        let always = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        openat(&self.fd, name.as_ref(), flags | always, Mode::empty())
    }

    /// The directory `name` in this one, made with `mode` where it is missing and one is given.
    ///
    /// # Errors
    /// When it is missing, is a link or no directory, or cannot be made.
    pub fn directory(&self, name: impl AsRef<OsStr>, mode: Option<u32>) -> Result<Directory, Errno> {
        self.enter(self.open_or_make(name.as_ref(), OFlags::PATH | OFlags::DIRECTORY, mode)?)
    }

    /// Whether this directory belongs to us and nobody else may write in it, so that what it holds is ours.
    pub fn is_private(&self) -> bool {
        fstat(&self.fd).is_ok_and(|stat| stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o022 == 0)
    }

    /// Whether it belongs to the stranger whose directories led here, and nobody else may write in it.
    pub fn is_private_to_stranger(&self) -> bool {
        fstat(&self.fd).is_ok_and(|stat| self.stranger == Some(stat.st_uid) && stat.st_mode & 0o022 == 0)
    }

    /// Whether `name` in here (`.` is the directory itself) is no link, belongs to root or to us, and cannot be written
    /// by anybody else.
    pub fn is_ours(&self, name: &str) -> bool {
        statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| is_ours_or_roots(&stat) && stat.st_mode & 0o022 == 0)
    }

    /// Whether files can be made here.
    ///
    /// # Errors
    /// Why not.
    pub fn writable(&self) -> Result<(), Errno> {
        // Without AT_EACCESS: older seccomp filters of containers refuse faccessat2(2).
        accessat(&self.fd, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty())?;
        self.has_room()
    }

    fn has_room(&self) -> Result<(), Errno> {
        // On some file systems the number of blocks is 0, and on some systems the call fails.
        let is_full = fstatvfs(&self.fd).is_ok_and(|it| {
            let of_root = geteuid().is_root();
            let (blocks, files) = if of_root { (it.f_bfree, it.f_ffree) } else { (it.f_bavail, it.f_favail) };
            it.f_blocks > 0 && blocks == 0 || it.f_files > 0 && files == 0
        });
        if is_full { Err(Errno::NOSPC) } else { Ok(()) }
    }

    /// Whether the file `name` can be rewritten or made here.
    ///
    /// # Errors
    /// Why not.
    pub fn can_rewrite(&self, name: &OsStr) -> Result<(), Errno> {
        match accessat(&self.fd, name, Access::WRITE_OK, AtFlags::empty()) {
            Err(Errno::NOENT) => self.writable(),
            // Our own file can be replaced, whatever its mode is.
            Err(Errno::ACCESS) if statat(&self.fd, name, AtFlags::empty())?.st_uid == geteuid().as_raw() => {
                self.writable()
            }
            can => can.and_then(|()| self.has_room()),
        }
    }

    /// Whether the directory was removed since it was opened.
    pub fn is_removed(&self) -> bool {
        fstat(&self.fd).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// The regular file `name`, which must be no symbolic link and have at most `limit` bytes. If others can write to
    /// the directory, the file must not have a second name either: it could be a secret of ours. In a stranger's
    /// directory, root reads only what the stranger could read as well.
    ///
    /// # Errors
    /// Those of [`super::Host::read`].
    pub fn read(&self, name: impl AsRef<OsStr>, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let trusted = |fd: OwnedFd| if self.is_suspect(&fstat(&fd)?) { Err(Errno::PERM) } else { Ok(fd) };
        whole(self.open(name, OFlags::RDONLY).and_then(trusted), limit)
    }

    fn is_suspect(&self, file: &Stat) -> bool {
        let is_hidden_from = |stranger| file.st_uid != stranger && file.st_mode & 0o004 == 0;
        let is_secret = self.is_off_limits() && self.stranger.is_some_and(is_hidden_from);
        is_secret || file.st_nlink > 1 && !self.is_private()
    }

    /// Replaces the file `name` by one that holds `bytes`. After a crash, the old file or the new one is there. Returns
    /// the new file, locked. It was locked before it got its name.
    ///
    /// # Errors
    /// Those of making, writing, syncing and renaming; `name` is then what it was.
    pub fn replace(&self, name: impl AsRef<OsStr>, bytes: &[u8], mode: u32, synced: Synced) -> Result<File, Errno> {
        self.replace_for(self.owner()?, name.as_ref(), bytes, mode, synced)
    }

    /// The owner of a new file in here: root gives it to the stranger.
    fn owner(&self) -> Result<Owner, Errno> {
        let here = self.is_off_limits().then(|| fstat(&self.fd)).transpose()?;
        Ok(here.map(|here| (here.st_uid, here.st_gid)))
    }

    /// The same for a file that is to belong to a user and group.
    fn replace_for(&self, owner: Owner, name: &OsStr, bytes: &[u8], mode: u32, synced: Synced) -> Result<File, Errno> {
        // A random name, which nobody could have planted and no other writer has. `RandomState` is the randomness that
        // std offers.
        let random = RandomState::new().hash_one(name) as u32;
        let mut new = prefix_of_new(name);
        new.push(format!("{random:08x}{NEW}"));
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.fd, &new, flags, CLOSED)?);
        let named = fill(&mut file, owner, Mode::from_raw_mode(mode), bytes, synced)
            .and_then(|()| renameat(&self.fd, &new, &self.fd, name));
        if let Err(error) = named {
            let _ = unlinkat(&self.fd, &new, AtFlags::empty());
            return Err(error);
        }
        if synced == Synced::Name {
            // INVAL: on this file system, directories need no sync.
            but(Errno::INVAL, fsync(self.open(".", OFlags::RDONLY | OFlags::DIRECTORY)?))?;
        }
        Ok(file)
    }

    /// Rewrites a file that is shared with other software. It keeps its owner, group and mode. A missing file is made
    /// with `mode`; in a stranger's directory, it belongs to the stranger. If the file cannot be replaced (no
    /// permission on the directory, a mount, another owner), it is written in place. Root writes nothing in place in a
    /// stranger's directory.
    ///
    /// # Errors
    /// Those of replacing, and of writing in place.
    pub fn rewrite(&self, name: &OsStr, bytes: &[u8], mode: u32, synced: Synced) -> Result<(), Errno> {
        let old = match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => None,
            stat => Some(stat?),
        };
        if old.is_some_and(|old| !is_regular(&old)) {
            return Err(Errno::INVAL);
        }
        let owner = match old {
            Some(old) if !self.is_off_limits() || self.stranger == Some(old.st_uid) => Some((old.st_uid, old.st_gid)),
            _ => self.owner()?,
        };
        let mode = old.map_or(mode, |old| old.st_mode & if self.is_off_limits() { 0o777 } else { 0o7777 });
        match self.replace_for(owner, name, bytes, mode, synced) {
            // INVAL: this user namespace does not know its owner or group (user_namespaces(7)).
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::BUSY | Errno::XDEV | Errno::INVAL)
                if old.is_some() && !self.is_off_limits() =>
            {
                self.write_in_place(name, bytes)
            }
            other => other.map(drop),
        }
    }

    /// Writes from the beginning, with line ends up to the old length, and then cuts them off: a kill leaves no old mark
    /// under a new ID. Nothing is written if the disk has no room for it.
    fn write_in_place(&self, name: &OsStr, bytes: &[u8]) -> Result<(), Errno> {
        let file = File::from(self.open(name, OFlags::RDWR)?);
        let stat = fstat(&file)?;
        if !is_regular(&stat) || self.is_suspect(&stat) {
            return Err(Errno::PERM);
        }
        let (old, new) = (stat.st_size as u64, bytes.len() as u64);
        // Not every file system can reserve space, so other errors do not matter.
        if old < new
            && let Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) =
                fallocate(&file, FallocateFlags::KEEP_SIZE, old, new - old)
        {
            return Err(error);
        }
        let rest = b"\n".repeat(old.saturating_sub(new) as usize);
        let written = file.write_all_at(&[bytes, &rest].concat(), 0);
        if written.is_err() && old < new {
            let _ = file.set_len(old);
        }
        written.and_then(|()| file.set_len(new)).and_then(|()| file.sync_data()).map_err(number_of)
    }

    /// Removes unfinished files that killed runs have left: those of the file `of`, or all. Such a file is a regular
    /// file of ours, has the name of an unfinished one, and nobody is writing it.
    pub fn sweep(&self, of: Option<&OsStr>) {
        let prefix = of.map_or_else(|| ".".into(), prefix_of_new);
        for name in self.names().unwrap_or_default() {
            let is_unfinished = name.starts_with(&*prefix.to_string_lossy()) && name.ends_with(NEW);
            let is_own =
                |file: &File| fstat(file).is_ok_and(|stat| stat.st_uid == geteuid().as_raw() && is_regular(&stat));
            if is_unfinished && self.claim(&name).is_ok_and(|file| file.as_ref().is_some_and(is_own)) {
                let _ = unlinkat(&self.fd, name.as_str(), AtFlags::empty());
            }
        }
    }

    /// Opens the existing file `name`, for reading and appending, with its lock; `None` when somebody else holds it or
    /// it is gone.
    ///
    /// # Errors
    /// Those of opening and locking.
    pub fn claim(&self, name: &str) -> Result<Option<File>, Errno> {
        let opened = self.open(name, OFlags::RDWR | OFlags::APPEND);
        let fd = match opened.and_then(|fd| flock(&fd, FlockOperation::NonBlockingLockExclusive).map(|()| fd)) {
            Err(Errno::NOENT | Errno::WOULDBLOCK) => return Ok(None),
            locked => locked?,
        };
        // Between open and lock its holder may have finished with it and moved it.
        let named = statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        let opened = fstat(&fd)?;
        let is_still = named.is_ok_and(|named| (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino));
        Ok(is_still.then(|| fd.into()))
    }

    /// Waits until nobody holds the lock of the file `name`.
    ///
    /// # Errors
    /// Those of opening and locking.
    pub fn wait_for(&self, name: &str) -> Result<(), Errno> {
        but(Errno::NOENT, self.open(name, OFlags::RDWR).and_then(|fd| flock(fd, FlockOperation::LockExclusive)))
    }

    /// Takes the lock of the directory itself, in one of the ways of flock(2). The alarm ends a wait that takes too long.
    ///
    /// # Errors
    /// Those of opening and locking.
    pub fn lock(&self, how: FlockOperation) -> Result<OwnedFd, Errno> {
        let fd = self.open(".", OFlags::RDONLY | OFlags::DIRECTORY)?;
        flock(&fd, how)?;
        Ok(fd)
    }

    /// Gives the file `name` the name `to` in another directory of the same file system.
    ///
    /// # Errors
    /// Those of renaming.
    pub fn rename(&self, name: &str, directory: &Directory, to: &str) -> Result<(), Errno> {
        renameat(&self.fd, name, &directory.fd, to)
    }

    /// Removes the file `name`; true when there was one.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> Result<bool, Errno> {
        match unlinkat(&self.fd, name.as_ref(), AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT | Errno::ISDIR) => Ok(false),
            // A read-only file system says so of what is not there, too.
            Err(Errno::ROFS) if !self.holds(&name) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the directory `name` when it is empty; anything else is left as it is.
    pub fn remove_empty(&self, name: impl AsRef<OsStr>) {
        let _ = unlinkat(&self.fd, name.as_ref(), AtFlags::REMOVEDIR);
    }

    /// Whether anything has the name `name`.
    pub fn holds(&self, name: impl AsRef<OsStr>) -> bool {
        statat(&self.fd, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// The names in it that are UTF-8, sorted.
    ///
    /// # Errors
    /// Those of reading a directory.
    pub fn names(&self) -> Result<Vec<String>, Errno> {
        let again = self.open(".", OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(list(again)?.into_iter().filter_map(|name: OsString| name.into_string().ok()).collect())
    }
}

/// Gives a new file to `owner`, with that mode, locks it and writes it.
fn fill(file: &mut File, owner: Owner, mode: Mode, bytes: &[u8], synced: Synced) -> Result<(), Errno> {
    let stat = fstat(&file)?;
    if let Some((uid, gid)) = owner.filter(|owner| *owner != (stat.st_uid, stat.st_gid)) {
        fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    if mode != CLOSED {
        fchmod(&file, mode)?;
    }
    // The lock tells a file that is being written from one that a killed run has left.
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    file.write_all(bytes).map_err(number_of)?;
    if synced == Synced::Nothing { Ok(()) } else { fsync(file) }
}

/// `result`, with `error` counted as success.
fn but(error: Errno, result: Result<(), Errno>) -> Result<(), Errno> {
    if result == Err(error) { Ok(()) } else { result }
}

fn number_of(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// The beginning of the name of an unfinished file `name`.
fn prefix_of_new(name: &OsStr) -> OsString {
    format!(".{}.", name.to_string_lossy().trim_start_matches('.')).into()
}

fn is_ours_or_roots(stat: &Stat) -> bool {
    stat.st_uid == 0 || stat.st_uid == geteuid().as_raw()
}

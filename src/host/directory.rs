//! A directory held by descriptor: the only way in which this crate writes.
//!
//! Whatever is kept (identity, pending records, receipts, the switch) is read and replaced relative to an open
//! directory, never through a link, and replaced whole or not at all. A name that somebody planted is an error or
//! is replaced; it is never written through.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{
    Access, AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, Stat, Uid, accessat, fchmod, fchown, flock, fstat,
    fsync, mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::{Content, list, read_regular};

/// How the name of a file ends that is not finished yet.
const NEW: &str = ".new";

/// Which symbolic links on the way to a place are followed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Links {
    /// All, the last one too: a system's own files are often links.
    Follow,
    /// All but one in the last place, which is itself what is asked about.
    FollowParents,
    /// Those that root or the user we run as has made, and none in the last place.
    Trusted,
}

impl Links {
    pub(super) fn may_follow(self, directory: BorrowedFd<'_>, name: &OsStr) -> Result<bool, Errno> {
        match self {
            Links::Follow | Links::FollowParents => Ok(true),
            Links::Trusted => {
                let owner = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_uid;
                Ok(owner == 0 || owner == rustix::process::geteuid().as_raw())
            }
        }
    }
}

/// How much of a replaced file is on disk when the call returns; the kernel writes the rest within seconds, and until
/// then a power cut may take it back. Syncing is most of what keeping a record costs: 0.3 ms of CPU a call on ext4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synced {
    /// Its name: the new file is there.
    Name,
    /// Its bytes: the old file is there or the new one, and neither in part. The journals of ext4 and XFS keep the
    /// order, so that its name is there when a later one is that was synced.
    Bytes,
    /// None of it; on some file systems it may be left empty.
    Nothing,
}

/// An open directory.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
}

impl Directory {
    pub(super) fn open(parent: BorrowedFd<'_>, name: &OsStr, create: bool) -> Result<Directory, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match openat(parent, name, flags, Mode::empty()) {
            Err(Errno::NOENT) if create => {
                make(parent, name, Made::Shared)?;
                openat(parent, name, flags, Mode::empty())?
            }
            other => other?,
        };
        Ok(Directory { fd })
    }

    /// The directory `name` in this one.
    ///
    /// # Errors
    /// When it is missing (and `create` is false), is a link or no directory, or cannot be made.
    pub fn directory(&self, name: &str, create: bool) -> Result<Directory, Errno> {
        Directory::open(self.fd.as_fd(), OsStr::new(name), create)
    }

    /// Whether this directory belongs to us and nobody else may write in it, so that what it holds is ours.
    pub fn is_private(&self) -> bool {
        fstat(&self.fd)
            .is_ok_and(|stat| stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_mode & 0o022 == 0)
    }

    /// Whether `name` in here (`.` is the directory itself) is no link, belongs to root or to us, and cannot be written
    /// by anybody else.
    pub fn is_ours(&self, name: &str) -> bool {
        statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
            let is_owner = stat.st_uid == 0 || stat.st_uid == rustix::process::geteuid().as_raw();
            is_owner && stat.st_mode & 0o022 == 0
        })
    }

    /// Another descriptor of it.
    ///
    /// # Errors
    /// When there are no more.
    pub fn spare_descriptor(&self) -> Result<OwnedFd, Errno> {
        fcntl_dupfd_cloexec(&self.fd, 0)
    }

    /// Whether files can be made here.
    pub fn is_writable(&self) -> bool {
        accessat(&self.fd, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok()
    }

    /// At most `limit` bytes of the regular file `name`, which must not be a link, neither a symbolic nor, where others
    /// can make one, a hard link: the file may be a secret of ours that is to be copied into one for everybody.
    pub fn read(&self, name: impl AsRef<OsStr>, limit: usize) -> Content {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match openat(&self.fd, name.as_ref(), flags, Mode::empty()) {
            Ok(fd) if fstat(&fd).is_ok_and(|stat| stat.st_nlink > 1) && !self.is_private() => {
                Content::Unreadable(io::Error::other("it has a second name"))
            }
            Ok(fd) => read_regular(fd, limit),
            Err(error) => Content::of_error(error),
        }
    }

    /// Replaces the file `name` by one of `bytes`: after a crash there is the old one or the new one.
    ///
    /// # Errors
    /// Those of making, writing, syncing and renaming; `name` is then what it was.
    pub fn replace(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), Errno> {
        self.replace_synced(name, bytes, mode, Synced::Name).map(drop)
    }

    /// As [`Directory::replace`], synced as far as that file needs it; the new file, with its lock from before it had
    /// its name.
    ///
    /// # Errors
    /// As [`Directory::replace`].
    pub fn replace_synced(&self, name: &str, bytes: &[u8], mode: u32, synced: Synced) -> Result<OwnedFd, Errno> {
        // Not a name that somebody could have planted, or that another writer has: RandomState is random, and at hand.
        let random = RandomState::new().hash_one(name) as u32;
        let new = format!("{}{random:08x}{NEW}", new_prefix(name));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.fd, new.as_str(), flags, Mode::from_raw_mode(mode))?);
        let written = (|| {
            // The lock tells a file that is being written from one that a killed run has left.
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            file.write_all(bytes).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            // The caller's umask must not make the vendor's shared file unreadable.
            fchmod(&file, Mode::from_raw_mode(mode))?;
            if synced != Synced::Nothing {
                fsync(&file)?;
            }
            renameat(&self.fd, new.as_str(), &self.fd, name)
        })();
        match written {
            Ok(()) => {
                // Without this a power cut may still lose the name; the file's own bytes are safe either way.
                if synced == Synced::Name {
                    let _ = fsync(&self.fd);
                }
                Ok(file.into())
            }
            Err(error) => {
                let _ = unlinkat(&self.fd, new.as_str(), AtFlags::empty());
                Err(error)
            }
        }
    }

    /// As [`Directory::replace`], for a file in a user's directory: where we are root, it is that user's as well.
    ///
    /// # Errors
    /// As [`Directory::replace`].
    pub fn replace_for_owner(&self, name: &str, bytes: &[u8], mode: u32, synced: Synced) -> Result<(), Errno> {
        give(&self.replace_synced(name, bytes, mode, synced)?, self.fd.as_fd())
    }

    /// Removes what killed runs left of writing the file `of`, or any file: what is a regular file of ours, has the
    /// name of an unfinished one, and is not being written.
    pub fn sweep(&self, of: Option<&str>) {
        let prefix = of.map_or_else(|| ".".to_owned(), new_prefix);
        for name in self.names().unwrap_or_default() {
            let is_unfinished = name.starts_with(&prefix) && name.ends_with(NEW);
            if is_unfinished && self.is_own_file(&name) && matches!(self.try_lock(&name), Ok(Some(_))) {
                let _ = unlinkat(&self.fd, name.as_str(), AtFlags::empty());
            }
        }
    }

    fn is_own_file(&self, name: &str) -> bool {
        statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && stat.st_uid == rustix::process::geteuid().as_raw()
        })
    }

    /// Opens the existing file `name` with its lock; `None` when somebody else holds it or it is gone.
    ///
    /// # Errors
    /// Those of opening and locking.
    pub fn try_lock(&self, name: &str) -> Result<Option<OwnedFd>, Errno> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match openat(&self.fd, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other?,
        };
        match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            other => other?,
        }
        // Between open and lock its holder may have finished with it and removed it.
        Ok(self.is_still(name, &fd).then_some(fd))
    }

    /// Whether `name` is still the name of the open file `fd`.
    pub fn is_still(&self, name: &str, fd: &OwnedFd) -> bool {
        let same = |named: Stat, opened: Stat| (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino);
        let named = statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        named.is_ok_and(|named| fstat(fd).is_ok_and(|opened| same(named, opened)))
    }

    /// Makes the file `name` where it is missing and waits for its lock, until `deadline`.
    ///
    /// # Errors
    /// [`Errno::WOULDBLOCK`] when somebody else held it all the time; those of making the file.
    pub fn lock(&self, name: &str, deadline: Instant) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // 0600: whoever may open a file may also hold its lock, and make every installation wait.
        let fd = openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))?;
        loop {
            match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                other => return other.map(|()| fd),
            }
        }
    }

    /// Removes the file `name`; true when there was one.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self, name: &str) -> Result<bool, Errno> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the directory `name` when it is empty; anything else is left as it is.
    pub fn remove_empty(&self, name: &str) {
        let _ = unlinkat(&self.fd, name, AtFlags::REMOVEDIR);
    }

    /// Whether anything has the name `name`.
    pub fn holds(&self, name: &str) -> bool {
        statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// The names in it that are text, sorted.
    ///
    /// # Errors
    /// Those of reading a directory.
    pub fn names(&self) -> Result<Vec<String>, Errno> {
        let again = openat(&self.fd, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(list(again)?.into_iter().filter_map(|name: OsString| name.into_string().ok()).collect())
    }
}

/// How the name of an unfinished file `name` begins.
fn new_prefix(name: &str) -> String {
    format!(".{}.", name.trim_start_matches('.'))
}

/// Who may use a directory that is made.
#[derive(Clone, Copy, Debug)]
pub(super) enum Made {
    /// 0755 and ours.
    Shared,
    /// 0700, for the owner of the directory that it is in.
    Private,
}

/// Makes the directory `name`, with its mode whatever the umask; that another run just made it is fine.
pub(super) fn make(parent: BorrowedFd<'_>, name: &OsStr, made: Made) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(if matches!(made, Made::Shared) { 0o755 } else { 0o700 });
    match mkdirat(parent, name, mode) {
        Err(Errno::EXIST) => Ok(()),
        Ok(()) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = openat(parent, name, flags, Mode::empty())?;
            fchmod(&opened, mode)?;
            if matches!(made, Made::Private) { give(&opened, parent) } else { Ok(()) }
        }
        Err(error) => Err(error),
    }
}

/// Makes `file` the property of whoever owns `directory`, which a product's user could not use otherwise.
fn give(file: &OwnedFd, directory: BorrowedFd<'_>) -> Result<(), Errno> {
    let owner = fstat(directory)?;
    if owner.st_uid == 0 || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    fchown(file, Some(Uid::from_raw(owner.st_uid)), Some(Gid::from_raw(owner.st_gid)))
}

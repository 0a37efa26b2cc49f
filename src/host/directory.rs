//! A directory held by descriptor: the only way in which this crate writes.
//!
//! Whatever is kept (identity, pending records, receipts, the switch) is read and replaced relative to an open
//! directory, never through a link, and replaced whole or not at all. A name that somebody planted is an error or
//! is replaced; it is never written through.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{
    Access, AtFlags, FlockOperation, Gid, Mode, OFlags, Uid, accessat, fchmod, fchown, flock, fstat, fsync, mkdirat,
    openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use super::{Content, list, read_regular};

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
    pub(super) fn may_follow(self, directory: &OwnedFd, name: &OsStr) -> Result<bool, Errno> {
        match self {
            Links::Follow | Links::FollowParents => Ok(true),
            Links::Trusted => {
                let owner = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_uid;
                Ok(owner == 0 || owner == rustix::process::geteuid().as_raw())
            }
        }
    }
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

    /// Whether files can be made here.
    pub fn is_writable(&self) -> bool {
        accessat(&self.fd, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok()
    }

    /// At most `limit` bytes of the regular file `name`, which must not be a link.
    pub fn read(&self, name: impl AsRef<OsStr>, limit: usize) -> Content {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match openat(&self.fd, name.as_ref(), flags, Mode::empty()) {
            Ok(fd) => read_regular(fd, limit),
            Err(error) => Content::of_error(error),
        }
    }

    /// Replaces the file `name` by one of `bytes`: after a crash there is the old one or the new one.
    ///
    /// # Errors
    /// Those of making, writing, syncing and renaming; `name` is then what it was.
    pub fn replace(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), Errno> {
        self.replace_locked(name, bytes, mode).map(drop)
    }

    /// As [`Directory::replace`], and holds the new file's lock from before it had its name.
    ///
    /// # Errors
    /// As [`Directory::replace`].
    pub fn replace_locked(&self, name: &str, bytes: &[u8], mode: u32) -> Result<OwnedFd, Errno> {
        // One writer at a time (the ledger's lock), so a fixed name is enough, and what a killed run left behind
        // goes with the next write.
        let new = format!(".{}.new", name.trim_start_matches('.'));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || openat(&self.fd, new.as_str(), flags, Mode::from_raw_mode(mode));
        let fd = match create() {
            Err(Errno::EXIST) => {
                unlinkat(&self.fd, new.as_str(), AtFlags::empty())?;
                create()?
            }
            other => other?,
        };
        let written = (|| {
            let mut file = File::from(fd);
            file.write_all(bytes).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            // The caller's umask must not make the vendor's shared file unreadable.
            fchmod(&file, Mode::from_raw_mode(mode))?;
            fsync(&file)?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            renameat(&self.fd, new.as_str(), &self.fd, name)?;
            Ok(OwnedFd::from(file))
        })();
        match written {
            Ok(file) => {
                // Without this a power cut may still lose the name; the file's own bytes are safe either way.
                let _ = fsync(&self.fd);
                Ok(file)
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
    pub fn replace_for_owner(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), Errno> {
        give(&self.replace_locked(name, bytes, mode)?, self.fd.as_fd())
    }

    /// Opens the existing file `name` with its lock; `None` when somebody else holds it or it is gone.
    pub fn try_lock(&self, name: &str) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.fd, name, flags, Mode::empty()).ok()?;
        flock(&fd, FlockOperation::NonBlockingLockExclusive).ok()?;
        // Between open and lock its holder may have finished with it and removed it.
        let locked = fstat(&fd).ok()?;
        let named = statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        ((locked.st_dev, locked.st_ino) == (named.st_dev, named.st_ino)).then_some(fd)
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
